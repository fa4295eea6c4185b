"""Calls with JSON arguments, which become what the annotations name. Pure."""

import inspect
from collections.abc import Callable, Mapping, Sequence
from types import GenericAlias
from typing import Any, Final, TypeVar, get_type_hints

from swarm.ports._structure import misfit, structuring

_ANYTHING: Final = (Any, object)


class TypedCall:
    """The parameters of a function, without the first one of a method.

    Attributes:
        signature: The parameters.
        hints: The types that the annotations name, by parameter; `*rest: int` is a
            tuple of them, `**rest: int` a dict. The type of the result is "return".
            Empty where only a type checker can tell.
    """

    __slots__ = ("hints", "signature")

    def __init__(self, function: Callable[..., Any], *, is_method: bool) -> None:
        """Look at a function's parameters."""
        signature = inspect.signature(function)
        parameters = list(signature.parameters.values())[is_method:]
        self.signature: inspect.Signature = signature.replace(parameters=parameters)
        try:
            self.hints: dict[str, Any] = get_type_hints(function)
        except (NameError, TypeError):
            self.hints = {}
        for parameter in parameters:
            each: Any = self.hints.get(parameter.name, Any)
            if parameter.kind is inspect.Parameter.VAR_POSITIONAL:
                self.hints[parameter.name] = GenericAlias(tuple, (each, ...))
            elif parameter.kind is inspect.Parameter.VAR_KEYWORD:
                self.hints[parameter.name] = GenericAlias(dict, (str, each))

    def hint(self, name: str) -> Any:
        """Return the type of a parameter; `Any` if only the instance would know it."""
        hint = self.hints.get(name, Any)
        is_generic = isinstance(hint, TypeVar) or getattr(hint, "__parameters__", None)
        return Any if is_generic else hint

    def arguments(
        self, args: Sequence[Any], kwargs: Mapping[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Return JSON arguments as the types that the annotations name.

        Raises:
            TypeError: They do not fit the parameters, or one is not of its type.
        """
        bound = self.signature.bind(*args, **kwargs)
        for name, value in bound.arguments.items():
            hint = self.hint(name)
            if hint not in _ANYTHING:
                try:
                    bound.arguments[name] = structuring().structure(value, hint)
                except Exception as error:
                    raise TypeError(f"{name}: {misfit(error)}") from error
        return bound.args, bound.kwargs
