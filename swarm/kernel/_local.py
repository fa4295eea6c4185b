"""The tree in one process, in one event loop: everything done at once.

In one loop a synchronous function is atomic, so a commit is a direct call: no lock,
no queue, no task switch.
"""

import asyncio
from asyncio.events import _get_running_loop
from collections.abc import Callable, Collection, Sequence
from typing import Any, Final, TypeVar

from swarm.errors import Closed, PathConflict, SwarmError, WrongLoop
from swarm.kernel._batches import in_order
from swarm.kernel._conditions import check_conditions
from swarm.kernel._follow import Followers, LogReader
from swarm.kernel._listeners import DocumentListener, Listener, Listeners
from swarm.kernel._log import ENTRY_BYTES, held_by
from swarm.kernel._restore import EVENT_BYTES, RestorableTree, retained
from swarm.kernel._views import LiveView, PastView
from swarm.model import (
    DOCUMENT_BYTES,
    MICRO,
    TIME,
    AgentIdentity,
    Announcement,
    Commit,
    Document,
    Path,
    Pattern,
    Priority,
    Segment,
)
from swarm.ports import (
    KEEP,
    Clock,
    Condition,
    Limits,
    Plan,
    RetentionHold,
    Ruling,
    Timer,
    Write,
    current_activity,
    current_cause,
)

T = TypeVar("T")
R = TypeVar("R")

make: Final = object.__new__

_running: Final = current_activity.get
_NORMAL: Final = int(Priority.NORMAL)
_RECORD_BYTES: Final = 2 * DOCUMENT_BYTES
_KEPT_RECORD: Final = ENTRY_BYTES + _RECORD_BYTES
_KEPT_BODY: Final = ENTRY_BYTES + DOCUMENT_BYTES


