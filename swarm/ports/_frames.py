"""The position of a suspended coroutine."""

import asyncio
import types
from collections.abc import Callable, Iterator
from gc import get_referents
from typing import Any, Final, TypeAlias, TypeVar

F = TypeVar("F", bound=Callable[..., Any])

_DRIVERS: Final[dict[types.CodeType, str]] = {}
"""Functions that step a coroutine, and the name of the variable that holds it."""


def drives(name: str) -> Callable[[F], F]:
    """Make a function known as one that steps the coroutine in its variable `name`.

    Python shows the awaitable that a coroutine awaits, but not the one that a
    generator steps.
    """

    def mark(function: F) -> F:
        _DRIVERS[function.__code__] = name
        return function

    return mark


_WRAPPERS: Final = frozenset(
    (
        "anext_awaitable",
        "async_generator_asend",
        "async_generator_athrow",
        "coroutine_wrapper",
    )
)
"""Wrappers that CPython puts around awaited code; each refers to that code first, and
has no attribute for it."""

Standing: TypeAlias = tuple[Any, Any]
"""A suspension: the future that code awaits, and its coroutine."""


def standing(task: "asyncio.Task[Any] | None") -> Standing | None:
    """Return where a task is suspended; None: it runs, or is about to, or has ended."""
    awaited = getattr(task, "_fut_waiter", None)
    return None if awaited is None or task is None else (awaited, task.get_coro())


def is_cancelled(place: Standing) -> bool:
    """Return whether what is awaited there was cancelled: the code is to hear of it."""
    return bool(place[0].cancelled())


def frames_of(coroutine: Any) -> Iterator[types.FrameType]:
    """Yield the frames of a suspended coroutine, outermost first."""
    for each in chain_of(coroutine):
        frame = _frame_of(each)
        if frame is not None:
            yield frame


def chain_of(coroutine: Any) -> Iterator[Any]:
    """Yield a suspended coroutine, what it awaits, what that awaits, and so on."""
    while coroutine is not None:
        yield coroutine
        inner = getattr(coroutine, "cr_await", None)
        if inner is None:
            inner = getattr(coroutine, "gi_yieldfrom", None)
        if inner is None:
            inner = getattr(coroutine, "ag_await", None)
        if inner is None:
            frame = _frame_of(coroutine)
            name = None if frame is None else _DRIVERS.get(frame.f_code)
            inner = None if name is None or frame is None else frame.f_locals.get(name)
        while type(inner).__name__ in _WRAPPERS:
            inner = next(iter(get_referents(inner)), None)
        coroutine = inner


def _frame_of(coroutine: Any) -> types.FrameType | None:
    frame: types.FrameType | None = (
        getattr(coroutine, "cr_frame", None)
        or getattr(coroutine, "gi_frame", None)
        or getattr(coroutine, "ag_frame", None)
    )
    return frame
