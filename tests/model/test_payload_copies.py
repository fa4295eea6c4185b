"""Payloads that are checked by their annotations are those that JSON gives back."""

import copy
from collections.abc import Mapping, Sequence
from typing import Any

import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from swarm.model import UNKNOWN, event, private, shape_of
from swarm.ports import Codec, Limits, structuring

CODEC = Codec(Limits())
HINTS: tuple[Any, ...] = (
    Any,
    list[str],
    list[int],
    list[float],
    list[bool | None],
    list[list[str]],
    list[Any],
    list,
    dict,
    dict[str, int],
    dict[str, list[float]],
    dict[str, Any],
    dict[int, str],
    tuple[str, ...],
    tuple[list[int], ...],
    tuple[str, int],
    Sequence[str],
    Mapping[str, int],
    list[str] | None,
    dict[str, str] | None,
    list[str] | dict[str, str],
    set[str],
    str,
    int | None,
)


def _event_of(number: int, hint: Any) -> type[Any]:
    class Made:
        value: hint
        text: str = ""

    return event(f"copies.made{number}")(Made)


CLASSES = [_event_of(number, hint) for number, hint in enumerate(HINTS)]
ATOMS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**70), 2**70),
    st.floats(),
    st.text(st.characters(exclude_categories=())),
    st.binary(max_size=2),
)
VALUES = st.recursive(
    ATOMS,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.lists(inner, max_size=3).map(tuple),
        st.dictionaries(st.text() | st.integers(), inner, max_size=3),
        st.sets(st.text(), max_size=2),
    ),
    max_leaves=6,
)


def changeable(value: Any) -> list[Any]:
    """Return every list, dict and set in a value."""
    if isinstance(value, dict):
        return [value, *(x for each in value.values() for x in changeable(each))]
    if isinstance(value, list | tuple | set):
        own = [] if isinstance(value, tuple) else [value]
        return own + [x for each in value for x in changeable(each)]
    return []


@settings(max_examples=500)
@given(st.sampled_from(CLASSES), VALUES)
def test_what_fits_a_shape_is_read_again_as_it_was(cls: Any, value: Any) -> None:
    """G9: it is JSON, its class takes the JSON, and a copy shares nothing with it."""
    payload = cls(value)
    shape = shape_of(cls)
    if shape is None or shape.weigh(payload, CODEC.encode) >= UNKNOWN:
        return
    told = structuring().unstructure(payload, unstructure_as=cls)
    CODEC.encode(told)
    assert structuring().structure(told, cls) is not None
    made = shape.copied(payload)
    assert made == payload
    assert repr(made) == repr(payload)
    mine = set(map(id, changeable(made.value)))
    assert mine.isdisjoint(map(id, changeable(payload.value)))


@settings(max_examples=500)
@given(st.sampled_from(CLASSES), VALUES)
def test_a_private_copy_shares_nothing_whatever_the_annotation(
    cls: Any, value: Any
) -> None:
    payload = cls(value)
    made = private(payload)
    assert repr(made) == repr(copy.deepcopy(payload))
    mine = set(map(id, changeable(made.value)))
    assert mine.isdisjoint(map(id, changeable(payload.value)))


@pytest.mark.parametrize(
    ("cls", "value"),
    [
        (CLASSES[HINTS.index(list[str])], ["a", "b"]),
        (CLASSES[HINTS.index(dict[str, list[float]])], {"a": [1, 2.5]}),
        (CLASSES[HINTS.index(tuple[list[int], ...])], ([1], [2])),
        (CLASSES[HINTS.index(list[str] | None)], None),
        (CLASSES[HINTS.index(Any)], {"a": [{"b": None}]}),
    ],
)
def test_the_usual_payloads_fit(cls: Any, value: Any) -> None:
    shape = shape_of(cls)
    assert shape is not None
    assert shape.weigh(cls(value), CODEC.encode) < 100


def test_a_class_whose_making_runs_code_has_no_shape() -> None:
    @event("copies.checked")
    class Checked:
        value: list[str] = attrs.field(validator=attrs.validators.min_len(1))

    @event("copies.converted")
    class Converted:
        value: list[str] = attrs.field(converter=list)

    @event("copies.told")
    class Told:
        value: list[str]

        def __attrs_post_init__(self) -> None:
            raise NotImplementedError

    assert [shape_of(cls) for cls in (Checked, Converted, Told)] == [None] * 3
