"""Agents in a simulation: their messages, turns and leases can go wrong.

The supervisor makes every agent of the class that its runtime substitutes for `Cell`;
in production that is `Cell`. So there is nothing to switch off in production. Locks and
semaphores take the class that it substitutes for `LeaseManager`.
"""

from __future__ import annotations

import asyncio
from functools import partial
from typing import Any

from swarm.agents import Envelope, Status
from swarm.agents._cell import PENDING, Cell
from swarm.agents._envelope import Asked, Told
from swarm.agents._lifecycle import RestartDecision, decide
from swarm.agents._protocol import ResolvedMethod
from swarm.coordination._core import Session
from swarm.coordination._grants import AcquireSpec, Grant
from swarm.coordination._lease import Lease
from swarm.coordination._lease_manager import LeaseManager
from swarm.coordination._lease_rules import EXPIRED
from swarm.model import TIME
from swarm.testing._errors import SimulatedCrash
from swarm.testing._handles import STEP_FUNCTIONS
from swarm.testing.faults._injector import Injector
from swarm.testing.faults._plan import Fault

# A late turn of an agent is like a late step of a task.
STEP_FUNCTIONS.add(Cell._serve)  # noqa: SLF001  the seam at which agents take turns

_THAW = 1000.0
"""Seconds that the end of an agent waits for its frozen code at least."""


class FaultyCell(Cell):
    """An agent that asks the loop before each message and each turn."""

    __slots__ = ("_overtaken",)

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._overtaken: list[Envelope] = []
        self._injector.enter(self)
        # A frozen task cannot be cancelled; it is given the time to thaw.
        self.shutdown = max(self.shutdown, _THAW)

    @property
    def _injector(self) -> Injector:
        loop: Any = self.host.loop
        injector: Injector = loop.faults
        return injector

    # --- messages ---------------------------------------------------------------

    def post(self, envelope: Envelope) -> bool:
        """Take a request; a told one may be lost, doubled, late or overtaken."""
        if not envelope.is_tell:
            return super().post(envelope)
        faults = self._injector.at("message", self.name)
        taken = True
        for fault in faults:
            self._injector.note(fault)
        kinds = {fault.kind for fault in faults}
        copies = [envelope] if "drop" not in kinds else []
        if "duplicate" in kinds and copies:
            copies.append(self._copy(envelope))
        late = sum(fault.amount for fault in faults if fault.kind == "delay")
        if late:
            for copy in copies:
                self.host.loop.call_later(late, self._arrive, copy)
        elif "reorder" in kinds:
            self._hold_back(copies, next(f for f in faults if f.kind == "reorder"))
            return True
        else:
            for copy in copies:  # its sender waits for room for one of them
                got_in = super().post(copy)
                taken = got_in if copy is envelope else taken
        overtaken, self._overtaken = self._overtaken, []
        for other in overtaken:
            self._arrive(other)
        return taken

    def _copy(self, envelope: Envelope) -> Envelope:
        args, kwargs = envelope.args, envelope.kwargs
        return Told(self, envelope.call, args, kwargs, envelope.since)

    def _hold_back(self, copies: list[Envelope], fault: Fault) -> None:
        self._overtaken.extend(copies)
        self.host.loop.call_later(fault.amount, self._give_up_waiting, copies)

    def _give_up_waiting(self, copies: list[Envelope]) -> None:
        for copy in copies:
            if copy in self._overtaken:
                self._overtaken.remove(copy)
                self._arrive(copy)

    def _arrive(self, envelope: Envelope) -> None:
        if self.accepting:
            super().post(envelope)

    # --- turns ------------------------------------------------------------------

    def take_up(self, envelope: Envelope) -> None:
        """Be about to run a turn, which may be made late."""
        seconds = 0.0 if envelope.call.is_hook else self._injector.turn(self)
        if seconds:
            envelope.call = _Slowed(envelope.call, seconds)

    def attempt(self, envelope: Asked) -> Any:
        """Take an ask; a frozen agent does not answer it at once."""
        if not self._injector.is_frozen(self):
            return super().attempt(envelope)
        envelope.reply = self.host.loop.create_future()
        self.post(envelope)
        return PENDING

    def tasks(self) -> list[Any]:
        """Return what runs this agent's code: its tasks, and itself."""
        aside = () if self.beside is None else self.beside.running.values()
        known = (self, *aside, *(self.children or ()))
        return [*known] if self.worker is None else [self.worker.task, *known]

    def crash(self) -> bool:
        """Fail as if the agent's own code had; return whether there was a life."""
        if self.status in (Status.OFFLINE, Status.ERROR):
            return False
        error = SimulatedCrash(f"agent {self} crashed (a simulated fault)")
        decision = decide(self.restart, error)
        if decision is RestartDecision.ESCALATE or self.status is Status.DRAINING:
            self.supervisor.end(self, "killed")
        else:
            self.supervisor.failed(self, error)
        return True


class _Slowed(ResolvedMethod):
    """A call that begins late, the first time it is run."""

    __slots__ = ("_call", "_seconds")

    def __init__(self, call: ResolvedMethod, seconds: float) -> None:
        self._call = call
        self._seconds = seconds
        self.name = call.name
        self.streams = call.streams
        self.interleaves = call.interleaves
        self.is_hook = call.is_hook
        self.function = self._items if call.streams else self._run

    async def _pause(self) -> None:
        seconds, self._seconds = self._seconds, 0.0
        await asyncio.sleep(seconds)

    async def _run(self, *args: Any, **kwargs: Any) -> Any:
        await self._pause()
        return await self._call.function(*args, **kwargs)

    async def _items(self, *args: Any, **kwargs: Any) -> Any:
        await self._pause()
        items = self._call.function(*args, **kwargs)
        try:
            async for item in items:
                yield item
        finally:
            await items.aclose()


# --- leases -------------------------------------------------------------------------


class FaultyLeaseManager(LeaseManager):
    """A manager that asks the loop about each lease that it issues."""

    def issue(
        self,
        spec: AcquireSpec,
        session: Session,
        grant: Grant,
        is_entering: bool = False,
    ) -> Lease:
        """Issue a lease, and arrange for its faults."""
        lease = super().issue(spec, session, grant, is_entering)
        loop: Any = self.core.loop
        injector: Injector = loop.faults
        for fault in injector.at("lease", spec.name):
            expire = partial(self._expire, spec, lease)
            loop.call_later(fault.amount, injector.later, fault, expire)
        return lease

    def _expire(self, spec: AcquireSpec, lease: Lease) -> bool:
        is_held = lease.id in self.core.leases
        if is_held:
            self.core.run(self.force(TIME, spec, lease.id, EXPIRED))
        return is_held
