"""The replica: the whole tree of a Redis swarm as this process has it.

It is a tree fed by the log. Rules and readers look at it; nothing is written to it but
what the server has committed.
"""

import asyncio
import math
from collections.abc import Callable, Mapping, Sequence
from heapq import heappop, heappush
from itertools import count
from typing import Any

from swarm.errors import Closed
from swarm.kernel import LocalTree, restore
from swarm.model import MICRO, TIME, Commit, Document, Path
from swarm.ports import Clock, Condition, Limits
from swarm.storage.redis._entries import BEFORE, OPERATION, decode_entry
from swarm.storage.redis._loading import Loaded, difference, entry_revision


class LogGap(Exception):
    """The log does not go on where the replica ends.

    Attributes:
        is_lost: Whether the server has lost commits that are here. Otherwise it has
            let go of later ones, which are not here.
    """

    def __init__(self, before: int, revision: int) -> None:
        """Say where the log goes on, and which revision is the newest here."""
        super().__init__(f"the log goes on after revision {before}")
        self.is_lost: bool = before < revision


class Replica(LocalTree):
    """A tree that follows a log. `ports.Tail` is what the event bus has of it.

    Attributes:
        documents_by_text: The newest version of each document, by the text of its path.
        sent: The commits of this process that are under way, by their operation: the
            log can tell of one before its reply does.
        on_due: Called when documents have come to their end.
        on_wait: Called when something begins to wait for later commits, with the
            seconds for which it does without them.
        news: How many commits of other processes have come here.
    """

    def __init__(self, clock: Clock, limits: Limits | None) -> None:
        """Start empty."""
        super().__init__(clock, limits)
        self.documents_by_text: Mapping[str, Document] = self._by_text
        self.sent: dict[bytes, Commit] = {}
        self.on_due: Callable[[], object] | None = None
        self.on_wait: Callable[[float], object] | None = None
        self.news: int = 0
        self._offset: int | None = None
        self._error = 0
        self._failure: Exception | None = None
        self._waiting: list[tuple[int, int, asyncio.Future[None]]] = []
        self._ids = count()
        self._on_gap: list[Callable[[int, int], None]] = []
        self._rests: list[Callable[[], float | None]] = []

    # --- time -------------------------------------------------------------------------

    def now(self) -> int:
        """Return the server's time in microseconds, as well as it is known."""
        return int(self._monotonic() * MICRO) + (self._offset or 0)

    def saw_time(self, sent: float, received: float, server: int) -> None:
        """Take a reply's time: it was read between sending and receiving (Cristian)."""
        middle = int((sent + received) * 500_000)
        error = int((received - sent) * 500_000)
        if self._offset is None or error <= self._error:
            self._offset, self._error = server - middle, error
        else:
            self._error += 1  # an old estimate is trusted less and less
            low = server - int(received * MICRO)
            high = server - int(sent * MICRO)
            self._offset = min(max(self._offset, low), high)

    def has_due(self) -> bool:
        """Return whether the time of a document may be up."""
        return bool(self._ends) and self._ends[0][0] <= self.now()

    @property
    def is_awaited(self) -> bool:
        """Whether a task waits for a later revision."""
        return bool(self._waiting)

    def longest_rest(self) -> float | None:
        """Return for how many seconds the log may go unread, as `keep_up` has it.

        None: a reader of the log, a subscription or something else here waits.
        """
        if self._followers.waiters or self._watchers.count or self._listeners.on_events:
            return None
        longest = math.inf
        for rest in self._rests:
            seconds = rest()
            if seconds is None:
                return None
            longest = min(longest, seconds)
        return longest

    def next_due(self) -> int | None:
        """Return when the next document ends, in kernel time, or None."""
        return self._expiries.next_at()

    def due(self) -> list[Document]:
        """Return the documents whose time is up."""
        now = self.now()
        if not self._ends or self._ends[0][0] > now:
            return []
        ends = sorted(entry for entry in self._ends if entry[0] <= now)
        found = [self._by_text.get(text) for _, text, _ in ends]
        versions = [version for _, _, version in ends]
        return [
            document
            for document, version in zip(found, versions, strict=True)
            if document is not None and document.version == version
        ]

    def _expire_due(self) -> None:
        """Commit nothing here: the kernel sweeps what is due (`RedisKernel`)."""

    def _set_timer(self) -> None:
        if self.on_due is not None:
            self.on_due()

    # --- following --------------------------------------------------------------------

    def take_entries(self, entries: Sequence[Any]) -> None:
        """Apply entries of the log.

        Those that are here already are passed by.

        Raises:
            LogGap: Commits before one of them are neither here nor in the entries.
        """
        for number, fields in entries:
            revision = entry_revision(number)
            if revision <= self.revision:
                continue
            before = int(fields[BEFORE])
            if before != self.revision:
                raise LogGap(before, self.revision)
            commit = self.sent.get(fields[OPERATION])
            if commit is None:
                self.news += 1
                commit = decode_entry(fields, revision)
            else:
                number_commit(commit, revision)
            self.take(commit)

    def take(self, commit: Commit) -> None:
        """Apply the next commit of the log, and tell listeners, readers and waiters."""
        if commit.revision <= self.revision:
            return
        self.replay_now(commit)
        self.revision = commit.revision
        documents, followers = commit.documents, self._followers
        for document in documents:
            if document.expires is not None:
                self._set_timer()
                break
        if followers.waiters:
            followers.wake()
        if self._watchers.count:
            followers.route(documents)
        self._listeners.call(commit, has_events=commit.has_events)
        if self._waiting:
            self._wake()

    def reload(self, loaded: Loaded) -> None:
        """Go on from a state of the server that does not follow from this one.

        Listeners hear of what is different as of one commit, and of the commits that
        are new to them. Every reader of the log has missed something and raises
        `Lagged`. The history here begins anew.
        """
        before = self.revision
        different = difference(self._by_text, loaded)
        number = self._log.end - 1
        self._log.restart(loaded.compacted)
        self._versions.tombstones.clear()
        self._ends.clear()
        for document in different:
            if document.is_deleted:
                self._versions.tree.remove(document.path)
        self.fill_now(loaded.documents.values())
        restore(self._versions, (), loaded.commits)
        for commit in loaded.commits:
            if self._append(commit):
                self._forget_surplus()
        self.revision: int = loaded.revision
        for reader in self._watchers.every():
            if reader.take(number):
                reader.wake()
        self._followers.wake()
        jump = Commit(loaded.revision, loaded.revision, TIME, tuple(different))
        self._listeners.call(jump, has_events=False)
        self._log.tell_holds()
        if loaded.compacted > before:
            for callback in self._on_gap:
                callback(before, loaded.compacted + 1)
        for document in different:
            document.previous = None
        for commit in loaded.commits:
            if commit.revision > before:
                self._listeners.call(commit, has_events=commit.has_events)
        self._set_timer()
        self._wake()

    def on_gap(self, callback: Callable[[int, int], None]) -> None:
        """Call `callback(last, first)` when commits were missed here."""
        self._on_gap.append(callback)

    def hurry(self) -> None:
        """Have the log be read on as soon as what waits here needs it."""
        if self.on_wait is not None:
            seconds = self.longest_rest()
            if seconds != math.inf:
                self.on_wait(seconds or 0.0)

    def keep_up(self, rest: Callable[[], float | None]) -> None:
        """Ask `rest` after each reading for how long the next may wait."""
        self._rests.append(rest)

    async def reach(self, revision: int) -> None:
        """Wait until the replica has a revision.

        Raises:
            SwarmError: The replica takes nothing more (`fail`).
        """
        if self.revision >= revision:
            return
        if self._failure is not None:
            raise self._failure
        if self._loop is None:
            raise Closed("the swarm is closed")
        future = self._loop.create_future()
        heappush(self._waiting, (revision, next(self._ids), future))
        if self.on_wait is not None:
            self.on_wait(0.0)
        await future

    def _wake(self) -> None:
        while self._waiting and self._waiting[0][0] <= self.revision:
            future = heappop(self._waiting)[2]
            if not future.done():
                future.set_result(None)

    def fail(self, error: Exception) -> None:
        """Take nothing more: raise this in every task that waits for a revision."""
        self._failure = error
        self.fail_waiting(error)

    def fail_waiting(self, error: Exception) -> None:
        """Raise this in every task that waits for a revision now."""
        for _, _, future in self._waiting:
            if not future.done():
                future.set_exception(error)
        self._waiting.clear()

    def check_now(self, conditions: Sequence[Condition]) -> None:
        """Refuse conditions that do not hold here.

        Raises:
            ConflictError: A document or folder has changed.
        """
        self._check(conditions)

    def document_at(self, text: str) -> Document | None:
        """Return the document with exactly this path."""
        return self._by_text.get(text)

    def is_folder(self, path: Path) -> bool:
        """Return whether there are documents below a path."""
        return self._tree.is_folder(path)


def number_commit(commit: Commit, revision: int) -> None:
    """Give a commit and its documents the revision that the server chose."""
    commit.revision = commit.at = revision
    for document in commit.documents:
        document.version = document.at = revision
        document.created = document.created or revision
