"""How far a named subscription has come, as the tree keeps it. Pure."""

from collections.abc import Iterable
from typing import Any, Final, TypeAlias

import attrs

from swarm.bus._documents import SCHEMA, read_record
from swarm.errors import InvalidPath, SchemaVersionError, StateCorruption
from swarm.model import Document, Path

Place: TypeAlias = tuple[int, int]

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
        done: Places after it that were, too.
        owner: Whose it is: the type of the agents it is of; "": the program's.
    """

    after: Place
    done: tuple[Place, ...] = ()
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
            "done": [list(place) for place in self.done],
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
        done = tuple((int(seq), int(index)) for seq, index in told["done"])
        after = (int(told["seq"]), int(told["index"]))
        return cls(after, done, str(told["owner"]))


class Progress:
    """What was handled of a subscription, and up to where that is everything."""

    def __init__(self, start: Position) -> None:
        """Go on from `start`."""
        self.after: Place = start.after
        self.done: set[Place] = set(start.done)
        self.owner: str = start.owner

    def position(
        self, outstanding: Iterable[Place], finished: Iterable[Place], seen: Place
    ) -> Position:
        """Return the position once `finished` is done and `outstanding` is not.

        Args:
            outstanding: Places of events taken in and not done, `finished` or not.
            finished: Places of events that are done by now.
            seen: Up to where events were taken in.
        """
        ended = set(finished)
        left = [place for place in outstanding if place not in ended]
        done = self.done | ended
        if left:
            first = min(left)
            after = max([self.after, *(place for place in done if place < first)])
        else:  # what is done beyond `seen` says nothing of what is between
            after = max(seen, self.after)
        beyond = tuple(sorted(p for p in done if p > after))
        return Position(after, beyond, self.owner)

    def reach(self, position: Position) -> None:
        """Take a position that is in force now."""
        self.after = position.after
        self.done = set(position.done)
