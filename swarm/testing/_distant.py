"""A kernel that is a round trip away, without a server."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Collection, Coroutine, Sequence
from typing import Any, TypeVar

from swarm.errors import Closed, WrongLoop
from swarm.kernel import (
    Followers,
    Listeners,
    Log,
    LogReader,
    MemoryKernel,
    to_commit,
)
from swarm.model import AgentIdentity, Commit, Document, Path, Pattern, Segment
from swarm.ports import Condition, Plan, RetentionHold, Ruling, View, Write

T = TypeVar("T")
R = TypeVar("R")


class DistantKernel:
    """A memory kernel as a process sees it that is a round trip away.

    It stands in for a kernel on a server in contract tests. `local` is None; each
    operation waits `delay` seconds, takes effect, and waits until this process's own
    copy of the log (`tail`) has every commit that was made by then, which is `delay`
    seconds later. Several of them on one memory kernel are several processes.
    """

    def __init__(self, kernel: MemoryKernel, delay: float = 0.0) -> None:
        """Stand `delay` seconds (0: one loop turn) away from `kernel`."""
        self._kernel = kernel
        self._loop = asyncio.get_running_loop()
        self._delay = delay
        self.tail: LaggingTail = LaggingTail(kernel, delay)

    @property
    def local(self) -> None:
        """None: no operation can be done at once."""
        return None

    async def read(self, look: Callable[..., T], *arguments: Any) -> T:
        """Return `look(view, *arguments)` over one consistent view."""
        return await self._do(self._kernel.read(look, *arguments))

    async def find(self, path: Path) -> Document | None:
        """Return the document at `path` or around it, or None."""
        return await self._do(self._kernel.find(path))

    async def put(
        self, author: AgentIdentity, path: Path, body: bytes
    ) -> Document | None:
        """Write one whole document; None when `path` lies inside another one."""
        return await self._do(self._kernel.put(author, path, body))

    async def apply(
        self,
        author: AgentIdentity,
        rule: Callable[..., Plan],
        *arguments: Any,
        conditions: Sequence[Condition] = (),
    ) -> tuple[Commit | None, Any]:
        """Ask the rule and commit what it plans, as one step."""
        return await self._do(
            self._kernel.apply(author, rule, *arguments, conditions=conditions)
        )

    async def apply_one(
        self,
        author: AgentIdentity,
        path: Path,
        rule: Callable[[Document | None, int, R], Ruling],
        request: R,
    ) -> tuple[int, Any]:
        """Ask the rule of one record and commit its ruling, as one step."""
        return await self._do(self._kernel.apply_one(author, path, rule, request))

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
        return await self._do(
            self._kernel.commit(
                author,
                writes,
                conditions=conditions,
                events=events,
                key=key,
                weight=weight,
            )
        )

    async def view_at(self, revision: int | None = None) -> View:
        """Return the tree as it was at `revision`, or as it is now."""
        return await self._do(self._kernel.view_at(revision))

    async def versions(self, path: Path, limit: int) -> list[Document]:
        """Return the retained versions of one document, newest first."""
        return await self._do(self._kernel.versions(path, limit))

    async def follow(
        self, since: int | None = None, pattern: Pattern | None = None
    ) -> LogReader:
        """Return a reader of this process's copy of the log."""
        await self._do(self._kernel.read(_nothing))
        return self.tail.follow_now(since, pattern)

    async def close(self) -> None:
        """Close the memory kernel, and so all that stand before it; idempotent."""
        await self._kernel.close()
        self.tail.close()

    async def _do(self, operation: Coroutine[Any, Any, T]) -> T:
        """Do an operation a delay from now, and wait for its commits in the log."""
        if asyncio.get_running_loop() is not self._loop:
            operation.close()
            raise WrongLoop
        try:
            await asyncio.sleep(self._delay)
        except BaseException:
            operation.close()
            raise
        try:
            return await operation
        finally:
            await self.tail.reach(self._kernel.revision)


