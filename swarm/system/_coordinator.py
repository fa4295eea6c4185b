"""The coordinator: where the parts are put together, and what owns every task.

It is an object, not a task of its own: nothing here has to wait between two events.
Timers belong to the clock, and every task of the swarm is started by `start`, kept in
one set, and awaited before `finish` returns.
"""

import asyncio
import contextvars
import enum
import logging
import math
from collections.abc import Callable, Coroutine, Hashable, Mapping, Sequence
from typing import Any, Final, Literal

from swarm.agents import (
    Cell,
    Deadlines,
    Envelope,
    Holdings,
    Mailbox,
    Pool,
    Registry,
    Supervisor,
    interleaves,
    poster,
    request_of,
    running_turn,
    turns_of,
)
from swarm.bus import (
    Also,
    Bus,
    PostingRecipient,
    Publisher,
    Selector,
    made_of,
    marked,
)
from swarm.coordination import Coordination, Obstacle, WaitGraph
from swarm.errors import AccessDenied, Closed, WrongLoop
from swarm.kernel import MemoryKernel
from swarm.model import ROOT, AgentIdentity, Event, Path
from swarm.ports import (
    Clock,
    Codec,
    Entropy,
    LoopClock,
    Plan,
    Runtime,
    Standing,
    Tail,
    current_runtime,
    one_loop_turn,
)
from swarm.state import Access, Policy, Store, Transaction
from swarm.system._config import SwarmConfig
from swarm.work import TaskManager

_GRACE: Final = 1.0
"""Seconds before what suppressed its cancellation is cancelled again."""

log: Final = logging.getLogger("swarm")


class Phase(enum.Enum):
    """How far a swarm has come."""

    OPEN = "open"
    DRAINING = "draining"
    ENDING = "ending"
    CLOSED = "closed"


class AgentLife:
    """What locks and barriers have to know of agents. Fulfils `coordination.Life`."""

    __slots__ = ("_registry",)

    running_turn = staticmethod(running_turn)

    def __init__(self, registry: Registry) -> None:
        """Know the agents of this registry."""
        self._registry = registry

    def turns_of(self, agent_id: str) -> Sequence[Hashable] | None:
        """Return what an agent is busy with; its `run()` counts as well.

        And the agent itself, if it could take up something beside all that.
        """
        cell = self._registry.find_cell(agent_id)
        if cell is None:
            return None
        main = () if cell.main is None else (cell.main,)
        others = (cell,) if interleaves(type(cell.agent)) else ()
        return (*turns_of(cell), *main, *others)

    def standing(self, turn: Hashable) -> Standing | None:
        """Return where a turn is suspended; None: it runs, or is no turn."""
        return turn.cell.standing(turn) if isinstance(turn, Envelope) else None

    def is_leaving(self, turn: Hashable) -> bool:
        """Return whether a turn is to be cancelled, for who asked for it has left."""
        reply = getattr(turn, "reply", None)
        return reply is not None and reply.cancelled()

    request_of = staticmethod(request_of)


