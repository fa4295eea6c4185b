"""The handoffs of one swarm in one process: follows the log, expires offers."""

import asyncio
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext
from heapq import heappop, heappush
from typing import Any

from swarm.coordination import Coordination
from swarm.errors import Closed, NotFound, SwarmError
from swarm.model import TIME, AgentIdentity, Document
from swarm.ports import Tail, Timer, correlated
from swarm.work import _handoff_rules as rules
from swarm.work._folder_feed import FolderFeed
from swarm.work._handoff_record import (
    HANDOFFS,
    HandoffRecord,
    HandoffStatus,
    handoff_path,
    load_handoff,
)
from swarm.work._task_manager import TaskManager
from swarm.work._task_record import MICRO


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
        self._open: dict[str, HandoffRecord] = {}
        self._correlations: dict[str, tuple[str, str]] = {}
        self._waiters: dict[str, list[asyncio.Future[None]]] = {}
        self._ends: list[tuple[int, str]] = []
        self._timer: Timer | None = None
        self._is_closed = False
        self._feed = FolderFeed(tasks.kernel, tail, HANDOFFS, self._put, tasks.start)
        tasks.handoff_scope = self._scope

    def open_offers(self) -> list[HandoffRecord]:
        """Return the offers that no agent has accepted yet, as far as is known."""
        return list(self._open.values())

    async def decided(self, handoff_id: str) -> HandoffRecord:
        """Wait until an offer is accepted or has come to nothing; return its record.

        Raises:
            NotFound: There is no such handoff.
            Closed: The swarm is closed.
        """
        loop = asyncio.get_running_loop()
        while True:
            if self._is_closed:
                raise self.tasks.closed or Closed()
            news = loop.create_future()  # before the look, so that no news is missed
            self._waiters.setdefault(handoff_id, []).append(news)
            try:
                record = await self.find(handoff_id)
                if record.status is not HandoffStatus.REQUESTED:
                    return record
                await news
            finally:
                waiting = self._waiters.get(handoff_id, [])
                if news in waiting:
                    waiting.remove(news)
                if not waiting:
                    self._waiters.pop(handoff_id, None)

    async def find(self, handoff_id: str) -> HandoffRecord:
        """Return the newest record of a handoff.

        Raises:
            NotFound: There is none.
        """
        record = load_handoff(await self.tasks.kernel.find(handoff_path(handoff_id)))
        if record is None:
            raise NotFound(f"there is no handoff {handoff_id}")
        return record

    async def decide(
        self, author: AgentIdentity, record: HandoffRecord, rule: Any, *arguments: Any
    ) -> tuple[int, Any]:
        """Ask a rule under the handoff's correlation id: revision and outcome."""
        with correlated(record.correlation):
            commit, outcome = await self.tasks.kernel.apply(
                author, rule, record.id, *arguments
            )
        return 0 if commit is None else commit.revision, outcome

    def close(self) -> None:
        """Follow no more, and wake every waiter with `Closed`."""
        self._is_closed = True
        self._feed.close()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        for handoff_id in tuple(self._waiters):
            self._wake(handoff_id)

    # --- following the log ------------------------------------------------------------

    def _put(self, document: Document) -> None:
        handoff_id = str(document.path.name)
        record = load_handoff(document)
        if record is not None:
            self._note_correlation(record)
            if self.on_change is not None:
                self.on_change(record)
        if record is None or record.status is not HandoffStatus.REQUESTED:
            self._open.pop(handoff_id, None)
            self._wake(handoff_id)
            return
        is_new = handoff_id not in self._open
        self._open[handoff_id] = record
        if is_new:
            heappush(self._ends, (record.expires_at, handoff_id))
            self._set_timer()

    def _scope(self, task_id: str) -> AbstractContextManager[object]:
        """Return what a commit about a task with a handoff is made in."""
        found = self._correlations.get(task_id)
        return nullcontext() if found is None else correlated(found[1])

    def _note_correlation(self, record: HandoffRecord) -> None:
        task_id = record.task_id
        if record.status in (HandoffStatus.REQUESTED, HandoffStatus.ACCEPTED):
            self._correlations[task_id] = record.id, record.correlation
        elif self._correlations.get(task_id, ("", ""))[0] == record.id:
            del self._correlations[task_id]

    def _wake(self, handoff_id: str) -> None:
        for news in self._waiters.pop(handoff_id, ()):
            if not news.done():
                news.set_result(None)

    def _set_timer(self) -> None:
        """Have the next offer expire on time."""
        while self._ends and self._ends[0][1] not in self._open:
            heappop(self._ends)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._ends and not self._is_closed:
            seconds = max(0.0, (self._ends[0][0] - self.tasks.now() + 2) / MICRO)
            when = self.tasks.clock.monotonic() + seconds
            self._timer = self.tasks.clock.call_at(when, self._on_time)

    def _on_time(self) -> None:
        self._timer = None
        now = self.tasks.now()
        due: list[HandoffRecord] = []
        while self._ends and self._ends[0][0] <= now:
            record = self._open.get(heappop(self._ends)[1])
            if record is not None:
                due.append(record)
        if due:
            self.tasks.start(self._expire(due), "handoffs: what has expired")
        self._set_timer()

    async def _expire(self, due: Iterable[HandoffRecord]) -> None:
        for record in due:
            try:
                _, outcome = await self.decide(TIME, record, rules.expire)
            except Closed:
                return
            except SwarmError:
                outcome = record  # tried again a little later
            if outcome is not None and outcome.status is HandoffStatus.REQUESTED:
                heappush(self._ends, (self.tasks.now() + MICRO // 10, record.id))
        self._set_timer()
