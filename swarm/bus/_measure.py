"""How large a payload is, about, without encoding it. Pure (DESIGN, section 8).

Which fields have to be looked at is decided once for each class: numbers, dates, enums
and the like cost nothing, text and bytes their length, and only what can hold other
things is walked.
"""

import datetime
import decimal
import enum
import sys
import types
import typing
from collections import deque
from collections.abc import Callable, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import is_dataclass
from typing import Any, Final, TypeAlias
from weakref import WeakKeyDictionary

import attrs

Measure: TypeAlias = Callable[[Any, int], int]
"""`(payload, limit) -> bytes`; counts no further than a little beyond the limit."""

_FIXED: Final = (
    int,
    float,
    complex,
    bool,
    type(None),
    datetime.datetime,
    datetime.date,
    datetime.time,
    datetime.timedelta,
    decimal.Decimal,
)
_EACH: Final = 8  # bytes that a number, or a place in a container, is taken to be
_FOLDERS: Final = (list, tuple, set, frozenset, deque)


_made: WeakKeyDictionary[type[Any], Measure | None] = WeakKeyDictionary()


def measure_of(cls: type[Any]) -> Measure | None:
    """Return what measures payloads of a class; None: all of them are small."""
    if cls not in _made:
        _made[cls] = _make(cls)
    return _made[cls]


def _make(cls: type[Any]) -> Measure | None:
    try:
        hints = typing.get_type_hints(cls)
    except (NameError, TypeError, AttributeError):  # cannot tell: look at everything
        hints = {}
    names = tuple(
        field.name
        for field in attrs.fields(cls)
        if not _is_fixed(hints.get(field.name, object))
    )
    if not names:
        return None

    def measure(payload: Any, limit: int) -> int:
        size = 0
        for name in names:
            value = getattr(payload, name)
            if value.__class__ is str:
                size += _length(value)
            else:
                size += _walk(value, limit)
        return size

    return measure


def _is_fixed(hint: Any) -> bool:
    """Return whether values of this annotation are all small."""
    if hint in _FIXED or hint is None:
        return True
    if typing.get_origin(hint) in (types.UnionType, typing.Union):
        return all(_is_fixed(each) for each in typing.get_args(hint))
    if typing.get_origin(hint) is typing.Literal:
        return True
    return isinstance(hint, type) and issubclass(hint, enum.Enum)


def _length(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode(errors="surrogatepass"))


def _walk(value: object, limit: int) -> int:
    """Return the size of a value and all in it; one that is too large ends the walk."""
    size = 0
    left: list[Any] = [value]
    while left and size <= limit:
        item = left.pop()
        size += _EACH
        if isinstance(item, str):
            size += _length(item)
        elif isinstance(item, (bytes, bytearray)):
            size += len(item)
        elif isinstance(item, Mapping):
            left += item.keys()
            left += item.values()
        elif isinstance(item, (*_FOLDERS, AbstractSet)):
            left += item
        elif isinstance(item, _FIXED):
            size += item.bit_length() // 8 if isinstance(item, int) else 0
        elif not isinstance(item, enum.Enum):
            left += (inner := _inside(item))
            size += 0 if inner else sys.getsizeof(item, _EACH)
    return size


def _inside(item: object) -> list[Any]:
    """Return what an object's fields hold."""
    cls = type(item)
    if attrs.has(cls):
        return [getattr(item, field.name, None) for field in attrs.fields(cls)]
    if is_dataclass(cls) or hasattr(item, "__dict__"):
        return list(vars(item).values()) if hasattr(item, "__dict__") else []
    return []
