"""The tree in one process, in one event loop: everything done at once.

In one loop a synchronous function is atomic, so a commit is a direct call: no lock,
no queue, no task switch.
"""

import asyncio
from asyncio.events import _get_running_loop
from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Any, Final, TypeVar

from swarm.errors import Closed, PathConflict, SwarmError, WrongLoop
from swarm.kernel._batches import in_order
from swarm.kernel._conditions import check_conditions
from swarm.kernel._expiries import Expiries
from swarm.kernel._follow import Followers, LogReader
from swarm.kernel._listeners import DocumentListener, Listener, Listeners
from swarm.kernel._log import ENTRY_BYTES, Log, held_by
from swarm.kernel._restore import OpeningHold, replay, restore, retained
from swarm.kernel._tree import Versions, make, next_version
from swarm.kernel._views import LiveView, PastView
from swarm.model import (
    DOCUMENT_BYTES,
    TIME,
    AgentIdentity,
    Announcement,
    Commit,
    Document,
    Path,
    Pattern,
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

_running: Final = current_activity.get
_RECORD_BYTES: Final = 2 * DOCUMENT_BYTES
_KEPT_RECORD: Final = ENTRY_BYTES + _RECORD_BYTES
_KEPT_BODY: Final = ENTRY_BYTES + DOCUMENT_BYTES
_EVENT_BYTES: Final = 256
"""Bytes that a payload is assumed to keep in memory besides its given weight."""


class LocalTree:
    """The tree, the commit and the log, without waiting. Fulfils `ports.LocalKernel`.

    Every method belongs to the event loop this was made in and raises `WrongLoop`
    anywhere else, and `Closed` after its end. It is the event bus's `ports.Tail`, too.

    Attributes:
        limits: The bounds of its documents, commits and log.
        revision: The newest revision.
        refusal: Returns the error of a use that is refused, with the name of the swarm
            and the cause of its end; None: it belongs to no swarm.
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
        self.revision: int = revision
        self._at = 0
        # Kernel time is wall time at the start plus what has passed since, so that
        # a jump of the machine's clock ends no lease early (semantics.md, G8).
        self._base = clock.wall() - int(clock.monotonic() * 1_000_000)
        self._monotonic = clock.monotonic
        self._versions = Versions()
        self._tree = self._versions.tree
        self._by_text = self._tree.by_text
        self._log = Log(self.limits, revision)
        self._view = LiveView(self._tree, self)
        self._expiries = Expiries(self._by_text)
        self._ends = self._expiries.heap
        self._timer: Timer | None = None
        self._timer_at = 0
        self._followers = Followers(self._log)
        self._watchers = self._followers.watchers
        self._listeners = Listeners()
        self._opened = OpeningHold(revision)
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
        text = path.text
        old = self._by_text.get(text)
        revision = self.revision + 1
        wall = self._wall
        at = wall()
        if at < self._at:
            at = self._at  # H3
        document = next_version(old, path, body, None, revision, at, author)
        if old is not None:
            self._by_text[text] = document
        else:
            try:
                self._versions.begin(document)
            except PathConflict:
                if self._tree.find(path) is not None:
                    return None
                raise
            old = document.previous
        size = ENTRY_BYTES if old is None else ENTRY_BYTES + old.size
        # The commit that is made most, written out: it made one document, no more.
        listeners = self._listeners
        if (
            listeners.on_documents
            or (listeners.by_folder and path.segments[0] in listeners.by_folder)
            or _running() is not None
        ):
            self._log_commit(revision, at, author, (document,), (), size)
            return document
        self._at = at
        self.revision = revision
        if self._log.add(document, size, at):
            self._forget_surplus()
        followers = self._followers
        if followers.waiters:
            followers.wake()
        if self._watchers.count:
            followers.route((document,))
        return document

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
        # Read before they are called: a method that is no function is found slowly.
        monotonic, wall = self._monotonic, self._wall
        now = self._base + int(monotonic() * 1e6)
        text = path.text
        old = self._by_text.get(text)
        record, events, outcome = rule(old, now, request)
        if record is KEEP or (record is None and old is None):
            return self._announce(author, events) if events else 0, outcome
        revision = self.revision + 1
        at = wall()
        if at < self._at:
            at = self._at  # H3
        made = next_version(old, path, None, record, revision, at, author)
        if old is None:
            self._versions.begin(made)
            old = made.previous
            size = ENTRY_BYTES if old is None else ENTRY_BYTES + old.size
        else:
            if record is None:
                self._versions.end(made)
            else:
                self._by_text[text] = made
            held = old.record
            if held is not None:  # `old.size`, written out
                size = _KEPT_RECORD + getattr(held, "weight", 0)
            else:
                size = _KEPT_BODY + len(old.body or b"")
        listeners = self._listeners
        folder = path.segments[0]
        each = listeners.by_document.get(folder)
        if (listeners.on_events if events else listeners.on_documents) or (
            each is None
            and (inside := listeners.by_folder.get(folder)) is not None
            and inside != (unheard,)
        ):
            self._log_commit(
                revision, at, author, (made,), (), size, None, events, unheard
            )
            return revision, outcome
        # Nobody asks for the commit itself: it is made when it is read.
        cause = None if _running() is None else current_cause()
        if cause is not None and not cause.root:
            cause.root = revision
        self._at = at
        self.revision = revision
        log = self._log
        if log.add((made, events, cause) if events or cause else made, size, at):
            self._forget_surplus()
        followers = self._followers
        if followers.waiters:
            followers.wake()
        if self._watchers.count:
            followers.route((made,))
        if each is not None:
            for listener in each:
                listener(made)
        return revision, outcome

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
        at = self._wall()
        if at < self._at:
            at = self._at  # H3
        size = ENTRY_BYTES + _EVENT_BYTES * len(events) + weight
        return self._log_commit(
            self.revision + 1, at, author, (), tuple(events), size, key
        )

    def _announce(self, author: AgentIdentity, events: Sequence[Announcement]) -> int:
        """Log a commit of events alone; return its revision."""
        revision, at = self.revision + 1, max(self._wall(), self._at)  # H3
        size = ENTRY_BYTES + _EVENT_BYTES
        self._log_commit(revision, at, author, (), (), size, None, events)
        return revision

    def now(self) -> int:
        """Return kernel time in microseconds; it never goes back."""
        return self._base + int(self._clock.monotonic() * 1_000_000)

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

    def release_opened(self) -> None:
        """Keep no more than the holds need of what opening has found."""
        self._log.release(self._opened)

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

    def fill_now(self, documents: Collection[Document]) -> None:
        """Put documents into a new tree, in place of those of the same path.

        The log does not retain them.
        """
        self._tree.fill(documents)
        self._note_ends([each for each in documents if each.expires is not None])

    def restore_now(
        self,
        documents: Collection[Document],
        older: Iterable[Document],
        commits: Iterable[Commit],
        *,
        compacted: int,
        needed: int | None = None,
    ) -> None:
        """Fill a new tree with a snapshot; `replay_now` adds what came after it.

        Args:
            documents: The newest version of every document, but for those that
                `fill_now` put there before.
            older: The versions before the oldest change in `commits`.
            commits: The retained part of the log.
            compacted: The newest revision before that part.
            needed: Keep the log after this revision until `release_opened`, also
                beyond its usual bounds; None: keep no more than these.
        """
        self._log = self._followers.log = Log(self.limits, compacted)
        if needed is not None:
            self._opened.after = max(needed, compacted)
            self._log.hold(self._opened)
        self.fill_now(documents)
        commits = list(commits)
        restore(self._versions, older, commits)
        for commit in commits:
            self._append(commit)

    def replay_now(self, commit: Commit) -> None:
        """Make the commit's documents the newest ones, and add it to the log."""
        replay(self._versions, commit)
        self._note_ends(commit.documents)
        if self._append(commit):
            self._forget_surplus()

    def replay_document_now(self, document: Document) -> None:
        """Do what `replay_now` does for the commit that made this document only."""
        text = document.path.text
        old = self._by_text.get(text)
        if old is None:
            self._versions.begin(document)
            old = document.previous
        else:
            document.path = old.path  # one object for all versions
            document.previous = old
            self._by_text[text] = document
        if document.expires is not None:
            self._expiries.add(document)
        size = ENTRY_BYTES if old is None else ENTRY_BYTES + old.size
        self._at = document.at
        if self._log.add(document, size, document.at):
            self._forget_surplus()

    def resume_at(self, revision: int) -> None:
        """Have the next commit get a revision later than `revision`."""
        self.revision = max(self.revision, revision)
        self._set_timer()

    def _append(self, commit: Commit) -> bool:
        """Add a commit that was made elsewhere, with what it keeps in memory here."""
        events = _EVENT_BYTES * commit.event_count
        commit.size = ENTRY_BYTES + events + sum(map(held_by, commit.documents))
        self._at = commit.at
        return self._log.append(commit)

    def _note_ends(self, documents: Iterable[Document]) -> None:
        for document in documents:
            if document.expires is not None:
                self._expiries.add(document)

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
        revision = self.revision + 1
        at = self._wall()
        if at < self._at:
            at = self._at  # H3
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
            size += _EVENT_BYTES * len(events)
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

    def _forget_surplus(self) -> None:
        for entry in self._log.pop_surplus():
            self._versions.forget(entry)

    def _edit(
        self, write: Write, revision: int, at: int, author: AgentIdentity
    ) -> Document | None:
        if write.body is None and write.record is None:
            old = self._by_text.get(write.path.text)
            if old is None:
                return None
            gone = next_version(old, write.path, None, None, revision, at, author)
            self._versions.end(gone)
            return gone
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
            (when - self._base + 1) / 1_000_000, self._on_time
        )

    def _on_time(self) -> None:
        self._timer = None
        self._expire_due()
        self._set_timer()
