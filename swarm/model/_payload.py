"""Payloads: their size, about, and whether they can change. Pure.

Both are found from the values, because annotations are not checked: a field
annotated `tuple[str, ...]` may well hold a list. Most fields hold numbers and short
text, so a function that looks for exactly that is compiled for each class, once, as
attrs does for `__init__`; only what else there is has to be walked.
"""

import copy
import datetime
import decimal
import enum
import keyword
import sys
from collections import deque
from collections.abc import Callable, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import is_dataclass
from typing import Any, Final, TypeAlias

import attrs

from swarm.model._event_type import EVENT_TYPE
from swarm.model._identity import AgentIdentity

Measure: TypeAlias = Callable[[Any], int]
"""How many bytes the text and the like in a payload's fields take; `UNKNOWN` if there
is something else in them."""

UNKNOWN: Final = 2**62
"""More than any payload weighs: its values have to be walked (`weigh`, `is_fixed`)."""

_MEASURE: Final = "__swarm_measure__"
_EACH: Final = 8  # bytes that a number, or a place in a container, is taken to be
_FOLDERS: Final = (list, tuple, set, frozenset, deque)
_MOMENTS: Final = (
    datetime.datetime,
    datetime.date,
    datetime.time,
    datetime.timedelta,
    datetime.timezone,
)
_SMALL_ATOMS: Final = frozenset((bool, float, complex, type(None), *_MOMENTS))
_ATOMS: Final = _SMALL_ATOMS | {int, str, bytes, decimal.Decimal, type(Ellipsis)}
"""Classes (not their subclasses) whose instances never change and hold nothing."""


# --- for each class, once ---------------------------------------------------------


def measure_of(cls: type[Any]) -> Measure:
    """Return what measures payloads of an attrs class."""
    made: Any = cls.__dict__.get(_MEASURE)
    if made is None:
        made = staticmethod(_compile(cls))
        setattr(cls, _MEASURE, made)
    measure: Measure = made.__func__
    return measure


# Up to 2**29 Python compares numbers in one step; from 2**63 on they weigh something.
_HEAD: Final = "def measure(payload, atoms=atoms, long=long, unknown=unknown):"
_FIELD: Final = """
    value = {field}
    cls = value.__class__
    if cls is int:
        if value > 536870912 or value < -536870912:
            size += value.bit_length() >> 6 << 3
    elif cls is str:
        size += len(value) if value.isascii() else long(value)
    elif cls is bytes:
        size += len(value)
    elif cls not in atoms:
        return unknown"""


def _compile(cls: type[Any]) -> Measure:
    """Return a function that looks at one field after the other, written out."""
    lines = [_HEAD, "    size = 0"]
    for each in attrs.fields(cls):
        is_plain = each.name.isidentifier() and not keyword.iskeyword(each.name)
        field = (
            f"payload.{each.name}" if is_plain else f"getattr(payload, {each.name!r})"
        )
        lines.append(_FIELD.format(field=field))
    lines.append("    return size")
    names: dict[str, Any] = {
        "atoms": _SMALL_ATOMS,
        "long": _length,
        "unknown": UNKNOWN,
    }
    exec("\n".join(lines), names)  # of names that attrs has compiled too
    measure: Measure = names["measure"]
    return measure


# --- for everything else ---------------------------------------------------


def weigh(value: object, limit: int) -> int:
    """Return the size of a value and all in it, but no further than a little beyond
    the limit.
    """  # noqa: D205
    size = -_EACH  # the value itself
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
        elif isinstance(item, int):
            size += item.bit_length() >> 3
        elif item.__class__ in _ATOMS:
            size += sys.getsizeof(item, _EACH) if type(item) is decimal.Decimal else 0
        elif not isinstance(item, enum.Enum):
            left += (inner := _inside(item))
            size += 0 if inner else sys.getsizeof(item, _EACH)
    return size


def is_fixed(value: object) -> bool:
    """Return whether neither a value nor anything in it can ever change."""
    left: list[Any] = [value]
    while left:
        item = left.pop()
        cls = item.__class__
        if cls in _ATOMS or issubclass(cls, enum.Enum):
            continue
        if cls is tuple or cls is frozenset:
            left += item
        elif cls is AgentIdentity or EVENT_TYPE in cls.__dict__:
            left += _inside(item)
        elif not _is_uuid(cls):
            return False
    return True


def _is_uuid(cls: type) -> bool:
    return cls.__qualname__ == "UUID" and cls.__module__ == "uuid"  # pure: no import


def private(payload: Any) -> Any:
    """Return the payload itself if nothing in it can change, else a deep copy (G9)."""
    is_flat = measure_of(payload.__class__)(payload) < UNKNOWN
    return payload if is_flat or is_fixed(payload) else copy.deepcopy(payload)


def _length(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode(errors="surrogatepass"))


def _inside(item: object) -> list[Any]:
    """Return what an object's fields hold."""
    cls = type(item)
    if attrs.has(cls):
        return [getattr(item, field.name, None) for field in attrs.fields(cls)]
    if is_dataclass(cls) or hasattr(item, "__dict__"):
        return list(vars(item).values()) if hasattr(item, "__dict__") else []
    return []
