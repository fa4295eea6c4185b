"""The Redis kernel: one tree in many processes.

Each process keeps a replica that follows the log. A rule runs on the replica, through
a view that notes what the rule looks at. One script then commits what the rule decided
if nothing it looked at has changed; otherwise the replica catches up and the rule runs
again. Reading asks for the newest revision first, so reads are linearizable.
"""

import asyncio
from collections.abc import Callable, Sequence
from typing import Any, Literal, TypeAlias, TypeVar

from swarm.errors import Closed, Compacted, WrongLoop
from swarm.kernel import LogReader
from swarm.model import AgentIdentity, Commit, Document, Path, Pattern
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
)
from swarm.storage.redis._committer import Committer
from swarm.storage.redis._follower import LogFollower
from swarm.storage.redis._inboxes import RedisInboxes
from swarm.storage.redis._proposals import Proposal, RecordingView
from swarm.storage.redis._replica import Replica
from swarm.storage.redis._script import Keys
from swarm.storage.redis._server import ServerInfo
from swarm.storage.redis._shelf import RedisShelf
from swarm.storage.redis._sweeper import Sweeper
from swarm.storage.redis._trimming import Trimmer
from swarm.storage.redis._wire import Wire

T = TypeVar("T")
R = TypeVar("R")

Reads: TypeAlias = Literal["newest", "replica"]


