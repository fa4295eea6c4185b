"""What locks, semaphores and barriers of one swarm share: how they commit and look.

Every operation is a coroutine that awaits nothing but its commits. `Core.run` alone
knows whether the kernel answers at once or is a round trip away.
"""

# Some of what is private to users is shared by the files of this package.
# ruff: noqa: SLF001

import asyncio
from collections.abc import Callable, Coroutine, Hashable
from functools import partial
from typing import TYPE_CHECKING, Any, Final, TypeVar

from swarm.coordination._names import CoordinationRights
from swarm.coordination._sessions import Life, Session, Sessions
from swarm.coordination._wait_graph import WaitGraph
from swarm.errors import Closed
from swarm.model import AgentIdentity, Commit, Document, Path
from swarm.ports import (
    Clock,
    Deadlines,
    Entropy,
    Kernel,
    LocalKernel,
    Runtime,
    View,
    current_runtime,
)

if TYPE_CHECKING:
    from swarm.coordination._lease import Lease

R = TypeVar("R")

_MARGIN: Final = 2e-6  # lest rounding ring us just before the time

FOLDERS: Final = frozenset(("locks", "semaphores", "barriers"))


class Alarm:
    """One time at which a lease, a waiter or a record is looked at.

    It rings for its owner unless the owner has dropped it, or has another one by then.
    """

    __slots__ = ("deadline", "owner")

    def __init__(self, deadline: float, owner: Any) -> None:
        """Ring at a monotonic time for `owner`, whose `_alarm` this is."""
        self.deadline: float = deadline
        self.owner: Any = owner

    def is_decided(self) -> bool:
        """Return whether it is not to ring any more."""
        return self.owner is None

    def expire(self) -> None:
        """Ring."""
        owner, self.owner = self.owner, None
        owner._alarm = None
        owner._ring()


