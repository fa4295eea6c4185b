import datetime
import hashlib

import attrs
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from swarm.errors import ConflictError, SwarmError
from swarm.model import (
    ABSENT,
    DELETE,
    DOCUMENT_BYTES,
    OWNER,
    TIME,
    ChangeKind,
    Commit,
    Document,
    Event,
    Path,
    Versioned,
    canonical,
    checksum,
    dig,
    event,
    event_type,
    kind_of,
    living,
    narrow,
    to_change,
    to_datetime,
    type_name,
)
from tests.support.strategies import values


def document(value, version=5, created=5, **more):
    body = None if value is ABSENT else orjson.dumps(value)
    return Document(Path.parse("d"), body, None, version, created, 1_000, OWNER, **more)


def test_absence_is_neither_true_nor_false_nor_none():
    """G10: absent is a word of its own."""
    for word in (ABSENT, DELETE):
        with pytest.raises(TypeError, match="neither"):
            bool(word)
        assert word is not None
        assert repr(word) in ("ABSENT", "DELETE")


@given(values)
def test_the_canonical_encoding_tells_all_json_values_apart(value):
    """S19: the order of keys does not matter, everything else does."""
    again = orjson.loads(canonical(value))
    assert canonical(again) == canonical(value)
    assert checksum(value) == hashlib.sha256(canonical(value)).hexdigest()
    if type(value) is dict:
        turned = dict(reversed(list(value.items())))
        assert canonical(turned) == canonical(value)


def test_equal_looking_values_have_different_encodings():
    """S19: [] is not {}, 1 is not 1.0 is not True."""
    apart = [[], {}, 1, 1.0, True, 0, False, None, "", "1", [1], [[]]]
    assert len({canonical(value) for value in apart}) == len(apart)


@given(values, st.lists(st.text(max_size=3) | st.integers(0, 4), max_size=3))
def test_digging_finds_what_indexing_finds(value, rest):
    """A step that does not fit gives ABSENT, never another error."""
    found = value
    try:
        for step in rest:
            kind = dict if type(step) is str else list
            found = found[step] if type(found) is kind else 1 // 0
    except (KeyError, IndexError, ZeroDivisionError):
        found = ABSENT
    assert dig(value, tuple(rest)) is found


def test_a_versioned_is_a_private_copy_with_its_origin():
    """G9: changing it changes nothing."""
    made = document({"a": [1]})
    one, two = Versioned(made), Versioned(made)
    assert one == two
    one.value["a"].append(2)
    assert one != two
    assert two.value == {"a": [1]}
    assert Versioned(made, ("a", 0)).value == 1
    assert one.version == 5
    assert one.modified_by == OWNER
    assert one.modified_at == datetime.datetime(
        1970, 1, 1, 0, 0, 0, 1_000, datetime.UTC
    )
    assert two.checksum == checksum({"a": [1]})
    assert "version=5" in repr(one)
    assert "owner" in repr(one)
    assert one != {"a": [1]}
    assert hash(one) == hash(two)


def test_a_document_of_a_record_is_written_out_when_bytes_are_needed():
    @attrs.frozen
    class Record:
        def to_json(self):
            return {"x": 1}

    made = Document(Path.parse("d"), None, Record(), 1, 1, 0, OWNER)
    assert not made.is_deleted
    assert made.size == 2 * DOCUMENT_BYTES
    assert made.value == {"x": 1}
    assert made.json == b'{"x":1}'
    assert made.size > 128
    gone = document(ABSENT)
    assert gone.is_deleted
    assert gone.value is ABSENT
    assert living(gone) is None
    assert living(None) is None
    assert living(made) is made


