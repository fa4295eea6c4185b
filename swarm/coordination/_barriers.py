"""Barriers, as users hold them and look at them.

Which parties will come to a barrier cannot be known, so a wait at a barrier holds up
its party in the wait-for graph, and is itself held up by no party that is known.
"""

# Some of what is private to users is shared by the files of this package.
# ruff: noqa: SLF001

import inspect
import math
from collections.abc import Callable, Hashable, Iterable
from typing import Final

import attrs

from swarm.coordination._barrier_rules import (
    FULL,
    BarrierState,
    Ended,
    load,
    plan_arrive,
    plan_break,
    plan_trip,
    read_state,
)
from swarm.coordination._core import Core
from swarm.coordination._terms import BARRIERS, Names, check_action, check_timeout
from swarm.coordination._waiting import UNANSWERED, Waiter
from swarm.errors import (
    BarrierTimeout,
    BrokenBarrier,
    ConfigMismatch,
)
from swarm.model import AgentIdentity, Commit, Displayable, Document, Path, repr_of
from swarm.ports import ShieldedOperation

_FOLDER: Final = "barriers"


@attrs.frozen
class Arrival:
    """The result of a party that passed a barrier.

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


class PartyWaiter(Waiter):
    """One party that has arrived at a barrier, and waits for the others.

    Attributes:
        barrier: Where it has arrived.
    """

    is_held_up = False  # which party will come is not known

    def __init__(self, barrier: "BarrierHandle") -> None:
        """Wait as the running turn or task."""
        core = barrier._core
        session = core.sessions.current()
        super().__init__(core, core.new_id(), barrier._path, session)
        self.barrier: BarrierHandle = barrier

    def too_late(self) -> str:
        """Return the reason of a barrier that this party breaks by its time-out."""
        return f"{self.session} waited too long for the others"

    async def _time_out(self) -> None:
        """Break the barrier for all, if it still waits (B4, B5)."""
        if self.is_decided:
            return
        barrier, reason = self.barrier, self.too_late()
        ended = Ended(barrier._state().generation, ())
        self.error = error = barrier._broken(BarrierTimeout, reason, ended)
        if await barrier._break(reason, self.id):
            self.fail(error)

    async def _withdraw(self) -> None:
        """Break the barrier for all: one that was there has gone (B4, B10)."""
        why = f"{self.session} was cancelled or failed"
        await self.barrier._break(why, self.id)

    def pass_on(self, result: object) -> None:
        """Do nothing: a party cancelled after the trip has been there all the same."""

    def blockers(self) -> Iterable[Hashable]:
        """Return no party: which one will come is not known."""
        return ()

    def describe_wait(self) -> str:
        """Return what is waited for, since when, and how many have arrived."""
        barrier = self.barrier
        waited = self._core.now() - self.since
        return (
            f"barrier {barrier.name!r} ({barrier._state().count} of {barrier.parties} "
            f"parties there), asked {waited:.1f} s ago"
        )


class BarrierTerms:
    """All barriers of one swarm.

    Attributes:
        names: What each name was opened with.
        actions: What runs before the parties leave, by the name of the barrier.
    """

    def __init__(self, core: Core) -> None:
        """Share `core`."""
        self.core = core
        self.names: Names = Names(BARRIERS, "barrier", "parties")
        self.actions: dict[str, Callable[[], object]] = {}
        core.watchers[_FOLDER] = self._saw
        core.keep_up(self._may_rest)

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
            ValueError: The number of parties is no number of them, or missing.
            TypeError: The action is no function, or an asynchronous one; or the name
                is no text.
            AccessDenied: It is new, and the policy does not let the identity hold it.
        """
        if action is not None:
            check_action(action)
        is_new = self.names.number(name) is None
        path, number = self.names.declare(name, parties)
        try:
            if is_new:
                self.core.rights.check_hold(identity, path)
            self.core.look(load, path, number)
        except Exception:
            if is_new:
                self.names.forget(name)
            raise
        if action is not None and self.actions.setdefault(name, action) != action:
            raise ConfigMismatch(f"barrier {name!r} has another action")
        return BarrierHandle(self, identity, path, number)

    def forget(self, name: str) -> None:
        """Forget a name: it can be opened for another number of parties."""
        self.names.forget(name)
        self.actions.pop(name, None)

    def tell(self, ended: Ended | None) -> None:
        """Tell the parties of this process how a generation ended."""
        for id in () if ended is None else ended.parties:  # noqa: A001
            waiter = self.core.waiters.get(id)
            if isinstance(waiter, PartyWaiter):
                waiter.barrier._tell(ended)
                return

    def _may_rest(self) -> float | None:
        """Return infinity if no party waits here; see `ports.Tail.keep_up`."""
        waiters = self.core.waiters.values()
        if any(waiter.path.segments[0] == _FOLDER for waiter in waiters):
            return None
        return math.inf

    def _saw(self, document: Document, commit: Commit) -> None:  # noqa: ARG002
        if not self.core.waiters:
            return
        if not document.is_deleted:
            self.tell(read_state(document).ended)
        elif document.previous is not None:
            before = read_state(document.previous)
            self.tell(before.next_generation("it was removed")[1])

    def path(self, name: str | None) -> Path | None:
        """Return where the document of a name stands; None: the folder."""
        return None if name is None else BARRIERS.child(name)


