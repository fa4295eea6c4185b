"""Barriers, as users hold them."""

from collections.abc import Callable

from swarm.coordination._checks import check_action
from swarm.coordination._meeting import Arrival, Meeting
from swarm.coordination._muster import (
    load,
)
from swarm.coordination._names import Names
from swarm.coordination._sessions import Session
from swarm.coordination._waiting import Core
from swarm.errors import (
    ConfigMismatch,
)
from swarm.model import AgentIdentity


class BarrierManager:
    """All barriers of one swarm."""

    def __init__(self, core: Core) -> None:
        """Keep the books in `core`."""
        self._core = core
        self._names = Names("barriers", "barrier", "parties")
        self._meetings: dict[str, Meeting] = {}

    def open(
        self,
        identity: AgentIdentity,
        name: str,
        parties: int | None = None,
        action: Callable[[], object] | None = None,
    ) -> "BarrierHandle":
        """Return a handle on the barrier called `name`.

        Raises:
            ConfigMismatch: It was opened for another number of parties, or with
                another action.
            ValueError: The number of parties is none, or missing.
            TypeError: The action is no function, or an asynchronous one; or the name
                is no text.
        """
        if action is not None:
            check_action(action)
        path, number = self._names.declare(name, parties)
        meeting = self._meetings.get(name)
        if meeting is None:
            self._tidy()
            meeting = Meeting(self._core, name, path, number)
            self._meetings[name] = meeting
        try:
            self._core.local.read_now(load, path, number)
        except ConfigMismatch:
            self._names.forget(name)
            raise
        if action is not None:
            if meeting.action is not None and meeting.action != action:
                raise ConfigMismatch(f"barrier {name!r} has another action")
            meeting.action = action
        return BarrierHandle(meeting, identity, self._core.sessions.current())

    def _tidy(self) -> None:
        """Let go of those nobody has a handle on, when there are many."""
        if len(self._meetings) >= _MANY:
            self._meetings = {
                name: meeting
                for name, meeting in self._meetings.items()
                if meeting.handles
            }


_MANY = 1_024


class BarrierHandle:
    """One barrier, as one identity holds it.

    For a `DeadlockError` those are expected who have taken part before, and who opened
    a handle that nobody else has used. Where they are as many as are missing, nobody
    else is thought to come. Where they are fewer, there is no such error: somebody of
    whom nothing is known would have to come as well.

    Attributes:
        identity: Who.
        opener: The task that opened it, while no other session has used it.
        is_agents: Whether an agent opened it, and no other has used it.
    """

    __slots__ = ("__weakref__", "_meeting", "identity", "is_agents", "opener")

    def __init__(
        self, meeting: Meeting, identity: AgentIdentity, session: Session
    ) -> None:
        """Handle a barrier."""
        self._meeting = meeting
        self.identity: AgentIdentity = identity
        self.opener: Session | None = None if session.is_turn else session
        self.is_agents: bool = session.is_turn
        meeting.expect(session)
        meeting.handles.add(self)

    @property
    def name(self) -> str:
        """What it is called."""
        return self._meeting.name

    @property
    def parties(self) -> int:
        """How many arrivals trip it."""
        return self._meeting.parties

    @property
    def waiting(self) -> int:
        """How many have arrived in this generation."""
        return len(self._meeting.muster().arrivals)

    @property
    def generation(self) -> int:
        """The number of the generation that gathers now, from 0."""
        return self._meeting.muster().generation

    def used_by(self, session: Session) -> None:
        """Note who uses it: it may have been made for others."""
        if session is not self.opener:
            self.opener = None
            if not session.is_turn:
                self.is_agents = False

    async def wait(self, timeout: float | None = None) -> Arrival:
        """Arrive, and wait until all parties have.

        The barrier is there for the next generation at once. When one of a generation
        times out, is cancelled or dies, it breaks for all who are in it.

        Args:
            timeout: Seconds to wait for the others; None: for ever.

        Raises:
            BrokenBarrier: The generation broke: for all of them, for one reason.
            BarrierTimeout: (one of those) It was this call whose time was up.
            ValueError: The timeout is less than 0, or NaN.
            TypeError: The timeout is no number.
            DeadlockError: A party that is missing waits for the caller. The caller
                has not arrived, and nothing has broken.
            AccessDenied: The policy does not let this identity take part.
            Closed: The swarm is closed, or was meanwhile.
            Exception: What the action raised, if this was the last to arrive.
        """
        return await self._meeting.wait(self, timeout)

    async def reset(self) -> None:
        """Break the generation that gathers now, if anybody is in it.

        Raises:
            AccessDenied: The policy does not let this identity take part.
        """
        self._meeting.interrupt(self.identity, "it was reset")

    async def abort(self, reason: str = "it was aborted") -> None:
        """Break the generation that gathers now, for this reason.

        Like `reset`: those who come later gather in the next generation.

        Raises:
            AccessDenied: The policy does not let this identity take part.
        """
        self._meeting.interrupt(self.identity, reason)

    def __repr__(self) -> str:
        return f"<barrier {self.name!r} of {self.parties}>"
