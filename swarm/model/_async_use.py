"""Objects that are used by `async with` or `async for`, and say so otherwise."""

from typing import TYPE_CHECKING, ClassVar, NoReturn


class AsyncUse:
    """An object for `async with` or `async for`; a subclass may be awaited as well.

    Any other use raises one `TypeError` with the right spelling. Type checkers refuse
    the other uses by themselves.
    """

    __slots__ = ()

    _usage: ClassVar[str]
    """The right spelling."""

    if not TYPE_CHECKING:

        def __await__(self) -> NoReturn:
            raise self._misused("not awaited")

        def __enter__(self) -> NoReturn:
            raise self._misused("not entered by a plain `with`")

        def __exit__(self, *error: object) -> NoReturn:
            raise self._misused("not entered by a plain `with`")

        def __iter__(self) -> NoReturn:
            raise self._misused("not read by a plain `for`")

        def _misused(self, what: str) -> TypeError:
            return TypeError(f"{self!r} is {what}; use {self._usage}")
