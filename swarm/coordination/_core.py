"""The base of locks, semaphores and barriers: sessions and commits.

A session is the turn of an agent, or else an asyncio task; child tasks of a turn are
sessions of their own, since one may well wait for what another holds. When a session
ends, the leases it still holds are taken from it (semantics.md, L19), except for a
lease that a task returns, as `asyncio.gather(lock.acquire(), …)` does: such a lease
belongs to no session until it is entered.

Every operation is a coroutine that awaits nothing but its commits. `Core.run` alone
knows whether the kernel answers at once or is a round trip away.
"""

# Some of what is private to users is shared by the files of this package.
# ruff: noqa: SLF001

import asyncio
from collections.abc import Callable, Coroutine, Hashable
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeVar

from swarm.coordination._alarms import Alarmed, AlarmHeap
from swarm.coordination._terms import CoordinationRights
from swarm.coordination._wait_graph import WaitGraph
from swarm.errors import Closed
from swarm.model import AgentIdentity, Commit, Document, Path
from swarm.ports import (
    Clock,
    Entropy,
    Kernel,
    LocalKernel,
    Runtime,
    ShieldedOperation,
    Standing,
    Tail,
    View,
    current_activity,
    current_runtime,
    task_getter,
)

if TYPE_CHECKING:
    from swarm.coordination._lease import Lease
    from swarm.coordination._waiting import Waiter

R = TypeVar("R")

FOLDERS: Final = frozenset(("locks", "semaphores", "barriers"))


class Life(Protocol):
    """The facts about agents that coordination asks the system for."""

    def running_turn(self) -> Hashable | None:
        """Return the turn whose own task is running this, or None."""
        ...

    def standing(self, turn: Hashable) -> Standing | None:
        """Return where a turn is suspended; None: it runs, or is no turn."""
        ...

    def is_leaving(self, turn: Hashable) -> bool:
        """Return whether a turn is to be cancelled, for its asker has left."""
        ...


class NoAgents:
    """A `Life` without agents: every session is a task."""

    def running_turn(self) -> None:
        """Return None."""

    def standing(self, turn: Hashable) -> None:
        """Return None."""

    def is_leaving(self, turn: Hashable) -> bool:  # noqa: ARG002
        """Return False."""
        return False


class Session:
    """One turn or task that holds a lease, has held one, or waits for one.

    Attributes:
        name: Its text in messages.
        party: What it is in the wait-for graph.
        task: The task it is; None for a turn, and for a callback.
        leases: What it holds (`Lease`), by id.
        bodies: The leases under which bodies run in it, if it is a turn or if another
            session holds them.
        is_turn: Whether it is a turn, whose askers wait for it.
        is_expected: Whether others may wait for it though it holds nothing.
    """

    __slots__ = (
        "__weakref__",
        "bodies",
        "is_expected",
        "is_turn",
        "leases",
        "name",
        "party",
        "task",
    )

    def __init__(
        self,
        name: str,
        party: Hashable | None = None,
        task: asyncio.Task[Any] | None = None,
    ) -> None:
        """Begin, holding nothing; a turn is the party that it is for its askers."""
        self.name: str = name
        self.task: asyncio.Task[Any] | None = task
        self.party: Hashable = self if party is None else party
        self.leases: dict[str, Lease] = {}
        self.bodies: dict[Lease, None] = {}
        self.is_turn: bool = party is not None
        self.is_expected: bool = False

    def is_nobody(self) -> bool:
        """Return whether this has no end: it keeps what an ended one has returned."""
        return self.task is None and not self.is_turn

    def is_running(self) -> bool:
        """Return whether its task waits for nothing."""
        return getattr(self.task, "_fut_waiter", None) is None and not self.is_turn

    def __str__(self) -> str:
        return self.name


