"""Agents that work: the tasks that they serve, and the handoffs that they take."""

import asyncio
import inspect
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any, Final

from swarm.agents import Cell, PassedRef, Status
from swarm.errors import (
    AgentDied,
    Closed,
    InvalidTransition,
    NoSuchAgent,
    StaleClaim,
    SwarmError,
)
from swarm.model import Cause, told
from swarm.ports import Activity, current_activity
from swarm.system._coordinator import Coordinator, log
from swarm.system._work import (
    handoff_manager_of,
    handoffs_of,
    manager_of,
    server_of,
    tasks_of,
)
from swarm.work import (
    Binding,
    Claim,
    Claiming,
    Handoff,
    HandoffRecord,
    HandoffStatus,
    ServeOptions,
    Server,
    TaskSelector,
    addresses_of,
    as_json,
    run_attempt,
    served,
)

_LONGEST_REASON: Final = 2_000
"""Maximum number of characters of an error for which an offer is rejected."""

_NOT_ITS_FAULT: Final = (
    asyncio.CancelledError,
    InvalidTransition,  # another agent was faster
)
_AT_ITS_END: Final = (NoSuchAgent, AgentDied, Closed)
"""Errors of a call to an agent that takes no more requests."""


class Serving:
    """One method of one agent that serves tasks. Fulfils `work.Gate`.

    Attributes:
        cell: The agent.
        selector: Which tasks it takes.
        free: How many more it would take now.
    """

    def __init__(
        self,
        servers: "Servers",
        cell: Cell,
        method: Callable[..., Any],
        options: ServeOptions,
    ) -> None:
        """Begin to serve once the agent takes requests."""
        coordinator = servers.coordinator
        self.cell: Cell = cell
        self.free: int = 0
        self._servers = servers
        self._method = method
        self._options = options
        self._binding = Binding(method)
        self._tasks = tasks_of(coordinator, cell.identity)
        self.selector: TaskSelector = self._tasks.selector(options.kind)
        for _ in range(options.concurrency):
            coordinator.start(
                self._serve(), f"agent {cell} serves {options.kind}", essential=True
            )

    def is_open(self) -> bool:
        """Return whether the agent takes tasks just now."""
        cell = self.cell
        return (
            cell.open
            and cell.accepting
            and cell.status is Status.IDLE
            and not self._servers.is_ending
        )

    def is_over(self) -> bool:
        """Return whether the agent takes no more tasks, ever."""
        return self.cell.status is Status.OFFLINE or self._servers.is_ending

    def changed(self) -> "asyncio.Future[None]":
        """Return a future that is done when the agent may have another status."""
        cell = self.cell
        if cell.watchers is None:
            cell.watchers = []
        watcher: asyncio.Future[None] = cell.host.loop.create_future()
        cell.watchers.append(watcher)
        return watcher

    async def _serve(self) -> None:
        options = self._options
        while not self.is_over():
            if not self.is_open():
                await self.changed()
                continue
            claiming = Claiming(
                self._tasks.manager,
                self.cell.identity,
                self.selector,
                options.lease,
                None,
                options.timeout,
            )
            self.free += 1
            try:
                claim = await claiming.acquire(self)
            except Closed:
                return
            except SwarmError:
                await self._tasks.manager.clock.sleep(1.0)  # the kernel fails
                continue
            finally:
                self.free -= 1
            if claim is None:
                continue
            if self.is_open():
                await self._work(claim)
            else:
                await claim.give_up("its worker takes no more tasks")

    async def _work(self, claim: Claim) -> None:
        """Have the agent work under a claim; end the attempt by what comes of it."""
        claim.enter()
        claim.is_served = True
        result: Any = None
        error: BaseException | None = None
        retry = False

        async def work(trace: str | None) -> Any:
            # What the turn leads to is correlated by the task's id.
            activity = Activity(Cause(claim.task_id, trace=trace))
            token = current_activity.set(activity)
            try:
                ref = PassedRef[Any](self.cell, float("inf"))
                return await ref.ask(self._method, *args, **kwargs)
            finally:
                current_activity.reset(token)

        try:
            args, kwargs = self._binding.arguments(claim)
            retry = True
            result = await run_attempt(claim.manager.interceptors, claim, work)
            retry = False
            result = as_json(result)
            if claim.is_live:
                await claim.complete(result)
        except (NoSuchAgent, Closed) as refused:
            if self.cell.accepting and not self._servers.is_ending:
                error = refused  # by another agent, which the method asked
            else:
                error = asyncio.CancelledError()  # nothing was begun: it is given back
        except BaseException as raised:  # noqa: BLE001  # the attempt ends by it
            error = raised
        with suppress(StaleClaim, Closed):
            if isinstance(error, Exception) and not retry and claim.is_live:
                await claim.fail(error, retry=False)
            await claim.leave(error, result)
        current = asyncio.current_task()
        if current is not None and current.cancelling():
            raise asyncio.CancelledError


