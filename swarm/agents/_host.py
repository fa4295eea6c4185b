"""The services that agents need from the system around them."""

import asyncio
from collections.abc import Awaitable, Callable, Hashable, Mapping
from typing import Any, Protocol

from swarm.agents._worker import WorkerPool
from swarm.coordination import Obstacle, WaitGraph
from swarm.model import AgentIdentity, Path
from swarm.ports import Deadlines, Interceptors, Pause, Plan, Runtime, System


class Host(System, Protocol):
    """The system as agents see it; the coordinator is one."""

    @property
    def runtime(self) -> Runtime:
        """The scheduling points and classes that a simulation replaces."""
        ...

    @property
    def pause(self) -> Pause | None:
        """The runtime's scheduling point; None in production."""
        ...

    @property
    def interceptors(self) -> Interceptors | None:
        """The interceptors that run around requests; None: there are none."""
        ...

    @property
    def around_turn(self) -> Callable[[Any, Any], Any] | None:
        """Makes the coroutine of a turn; None: a turn is its method and no more."""
        ...

    @property
    def is_direct(self) -> bool:
        """Whether a request has neither a scheduling point nor interceptors."""
        ...

    @property
    def now(self) -> Callable[[], float]:
        """`clock.monotonic`, without the way to it."""
        ...

    @property
    def origin(self) -> str:
        """This process, if others share the tree; "" otherwise."""
        ...

    @property
    def deadlines(self) -> Deadlines:
        """All deadlines."""
        ...

    @property
    def pool(self) -> WorkerPool:
        """The tasks in which agents run."""
        ...

    @property
    def graph(self) -> WaitGraph:
        """The wait-for graph."""
        ...

    @property
    def holding(self) -> Mapping[Hashable, object]:
        """The turns that hold locks, or held some; to be told of with `turn_ended`."""
        ...

    @property
    def leases(self) -> Mapping[str, object]:
        """All locks that are held, of the program and of every agent."""
        ...

    def turn_ended(self, turn: Hashable, /) -> None:
        """Take from a turn that has ended what it still holds."""
        ...

    @property
    def expected(self) -> Mapping[Any, None]:
        """The tasks that others may wait for though they hold nothing."""
        ...

    def session(self, task: "asyncio.Task[Any] | None" = None, /) -> Hashable:
        """Return a task that runs no turn as a party of the graph; default: this."""
        ...

    def expect(self, session: Any, /) -> None:
        """Note that others may wait for a task, though it holds nothing."""
        ...

    def asking_task(self, obstacle: Obstacle, /) -> Hashable | None:
        """Return the running task as a party, if others may wait for it.

        Others may wait for a task that holds nothing if they join it and would have
        to move before the obstacle goes away.
        """
        ...

    @property
    def ask_timeout(self) -> float:
        """Seconds an ask waits unless told otherwise; infinite for no limit."""
        ...

    @property
    def stream_window(self) -> int:
        """Maximum number of items that a stream may be ahead of its reader."""
        ...

    @property
    def commits_at_once(self) -> bool:
        """Whether there is `apply_now`: the tree is in this process."""
        ...

    def apply_now(
        self, author: AgentIdentity, rule: Callable[..., Plan], *arguments: Any
    ) -> None:
        """Do what `apply` does, at once."""
        ...

    async def apply(
        self, author: AgentIdentity, rule: Callable[..., Plan], *arguments: Any
    ) -> None:
        """Ask a rule and commit what it plans, as one step."""
        ...

    def check(self, *, spawning: bool = False) -> None:
        """Refuse use after the end (spawning: during it), or from another loop."""
        ...

    def check_spawn(self, spawner: AgentIdentity, name: str, role: str) -> None:
        """Refuse a spawner that may not spawn an agent of this name and role.

        Raises:
            AccessDenied: The policy does not allow it.
        """
        ...

    def check_end(self, identity: AgentIdentity, path: Path, *, forced: bool) -> None:
        """Refuse an identity that may not end, pause or replace an agent of others.

        Args:
            identity: The caller.
            path: Where the agent is registered.
            forced: Whether the agent gets no time to finish: it is killed or replaced.

        Raises:
            AccessDenied: The policy does not allow it.
        """
        ...

    def escalate(self, error: BaseException) -> None:
        """Take a failure that no supervisor dealt with: the system ends."""
        ...

    def report(self, error: BaseException) -> None:
        """Keep a failure for the end of the system, which goes on."""
        ...

    def leave_behind(self, task: "asyncio.Task[Any]") -> None:
        """Neither cancel nor await a task any more: it ignores cancellations."""
        ...

    def closed_error(self) -> Exception | None:
        """Return the `Closed` to raise, or None while the system is open."""
        ...

    def surfaces(self, identity: AgentIdentity) -> "Holdings":
        """Return what an agent is to hold of the swarm."""
        ...

    def attach(self, cell: Any) -> None:
        """Have an agent hear the events that its `@on` methods are for."""
        ...

    def detach(self, cell: Any) -> None:
        """Have an agent hear no more events; idempotent."""
        ...


class Holdings(Protocol):
    """The resources of an agent in the swarm, kept until the agent is built again."""

    def is_in_use(self) -> bool:
        """Return whether something would end with it."""
        ...

    def end(self) -> None:
        """End what was begun by it; nothing more is."""
        ...

    async def ended(self, reason: str) -> None:
        """Give back what is left of that, and wait until nothing of it runs.

        Args:
            reason: How the instance ended.
        """
        ...


class Supervision(Protocol):
    """The supervisor, as an agent, its refs and its groups see it."""

    @property
    def host(self) -> Host:
        """The system around it."""
        ...

    async def spawn(
        self,
        factory: Callable[..., Any],
        args: tuple[Any, ...],
        options: Any,
        group: Any = None,
    ) -> Any:
        """Spawn an agent; return its cell."""
        ...

    def group_of(self, cell: Any) -> Any:
        """Return the innermost group that an agent is in, or None."""
        ...

    def failed(self, cell: Any, error: BaseException, envelope: Any = None) -> None:
        """Take a failure that no asker receives, and the request in hand."""
        ...

    def interrupted(self, cell: Any) -> None:
        """Take note that something an agent left open has cancelled its own task."""
        ...

    async def revive(self, cell: Any, reason: str) -> None:
        """Build a halted agent anew and let it begin."""
        ...

    def end(self, cell: Any, reason: str) -> None:
        """End an agent now; every request it had accepted is decided."""
        ...

    def group(self, group: Any) -> Any:
        """Return the one group of this name."""
        ...

    def pause(self, cell: Any) -> Awaitable[None]:
        """Take up nothing more until `resume`."""
        ...

    def resume(self, cell: Any) -> Awaitable[None]:
        """Go on."""
        ...

    def kill(self, cell: Any) -> Awaitable[None]:
        """End an agent now; the awaitable is done when its tasks are."""
        ...

    async def stop(self, cell: Any, timeout: float | None) -> None:
        """Let an agent finish what is queued, then end it."""
        ...

    async def ended(self, cell: Any) -> str:
        """Wait until an agent has ended; return how."""
        ...