class LocalTree(RestorableTree):
    """The tree, the commit and the log, without waiting. Fulfils `ports.LocalKernel`.

    Every method belongs to the event loop this was made in and raises `WrongLoop`
    anywhere else, and `Closed` after its end. It is the event bus's `ports.Tail`, too.

    Attributes:
        refusal: Returns the error of a use that is refused, with the name of the swarm
            and the cause of its end; None: it belongs to no swarm.
    """

    revision: int  # the newest; named here too for checkers of types

    def __init__(
        self, clock: Clock, limits: Limits | None = None, *, revision: int = 0
    ) -> None:
        """Start empty, with the next commit after `revision`."""
        loop = asyncio.get_running_loop()
        super().__init__(Limits() if limits is None else limits, revision)
        self._clock = clock
        self._wall = clock.wall
        self._loop: asyncio.AbstractEventLoop | None = loop
        # Kernel time is wall time at the start plus what has passed since, so that
        # a jump of the machine's clock ends no lease early (semantics.md, G8).
        self._base = clock.wall() - int(clock.monotonic() * MICRO)
        self._monotonic = clock.monotonic
        self._view = LiveView(self._tree, self)
        self._timer: Timer | None = None
        self._timer_at = 0
        self._followers = Followers(self._log)
        self._watchers = self._followers.watchers
        self._listeners = Listeners()
        self.refusal: Callable[[], Exception] | None = None

    # --- reading and committing -----------------------------------------------

    def check_use(self) -> None:
        """Refuse use from another event loop, and after the end."""
        if _get_running_loop() is not self._loop:
            self._refuse()

    def read_now(self, look: Callable[..., T], *arguments: Any) -> T:
        """Do what `read` does, at once."""
        self._enter()
        return look(self._view, *arguments)

    def find_now(self, path: Path) -> Document | None:
        """Do what `find` does, at once."""
        if _get_running_loop() is not self._loop:
            self._refuse()
        if self._ends:
            self._expire_due()
        document = self._by_text.get(path.text)
        return self._tree.find(path) if document is None else document

    def put_now(
        self, author: AgentIdentity, path: Path, body: bytes
    ) -> Document | None:
        """Do what `put` does, at once."""
        if _get_running_loop() is not self._loop:
            self._refuse()
        if self._ends:
            self._expire_due()
        try:
            return self._commit_one(
                author, path, self._by_text.get(path.text), body, None
            )
        except PathConflict:
            if self._tree.find(path) is not None:
                return None
            raise

    def apply_now(
        self,
        author: AgentIdentity,
        rule: Callable[..., Plan],
        *arguments: Any,
        conditions: Sequence[Condition] = (),
        unheard: Listener | None = None,
    ) -> tuple[Commit | None, Any]:
        """Do what `apply` does, at once; see `ports.LocalKernel`."""
        self._enter()
        if conditions:
            self._check(conditions)
        plan = rule(self._view, *arguments)
        if not plan.writes and not plan.events:
            return None, plan.outcome
        commit = self._write(
            author,
            plan.writes,
            plan.events,
            is_bounded=not plan.is_unbounded,
            unheard=unheard,
        )
        return commit, plan.outcome

    def apply_one_now(
        self,
        author: AgentIdentity,
        path: Path,
        rule: Callable[[Document | None, int, R], Ruling],
        request: R,
        unheard: Listener | None = None,
    ) -> tuple[int, Any]:
        """Do what `apply_one` does, at once; see `ports.LocalKernel`."""
        if _get_running_loop() is not self._loop:
            self._refuse()
        if self._ends:
            self._expire_due()
        monotonic = self._monotonic  # an attribute that is called is found slowly
        now = self._base + int(monotonic() * 1e6)
        old = self._by_text.get(path.text)
        record, events, outcome = rule(old, now, request)
        if record is KEEP or (record is None and old is None):
            if not events:
                return 0, outcome
            size = ENTRY_BYTES + EVENT_BYTES
            at = self._next_at()
            commit = self._log_commit(
                self.revision + 1, at, author, (), (), size, None, events
            )
            return commit.revision, outcome
        made = self._commit_one(author, path, old, None, record, events, unheard)
        return made.version, outcome

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
        if _get_running_loop() is not self._loop:
            self._refuse()
        if self._ends:
            self._expire_due()
        if conditions:
            self._check(conditions)
        if writes:
            return self._write(author, writes, events, key, weight)
        if not events:
            return None
        size = ENTRY_BYTES + EVENT_BYTES * len(events) + weight
        return self._log_commit(
            self.revision + 1, self._next_at(), author, (), tuple(events), size, key
        )

    def now(self) -> int:
        """Return kernel time in microseconds; it never goes back."""
        return self._base + int(self._clock.monotonic() * MICRO)

    def close_now(self) -> None:
        """Do what `close` does, at once."""
        self._loop = None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._followers.close()

    # --- the newest part of the log, for the event bus ------------------------

    @property
    def compacted(self) -> int:
        """The newest revision that the log has let go of."""
        return self._log.compacted

    def follow_now(
        self, since: int | None = None, pattern: Pattern | None = None
    ) -> LogReader:
        """Do what `follow` does, at once."""
        self._enter()
        revision = self.revision if since is None else self._known(since)
        return self._followers.reader(revision, pattern)

    def past_now(self, revision: int | None = None) -> PastView:
        """Do what `view_at` does, at once."""
        self._enter()
        if revision is None:
            revision = self.revision
        else:
            self._log.after(self._known(revision))
        return PastView(self._versions, self._log, self, revision)

    def versions_now(self, path: Path, limit: int) -> list[Document]:
        """Do what `versions` does, at once."""
        self._enter()
        found: list[Document] = []
        document = self._versions.newest(path.text)
        while document is not None and len(found) < limit:
            found.append(document)
            document = document.previous
        return found

    def before_newest(self, count: int) -> int:
        """Return the revision after which the newest `count` commits come, or all."""
        return self._log.before_newest(count)

    def hurry(self) -> None:
        """Do nothing: this log is never late."""

    def keep_up(self, rest: Callable[[], float | None]) -> None:
        """Do nothing: this log is never late."""

    def hold(self, hold: RetentionHold) -> None:
        """Keep what `hold` needs, as far as the hard limits allow."""
        self.check_use()
        self._log.hold(hold)

    def release(self, hold: RetentionHold) -> None:
        """Keep nothing for `hold` any more."""
        self._log.release(hold)

    def listen(
        self,
        callback: Listener,
        *,
        documents: bool,
        folders: Collection[Segment] | None = None,
        each: DocumentListener | None = None,
    ) -> Callable[[], None]:
        """Call `callback` with each commit that concerns it; see `ports.Tail`."""
        return self._listeners.add(
            callback, documents=documents, folders=folders, each=each
        )

    def on_gap(self, callback: Callable[[int, int], None]) -> None:
        """Do nothing: this log has no gaps."""

    # --- what a store held ------------------------------------------------------

    def retained_now(
        self,
    ) -> tuple[list[Document], list[Document], list[Commit | Document]]:
        """Return the newest documents, the versions before the log, and its entries.

        `restore_now` makes the tree and its log of them again.
        """
        self._enter()
        return retained(self._versions, self._log)

    def resume_at(self, revision: int) -> None:
        """Have the next commit get a revision later than `revision`."""
        self.revision = max(self.revision, revision)
        self._set_timer()

    # --- inside ---------------------------------------------------------------

    def _enter(self) -> None:
        """Check the calling loop, and delete documents that have expired."""
        if _get_running_loop() is not self._loop:
            self._refuse()
        if self._ends:
            self._expire_due()

    def _refuse(self) -> None:
        if self.refusal is not None:
            raise self.refusal()
        if self._loop is None:
            raise Closed("the swarm is closed")
        raise WrongLoop

    def _next_at(self) -> int:
        """Return the time of the next commit, which is never before the newest (H3)."""
        return max(self._wall(), self._at)

    def _known(self, revision: int) -> int:
        if revision > self.revision:
            raise ValueError(
                f"revision {revision} is still to come; the newest is {self.revision}"
            )
        return revision

    def _check(self, conditions: Sequence[Condition]) -> None:
        check_conditions(conditions, self._by_text, self._log, self.now)

    def _write(
        self,
        author: AgentIdentity,
        writes: Sequence[Write],
        events: Sequence[object],
        key: str | None = None,
        weight: int = 0,
        *,
        is_bounded: bool = True,
        unheard: Listener | None = None,
    ) -> Commit | None:
        """Make all of the edits, or none, and log them under one revision."""
        writes = in_order(writes, self.limits if is_bounded else None)
        revision, at = self.revision + 1, self._next_at()
        size = ENTRY_BYTES + weight
        if len(writes) == 1:
            document = self._edit(writes[0], revision, at, author)
            if document is not None:
                made: tuple[Document, ...] = (document,)
            elif events:
                made = ()
            else:
                return None
        else:
            made = self._edit_all(writes, revision, at, author)
            if not made and not events:
                return None
        for document in made:
            size += held_by(document)
            if document.expires is not None:
                self._expiries.add(document)
        if events:
            size += EVENT_BYTES * len(events)
            events = tuple(events)
        else:
            events = ()
        commit = self._log_commit(
            revision, at, author, made, events, size, key, (), unheard
        )
        if self._ends:
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
            self._versions.undo(made)
            raise
        return tuple(made)

    def _log_commit(
        self,
        revision: int,
        at: int,
        author: AgentIdentity,
        documents: tuple[Document, ...],
        events: tuple[object, ...],
        size: int,
        key: str | None = None,
        announced: Sequence[Announcement] = (),
        unheard: Listener | None = None,
    ) -> Commit:
        """Append the commit to the log, trim the log, and wake and call its readers."""
        self._at = at
        self.revision = revision
        cause = None if _running() is None else current_cause()
        if cause is not None and not cause.root:
            cause.root = revision
        commit = make(Commit)  # field by field, at two thirds of the cost of a call
        commit.revision = revision
        commit.at = at
        commit.author = author
        commit.documents = documents
        commit._events = events  # noqa: SLF001  # see above
        commit.size = size
        commit.cause = cause
        commit.key = key
        commit.announced = announced
        if self._log.add(commit, size, at):
            self._forget_surplus()
        followers, listeners = self._followers, self._listeners
        if followers.waiters:
            followers.wake()
        if self._watchers.count and documents:
            followers.route(documents)
        # `Listeners.call`, written out: nearly every commit makes one document.
        called = listeners.on_events if events or announced else listeners.on_documents
        if called:
            for listener in called:
                listener(commit)
        if documents and listeners.by_folder:
            if len(documents) == 1:
                inside = listeners.by_folder.get(documents[0].path.segments[0])
                for listener in () if inside is None else inside:
                    if listener is not unheard:
                        listener(commit)
            else:
                listeners.call_by_folder(commit, unheard)
        return commit

    def _commit_one(
        self,
        author: AgentIdentity,
        path: Path,
        old: Document | None,
        body: bytes | None,
        record: Any,
        announced: Sequence[Announcement] = (),
        unheard: Listener | None = None,
    ) -> Document:
        """Make the next version of one document and log it: the usual commit.

        It is a deletion without a body and a record. The log gets the document in place
        of a commit, unless a listener wants that.
        """
        revision = self.revision + 1
        wall = self._wall
        at = wall()
        if at < self._at:
            at = self._at  # H3
        made = make(Document)  # field by field, at two thirds of the cost of a call
        made.path = path
        made.body = body
        made.record = record
        made.version = made.created = revision
        made.at = at
        made.author = author
        made.priority = _NORMAL
        made.expires = None
        made.previous = old
        if old is None:
            self._versions.begin(made)
            old = made.previous
        elif body is None and record is None:
            made.created = old.created
            self._versions.end(made)
        else:
            made.created = old.created
            self._by_text[path.text] = made
        if old is None:
            size = ENTRY_BYTES
        elif (held := old.record) is not None:  # `held_by`, written out
            size = _KEPT_RECORD + getattr(held, "weight", 0)
        else:
            size = _KEPT_BODY + len(old.body or b"")
        listeners = self._listeners
        folder = path.segments[0]
        each = listeners.by_document.get(folder, ())
        if each is None and listeners.by_folder[folder] == (unheard,):
            each = ()
        if each is None or (
            listeners.on_events if announced else listeners.on_documents
        ):
            self._log_commit(
                revision, at, author, (made,), (), size, None, announced, unheard
            )
            return made
        cause = None if _running() is None else current_cause()
        if cause is not None and not cause.root:
            cause.root = revision
        self._at = at
        self.revision = revision
        entry = (made, announced, cause) if announced or cause else made
        if self._log.add(entry, size, at):
            self._forget_surplus()
        followers = self._followers
        if followers.waiters:
            followers.wake()
        if self._watchers.count:
            followers.route((made,))
        for listener in each:
            listener(made)
        return made

    def _edit(
        self, write: Write, revision: int, at: int, author: AgentIdentity
    ) -> Document | None:
        return self._versions.put(
            write.path,
            write.body,
            write.record,
            revision,
            at,
            author,
            write.priority,
            write.expires,
        )

    # --- expiry ---------------------------------------------------------------

    def _expire_due(self) -> None:
        """Commit the end of every document whose time is up, each on its own."""
        now = self.now()
        while (document := self._expiries.pop(now)) is not None:
            self._write(TIME, [Write(document.path)], ())

    def _set_timer(self) -> None:
        """Have the next expiry happen on time, even if the tree is not used."""
        when = self._expiries.next_at()
        if self._timer is not None:
            if self._timer_at == when:
                return
            self._timer.cancel()
            self._timer = None
        if when is None:
            return
        self._timer_at = when
        # A microsecond more, lest rounding wake us just before the time.
        self._timer = self._clock.call_at(
            (when - self._base + 1) / MICRO, self._on_time
        )

    def _on_time(self) -> None:
        self._timer = None
        self._expire_due()
        self._set_timer()