class Sessions:
    """The sessions of one swarm.

    Attributes:
        expected: Those for which others may wait though they hold nothing.
        of_turns: The sessions of turns; the system ends them with `end_turn`.
        process: This process, if others share the tree: names of sessions say it.
    """

    __slots__ = (
        "_count",
        "_end",
        "_of_tasks",
        "_task",
        "_turn",
        "expected",
        "of_turns",
        "process",
    )

    def __init__(
        self,
        end: Callable[[Session, object], None],
        turn: Callable[[], Hashable | None],
    ) -> None:
        """Begin with none.

        Args:
            end: Called with each session that ended while it held something, and with
                what it returned.
            turn: Returns the turn whose own task is running, or None.
        """
        self._end = end
        self._turn = turn
        self._task = task_getter(asyncio.get_running_loop())
        self._of_tasks: dict[asyncio.Task[Any], Session] = {}
        self.of_turns: dict[Hashable, Session] = {}
        self.expected: dict[Session, None] = {}
        self.process: str = ""
        self._count = 0

    def __len__(self) -> int:
        """Return how many there are."""
        return len(self._of_tasks) + len(self.of_turns)

    def current(self) -> Session:
        """Return the session of the code that is running."""
        if current_activity.get() is not None:
            turn = self._turn()
            if turn is not None:
                session = self.of_turns.get(turn)
                if session is None:
                    session = self.of_turns[turn] = Session(
                        self._named(str(turn)), turn
                    )
                return session
        task = self._task()
        if task is None:
            return Session("a callback")  # nothing tells when it ends
        return self._of_tasks.get(task) or self.of_task(task)

    def of_task(self, task: "asyncio.Task[Any]") -> Session:
        """Return the session of a task that runs no turn."""
        session = self._of_tasks.get(task)
        if session is None:
            session = self._of_tasks[task] = Session(
                self._named(task_name(task)), task=task
            )
            task.add_done_callback(self._task_ended)
        return session

    def _named(self, name: str) -> str:
        """Return what a session is called: no other session of any process is."""
        if not self.process:
            return name
        self._count += 1
        return f"{name}, {self._count} in process {self.process}"

    def find(self, task: "asyncio.Task[Any]") -> Session | None:
        """Return the session of a task, if it has one already."""
        return self._of_tasks.get(task)

    def expect(self, session: Session) -> None:
        """Note that others may wait for a session."""
        if not session.is_turn and not session.is_nobody():
            session.is_expected = True
            self.expected[session] = None

    def _task_ended(self, task: asyncio.Task[Any]) -> None:
        session = self._of_tasks.pop(task)
        self.expected.pop(session, None)
        if session.leases:
            is_lost = task.cancelled() or task.exception() is not None
            self._end(session, None if is_lost else task.result())

    def end_turn(self, turn: Hashable) -> None:
        """Note that a turn has ended."""
        session = self.of_turns.pop(turn, None)
        if session is None:
            return
        for lease in tuple(session.bodies):
            lease._abandon()
        if session.leases:
            self._end(session, None)


def task_name(task: "asyncio.Task[Any]") -> str:
    """Return what a task is called in messages."""
    return f"task '{task.get_name()}'"


