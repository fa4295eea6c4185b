"""Typed values to JSON and back: attrs classes, dataclasses, enums, datetimes."""

from collections.abc import Callable
from datetime import date, datetime
from enum import Enum
from functools import cache
from typing import Any, get_origin

from swarm.errors import LimitExceeded


@cache
def structuring() -> Any:
    """Return the one converter between typed values and JSON.

    cattrs costs 40 ms to import, so it is not imported before it is due.
    """
    from cattrs.preconf.orjson import make_converter

    converter = make_converter()
    for moment in (date, datetime):  # cattrs would leave them to orjson
        converter.register_unstructure_hook(moment, moment.isoformat)
    for kind in (str, int, bool, float):
        converter.register_structure_hook(kind, _strictly)
    converter.register_structure_hook(type(None), _nothing)
    _refuse_text_as_arrays(converter)
    return converter


def _refuse_text_as_arrays(converter: Any) -> None:
    """Have lists, tuples and sets made of arrays only: cattrs would split a text."""
    from cattrs.cols import is_any_set, is_sequence

    making: list[Any] = []

    def is_array(kind: Any) -> bool:
        if any(kind is each for each in making):
            return False
        origin = get_origin(kind) or kind
        return origin is tuple or is_sequence(kind) or is_any_set(kind)

    def hook_for(kind: Any) -> Callable[[Any, Any], Any]:
        making.append(kind)  # so that this finds the hook of cattrs
        try:
            inner: Callable[[Any, Any], Any] = converter.get_structure_hook(
                kind, cache_result=False
            )
        finally:
            making.remove(kind)

        def structure(value: Any, kind: Any) -> Any:
            if isinstance(value, str | bytes | dict):
                raise TypeError(f"an array expected, not {type(value).__name__}")
            return inner(value, kind)

        return structure

    converter.register_structure_hook_factory(is_array, hook_for)


def misfit(error: Exception) -> str:
    """Return in words why a value could not be made of JSON, and where."""
    from cattrs import BaseValidationError, transform_error

    if isinstance(error, BaseValidationError):
        return "; ".join(transform_error(error, format_exception=_in_words))
    return str(error)


def _in_words(error: BaseException, _: type | None) -> str:
    return "is missing" if isinstance(error, KeyError) else str(error)


def unstructured(value: Any) -> Any:
    """Return what a typed value is as JSON: attrs classes become dicts.

    Raises:
        LimitExceeded: The value nests too deep.
    """
    try:
        return structuring().unstructure(value)
    except RecursionError:
        raise LimitExceeded(
            "a value nests too deep to be written as JSON (Limits.depth)"
        ) from None


def _nothing(value: Any, _: Any) -> None:
    if value is not None:
        raise TypeError(f"None expected, not {value!r}")


def _strictly(value: Any, kind: Any) -> Any:
    """Take a scalar only as what it is: cattrs would make "3" out of 3."""
    if issubclass(kind, Enum):  # a StrEnum is a str
        return kind(value)
    if kind is float and type(value) is int:
        return float(value)
    if type(value) is not kind:
        raise TypeError(f"{kind.__name__} expected, not {type(value).__name__}")
    return value
