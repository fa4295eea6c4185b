"""Events, as subscribers and history see them."""

import builtins
import datetime
from typing import Any, Generic, TypeVar, cast

from swarm.model._cause import Cause
from swarm.model._change import Commit
from swarm.model._checks import brief
from swarm.model._displayable import Displayable
from swarm.model._event_type import event_type
from swarm.model._identity import AgentIdentity
from swarm.model._payload_copy import private
from swarm.model._value import to_datetime

P_co = TypeVar("P_co", covariant=True)


class Event(Displayable, Generic[P_co]):
    """One event as subscribers and history see it. Immutable.

    Two are equal when they are the same one, also if one of them was read again from
    where it was kept: same id, source, time and payload.

    It is a view of the commit that made it, so it costs next to nothing until one of
    its fields is read.
    """

    __slots__ = ("_cause", "_commit", "_index", "_replayed")

    def __init__(self, commit: Commit, index: int, replayed: bool = False) -> None:
        """Show one event of a commit, counted from 0."""
        self._commit: Commit = commit
        self._index: int = index
        self._replayed: bool = replayed
        self._cause: Cause | None = None

    @property
    def id(self) -> str:
        """Unique for ever: `<revision>.<number in its commit>`."""
        return f"{self._commit.revision}.{self._index}"

    @property
    def seq(self) -> int:
        """The revision of its commit; grows, never repeats for another commit."""
        return self._commit.revision

    @property
    def index(self) -> int:
        """Its number among the events of its commit, from 0."""
        return self._index

    @property
    def type(self) -> str:
        """Its dotted type."""
        return event_type(self.payload_class)

    @property
    def payload_class(self) -> builtins.type[Any]:
        """The class of its payload."""
        return self._commit.events[self._index].__class__

    @property
    def source(self) -> AgentIdentity:
        """The identity that caused the event."""
        return self._commit.author

    @property
    def at(self) -> int:
        """When, in microseconds since 1970; never decreases with `seq`."""
        return self._commit.at

    @property
    def timestamp(self) -> datetime.datetime:
        """When it happened, in UTC."""
        return to_datetime(self._commit.at)

    @property
    def payload(self) -> P_co:
        """The published payload; a fresh copy each time if it is mutable."""
        payload = self._commit.events[self._index]
        return cast(P_co, private(payload))

    @property
    def correlation_id(self) -> str:
        """The same for all that one outside request led to."""
        cause = self._commit.cause
        return f"c{self._commit.revision}" if cause is None else cause.correlation_id

    @property
    def causation_id(self) -> str | None:
        """The id of the event or request this one is a consequence of, or None."""
        cause = self._commit.cause
        return None if cause is None else cause.causation_id

    @property
    def depth(self) -> int:
        """Number of events in the causal chain that led to this one."""
        cause = self._commit.cause
        return 0 if cause is None else cause.depth

    @property
    def trace(self) -> str | None:
        """A W3C `traceparent`, when the program traces."""
        cause = self._commit.cause
        return None if cause is None else cause.trace

    @property
    def key(self) -> str | None:
        """The key it was published under, or None."""
        return self._commit.key

    @property
    def cause(self) -> Cause:
        """The cause of everything that its handlers do: an event is their activity.

        The same for all of them, and made at need.
        """
        cause = self._cause
        if cause is None:
            cause = self._cause = Cause(
                self.correlation_id,
                self.id,
                self.trace,
                depth=self.depth + 1,
            )
        return cause

    def is_turn(self) -> bool:
        """Return False: an event is not a party of the wait-for graph."""
        return False

    @property
    def replayed(self) -> bool:
        """Whether it comes out of history again, by `replay`."""
        return self._replayed

    @property
    def place(self) -> tuple[int, int]:
        """Its revision and index: what events are ordered by."""
        return (self._commit.revision, self._index)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Event) or other.place != self.place:
            return False
        mine, theirs = self._commit, other._commit
        return mine is theirs or (
            mine.at == theirs.at
            and mine.author == theirs.author
            and self.payload_class is other.payload_class
            and bool(self.payload == other.payload)
        )

    def __hash__(self) -> int:
        return hash(self.place)

    def __repr__(self) -> str:
        return f"<Event {self.id} {self.type} of {self.source}: {brief(self.payload)}>"


class RecalledEvent(Event[P_co]):
    """An event that was written down: its commit may have left the log long ago."""

    __slots__ = ()

    @property
    def payload_class(self) -> builtins.type[Any]:
        """The class of its payload."""
        return self._commit.events[0].__class__

    @property
    def payload(self) -> P_co:
        """The published payload; a fresh copy each time if it is mutable."""
        return cast(P_co, private(self._commit.events[0]))
