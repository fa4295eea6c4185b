"""The memory kernel: the tree in one process, in one event loop.

In one loop a synchronous function is atomic, so a commit is a direct call: no lock,
no queue, no task switch. The `async` methods keep the contract that a kernel on a
server has to keep as well; here they never suspend, except under simulation, where
each is a scheduling point.
"""

import asyncio
from asyncio.events import _get_running_loop
from collections.abc import Awaitable, Callable, Sequence
from heapq import heapify, heappop, heappush
from typing import Any, TypeVar

from swarm.errors import Closed, ConflictError, LimitExceeded, SwarmError, WrongLoop
from swarm.kernel._follow import LogReader, Parked
from swarm.kernel._log import Log
from swarm.kernel._tree import Tree
from swarm.kernel._views import LiveView, PastView
from swarm.model import (
    ABSENT,
    TIME,
    AgentIdentity,
    Commit,
    Document,
    Path,
    dig,
    living,
)
from swarm.ports import (
    Clock,
    Condition,
    Expect,
    Hold,
    Limits,
    Plan,
    Require,
    Timer,
    View,
    Write,
    current_activity,
    current_cause,
)

T = TypeVar("T")

_running = current_activity.get
_EVENT_SIZE = 256  # bytes a payload is taken to hold
_FEW = 64  # expiries that are not worth tidying up


