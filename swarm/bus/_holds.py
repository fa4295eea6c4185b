"""The parts of the log that are kept for named subscriptions, active or not (H7).

A hold follows from the document at `subscriptions.<name>`. So every process that shares
the tree keeps the same, and so does a store that is opened again.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final, TypeAlias

from swarm.bus._offsets import POSITIONS, Position
from swarm.bus._records import has_doubled
from swarm.errors import Lost, SchemaVersionError, StateCorruption
from swarm.model import Commit, Document, Event
from swarm.ports import Tail

FOLDER: Final = POSITIONS.segments[0]

Complain: TypeAlias = Callable[[str, Event[Any] | None, BaseException, str], object]


def held_position(document: Document) -> Position | None:
    """Return the position that a document holds the log with; None: it holds nothing.

    The document is one below `subscriptions`.
    """
    if document.is_deleted:
        return None
    try:
        position = Position.of(document)
    except (SchemaVersionError, StateCorruption):
        return None
    return position if position.is_held else None


def needed_after(documents: Iterable[Document]) -> int | None:
    """Return the revision after which named subscriptions need the log.

    Args:
        documents: The documents of a tree.

    Returns:
        The revision; None: no subscription needs any of it.
    """
    positions = [held_position(d) for d in documents if d.path.segments[0] == FOLDER]
    return min((each.needs for each in positions if each is not None), default=None)


class OffsetHold:
    """The part of the log that one named subscription needs.

    Fulfils `ports.RetentionHold`. It outlasts the subscription, for the next one of
    its name.

    Attributes:
        name: The name.
        after: The revision up to which nothing is needed any more.
        holder: The id of the newest subscription of the name in this process, or "".
        save: Writes the position down, if the subscription is active here.
        missed: Counts how many of some commits an active subscription misses.
    """

    __slots__ = ("_complain", "_lost", "after", "holder", "missed", "name", "save")

    def __init__(self, name: str, after: int, complain: Complain) -> None:
        self.name: str = name
        self.after: int = after
        self.holder: str = ""
        self.save: Callable[[], object] | None = None
        self.missed: Callable[[Sequence[Commit]], int] | None = None
        self._lost = 0
        self._complain = complain

    def on_pressure(self) -> None:
        """Write the position down if that frees a part of the log."""
        if self.save is not None:
            self.save()

    def on_truncate(self, commits: Sequence[Commit]) -> None:
        """Do without these commits."""
        before, self.after = self.after, commits[-1].revision
        lost = len(commits) if self.missed is None else self.missed(commits)
        self._lost += lost
        if has_doubled(self._lost - lost, self._lost):
            error = Lost(self._lost, before, self.after + 1)
            self._complain(self.name, None, error, "events-lost")


class OffsetHolds:
    """The retention holds of one swarm, by the names of the subscriptions."""

    def __init__(self, tail: Tail, complain: Complain) -> None:
        """Hold what the positions in the tree need, and follow them from now on."""
        self._tail = tail
        self._complain = complain
        self._holds: dict[str, OffsetHold] = {}
        self._take(tail.read_now(lambda view: view.below(POSITIONS)))
        tail.listen(
            lambda commit: self._take(commit.documents),
            documents=True,
            folders=(FOLDER,),
        )
        tail.release_opened()

    def __len__(self) -> int:
        return len(self._holds)

    def _take(self, documents: Iterable[Document]) -> None:
        """Hold what the newest positions need, and no more."""
        for document in documents:
            folder, *names = document.path.segments
            if folder != FOLDER or len(names) != 1:
                continue
            name = str(names[0])
            position, hold = held_position(document), self._holds.get(name)
            if position is None:
                if hold is not None:
                    del self._holds[name]
                    self._tail.release(hold)
                continue
            after = max(position.needs, self._tail.compacted)
            if hold is not None:
                hold.after = after
            else:
                hold = self._holds[name] = OffsetHold(name, after, self._complain)
                self._tail.hold(hold)

    def reserve(self, name: str, position: Position) -> OffsetHold:
        """Keep the log after a position until `let_go`, while it is written down.

        Raises:
            Compacted: Some of it has gone.
        """
        hold = OffsetHold(name, position.needs, self._complain)
        self._tail.hold(hold)
        return hold

    def let_go(self, hold: OffsetHold) -> None:
        """Release a hold that was reserved."""
        self._tail.release(hold)

    def join(
        self,
        name: str,
        holder: str,
        save: Callable[[], object],
        missed: Callable[[Sequence[Commit]], int],
    ) -> None:
        """Have an active subscription save its position, and count its losses."""
        hold = self._holds.get(name)
        if hold is not None:
            hold.holder, hold.save, hold.missed = holder, save, missed

    def leave(self, name: str, holder: str) -> None:
        """Note that a subscription has ended; what it needs stays needed."""
        hold = self._holds.get(name)
        if hold is not None and hold.holder == holder:
            hold.save = hold.missed = None

    def describe(self) -> list[str]:
        """Return, for `explain`, which holds have no active subscription."""
        return [
            f"subscription '{hold.name}' is not active here: the log is kept for it "
            f"after revision {hold.after} (events.forget lets go)"
            for hold in self._holds.values()
            if hold.save is None
        ]
