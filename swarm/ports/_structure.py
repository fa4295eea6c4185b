"""Typed values to JSON and back: attrs classes, dataclasses, enums, datetimes."""

from datetime import date, datetime
from enum import Enum
from functools import cache
from typing import Any

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
    return converter


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


def _strictly(value: Any, kind: Any) -> Any:
    """Take a scalar only as what it is: cattrs would make "3" out of 3."""
    if issubclass(kind, Enum):  # a StrEnum is a str
        return kind(value)
    if kind is float and type(value) is int:
        return float(value)
    if type(value) is not kind:
        raise TypeError(f"{kind.__name__} expected, not {type(value).__name__}")
    return value
