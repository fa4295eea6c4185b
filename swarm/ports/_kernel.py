"""The kernel contract: what the memory kernel and every later one must do."""

from collections.abc import Callable, Collection, Coroutine, Sequence
from typing import Any, Protocol, TypeVar, runtime_checkable

from swarm.model import AgentIdentity, Commit, Document, Path, Pattern, Segment
from swarm.ports._commits import Condition, Plan, Ruling, View, Write

T = TypeVar("T")
R = TypeVar("R")


class Reader(Protocol):
    """A place in the log, moving forward."""

    @property
    def position(self) -> int:
        """The revision of the last commit delivered; resume with it."""
        ...

    def next_nowait(self) -> Commit | None:
        """Return the next commit, or None: there is no further one yet.

        Raises:
            Lagged: The log has let go of commits that were not read.
            Closed: This is closed, or the kernel is and everything was read.
        """
        ...

    async def next(self) -> Commit:
        """Wait for the next commit and return it. Cancelling loses nothing.

        Raises:
            Lagged: The log has let go of commits that were not read.
            Closed: This is closed, or the kernel is and everything was read.
        """
        ...

    def close(self) -> None:
        """Stop reading; idempotent."""
        ...


class LocalKernel(Protocol):
    """A kernel in the caller's own loop: the same operations, done at once.

    Each does what its namesake of `Kernel` does, and raises the same.
    """

    def read_now(self, look: Callable[..., T], *arguments: Any) -> T:
        """Do what `read` does, at once."""
        ...

    def find_now(self, path: Path) -> Document | None:
        """Do what `find` does, at once."""
        ...

    def now(self) -> int:
        """Return kernel time in microseconds; it never goes back."""
        ...

    def put_now(
        self, author: AgentIdentity, path: Path, body: bytes
    ) -> Document | None:
        """Do what `put` does, at once."""
        ...

    def check_use(self) -> None:
        """Refuse use from another event loop, and after the end.

        Raises:
            WrongLoop: This is not the kernel's event loop.
            Closed: The kernel is closed.
        """
        ...

    def apply_now(
        self,
        author: AgentIdentity,
        rule: Callable[..., Plan],
        *arguments: Any,
        conditions: Sequence[Condition] = (),
        unheard: Callable[[Commit], None] | None = None,
    ) -> tuple[Commit | None, Any]:
        """Do what `apply` does, at once.

        `unheard` is a listener to folders that is not called with this commit: the
        caller's own, which knows of it.
        """
        ...

    def apply_one_now(
        self,
        author: AgentIdentity,
        path: Path,
        rule: Callable[[Document | None, int, R], Ruling],
        request: R,
        unheard: Callable[[Commit], None] | None = None,
    ) -> tuple[int, Any]:
        """Do what `apply_one` does, at once; `unheard` as in `apply_now`."""
        ...

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
        ...


class RetentionHold(Protocol):
    """A reader that still needs a part of the log (semantics.md, H7).

    Both callbacks are called in the middle of a commit and must neither raise nor
    commit.
    """

    @property
    def after(self) -> int:
        """The revision up to which nothing is needed any more."""
        ...

    def on_pressure(self) -> None:
        """Need less soon: the log is at its bounds."""
        ...

    def on_truncate(self, commits: Sequence[Commit]) -> None:
        """Go on without these: the log, at its hard limit, has let go of them."""
        ...


@runtime_checkable
class Refusing(Protocol):
    """A kernel or log that can say why it refuses to be used after its end.

    Attributes:
        refusal: Returns the error to raise; None: a plain `Closed`.
    """

    refusal: Callable[[], Exception] | None


class Tail(Protocol):
    """The newest part of the log, at hand in this process without waiting.

    The event bus reads it. A kernel on a server keeps one by following its log.
    """

    @property
    def revision(self) -> int:
        """The newest revision in it."""
        ...

    def now(self) -> int:
        """Return kernel time in microseconds, as well as it is known here."""
        ...

    @property
    def compacted(self) -> int:
        """The newest revision that it has let go of: it holds all later ones."""
        ...

    def read_now(self, look: Callable[..., T], *arguments: Any) -> T:
        """Return `look(view, *arguments)` over the tree as this process has it.

        That is at least as new as the log here. An operation that has returned is in
        both.
        """
        ...

    def find_now(self, path: Path) -> Document | None:
        """Return the document at or around `path`, as this process has it, or None."""
        ...

    def follow_now(self, since: int | None = None) -> Reader:
        """Return a reader of every commit after revision `since` (default: from now).

        Raises:
            Compacted: The log no longer reaches back that far.
            ValueError: The revision is still to come.
        """
        ...

    def before_newest(self, count: int) -> int:
        """Return the revision after which the newest `count` commits come, or all."""
        ...

    def hurry(self) -> None:
        """Have what was committed come here now: something here begins to wait.

        A process that only listens reads a busy log on a server less often.
        """
        ...

    def keep_up(self, rest: Callable[[], float | None]) -> None:
        """Ask `rest` for how long the log may go unread here, again and again.

        Args:
            rest: Returns seconds. 0: the next commit may be the one that is waited
                for. None: something here waits, so the rest is as short as is fair to
                other processes. Infinity: nothing waits.
        """
        ...

    def hold(self, hold: RetentionHold) -> None:
        """Keep what `hold` needs, up to `Limits.held_commits` and `held_bytes`.

        Raises:
            Compacted: It is not all there any more.
        """
        ...

    def release(self, hold: RetentionHold) -> None:
        """Keep nothing for `hold` any more; harmless when it holds nothing."""
        ...

    def release_opened(self) -> None:
        """Keep no more than the holds need of what opening has found.

        Opening cannot know the holds, so it keeps what they may need until then.
        """
        ...

    def listen(
        self,
        callback: Callable[[Commit], None],
        *,
        documents: bool,
        folders: Collection[Segment] | None = None,
        each: Callable[[Document], None] | None = None,
    ) -> Callable[[], None]:
        """Call `callback` with each commit that holds events, as it gets into the log.

        Any number of listeners are called once the commit is complete, in revision
        order. A listener must neither raise nor commit.

        Args:
            callback: The listener.
            documents: Whether it gets commits that hold only documents, too.
            folders: Names of top-level folders: only the commits that change a
                document in one of them, with or without events. Others cost it nothing.
            each: With folders: called with the document of a commit that made just
                one, in place of `callback`, where that spares making the commit.

        Returns:
            A function that removes the listener; idempotent.
        """
        ...

    def on_gap(self, callback: Callable[[int, int], None]) -> None:
        """Call `callback(last, first)` when commits were missed in this process.

        Those after revision `last` and before `first` never come here: a process that
        was cut off for longer than the log of its server. The callback must neither
        raise nor commit; the commits from `first` on come next.
        """
        ...