class Servers:
    """All agents of a swarm that serve tasks.

    Attributes:
        coordinator: The swarm.
        is_ending: Whether the swarm takes no more tasks.
    """

    def __init__(self, coordinator: Coordinator) -> None:
        """Serve nothing yet."""
        self.coordinator: Coordinator = coordinator
        self.is_ending: bool = False
        self._servings: dict[Cell, list[Serving]] = {}

    def attach(self, cell: Cell) -> None:
        """Have an agent serve what its `@serves` methods are for."""
        methods = served(type(cell.agent))
        if not methods:
            return
        manager_of(self.coordinator).servers = self
        self._servings[cell] = [
            Serving(self, cell, method, options) for method, options in methods
        ]

    def detach(self, cell: Cell) -> None:
        """Forget an agent; idempotent."""
        self._servings.pop(cell, None)

    def end(self) -> None:
        """Take no more tasks: the swarm is closing. What runs is finished."""
        self.is_ending = True
        for cell in tuple(self._servings):
            cell.notify()

    def __iter__(self) -> Iterator[Server]:
        """Yield the agents that serve tasks, as those who look see them."""
        for cell, servings in self._servings.items():
            for serving in servings:
                yield server_of(cell.name, cell.status, serving.selector, serving.free)


class Receivers:
    """The agents of a swarm that take handoffs: `async def handoff(self, offer)`.

    The hook is called as a turn. What it accepts ends with the turn: its result
    completes the task, its exception fails the attempt. An offer that it neither
    accepts nor rejects stays open. Fulfils `Attachment`.
    """

    def __init__(self, coordinator: Coordinator) -> None:
        """Call no agent yet."""
        self._coordinator = coordinator
        self._cells: dict[str, Cell] = {}
        self._called: dict[str, set[Cell]] = {}
        self._is_ending = False

    def attach(self, cell: Cell) -> None:
        """Call an agent's `handoff` for the offers that are addressed to it."""
        hook = getattr(type(cell.agent), "handoff", None)
        if not inspect.iscoroutinefunction(hook):
            return
        manager = handoff_manager_of(self._coordinator)
        self._cells[cell.name] = cell
        manager.on_change = self._changed
        for record in manager.open_offers():
            self._changed(record)

    def detach(self, cell: Cell) -> None:
        """Call an agent no more; idempotent."""
        if self._cells.get(cell.name) is cell:
            del self._cells[cell.name]

    def end(self) -> None:
        """Call no agent any more; what runs is finished."""
        self._is_ending = True

    def _changed(self, record: HandoffRecord) -> None:
        """Take in a handoff's new record; called in the middle of a commit."""
        if record.status is not HandoffStatus.REQUESTED:
            self._called.pop(record.id, None)
            return
        called = self._called.setdefault(record.id, set())
        for cell in self._cells.values():
            if self._is_ending or cell in called or not _is_for(record, cell):
                continue
            called.add(cell)
            self._coordinator.start(
                self._call(cell, record.id), f"agent {cell} handoff", essential=True
            )

    async def _call(self, cell: Cell, handoff_id: str) -> None:
        try:
            handoffs = handoffs_of(self._coordinator, cell.identity)
            offer = await handoffs.receive(handoff_id)
        except SwarmError:
            return  # it is gone, or the swarm is
        if offer.status is not HandoffStatus.REQUESTED:
            return
        offer.host = asyncio.current_task()
        error: BaseException | None = None
        result: Any = None
        # What the turn leads to is correlated like what the sender's attempt led to.
        current_activity.set(Activity(Cause(offer.correlation_id)))
        try:
            ref = PassedRef[Any](cell, float("inf"))
            hook: Any = type(cell.agent).handoff
            result = as_json(await ref.ask(hook, offer))
        except BaseException as raised:  # noqa: BLE001  # the attempt ends by it
            error = raised
        is_gone = self._is_ending or not cell.accepting
        if offer.claim is None and is_gone and isinstance(error, _AT_ITS_END):
            error = asyncio.CancelledError()  # the hook has decided nothing
        await _end(offer, error, result)
        current = asyncio.current_task()
        if current is not None and current.cancelling():
            raise asyncio.CancelledError


def _is_for(record: HandoffRecord, cell: Cell) -> bool:
    means = addresses_of(cell.name, cell.identity.role, cell.capabilities)
    return cell.name != record.sender and record.to in means


async def _end(offer: Handoff, error: BaseException | None, result: Any) -> None:
    """End what a turn has accepted, as the turn has ended."""
    claim: Claim | None = offer.claim
    if claim is not None and claim.is_live:
        with suppress(SwarmError):  # lost meanwhile, or the lease bounds what is left
            await claim.leave(error, result)
        return
    if error is None or isinstance(error, _NOT_ITS_FAULT):
        return
    if claim is None:
        with suppress(SwarmError):
            await offer.reject(told(error)[:_LONGEST_REASON])
    elif not isinstance(error, StaleClaim):
        log.error(
            "%r failed after it had ended its claim",
            offer,
            exc_info=error,
            extra={"handoff": offer.id, "task": offer.task_id},
        )