class MemoryKernel:
    """The tree, the commit and the log, in memory. Fulfils `ports.Kernel`.

    Every method but `close` belongs to the event loop the kernel was made in and
    raises `WrongLoop` anywhere else, and `Closed` after `close`.
    """

    def __init__(
        self, clock: Clock, limits: Limits | None = None, *, revision: int = 0
    ) -> None:
        """Start empty, with the next commit after `revision`."""
        loop = asyncio.get_running_loop()
        self.limits: Limits = Limits() if limits is None else limits
        self._clock = clock
        self._wall = clock.wall
        self._loop: asyncio.AbstractEventLoop | None = loop
        self._pause: Callable[[], Awaitable[None]] | None = getattr(
            loop, "scheduling_point", None
        )
        self._revision = revision
        self._at = 0
        # Kernel time is wall time at the start plus what has passed since, so that
        # a jump of the machine's clock ends no lease early (semantics.md, G8).
        self._base = clock.wall() - int(clock.monotonic() * 1_000_000)
        self._tree = Tree()
        self._graves: dict[str, Document] = {}
        self._log = Log(self.limits, revision)
        self._view = LiveView(self._tree, self.now, revision)
        self._expiries: list[tuple[int, str, int]] = []
        self._timer: Timer | None = None
        self._timer_at = 0
        self._expiries_bound = _FEW
        self._parked = Parked()
        self._on_events: Callable[[Commit], None] | None = None
        self._on_documents: Callable[[Commit], None] | None = None

    # --- the contract ---------------------------------------------------------

    async def read(self, look: Callable[..., T], *arguments: Any) -> T:
        """Return `look(view, *arguments)` over the tree as it is."""
        if self._pause is not None:
            await self._pause()
        return self.read_now(look, *arguments)

    @property
    def local(self) -> "MemoryKernel | None":
        """This kernel without waiting; None where every call is a scheduling point."""
        return self if self._pause is None else None

    async def find(self, path: Path) -> Document | None:
        """Return the document at `path` or around it, or None."""
        if self._pause is not None:
            await self._pause()
        return self.find_now(path)

    async def put(
        self, author: AgentIdentity, path: Path, body: bytes
    ) -> Document | None:
        """Write one whole document; None when `path` lies inside another one."""
        if self._pause is not None:
            await self._pause()
        return self.put_now(author, path, body)

    async def apply(
        self,
        author: AgentIdentity,
        rule: Callable[..., Plan],
        *arguments: Any,
        conditions: Sequence[Condition] = (),
    ) -> tuple[Commit | None, Any]:
        """Ask the rule once and commit what it plans, as one step."""
        if self._pause is not None:
            await self._pause()
        return self.apply_now(author, rule, *arguments, conditions=conditions)

    async def commit(
        self,
        author: AgentIdentity,
        writes: Sequence[Write] = (),
        *,
        conditions: Sequence[Condition] = (),
        events: Sequence[object] = (),
        key: str | None = None,
        weight: int = 0,
    ) -> Commit | None:
        """Write and publish under one new revision, if the conditions hold."""
        if self._pause is not None:
            await self._pause()
        return self.commit_now(
            author,
            writes,
            conditions=conditions,
            events=events,
            key=key,
            weight=weight,
        )

    async def view_at(self, revision: int) -> View:
        """Return the tree as it was at `revision`."""
        if self._pause is not None:
            await self._pause()
        self._enter()
        self._log.after(self._known(revision))
        return PastView(
            self._tree, self._graves, self._log, revision=revision, now=self.now()
        )

    async def versions(self, path: Path, limit: int) -> list[Document]:
        """Return the retained versions of one document, newest first."""
        if self._pause is not None:
            await self._pause()
        self._enter()
        found: list[Document] = []
        document = self._tree.by_text.get(path.text) or self._graves.get(path.text)
        while document is not None and len(found) < limit:
            found.append(document)
            document = document.previous
        return found

    async def follow(self, since: int | None = None) -> LogReader:
        """Return a reader of every commit after `since`, or from now on."""
        if self._pause is not None:
            await self._pause()
        return self.follow_now(since)

    async def close(self) -> None:
        """Refuse everything from now on and wake every reader; idempotent."""
        self._loop = None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._parked.is_closed = True
        self._parked.wake()

    # --- the same without waiting, for parts that live in this loop -----------

    def read_now(self, look: Callable[..., T], *arguments: Any) -> T:
        """Do what `read` does, at once."""
        self._enter()
        return look(self._view, *arguments)

    def find_now(self, path: Path) -> Document | None:
        """Do what `find` does, at once."""
        if _get_running_loop() is not self._loop:
            self._refuse()
        if self._expiries:
            self._expire_due()
        document = self._tree.by_text.get(path.text)
        return self._tree.find(path) if document is None else document

    def put_now(
        self, author: AgentIdentity, path: Path, body: bytes
    ) -> Document | None:
        """Do what `put` does, at once."""
        if _get_running_loop() is not self._loop:
            self._refuse()
        if self._expiries:
            self._expire_due()
        tree = self._tree
        old = tree.by_text.get(path.text)
        if old is None:
            if tree.find(path) is not None:
                return None
            commit = self._write(author, [Write(path, body)], ())
            assert commit is not None
            return commit.documents[0]
        # The commit that is made most, written out: one document's next version.
        at = self._wall()
        if at < self._at:
            at = self._at
        revision = self._revision + 1
        document = Document(path, body, None, revision, old.created, at, author)
        document.previous = old
        tree.by_text[path.text] = document
        self._log_commit(revision, at, author, (document,), (), len(body) + 128)
        return document

    def apply_now(
        self,
        author: AgentIdentity,
        rule: Callable[..., Plan],
        *arguments: Any,
        conditions: Sequence[Condition] = (),
    ) -> tuple[Commit | None, Any]:
        """Do what `apply` does, at once."""
        self._enter()
        for condition in conditions:
            self._require(condition)
        plan = rule(self._view, *arguments)
        writes = plan.writes
        if len(writes) == 1 and writes[0].body is None:
            return self._write_one(author, writes[0], plan.events), plan.outcome
        if not writes and not plan.events:
            return None, plan.outcome
        return self._write(author, plan.writes, plan.events), plan.outcome

    def commit_now(
        self,
        author: AgentIdentity,
        writes: Sequence[Write] = (),
        *,
        conditions: Sequence[Condition] = (),
        events: Sequence[object] = (),
        key: str | None = None,
        weight: int = 0,
    ) -> Commit | None:
        """Do what `commit` does, at once."""
        self._enter()
        for condition in conditions:
            self._require(condition)
        if writes:
            return self._write(author, writes, events, key, weight)
        if not events:
            return None
        at, revision = self._next_at(), self._revision + 1
        size = _EVENT_SIZE * len(events) + weight
        return self._log_commit(revision, at, author, (), tuple(events), size, key)

    def now(self) -> int:
        """Return kernel time in microseconds; it never goes back."""
        return self._base + int(self._clock.monotonic() * 1_000_000)

    @property
    def revision(self) -> int:
        """The newest revision."""
        return self._revision

    # --- the newest part of the log, for the event bus ------------------------

    @property
    def compacted(self) -> int:
        """The newest revision that the log has let go of."""
        return self._log.compacted

    def follow_now(self, since: int | None = None) -> LogReader:
        """Do what `follow` does, at once."""
        self._enter()
        revision = self._revision if since is None else self._known(since)
        return LogReader(self._log, self._parked, self._log.after(revision), revision)

    def hold(self, hold: Hold) -> None:
        """Keep what `hold` needs, as far as the hard limits allow."""
        self._enter()
        self._log.hold(hold)

    def release(self, hold: Hold) -> None:
        """Keep nothing for `hold` any more."""
        self._log.release(hold)

    def tap(
        self, callback: Callable[[Commit], None] | None, *, documents: bool
    ) -> None:
        """Call `callback` with each commit that holds events (or documents)."""
        self._on_events = callback
        self._on_documents = callback if documents else None

    # --- inside ---------------------------------------------------------------

    def _enter(self) -> None:
        """Check who calls, and take away what has expired, before anybody looks."""
        if _get_running_loop() is not self._loop:
            self._refuse()
        if self._expiries:
            self._expire_due()

    def _refuse(self) -> None:
        if self._loop is None:
            raise Closed("the swarm is closed")
        raise WrongLoop

    def _known(self, revision: int) -> int:
        if revision > self._revision:
            raise ValueError(
                f"revision {revision} is still to come; the newest is {self._revision}"
            )
        return revision

    def _require(self, condition: Condition) -> None:
        if isinstance(condition, Require):
            condition.test(self._tree.by_text.get(condition.path.text), self.now())
            return
        if isinstance(condition, Expect):
            document = self._tree.by_text.get(condition.path.text)
            current = 0 if document is None else document.version
            if current != condition.version:
                raise conflict(condition.path, condition.version, document)
            return
        below = tuple(
            (d.path.text, d.version) for d in self._tree.documents(condition.folder)
        )
        if below != condition.versions:
            folder = condition.folder.text or "the root"
            raise ConflictError(message=f"what is below {folder} has changed")

    def _write(
        self,
        author: AgentIdentity,
        writes: Sequence[Write],
        events: Sequence[object],
        key: str | None = None,
        weight: int = 0,
    ) -> Commit | None:
        """Make all of the edits, or none, and log them under one revision."""
        writes = self._checked(writes)
        revision = self._revision + 1
        at = self._next_at()
        if len(writes) == 1:
            document = self._edit(writes[0], revision, at, author)
            made: tuple[Document, ...] = () if document is None else (document,)
        else:
            made = self._edit_all(writes, revision, at, author)
        if not made and not events:
            return None
        size = weight
        for document in made:
            size += document.size
        commit = self._log_commit(revision, at, author, made, tuple(events), size, key)
        for document in made:
            if document.expires is not None:
                self._remember_expiry(document)
        if self._expiries:
            self._set_timer()
        return commit

    def _edit_all(
        self, writes: Sequence[Write], revision: int, at: int, author: AgentIdentity
    ) -> tuple[Document, ...]:
        made: list[Document] = []
        try:
            for write in writes:
                document = self._edit(write, revision, at, author)
                if document is not None:
                    made.append(document)
        except SwarmError:
            self._undo(made)
            raise
        return tuple(made)

    def _write_one(
        self, author: AgentIdentity, write: Write, events: Sequence[object]
    ) -> Commit | None:
        """Do what `_write` does for one record or deletion: no bound, nothing to undo.

        Locks and tasks are made of these.
        """
        revision = self._revision + 1
        at = self._next_at()
        document = self._edit(write, revision, at, author)
        if document is None:
            made: tuple[Document, ...] = ()
            if not events:
                return None
        else:
            made = (document,)
            if document.expires is not None:
                self._remember_expiry(document)
        commit = self._log_commit(revision, at, author, made, tuple(events), 256)
        if self._expiries:
            self._set_timer()
        return commit

    def _next_at(self) -> int:
        """Return wall time, but never less than the last commit's (H3)."""
        at = self._wall()
        return at if at > self._at else self._at  # noqa: FURB136 - a call less

    def _log_commit(
        self,
        revision: int,
        at: int,
        author: AgentIdentity,
        documents: tuple[Document, ...],
        events: tuple[object, ...],
        size: int,
        key: str | None = None,
    ) -> Commit:
        """Append what has been done, cut what is too old, tell who listens."""
        self._at = at
        self._revision = self._view.revision = revision
        cause = None if _running() is None else current_cause()
        if cause is not None and not cause.root:
            cause.root = revision
        commit = Commit(revision, at, author, documents, events, size, cause, key)
        if self._log.append(commit):
            for surplus in self._log.pop_surplus():
                self._forget(surplus)
        if self._parked.waiters:
            self._parked.wake()
        if events:
            if self._on_events is not None:
                self._on_events(commit)
        elif self._on_documents is not None:
            self._on_documents(commit)
        return commit

    def _checked(self, writes: Sequence[Write]) -> Sequence[Write]:
        """Check a batch's bounds, and put deletions first: they make room."""
        limits = self.limits
        if len(writes) == 1 and writes[0].body is None:
            return writes
        if len(writes) > limits.batch_writes:
            raise LimitExceeded(
                f"one commit writes at most {limits.batch_writes} documents "
                f"(Limits.batch_writes); this one has {len(writes)}"
            )
        size = sum(len(write.body) for write in writes if write.body is not None)
        if size > limits.batch_bytes:
            raise LimitExceeded(
                f"one commit writes at most {limits.batch_bytes} bytes "
                f"(Limits.batch_bytes); this one has {size}"
            )
        if len(writes) < 2:
            return writes
        if len({write.path for write in writes}) < len(writes):
            raise ValueError("one commit writes each document at most once")
        return sorted(writes, key=_puts_something)

    def _edit(
        self, write: Write, revision: int, at: int, author: AgentIdentity
    ) -> Document | None:
        path = write.path
        if write.body is not None or write.record is not None:
            return self._put(
                path,
                write.body,
                write.record,
                write.expires,
                write.priority,
                revision,
                at,
                author,
            )
        old = self._tree.by_text.get(path.text)
        if old is None:
            return None
        grave = Document(path, None, None, revision, old.created, at, author)
        grave.previous = old
        self._tree.remove(path)
        self._graves[path.text] = grave
        return grave

    def _put(
        self,
        path: Path,
        body: bytes | None,
        record: Any,
        expires: int | None,
        priority: int,
        revision: int,
        at: int,
        author: AgentIdentity,
    ) -> Document:
        """Make a document's next version and put it into the tree."""
        text = path.text
        tree = self._tree
        old = tree.by_text.get(text)
        if old is not None:
            created = old.created
            new = Document(
                path,
                body,
                record,
                revision,
                created,
                at,
                author,
                priority,
                expires,
                old,
            )
            tree.by_text[text] = new
            return new
        new = Document(
            path, body, record, revision, revision, at, author, priority, expires
        )
        tree.put(new)
        if text in self._graves:
            new.previous = self._graves.pop(text)
        return new

    def _undo(self, made: list[Document]) -> None:
        for new in reversed(made):
            old = new.previous
            if new.is_deleted:
                del self._graves[new.path.text]
            elif living(old) is None:
                self._tree.remove(new.path)
            if old is None:
                continue
            if old.is_deleted:
                self._graves[old.path.text] = old
            else:
                self._tree.put(old)

    def _forget(self, commit: Commit) -> None:
        """Cut what only the log's oldest entry kept alive."""
        for document in commit.documents:
            document.previous = None
            if document.body is None and document.record is None:
                text = document.path.text
                if self._graves.get(text) is document:
                    del self._graves[text]

    # --- expiry ---------------------------------------------------------------

    def _remember_expiry(self, document: Document) -> None:
        assert document.expires is not None
        expiries = self._expiries
        heappush(expiries, (document.expires, document.path.text, document.version))
        if len(expiries) > self._expiries_bound:
            expiries[:] = [e for e in expiries if not self._is_stale(e)]
            heapify(expiries)
            self._expiries_bound = max(_FEW, 2 * len(expiries))

    def _expire_due(self) -> None:
        """Commit the end of every document whose time is up, each on its own."""
        now = self.now()
        while self._expiries and self._expiries[0][0] <= now:
            _, text, version = heappop(self._expiries)
            document = self._tree.by_text.get(text)
            if document is not None and document.version == version:
                self._write(TIME, [Write(document.path)], ())

    def _set_timer(self) -> None:
        """Have the next expiry happen on time, even if nobody looks."""
        expiries = self._expiries
        while expiries and self._is_stale(expiries[0]):
            heappop(expiries)
        if not expiries:
            if self._timer is not None:
                self._timer.cancel()
                self._timer = None
            return
        when = expiries[0][0]
        if self._timer is not None:
            if self._timer_at == when:
                return
            self._timer.cancel()
        self._timer_at = when
        # A microsecond more, lest rounding wake us just before the time.
        self._timer = self._clock.call_at(
            (when - self._base + 1) / 1_000_000, self._on_time
        )

    def _is_stale(self, expiry: tuple[int, str, int]) -> bool:
        document = self._tree.by_text.get(expiry[1])
        return document is None or document.version != expiry[2]

    def _on_time(self) -> None:
        self._timer = None
        self._expire_due()
        self._set_timer()


def conflict(path: Path, expected: int, document: Document | None) -> ConflictError:
    """Return the error that says what stands at `path` in place of `expected`."""
    value = None
    if document is not None:
        value = dig(document.value, path.segments[len(document.path.segments) :])
    return ConflictError(
        path,
        expected=expected,
        current=0 if document is None else document.version,
        value=None if value is ABSENT else value,
        author=None if document is None else document.author,
    )


def _puts_something(write: Write) -> bool:
    return write.body is not None or write.record is not None
