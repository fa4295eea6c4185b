"""The Redis kernel: one tree in many processes.

Each process keeps a replica that follows the log. A rule runs on the replica, through
a view that notes what the rule looks at. One script then commits what the rule decided
if nothing it looked at has changed; otherwise the replica catches up and the rule runs
again. Reading asks for the newest revision first, so reads are linearizable.
"""

import asyncio
import logging
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, Final, TypeVar

import attrs

from swarm.errors import (
    Closed,
    Compacted,
    ConflictError,
    Contention,
    PathConflict,
    StorageFailed,
    SwarmError,
    WrongLoop,
)
from swarm.kernel import LogReader, in_order
from swarm.model import (
    ROOT,
    TIME,
    AgentIdentity,
    Commit,
    Document,
    Path,
    Pattern,
)
from swarm.ports import (
    KEEP,
    Clock,
    Condition,
    Entropy,
    Expect,
    ExpectFolder,
    Limits,
    Plan,
    Ruling,
    View,
    Write,
    current_activity,
    current_cause,
)
from swarm.storage._records import (
    decode_commit,
    decode_document,
    encode_commit,
    encode_document,
)
from swarm.storage.redis._replica import RecordingView, Replica, bare
from swarm.storage.redis._script import (
    COMMIT,
    CONFLICT,
    DONE,
    Keys,
    Part,
    Written,
    pack,
)
from swarm.storage.redis._wire import Wire

T = TypeVar("T")
R = TypeVar("R")

_ATTEMPTS: Final = 64
_TOLERANCE: Final = 50_000
"""Microseconds by which a rule's time may differ from the server's."""

_BLOCK_MS: Final = 5_000
_PAGE: Final = 1_000

log: Final = logging.getLogger("swarm")


@attrs.define
class _Draft:
    """What a rule decided, and what it looked at."""

    view: RecordingView
    at: int
    writes: Sequence[Write] = ()
    events: Sequence[object] = ()
    outcome: Any = None
    key: str | None = None
    is_bounded: bool = True


Decide = Callable[[RecordingView], _Draft]


