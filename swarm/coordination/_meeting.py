"""The meeting at a barrier: who waits in it, and who is expected.

A barrier cannot know who will come. For the wait-for graph it counts as expected who
took part before, and who opened a handle that nobody else has used. A wait is a
deadlock when too few of those can still come; where somebody unknown has to come as
well, there is nothing to be sure of, and no alarm.
"""

import inspect
from collections.abc import Callable, Hashable, Iterable, Iterator
from typing import Any, Protocol
from weakref import WeakSet

import attrs

from swarm.coordination._checks import check_timeout
from swarm.coordination._muster import (
    FULL,
    Ended,
    Muster,
    load,
    plan_arrive,
    plan_break,
    plan_trip,
)
from swarm.coordination._sessions import Session
from swarm.coordination._wait_graph import AnyOf
from swarm.coordination._waiting import Core, Waiter
from swarm.errors import (
    BarrierTimeout,
    BrokenBarrier,
    Closed,
    DeadlockError,
)
from swarm.model import AgentIdentity, Path
from swarm.ports import Plan


class Participant(Protocol):
    """A handle on a barrier, as its meeting sees it.

    Attributes:
        identity: Whose it is.
        opener: The task that opened it, while no other session has used it.
        is_agents: Whether an agent opened it, and no other has used it.
    """

    identity: AgentIdentity
    opener: Session | None
    is_agents: bool

    def used_by(self, session: Session) -> None:
        """Note who uses it."""
        ...


@attrs.frozen
class Arrival:
    """How a party got through a barrier.

    Attributes:
        generation: In which generation, counted from 0.
        index: As which of its parties, from 0, in the order in which they arrived.
    """

    generation: int
    index: int

    @property
    def is_leader(self) -> bool:
        """Whether this is the one party that does what only one should."""
        return self.index == 0


