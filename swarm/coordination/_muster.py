"""The muster at a barrier: who has arrived, in which generation. Pure."""

from typing import Any, Final, Self

import attrs

from swarm.errors import ConfigMismatch
from swarm.model import Path
from swarm.ports import Plan, View, Write


@attrs.frozen
class Arrived:
    """That a party is there.

    Attributes:
        id: Unique for ever.
        owner: The agent.
        session: The turn or task, for people to read.
        at: When it came, in kernel time (microseconds).
    """

    id: str
    owner: str
    session: str
    at: int

    def to_json(self) -> dict[str, Any]:
        """Return it as a JSON value."""
        return attrs.asdict(self)


@attrs.frozen
class Muster:
    """The document of one barrier.

    Attributes:
        parties: How many arrivals trip it.
        generation: The number of the one that gathers now, from 0.
        arrivals: Who is there, in the order in which they came.
    """

    parties: int
    generation: int = 0
    arrivals: tuple[Arrived, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Return it as a JSON value."""
        return {
            "parties": self.parties,
            "generation": self.generation,
            "arrivals": [arrived.to_json() for arrived in self.arrivals],
        }

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> Self:
        """Return what `to_json` described."""
        return cls(
            value["parties"],
            value["generation"],
            tuple(Arrived(**arrived) for arrived in value["arrivals"]),
        )


@attrs.frozen
class Ended:
    """The end of a generation, the same for all who were in it (B2).

    Attributes:
        generation: Its number.
        parties: The ids of those in it; the index of each is its place (B3).
        reason: Why it broke; "" when it tripped.
    """

    generation: int
    parties: tuple[str, ...]
    reason: str = ""


FULL: Final = "full"
"""The answer to the last arrival where an action is to run before the trip (B9)."""

IDLE: Final = 86_400_000_000
"""How long an unused barrier remembers its generation: a day, in microseconds."""


def load(view: View, path: Path, parties: int) -> Muster:
    """Return the muster at `path`.

    Raises:
        ConfigMismatch: It is there with another number of parties (B12).
    """
    document = view.find(path)
    if document is None:
        return Muster(parties)
    record = document.record
    muster = record if isinstance(record, Muster) else Muster.from_json(document.value)
    if muster.parties != parties:
        raise ConfigMismatch(
            f"barrier {path.segments[1]!r} is for {muster.parties} parties; "
            f"this one asks for {parties}"
        )
    return muster


def plan_arrive(
    view: View,
    path: Path,
    parties: int,
    id: str,  # noqa: A002
    owner: str,
    session: str,
    has_action: bool,
) -> Plan:
    """Let a party arrive; one that is there already changes nothing (B8).

    The answer is None while others are missing; FULL when none is and an action has
    to run first; else how the generation ended (B1).
    """
    muster = load(view, path, parties)
    if any(arrived.id == id for arrived in muster.arrivals):
        return Plan()
    arrived = Arrived(id, owner, session, view.now)
    muster = attrs.evolve(muster, arrivals=(*muster.arrivals, arrived))
    if len(muster.arrivals) < parties:
        return Plan((Write(path, None, muster),))
    if has_action:
        return Plan((Write(path, None, muster),), outcome=FULL)
    return _end(view, path, muster)


def plan_trip(view: View, path: Path, parties: int, generation: int) -> Plan:
    """Trip a full generation whose action has run.

    The answer is how it ended, or None when that was decided before.
    """
    muster = load(view, path, parties)
    if muster.generation != generation or len(muster.arrivals) < parties:
        return Plan()
    return _end(view, path, muster)


def plan_break(
    view: View,
    path: Path,
    parties: int,
    reason: str,
    id: str = "",  # noqa: A002
) -> Plan:
    """Break the generation that gathers now, for all who are in it (B4, B7).

    The answer is how it ended; None when nobody is in it, or not the party `id`: then
    nothing changes, and what was decided before holds (B5).
    """
    muster = load(view, path, parties)
    if not muster.arrivals or (
        id and all(arrived.id != id for arrived in muster.arrivals)
    ):
        return Plan()
    return _end(view, path, muster, reason)


def _end(view: View, path: Path, muster: Muster, reason: str = "") -> Plan:
    """End the generation: those who came first leave together (B6)."""
    ids = tuple(arrived.id for arrived in muster.arrivals)
    return Plan(
        (
            Write(
                path,
                None,
                Muster(muster.parties, muster.generation + 1),
                expires=view.now + IDLE,
            ),
        ),
        outcome=Ended(muster.generation, ids, reason),
    )
