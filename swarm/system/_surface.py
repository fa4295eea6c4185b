"""`Surface`: everything that one identity can do with an open swarm."""

from asyncio.events import _get_running_loop
from collections.abc import Callable, Iterable
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any, Final, Never, Self, TypeVar, TypeVarTuple

from swarm.agents import (
    Actor,
    Group,
    LocalRef,
    Ref,
    Registry,
    Restart,
    RestartGroup,
    SpawnOptions,
    Strategy,
    intercepted_spawn,
    refuse_unknown,
)
from swarm.bus import Events, SubscriptionScope
from swarm.coordination import (
    BarrierHandle,
    Barriers,
    Limiter,
    LockHandle,
    Locks,
    MultiAcquire,
    SemaphoreHandle,
    Semaphores,
)
from swarm.model import (
    ROOT,
    AgentIdentity,
    Displayable,
    Path,
    Priority,
    check_name,
)
from swarm.state import StateHandle
from swarm.system._coordinator import Coordinator, Phase
from swarm.system._explain import Explanation, explain_agents
from swarm.system._storage import flush, snapshots_of
from swarm.system._views import TimelineDrawing, TraceDrawing, observability

if TYPE_CHECKING:  # a hello world loads neither
    from swarm.storage import Snapshots
    from swarm.work import (
        Checkpoints,
        Context,
        Handoffs,
        HasTask,
        Pipelines,
        TaskInfo,
        Tasks,
    )

A = TypeVar("A", bound=Actor)
Ts = TypeVarTuple("Ts")

_OPEN: Final = Phase.OPEN


