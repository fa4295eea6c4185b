"""Which due task is next, for each kind of worker: heaps that forget lazily. Pure.

Tasks are kept apart by address and kind. A worker that serves one kind looks at one
heap for each of its addresses. For a pattern of kinds there is a heap of the first
tasks of the kinds that match. So a claim costs O(log n), however many tasks and kinds
there are. An entry is void once its task has another record; void entries are dropped
when they come to the front, or all together when there are too many.
"""

from collections.abc import Callable, Iterable, Iterator
from heapq import heapify, heappop, heappush
from typing import Final, TypeAlias

from swarm.model import Path, Pattern
from swarm.work._task_record import TaskRecord

Ticket: TypeAlias = tuple[int, int, int, TaskRecord]
"""The place of a task among those that are due: its rank, its sequence, a number of
the ticket's own, lest records be compared, and its record."""

_PATTERNS: Final = 64
"""How many patterns of kinds an address keeps heaps for."""


class TaskSelector:
    """Which tasks a worker takes: a pattern of kinds and its addresses. Immutable.

    Attributes:
        kinds: The pattern, as text.
        addresses: The addresses.
        is_literal: Whether the pattern is one kind.
    """

    __slots__ = ("_matched", "_pattern", "addresses", "is_literal", "kinds")

    def __init__(self, kinds: str, addresses: Iterable[str]) -> None:
        """Take tasks of these kinds for these addresses.

        Raises:
            InvalidPath: The pattern is none.
        """
        self._pattern = Pattern.parse(kinds)
        self.kinds: str = kinds
        self.addresses: frozenset[str] = frozenset(addresses)
        self.is_literal: bool = self._pattern.is_literal
        self._matched: dict[str, bool] = {}

    def takes(self, kind: str) -> bool:
        """Return whether it takes tasks of a kind."""
        if self.is_literal:
            return kind == self.kinds
        found = self._matched.get(kind)
        if found is None:
            if len(self._matched) >= 1_024:
                self._matched.clear()
            found = self._matched[kind] = self._pattern.matches(Path.parse(kind))
        return found

    def fits(self, record: TaskRecord) -> bool:
        """Return whether it takes this task, once it is due."""
        return record.address in self.addresses and self.takes(record.spec.kind)


class ReadyTasks:
    """The tasks that are due and free, in the order in which they are to be claimed."""

    __slots__ = ("_is_valid", "_lanes", "_number", "_void", "count")

    def __init__(self, is_valid: Callable[[TaskRecord], bool]) -> None:
        """Hold nothing; `is_valid` says whether a record is still to be had."""
        self._is_valid = is_valid
        self._lanes: dict[str, _Lane] = {}
        self._void = 0
        self._number = 0
        self.count: int = 0

    def add(self, rank: int, seq: int, record: TaskRecord) -> None:
        """Let a task be taken."""
        lane = self._lanes.get(record.address)
        if lane is None:
            lane = self._lanes[record.address] = _Lane(self._is_valid)
        self._number += 1
        lane.add((rank, seq, self._number, record))
        self.count += 1

    def void(self) -> None:
        """Note that a task here is not to be had any more."""
        self.count -= 1
        self._void += 1
        if self._void > 64 + 2 * self.count:
            self._void = 0
            for address, lane in tuple(self._lanes.items()):
                lane.compact()
                if not lane.heaps:
                    del self._lanes[address]

    def take(self, selector: TaskSelector) -> TaskRecord | None:
        """Take out the task that is next for a worker and return it, or None."""
        best: Ticket | None = None
        home: _Lane | None = None
        lanes = self._lanes
        for address in selector.addresses:
            lane = lanes.get(address)
            if lane is None:
                continue
            ticket = lane.first(selector)
            if ticket is not None and (best is None or ticket < best):
                best, home = ticket, lane
        if best is None or home is None:
            return None
        record = best[3]
        heappop(home.heaps[record.spec.kind])  # it is the head
        self.count -= 1
        return record

    def heads(self) -> Iterator[tuple[str, str, TaskRecord]]:
        """Yield the address and kind of all that is due, with its first task."""
        for address, lane in self._lanes.items():
            for kind in tuple(lane.heaps):
                head = lane.head(kind)
                if head is not None:
                    yield address, kind, head[3]


class _Lane:
    """The due tasks of one address."""

    __slots__ = ("_is_valid", "_wild", "heaps")

    def __init__(self, is_valid: Callable[[TaskRecord], bool]) -> None:
        self._is_valid = is_valid
        self.heaps: dict[str, list[Ticket]] = {}
        self._wild: dict[str, tuple[TaskSelector, list[tuple[Ticket, str]]]] = {}

    def add(self, ticket: Ticket) -> None:
        kind = ticket[3].spec.kind
        heap = self.heaps.get(kind)
        if heap is None:
            heap = self.heaps[kind] = []
        heappush(heap, ticket)
        if self._wild and heap[0] is ticket:
            for selector, heads in self._wild.values():
                if selector.takes(kind):
                    heappush(heads, (ticket, kind))

    def head(self, kind: str) -> Ticket | None:
        """Return the first task of a kind."""
        heap = self.heaps.get(kind)
        if heap is None:
            return None
        is_valid = self._is_valid
        while heap:
            if is_valid(heap[0][3]):
                return heap[0]
            heappop(heap)
        del self.heaps[kind]
        return None

    def first(self, selector: TaskSelector) -> Ticket | None:
        if selector.is_literal:
            return self.head(selector.kinds)
        found = self._wild.get(selector.kinds)
        if found is None:
            found = self._begin(selector)
        heads = found[1]
        while heads:
            ticket, kind = heads[0]
            head = self.head(kind)
            if head is ticket:
                return ticket
            heappop(heads)
            if head is not None:
                heappush(heads, (head, kind))
        return None

    def _begin(
        self, selector: TaskSelector
    ) -> tuple[TaskSelector, list[tuple[Ticket, str]]]:
        if len(self._wild) >= _PATTERNS:
            del self._wild[next(iter(self._wild))]
        heads = [
            (head, kind)
            for kind in tuple(self.heaps)
            if selector.takes(kind) and (head := self.head(kind)) is not None
        ]
        heapify(heads)
        found = self._wild[selector.kinds] = selector, heads
        return found

    def compact(self) -> None:
        for kind, heap in tuple(self.heaps.items()):
            kept = [ticket for ticket in heap if self._is_valid(ticket[3])]
            if kept:
                heapify(kept)
                self.heaps[kind] = kept
            else:
                del self.heaps[kind]
        self._wild.clear()
