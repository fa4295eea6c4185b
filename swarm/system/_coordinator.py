"""The coordinator: the task that puts the parts of a swarm together and ends them.

Each swarm has one such task, named after it. The coordinator owns the store, the locks,
the bus and every other task of the swarm, and brings the end about. It is not a queue
in front of the store: operations are direct calls.
"""

import asyncio
import contextvars
import enum
import logging
import math
from asyncio.events import _get_running_loop
from collections.abc import Awaitable, Callable, Coroutine, Hashable, Mapping
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias

import anyio

from swarm.agents import (
    AgentTable,
    AroundTurn,
    Cell,
    Envelope,
    Holdings,
    Registry,
    Supervisor,
    WorkerPool,
    around_turns,
)
from swarm.bus import Also, Bus, PostingRecipient, Publisher
from swarm.coordination import Coordination, Obstacle, WaitGraph
from swarm.errors import AccessDenied, Closed, StorageFailed, SwarmError, WrongLoop
from swarm.model import OWNER, ROOT, AgentIdentity, Path, SystemAlert
from swarm.ports import (
    Clock,
    Codec,
    Deadlines,
    Entropy,
    Interceptor,
    Interceptors,
    Kernel,
    Pause,
    Plan,
    RecoveryReport,
    Refusing,
    Runtime,
    Tail,
    current_activity,
    current_runtime,
)
from swarm.state import Access, Policy, Store, Transaction
from swarm.system._attachments import AgentLife, Attachment, EventAgents
from swarm.system._config import SwarmConfig
from swarm.system._ending import Drain
from swarm.system._tasks import OwnedTasks

if TYPE_CHECKING:  # a hello world loads neither
    from swarm.processes import Membership, Singletons
    from swarm.storage import Opened, SnapshotManager
    from swarm.work import (
        HandoffManager,
        PipelineManager,
        TaskManager,
        TaskOptions,
    )

OnFailure: TypeAlias = Literal["end", "log"]

_GOODBYE: Final = 5.0
"""Seconds that a process takes at most to say goodbye to the others."""

log: Final = logging.getLogger("swarm")


class Phase(enum.Enum):
    """The phases of a swarm's life."""

    OPEN = "open"
    DRAINING = "draining"
    ENDING = "ending"
    CLOSED = "closed"