class Kernel(Protocol):
    """The tree, the commit and the log.

    A rule is a pure, synchronous function `(view, *arguments) -> Plan`. It may be
    asked several times for one call, and what it returned last is what happened.
    """

    @property
    def local(self) -> LocalKernel | None:
        """This kernel's direct form: it answers at once, in this event loop.

        None for a kernel that is a round trip away, such as one on a server. The
        memory kernel always has it, under simulation too.
        """
        ...

    async def read(self, look: Callable[..., T], *arguments: Any) -> T:
        """Return `look(view, *arguments)` over one consistent view."""
        ...

    async def find(self, path: Path) -> Document | None:
        """Return the document at `path` or around it, or None."""
        ...

    # `put` and `apply_one` are plain functions here: a kernel around another one may
    # return its coroutine.

    def put(
        self, author: AgentIdentity, path: Path, body: bytes
    ) -> Coroutine[Any, Any, Document | None]:
        """Write one whole document, in place of its value before.

        The commit that is made most, and so the one with a way of its own.

        Returns:
            The new version, or None when `path` lies inside another document and
            nothing was written.

        Raises:
            PathConflict: The path is a folder, or holds an index.
        """
        ...

    async def apply(
        self,
        author: AgentIdentity,
        rule: Callable[..., Plan],
        *arguments: Any,
        conditions: Sequence[Condition] = (),
    ) -> tuple[Commit | None, Any]:
        """Ask the rule and commit what it plans, as one step, if the conditions hold.

        Returns:
            The commit, or None when nothing was planned, and the plan's outcome.

        Raises:
            ConflictError: A condition does not hold; nothing was changed.
            PathConflict: A write would make a path both document and folder.
            LimitExceeded: The batch is too large.
            StaleLease: A `Holder` is not the live holder; or its own error.
            Exception: What the rule raised; nothing was changed.
        """
        ...

    def apply_one(
        self,
        author: AgentIdentity,
        path: Path,
        rule: Callable[[Document | None, int, R], Ruling],
        request: R,
    ) -> Coroutine[Any, Any, tuple[int, Any]]:
        """Ask `rule(document, now, request)` about one record of swarm's own.

        Locks, semaphores and tasks are made of these: the rule gets the document at
        `path` (None: absent) and kernel time, and its ruling is committed in
        the same step. Nothing but records may stand at, above or below `path`.

        Returns:
            The revision of the commit, 0 when nothing was to be committed, and the
            ruling's outcome.

        Raises:
            PathConflict: The path is a folder, or goes through a document.
            Exception: Whatever the rule raised; nothing was changed.
        """
        ...

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
        """Write all of `writes` and publish `events` under one new revision.

        What the running code is a consequence of (`current_cause`) is kept with them,
        and so is `key`, by which a publisher knows its event again. `weight` is how
        many bytes the events hold beyond the few that each is taken to.

        Returns:
            The commit, or None when there was nothing to do: no writes but
            deletions of what is not there, and no events.

        Raises:
            ConflictError: A condition does not hold; nothing was changed.
            PathConflict: A write would make a path both document and folder.
            LimitExceeded: The batch is too large.
            StaleLease: A `Holder` is not the live holder; or its own error.
        """
        ...

    async def view_at(self, revision: int | None = None) -> View:
        """Return the tree as it was at `revision`, or as it is now, read only.

        What is committed later does not change the view.

        Raises:
            Compacted: The log no longer reaches back that far.
            ValueError: The revision is still to come.
        """
        ...

    async def versions(self, path: Path, limit: int) -> list[Document]:
        """Return the document's retained versions, deletions included, newest first."""
        ...

    async def follow(
        self, since: int | None = None, pattern: Pattern | None = None
    ) -> Reader:
        """Return a reader of every commit after revision `since` (default: from now).

        With a pattern, only of commits that concern it: that change a document which
        it matches, one in which it may match a place, or one below it when it has no
        wildcards. A commit that does not concern the reader costs it nothing.

        Raises:
            Compacted: The log no longer reaches back that far.
            ValueError: The revision is still to come.
        """
        ...

    async def close(self) -> None:
        """Refuse everything from now on and wake every reader; idempotent."""
        ...