class Coordinator:
    """Everything of one open swarm. Fulfils `agents.Host`.

    Attributes:
        name: The swarm's name.
        phase: How far it has come.
        failures: What nobody dealt with, in order.
        on_failure: Called once, at the first of them.
    """

    def __init__(
        self,
        name: str,
        config: SwarmConfig,
        policy: Policy,
        surfaces: Callable[["Coordinator", AgentIdentity], Holdings],
        clock: Clock | None = None,
        seed: int | str | None = None,
    ) -> None:
        """Open in the running event loop."""
        self.name: str = name
        self.loop: asyncio.AbstractEventLoop = asyncio.get_running_loop()
        self.runtime: Runtime = current_runtime()
        self.clock: Clock = LoopClock() if clock is None else clock
        self.now: Callable[[], float] = self.clock.monotonic
        self.entropy: Entropy = Entropy(seed)
        self.deadlines: Deadlines = Deadlines(self.clock)
        self.graph: WaitGraph = WaitGraph()
        self.spare: list[Mailbox[Any]] = []
        timeout = config.ask_timeout
        self.ask_timeout: float = math.inf if timeout is None else float(timeout)
        self.stream_window: int = config.stream_window
        self.kernel: MemoryKernel = MemoryKernel(self.clock, config.limits)
        self.origin: str = ""  # memory is nobody else's
        self.codec: Codec = Codec(config.limits)
        self.store: Store = Store(
            self.kernel, self.codec, policy, self.clock, self.entropy
        )
        self.tail: Tail = self.kernel
        self.bus: Bus = Bus(self, config.events)
        self.publisher: Publisher = Publisher(self.bus)
        self.registry: Registry = Registry()
        self.coordination: Coordination = Coordination(
            self.kernel,
            self.kernel,
            self.clock,
            self.entropy,
            self.graph,
            life=AgentLife(self.registry),
            policy=policy,
            lock_ttl=config.lock_ttl,
            lock_aging=config.lock_aging,
            lock_delay=config.lock_delay,
        )
        self.holding: Mapping[Hashable, object] = self.coordination.turns
        self.leases: Mapping[str, object] = self.coordination.leases
        self.turn_ended: Callable[[Hashable], None] = self.coordination.end_turn
        self.expected: Mapping[Any, None] = self.coordination.expected
        self.session: Callable[..., Hashable] = self.coordination.session
        self.expect: Callable[[Any], None] = self.coordination.expect
        self.asking_task: Callable[[Obstacle], Hashable | None]
        self.asking_task = self.coordination.asking_task
        self.supervisor: Supervisor = Supervisor(self, self.registry)
        self.work: TaskManager | None = None
        self.phase: Phase = Phase.OPEN
        self.failures: list[Exception] = []
        self.on_failure: Callable[[], object] | None = None
        self._config = config
        self._make_surfaces = surfaces
        self._context = contextvars.copy_context()
        self.pool: Pool = Pool(self, self._context)
        self._tasks: dict[asyncio.Task[Any], Callable[[], object] | None] = {}
        self._essential: set[asyncio.Task[Any]] = set()
        self._closing: list[Callable[[], object]] = []
        self._heard: dict[Cell, list[PostingRecipient]] = {}

    # --- what agents need -------------------------------------------------------------

    def start(
        self,
        coroutine: Coroutine[Any, Any, Any],
        name: str,
        *,
        essential: bool = False,
        ended: Callable[[], object] | None = None,
    ) -> asyncio.Task[Any]:
        """Run a coroutine in a task that belongs to the swarm.

        It runs in the context the swarm was opened in, so that it inherits nothing
        from whoever happened to need it first. A failure of it ends the swarm. It
        takes its first step in the loop's next turn at the earliest, also where the
        loop's tasks are eager: who starts it may be in the middle of a commit (G1).

        Args:
            coroutine: What to run.
            name: What the task is called.
            essential: Whether the end of the swarm waits for it, not cancels it.
            ended: What to call when the task is over, even if it never began.
        """
        if self.loop.get_task_factory() is not None:
            coroutine = _not_at_once(coroutine)
        task = self.loop.create_task(coroutine, name=name, context=self._context.copy())
        self._tasks[task] = ended
        if essential:
            self._essential.add(task)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[Any]) -> None:
        ended = self._tasks.pop(task)
        self._essential.discard(task)
        if ended is not None:
            ended()
        if not task.cancelled():
            error = task.exception()
            if isinstance(error, Exception):
                self.escalate(error)

    def owns_current_task(self) -> bool:
        """Return whether the running task belongs to the swarm."""
        return asyncio.current_task(self.loop) in self._tasks

    @property
    def commits_at_once(self) -> bool:
        """Whether `apply` never suspends: the tree is in this process."""
        return self.runtime.pause is None and self.kernel.local is not None

    async def apply(
        self, author: AgentIdentity, rule: Callable[..., Plan], *arguments: Any
    ) -> None:
        """Ask a rule and commit what it plans, as one step."""
        await self.kernel.apply(author, rule, *arguments)

    def escalate(self, error: Exception) -> None:
        """Take a failure that nobody dealt with: the swarm ends."""
        self.failures.append(error)
        if self.phase is Phase.CLOSED:
            log.error("failure after the end of swarm %s", self.name, exc_info=error)
            return
        self._end_all()
        if self.on_failure is not None:
            callback, self.on_failure = self.on_failure, None
            callback()

    def closed_error(self) -> Closed | None:
        """Return the `Closed` to raise, or None while the swarm works."""
        if self.phase in (Phase.OPEN, Phase.DRAINING):
            return None
        error = Closed(f"swarm '{self.name}' is closed")
        if self.failures:
            error = Closed(
                f"swarm '{self.name}' is closed: an agent failed and nobody dealt "
                f"with it: {self.failures[0]!r}"
            )
            error.__cause__ = self.failures[0]
        return error

    def surfaces(self, identity: AgentIdentity) -> Holdings:
        """Return what an agent is to hold of the swarm."""
        return self._make_surfaces(self, identity)

    # --- what the bus needs -----------------------------------------------------------

    def attach(self, cell: Cell) -> None:
        """Have an agent hear the events that its `@on` methods are for."""
        methods = marked(type(cell.agent))
        if not methods:
            return
        self._heard[cell] = heard = [
            self._hear(cell, method, selector) for method, selector in methods
        ]
        for recipient in heard:
            self.bus.add(recipient)

    def _hear(
        self, cell: Cell, method: Callable[..., Any], selector: Selector
    ) -> PostingRecipient:
        """Return who puts into an agent's mailbox what one of its methods is for."""

        def undelivered(event: Event[Any], error: BaseException) -> None:
            recipient.undelivered(event, error)

        name = f"{cell.name}.{method.__name__}"
        post = poster(cell, method, undelivered)
        kind = made_of(self.loop, PostingRecipient)
        recipient = kind(self.bus, selector, cell.identity, name, post)
        return recipient

    def detach(self, cell: Cell) -> None:
        """Have an agent hear no more events; idempotent."""
        for recipient in self._heard.pop(cell, ()):
            recipient.cancel()

    def reader_of(self, identity: AgentIdentity) -> Callable[[Path], bool] | None:
        """Return whether the identity may read a place; None: it may read all."""
        policy = self.store.policy
        if "**" in policy.accessible_paths(identity, "read"):
            return None
        return Access(policy, identity, ROOT).may_read

    def check_right(
        self,
        identity: AgentIdentity,
        path: Path,
        action: Literal["write", "delete", "hold"],
    ) -> None:
        """Refuse an identity that may not do this at a place.

        Raises:
            AccessDenied: The policy does not let it.
        """
        decision = self.store.policy.explain(identity, path, action)
        if not decision:
            raise AccessDenied(decision.reason)

    @property
    def waits(self) -> WaitGraph:
        """Who waits for whom."""
        return self.graph

    def party(self, *, is_awaited: bool = False) -> Hashable:
        """Return what the running code is in the wait-for graph."""
        return self.coordination.party(is_awaited=is_awaited)

    def party_of(self, task: asyncio.Task[Any]) -> Hashable:
        """Return a task as a party of the graph, for whom others wait."""
        return self.coordination.awaited(task)

    def effects(self, identity: AgentIdentity, also: Also) -> Transaction:
        """Return a transaction of the state that commits what `also` says as well."""
        access = Access(self.store.policy, identity, ROOT)
        return Transaction(self.store, access, also=also)

    # --- use --------------------------------------------------------------------------

    def check(self, *, spawning: bool = False) -> None:
        """Refuse use after the end, or from elsewhere.

        Raises:
            WrongLoop: This is not the swarm's event loop.
            Closed: The swarm is closed; spawning: or about to be.
        """
        try:
            here: asyncio.AbstractEventLoop | None = asyncio.get_running_loop()
        except RuntimeError:
            here = None
        if here is not self.loop:
            raise WrongLoop(
                f"swarm '{self.name}' belongs to another event loop; from another "
                "thread use swarm.portal()"
            )
        closed = self.closed_error()
        if closed is not None:
            raise closed
        if spawning and self.phase is Phase.DRAINING:
            raise Closed(f"swarm '{self.name}' is closing and spawns no more agents")

    def at_close(self, callback: Callable[[], object]) -> None:
        """Call `callback` when the swarm ends."""
        self._closing.append(callback)

    # --- the end ----------------------------------------------------------------------

    async def drain(self) -> None:
        """Let every agent finish what is queued, then stop them, youngest first.

        Handlers of events finish what is due to them as well. No batch waits to be full
        any more, and what failed is tried again, with what stands behind it, unless its
        time comes after `drain_timeout`. What is paused is not waited for. While the
        others finish, agents still ask each other. What is not done within
        `drain_timeout` is ended. Cancelling the wait leaves the rest to `finish`.
        """
        self.phase = Phase.DRAINING
        when = self.now() + self._config.drain_timeout
        timer = self.clock.call_at(when, self._end_all)
        try:
            await self.bus.announce_end()
            await self._until_quiet(when)
            for cell in reversed(self.registry.cells()):
                try:
                    await self.supervisor.stop(cell, None)
                except Exception as error:  # noqa: BLE001  # raised at the end
                    if error not in self.failures:
                        self.failures.append(error)
            await self._until_quiet(when)
        finally:
            timer.cancel()

    async def _until_quiet(self, when: float) -> None:
        """Wait until neither agents nor handlers of events have anything to do."""
        is_quiet = False
        while not is_quiet:
            self.bus.hurry()  # agents may wait for what a handler does
            while busy := [c for c in self.registry.cells() if c.is_working()]:
                for cell in busy:
                    await self._until_idle(cell)
            is_quiet = not await self.bus.settle(when)

    async def _until_idle(self, cell: Cell) -> None:
        await cell.until(lambda: not cell.is_working())

    def _end_all(self) -> None:
        if self.phase in (Phase.OPEN, Phase.DRAINING):
            self.phase = Phase.ENDING
        for cell in reversed(self.registry.cells()):
            self.supervisor.end(cell, "closed")
        self.bus.close()

    async def finish(self) -> None:
        """End everything and wait until no task is left; idempotent.

        A cancellation meanwhile is raised once that is so.
        """
        self._end_all()
        if self.phase is not Phase.CLOSED:
            self.phase = Phase.ENDING
        for callback in self._closing:
            callback()
        self._closing.clear()
        self.coordination.close(self.closed_error())
        self.pool.close()
        cancelled: asyncio.CancelledError | None = None
        again = False
        current = asyncio.current_task()
        while tasks := [task for task in self._tasks if task is not current]:
            for task in tasks:
                if task not in self._essential and (again or not task.cancelling()):
                    task.cancel()
                    if again:
                        log.warning("%s suppresses its cancellation", task.get_name())
            try:
                done, _ = await asyncio.wait(tasks, timeout=_GRACE)
                again = not done
            except asyncio.CancelledError as error:
                cancelled = error
        self.deadlines.close()
        await self.kernel.close()
        self.phase = Phase.CLOSED
        if cancelled is not None:
            raise cancelled


async def _not_at_once(coroutine: Coroutine[Any, Any, Any]) -> Any:
    """Run a coroutine from the loop's next turn on, whoever makes the task."""
    try:
        await one_loop_turn()
    except BaseException:
        coroutine.close()  # cancelled before it began
        raise
    return await coroutine
