"""Asking for a claim: takes the next task, or waits for one."""

import asyncio
import warnings
from collections.abc import Coroutine, Generator
from contextlib import suppress
from functools import partial
from types import TracebackType
from typing import Any, Protocol

from swarm.errors import SwarmError, TaskTimeout
from swarm.model import MICRO, AgentIdentity, AsyncUse
from swarm.ports import Timer
from swarm.work._claim import Claim, adopt
from swarm.work._claim_queue import ClaimWaiter
from swarm.work._due import TaskSelector, Ticket
from swarm.work._task_manager import TaskManager
from swarm.work._task_record import TaskRecord
from swarm.work._task_rules import ClaimRequest, decide_claim, decide_give_back


class Gate(Protocol):
    """Whether a worker takes tasks just now."""

    def is_open(self) -> bool:
        """Return whether it does."""
        ...

    def changed(self) -> "asyncio.Future[None]":
        """Return a future that is done when that may have changed."""
        ...


class Claiming(AsyncUse):
    """A claim that is asked for: `async with` it, or `await` it for the claim alone."""

    __slots__ = (
        "_claim",
        "_identity",
        "_is_used",
        "_lease",
        "_limit",
        "_manager",
        "_selector",
        "_timeout",
    )

    _usage = "`async with tasks.claim(...) as claim:`, or `await` it"

    def __init__(
        self,
        manager: TaskManager,
        identity: AgentIdentity,
        selector: TaskSelector,
        lease: float,
        timeout: float | None,
        limit: float | None = None,
    ) -> None:
        """Ask for a task that `selector` takes, for `limit` seconds at most."""
        self._manager = manager
        self._identity = identity
        self._selector = selector
        self._lease = int(lease * MICRO)
        self._timeout = timeout
        self._limit = None if limit is None else int(limit * MICRO)
        self._claim: Claim | None = None
        self._is_used = False

    def __del__(self) -> None:
        if not self._is_used:
            warnings.warn(
                f"claim({self._selector.kinds!r}) was never awaited, and has claimed "
                "nothing: write `async with tasks.claim(...) as claim:`",
                RuntimeWarning,
                stacklevel=2,
                source=self,
            )

    def __repr__(self) -> str:
        return f"<claim of tasks {self._selector.kinds!r}>"

    def __await__(self) -> Generator[Any, None, Claim]:
        return self._claimed().__await__()

    async def __aenter__(self) -> Claim:
        manager = self._manager
        claim = None
        if manager.is_direct and manager.closed is None:
            claim = self._claim_first()
        if claim is None:
            claim = await self._claimed()
        self._claim = claim
        claim.enter()
        if manager.interceptors is not None:
            await claim.intercept()
        return claim

    def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> Coroutine[Any, Any, bool]:
        claim = self._claim
        assert claim is not None  # the block was entered
        return claim.__aexit__(kind, error, trace)

    async def _claimed(self) -> Claim:
        claim = await self.acquire()
        if claim is None:
            raise TaskTimeout(
                f"no task of {self._selector.kinds!r} came within {self._timeout} s"
            )
        return claim

    async def acquire(self, gate: Gate | None = None) -> Claim | None:
        """Return the claim; None: the time is up, or the gate has closed."""
        self._is_used = True
        manager, timeout = self._manager, self._timeout
        if manager.closed is not None:
            raise manager.closed
        if manager.pause is not None:
            await manager.pause()
        end = None if timeout is None else manager.clock.monotonic() + timeout
        claim = None if manager.local is None else self._claim_first()
        while claim is None:
            manager.promote()
            ticket = manager.index.pick(self._selector)
            if ticket is None:
                ticket = await self._wait(end, gate)
                if ticket is None:
                    return None
            claim = await self._try(ticket)
        return claim

    def _claim_first(self) -> Claim | None:
        """Claim the first task that there is, of a kernel that answers at once."""
        self._is_used = True
        manager, identity = self._manager, self._identity
        local, index = manager.local, manager.index
        assert local is not None  # callers have looked
        if index.later:
            manager.promote()
        record = index.first(self._selector)
        if record is None:
            return None
        before = manager.clock.monotonic()
        _, found = local.apply_one_now(
            identity, record.spec.path, decide_claim, self._request()
        )
        if found is None:  # its deadline has passed
            return None
        # `adopt`, written out: the index has followed the commit, and set the token.
        claim_class = manager.runtime.substitute(Claim)
        return claim_class(manager, identity, found, found.claim, before)

    async def _try(self, ticket: Ticket) -> Claim | None:
        """Claim a task; return None when another process was faster."""
        manager, identity = self._manager, self._identity
        before = manager.clock.monotonic()
        path, request = ticket[2].spec.path, self._request()
        taking = manager.apply_one(identity, path, decide_claim, request)
        try:
            revision, found = await take(manager, identity, taking)
        except BaseException:
            manager.pass_on(ticket)
            raise
        if found is None:
            manager.defer(ticket)
            return None
        return adopt(manager, identity, found, revision, before)

    async def _wait(self, end: float | None, gate: Gate | None) -> Ticket | None:
        """Wait for a task to try for; a cancelled wait passes on what it was given."""
        manager = self._manager
        waiter = manager.queue.add(self._selector)
        manager.tail.hurry()
        future = waiter.future
        timer: Timer | None = None
        if end is not None:
            timer = manager.clock.call_at(end, partial(self._give_up, waiter))
        if gate is not None:
            self._look_at_gate(waiter, gate)
        try:
            return await future
        except BaseException:
            manager.queue.remove(waiter)
            if future.done() and not future.cancelled() and not future.exception():
                given = future.result()
                if given is not None:
                    manager.pass_on(given)
            raise
        finally:
            if timer is not None:
                timer.cancel()

    def _give_up(self, waiter: ClaimWaiter) -> None:
        if self._manager.queue.remove(waiter) and not waiter.future.done():
            waiter.future.set_result(None)

    def _look_at_gate(self, waiter: ClaimWaiter, gate: Gate, _: object = None) -> None:
        """Give up once the gate is closed."""
        if waiter.future.done():
            return
        if gate.is_open():
            gate.changed().add_done_callback(partial(self._look_at_gate, waiter, gate))
        else:
            self._give_up(waiter)

    def _request(self) -> ClaimRequest:
        return (
            self._manager.new_id("claim"),
            self._identity.agent_id,
            self._lease,
            self._selector.addresses,
            self._limit,
        )


async def take(
    manager: TaskManager,
    identity: AgentIdentity,
    taking: Coroutine[Any, Any, tuple[int, TaskRecord | None]],
) -> tuple[int, TaskRecord | None]:
    """Return what `taking` does: the revision and the record of a task with a claim.

    A caller that is cancelled meanwhile has claimed nothing: the claim that was made is
    given back (G3). Where the kernel is local, that cannot be.
    """
    if manager.local is not None:
        return await taking

    def undo(taken: tuple[int, TaskRecord | None]) -> None:
        manager.start(_give_back(manager, identity, *taken), "tasks: undo a claim")

    return await manager.shielded(taking).outcome(undo)


async def _give_back(
    manager: TaskManager,
    identity: AgentIdentity,
    revision: int,
    record: TaskRecord | None,
) -> None:
    claim = None if record is None else record.claim
    if record is None or claim is None:
        return
    claim.token = claim.token or revision
    request = (claim, "release", 0, "its worker was cancelled")
    with suppress(SwarmError):  # the lease bounds what is left
        await manager.apply_one(identity, record.spec.path, decide_give_back, request)
