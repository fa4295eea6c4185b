"""A method's arguments and result as JSON, typed by its annotations. Pure."""

import inspect
import typing
from collections.abc import Callable
from typing import Any, Final

import orjson

from swarm.agents import HOOKS
from swarm.errors import LimitExceeded
from swarm.ports import Codec, TypedCall, structuring

_PLAIN: Final = frozenset((type(None), str, int, float, bool))
_MANY: Final = 1_024
_BY_PATH: Final = "Write the value to a file or a store, and send its path"


class Signature:
    """The types of a method's parameters and result, as its annotations give them.

    Attributes:
        name: The method in messages: "Researcher.research".
        method: Its own name.
        streams: Whether it is an async generator.
    """

    __slots__ = ("_call", "method", "name", "streams")

    def __init__(self, function: Callable[..., Any]) -> None:
        """Look at a public async method of an agent's class.

        Raises:
            TypeError: The function is not a public method.
        """
        name = getattr(function, "__name__", "")
        if not inspect.isfunction(function) or not name:
            raise TypeError(f"{function!r} is not a method; pass it as Class.method")
        self.name: str = function.__qualname__.rpartition("<locals>.")[2]
        if name.startswith("_") or name in HOOKS:
            raise TypeError(f"{self.name} is not public; it cannot be asked for")
        self.streams: bool = inspect.isasyncgenfunction(function)
        if not self.streams and not inspect.iscoroutinefunction(function):
            raise TypeError(
                f"{self.name} is not async; only async methods can be asked"
            )
        self.method: str = name
        self._call = TypedCall(function, is_method=True)

    def check(self, *, streams: bool) -> None:
        """Refuse a method that is of the other kind.

        Raises:
            TypeError: `ask` was given an async generator, or `stream` none.
        """
        if self.streams and not streams:
            raise TypeError(f"{self.name} is an async generator; use stream() for it")
        if streams and not self.streams:
            raise TypeError(f"{self.name} is no async generator; use ask() for it")

    # --- arguments --------------------------------------------------------------------

    def encode(
        self, agent: str, args: tuple[Any, ...], kwargs: dict[str, Any], codec: Codec
    ) -> bytes:
        """Return the arguments as JSON: a list, then a dict.

        Raises:
            TypeError: They do not fit the method, or one of them is no JSON value.
            LimitExceeded: They are too large.
        """
        try:
            bound = self._call.signature.bind(*args, **kwargs)
        except TypeError as error:
            raise TypeError(f"{self.name}: {error}") from None
        given = tuple(bound.arguments.items())
        try:
            for name, value in given:
                bound.arguments[name] = _told(value, self._call.hint(name))
            return codec.encode((bound.args, bound.kwargs))
        except LimitExceeded as error:
            raise LimitExceeded(
                f"the arguments of {self.name} cannot go to agent '{agent}', which "
                f"lives in another process: {error}. {_BY_PATH}"
            ) from error
        except (TypeError, ValueError) as error:
            for name, value in given:
                why = _refusal(value, self._call.hint(name), codec)
                if why is not None:
                    raise TypeError(
                        f"argument {name!r} of {self.name} cannot go to agent "
                        f"'{agent}', which lives in another process: {why}"
                    ) from error
            raise

    def decode(
        self, agent: str, args: list[Any], kwargs: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Return the arguments that JSON told.

        Raises:
            TypeError: They do not fit the method.
        """
        try:
            return self._call.arguments(args, kwargs)
        except TypeError as error:
            raise TypeError(
                f"the arguments of {self.name} of agent '{agent}' do not fit: {error}"
            ) from error

    # --- results ----------------------------------------------------------------------

    def encode_result(self, agent: str, value: Any, codec: Codec) -> Any:
        """Return a result, or an item of a stream, as JSON.

        Raises:
            TypeError: It is no JSON value.
            LimitExceeded: It is too large.
        """
        hint = self._result_hint()
        try:
            return orjson.Fragment(codec.encode(_told(value, hint)))
        except LimitExceeded as error:
            raise LimitExceeded(
                f"the result of {self.name} of agent '{agent}' cannot go to another "
                f"process: {error}. {_BY_PATH}"
            ) from error
        except (TypeError, ValueError) as error:
            why = _refusal(value, hint, codec)
            raise TypeError(
                f"the result of {self.name} of agent '{agent}' cannot go to another "
                f"process: {why or error}"
            ) from error

    def decode_result(self, agent: str, value: Any) -> Any:
        """Return the result that JSON told.

        Raises:
            TypeError: It does not fit the annotation.
        """
        hint = self._result_hint()
        try:
            return value if hint is Any else structuring().structure(value, hint)
        except Exception as error:
            raise TypeError(
                f"the result of {self.name} of agent '{agent}' does not fit {hint}: "
                f"{error!r}"
            ) from error

    def _result_hint(self) -> Any:
        hint = self._call.hint("return")
        if self.streams:
            items = typing.get_args(hint)
            hint = items[0] if items else Any
        return hint


_KNOWN: Final[dict[Callable[..., Any], Signature]] = {}


def signature_of(function: Any) -> Signature:
    """Return the signature of a method; the newest are kept.

    Raises:
        TypeError: It is no public async method.
    """
    found = _KNOWN.get(function) if inspect.isfunction(function) else None
    if found is None:
        found = Signature(function)
        if len(_KNOWN) >= _MANY:
            _KNOWN.clear()
        _KNOWN[function] = found
    return found


def _told(value: Any, hint: Any) -> Any:
    if type(value) in _PLAIN:
        return value
    return structuring().unstructure(value, None if hint is Any else hint)


def _refusal(value: Any, hint: Any, codec: Codec) -> str | None:
    """Return why a value cannot be told as JSON, or None."""
    try:
        codec.encode(_told(value, hint))
    except Exception as error:  # noqa: BLE001  # a hook of the user may raise anything
        return str(error)
    return None