class RedisKernel:
    """A tree that many processes share. Fulfils `ports.Kernel`.

    Attributes:
        tail: The newest part of the log in this process: `ports.Tail`.
    """

    def __init__(
        self,
        url: str,
        name: str,
        clock: Clock,
        entropy: Entropy,
        limits: Limits | None = None,
        *,
        prefix: str = "swarm",
    ) -> None:
        """Be the kernel of the swarm `name` on the server at `url`, once it is open."""
        self._loop = asyncio.get_running_loop()
        self._clock = clock
        self._entropy = entropy
        self._limits = Limits() if limits is None else limits
        self._keys = Keys.of(prefix, name)
        self._origin = entropy.identifier("op-")
        self._count = 0
        self._wire = Wire(url, clock)
        self._follower = Wire(url, clock)
        self.tail: Replica = Replica(clock, self._limits)
        self.tail.on_due = self._set_sweep
        self._script = ""
        self._sent: dict[bytes, Commit] = {}
        self._first_view = 0
        self._following: asyncio.Task[None] | None = None
        self._sweeping: asyncio.Task[None] | None = None
        self._timer: Any = None
        self._is_closed = False

    # --- opening and closing --------------------------------------------------------

    async def open(self) -> None:
        """Connect, load the tree, and follow the log from there.

        Raises:
            StorageFailed: There is no server, or it refuses.
        """
        try:
            await self._wire.open()
            await self._follower.open()
            script = await self._wire.send("SCRIPT", "LOAD", COMMIT)
            self._script = script.decode()
            await self._ask_time()
            await self._load()
        except BaseException:
            await self.close()
            raise
        self._following = self._loop.create_task(self._follow(), name="redis log")
        await self._fresh()

    async def _load(self) -> None:
        """Fill the replica: the revision first, then everything, then the log."""
        keys, send = self._keys, self._wire.send
        revision = int(await send("GET", keys.revision) or 0)
        documents: list[Document] = []
        cursor = b"0"
        while True:
            cursor, flat = await send("HSCAN", keys.documents, cursor, "COUNT", _PAGE)
            for value in flat[1::2]:
                number, _, line = value.partition(b" ")
                if int(number) <= revision:  # later ones come with the log
                    documents.append(decode_document(line, int(number)))
            if cursor == b"0":
                break
        entries = await send(
            "XREVRANGE",
            keys.log,
            f"{revision}-0",
            "-",
            "COUNT",
            self._limits.log_commits,
        )
        commits: list[Commit] = []
        compacted = revision
        for number, fields in reversed(entries):
            if not commits:
                compacted = int(fields[1])
            commits.append(decode_commit(fields[5], _revision(number)))
        self.tail.restore_now(documents, (), commits, compacted=compacted)
        self.tail.resume_at(revision)
        self._first_view = revision

    async def close(self) -> None:
        """Refuse everything from now on and wake every reader; idempotent."""
        self._is_closed = True
        if self._timer is not None:
            self._timer.cancel()
        for task in (self._following, self._sweeping):
            if task is not None:
                task.cancel()
                with suppress(asyncio.CancelledError):
                    await task
        await self._wire.close()
        await self._follower.close()
        self.tail.fail(Closed("the swarm is closed"))
        self.tail.close_now()

    # --- following the log ------------------------------------------------------------

    async def _follow(self) -> None:
        """Apply each entry of the log to the replica, in order, until the end."""
        key, send = self._keys.log, self._follower.send
        try:
            while True:
                last = f"{self.tail.revision}-0"
                reply = await send(
                    "XREAD", "COUNT", _PAGE, "BLOCK", _BLOCK_MS, "STREAMS", key, last
                )
                for number, fields in reply[0][1] if reply else ():
                    self._take(_revision(number), int(fields[1]), fields[3], fields[5])
        except Exception as error:  # noqa: BLE001  # raised in every task that waits
            self._fail(error)

    def _take(self, revision: int, before: int, operation: bytes, line: bytes) -> None:
        """Apply an entry; one of this process is known by its operation.

        The log can be ahead of the reply to the commit.
        """
        if revision <= self.tail.revision:
            return
        if before != self.tail.revision:
            raise StorageFailed(
                f"this process fell behind: the log goes on after revision {before}, "
                f"and {self.tail.revision} was the newest here; open the swarm again"
            )
        commit = self._sent.get(operation)
        if commit is None:
            commit = decode_commit(line, revision)
        else:
            _number(commit, revision)
        self.tail.take(commit)

    def _fail(self, error: Exception) -> None:
        if not self._is_closed:
            log.critical("the log cannot be followed any more: %s", error)
        self.tail.fail(error)

    async def _fresh(self) -> None:
        """Wait until the replica has everything committed before this call."""
        newest = await self._wire.send("GET", self._keys.revision)
        await self.tail.reach(int(newest or 0))

    # --- time -------------------------------------------------------------------------

    async def _ask_time(self) -> None:
        """Learn the server's time; later replies keep it true."""
        sent = self._clock.monotonic()
        seconds, micros = await self._wire.send("TIME")
        server = int(seconds) * 1_000_000 + int(micros)
        self.tail.saw_time(sent, self._clock.monotonic(), server)

    def _set_sweep(self) -> None:
        """Have the next document that comes to its end be removed on time."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        when = self.tail.next_due()
        if when is None or self._is_closed:
            return
        wait = max(0.0, (when - self.tail.now()) / 1_000_000)
        self._timer = self._clock.call_at(
            self._clock.monotonic() + wait + 0.001, self._begin_sweep
        )

    def _begin_sweep(self) -> None:
        self._timer = None
        if self._sweeping is None or self._sweeping.done():
            self._sweeping = self._loop.create_task(
                self._sweep_quietly(), name="redis sweep"
            )

    async def _sweep_quietly(self) -> None:
        with suppress(SwarmError):  # the next operation meets the same and raises it
            await self._sweep()
        self._set_sweep()

    async def _sweep(self) -> None:
        """Remove the documents whose time is up; another process may be quicker."""
        for document in self.tail.due():
            condition = Expect(document.path, document.version)
            with suppress(ConflictError):
                await self._decide(
                    TIME, self._plain([Write(document.path)], (), (condition,))
                )

    # --- committing -------------------------------------------------------------------

    def _plain(
        self,
        writes: Sequence[Write],
        events: Sequence[object],
        conditions: Sequence[Condition],
        key: str | None = None,
    ) -> Decide:
        def decide(view: RecordingView) -> _Draft:
            self._check(view, conditions)
            return _Draft(view, self.tail.now(), writes, events, None, key)

        return decide

    def _check(self, view: RecordingView, conditions: Sequence[Condition]) -> None:
        """Check a caller's conditions here, and have the server check them again."""
        self.tail.check_now(conditions)
        for condition in conditions:
            if isinstance(condition, Expect):
                view.versions[condition.path.text] = condition.version
            elif isinstance(condition, ExpectFolder):
                view.folders[condition.folder.text] = condition.revision
            else:
                view.has_time = True
                document = self.tail.document_at(condition.path.text)
                view.versions[condition.path.text] = (
                    0 if document is None else document.version
                )

    async def _decide(
        self, author: AgentIdentity, decide: Decide
    ) -> tuple[Commit | None, Any]:
        """Decide on the replica and commit, again after each conflict.

        Raises:
            Contention: Every one of 64 attempts met a conflict.
            Exception: What `decide` raised on the newest state.
        """
        for attempt in range(_ATTEMPTS):
            view = RecordingView(self.tail)
            try:
                draft = decide(view)
                writes = self._checked(draft)
            except Exception:
                if await self._is_newest():
                    raise
                continue
            if (
                not writes
                and not draft.events
                and not view.versions
                and not view.folders
            ):
                return None, draft.outcome
            reply = await self._send(author, draft, writes)
            status, revision, before, commit = reply
            if status == DONE:
                if commit is not None:
                    await self._applied(commit, revision, before)
                return commit, draft.outcome
            if status == CONFLICT:
                await self.tail.reach(revision)
                if attempt > 2:
                    jitter = self._entropy.jitter(0.0, 0.001 * min(attempt, 20))
                    await self._clock.sleep(jitter)
        raise Contention(f"a commit lost to other processes {_ATTEMPTS} times in a row")

    async def _is_newest(self) -> bool:
        """Return whether the replica had everything; if not, wait until it has."""
        newest = int(await self._wire.send("GET", self._keys.revision) or 0)
        if newest <= self.tail.revision:
            return True
        await self.tail.reach(newest)
        return False

    def _checked(self, draft: _Draft) -> Sequence[Write]:
        """Check bounds and paths, and note on what the writes depend."""
        writes = in_order(draft.writes, self._limits if draft.is_bounded else None)
        gone = {w.path.text for w in writes if w.body is None and w.record is None}
        kept: list[Write] = []
        made: set[str] = set()
        view, tail = draft.view, self.tail
        for write in writes:
            text = write.path.text
            there = tail.document_at(text)
            view.versions.setdefault(text, 0 if there is None else there.version)
            if text in gone:
                if there is not None:
                    kept.append(write)
                continue
            kept.append(write)
            if there is None:
                self._check_room(write.path, gone, made, view)
                made.add(text)
        return kept

    def _check_room(
        self, path: Path, gone: set[str], made: set[str], view: RecordingView
    ) -> None:
        """Refuse a new document that would be inside another, or around others."""
        segments = path.segments
        if any(not isinstance(segment, str) for segment in segments):
            raise PathConflict(
                f"{path} cannot be written: there is no document around its index"
            )
        for n in range(1, len(segments)):
            above = Path.of(*segments[:n]).text
            there = self.tail.document_at(above)
            if above in made or (there is not None and above not in gone):
                raise PathConflict(f"{path} cannot be written: {above} is a document")
            view.versions.setdefault(above, 0 if there is None else there.version)
        below = self.tail.read_now(lambda v: list(v.documents(path)))
        if any(document.path.text not in gone for document in below) or any(
            Path.parse(text).within(path) for text in made
        ):
            raise PathConflict(f"{path} cannot be written: it is a folder of documents")
        view.folders.setdefault(path.text, self.tail.revision)

    async def _send(
        self, author: AgentIdentity, draft: _Draft, writes: Sequence[Write]
    ) -> tuple[int, int, int, Commit | None]:
        """Ask the server to commit; return status, revision, the one before, commit."""
        made = [self._made(write, author) for write in writes]
        commit: Commit | None = None
        entry = b""
        if made or draft.events:
            cause = None if current_activity.get() is None else current_cause()
            commit = Commit(
                0, 0, author, tuple(made), tuple(draft.events), 0, cause, draft.key
            )
            entry = encode_commit(commit)
        view = draft.view
        window = (0, 0)
        if view.has_time:
            window = (draft.at - _TOLERANCE, draft.at + _TOLERANCE)
        self._count += 1
        operation = f"{self._keys.operation}{self._origin}-{self._count}"
        parts = pack(
            view.versions,
            view.folders,
            window,
            entry,
            [_written(document) for document in made],
            _ancestors(made),
            self._limits.held_commits,
        )
        sent = self._clock.monotonic()
        if commit is not None:
            self._sent[operation.encode()] = commit
        try:
            reply = await self._evaluate(operation, parts)
        finally:
            self._sent.pop(operation.encode(), None)
        self.tail.saw_time(sent, self._clock.monotonic(), int(reply[3]))
        status, revision = int(reply[0]), int(reply[1])
        before = int(reply[2]) if status == DONE else 0
        if commit is not None and status == DONE:
            _number(commit, revision)
        return status, revision, before, commit

    async def _evaluate(self, operation: str, parts: list[Part]) -> list[Any]:
        keys = (*self._keys[:6], operation)
        try:
            reply = await self._wire.send("EVALSHA", self._script, 7, *keys, *parts)
        except StorageFailed as error:
            if "NOSCRIPT" not in str(error):
                raise
            reply = await self._wire.send("EVAL", COMMIT, 7, *keys, *parts)
        found: list[Any] = reply
        return found

    def _made(self, write: Write, author: AgentIdentity) -> Document:
        """Return the document that a write makes; its revision is not yet known."""
        there = self.tail.document_at(write.path.text)
        return Document(
            write.path,
            write.body,
            write.record,
            0,
            0 if there is None else there.created,
            0,
            author,
            write.priority,
            write.expires,
        )

    async def _applied(self, commit: Commit, revision: int, before: int) -> None:
        """See to it that the replica has a commit of this process."""
        if commit.cause is not None and not commit.cause.root:
            commit.cause.root = revision
        if before == self.tail.revision:
            self.tail.take(commit)
        else:
            await self.tail.reach(revision)

    # --- the operations ---------------------------------------------------------------

    @property
    def local(self) -> None:
        """None: the tree is on a server."""
        return None

    def _enter(self) -> None:
        if asyncio.get_running_loop() is not self._loop:
            raise WrongLoop
        if self._is_closed:
            raise Closed("the swarm is closed")

    async def read(self, look: Callable[..., T], *arguments: Any) -> T:
        """Return `look(view, *arguments)` over the newest state."""
        self._enter()
        await self._fresh()
        await self._sweep()
        return self.tail.read_now(look, *arguments)

    async def find(self, path: Path) -> Document | None:
        """Return the document at `path` or around it, or None."""
        self._enter()
        await self._fresh()
        await self._sweep()
        return self.tail.find_now(path)

    async def put(
        self, author: AgentIdentity, path: Path, body: bytes
    ) -> Document | None:
        """Write one whole document; None when `path` lies inside another one."""
        self._enter()

        def decide(view: RecordingView) -> _Draft:
            around = view.find(path)
            is_inside = around is not None and around.path != path
            writes = () if is_inside else (Write(path, body),)
            return _Draft(view, self.tail.now(), writes)

        await self._sweep()
        commit, _ = await self._decide(author, decide)
        return None if commit is None else commit.documents[0]

    async def apply(
        self,
        author: AgentIdentity,
        rule: Callable[..., Plan],
        *arguments: Any,
        conditions: Sequence[Condition] = (),
    ) -> tuple[Commit | None, Any]:
        """Ask the rule and commit what it plans, if what it looked at still holds."""
        self._enter()

        def decide(view: RecordingView) -> _Draft:
            self._check(view, conditions)
            at = self.tail.now()
            plan = rule(view, *arguments)
            return _Draft(
                view,
                at,
                plan.writes,
                plan.events,
                plan.outcome,
                is_bounded=not plan.is_unbounded,
            )

        await self._sweep()
        return await self._decide(author, decide)

    async def apply_one(
        self,
        author: AgentIdentity,
        path: Path,
        rule: Callable[[Document | None, int, R], Ruling],
        request: R,
    ) -> tuple[int, Any]:
        """Ask the rule of one record and commit its ruling, as one step."""
        self._enter()

        def decide(view: RecordingView) -> _Draft:
            there = self.tail.document_at(path.text)
            view.versions[path.text] = 0 if there is None else there.version
            view.has_time = True
            at = self.tail.now()
            document = None if there is None else bare(there)
            record, announced, outcome = rule(document, at, request)
            writes: list[Write] = []
            if record is not KEEP and (record is not None or there is not None):
                writes.append(Write(path, record=record))
            events = [make(*given) for make, *given in announced]
            return _Draft(view, at, writes, events, outcome)

        await self._sweep()
        commit, outcome = await self._decide(author, decide)
        return (0 if commit is None else commit.revision), outcome

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
        self._enter()
        await self._sweep()
        commit, _ = await self._decide(
            author, self._plain(writes, events, conditions, key)
        )
        if commit is not None:
            commit.size += weight
        return commit

    async def view_at(self, revision: int) -> View:
        """Return the tree as it was at `revision`, since this process opened it.

        Raises:
            Compacted: This process does not know the tree of that time.
        """
        self._enter()
        await self._fresh()
        if revision < self._first_view:
            raise Compacted(revision, self._first_view)
        return self.tail.past_now(revision)

    async def versions(self, path: Path, limit: int) -> list[Document]:
        """Return the retained versions of one document, newest first."""
        self._enter()
        await self._fresh()
        return self.tail.versions_now(path, limit)

    async def follow(
        self, since: int | None = None, pattern: Pattern | None = None
    ) -> LogReader:
        """Return a reader of every commit after `since`, or from now on."""
        self._enter()
        await self._fresh()
        return self.tail.follow_now(since, pattern)


def _revision(number: bytes) -> int:
    return int(number.partition(b"-")[0])


def _number(commit: Commit, revision: int) -> None:
    """Give a commit and its documents the revision that the server chose."""
    commit.revision = commit.at = revision
    for document in commit.documents:
        document.version = document.at = revision
        document.created = document.created or revision


def _written(document: Document) -> Written:
    line = b"" if document.is_deleted else encode_document(document)
    return Written(document.path.text, line, document.expires)


def _ancestors(documents: Sequence[Document]) -> list[str]:
    found = {ROOT.text: None}
    for document in documents:
        segments = document.path.segments
        for n in range(1, len(segments)):
            found[Path.of(*segments[:n]).text] = None
    return list(found) if documents else []