class Coordinator:
    """Everything of one open swarm. Fulfils `agents.Host`.

    Attributes:
        name: The swarm's name.
        task: The coordinator's own task; it is done when the swarm has ended.
        snapshots: Takes and restores snapshots; made when first used, in memory.
        recovery: What opening the store found; None: the swarm is in memory only.
        server: Returns which server holds the tree, and what survives its crash, or
            "".
        commits_at_once: Whether there is `apply_now`: the tree is in this process.
        phase: How far the swarm has come.
        membership: This process among others; None: no other one shares the tree.
        singletons: Those that this process runs or stands by for; None then.
        origin: The id of this process; "" then.
        failures: The failures that reached no asker and no supervisor, in order.
        cancel_body: Called when the swarm ends although its body has not.
    """

    def __init__(
        self,
        name: str,
        config: SwarmConfig,
        policy: Policy,
        surfaces: Callable[["Coordinator", AgentIdentity], Holdings],
        kernel: Kernel,
        tail: Tail,
        clock: Clock,
        seed: int | str | None = None,
        *,
        on_failure: OnFailure = "end",
        release: Callable[[], Awaitable[None]] | None = None,
        membership: "Membership | None" = None,
        interceptors: Interceptors | None = None,
    ) -> None:
        """Open in the running event loop.

        Args:
            name: The swarm's name.
            config: Time-outs and limits.
            policy: Which role may read and write what.
            surfaces: Makes what an agent holds of the swarm.
            kernel: The tree; other coordinators may share it.
            tail: The kernel's log.
            clock: Where time comes from.
            seed: What ids and jitter come from; None: the runtime's, or chance.
            on_failure: Whether an unhandled failure ends the swarm.
            release: Called at the end, to let go of the kernel.
            membership: This process among those that share the kernel; None: no other
                one does.
            interceptors: What runs around operations; None: nothing does.
        """
        self.name: str = name
        self.loop: asyncio.AbstractEventLoop = asyncio.get_running_loop()
        self.runtime: Runtime = current_runtime()
        self.pause: Pause | None = self.runtime.pause
        self.interceptors: Interceptors | None = interceptors
        self.is_direct: bool = self.pause is None and interceptors is None
        self.clock: Clock = clock
        self.now: Callable[[], float] = self.clock.monotonic
        self.around_turn: AroundTurn | None
        self.around_turn = around_turns(interceptors, config.slow_turn, self.now)
        self.entropy: Entropy = Entropy(seed)
        self.deadlines: Deadlines = Deadlines(self.clock)
        self.graph: WaitGraph = WaitGraph()
        timeout = config.ask_timeout
        self.ask_timeout: float = math.inf if timeout is None else float(timeout)
        self.stream_window: int = config.stream_window
        self.kernel: Kernel = kernel
        self._unfenced: Kernel = getattr(kernel, "unfenced", kernel)
        self.singletons: Singletons | None = None
        self.membership: Membership | None = membership
        self.origin: str = "" if membership is None else membership.id
        self.codec: Codec = Codec(config.limits)
        self.store: Store = Store(
            self.kernel, self.codec, policy, self.clock, self.entropy
        )
        self.tail: Tail = tail
        for part in (self._unfenced, tail):
            if isinstance(part, Refusing):
                part.refusal = self.refusal
        self.bus: Bus = Bus(self, config.events)
        self.publisher: Publisher = Publisher(self.bus)
        self.store.prepare_event = self.publisher.prepare
        self.table: AgentTable = AgentTable(self._is_taken, self.origin)
        self.registry: Registry = Registry(self.table, self.closed_error)
        self.coordination: Coordination = Coordination(
            self.kernel,
            self.clock,
            self.entropy,
            self.graph,
            tail=tail,
            runtime=self.runtime,
            life=AgentLife(),
            policy=policy,
            lock_ttl=config.lock_ttl,
            lock_aging=config.lock_aging,
            lock_delay=config.lock_delay,
            process=self.origin,
        )
        self._offer_coordination()
        self.supervisor: Supervisor = Supervisor(self, self.table)
        self.work: TaskManager | None = None
        self.task_options: TaskOptions | None = config.tasks
        self.handoffs: HandoffManager | None = None
        self.pipelines: PipelineManager | None = None
        self.commits_at_once: bool = self.kernel.local is not None
        recipient = self.runtime.substitute(PostingRecipient)
        self.attachments: list[Attachment] = [EventAgents(self.bus, recipient)]
        self.snapshots: SnapshotManager | None = None
        self.recovery: RecoveryReport | None = None
        self.server: Callable[[], str] = str
        self.phase: Phase = Phase.OPEN
        self.failures: list[BaseException] = []
        self.store_failure: StorageFailed | None = None
        self._taken = 0
        self.cancel_body: Callable[[], object] | None = None
        self.config: SwarmConfig = config
        self._make_surfaces = surfaces
        self._on_failure = on_failure
        self._release = release
        context = contextvars.copy_context()
        self.pool: WorkerPool = WorkerPool(self, context)
        self.tasks: OwnedTasks = OwnedTasks(self.loop, context, self.escalate)
        self._closing: list[Callable[[], object]] = []
        self._end_asked: asyncio.Future[None] = self.loop.create_future()
        self.task: asyncio.Task[None] = self.loop.create_task(
            self._run(), name=f"swarm {name}"
        )

    def _offer_coordination(self) -> None:
        """Show agents the parts of coordination that each turn touches, directly."""
        self.holding: Mapping[Hashable, object] = self.coordination.sessions.of_turns
        self.leases: Mapping[str, object] = self.coordination.leases
        sessions = self.coordination.sessions
        self.turn_ended: Callable[[Hashable], None] = sessions.end_turn
        self.expected: Mapping[Any, None] = sessions.expected
        self.session: Callable[..., Hashable] = self.coordination.session
        self.expect: Callable[[Any], None] = sessions.expect
        self.asking_task: Callable[[Obstacle], Hashable | None]
        self.asking_task = self.coordination.asking_task

    # --- what agents need -------------------------------------------------------------

    def start(
        self,
        coroutine: Coroutine[Any, Any, Any],
        name: str,
        *,
        essential: bool = False,
        last: bool = False,
        ended: Callable[[], object] | None = None,
    ) -> asyncio.Task[Any]:
        """Run a coroutine in a task that belongs to the swarm.

        The task runs in the context in which the swarm was opened, so that it inherits
        nothing from the code that needed it first. A failure of the task ends the
        swarm. Its first step comes in the loop's next turn at the earliest, also where
        the loop's tasks are eager: the caller may be in the middle of a commit (G1).

        Args:
            coroutine: What to run.
            name: What the task is called.
            essential: Whether the end of the swarm waits for it and does not cancel it.
            last: Whether that end cancels it only after all essential tasks.
            ended: What to call when the task is over, even if it never began.
        """
        return self.tasks.start(
            coroutine, name, essential=essential, last=last, ended=ended
        )

    def keep(self, opened: "Opened") -> None:
        """Take in the store that the kernel is on: its snapshots and its failures."""
        self.snapshots = opened.snapshots
        self.recovery = opened.report
        self.server = opened.server
        opened.on_failure(self._store_failed)
        opened.on_alert(self._alert)
        self.store.budget.room = opened.room
        for note in () if opened.report is None else opened.report.notes:
            log.warning("store of swarm %s: %s", self.name, note)

    def _store_failed(self, error: StorageFailed) -> None:
        self.store_failure = error
        self.report(error)

    def _alert(self, message: str) -> None:
        """Announce that a part of the store is left out."""
        if self.phase is Phase.OPEN:
            alert = SystemAlert("error", "store-member-left-out", message, self.name)
            self.start(self.kernel.commit(OWNER, events=(alert,)), "store alert")

    def add_interceptor(self, interceptor: Interceptor) -> None:
        """Run an interceptor around all others from now on.

        Handlers that were subscribed before are intercepted as they were.
        """
        members = () if self.interceptors is None else self.interceptors.members
        self._intercept((interceptor, *members))

    def remove_interceptor(self, interceptor: Interceptor) -> None:
        """Run an interceptor no more, but for what it is in the middle of."""
        if self.interceptors is not None:
            members = self.interceptors.members
            self._intercept(tuple(i for i in members if i is not interceptor))

    def _intercept(self, members: tuple[Interceptor, ...]) -> None:
        self.interceptors = Interceptors(members) if members else None
        self.is_direct = self.pause is None and not members
        slow_turn = self.config.slow_turn
        self.around_turn = around_turns(self.interceptors, slow_turn, self.now)
        if self.work is not None:
            self.work.interceptors = self.interceptors

    def leave_behind(self, task: asyncio.Task[Any]) -> None:
        """Wait for a task no longer that ignores its cancellation."""
        self.tasks.leave_behind(task)

    def is_caller_inside(self) -> bool:
        """Return whether the swarm's end would wait for the running code.

        That is so in a turn, a handler and other tasks of the swarm, and in the tasks
        that were made there, while the turn or task from which they come still runs.
        """
        if self.tasks.own(asyncio.current_task(self.loop)):
            return True
        activity = current_activity.get()
        if isinstance(activity, Envelope):
            return activity.is_turn() and activity.cell.host is self
        return self.tasks.include_caller()

    def apply_now(
        self, author: AgentIdentity, rule: Callable[..., Plan], *arguments: Any
    ) -> None:
        """Do what `apply` does, at once."""
        local = self.kernel.local
        assert local is not None  # see commits_at_once
        local.apply_now(author, rule, *arguments)

    async def apply(
        self, author: AgentIdentity, rule: Callable[..., Plan], *arguments: Any
    ) -> None:
        """Ask a rule and commit what it plans, as one step."""
        await self._unfenced.apply(author, rule, *arguments)

    def escalate(self, error: BaseException) -> None:
        """Take an unhandled failure: the swarm ends, or logs it."""
        if self.phase is Phase.CLOSED:
            log.error(
                "failure after the end of swarm %s",
                self.name,
                exc_info=error,
                extra={"swarm": self.name},
            )
        elif self._on_failure == "log" and isinstance(error, Exception):
            log.error(
                "failure in swarm %s: %r",
                self.name,
                error,
                exc_info=error,
                extra={"swarm": self.name},
            )
        else:
            self.failures.append(error)
            self.ask_end(drain=False)

    def take_failures(self) -> list[BaseException]:
        """Return the failures that were not taken before."""
        taken, self._taken = self._taken, len(self.failures)
        return self.failures[taken:]

    def report(self, error: BaseException) -> None:
        """Take a failure that is raised at the end but does not bring the end about."""
        if error not in self.failures:
            self.failures.append(error)

    def _is_taken(self, path: Path) -> bool:
        """Return whether a document stands at a path, as far as is known here."""
        return self.tail.find_now(path) is not None

    def closed_error(self) -> Closed | None:
        """Return the `Closed` to raise, or None while the swarm works."""
        if self.phase in (Phase.OPEN, Phase.DRAINING):
            return None
        error = Closed(f"swarm '{self.name}' is closed")
        if self.failures:
            error = Closed(
                f"swarm '{self.name}' is closed by an unhandled failure: "
                f"{self.failures[0]!r}"
            )
            error.__cause__ = self.failures[0]
        return error

    def surfaces(self, identity: AgentIdentity) -> Holdings:
        """Return the surfaces of the swarm that one agent holds."""
        return self._make_surfaces(self, identity)

    # --- what the bus needs -----------------------------------------------------------

    def attach(self, cell: Cell) -> None:
        """Attach an agent to the parts that its class asks for: events, tasks."""
        for attachment in self.attachments:
            attachment.attach(cell)

    def detach(self, cell: Cell) -> None:
        """Have an agent hear no more events and serve no more tasks; idempotent."""
        for attachment in self.attachments:
            attachment.detach(cell)

    def check_spawn(self, spawner: AgentIdentity, name: str, role: str) -> None:
        """Refuse a spawner that may not spawn an agent of this name and role."""
        decision = self.store.policy.explain_spawn(spawner, name, role)
        if not decision:
            raise AccessDenied(str(decision))

    def check_end(self, identity: AgentIdentity, path: Path, *, forced: bool) -> None:
        """Refuse an identity that may not end, pause or replace an agent of others."""
        self.check_right(identity, path, "kill" if forced else "spawn")

    def check_right(
        self,
        identity: AgentIdentity,
        path: Path,
        action: Literal["read", "write", "delete", "hold", "spawn", "kill"],
    ) -> None:
        """Refuse an identity that may not do this at a path.

        Raises:
            AccessDenied: The policy does not allow it.
        """
        decision = self.store.policy.explain(identity, path, action)
        if not decision:
            raise AccessDenied(str(decision))

    def reader_of(self, identity: AgentIdentity) -> Callable[[Path], bool] | None:
        """Return whether an identity may read a path; None: it may read every path."""
        policy = self.store.policy
        if "**" in policy.accessible_paths(identity, "read"):
            return None
        return Access(policy, identity, ROOT).may_read

    @property
    def waits(self) -> WaitGraph:
        """The wait-for graph."""
        return self.graph

    def party(self, *, is_awaited: bool = False) -> Hashable:
        """Return the running turn or task as a party of the wait-for graph."""
        return self.coordination.party(is_awaited=is_awaited)

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
        if _get_running_loop() is not self.loop:
            self.check_loop()
        if self.phase is Phase.OPEN:
            return
        closed = self.closed_error()
        if closed is not None:
            raise closed
        if spawning and self.phase is Phase.DRAINING:
            raise Closed(f"swarm '{self.name}' is closing and spawns no more agents")

    def check_loop(self) -> None:
        """Refuse use from another event loop.

        Raises:
            WrongLoop: This is not the swarm's event loop.
        """
        try:
            here: asyncio.AbstractEventLoop | None = asyncio.get_running_loop()
        except RuntimeError:
            here = None
        if here is not self.loop:
            raise self._wrong_loop()

    def _wrong_loop(self) -> WrongLoop:
        return WrongLoop(
            f"swarm '{self.name}' belongs to another event loop; from another "
            "thread use swarm.portal()"
        )

    def refusal(self) -> Closed | WrongLoop:
        """Return the error of a use that the kernel refuses."""
        return self.closed_error() or self._wrong_loop()

    def at_close(self, callback: Callable[[], object]) -> None:
        """Call `callback` when the swarm ends."""
        self._closing.append(callback)

    # --- the coordinator's task -------------------------------------------------------

    def describe(self) -> str:
        """Return, as text, the state of the coordinator."""
        if self.phase is not Phase.OPEN:
            return f"coordinator: {self.phase.value}"
        told = f"coordinator: task '{self.task.get_name()}'"
        if self.membership is not None:
            others = len(self.membership.processes()) - 1
            told = f"{told}\nprocess: {self.membership.record}, others: {others}"
        if self.store_failure is not None:
            told = f"{told}\nstorage: the store has failed: {self.store_failure}"
        server = self.server()
        return f"{told}\nstorage: {server}" if server else told

    def ask_end(self, *, drain: bool = True) -> None:
        """Ask for the end of the swarm, without waiting for it; idempotent.

        Args:
            drain: Whether agents and handlers may finish what is queued.
        """
        if not drain:
            self._end_all()
        elif self.phase is Phase.OPEN:
            self.phase = Phase.DRAINING
        if not self._end_asked.done():
            self._end_asked.set_result(None)
        cancel, self.cancel_body = self.cancel_body, None
        if cancel is not None:
            cancel()

    async def wait_ended(
        self, is_own: Callable[[], bool] = lambda: False
    ) -> asyncio.CancelledError | None:
        """Wait for the end of the swarm; return the first cancellation meanwhile.

        A caller that is cancelled gives the swarm no more time; cancelled once more,
        it waits no longer.

        Args:
            is_own: Whether a cancellation is the swarm's own, which does not count.
        """
        cancelled: asyncio.CancelledError | None = None
        with anyio.CancelScope() as scope:
            while not self.task.done():
                try:
                    await asyncio.wait([self.task])
                except asyncio.CancelledError as error:
                    if is_own():
                        continue
                    if cancelled is not None:
                        break
                    cancelled = error
                    scope.shield = True
                    self.ask_end(drain=False)
        return cancelled

    async def _run(self) -> None:
        """Wait until the end is asked for, then end the swarm."""
        try:
            await self._end_asked
            if self.phase is Phase.DRAINING:
                await self._drain()
        except asyncio.CancelledError:
            log.debug("the task of swarm %s was cancelled", self.name)
        except Exception as error:  # noqa: BLE001  # raised where the end is awaited
            self.report(error)
        await self._finish()

    async def _drain(self) -> None:
        """Let agents and handlers finish, for at most `drain_timeout` seconds."""
        when = self.now() + self.config.drain_timeout
        timer = self.clock.call_at(when, self._end_all)
        try:
            for attachment in self.attachments:
                attachment.end()
            drain = Drain(self.bus, self.table, self.supervisor)
            for failure in await drain.run(when):
                self.report(failure)
        finally:
            timer.cancel()

    async def _leave(self, membership: "Membership") -> None:
        """Say goodbye to the other processes: what this one holds is free at once.

        A server that does not answer delays the end for a few seconds at most: leases
        and heartbeats expire by themselves.
        """
        process = membership.id
        with anyio.move_on_after(_GOODBYE):
            try:
                await self.coordination.forget(lambda p: p == process, leases=True)
            except SwarmError as error:
                log.warning("process %s still holds something: %s", process, error)
            await membership.leave()

    def _end_all(self) -> None:
        if self.phase in (Phase.OPEN, Phase.DRAINING):
            self.phase = Phase.ENDING
        for attachment in self.attachments:
            attachment.end()
        self.supervisor.end_all("closed")
        self.bus.close()

    async def _finish(self) -> None:
        """End everything and wait until no task is left.

        A task that ignores its cancellations is left behind, with an error.
        """
        self._end_all()
        for callback in self._closing:
            callback()
        self._closing.clear()
        self.coordination.close(self.closed_error())
        self.pool.close()
        has_ended = False
        while not has_ended:
            try:
                await self.tasks.end(self.report)
                has_ended = True
            except asyncio.CancelledError:
                log.debug("the end of swarm %s was cancelled; it goes on", self.name)
        self.deadlines.close()
        if self.work is not None:
            await self.work.finish()
        if self.membership is not None:
            await self._leave(self.membership)
        if self._release is not None:
            try:
                await self._release()
            except Exception as error:  # noqa: BLE001  # raised where the end is awaited
                self.report(error)
        self.phase = Phase.CLOSED
