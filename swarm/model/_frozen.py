"""Frozen classes that are quick to make: their comparison and text are shared.

attrs compiles `__eq__`, `__hash__` and `__repr__` for each class, which is two thirds
of what a class costs at import. These classes share one of each, with the same results.
"""

from typing import Any, TypeVar

import attrs

C = TypeVar("C", bound=type[Any])


def frozen(cls: C) -> C:
    """Return a frozen attrs class; methods that the class has itself stay."""
    own = frozenset(vars(cls))
    made: Any = attrs.frozen(eq=False, repr=False)(cls)
    if "__eq__" not in own:
        made.__eq__ = _equals
        if "__hash__" not in own:
            made.__hash__ = _hash
    if "__repr__" not in own:
        made.__repr__ = _show
    finished: C = made
    return finished


def _key(payload: Any) -> list[Any]:
    """Return what two of a class are compared by."""
    values = []
    for field in attrs.fields(type(payload)):
        if field.eq:
            value = getattr(payload, field.name)
            values.append(field.eq_key(value) if field.eq_key else value)
    return values


def _equals(self: Any, other: Any) -> Any:
    if other.__class__ is not self.__class__:
        return NotImplemented
    return _key(self) == _key(other)


def _hash(self: Any) -> int:
    return hash((type(self), *_key(self)))


def _show(self: Any) -> str:
    shown = []
    for field in attrs.fields(type(self)):
        if field.repr:
            show = field.repr if callable(field.repr) else repr
            shown.append(
                f"{field.name}={show(getattr(self, field.name, attrs.NOTHING))}"
            )
    name = type(self).__qualname__.rpartition(">.")[2]
    return f"{name}({', '.join(shown)})"