def test_a_change_says_what_was_and_what_is():
    """S10, S11: versions join, values are right, deletion is not null."""
    one = document(1, 5, 5)
    two = document(None, 7, 5, previous=one)
    grave = document(ABSENT, 9, 5, previous=two)
    again = document(3, 11, 11, previous=grave)
    changes = [to_change(d) for d in (one, two, grave, again)]
    assert [c.kind.value for c in changes] == [
        "created",
        "updated",
        "deleted",
        "created",
    ]
    assert [(c.old_version, c.new_version) for c in changes] == [
        (0, 5),
        (5, 7),
        (7, 0),
        (0, 11),
    ]
    assert [c.old_value for c in changes] == [ABSENT, 1, None, ABSENT]
    assert [c.value for c in changes] == [1, None, ABSENT, 3]
    assert changes[0].timestamp == to_datetime(1_000)
    expired = document(ABSENT, 9, 5, previous=two)
    expired.author = TIME
    assert kind_of(expired) is ChangeKind.EXPIRED


@given(values, values)
def test_a_narrowed_change_speaks_of_the_place_alone(old, new):
    """S11: a change that does not touch the place is none of its own."""
    before = document({"a": old, "b": 1}, 5)
    after = document({"a": new, "b": 2}, 7, 5, previous=before)
    change = narrow(to_change(after), "d.a", ("a",))
    if canonical(old) == canonical(new):
        assert change is None
    else:
        assert (change.path, change.kind) == ("d.a", ChangeKind.UPDATED)
        assert canonical(change.old_value) == canonical(old)
        assert canonical(change.value) == canonical(new)
        assert (change.old_version, change.new_version) == (5, 7)


def test_a_narrowed_change_knows_coming_and_going():
    without, with_ = {"b": 1}, {"a": None}
    came = document(with_, 7, 5, previous=document(without))
    went = document(without, 7, 5, previous=document(with_))
    gone = document(ABSENT, 7, 5, previous=document(with_))
    gone.author = TIME
    assert narrow(to_change(came), "p", ("a",)).kind is ChangeKind.CREATED
    assert narrow(to_change(came), "p", ("a",)).old_version == 0
    assert narrow(to_change(went), "p", ("a",)).kind is ChangeKind.DELETED
    assert narrow(to_change(went), "p", ("a",)).new_version == 0
    assert narrow(to_change(gone), "p", ("a",)).kind is ChangeKind.EXPIRED
    assert narrow(to_change(gone), "p", ("x",)) is None


def test_an_event_class_is_frozen_and_knows_its_type():
    @event("order.placed")
    class OrderPlaced:
        order_id: str

    @attrs.frozen
    class Express(OrderPlaced):
        pass

    placed = OrderPlaced("o-1")
    assert event_type(placed) == event_type(OrderPlaced) == "order.placed"
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        placed.order_id = "o-2"
    for other in (Express("o-1"), Express, "text", int):
        with pytest.raises(TypeError, match="@event"):
            event_type(other)
    seen = Event(Commit(1, 0, OWNER, (), (placed,)), 0)
    assert (seen.id, seen.seq, seen.type) == ("1.0", 1, "order.placed")
    assert (seen.source, seen.payload) == (OWNER, placed)
    assert seen.timestamp == to_datetime(0)


@pytest.mark.parametrize("bad", ["", "a.", "a b", ".a", "a-b", "Order.Placed"])
def test_an_event_type_is_dotted_lower_case_words(bad):
    with pytest.raises(ValueError, match="dotted"):
        event(bad)


def test_a_type_is_named_in_snake_case():
    names = {"DreamWeaver": "dream_weaver", "HTTPServer": "http_server", "A1B": "a1_b"}
    for name, snake in names.items():
        assert type_name(type(name, (), {})) == snake


def test_errors_say_both_versions_and_the_writer():
    """S4: in words, and as attributes."""
    stale = ConflictError("a.b", expected=3, current=7, author="bo", value=[1])
    assert str(stale) == "a.b is at version 7, written by bo; version 3 was expected"
    assert (stale.path, stale.expected, stale.current) == ("a.b", 3, 7)
    assert (stale.author, stale.value) == ("bo", [1])
    there = ConflictError("a", expected=0, current=7, author="bo")
    assert str(there) == "a must not exist, but bo wrote it at version 7"
    gone = ConflictError("a", expected=3, current=0)
    assert str(gone) == "a does not exist; version 3 was expected"
    assert "read again" in str(ConflictError())
    assert isinstance(stale, SwarmError)
