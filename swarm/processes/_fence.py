"""A kernel that writes for a singleton only while the singleton lives here.

Whatever an agent commits, its own identity is the author. For the authors that are
fenced, each commit holds only if the registry still says that the agent lives in this
process. So a process that was stopped for too long, and whose singleton was started
elsewhere meanwhile, writes nothing for it any more (S16).
"""

from collections.abc import Callable, Coroutine, Sequence
from typing import Any, Protocol, TypeVar

from swarm.model import AgentIdentity, Commit, Document, Path, Pattern
from swarm.ports import (
    KEEP,
    Condition,
    Holder,
    Kernel,
    Plan,
    Reader,
    Ruling,
    View,
    Write,
)

T = TypeVar("T")
R = TypeVar("R")


class FencedKernel:
    """A kernel that is a round trip away, with fences. Fulfils `ports.Kernel`.

    Attributes:
        unfenced: The kernel itself.
        fences: What must hold when these agents commit, by name.
    """

    def __init__(self, kernel: Kernel) -> None:
        """Have no fence yet."""
        self.unfenced: Kernel = kernel
        self.fences: dict[str, Holder] = {}

    @property
    def local(self) -> None:
        """None: the tree is a round trip away."""
        return None

    def _fence(self, author: AgentIdentity) -> tuple[Condition, ...]:
        if not self.fences or not author.type:
            return ()
        fence = self.fences.get(author.agent_id)
        return () if fence is None else (fence,)

    def put(
        self, author: AgentIdentity, path: Path, body: bytes
    ) -> Coroutine[Any, Any, Document | None]:
        """Write one whole document."""
        fence = self._fence(author)
        if not fence:
            return self.unfenced.put(author, path, body)
        return self._put_fenced(author, path, body, fence)

    async def _put_fenced(
        self,
        author: AgentIdentity,
        path: Path,
        body: bytes,
        fence: tuple[Condition, ...],
    ) -> Document | None:
        commit, _ = await self.unfenced.apply(
            author, _plan_put, path, body, conditions=fence
        )
        return None if commit is None else commit.documents[0]

    async def apply(
        self,
        author: AgentIdentity,
        rule: Callable[..., Plan],
        *arguments: Any,
        conditions: Sequence[Condition] = (),
    ) -> tuple[Commit | None, Any]:
        """Ask the rule and commit what it plans."""
        conditions = (*conditions, *self._fence(author))
        return await self.unfenced.apply(
            author, rule, *arguments, conditions=conditions
        )

    def apply_one(
        self,
        author: AgentIdentity,
        path: Path,
        rule: Callable[[Document | None, int, R], Ruling],
        request: R,
    ) -> Coroutine[Any, Any, tuple[int, Any]]:
        """Ask the rule of one record and commit its ruling."""
        fence = self._fence(author)
        if not fence:
            return self.unfenced.apply_one(author, path, rule, request)
        return self._apply_one_fenced(author, path, rule, request, fence)

    async def _apply_one_fenced(
        self,
        author: AgentIdentity,
        path: Path,
        rule: Callable[[Document | None, int, R], Ruling],
        request: R,
        fence: tuple[Condition, ...],
    ) -> tuple[int, Any]:
        commit, outcome = await self.unfenced.apply(
            author, _plan_one, path, rule, request, conditions=fence
        )
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
        """Write and publish under one new revision."""
        return await self.unfenced.commit(
            author,
            writes,
            conditions=(*conditions, *self._fence(author)),
            events=events,
            key=key,
            weight=weight,
        )

    async def read(self, look: Callable[..., T], *arguments: Any) -> T:
        """Return `look(view, *arguments)`."""
        return await self.unfenced.read(look, *arguments)

    async def find(self, path: Path) -> Document | None:
        """Return the document at or around `path`."""
        return await self.unfenced.find(path)

    async def view_at(self, revision: int | None = None) -> View:
        """Return the tree as it was at `revision`, or as it is now."""
        return await self.unfenced.view_at(revision)

    async def versions(self, path: Path, limit: int) -> list[Document]:
        """Return the retained versions of a document."""
        return await self.unfenced.versions(path, limit)

    async def follow(
        self, since: int | None = None, pattern: Pattern | None = None
    ) -> Reader:
        """Return a reader of the log."""
        return await self.unfenced.follow(since, pattern)

    async def close(self) -> None:
        """Close the kernel itself."""
        await self.unfenced.close()


class _Found(Protocol):
    def __call__(self, document: Document | None, now: int, request: Any) -> Ruling: ...


def _plan_put(view: View, path: Path, body: bytes) -> Plan:
    around = view.find(path)
    if around is not None and around.path != path:
        return Plan()
    return Plan((Write(path, body),))


def _plan_one(view: View, path: Path, rule: _Found, request: Any) -> Plan:
    document = view.find(path)
    record, announced, outcome = rule(document, view.now, request)
    writes: tuple[Write, ...] = ()
    if record is not KEEP and (record is not None or document is not None):
        writes = (Write(path, record=record),)
    events = tuple(make(*given) for make, *given in announced)
    return Plan(writes, events, outcome)