class LaggingTail:
    """The newest part of a kernel's log as another process has it: late, in order.

    Fulfils `ports.Tail`.
    """

    def __init__(self, kernel: MemoryKernel, delay: float) -> None:
        """Copy the log of `kernel`, each commit `delay` seconds late."""
        self._kernel = kernel
        self._delay = delay
        self._loop = asyncio.get_running_loop()
        self._log = Log(kernel.limits, kernel.compacted)
        for commit in kernel.retained_now()[2]:
            self._log.append(
                commit if isinstance(commit, Commit) else to_commit(commit)
            )
        self._followers = Followers(self._log)
        self._coming: deque[Commit] = deque()
        self._listeners = Listeners()
        self._waiting: list[tuple[int, asyncio.Future[None]]] = []
        self._revision = kernel.revision
        self._is_held = False
        self._ignore = kernel.listen(self._send, documents=True)

    @property
    def revision(self) -> int:
        """The newest revision that has arrived."""
        return self._revision

    def now(self) -> int:
        """Return kernel time in microseconds."""
        return self._kernel.now()

    @property
    def compacted(self) -> int:
        """The newest revision that the copy has let go of."""
        return self._log.compacted

    def read_now(self, look: Callable[..., T], *arguments: Any) -> T:
        """Return `look(view, *arguments)` over the tree as this process has it.

        That is at least as new as the log here; in this stand-in it is the newest.
        """
        return self._kernel.read_now(look, *arguments)

    def find_now(self, path: Path) -> Document | None:
        """Return the document at `path` as this process has it."""
        return self._kernel.find_now(path)

    def follow_now(
        self, since: int | None = None, pattern: Pattern | None = None
    ) -> LogReader:
        """Return a reader of the commits after revision `since`."""
        if self._followers.is_closed:
            raise Closed("the swarm is closed")
        after = self._revision if since is None else since
        if after > self._revision:
            raise ValueError(f"revision {since} is still to come")
        return self._followers.reader(after, pattern)

    def before_newest(self, count: int) -> int:
        """Return the revision after which the newest `count` commits come, or all."""
        return self._log.before_newest(count)

    def hurry(self) -> None:
        """Do nothing: each commit takes its time."""

    def keep_up(self, rest: Callable[[], float | None]) -> None:
        """Do nothing: each commit takes its time."""

    def hold(self, hold: RetentionHold) -> None:
        """Keep what `hold` needs."""
        self._log.hold(hold)

    def release(self, hold: RetentionHold) -> None:
        """Keep nothing for `hold` any more."""
        self._log.release(hold)

    def release_opened(self) -> None:
        """Do nothing: the copy begins with all that the kernel's log has."""

    def listen(
        self,
        callback: Callable[[Commit], None],
        *,
        documents: bool,
        folders: Collection[Segment] | None = None,
        each: Callable[[Document], None] | None = None,
    ) -> Callable[[], None]:
        """Call `callback` with each commit that concerns it, as it arrives."""
        return self._listeners.add(
            callback, documents=documents, folders=folders, each=each
        )

    def on_gap(self, callback: Callable[[int, int], None]) -> None:
        """Do nothing: each commit arrives, however late."""

    async def reach(self, revision: int) -> None:
        """Wait until a revision has arrived, or the end."""
        if self._revision < revision and not self._followers.is_closed:
            future = self._loop.create_future()
            self._waiting.append((revision, future))
            await future

    def close(self) -> None:
        """Let everything arrive now, then end every reader; idempotent."""
        self._ignore()
        self._is_held = False
        while self._coming:
            self._arrive()
        self._followers.close()
        self._wake(self._revision)

    def hold_back(self) -> None:
        """Let nothing arrive until `catch_up`."""
        self._is_held = True

    def catch_up(self) -> None:
        """Let everything arrive that has come meanwhile."""
        self._is_held = False
        for _ in range(len(self._coming)):
            self._loop.call_soon(self._arrive)

    def _send(self, commit: Commit) -> None:
        self._coming.append(commit)
        if self._delay > 0:
            self._loop.call_later(self._delay, self._arrive)
        else:
            self._loop.call_soon(self._arrive)

    def _arrive(self) -> None:
        """Take the oldest commit that is under way; each was sent with one call."""
        if not self._coming or self._is_held:
            return
        commit = self._coming.popleft()
        if self._log.append(commit):
            self._log.pop_surplus()
        self._revision = commit.revision
        self._followers.wake()
        self._followers.route(commit.documents)
        self._listeners.call(commit, has_events=bool(commit.events))
        self._wake(commit.revision)

    def _wake(self, revision: int) -> None:
        waiting, self._waiting = self._waiting, []
        for wanted, future in waiting:
            if wanted > revision and not self._followers.is_closed:
                self._waiting.append((wanted, future))
            elif not future.done():
                future.set_result(None)


def _nothing(view: View) -> None:
    """Look at nothing."""
