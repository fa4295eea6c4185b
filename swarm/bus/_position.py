"""How far a named subscription has come, as the tree keeps it. Pure."""

import copy
from bisect import bisect_left, bisect_right, insort
from collections.abc import Iterable
from typing import Any, Final, TypeAlias

import attrs

from swarm.bus._documents import SCHEMA, read_record
from swarm.errors import InvalidPath, SchemaVersionError, StateCorruption
from swarm.model import Document, Path

Place: TypeAlias = tuple[int, int]

Run: TypeAlias = tuple[Place, Place]
"""The first and the last place of it."""

_LAST: Final = (1 << 63, 0)

POSITIONS: Final = Path.of("subscriptions")


def position_path(name: str) -> Path:
    """Return where the position of a named subscription stands.

    Raises:
        InvalidPath: The name cannot be a name in the tree.
    """
    if not isinstance(name, str):
        raise InvalidPath(f"a subscription's name is text, not {name!r}")
    return POSITIONS.child(name)


def owner_told(document: Document) -> str | None:
    """Return whose a position is; None: it is no position, and nobody's."""
    try:
        return Position.of(document).owner
    except (SchemaVersionError, StateCorruption):
        return None


@attrs.frozen
class Position:
    """What `subscriptions.<name>` says.

    Attributes:
        after: The place up to which everything was handled or given up.
        done: Runs after it of which everything was, too.
        owner: Whose it is: the type of the agents it is of; "": the program's.
    """

    after: Place
    done: tuple[Run, ...] = ()
    owner: str = ""

    @property
    def needs(self) -> int:
        """The revision up to which no commit is needed any more.

        Of a commit that was handled in part, the rest is.
        """
        revision, index = self.after
        return revision if index < 0 else max(revision - 1, 0)

    def to_json(self) -> dict[str, Any]:
        """Return the document."""
        return {
            "schema": SCHEMA,
            "seq": self.after[0],
            "index": self.after[1],
            "done": [[list(place) for place in run] for run in self.done],
            "owner": self.owner,
        }

    @classmethod
    def of(cls, document: Document) -> "Position":
        """Read the document.

        Raises:
            SchemaVersionError: A later version of swarm wrote it.
            StateCorruption: It is no position.
        """
        return read_record(document, cls, cls._built)

    @classmethod
    def _built(cls, told: dict[str, Any]) -> "Position":
        runs = [[(int(seq), int(index)) for seq, index in run] for run in told["done"]]
        done = tuple((first, last) for first, last in runs)
        after = (int(told["seq"]), int(told["index"]))
        return cls(after, done, str(told["owner"]))


class Progress:
    """What was handled of a subscription, and up to where that is everything.

    A save costs what is open, and not what was done beyond it: of that, only the runs
    between two open places are kept. A copy of both lists is a few microseconds.

    Attributes:
        after: The place up to which everything is done.
        done: The runs after it of which everything is, in order.
        left: The places that are open, in order.
        owner: Whose it is.
    """

    __slots__ = ("_taken", "after", "done", "left", "owner")

    def __init__(self, start: Position) -> None:
        """Go on from `start`."""
        self.after: Place = start.after
        self.done: list[Run] = list(start.done)
        self.left: list[Place] = []
        self.owner: str = start.owner
        self._taken: Place = start.after

    def take(self, place: Place) -> None:
        """Note an event that is taken in."""
        insort(self.left, place)
        if place > self._taken:
            self._taken = place

    def finish(self, place: Place) -> None:
        """Note that it is done. Again, or never taken in: that changes nothing."""
        left, done = self.left, self.done
        if not done and left[:1] == [place]:  # as it is where all go in order
            del left[0]
            self.after = max(self.after, place)
            return
        at = bisect_left(left, place)
        if left[at : at + 1] != [place]:
            return
        del left[at]
        # What is done on both sides, up to what is left there, is one run with it.
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

    def position(self, finished: Iterable[Place], seen: Place) -> Position:
        """Return the position once `finished` is done as well.

        Args:
            finished: Places of events that will be done.
            seen: Up to where events were taken in, or were for others.
        """
        then = copy.copy(self)
        then.done, then.left = self.done.copy(), self.left.copy()
        for place in finished:
            then.finish(place)
        after = then.after if then.left else max(then.after, seen)
        beyond = tuple(run for run in then.done if run[1] > after)
        return Position(after, beyond, self.owner)

    def reach(self, position: Position) -> None:
        """Take a position that is in force now, and of which nothing is open."""
        self.after = position.after
        self.done = list(position.done)
