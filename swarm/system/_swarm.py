"""`Swarm`: a scope in which agents live."""

import asyncio
import warnings
from collections.abc import Callable, Iterable
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, Final, Literal, Self

from swarm.errors import Closed, DeadlockError
from swarm.kernel import MemoryKernel
from swarm.model import OWNER, check_choice, check_text, shown
from swarm.ports import (
    Clock,
    Entropy,
    Interceptor,
    Kernel,
    LoopClock,
    Tail,
    checked_interceptors,
)
from swarm.state import Policy
from swarm.system._agent_surfaces import AgentSurfaces
from swarm.system._attachments import Attachment, WorkAttachments
from swarm.system._config import SwarmConfig
from swarm.system._coordinator import Coordinator, OnFailure, Phase, log
from swarm.system._ending import Body
from swarm.system._notebook import end_previous, note_opened
from swarm.system._portal import Portal
from swarm.system._storage import schedule_snapshots
from swarm.system._surface import Surface
from swarm.system._views import Dashboard, DashboardApp, dashboard_package

if TYPE_CHECKING:
    from os import PathLike

    from swarm.storage import Opened, Snapshot, Storage
    from swarm.system._processes import Joined
    from swarm.system._recording import Recording

_MEMORY: Final = "memory://"


class Swarm(Surface):
    """A swarm of agents in this event loop.

    ```python
    async with Swarm() as swarm:
        ada = await swarm.spawn(Researcher, name="ada")
        print(await ada.ask(Researcher.research, "bees"))
    ```

    The block ends when its body does: agents finish what is queued, the youngest stops
    first, and no task is left. When the body raises, the agents are cancelled instead.
    An unhandled failure (of a tell, of `run`, of an agent without a
    supervisor) cancels the body and ends the block with an `ExceptionGroup`. What the
    body raises joins that group; a cancellation of the body gives way to it, and
    `SystemExit` and `KeyboardInterrupt` of the body win.

    `await Swarm.open(...)` and `await swarm.close()` do the same without a block.
    """

    def __init__(
        self,
        name: str = "default",
        storage: "Storage" = _MEMORY,
        *,
        config: SwarmConfig | None = None,
        policy: Policy | None = None,
        clock: Clock | None = None,
        seed: int | str | None = None,
        on_failure: OnFailure = "end",
        restore: "Snapshot | None" = None,
        reads: Literal["newest", "replica"] = "newest",
        interceptors: Iterable[Interceptor] = (),
    ) -> None:
        """Describe a swarm; `async with` opens it.

        Args:
            name: The swarm's name.
            storage: Where its tree lives: "memory://", "file:FOLDER",
                "sqlite:///FILE", "redis://HOST", a path, `Hybrid` or
                `Replicated`; see
                `swarm.storage`.
            config: Time-outs and limits.
            policy: Which role may read and write what; `Policy.default()` when None.
            clock: Where it takes the time from; the event loop when None.
            seed: What its ids and jitter come from; chance when None.
            on_failure: "end": an unhandled failure ends the swarm. "log": it is
                logged, and the other agents go on.
            restore: Begin with this snapshot, also one of another swarm; the storage
                must be new.
            reads: What reading sees of a tree on a server, which other processes
                change. "newest": every commit made before the call. "replica": what
                this process has at the moment, without asking the server; it never
                goes back, and has all that this process wrote. Without a server
                both mean the same.
            interceptors: What runs around asks, tells, turns, events and tasks; the
                first is outermost. See `Interceptor`.

        Raises:
            ValueError: No storage is known for this URL, or it has a wrong option; or
                the name is empty.
            TypeError: An argument has the wrong type.
        """
        check_text("the name of a swarm", name)
        if not name:
            raise ValueError("the name of a swarm is empty")
        if not (seed is None or type(seed) in (int, str)):
            raise TypeError(f"seed takes a whole number or text, not {shown(seed)}")
        check_choice("on_failure", on_failure, ("end", "log"))
        check_choice("reads", reads, ("newest", "replica"))
        if storage != _MEMORY:
            from swarm.storage import find_place

            find_place(storage)
        if restore is not None:
            from swarm.storage import Snapshot

            if not isinstance(restore, Snapshot):
                raise TypeError(
                    "restore= takes a Snapshot, as `swarm.snapshots.create` or `list` "
                    f"returns one, not {shown(restore)}"
                )
        if config is not None and not isinstance(config, SwarmConfig):
            raise TypeError(
                "config takes a SwarmConfig, as in SwarmConfig(ask_timeout=5), "
                f"not {config!r}"
            )
        if policy is not None and not isinstance(policy, Policy):
            raise TypeError(f"policy takes a Policy, not {policy!r}")
        if clock is not None and not isinstance(clock, Clock):
            raise TypeError(f"clock takes a Clock, not {clock!r}")
        self._name = name
        self._config = SwarmConfig() if config is None else config
        self._policy = Policy.default() if policy is None else policy
        self._clock = clock
        self._seed = seed
        self._on_failure: OnFailure = on_failure
        self._storage = storage
        self._restore = restore
        self._reads: Literal["newest", "replica"] = reads
        if isinstance(interceptors, Interceptor):
            raise TypeError("interceptors takes a list: interceptors=[...]")
        self._interceptors_given = tuple(interceptors)
        self._interceptors = checked_interceptors(self._interceptors_given)
        self._recordings: list[Recording] = []
        self._identity = OWNER
        self._body: Body | None = None
        self._is_opened = False

    if not TYPE_CHECKING:  # else each misspelled name would be an attribute

        def __getattr__(self, name: str) -> Coordinator:
            if name == "_coordinator":
                raise Closed(
                    f"swarm '{self._name}' is not open; use `async with` or open()"
                )
            # A property raised AttributeError, or there is none: that error again.
            return object.__getattribute__(self, name)

    def __repr__(self) -> str:
        coordinator: Coordinator | None = vars(self).get("_coordinator")
        if coordinator is None:
            return f"<Swarm '{self._name}' not open>"
        agents = len(coordinator.table.cells)  # of this process: works on any loop
        return f"<Swarm '{self._name}' {coordinator.phase.value}, agents: {agents}>"

    def __del__(self) -> None:
        coordinator: Coordinator | None = vars(self).get("_coordinator")
        is_open = coordinator is not None and coordinator.phase is Phase.OPEN
        if is_open and self._body is None:
            text = f"unclosed {self!r}: `await swarm.close()`, or `async with Swarm()`"
            warnings.warn(text, ResourceWarning, source=self, stacklevel=1)

    @property
    def name(self) -> str:
        """The swarm's name."""
        return self._name

    @classmethod
    async def open(
        cls,
        name: str = "default",
        storage: "Storage" = _MEMORY,
        *,
        config: SwarmConfig | None = None,
        policy: Policy | None = None,
        clock: Clock | None = None,
        seed: int | str | None = None,
        on_failure: OnFailure = "end",
        restore: "Snapshot | None" = None,
        reads: Literal["newest", "replica"] = "newest",
        interceptors: Iterable[Interceptor] = (),
        replace: bool = False,
    ) -> Self:
        """Open a swarm that is to be closed by `close`; arguments as for the class.

        An unhandled failure ends the swarm at once; `close` raises it, and
        until then every use raises `Closed` with it as the cause. In a notebook,
        `on_failure="log"` keeps the swarm going.

        With `replace=True`, the swarms of this name that were opened before in this
        event loop are ended first, at once, so that a notebook's cell can be run again.
        Their failures are logged.

        Raises:
            DeadlockError: The caller is an agent or handler of a swarm that is to be
                replaced.
            Exception: What the class raises.
        """
        if replace:
            await end_previous(name)
        swarm = cls(
            name,
            storage,
            config=config,
            policy=policy,
            clock=clock,
            seed=seed,
            on_failure=on_failure,
            restore=restore,
            reads=reads,
            interceptors=interceptors,
        )
        await swarm._start()
        return swarm

    async def _start(self) -> Coordinator:
        """Open the kernel and make the coordinator in the running loop."""
        if self._is_opened:
            raise Closed(f"swarm '{self._name}' was opened before; make a new one")
        self._is_opened = True
        clock = LoopClock() if self._clock is None else self._clock
        try:
            kernel, tail, stored = await self._open_kernel(clock)
            joined = await self._join(kernel, tail, stored, clock)
        except BaseException:
            self._is_opened = False
            raise
        self._coordinator = Coordinator(
            self._name,
            self._config,
            self._policy,
            AgentSurfaces,
            kernel if joined is None else joined.kernel,
            tail,
            clock,
            self._seed if joined is None else joined.seed,
            on_failure=self._on_failure,
            release=kernel.close,
            membership=None if joined is None else joined.membership,
            interceptors=self._interceptors,
        )
        try:
            await self._begin(joined, stored)
        except BaseException:
            self._is_opened = False
            self._coordinator.ask_end(drain=False)
            await self._coordinator.wait_ended()  # nothing stays open
            raise
        return self._coordinator

    async def _begin(self, joined: "Joined | None", stored: "Opened | None") -> None:
        """Begin what a swarm does beside its body, in the coordinator."""
        if joined is not None:
            from swarm.system._processes import Connection

            await Connection(self._coordinator, joined).open()
        if stored is not None:
            self._coordinator.keep(stored)
        load = partial(_load_work, self._coordinator)  # which does not keep this object
        self._coordinator.attachments.append(WorkAttachments(load))
        if stored is not None:
            from swarm.system._work import wake  # a hello world has nothing to wake

            await wake(self._coordinator)
        if self._config.snapshot_every is not None:
            schedule_snapshots(
                self._coordinator,
                self._config.snapshot_every,
                self._config.snapshot_keep,
            )
        for interceptor in self._interceptors_given:
            interceptor.opened(self)
        note_opened(self._coordinator)

    async def _open_kernel(self, clock: Clock) -> "tuple[Kernel, Tail, Opened | None]":
        """Open the store; a swarm in memory does not even import it."""
        if self._storage == _MEMORY and self._restore is None:
            kernel = MemoryKernel(clock, self._config.limits)
            return kernel, kernel, None
        from swarm.storage import open_kernel

        opened = await open_kernel(
            self._storage,
            self._name,
            clock,
            Entropy(self._seed),
            self._config.limits,
            restore=self._restore,
            reads=self._reads,
        )
        return opened.kernel, opened.tail, opened

    async def _join(
        self, kernel: Kernel, tail: Tail, opened: "Opened | None", clock: Clock
    ) -> "Joined | None":
        """Join the processes that share the tree, if others can."""
        if opened is None or opened.inboxes is None:
            return None
        from swarm.system._processes import join

        try:
            ttl = self._config.process_ttl
            return await join(kernel, tail, opened.inboxes, clock, ttl, self._seed)
        except BaseException:
            await kernel.close()
            raise

    async def close(self) -> None:
        """End the swarm: agents finish what is queued, stop, and no task is left.

        Idempotent; every caller waits for the end. A caller that is cancelled ends
        everything at once, waits for that, and raises then. Code that ignores its
        cancellation is left behind, with a `ShutdownTimeout` among the failures.

        Raises:
            ExceptionGroup: Unhandled failures; only the first time.
            DeadlockError: The caller is an agent, a handler, or a task of theirs; the
                end would wait for it. `await swarm.end()` does not wait.
            WrongLoop: Called from another event loop.
        """
        coordinator = self._coordinator
        cancelled = None
        if coordinator.phase is not Phase.CLOSED:
            coordinator.check_loop()
            self._check_outside(coordinator)
            coordinator.ask_end()
            cancelled = await coordinator.wait_ended()
        self._raise_failures(cancelled)
        if cancelled is not None:
            raise cancelled

    def _check_outside(self, coordinator: Coordinator) -> None:
        if coordinator.is_caller_inside():
            raise DeadlockError(
                f"code of swarm '{self._name}' cannot wait for its end, which "
                "waits for that code; `await swarm.end()` asks for the end instead"
            )

    def _raise_failures(self, error: BaseException | None) -> None:
        """Raise the unhandled failures, together with the body's own error.

        A cancellation of the body gives way; an exit or interrupt of the body wins.
        """
        failures = self._coordinator.take_failures()
        exits = [f for f in failures if isinstance(f, (SystemExit, KeyboardInterrupt))]
        if not failures:
            return
        if exits or isinstance(error, (SystemExit, KeyboardInterrupt)):
            for failure in failures:
                log.error("failure in swarm %s", self._name, exc_info=failure)
            if exits and error not in exits:
                raise exits[0]
            return
        is_own = error is not None and not any(error is each for each in failures)
        if is_own and not isinstance(error, (asyncio.CancelledError, GeneratorExit)):
            assert error is not None
            failures.append(error)
        raise BaseExceptionGroup(
            f"unhandled failures in swarm '{self._name}'", failures
        )

    async def __aenter__(self) -> Self:
        coordinator = await self._start()
        self._body = body = Body()
        coordinator.cancel_body = body.cancel
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> bool:
        coordinator, body = self._coordinator, self._body
        assert body is not None  # __aenter__ made it
        coordinator.cancel_body = None
        for recording in self._recordings:
            recording.body_ended(error)
        if isinstance(error, GeneratorExit) and not coordinator.loop.is_running():
            return False  # the program was abandoned; nothing can be awaited any more
        self._check_outside(coordinator)
        is_ours = body.is_cancelled and isinstance(error, asyncio.CancelledError)
        coordinator.ask_end(drain=error is None or is_ours)
        late = await coordinator.wait_ended(body.is_cancelled_by_swarm_only)
        is_cancelled_from_outside = body.leave()
        cancelled = error if isinstance(error, asyncio.CancelledError) else late
        if body.is_cancelled and not is_cancelled_from_outside:
            cancelled = None
        self._raise_failures(error if error is not None else cancelled)
        if cancelled is not None and cancelled is not error:
            raise cancelled
        return error is not None and is_ours and cancelled is None

    async def dashboard(
        self,
        *,
        port: int = 0,
        actions: bool = False,
        actor: str = "",
        tell: Callable[[str], object] | None = print,
    ) -> Dashboard:
        """Serve the dashboard from this event loop, and print the URL to open.

        It is served at 127.0.0.1 until its `close` or the end of the swarm. See
        `swarm.observability.dashboard` for its pages, its cost and its safety.

        Args:
            port: The port to listen on; 0: a free one.
            actions: Whether the pages may retry, cancel and resolve tasks, and pause
                and resume agents. Each action is a `dashboard.action` event.
            actor: Who does so, for those events; "": the user of this process.
            tell: What is called with the line that has the URL; None: nothing.

        Raises:
            ImportError: The extra is missing: pip install 'swarm-actors[dashboard]'.
            ValueError: The port is no number from 0 to 65,535.
            OSError: The port is taken.
            Closed: The swarm is closed.
            WrongLoop: Called from another event loop.
        """
        self._open()
        served: Dashboard = dashboard_package().serve(
            self, port, actions=actions, actor=actor
        )
        if tell is not None:
            tell(f"dashboard of swarm '{self._name}': {served.url}")
        return served

    def asgi(
        self,
        *,
        token: str | None = None,
        hosts: Iterable[str] = (),
        actions: bool = False,
        actor: str = "",
    ) -> DashboardApp:
        """Return the dashboard as an ASGI app, to be mounted in an app of yours.

        `app.mount("/swarm", dashboard := swarm.asgi())`, and the first visit is to
        `/swarm/?token=` and `dashboard.token`. It has to run in this event loop. A page
        that is open keeps its connection for up to a minute, so give a server that is
        to end sooner a time-out, such as uvicorn's `timeout_graceful_shutdown`.

        Args:
            token: What the first visit needs, 22 characters or more; None: a new one.
            hosts: The names of hosts that browsers reach it by, besides localhost and
                127.0.0.1: "example.org", or "example.org:8443" for one port only.
            actions: As for `dashboard`.
            actor: As for `dashboard`.

        Raises:
            ImportError: The extra is missing: pip install 'swarm-actors[dashboard]'.
            TypeError: `hosts` is one text, not several.
            ValueError: The token is too short, or a host is no name of a host.
            Closed: The swarm is closed.
            WrongLoop: Called from another event loop.
        """
        self._open()
        made: DashboardApp = dashboard_package().make_app(
            self, actions=actions, actor=actor, token=token, hosts=hosts
        )
        return made

    def record(self, path: "str | PathLike[str]") -> "Recording":
        """Write down this run, so that `swarm replay` can show it or make a test of it.

        The file gets what the program asks of the swarm from now on: agents it spawns,
        asks, tells, events it publishes, tasks it submits and documents it writes,
        each with its time, its result or error, and so the order of those that
        overlapped; which locks of agents expired; and at the end how the block ended,
        the unhandled failures, and the state. `swarm replay FILE --as-test` writes a
        test that asks the same of the same agents in many schedules, and fails when
        the recorded failure comes back.

        Not recorded: what agents get from elsewhere (I/O, chance, clocks of their
        own), locks, claims, handlers and streams of the program, agents that it stops
        or kills, the storage, the policy and interceptors. Handlers that were
        subscribed before are not slowed down. Arguments are written as they are, with
        the secrets in them, so a new file can be read by its user only; values that
        are no JSON, records, enums or refs are written as text.

        Args:
            path: The file, JSON lines; it is replaced.

        Returns:
            The recording; it ends with the swarm, or by `stop()`, or as a block.

        Raises:
            OSError: The file cannot be written.
            Closed: The swarm is not open.
        """
        from swarm.system._recording import Recording

        recording = Recording(self._open(), path)
        self._recordings.append(recording)
        return recording

    def portal(self) -> Portal:
        """Return the way into this swarm from other threads.

        Raises:
            Closed: The swarm is closed.
            WrongLoop: Called in another thread; hand the portal over instead.
        """
        return Portal(self._open())


def _load_work(coordinator: Coordinator) -> tuple[Attachment, ...]:
    """Return the parts that agents are attached to which serve or take handoffs."""
    from swarm.system._serving import Receivers, Servers

    return Servers(coordinator), Receivers(coordinator)
