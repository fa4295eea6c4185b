"""The one way to wait (semantics.md, 2.0), and what all primitives share.

A waiter is an object for each call. The rules decide about it; the process that
commits a decision tells the waiter, and another process sees the commit in the log. Its
time-out is an alarm that asks the rule, and acts only on a waiter that still waits.
The waiting code has only its own cancellation to handle: in the queue, the request is
taken out, and those behind it are looked at again; already granted, the grant is
passed on.

Every operation is written once, as a generator of steps: it yields what to commit and
is sent the outcome. `Core.run` alone knows whether the kernel answers at once or is a
round trip away; then the steps run in a task of their own, which cannot be cancelled
halfway.

Futures of asyncio are used directly: an event of anyio costs ten times as much.
"""

# Some of what is private to users is shared by the files of this package.
# ruff: noqa: SLF001

import asyncio
import math
from collections.abc import Callable, Generator, Hashable, Iterable
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeAlias, TypeVar

from swarm.coordination._alarms import Alarms, Slot
from swarm.coordination._names import CoordinationRights
from swarm.coordination._sessions import Life, Session, Sessions
from swarm.coordination._wait_graph import WaitGraph
from swarm.errors import Closed, DeadlockError
from swarm.model import Commit, Document, Path
from swarm.ports import (
    Clock,
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

Steps: TypeAlias = Generator[tuple[Any, ...], tuple[int, Any], R]
"""An operation: it yields `(author, path, rule, request)` for a rule of one record, or
`(author, None, rule, arguments)` for a plan, and is sent revision and outcome."""

FOLDERS: Final = frozenset(("locks", "semaphores", "barriers"))


class WaitPlace(Protocol):
    """Where waiters wait: the locks, the semaphores, a barrier."""

    def time_out(self, waiter: "Waiter") -> object:
        """Fail a waiter if the rule says that it still waits."""
        ...

    def withdraw(self, waiter: "Waiter") -> object:
        """Take a waiter that gives up out of the record."""
        ...

    def blockers(self, waiter: "Waiter") -> Iterable[Hashable]:
        """Return the parties that must move before the waiter can."""
        ...

    def describe(self, waiter: "Waiter") -> str:
        """Return what is waited for, and which parties stand in the way."""
        ...

    def has_followers(self, waiter: "Waiter") -> bool:
        """Return whether a waiter may stand ahead of others."""
        ...


class Waiter:
    """One call that waits. An obstacle of the wait-for graph, and an alarm.

    Attributes:
        id: The id of its request.
        spec: What it asked for.
        session: The session that waits.
        since: Since when, in monotonic seconds.
        is_decided: Whether it has its result or its error.
        has_left: Whether it was cancelled and withdraws; a grant is passed on.
        pass_on: What gives its result back when it was cancelled.
        place: Where it waits.
        upgrades: The lease that it would make exclusive, or "".
        error: What it fails with once its time-out is through, or None.
    """

    _slot: "Slot | None" = None
    is_decided: bool = False
    has_left: bool = False
    upgrades: str = ""
    error: Any = None

    def __init__(
        self,
        core: "Core",
        place: WaitPlace,
        id: str,  # noqa: A002
        spec: Any,
        session: Session,
        pass_on: Callable[[Any], object],
    ) -> None:
        """Wait in `place`; when cancelled with a result, `pass_on` gives it back."""
        self._core = core
        self.place: WaitPlace = place
        self.id: str = id
        self.spec: Any = spec
        self.session: Session = session
        self.pass_on: Callable[[Any], object] = pass_on
        self.since: float = core.now()
        self._future: asyncio.Future[Any] = core.loop.create_future()
        core.waiters[id] = self

    @property
    def party(self) -> Hashable:
        """The party that waits, in the wait-for graph."""
        return self.session.party

    def is_over(self) -> bool:
        """Return whether it is decided, or was cancelled and has to hear of it."""
        return self.is_decided or self._future.done()

    def succeed(self, result: Any) -> bool:
        """Give it what it waits for; False: it was cancelled in this very loop turn.

        Then the caller has to `pass_on` the result.
        """
        self.is_decided = True
        self._core.graph.leave(self.session.party, self)
        if self._future.done():
            return False
        self._future.set_result(result)
        return True

    def fail(self, error: Exception) -> None:
        """End its wait in vain."""
        self.is_decided = True
        if not self._future.done():
            self._future.set_exception(error)

    def discard(self) -> None:
        """Forget it: it was not needed after all."""
        self.is_decided = True
        self._core.waiters.pop(self.id, None)
        if self._future.done() and not self._future.cancelled():
            self._future.exception()  # seen

    def give_up(self, error: Exception) -> None:
        """End its wait in vain, if it still waits."""
        if not self.is_decided:
            self.place.withdraw(self)
            self.fail(error)

    def _ring(self) -> None:
        """Be too late, if the rule says so."""
        self.place.time_out(self)

    def blockers(self) -> Iterable[Hashable]:
        """Return the parties that must move before it can; once decided, it can."""
        return () if self.is_over() else self.place.blockers(self)

    def has_followers(self) -> bool:
        """Return whether it may stand ahead of others."""
        return self.place.has_followers(self)

    def describe_wait(self) -> str:
        """Return what is waited for, since when, and which parties hold it up."""
        return self.place.describe(self)

    async def wait(
        self,
        timeout: float | None,
        error: type[DeadlockError] = DeadlockError,
    ) -> Any:
        """Wait until it is decided; see the top of this module.

        Args:
            timeout: Seconds, or None: for ever.
            error: What is raised when the wait would close a cycle.

        Raises:
            DeadlockError: a party that it would wait for waits for it.
            Exception: what it was failed with.
        """
        core, future, party = self._core, self._future, self.session.party
        graph = core.graph
        try:
            cycle = graph.find_cycle(party, self)
            if cycle:
                raise error(cycle=cycle)  # noqa: TRY301
            graph.note(party, self)
            if timeout is not None and timeout < math.inf:
                core.alarms.set(self, timeout)
            return await future
        except BaseException:
            if not self.is_decided:
                self.is_decided = self.has_left = True
                self.place.withdraw(self)
            elif (
                future.done() and not future.cancelled() and future.exception() is None
            ):
                self.pass_on(future.result())
            graph.leave(party, self)
            raise
        finally:
            core.waiters.pop(self.id, None)
            if self._slot is not None:
                core.alarms.discard(self)


class Core:
    """What locks, semaphores and barriers of one swarm share.

    Attributes:
        kernel: Where the documents are.
        graph: Which party waits for which.
        alarms: What happens when.
        life: What is known of agents.
        rights: Which identity may hold what.
        sessions: The turns and tasks that hold something.
        waiters: The calls that wait, by the id of the request.
        leases: What is held here, by id.
        watchers: By folder: what to do about a document that another process wrote.
        pause: A scheduling point to await in front of an operation, or None.
        now: Monotonic seconds.
        apply_now: The kernel's own `apply_one_now`, if it answers at once.
        has_others: Whether another process was seen to hold or want something.
        is_committing: Whether this coordination commits just now, and tells its own.
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
        self.apply_now: Callable[..., tuple[int, Any]] | None = None
        if self._local is not None:
            self.apply_now = self._local.apply_one_now
        self.graph = graph
        self.now: Callable[[], float] = clock.monotonic
        self.alarms: Alarms = Alarms(clock)
        self.life = life
        self.rights = rights
        self.sessions: Sessions = Sessions(self._session_ended, life.running_turn)
        self.waiters: dict[str, Waiter] = {}
        self.leases: dict[str, Lease] = {}
        self.watchers: dict[str, Callable[[Document, Commit], None]] = {}
        self.is_committing: bool = False
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

    def run(self, steps: "Steps[R]") -> "R | asyncio.Task[R]":
        """Do an operation; return what it came to, or the task that does it.

        A kernel in this process answers at once. For one that is a round trip away the
        steps run in a task, whatever happens to the caller; see `finish`.
        """
        if self._local is not None:
            return self._run_now(steps)
        task = self.loop.create_task(self._run_later(steps), name="swarm lease")
        self._tasks.add(task)
        task.add_done_callback(self._done)
        return task

    async def finish(self, outcome: "R | asyncio.Task[R]") -> R:
        """Return what `run` came to; cancelled, the operation goes on."""
        if isinstance(outcome, asyncio.Task):
            return await asyncio.shield(outcome)
        return outcome

    def pending(self, outcome: Any) -> "Pending | None":
        """Return what to await until an operation is over; None: it is."""
        return Pending(outcome) if isinstance(outcome, asyncio.Task) else None

    def _run_now(self, steps: "Steps[R]") -> R:
        answer: Any = None
        error: Exception | None = None
        try:
            while True:
                step = steps.send(answer) if error is None else steps.throw(error)
                error = None
                self.is_committing = True
                try:
                    answer = self._commit_now(*step)
                except Exception as raised:  # noqa: BLE001  # the steps handle it
                    error = raised
                finally:
                    self.is_committing = False
        except StopIteration as end:
            result: R = end.value
            return result

    def _commit_now(
        self, author: Any, path: Any, rule: Any, request: Any
    ) -> tuple[int, Any]:
        local: Any = self._local
        if path is not None:
            found: tuple[int, Any] = local.apply_one_now(author, path, rule, request)
            return found
        commit, outcome = local.apply_now(author, rule, *request)
        return 0 if commit is None else commit.revision, outcome

    async def _run_later(self, steps: "Steps[R]") -> R:
        answer: Any = None
        error: Exception | None = None
        try:
            while True:
                step = steps.send(answer) if error is None else steps.throw(error)
                error = None
                author, path, rule, request = step
                try:
                    if path is not None:
                        answer = await self.kernel.apply_one(
                            author, path, rule, request
                        )
                    else:
                        commit, outcome = await self.kernel.apply(
                            author, rule, *request
                        )
                        answer = 0 if commit is None else commit.revision, outcome
                except Exception as raised:  # noqa: BLE001  # the steps handle it
                    error = raised
        except StopIteration as end:
            result: R = end.value
            return result

    def _done(self, task: "asyncio.Task[Any]") -> None:
        self._tasks.discard(task)
        if not task.cancelled():
            task.exception()  # seen: a caller that waits for it gets it

    # --- looking ----------------------------------------------------------------------

    def look(self, look: Callable[..., R], *arguments: Any) -> R:
        """Return `look(view, *arguments)` over the tree as this process has it."""
        found: R = self._replica.read_now(look, *arguments)
        return found

    def find(self, path: Any) -> Document | None:
        """Return the document at `path` as this process has it."""
        found: Document | None = self._replica.find_now(path)
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
                lease._orphan(f"{session} ended without releasing it")

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
        self.alarms.close()
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


class Pending:
    """An operation that goes on by itself; await it to wait for its end."""

    __slots__ = ("_task",)

    def __init__(self, task: "asyncio.Task[Any]") -> None:
        """Be over when `task` is."""
        self._task = task

    def __await__(self) -> Generator[Any, None, None]:
        yield from asyncio.shield(self._task).__await__()


def _has_people(view: View) -> bool:
    return any(True for folder in FOLDERS for _ in view.documents(Path.of(folder)))


def _now(view: View) -> int:
    return view.now
