"""The handoffs of one swarm in one process: follows the log, expires offers."""

from collections.abc import Callable
from typing import Any

from swarm.coordination import Coordination
from swarm.model import TIME, AgentIdentity, Commit, Document
from swarm.ports import Tail, View, correlated
from swarm.work import _handoff_rules as rules
from swarm.work._handoff_record import (
    HANDOFFS,
    HandoffRecord,
    HandoffStatus,
    load_handoff,
)
from swarm.work._task_manager import TaskManager
from swarm.work._waiting import DueRecords, News


class HandoffManager:
    """The handoffs of a swarm as one process sees them: open ones, waiters, expiry.

    Attributes:
        tasks: The tasks of this process.
        locks: The locks of this process.
        hops: How often one task may be handed on.
        on_change: Called with each new record of a handoff, in the middle of a commit.
        news: Wakes those that wait until an offer is decided.
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

        async def expire(record: HandoffRecord) -> None:
            await self.decide(TIME, record, rules.expire)

        self._open = DueRecords[HandoffRecord](tasks, lambda r: r.expires_at, expire)
        folders = (HANDOFFS.name,)
        tasks.on_close(tail.listen(self._follow, documents=True, folders=folders))
        for document in tail.read_now(_all):
            self._put(document)

    def open_offers(self) -> list[HandoffRecord]:
        """Return the offers that no agent has accepted yet, as far as is known."""
        return list(self._open.known.values())

    async def decide(
        self, author: AgentIdentity, record: HandoffRecord, rule: Any, *arguments: Any
    ) -> tuple[int, Any]:
        """Ask a rule under the handoff's correlation id: revision and outcome."""
        with correlated(record.correlation):
            commit, outcome = await self.tasks.kernel.apply(
                author, rule, record.id, *arguments
            )
        return 0 if commit is None else commit.revision, outcome

    def _follow(self, commit: Commit) -> None:
        for document in commit.documents:
            if document.path.within(HANDOFFS):
                self._put(document)

    def _put(self, document: Document) -> None:
        handoff_id = str(document.path.name)
        record = load_handoff(document)
        if record is not None and self.on_change is not None:
            self.on_change(record)
        is_open = record is not None and record.status is HandoffStatus.REQUESTED
        self._open.put(handoff_id, record if is_open else None)
        if not is_open:
            self.news.wake(handoff_id)


def _all(view: View) -> list[Document]:
    return list(view.documents(HANDOFFS))
