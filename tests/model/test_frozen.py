"""Classes made by `frozen` compare, hash and show themselves as attrs classes do."""

import attrs
import pytest

from swarm.model._frozen import frozen


def make(decorator):
    class Told:
        name: str
        size: int = 3
        hidden: str = attrs.field(default="x", repr=False, eq=False)
        shouted: str = attrs.field(default="a", repr=str.upper, eq=str.lower)

    Told.__qualname__ = "Told"
    return decorator(Told)


OURS, THEIRS = make(frozen), make(attrs.frozen)
VALUES = [
    ("a",),
    ("a", 3),
    ("a", 4),
    ("b",),
    ("a", 3, "hidden"),
    ("a", 3, "x", "A"),
    ("a", 3, "x", "b"),
]


def test_they_show_themselves_alike():
    for values in VALUES:
        assert repr(OURS(*values)) == repr(THEIRS(*values))


def test_they_compare_and_hash_alike():
    for one in VALUES:
        for two in VALUES:
            ours, theirs = OURS(*one) == OURS(*two), THEIRS(*one) == THEIRS(*two)
            assert ours == theirs
            if ours:
                assert hash(OURS(*one)) == hash(OURS(*two))
    assert OURS("a") != THEIRS("a")
    assert OURS("a") != "a"


def test_they_are_frozen_and_have_slots():
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        OURS("a").name = "b"
    assert not hasattr(OURS("a"), "__dict__")


def test_methods_of_the_class_itself_stay():
    @frozen
    class Named:
        name: str

        def __eq__(self, other):
            return True

        def __hash__(self):
            return 1

        def __repr__(self):
            return "me"

    assert Named("a") == Named("b") == 5
    assert hash(Named("a")) == 1
    assert repr(Named("a")) == "me"