class BarrierHandle(Displayable):
    """One barrier, as one identity holds it.

    Attributes:
        name: What it is called.
        parties: How many arrivals trip it.
    """

    __slots__ = ("_actions", "_core", "_identity", "_path", "name", "parties")

    def __init__(
        self,
        terms: "BarrierTerms",
        identity: AgentIdentity,
        path: Path,
        parties: int,
    ) -> None:
        """Handle the barrier at `path`, for so many parties."""
        self._core = terms.core
        self._actions = terms.actions
        self._identity = identity
        self._path = path
        self.name: str = str(path.name)
        self.parties: int = parties

    @property
    def waiting(self) -> int:
        """Number of arrivals in this generation.

        Raises:
            AccessDenied: The policy does not let this identity see it; so for the
                next one.
        """
        return self._seen().count

    @property
    def generation(self) -> int:
        """The number of the generation that gathers now, from 0."""
        return self._seen().generation

    def _seen(self) -> BarrierState:
        self._core.rights.check_see(self._identity, self._path)
        return self._state()

    async def wait(self, timeout: float | None = None) -> Arrival:
        """Arrive, and wait until all parties have.

        The barrier is there for the next generation at once. When one party of a
        generation times out, is cancelled or dies, it breaks for all that are in it.

        Args:
            timeout: Seconds to wait for the others; None: for ever.

        Raises:
            BrokenBarrier: The generation broke: for all of them, for one reason.
            BarrierTimeout: (one of those) it was this call whose time was up.
            ValueError: The timeout is less than 0, or NaN.
            TypeError: The timeout is no number.
            AccessDenied: The policy does not let this identity take part.
            Closed: The swarm is closed, or was meanwhile.
            Exception: What the action raised, if this was the last to arrive.
        """
        core = self._core
        if timeout is not None:
            check_timeout(timeout)
        core.rights.check_hold(self._identity, self._path)
        if core.pause is not None:
            await core.pause()
        waiter = PartyWaiter(self)
        try:
            ended = core.run(self._arrive(waiter))
            if isinstance(ended, ShieldedOperation):
                ended = await ended.outcome(lambda _: waiter.withdraw())
        except UNANSWERED:
            waiter.discard()
            waiter.withdraw()  # it may have arrived
            raise
        except BaseException:
            waiter.discard()
            raise
        if ended is not None:
            waiter.discard()
            return self._arrival(ended, waiter.id)
        if timeout is not None and timeout <= 0:
            waiter.discard()
            await core.finish(self._break(waiter.too_late(), waiter.id))
            raise self._broken(BarrierTimeout, waiter.too_late())
        arrival: Arrival = await waiter.wait(timeout)
        return arrival

    async def reset(self) -> None:
        """Break the generation that gathers now, if it has parties.

        Raises:
            AccessDenied: The policy does not let this identity take part.
        """
        await self.abort("it was reset")

    async def abort(self, reason: str = "it was aborted") -> None:
        """Break the generation that gathers now, for this reason.

        Like `reset`: parties that come later gather in the next generation.

        Raises:
            AccessDenied: The policy does not let this identity take part.
        """
        self._core.rights.check_hold(self._identity, self._path)
        await self._core.finish(self._break(reason))

    def __repr__(self) -> str:
        return f"<barrier {self.name!r} of {self.parties}>"

    # --- inside -------------------------------------------------------------------

    async def _arrive(self, waiter: "PartyWaiter") -> Ended | None:
        """Arrive; return how the generation ended, or None: others are missing."""
        identity = self._identity
        ended = await self._core.commit_plan(
            identity,
            plan_arrive,
            self._path,
            self.parties,
            waiter.id,
            identity.agent_id,
            waiter.session.name,
            self.name in self._actions,
        )
        if ended is FULL:
            ended = await self._act(waiter)
        if ended is not None:
            self._tell(ended, but=waiter.id)
        return ended  # type: ignore[no-any-return]

    async def _act(self, waiter: "PartyWaiter") -> Ended:
        """Run the action, once, before a party leaves (B9)."""
        generation = self._state().generation
        try:
            _check_done(self._actions[self.name]())
        except BaseException as error:
            why = f"its action raised {repr_of(error)}"
            await self._break(why, waiter.id)
            raise
        ended: Ended | None = await self._core.commit_plan(
            self._identity, plan_trip, self._path, self.parties, generation
        )
        if ended is None:  # the action itself has reset it
            raise self._broken(BrokenBarrier, "it was reset by its own action")
        return ended

    async def _break(self, reason: str, id: str = "") -> bool:  # noqa: A002
        """Break the generation that gathers now; return whether there was one."""
        ended = await self._core.commit_plan(
            self._identity, plan_break, self._path, self.parties, reason, id
        )
        self._tell(ended)
        return ended is not None

    def _tell(self, ended: Ended | None, but: str = "") -> None:
        """Tell the parties of this process how a generation ended (B2)."""
        if ended is None:
            return
        for index, id in enumerate(ended.parties):  # noqa: A001
            waiter = self._core.waiters.get(id)
            if waiter is None or id == but or waiter.is_decided:
                continue  # of another process, or the one whose call this is
            if ended.reason:
                error = waiter.error
                if not isinstance(error, BrokenBarrier) or error.reason != ended.reason:
                    error = self._broken(BrokenBarrier, ended.reason, ended)
                waiter.fail(error)
            else:
                waiter.succeed(Arrival(ended.generation, index))

    def _arrival(self, ended: Ended, id: str) -> Arrival:  # noqa: A002
        """Return how a party got through.

        Raises:
            BrokenBarrier: The generation broke.
        """
        if ended.reason:
            raise self._broken(BrokenBarrier, ended.reason, ended)
        return Arrival(ended.generation, ended.parties.index(id))

    def _broken(
        self, error: type[BrokenBarrier], reason: str, ended: Ended | None = None
    ) -> BrokenBarrier:
        generation = self._state().generation - 1 if ended is None else ended.generation
        return error(
            f"barrier {self.name!r} broke in generation {generation}: {reason}",
            generation=generation,
            reason=reason,
        )

    def _state(self) -> BarrierState:
        """Return the record as this process has it."""
        state: BarrierState = self._core.look(load, self._path, self.parties)
        return state


def _check_done(result: object) -> None:
    """Refuse an action that has only begun: no party leaves before it has ended (B9).

    Raises:
        TypeError: It returned an awaitable.
    """
    if inspect.isawaitable(result):
        close = getattr(result, "close", None)
        if close is not None:
            close()  # or Python would complain that it was never awaited
        raise TypeError("the action of a barrier is synchronous, and awaits nothing")