class RedisKernel:
    """A tree that many processes share. Fulfils `ports.Kernel`.

    Attributes:
        tail: The newest part of the log in this process: `ports.Tail`.
        shelf: Where snapshots are kept: on the server, for every process.
        inboxes: How the processes reach each other: `ports.Inboxes`.
        refusal: Returns the error of a use that is refused; None: a plain one.
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
        reads: Reads = "newest",
        durability: str = "",
    ) -> None:
        """Be the kernel of the swarm `name` on the server at `url`, once it is open.

        Args:
            url: The address of the server, as redis-py takes it.
            name: The swarm's name.
            clock: Where time comes from.
            entropy: Where ids and jitter come from.
            limits: The limits of the kernel.
            prefix: What the keys begin with.
            reads: "newest": reading asks the server for the newest revision first.
                "replica": reading looks at once at what this process has; that never
                goes back, and has all that this process wrote.
            durability: "power": refuse a server that may lose acknowledged commits.
        """
        limits = Limits() if limits is None else limits
        self._loop = asyncio.get_running_loop()
        self.refusal: Callable[[], Exception] | None = None
        self._reads_at_once = reads == "replica"
        self._is_closed = False
        keys = Keys.of(prefix, name)
        self._wire = Wire(url, clock, entropy, durability)
        self._reading = Wire(url, clock, entropy)
        self.tail: Replica = Replica(clock, limits)
        self.shelf: RedisShelf = RedisShelf(self._wire, keys)
        self.inboxes: RedisInboxes = RedisInboxes(
            self._wire, Wire(url, clock, entropy), keys, clock
        )
        self._committer = Committer(self._wire, keys, self.tail, clock, entropy, limits)
        self._follower = LogFollower(
            self._wire,
            self._reading,
            keys,
            self.tail,
            self._committer,
            clock,
            limits,
        )
        self._sweeper = Sweeper(self.tail, self._committer, clock)
        self._trimmer = Trimmer(self._wire, keys, self.tail, limits)
        self._committer.on_many = self._trimmer.look

    @property
    def server(self) -> ServerInfo:
        """The server, and what survives its crash."""
        return self._wire.server

    # --- opening and closing --------------------------------------------------------

    async def open(self) -> None:
        """Connect, load the tree, and follow the log from there.

        Raises:
            StorageFailed: There is no server, or it refuses.
            StorageUnsupported: The server does not give the durability asked for.
            SchemaVersionError: A later version of swarm writes the tree there.
        """
        try:
            await self._wire.open()
            await self._reading.open()
            await self._committer.open()
            await self._follower.open()
            await self._follower.fresh()
            self._trimmer.look()
        except BaseException:
            await self.close()
            raise

    async def close(self) -> None:
        """Refuse everything from now on and wake every reader; idempotent."""
        self._is_closed = True
        await self._sweeper.close()
        await self._trimmer.close()
        await self._follower.close()
        await self.inboxes.close()
        await self._wire.close()
        await self._reading.close()
        self.tail.fail(Closed("the swarm is closed"))
        self.tail.close_now()

    # --- the operations ---------------------------------------------------------------

    @property
    def local(self) -> None:
        """None: the tree is on a server."""
        return None

    def _enter(self) -> None:
        is_here = asyncio.get_running_loop() is self._loop
        if is_here and not self._is_closed:
            return
        if self.refusal is not None:
            raise self.refusal()
        if self._is_closed:
            raise Closed("the swarm is closed")
        raise WrongLoop

    async def _fresh(self) -> None:
        """Have the replica be new enough to be read, and swept."""
        self._enter()
        if self._reads_at_once:
            await self._follower.settled()
        else:
            await self._follower.fresh()
        if self.tail.has_due():
            await self._sweeper.sweep()

    def _is_ready(self) -> bool:
        """Return whether the replica is good enough to decide on, as it mostly is."""
        self._enter()
        return self._follower.suspect is None and not self.tail.has_due()

    async def _make_ready(self) -> None:
        """Have the replica be good enough to decide on; the server checks the rest."""
        await self._follower.settled()
        await self._sweeper.sweep()

    async def read(self, look: Callable[..., T], *arguments: Any) -> T:
        """Return `look(view, *arguments)` over the newest state."""
        await self._fresh()
        return self.tail.read_now(look, *arguments)

    async def find(self, path: Path) -> Document | None:
        """Return the document at `path` or around it, or None."""
        await self._fresh()
        return self.tail.find_now(path)

    async def put(
        self, author: AgentIdentity, path: Path, body: bytes
    ) -> Document | None:
        """Write one whole document; None when `path` lies inside another one."""
        if not self._is_ready():
            await self._make_ready()
        commit, _ = await self._committer.decide(author, self._decide_put, path, body)
        return None if commit is None else commit.documents[0]

    def _decide_put(self, view: RecordingView, path: Path, body: bytes) -> Proposal:
        at = self.tail.now()
        if path.text not in self.tail.documents_by_text and view.find(path) is not None:
            return Proposal(view, at)
        return Proposal(view, at, (Write(path, body),))

    async def apply(
        self,
        author: AgentIdentity,
        rule: Callable[..., Plan],
        *arguments: Any,
        conditions: Sequence[Condition] = (),
    ) -> tuple[Commit | None, Any]:
        """Ask the rule and commit what it plans, if what it looked at still holds."""
        if not self._is_ready():
            await self._make_ready()
        return await self._committer.decide(
            author, self._decide_plan, conditions, rule, *arguments
        )

    def _decide_plan(
        self,
        view: RecordingView,
        conditions: Sequence[Condition],
        rule: Callable[..., Plan],
        *arguments: Any,
    ) -> Proposal:
        self._check(view, conditions)
        at = self.tail.now()
        plan = rule(view, *arguments)
        return Proposal(
            view,
            at,
            plan.writes,
            plan.events,
            plan.outcome,
            is_bounded=not plan.is_unbounded,
        )

    async def apply_one(
        self,
        author: AgentIdentity,
        path: Path,
        rule: Callable[[Document | None, int, R], Ruling],
        request: R,
    ) -> tuple[int, Any]:
        """Ask the rule of one record and commit its ruling, as one step."""
        if not self._is_ready():
            await self._make_ready()
        commit, outcome = await self._committer.decide(
            author, self._decide_one, path, rule, request
        )
        return (0 if commit is None else commit.revision), outcome

    def _decide_one(
        self,
        view: RecordingView,
        path: Path,
        rule: Callable[[Document | None, int, R], Ruling],
        request: R,
    ) -> Proposal:
        there = self.tail.documents_by_text.get(path.text)
        view.versions[path.text] = 0 if there is None else there.version
        view.has_time = True
        at = self.tail.now()
        record, announced, outcome = rule(there, at, request)
        if record is KEEP or (record is None and there is None):
            return Proposal(view, at, (), (), outcome, announced=announced)
        writes = (Write(path, None, record),)
        return Proposal(view, at, writes, (), outcome, announced=announced)

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
        if not self._is_ready():
            await self._make_ready()
        commit, _ = await self._committer.decide(
            author, self._decide_commit, conditions, writes, events, key
        )
        if commit is not None:
            commit.size += weight
        return commit

    def _decide_commit(
        self,
        view: RecordingView,
        conditions: Sequence[Condition],
        writes: Sequence[Write],
        events: Sequence[object],
        key: str | None,
    ) -> Proposal:
        self._check(view, conditions)
        return Proposal(view, self.tail.now(), writes, events, None, key)

    def _check(self, view: RecordingView, conditions: Sequence[Condition]) -> None:
        """Check a caller's conditions here, and have the server check them again."""
        self.tail.check_now(conditions)
        for condition in conditions:
            if isinstance(condition, Expect):
                view.versions[condition.path.text] = condition.version
            elif isinstance(condition, ExpectFolder):
                view.folders[condition.folder.text] = view.revision
            else:
                view.has_time = True
                document = self.tail.document_at(condition.path.text)
                view.versions[condition.path.text] = (
                    0 if document is None else document.version
                )

    async def view_at(self, revision: int | None = None) -> View:
        """Return the tree as it was at `revision`, or as it is now.

        That reaches back as far as the log tells what stood at every path: at least to
        the moment at which this process loaded the tree.

        Raises:
            Compacted: This process does not know the tree of that time.
        """
        await self._fresh()
        if revision is not None and revision < self._follower.first_view:
            raise Compacted(revision, self._follower.first_view)
        return self.tail.past_now(revision)

    async def versions(self, path: Path, limit: int) -> list[Document]:
        """Return the retained versions of one document, newest first."""
        await self._fresh()
        return self.tail.versions_now(path, limit)

    async def follow(
        self, since: int | None = None, pattern: Pattern | None = None
    ) -> LogReader:
        """Return a reader of every commit after `since`, or from now on."""
        await self._fresh()
        return self.tail.follow_now(since, pattern)