class Meeting:
    """One barrier, as everybody who holds a handle on it shares it. A `Place`.

    Attributes:
        name: What it is called.
        path: Where its document stands.
        parties: How many arrivals trip it.
        action: What runs before anybody leaves.
        handles: Those that are held now.
    """

    __slots__ = (
        "__weakref__",
        "_agents",
        "_core",
        "_tasks",
        "action",
        "handles",
        "name",
        "parties",
        "path",
    )

    def __init__(self, core: Core, name: str, path: Path, parties: int) -> None:
        """Know nobody yet."""
        self._core = core
        self.name: str = name
        self.path: Path = path
        self.parties: int = parties
        self.action: Callable[[], object] | None = None
        self.handles: WeakSet[Participant] = WeakSet()
        self._tasks: WeakSet[Session] = WeakSet()
        self._agents: set[str] = set()

    # --- waiting --------------------------------------------------------------

    async def wait(self, handle: Participant, timeout: float | None) -> Arrival:
        """Arrive, and wait for the others."""
        core = self._core
        check_timeout(timeout)
        core.rights.check_hold(handle.identity, self.path)
        if core.pauses:
            await core.pause()
        session = core.sessions.current()
        handle.used_by(session)
        id = core.new_id()  # noqa: A001
        now = core.now()
        waiter = Waiter(self, id, handle.identity, session, now, _keep, True)
        is_awaited = core.leases or not session.is_unawaited(self.name)
        if is_awaited and not self._is_last():
            cycle = core.graph.find_cycle(session.party, waiter)
            if cycle:
                raise DeadlockError(cycle=cycle)
        self._join(handle.identity, session)
        ended = self._apply(
            handle.identity,
            plan_arrive,
            id,
            handle.identity.agent_id,
            session.name,
            self.action is not None,
        )
        if ended is FULL:
            ended = self._act(handle.identity, self.muster().generation, id)
        if ended is not None:
            return self._arrival(ended, id)
        if timeout is not None and timeout <= 0:
            self.time_out(waiter)
            raise self._broken(BarrierTimeout, _late(waiter))
        arrival: Arrival = await waiter.wait(core, timeout)
        return arrival

    def _act(self, identity: AgentIdentity, generation: int, id: str) -> Ended | None:  # noqa: A002
        """Run the action, once, before anybody leaves (B9)."""
        assert self.action is not None  # or the rule would not have waited for it
        try:
            _check_done(self.action())
        except BaseException as error:
            self.end(identity, f"its action raised {error!r}", id)
            raise
        ended: Ended | None = self._apply(identity, plan_trip, generation)
        if ended is None:  # the action itself has reset it
            raise self._broken(BrokenBarrier, "it was reset by its own action")
        return ended

    def _apply(
        self, author: AgentIdentity, rule: Callable[..., Plan], *args: Any
    ) -> Any:
        """Apply a rule, and tell all who were in a generation how it ended (B2)."""
        core = self._core
        _, ended = core.local.apply_now(author, rule, self.path, self.parties, *args)
        if type(ended) is Ended:
            for index, id in enumerate(ended.parties):  # noqa: A001
                waiter = core.waiters.get(id)
                if waiter is None:
                    continue  # of another process, or the one whose call this is
                if ended.reason:
                    waiter.fail(self._broken(BrokenBarrier, ended.reason, ended))
                else:
                    waiter.succeed(Arrival(ended.generation, index))
        return ended

    def _arrival(self, ended: Ended, id: str) -> Arrival:  # noqa: A002
        return Arrival(ended.generation, ended.parties.index(id))

    def _broken(
        self, error: type[BrokenBarrier], reason: str, ended: Ended | None = None
    ) -> BrokenBarrier:
        generation = self.muster().generation - 1 if ended is None else ended.generation
        return error(
            f"barrier {self.name!r} broke in generation {generation}: {reason}",
            generation=generation,
            reason=reason,
        )

    def interrupt(self, identity: AgentIdentity, reason: str) -> None:
        """Break the generation that gathers now, as somebody may who takes part."""
        self._core.rights.check_hold(identity, self.path)
        self.end(identity, reason)

    def end(self, author: AgentIdentity, reason: str, id: str = "") -> bool:  # noqa: A002
        """Break the generation that gathers now; return whether there was one."""
        return self._apply(author, plan_break, reason, id) is not None

    def _is_last(self) -> bool:
        """Return whether only one party is missing."""
        return len(self.muster().arrivals) == self.parties - 1

    def muster(self) -> Muster:
        """Return the document as it is."""
        muster: Muster = self._core.local.read_now(load, self.path, self.parties)
        return muster

    # --- a place to wait in ---------------------------------------------------

    def time_out(self, waiter: Waiter) -> None:
        """Break the barrier for all, if the waiter still waits (B4, B5)."""
        is_there = any(a.id == waiter.id for a in self.muster().arrivals)
        if not is_there:
            return
        reason = _late(waiter)
        error = BarrierTimeout(
            f"barrier {self.name!r} broke: {reason}",
            generation=self.muster().generation,
            reason=reason,
        )
        waiter.fail(error)
        self.end(waiter.what, reason, waiter.id)

    def withdraw(self, waiter: Waiter) -> None:
        """Break the barrier for all: one who was there has gone (B4, B10)."""
        try:
            self.end(waiter.what, f"{waiter.session} was cancelled", waiter.id)
        except Closed:
            return  # and the barrier with it

    def crowd(self, waiter: Waiter) -> None:
        """Return that a barrier has no queue."""

    def blockers(self, waiter: Waiter) -> Iterable[Hashable]:
        """Return the parties without whom the barrier can never trip."""
        muster = self.muster()
        waiters = self._core.waiters
        there = {
            waiters[arrived.id].session.party
            for arrived in muster.arrivals
            if arrived.id in waiters
        }
        missing = self.parties - len(muster.arrivals)
        if all(arrived.id != waiter.id for arrived in muster.arrivals):
            missing -= 1
            there.add(waiter.session.party)
        weights: dict[Hashable, int] = {}
        for turns in self._expected():
            if len(turns) == 1:
                if turns[0] not in there:
                    weights[turns[0]] = 1
            elif not there & set(turns):
                missing -= 1  # it can come, as far as is known
        return AnyOf(weights, missing) if 0 < missing <= len(weights) else ()

    def describe(self, waiter: Waiter) -> str:
        """Return what is waited for, since when, and how many are there."""
        waited = self._core.now() - waiter.since
        there = len(self.muster().arrivals)
        return (
            f"barrier {self.name!r} ({there} of {self.parties} parties there), "
            f"asked {waited:.1f} s ago"
        )

    # --- who is expected ------------------------------------------------------

    def _join(self, identity: AgentIdentity, session: Session) -> None:
        """Remember that somebody takes part."""
        if session.is_turn:
            self._agents.add(identity.agent_id)
        elif session not in self._tasks:
            self._tasks.add(session)
            self.expect(session)

    def expect(self, session: Session) -> None:
        """Note that others may wait for a session here."""
        self._core.sessions.expect(session, self.name)

    def _expected(self) -> Iterator[tuple[Hashable, ...]]:
        """Yield the parties each of whom is one expected participant.

        For an agent these are the turns that run; for a task itself.
        """
        tasks, agents = set(self._tasks), set(self._agents)
        for handle in self.handles:
            if handle.opener is not None:
                tasks.add(handle.opener)
            elif handle.is_agents:
                agents.add(handle.identity.agent_id)
        for session in tasks:
            yield (session,)
        for agent in agents:
            turns = self._core.life.turns_of(agent)
            if turns is None:
                self._agents.discard(agent)
            else:
                yield tuple(turns)


def _keep(arrival: object) -> None:
    """Do nothing: who was cancelled after the trip has been there all the same."""


def _late(waiter: Waiter) -> str:
    return f"{waiter.session} waited too long for the others"


def _check_done(result: object) -> None:
    """Refuse an action that has only begun: nobody leaves before it has ended (B9).

    Raises:
        TypeError: It has.
    """
    if inspect.isawaitable(result):
        close = getattr(result, "close", None)
        if close is not None:
            close()  # or Python would complain that it was never awaited
        raise TypeError("the action of a barrier is synchronous, and awaits nothing")