class Core:
    """What locks, semaphores and barriers of one swarm share.

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
        find: Returns the document at a path as this process has it.
        apply_now: The kernel's own `apply_one_now`, if it answers at once.
        has_others: Whether another process was seen to hold or want something.
        is_committing: Whether this coordination commits just now, and tells its own.
        on_commit: Told of each commit of others; on a distant kernel, of every one.
        origin: The process, with which the id of each request begins.
    """

    def __init__(
        self,
        kernel: Kernel,
        tail: Any,
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
        self._replica: Any = tail if self._local is None else self._local
        self.find: Callable[[Path], Document | None] = self._replica.find_now
        self.apply_now: Callable[..., tuple[int, Any]] | None = None
        if self._local is not None:
            self.apply_now = self._local.apply_one_now
        self.graph = graph
        self.now: Callable[[], float] = clock.monotonic
        self._deadlines: Deadlines = Deadlines(clock)
        self.life = life
        self.rights = rights
        self.sessions: Sessions = Sessions(self._session_ended, life.running_turn)
        self.sessions.process = origin
        self.waiters: dict[str, Any] = {}
        self.leases: dict[str, Lease] = {}
        self.watchers: dict[str, Callable[[Document, Commit], None]] = {}
        self.is_committing: bool = False
        self.on_commit: Callable[[Commit], object] | None = None
        self.has_others: bool = self._local is None or self.look(_has_people)
        self._tasks: set[asyncio.Task[Any]] = set()
        self._closed: Exception | None = None
        self.origin: str = origin or entropy.identifier()
        self._count = 0
        self._ignore: Callable[[], None] = tail.listen(
            self._heard, documents=True, folders=FOLDERS
        )

    def new_id(self) -> str:
        """Return an id that was never used before, in any process."""
        if self._closed is not None:
            raise self._new_error()
        self._count += 1
        return f"{self.origin}-{self._count}"

    # --- committing -------------------------------------------------------------------

    async def commit(
        self, author: AgentIdentity, path: Path, rule: Any, request: Any
    ) -> tuple[int, Any]:
        """Apply a rule of one record; return the revision and the outcome.

        It suspends only on a kernel that is a round trip away.
        """
        if self.apply_now is None:
            return await self.kernel.apply_one(author, path, rule, request)
        self.is_committing = True
        try:
            return self.apply_now(author, path, rule, request)
        finally:
            self.is_committing = False

    async def commit_plan(
        self, author: AgentIdentity, plan: Any, *arguments: Any
    ) -> Any:
        """Apply a plan; return its outcome. It suspends as `commit` does."""
        if self._local is None:
            _, outcome = await self.kernel.apply(author, plan, *arguments)
            return outcome
        self.is_committing = True
        try:
            return self._local.apply_now(author, plan, *arguments)[1]
        finally:
            self.is_committing = False

    def run(self, operation: Coroutine[Any, Any, R]) -> "R | asyncio.Task[R]":
        """Do an operation; return what it came to, or the task that does it.

        With a kernel that answers at once it is over when this returns. With one that
        is a round trip away it runs in a task of its own, whatever happens to the
        caller, so that it cannot be cancelled halfway.
        """
        if self._local is None:
            task = self.loop.create_task(operation, name="swarm lease")
            self._tasks.add(task)
            task.add_done_callback(self._done)
            return task
        try:
            operation.send(None)
        except StopIteration as end:
            result: R = end.value
            return result
        raise AssertionError("an operation waited for more than its commits")

    async def finish(self, operation: Coroutine[Any, Any, R]) -> R:
        """Do an operation, and return what it came to; cancelled, it goes on."""
        outcome = self.run(operation)
        if isinstance(outcome, asyncio.Task):
            return await asyncio.shield(outcome)
        return outcome

    async def settle(self, task: "asyncio.Task[R]", undo: Callable[[R], object]) -> R:
        """Return what a task comes to; cancelled meanwhile, have it undone."""
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            task.add_done_callback(partial(_undo, undo))
            raise

    def _done(self, task: "asyncio.Task[Any]") -> None:
        self._tasks.discard(task)
        if not task.cancelled():
            task.exception()  # seen: a caller that waits for it gets it

    def set_alarm(self, owner: Any, delay: float) -> None:
        """Have `owner._ring` called after so many seconds, and not when it was to be.

        With `owner._alarm = None` it is not called.
        """
        before = owner._alarm
        if before is not None:
            before.owner = None
        owner._alarm = alarm = Alarm(self.now() + delay + _MARGIN, owner)
        self._deadlines.add(delay, alarm)

    # --- looking ----------------------------------------------------------------------

    def look(self, look: Callable[..., R], *arguments: Any) -> R:
        """Return `look(view, *arguments)` over the tree as this process has it."""
        found: R = self._replica.read_now(look, *arguments)
        return found

    def kernel_now(self) -> int:
        """Return kernel time in microseconds."""
        return self.look(_now)

    @property
    def is_local(self) -> bool:
        """Whether the kernel answers at once."""
        return self._local is not None

    def _heard(self, commit: Commit) -> None:
        """See what another process has committed."""
        if self.is_committing:
            return
        for document in commit.documents:
            segments = document.path.segments
            if segments[0] in FOLDERS and self._closed is None:
                self.has_others = True
                self.watchers[segments[0]](document, commit)
        if self.on_commit is not None and self._closed is None:
            self.on_commit(commit)

    # --- sessions ---------------------------------------------------------------------

    def party_of(self, id: str) -> Hashable | None:  # noqa: A002
        """Return the party under whose body a lease is; None: it cannot be told.

        Without a body, any task may give it back.
        """
        lease = self.leases.get(id)
        if lease is None or lease._inside is None:
            return None
        return lease._inside.party

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
        self._deadlines.close()
        for task in self._tasks:
            task.cancel()
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


def _undo(undo: Callable[[Any], object], task: "asyncio.Task[Any]") -> None:
    if not task.cancelled() and task.exception() is None:
        undo(task.result())


def _has_people(view: View) -> bool:
    return any(True for folder in FOLDERS for _ in view.documents(Path.of(folder)))


def _now(view: View) -> int:
    return view.now
