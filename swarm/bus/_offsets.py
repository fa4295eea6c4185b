"""Offsets of named subscriptions: the document, and which events are open. Pure.

The offset is a document at `subscriptions.<name>`. `OffsetProgress` knows the open
events; `OffsetCommitter`, in its own file, writes the document down.
"""

import copy
from bisect import bisect_left, bisect_right, insort
from collections.abc import Callable
from typing import Any, Final, TypeAlias, TypeVar

import attrs

from swarm.errors import (
    InvalidPath,
    SchemaVersionError,
    StateCorruption,
)
from swarm.model import Document, Path

R = TypeVar("R")

Place: TypeAlias = tuple[int, int]
"""The revision of an event and its index in the commit."""

Span: TypeAlias = tuple[Place, Place]
"""A first and a last place, both included."""

SCHEMA: Final = 1
"""The version of every record of the bus."""

POSITIONS: Final = Path.of("subscriptions")

_LAST: Final = (1 << 63, 0)

SAVE_AFTER: Final = 64
"""Number of handled events after which the offset is committed at once."""


# --- the document -------------------------------------------------------------------


def read_record(
    document: Document, kind: type[R], build: Callable[[dict[str, Any]], R]
) -> R:
    """Return the record that a document holds, built from its JSON if need be.

    Raises:
        SchemaVersionError: A later version of swarm wrote it.
        StateCorruption: It is not such a record.
    """
    if isinstance(document.record, kind):
        return document.record
    told = document.value
    schema = told.get("schema") if isinstance(told, dict) else None
    if schema != SCHEMA and schema is not None:
        raise SchemaVersionError(
            f"{document.path} has schema {schema}; this is {SCHEMA}"
        )
    try:
        return build(told)
    except (KeyError, TypeError, ValueError) as error:
        raise StateCorruption(
            f"{document.path} is not a {kind.__name__}: {error!r}"
        ) from None


def version_of(document: Document | None) -> int:
    """Return a document's version, 0 when it is absent."""
    return 0 if document is None else document.version


def position_path(name: str) -> Path:
    """Return the path of the position of a named subscription.

    Raises:
        InvalidPath: The name cannot be a name in the tree.
    """
    if not isinstance(name, str):
        raise InvalidPath(f"a subscription's name is text, not {name!r}")
    return POSITIONS.child(name)


@attrs.frozen
class Position:
    """The document at `subscriptions.<name>`.

    Attributes:
        after: The place up to which every event was handled or given up.
        done: Spans after it of which every event was handled or given up.
        owner: The type of the agents that own it; "": the program.
        is_held: Whether the log keeps what comes after it (H7).
    """

    after: Place
    done: tuple[Span, ...] = ()
    owner: str = ""
    is_held: bool = True

    @property
    def needs(self) -> int:
        """The revision up to which no commit is needed any more."""
        revision, index = self.after
        return revision if index < 0 else max(revision - 1, 0)

    def to_json(self) -> dict[str, Any]:
        """Return the document."""
        return {
            "schema": SCHEMA,
            "seq": self.after[0],
            "index": self.after[1],
            "done": [[list(place) for place in span] for span in self.done],
            "owner": self.owner,
            "held": self.is_held,
        }

    @classmethod
    def of(cls, document: Document) -> "Position":
        """Read the document.

        Raises:
            SchemaVersionError: A later version of swarm wrote it.
            StateCorruption: It is not a position.
        """
        return read_record(document, cls, cls._built)

    @classmethod
    def _built(cls, told: dict[str, Any]) -> "Position":
        spans = [[(int(seq), int(index)) for seq, index in s] for s in told["done"]]
        done = tuple((first, last) for first, last in spans)
        after = (int(told["seq"]), int(told["index"]))
        return cls(after, done, str(told["owner"]), told.get("held") is not False)

    @classmethod
    def owner_of(cls, document: Document) -> str | None:
        """Return the owner that a document names; None: it is not a position."""
        try:
            return cls.of(document).owner
        except (SchemaVersionError, StateCorruption):
            return None


# --- the rule -----------------------------------------------------------------------


class OffsetProgress:
    """Which events of a subscription are open, and which are done.

    Attributes:
        after: The place up to which every event is done.
        done: The spans after it of which every event is done, in order.
        left: The places that are open, in order.
        owner: The owner of the position.
        is_held: Whether the log keeps what comes after it.
    """

    __slots__ = ("_taken", "after", "done", "is_held", "left", "owner")

    def __init__(self, start: Position) -> None:
        self.after: Place = start.after
        self.done: list[Span] = list(start.done)
        self.left: list[Place] = []
        self.owner: str = start.owner
        self.is_held: bool = start.is_held
        self._taken: Place = start.after

    def take(self, place: Place) -> None:
        """Note an event that was taken in."""
        insort(self.left, place)
        if place > self._taken:
            self._taken = place

    def finish(self, place: Place) -> None:
        """Note that an event is done; without effect if it is not open."""
        left, done = self.left, self.done
        if not done and left[:1] == [place]:  # the usual case: all events in order
            del left[0]
            self.after = max(self.after, place)
            return
        at = bisect_left(left, place)
        if left[at : at + 1] != [place]:
            return
        del left[at]
        # Everything done between the open places on both sides is one span with it.
        low = left[at - 1] if at else (-1, -1)
        high = left[at] if at < len(left) else self._taken
        first = last = place
        begin = end = bisect_left(done, (place, place))
        while begin and done[begin - 1][0] > low:
            begin -= 1
            first = done[begin][0]
        while end < len(done) and done[end][0] <= high:
            last = max(last, done[end][1])
            end += 1
        done[begin:end] = [(first, last)] if at else []
        if not at:
            self.after = max(self.after, last)

    def has_done(self, place: Place) -> bool:
        """Return whether an event is done."""
        at = bisect_right(self.done, (place, _LAST))
        return place <= self.after or (at > 0 and place <= self.done[at - 1][1])

    def position(self, finished: list[Place], seen: Place) -> Position:
        """Return the position once `finished` is done as well.

        Up to `seen`, events were taken in or did not match.
        """
        number = len(finished)
        if not self.done and self.left[:number] == finished:  # all events in order
            last = max(self.after, finished[-1]) if finished else self.after
            is_all = number == len(self.left)
            after = max(last, seen) if is_all else last
            return Position(after, (), self.owner, self.is_held)
        then = copy.copy(self)
        then.done, then.left = self.done.copy(), self.left.copy()
        for place in finished:
            then.finish(place)
        after = then.after if then.left else max(then.after, seen)
        beyond = tuple(span for span in then.done if span[1] > after)
        return Position(after, beyond, self.owner, self.is_held)

    def reach(self, position: Position) -> None:
        """Take over a position that was committed."""
        self.after = position.after
        self.done = list(position.done)