class Core:
    """The state that locks, semaphores and barriers of one swarm share.

    Attributes:
        kernel: Where the documents are.
        graph: Which party waits for which.
        life: What is known of agents.
        rights: Which identity may hold what.
        sessions: The turns and tasks that hold something.
        waiters: The calls that wait (`Waiter`), by the id of the request.
        leases: What is held here, by id.
        watchers: By folder: what to do about a document that another process wrote.
        pause: A scheduling point to await in front of an operation, or None.
        now: Monotonic seconds.
        set_alarm: Sets the alarm of a lease, a waiter or a record; see `AlarmHeap.set`.
        find: Returns the document at a path as this process has it.
        kernel_now: Returns kernel time in microseconds.
        is_local: Whether the kernel answers at once.
        commit: Applies a rule of one record, as the kernel's `apply_one` does. It
            suspends only on a kernel that is a round trip away.
        apply_now: The kernel's own `apply_one_now`, if it answers at once.
        listener: What hears the commits of others; own ones are not for it, but on a
            distant kernel: they may be those of the process's end and new beginning.
        has_others: Whether another process was seen to hold or want something.
        origin: The process, with which the id of each request begins.
    """

    def __init__(
        self,
        kernel: Kernel,
        tail: Tail,
        clock: Clock,
        entropy: Entropy,
        graph: WaitGraph,
        life: Life,
        rights: CoordinationRights,
        runtime: Runtime | None,
        origin: str = "",
    ) -> None:
        """Begin with nothing held and nothing waiting."""
        self.loop: asyncio.AbstractEventLoop = asyncio.get_running_loop()
        self.runtime: Runtime = current_runtime() if runtime is None else runtime
        self.pause: Callable[[], Any] | None = self.runtime.pause
        self.kernel = kernel
        self._local: LocalKernel | None = kernel.local
        self.is_local: bool = self._local is not None
        self._replica: Tail | LocalKernel = tail if self._local is None else self._local
        self.find: Callable[[Path], Document | None] = self._replica.find_now
        self.kernel_now: Callable[[], int] = self._replica.now
        self.keep_up: Callable[[Callable[[], float | None]], None] = tail.keep_up
        self.hurry: Callable[[], None] = tail.hurry
        self.listen: Callable[..., Callable[[], None]] = tail.listen
        self.apply_now: Callable[..., tuple[int, Any]] | None = None
        self.commit: Callable[..., Coroutine[Any, Any, tuple[int, Any]]]
        self.commit = kernel.apply_one
        if self._local is not None:
            self.apply_now = self._local.apply_one_now
            self.commit = self._commit_now
        self.graph = graph
        self.now: Callable[[], float] = clock.monotonic
        self._alarms = AlarmHeap(clock)
        self.set_alarm: Callable[[Alarmed, float], None] = self._alarms.set
        self.life = life
        self.rights = rights
        self.sessions: Sessions = Sessions(self._session_ended, life.running_turn)
        self.sessions.process = origin
        self.waiters: dict[str, Waiter] = {}
        self.leases: dict[str, Lease] = {}
        self.watchers: dict[str, Callable[[Document, Commit], None]] = {}
        self.has_others: bool = self._local is None or self.look(_has_people)
        self._operations: set[ShieldedOperation[Any]] = set()
        self._closed: Exception | None = None
        self.origin: str = origin or entropy.identifier()
        self._count = 0
        self.listener: Callable[[Commit], None] = self._heard
        self._ignore: Callable[[], None] = tail.listen(
            self.listener, documents=True, folders=FOLDERS
        )

    def new_id(self) -> str:
        """Return an id that was never used before, in any process."""
        if self._closed is not None:
            raise self._new_error()
        self._count += 1
        return f"{self.origin}-{self._count}"

    # --- committing -------------------------------------------------------------------

    async def _commit_now(
        self, author: AgentIdentity, path: Path, rule: Any, request: Any
    ) -> tuple[int, Any]:
        assert self.apply_now is not None  # or this would not be called
        return self.apply_now(author, path, rule, request, self.listener)

    async def commit_plan(
        self, author: AgentIdentity, plan: Any, *arguments: Any
    ) -> Any:
        """Apply a plan; return its outcome. It suspends as `commit` does."""
        if self._local is None:
            _, outcome = await self.kernel.apply(author, plan, *arguments)
            return outcome
        listener = self.listener
        return self._local.apply_now(author, plan, *arguments, unheard=listener)[1]

    def run(self, operation: Coroutine[Any, Any, R]) -> R | ShieldedOperation[R]:
        """Do an operation; return what it came to, or the operation that has begun.

        With a kernel that answers at once it is over when this returns. With one that
        is a round trip away it goes on by itself, whatever happens to the caller, so
        that it cannot be cancelled halfway.
        """
        if self._local is None:
            return ShieldedOperation(operation, self.loop, self._operations)
        return _at_once(operation)

    async def finish(self, operation: Coroutine[Any, Any, R]) -> R:
        """Do an operation, and return what it came to; cancelled, it goes on."""
        if self._local is None:
            return await ShieldedOperation(
                operation, self.loop, self._operations
            ).outcome()
        return _at_once(operation)

    # --- looking ----------------------------------------------------------------------

    def look(self, look: Callable[..., R], *arguments: Any) -> R:
        """Return `look(view, *arguments)` over the tree as this process has it."""
        found: R = self._replica.read_now(look, *arguments)
        return found

    def _heard(self, commit: Commit) -> None:
        """See what another process has committed."""
        for document in commit.documents:
            segments = document.path.segments
            if segments[0] in FOLDERS and self._closed is None:
                self.has_others = True
                self.watchers[segments[0]](document, commit)

    # --- sessions ---------------------------------------------------------------------

    def _session_ended(self, session: Session, result: object) -> None:
        """Take from a session what it still holds, but for what it has returned."""
        returned = result if isinstance(result, (tuple, list)) else (result,)
        for id in tuple(session.leases):  # noqa: A001
            lease = self.leases.get(id)
            if lease is None:
                continue  # taking away another one has ended it
            if lease._body is None and any(each is lease for each in returned):
                self.move(lease, Session(f"the receiver of a lease from {session}"))
            else:
                lease._manager.orphan(lease, f"{session} ended without releasing it")

    def move(self, lease: "Lease", session: Session) -> None:
        """Have another session hold a lease."""
        del lease._session.leases[lease.id]
        lease._session = session
        session.leases[lease.id] = lease

    def close(self, error: Exception | None = None) -> None:
        """Wake every waiter with `Closed`; idempotent (G12)."""
        if self._closed is not None:
            return
        self._closed = Closed("the swarm is closed") if error is None else error
        self._ignore()
        self._alarms.clear()
        for operation in tuple(self._operations):
            operation.cancel()
        for waiter in tuple(self.waiters.values()):
            waiter.fail(self._new_error())
        for lease in self.leases.values():
            lease._session.leases.clear()
            lease._close()
        self.leases.clear()

    def _new_error(self) -> Exception:
        """Return an error that says why this is closed, for one caller to raise.

        Raised by several, one and the same would gather the tracebacks of all.
        """
        why = self._closed
        assert why is not None  # or nothing would ask
        error = Closed(*why.args)
        error.__cause__ = why.__cause__
        return error


def _has_people(view: View) -> bool:
    return any(True for folder in FOLDERS for _ in view.documents(Path.of(folder)))


def _at_once(operation: Coroutine[Any, Any, R]) -> R:
    """Return what an operation on a kernel that answers at once comes to."""
    try:
        operation.send(None)
    except StopIteration as end:
        result: R = end.value
        return result
    raise AssertionError("an operation waited for more than its commits")