class Surface(Displayable):
    """An open swarm as one identity uses it."""

    _coordinator: Coordinator
    _identity: AgentIdentity
    _subscription_scope: SubscriptionScope | None = None

    @classmethod
    def bound_to(
        cls,
        coordinator: Coordinator,
        identity: AgentIdentity,
        scope: SubscriptionScope,
    ) -> Self:
        """Return the surface of this swarm for this identity, while `scope` lasts."""
        surface = cls.__new__(cls)
        vars(surface).update(
            _coordinator=coordinator, _identity=identity, _subscription_scope=scope
        )
        return surface

    if not TYPE_CHECKING:  # else each misspelled name would be an attribute

        def __getattr__(self, name: str) -> Any:
            if name == "close":
                raise AttributeError(
                    "code of an agent cannot close the swarm, which would wait for it; "
                    "`await self.swarm.end()` asks for the end"
                )
            # A property raised AttributeError, or there is none: that error again.
            return object.__getattribute__(self, name)

    def _open(self) -> Coordinator:
        """Return the coordinator of an open swarm."""
        coordinator = self._coordinator
        if (
            coordinator.phase is not _OPEN
            or _get_running_loop() is not coordinator.loop
        ):
            coordinator.check()
        return coordinator

    @property
    def identity(self) -> AgentIdentity:
        """The identity that this surface acts as."""
        return self._identity

    @cached_property
    def state(self) -> StateHandle:
        """The whole state, as this identity may see it."""
        return StateHandle(self._coordinator.store, self._identity, ROOT)

    @cached_property
    def events(self) -> Events:
        """The event bus, as this identity may use it."""
        coordinator = self._coordinator
        return Events(
            coordinator.publisher,
            coordinator.bus,
            self._identity,
            self._subscription_scope,
        )

    @cached_property
    def tasks(self) -> "Tasks":
        """The tasks: submit, claim, find, as this identity may."""
        from swarm.system._work import tasks_of

        return tasks_of(self._open(), self._identity)

    @cached_property
    def handoffs(self) -> "Handoffs":
        """The handoffs: offer and find, as this identity may."""
        from swarm.system._work import handoffs_of

        return handoffs_of(self._open(), self._identity)

    @cached_property
    def checkpoints(self) -> "Checkpoints":
        """The checkpoints of this identity and of the tasks it works on."""
        from swarm.system._work import checkpoints_of

        return checkpoints_of(self._open(), self._identity)

    @cached_property
    def pipelines(self) -> "Pipelines":
        """The pipelines: start, resume, cancel, as this identity may."""
        from swarm.system._work import pipelines_of

        return pipelines_of(self._open(), self._identity)

    async def context(
        self, task: "HasTask | str", *, limit: int | None = None
    ) -> "Context":
        """Return what to know of a task before working on it: `str()` is for a prompt.

        What is done, which agents work on what, and what to update; only what this
        identity may read.

        Args:
            task: The task: its id, claim or handle.
            limit: How many characters the text has at most; None: 8,000.

        Raises:
            NotFound: There is no such task.
            AccessDenied: This identity may not read it.
        """
        from swarm.system._work import context_for

        return await context_for(self._open(), self._identity, task, limit)

    @cached_property
    def snapshots(self) -> "Snapshots":
        """The snapshots of the whole tree, as this identity may use them."""
        return snapshots_of(self._open(), self._identity)

    async def flush(self) -> None:
        """Wait until everything committed so far would survive a power cut.

        Returns at once for a swarm in memory.

        Raises:
            StorageFailed: A write to the store has failed.
        """
        await flush(self._open())

    @property
    def agents(self) -> Registry:
        """The registry of living agents."""
        return self._coordinator.registry

    async def spawn(
        self,
        factory: Callable[[*Ts], A],
        /,
        *args: *Ts,
        name: str | None = None,
        capabilities: Iterable[str] = (),
        role: str | None = None,
        mailbox: int = 1024,
        restart: Restart | None = None,
        shutdown: float = 5.0,
        replace: bool = False,
        singleton: bool = False,
        **unknown: Never,
    ) -> Ref[A]:
        """Build an agent, run its `started`, announce it, and return a ref to it.

        All or nothing: what raises, or is cancelled, leaves no agent behind.

        Args:
            factory: What builds the agent, now and at every restart: its class, or a
                function that returns a new one each time.
            *args: What the factory is called with, as in `start_soon`.
            name: Its name, unique among the living; `<type>-<n>` when None.
            capabilities: What it can do, for `agents.find`.
            role: What a policy knows it as; its type when None.
            mailbox: How many requests may be queued.
            restart: When and how it is built anew after a failure that no asker
                receives. None: such a failure ends the swarm.
            shutdown: Seconds that its end may take: code that ignores its
                cancellation for longer is left behind, with an error.
            replace: Whether to stop an agent that has this name, and take its place.
            singleton: Whether at most one agent of this name lives over all processes
                that share the tree. While another process runs it, this one stands by
                and returns a ref to it; when that process has gone, one of the others
                starts it. Stopped, killed or failed for good, it is over for all.
            **unknown: None: arguments of the factory are positional.

        Raises:
            NameTaken: An agent of this name is alive, and `replace` is false.
            InvalidPath: The name cannot be a name in the tree.
            TypeError: The factory does not make an agent, or an option is unknown.
            Closed: The swarm is closed or closing.
            WrongLoop: Called from another event loop.
            Exception: What the factory or `started` raised.
        """
        refuse_unknown(factory, unknown)
        options = SpawnOptions(
            name=name,
            capabilities=capabilities,
            role=role,
            mailbox=mailbox,
            restart=restart,
            shutdown=shutdown,
            replace=replace,
            singleton=singleton,
        )
        return await self._spawn(factory, args, options)

    async def _spawn(
        self,
        factory: Callable[..., Any],
        args: tuple[Any, ...],
        options: SpawnOptions,
        group: RestartGroup | None = None,
    ) -> Ref[Any]:
        """Spawn an agent as this identity, with interceptors around."""
        spawn = partial(self._spawn_now, group)
        interceptors = self._coordinator.interceptors
        if interceptors is None or interceptors.spawn is None:
            return await spawn(factory, args, options)
        ref: Ref[Any] = await intercepted_spawn(
            interceptors.spawn, self._identity, factory, args, options, spawn
        )
        return ref

    async def _spawn_now(
        self,
        group: RestartGroup | None,
        factory: Callable[..., Any],
        args: tuple[Any, ...],
        options: SpawnOptions,
    ) -> Ref[Any]:
        """Spawn after the interceptors."""
        coordinator, spawner = self._coordinator, self._identity
        if options.singleton:
            options.check()
            name = options.name
            assert name is not None  # check() has seen to it
            if group is not None:
                raise TypeError(f"'{name}' is in a group, and cannot be a singleton")
            if coordinator.singletons is not None:
                spawning = (factory, args, options, spawner)
                return await coordinator.singletons.spawn(name, spawning)
            there = coordinator.registry.get(name)
            if there is not None:
                return there
        supervisor = coordinator.supervisor
        return LocalRef(await supervisor.spawn(factory, args, options, group, spawner))

    def group(
        self,
        name: str,
        *,
        strategy: Strategy = "one_for_one",
        max: int = 3,  # noqa: A002  # the word of DESIGN
        within: float = 60.0,
    ) -> Group:
        """Return a handle on the group of this name, made if it is not there.

        Args:
            name: Its name.
            strategy: Who is restarted when a member fails: "one_for_one",
                "one_for_all" or "rest_for_one".
            max: How many restarts `within` the window; one more fails the group.
            within: Length of the window in seconds.

        Raises:
            ConfigMismatch: It is there with another configuration.
            ValueError: The name is empty, or the configuration means nothing.
            Closed: The swarm is closed.
        """
        supervisor = self._open().supervisor
        check_name("the name of a group", name)
        group = RestartGroup(supervisor, name, strategy, max, within)
        return Group(supervisor.group(group), self._spawn)

    def lock(self, name: str) -> LockHandle:
        """Return a handle on the lock called `name`: any text, one name.

        `async with swarm.lock("x"):` holds it exclusively for the body.

        Raises:
            InvalidPath: The name is empty or too long.
        """
        return self._open().coordination.lock(self._identity, name)

    def __repr__(self) -> str:
        name, who = self._coordinator.name, self._identity.agent_id
        return f"<Surface of swarm '{name}' for '{who}'>"

    @property
    def locks(self) -> Locks:
        """All locks: their holders and their queues."""
        return self._open().coordination.locks(self._identity)

    def acquire_all(
        self,
        names: Iterable[str],
        *,
        ttl: float | None = None,
        timeout: float | None = None,
        priority: Priority = Priority.NORMAL,
        renew: bool = True,
    ) -> MultiAcquire:
        """Ask for several locks, exclusively: all of them, or none.

        `leases = await ...`, or `async with ... as leases:`; in the order of their
        names, in whatever order they are given, so that its callers cannot
        deadlock each other.

        Args:
            names: Which; a name given twice counts once.
            ttl: Seconds until the leases expire unless they are renewed.
            timeout: Seconds to wait for all of them together; None: for ever.
            priority: How urgent it is.
            renew: Whether to renew the leases while a body runs under them.

        Raises:
            LockTimeout: They were not all granted in time; none is held.
            DeadlockError: A holder that it would wait for waits for the caller.
            LeaseLost: One expired before the last was granted; none is held.
        """
        return self._open().coordination.acquire_all(
            self._identity,
            names,
            ttl=ttl,
            timeout=timeout,
            priority=priority,
            renew=renew,
        )

    def semaphore(self, name: str, capacity: int | None = None) -> SemaphoreHandle:
        """Return a handle on the semaphore called `name`.

        Args:
            name: Any text, one name.
            capacity: How many permits there are; may be left out once it is open.

        Raises:
            ConfigMismatch: It was opened with another capacity.
            ValueError: The capacity is less than 1, or is missing.
            TypeError: The capacity is not a whole number.
            InvalidPath: The name is empty or too long.
        """
        return self._open().coordination.semaphore(self._identity, name, capacity)

    @property
    def semaphores(self) -> Semaphores:
        """All semaphores: which permits are held and asked for, by which agent."""
        return self._open().coordination.semaphores(self._identity)

    def limiter(self, name: str, permits: int, *, per: float) -> Limiter:
        """Return a limiter: at most so many acquisitions begin in any `per` seconds.

        Acquisitions wait in order, first come first served:
        `async with swarm.limiter("api", 60, per=60): ...`; `acquire(timeout=...)` and
        `acquire_nowait()` are those of a semaphore.

        The window is that of the grants. On a store or a server a body begins as much
        later as the news of its grant takes; leave a margin for a service that is
        strict.

        Args:
            name: Any text, one name.
            permits: How many may begin in the window.
            per: The length of the window in seconds.

        Raises:
            ConfigMismatch: It was opened with other numbers.
            ValueError: A number is not above 0.
            InvalidPath: The name is empty or too long.
        """
        return self._open().coordination.limiter(self._identity, name, permits, per)

    def barrier(
        self,
        name: str,
        parties: int | None = None,
        action: Callable[[], object] | None = None,
    ) -> BarrierHandle:
        """Return a handle on the barrier called `name`.

        Args:
            name: Any text, one name.
            parties: How many arrivals trip it; may be left out once it is open.
            action: A synchronous function that is called once in each generation,
                when all parties have arrived and before one leaves.

        Raises:
            ConfigMismatch: It was opened for another number, or another action.
            ValueError: The number of parties is none, or is missing.
            InvalidPath: The name is empty or too long.
        """
        coordination = self._open().coordination
        return coordination.barrier(self._identity, name, parties, action)

    @property
    def barriers(self) -> Barriers:
        """All barriers: which parties have arrived, and how many are missing."""
        return self._open().coordination.barriers(self._identity)

    async def end(self) -> None:
        """Ask the swarm to end, from inside or outside, and return at once.

        Agents and handlers finish what is queued. The body of an `async with` is
        cancelled, and the block ends without an error.

        Raises:
            WrongLoop: Called from another event loop.
        """
        self._coordinator.check_loop()
        self._coordinator.ask_end()

    async def show(self, *, every: float = 0.25, timeout: float | None = None) -> None:
        """Show the swarm until it is idle; in a notebook, update the picture in place.

        Idle: no agent has a turn or a queued request, no handler of events runs, and
        no task is running, or pending with a worker that serves its kind. Outside of a
        notebook's kernel the swarm is printed as text, now and when it is idle.
        Cancelling it changes nothing.

        Args:
            every: Seconds between two updates: 0.25 or more.
            timeout: Seconds after which it returns although the swarm is not idle;
                None: never.

        Raises:
            Closed: The swarm is closed.
            DeadlockError: The caller is an agent or handler, which would wait for
                itself.
            ValueError: `every` is less than 0.25.
            WrongLoop: Called from another event loop.
        """
        self._open()
        await observability().show(self, every=every, timeout=timeout)

    def trace(self, task: "HasTask | TaskInfo | str") -> TraceDrawing:
        """Return what happened for a task, in order, as a sequence to be drawn.

        It has `text()`, `mermaid()`, `svg()` and `html()`, and a notebook shows it. It
        is made from the task's record and the log: attempts, durable steps, state
        writes, events, locks, handoffs and failures. Asks are in it only if
        `swarm.timeline()` was open at the time; see `swarm.observability.trace`.

        Args:
            task: The task: its id, handle, claim or record.

        Raises:
            NotFound: There is no such task, or the policy hides it.
        """
        found: TraceDrawing = observability().trace_of(self, task)
        return found

    def timeline(self, *, sample: float = 0.1) -> TimelineDrawing:
        """Record from now on what each agent does and waits for, to be drawn.

        `with swarm.timeline() as timeline:`, or call its `stop()`. It has `text()`,
        `mermaid()`, `svg()` and `html()`, and a notebook shows it. Turns and asks are
        recorded exactly, and cost more while a timeline is open, nothing otherwise;
        see `swarm.observability.Timeline`.

        Args:
            sample: Seconds between two looks at waits for locks, semaphores and
                barriers.

        Raises:
            Closed: The swarm is closed.
            ValueError: The sample is not above 0.
            WrongLoop: Called from another event loop.
        """
        self._open()
        opened: TimelineDrawing = observability().Timeline(self, sample=sample)
        return opened

    def explain(self) -> Explanation:
        """Return, as text, the turns, leases, waits and failures of all agents.

        It is a `str`, which a notebook shows in lines; the swarm itself, displayed in a
        notebook, shows the same in tables. What the policy hides from this identity is
        left out.
        """
        coordinator = self._coordinator
        may_read = coordinator.reader_of(self._identity)
        lines = explain_agents(coordinator, may_read)
        if coordinator.closed_error() is None:
            lines += coordinator.coordination.explain(self._identity)
            lines += coordinator.bus.describe()
            if coordinator.work is not None and (
                may_read is None or may_read(Path.of("global", "tasks"))
            ):
                lines += coordinator.work.describe()
        return Explanation("\n".join(lines))


def coordinator_of(surface: Surface) -> Coordinator | None:
    """Return the coordinator of a swarm, also of one that has ended; None: not open."""
    found: Coordinator | None = vars(surface).get("_coordinator")
    return found
