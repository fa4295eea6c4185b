"""The handoffs of one swarm in one process: follows the log, expires offers."""

from collections.abc import Callable
from typing import Any

from swarm.coordination import Coordination
from swarm.errors import Closed, NotFound, SwarmError
from swarm.model import TIME, AgentIdentity, Commit, Document
from swarm.ports import Tail, View, correlated
from swarm.work import _handoff_rules as rules
from swarm.work._handoff_record import (
    HANDOFFS,
    HandoffRecord,
    HandoffStatus,
    handoff_path,
    load_handoff,
)
from swarm.work._task_manager import TaskManager
from swarm.work._task_record import MICRO
from swarm.work._waiting import JobTimer, News


class HandoffManager:
    """The handoffs of a swarm as one process sees them: open ones, waiters, expiry.

    Attributes:
        tasks: The tasks of this process.
        locks: The locks of this process.
        hops: How often one task may be handed on.
        on_change: Called with each new record of a handoff, in the middle of a commit.
    """

    def __init__(
        self,
        tasks: TaskManager,
        tail: Tail,
        locks: Coordination,
        *,
        hops: int = rules.HOPS,
    ) -> None:
        """Follow the log from now on."""
        self.tasks: TaskManager = tasks
        self.locks: Coordination = locks
        self.hops: int = hops
        self.on_change: Callable[[HandoffRecord], None] | None = None
        self.news: News = News(tasks)
        self._open: dict[str, HandoffRecord] = {}
        self._alarm = JobTimer(tasks, self._expire)
        folders = ("handoffs",)
        tasks.on_close(tail.listen(self._follow, documents=True, folders=folders))
        for document in tail.read_now(_all):
            self._put(document)

    def open_offers(self) -> list[HandoffRecord]:
        """Return the offers that no agent has accepted yet, as far as is known."""
        return list(self._open.values())

    async def decided(
        self, handoff_id: str, timeout: float | None = None
    ) -> HandoffRecord:
        """Wait until an offer is decided, or time is up; return its record."""

        async def look() -> HandoffRecord:
            document = await self.tasks.kernel.find(handoff_path(handoff_id))
            record = load_handoff(document)
            if record is None:
                raise NotFound(f"there is no handoff {handoff_id}")
            return record

        return await self.news.until(
            handoff_id,
            look,
            lambda record: record.status is not HandoffStatus.REQUESTED,
            timeout,
        )

    async def decide(
        self, author: AgentIdentity, record: HandoffRecord, rule: Any, *arguments: Any
    ) -> tuple[int, Any]:
        """Ask a rule under the handoff's correlation id: revision and outcome."""
        with correlated(record.correlation):
            commit, outcome = await self.tasks.kernel.apply(
                author, rule, record.id, *arguments
            )
        return 0 if commit is None else commit.revision, outcome

    # --- following the log ------------------------------------------------------------

    def _follow(self, commit: Commit) -> None:
        for document in commit.documents:
            if document.path.within(HANDOFFS):
                self._put(document)

    def _put(self, document: Document) -> None:
        handoff_id = str(document.path.name)
        record = load_handoff(document)
        if record is not None and self.on_change is not None:
            self.on_change(record)
        if record is None or record.status is not HandoffStatus.REQUESTED:
            self._open.pop(handoff_id, None)
            self.news.wake(handoff_id)
        else:
            self._open[handoff_id] = record
            self._arm()

    # --- expiry -----------------------------------------------------------------------

    def _arm(self, least: float = 0.0) -> None:
        """Have the next offer expire on time, but not before `least` seconds."""
        at = min((record.expires_at for record in self._open.values()), default=None)
        now = self.tasks.now()
        self._alarm.set(None if at is None else max(least, (at - now + 2) / MICRO))

    async def _expire(self) -> None:
        now = self.tasks.now()
        for record in [r for r in self._open.values() if r.expires_at <= now]:
            try:
                await self.decide(TIME, record, rules.expire)
            except Closed:
                return
            except SwarmError:
                pass  # tried again a little later
        self._arm(0.1)


def _all(view: View) -> list[Document]:
    return list(view.documents(HANDOFFS))
