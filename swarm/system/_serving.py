"""Agents that serve tasks: each `@serves` method claims, is asked, and completes."""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

from swarm.agents import Cell, PassedRef, Status
from swarm.errors import (
    Closed,
    NoSuchAgent,
    StaleClaim,
    SwarmError,
)
from swarm.model import Cause
from swarm.ports import Activity, current_activity
from swarm.system._coordinator import Coordinator
from swarm.system._work import manager_of, tasks_of
from swarm.work import (
    Binding,
    Claim,
    Claiming,
    ServeOptions,
    Server,
    TaskSelector,
    as_json,
    run_attempt,
    served,
)


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
            claim.manager.codec.encode(result)
        except (NoSuchAgent, Closed):
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
                yield Server(cell.name, serving.selector, serving.free)
