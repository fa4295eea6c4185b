"""Payloads: their size, about, and whether they can change. Pure.

Both are found from the values, because Python does not check annotations: a field
annotated `tuple[str, ...]` may well hold a list. Most fields hold numbers and short
text, as they are annotated, which JSON holds and nothing changes. So a function that
looks for exactly that is compiled for each class, once, as attrs does for `__init__`.
Payloads with lists and dicts are checked and copied by `_payload_copy`. Only others are
written as JSON when they are published, and read again, to see that they can be.
"""

import datetime
import enum
import keyword
import types
from collections.abc import Callable, Iterable
from typing import (
    Any,
    Final,
    TypeAlias,
    Union,
    get_args,
    get_origin,
    get_type_hints,
)

import attrs

from swarm.model._event_type import EVENT_TYPE
from swarm.model._identity import AgentIdentity

Measure: TypeAlias = Callable[[Any], int]
"""Number of bytes of the text in a payload's fields; `UNKNOWN` if the fields hold
more than text, numbers that JSON holds, booleans, None and times, or another of these
than their annotations say."""

UNKNOWN: Final = 2**62
"""More than any payload weighs: the values of the fields have to be walked."""

_MEASURE: Final = "__swarm_measure__"
_NOT_FOUND: Final = object()
"""An annotation of which nothing is known: no value fits it."""
_SMALL_ATOMS: Final[frozenset[type]] = frozenset(
    (bool, type(None), datetime.datetime, datetime.date)
)
_FLAT: Final[frozenset[type]] = frozenset((int, float, str, *_SMALL_ATOMS))
ATOMS: Final[frozenset[type]] = _FLAT | {bytes}
"""Classes (not their subclasses) whose instances never change and hold nothing."""


# --- for each class, once ---------------------------------------------------------


def measure_of(cls: type[Any]) -> Measure:
    """Return what measures payloads of an attrs class."""
    made: Any = cls.__dict__.get(_MEASURE)
    if made is None:
        made = staticmethod(compile_measure(cls, attrs.fields(cls)))
        setattr(cls, _MEASURE, made)
    measure: Measure = made.__func__
    return measure


# Up to 2**29 Python compares numbers in one step. From 2**63 on, JSON may not hold
# them; nor does it hold NaN and infinity, which minus themselves are not 0.
_HEAD: Final = "def measure(payload, long=long, unknown=unknown):"
_TESTS: Final = {
    int: """is int:
        if (value > 536870912 or value < -536870912) and value.bit_length() > 63:
            return unknown""",
    str: """is str:
        size += len(value) if value.isascii() else long(value)""",
    float: """is float:
        if value - value:
            return unknown""",
}


def field_hints(cls: type[Any]) -> dict[str, Any]:
    """Return the annotations of the fields, as far as their names can be found."""
    try:
        hints = get_type_hints(cls)
    except Exception:  # noqa: BLE001  # it names what is not there at run time
        hints = dict.fromkeys(attrs.fields_dict(cls), _NOT_FOUND)
    return {each.name: hints.get(each.name, Any) for each in attrs.fields(cls)}


def compile_measure(
    cls: type[Any], fields: Iterable["attrs.Attribute[Any]"]
) -> Measure:
    """Return a function that looks at one field after the other, written out."""
    lines = [_HEAD, "    size = 0"]
    names: dict[str, Any] = {"long": _length, "unknown": UNKNOWN}
    hints = field_hints(cls)
    for number, each in enumerate(fields):
        is_plain = each.name.isidentifier() and not keyword.iskeyword(each.name)
        field = (
            f"payload.{each.name}" if is_plain else f"getattr(payload, {each.name!r})"
        )
        taken = flat_classes(hints[each.name])
        tests = [test for kind, test in _TESTS.items() if kind in taken]
        names[f"atoms{number}"] = taken & _SMALL_ATOMS
        tests.append(f"not in atoms{number}:\n        return unknown")
        lines += [f"    value = {field}", "    cls = value.__class__"]
        lines += [f"    {'el' * (n > 0)}if cls {test}" for n, test in enumerate(tests)]
    lines.append("    return size")
    exec("\n".join(lines), names)  # of names that attrs has compiled too
    measure: Measure = names["measure"]
    return measure


def flat_classes(hint: object) -> frozenset[type]:
    """Return the classes of flat values that fit an annotation, as far as is known."""
    if hint is Any or hint is object:
        return _FLAT
    if get_origin(hint) in (Union, types.UnionType):
        return frozenset().union(*map(flat_classes, get_args(hint)))
    if hint is float:
        return frozenset((float, int))
    return frozenset(each for each in _FLAT if each is hint)


# --- for everything else ---------------------------------------------------


def is_fixed(value: object) -> bool:
    """Return whether neither a value nor anything in it can ever change."""
    left: list[Any] = [value]
    while left:
        item = left.pop()
        cls = item.__class__
        if cls in ATOMS or issubclass(cls, enum.Enum):
            continue
        if cls is tuple or cls is frozenset:
            left += item
        elif cls is AgentIdentity or EVENT_TYPE in cls.__dict__:
            left += [getattr(item, each.name, None) for each in attrs.fields(cls)]
        elif not _is_uuid(cls):
            return False
    return True


def _is_uuid(cls: type) -> bool:
    return cls.__qualname__ == "UUID" and cls.__module__ == "uuid"  # pure: no import


def _length(text: str) -> int:
    """Return the size of a text in bytes; `UNKNOWN` if UTF-8 cannot hold it."""
    try:
        return len(text.encode())
    except UnicodeEncodeError:
        return UNKNOWN
