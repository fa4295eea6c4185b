"""The memory kernel: what is done at once, under the contract of every kernel.

The `async` methods keep the contract that a kernel on a server has to keep as well.
They never suspend, but for the runtime's scheduling point in front of each.
"""

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from swarm.kernel._follow import LogReader
from swarm.kernel._local import LocalTree
from swarm.model import AgentIdentity, Commit, Document, Path, Pattern
from swarm.ports import (
    Clock,
    Condition,
    Limits,
    Pause,
    Plan,
    Ruling,
    View,
    Write,
    current_runtime,
)

T = TypeVar("T")
R = TypeVar("R")


class MemoryKernel(LocalTree):
    """The tree, the commit and the log, in memory. Fulfils `ports.Kernel`.

    Every method but `close` belongs to the event loop the kernel was made in and
    raises `WrongLoop` anywhere else, and `Closed` after `close`.
    """

    def __init__(
        self, clock: Clock, limits: Limits | None = None, *, revision: int = 0
    ) -> None:
        """Start empty, with the next commit after `revision`."""
        super().__init__(clock, limits, revision=revision)
        self._pause: Pause | None = current_runtime().pause

    async def read(self, look: Callable[..., T], *arguments: Any) -> T:
        """Return `look(view, *arguments)` over the tree as it is."""
        if self._pause is not None:
            await self._pause()
        return self.read_now(look, *arguments)

    @property
    def local(self) -> "MemoryKernel":
        """This kernel: it answers at once."""
        return self

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

    async def apply_one(
        self,
        author: AgentIdentity,
        path: Path,
        rule: Callable[[Document | None, int, R], Ruling],
        request: R,
    ) -> tuple[int, Any]:
        """Ask the rule of one record once and commit its ruling, as one step."""
        if self._pause is not None:
            await self._pause()
        return self.apply_one_now(author, path, rule, request)

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

    async def view_at(self, revision: int | None = None) -> View:
        """Return the tree as it was at `revision`, or as it is now."""
        if self._pause is not None:
            await self._pause()
        return self.past_now(revision)

    async def versions(self, path: Path, limit: int) -> list[Document]:
        """Return the retained versions of one document, newest first."""
        if self._pause is not None:
            await self._pause()
        return self.versions_now(path, limit)

    async def follow(
        self, since: int | None = None, pattern: Pattern | None = None
    ) -> LogReader:
        """Return a reader of the commits after `since`, or from now on."""
        if self._pause is not None:
            await self._pause()
        return self.follow_now(since, pattern)

    async def close(self) -> None:
        """Refuse everything from now on and wake every reader; idempotent."""
        self.close_now()
