"""The rules of barriers: parties arrive, and a generation trips or breaks. Pure."""

from collections.abc import Sequence
from itertools import islice
from typing import Any, Final

import attrs

from swarm.errors import ConfigMismatch
from swarm.model import Document, Path
from swarm.ports import Plan, View, Write

FULL: Final = "full"
"""The answer to the last arrival where an action is to run before the trip (B9)."""

IDLE: Final = 86_400_000_000
"""Microseconds for which an unused barrier remembers its generation: a day."""


# Not frozen attrs classes only because each arrival makes two: see `_lease_state`.


@attrs.define
class ArrivedParty:
    """A party that has arrived.

    Attributes:
        id: Unique for ever.
        owner: The agent's name.
        session: The turn or task, as text.
        at: When it arrived, in kernel time (microseconds).
    """

    id: str
    owner: str
    session: str
    at: int


@attrs.frozen
class Ended:
    """The end of a generation, the same for all parties that were in it (B2).

    Attributes:
        generation: Its number.
        parties: The ids of its parties; the index of each is its place (B3).
        reason: Why it broke; "" when it tripped.
    """

    generation: int
    parties: Sequence[str]
    reason: str = ""


@attrs.define
class BarrierState:
    """One version of the record of a barrier.

    Arrivals are only added to a generation, so its versions share one table, and each
    knows how many of them are its own.

    Attributes:
        parties: How many arrivals trip it.
        generation: The number of the generation that gathers now, from 0.
        count: How many have arrived.
        ended: How the generation before ended; None: there was none.
    """

    parties: int
    generation: int = 0
    count: int = 0
    ended: Ended | None = None
    _table: dict[str, ArrivedParty] = attrs.field(factory=dict, eq=False, repr=False)

    @property
    def arrivals(self) -> tuple[ArrivedParty, ...]:
        """The parties that have arrived, in order."""
        return tuple(islice(self._table.values(), self.count))

    def has(self, id: str) -> bool:  # noqa: A002
        """Return whether a party has arrived."""
        if len(self._table) == self.count:
            return id in self._table
        return id in islice(self._table, self.count)

    def arrive(self, party: ArrivedParty) -> "BarrierState":
        """Return the next version, with one more arrival."""
        table = self._table
        if len(table) != self.count:  # a version before this one was continued
            table = dict(islice(table.items(), self.count))
        table[party.id] = party
        return BarrierState(
            self.parties, self.generation, self.count + 1, self.ended, table
        )

    def next_generation(self, reason: str) -> "tuple[BarrierState, Ended]":
        """Return the next version, in which a new generation gathers (B6)."""
        ids = tuple(islice(self._table, self.count))
        ended = Ended(self.generation, ids, reason)
        return BarrierState(self.parties, self.generation + 1, 0, ended), ended

    def to_json(self) -> dict[str, Any]:
        """Return a JSON value."""
        ended = self.ended
        return {
            "parties": self.parties,
            "generation": self.generation,
            "arrivals": [attrs.asdict(arrived) for arrived in self.arrivals],
            "ended": None
            if ended is None
            else {"parties": list(ended.parties), "reason": ended.reason},
        }

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> "BarrierState":
        """Return the version that `to_json` described."""
        generation, told = value["generation"], value["ended"]
        ended = None
        if told is not None:
            ended = Ended(generation - 1, tuple(told["parties"]), told["reason"])
        table = {each["id"]: ArrivedParty(**each) for each in value["arrivals"]}
        return cls(value["parties"], generation, len(table), ended, table)


def read_state(document: Document) -> BarrierState:
    """Return the record in a document."""
    record: Any = document.record
    if isinstance(record, BarrierState):
        return record
    return BarrierState.from_json(document.value)


def load(view: View, path: Path, parties: int) -> BarrierState:
    """Return the record at `path`.

    Raises:
        ConfigMismatch: It was opened with another number of parties (B12).
    """
    document = view.find(path)
    if document is None:
        return BarrierState(parties)
    state = read_state(document)
    if state.parties != parties:
        raise ConfigMismatch(
            f"barrier {path.segments[1]!r} is for {state.parties} parties; "
            f"this call asks for {parties}"
        )
    return state


def plan_arrive(
    view: View,
    path: Path,
    parties: int,
    id: str,  # noqa: A002
    owner: str,
    session: str,
    has_action: bool,
) -> Plan:
    """Let a party arrive; one that has arrived already changes nothing (B8).

    The answer is None while others are missing; FULL when none is and an action has
    to run first; else how the generation ended (B1).
    """
    state = load(view, path, parties)
    if state.has(id):
        return Plan()
    state = state.arrive(ArrivedParty(id, owner, session, view.now))
    if state.count < parties:
        return Plan((Write(path, None, state),))
    if has_action:
        return Plan((Write(path, None, state),), outcome=FULL)
    return end(view, path, state)


def plan_trip(view: View, path: Path, parties: int, generation: int) -> Plan:
    """Trip a full generation whose action has run.

    The answer is how it ended, or None when that was decided before.
    """
    state = load(view, path, parties)
    if state.generation != generation or state.count < parties:
        return Plan()
    return end(view, path, state)


def plan_break(
    view: View,
    path: Path,
    parties: int,
    reason: str,
    id: str = "",  # noqa: A002
) -> Plan:
    """Break the generation that gathers now, for all parties in it (B4, B7).

    The answer is how it ended; None when it has no parties, or not the party `id`:
    then nothing changes, and what was decided before holds (B5).
    """
    state = load(view, path, parties)
    if not state.count or (id and not state.has(id)):
        return Plan()
    return end(view, path, state, reason)


def plan_remove(view: View, path: Path, reason: str) -> Plan:
    """Forget a barrier, and break the generation that gathers now.

    The answer is how that ended; None when there is no such barrier.
    """
    document = view.find(path)
    if document is None:
        return Plan()
    ended = read_state(document).next_generation(reason)[1]
    return Plan((Write(path),), outcome=ended)


def end(view: View, path: Path, state: BarrierState, reason: str = "") -> Plan:
    """End the generation: its parties leave together (B6)."""
    state, ended = state.next_generation(reason)
    expires = view.now + IDLE
    return Plan((Write(path, None, state, expires=expires),), outcome=ended)
