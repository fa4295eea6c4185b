"""Private copies of payloads with lists and dicts, checked by their annotations. Pure.

Writing a payload as JSON, reading it again and copying it deeply is right for every
payload, and takes ten times as long as publishing it. Most payloads hold nothing but
lists, tuples and dicts of text and numbers, as they are annotated. For a class of such
fields, a `PayloadShape` is found once, which checks and copies field by field.
"""

import copy
from collections.abc import Callable, Mapping, MutableMapping, MutableSequence, Sequence
from types import NoneType, UnionType
from typing import Any, Final, TypeAlias, Union, get_args, get_origin

import attrs

from swarm.model._payload import (
    ATOMS,
    UNKNOWN,
    Measure,
    compile_measure,
    field_hints,
    flat_classes,
    is_fixed,
    measure_of,
)

Fits: TypeAlias = Callable[[Any], bool]
"""Whether a value is what its annotation says, by the exact classes in it."""

_SHAPE: Final = "__swarm_shape__"
_JSON_ATOMS: Final = frozenset((str, int, float, bool, NoneType))
_TEXT: Final = frozenset((str,))
_LISTS: Final = (list, Sequence, MutableSequence)
_DICTS: Final = (dict, Mapping, MutableMapping)
_OWN_MAKING: Final = (
    "__attrs_init__", "__attrs_pre_init__", "__attrs_post_init__", "__deepcopy__"
)  # fmt: skip


class PayloadShape:
    """The check and the copy of the payloads of one class.

    Attributes:
        can_change: Whether a field is a list or dict.
    """

    __slots__ = ("_cls", "_flat", "_held", "_names", "can_change")

    def __init__(self, cls: type[Any], held: dict[str, "_Form"]) -> None:
        """Expect values of these forms in fields of `cls`, flat ones in the others."""
        fields = attrs.fields(cls)
        self._cls = cls
        flat = [each for each in fields if each.name not in held]
        self._flat: Measure = compile_measure(cls, flat)
        self._held = [(name, form.fits) for name, form in held.items()]
        self._names = [(each.name, each.alias) for each in fields]
        self.can_change: bool = any(form.can_change for form in held.values())

    def weigh(self, payload: Any, encode: Callable[[Any], bytes]) -> int:
        """Return the size in bytes, about; `UNKNOWN` if it is not of this shape."""
        held = [getattr(payload, name) for name, _ in self._held]
        try:
            for value, (_, fits) in zip(held, self._held, strict=True):
                if not fits(value):
                    return UNKNOWN
            return min(UNKNOWN, self._flat(payload) + len(encode(held)))
        except Exception:  # noqa: BLE001  # too deep, too large, not text: see `_settled`
            return UNKNOWN

    def copied(self, payload: Any) -> Any:
        """Return a private copy of a payload; itself if nothing in it can change.

        Raises:
            TypeError: It is not of this shape.
        """
        if not self.can_change:
            return payload
        is_same, values = True, {}
        for name, alias in self._names:
            value = getattr(payload, name)
            values[alias] = made = _copied(value)
            is_same = is_same and made is value
        return payload if is_same else self._cls(**values)


def shape_of(cls: type[Any]) -> PayloadShape | None:
    """Return how payloads of an attrs class are checked and copied.

    None: their fields are of other kinds, or making one runs code of the user.
    """
    if _SHAPE not in cls.__dict__:
        setattr(cls, _SHAPE, _find_shape(cls))
    shape: PayloadShape | None = cls.__dict__[_SHAPE]
    return shape


def private(payload: Any) -> Any:
    """Return the payload itself if nothing in it can change, else a deep copy (G9)."""
    cls = payload.__class__
    if measure_of(cls)(payload) < UNKNOWN:
        return payload
    shape = shape_of(cls)
    if shape is not None and shape.can_change:
        try:
            return shape.copied(payload)
        except TypeError:
            pass  # it was published with other values than its class says
    return payload if is_fixed(payload) else copy.deepcopy(payload)


def _copied(value: Any) -> Any:
    cls = value.__class__
    if cls in ATOMS:
        return value
    if cls is list:
        return [_copied(each) for each in value]
    if cls is dict:
        return {key: _copied(each) for key, each in value.items()}
    if cls is tuple:
        made = tuple([_copied(each) for each in value])
        is_same = all(one is other for one, other in zip(made, value, strict=True))
        return value if is_same else made
    raise TypeError(f"{cls} is not copied here")


# --- for each class, once ---------------------------------------------------------


@attrs.frozen
class _Form:
    """The meaning of an annotation.

    Attributes:
        fits: Whether a value is of this form.
        can_change: Whether such a value can change.
        flat: The classes of such values, when they hold no others.
    """

    fits: Fits
    can_change: bool = True
    flat: frozenset[type] = frozenset()


def _find_shape(cls: type[Any]) -> PayloadShape | None:
    hints = field_hints(cls)
    if any(hasattr(cls, name) for name in _OWN_MAKING):
        return None
    held: dict[str, _Form] = {}
    for each in attrs.fields(cls):
        hint = hints[each.name]
        form = _form_of(hint)
        is_flat = bool(flat_classes(hint)) and hint is not Any
        if not each.init or each.converter or each.validator:
            return None
        if form is None and not is_flat:
            return None
        if form is not None and not is_flat:
            held[each.name] = form
    return PayloadShape(cls, held)


def _form_of(hint: Any) -> _Form | None:
    """Return the form of the values of an annotation; None: it is not known here."""
    if hint is Any:
        return _Form(_is_json)
    flat = flat_classes(hint)
    if flat:
        is_known = flat <= _JSON_ATOMS
        return _Form(lambda v: v.__class__ in flat, False, flat) if is_known else None
    origin, args = get_origin(hint) or hint, get_args(hint)
    if origin in (Union, UnionType):
        return _optional([each for each in args if each is not NoneType], len(args))
    if origin in _LISTS:
        return _array(list, _form_of(args[0] if args else Any))
    if origin in _DICTS and (not args or args[0] is str):
        return _mapping(_form_of(args[1] if args else Any))
    if origin is tuple and args[1:] == (Ellipsis,):
        return _array(tuple, _form_of(args[0]))
    return None


def _optional(wanted: Sequence[Any], size: int) -> _Form | None:
    form = _form_of(wanted[0]) if len(wanted) == 1 < size else None
    if form is None:
        return None
    fits = form.fits
    return attrs.evolve(form, fits=lambda v: v is None or fits(v))


def _array(kind: Any, item: _Form | None) -> _Form | None:
    if item is None:
        return None
    flat, fits = item.flat, item.fits

    def has_flat(value: Any) -> bool:
        return value.__class__ is kind and flat.issuperset(map(type, value))

    def has_fitting(value: Any) -> bool:
        return value.__class__ is kind and all(map(fits, value))

    can_change = item.can_change or kind is list
    return _Form(has_flat if flat else has_fitting, can_change)


def _mapping(item: _Form | None) -> _Form | None:
    if item is None:
        return None
    fits_item = item.fits

    def fits(value: Any) -> bool:
        return (
            value.__class__ is dict
            and _TEXT.issuperset(map(type, value))
            and all(map(fits_item, value.values()))
        )

    return _Form(fits)


def _is_json(value: Any) -> bool:
    cls = value.__class__
    if cls is list:
        return all(map(_is_json, value))
    if cls is dict:
        return _TEXT.issuperset(map(type, value)) and all(map(_is_json, value.values()))
    return cls in _JSON_ATOMS
