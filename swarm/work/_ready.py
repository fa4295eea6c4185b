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

from swarm.model import AgentIdentity, Path, Pattern
from swarm.work._task_record import ANYBODY, TaskRecord

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


def addresses_of(
    identity: AgentIdentity, capabilities: Iterable[str]
) -> tuple[str, ...]:
    """Return the addresses of the tasks that an agent may take."""
    return (
        ANYBODY,
        f"agent:{identity.agent_id}",
        f"role:{identity.role}",
        *(f"capability:{capability}" for capability in capabilities),
    )


class ReadyTasks:
    """The tasks that are due and free, in the order in which they are to be claimed."""

    __slots__ = ("_is_valid", "_lanes", "_number")

    def __init__(self, is_valid: Callable[[TaskRecord], bool]) -> None:
        """Hold nothing; `is_valid` says whether a record is still to be had."""
        self._is_valid = is_valid
        self._lanes: dict[str, _Lane] = {}
        self._number = 0

    def add(self, rank: int, seq: int, record: TaskRecord) -> None:
        """Let a task be taken."""
        lane = self._lanes.get(record.address)
        if lane is None:
            lane = self._lanes[record.address] = _Lane(self._is_valid)
        self._number += 1
        lane.add((rank, seq, self._number, record))

    def take(self, selector: TaskSelector) -> Ticket | None:
        """Take out the ticket of the task that is next for a worker, or return None."""
        best: Ticket | None = None
        home: _Lane | None = None
        lanes, addresses = self._lanes, selector.addresses
        kinds = selector.kinds if selector.is_literal else None
        for address in lanes if len(lanes) < len(addresses) else addresses:
            lane = lanes.get(address)
            if lane is None or address not in addresses:
                continue
            ticket = lane.first(selector) if kinds is None else lane.head(kinds)
            if ticket is not None and (best is None or ticket < best):
                best, home = ticket, lane
        if best is None or home is None:
            return None
        heappop(home.heaps[best[3].spec.kind])  # it is the head
        return best

    def heads(self) -> Iterator[tuple[str, str, TaskRecord]]:
        """Yield the address and kind of all that is due, with its first task."""
        for address, lane in self._lanes.items():
            for kind in tuple(lane.heaps):
                head = lane.head(kind)
                if head is not None:
                    yield address, kind, head[3]

    def __iter__(self) -> Iterator[TaskRecord]:
        """Yield every task that can be taken, in no order."""
        for lane in self._lanes.values():
            for heap in lane.heaps.values():
                for ticket in heap:
                    if self._is_valid(ticket[3]):
                        yield ticket[3]

    def compact(self) -> None:
        """Let go of the tickets of tasks that are not to be had any more."""
        for address, lane in tuple(self._lanes.items()):
            lane.compact()
            if not lane.heaps:
                del self._lanes[address]


class _Lane:
    """The due tasks of one address: a heap for each kind."""

    __slots__ = ("_is_valid", "_wild", "heaps")

    def __init__(self, is_valid: Callable[[TaskRecord], bool]) -> None:
        self._is_valid = is_valid
        self.heaps: dict[str, list[Ticket]] = {}
        self._wild: dict[str, _Heads] = {}

    def add(self, ticket: Ticket) -> None:
        kind = ticket[3].spec.kind
        heap = self.heaps.get(kind)
        if heap is None:
            heap = self.heaps[kind] = []
        heappush(heap, ticket)
        if self._wild and heap[0] is ticket:
            for heads in self._wild.values():
                if heads.selector.takes(kind):
                    heads.add(ticket)

    def head(self, kind: str) -> Ticket | None:
        """Return the first task of a kind."""
        heap = self.heaps.get(kind)
        if heap is None:
            return None
        is_valid = self._is_valid
        while heap:
            ticket = heap[0]
            if is_valid(ticket[3]):
                return ticket
            heappop(heap)
        del self.heaps[kind]
        return None

    def first(self, selector: TaskSelector) -> Ticket | None:
        """Return the first task of the kinds that a pattern matches."""
        heads = self._wild.get(selector.kinds)
        if heads is None:
            heads = self._begin(selector)
        while heads.heap:
            ticket = heads.heap[0]
            head = self.head(ticket[3].spec.kind)
            if head is ticket:
                return ticket
            heads.replace(head)
        return None

    def _begin(self, selector: TaskSelector) -> "_Heads":
        if len(self._wild) >= _PATTERNS:
            del self._wild[next(iter(self._wild))]
        heads = self._wild[selector.kinds] = _Heads(selector)
        for kind in tuple(self.heaps):
            if selector.takes(kind) and (head := self.head(kind)) is not None:
                heads.add(head)
        return heads

    def compact(self) -> None:
        for kind, heap in tuple(self.heaps.items()):
            kept = [ticket for ticket in heap if self._is_valid(ticket[3])]
            if kept:
                heapify(kept)
                self.heaps[kind] = kept
            else:
                del self.heaps[kind]
        self._wild.clear()


class _Heads:
    """A heap of the first ticket of each kind that a pattern matches.

    A ticket that is first no more stays until it comes to the front. Each ticket is in
    the heap once at most, or the heap would grow with each claim.
    """

    __slots__ = ("_inside", "heap", "selector")

    def __init__(self, selector: TaskSelector) -> None:
        self.selector = selector
        self.heap: list[Ticket] = []
        self._inside: set[int] = set()

    def add(self, ticket: Ticket) -> None:
        """Add a ticket that is the first of its kind."""
        if ticket[2] not in self._inside:
            self._inside.add(ticket[2])
            heappush(self.heap, ticket)

    def replace(self, head: Ticket | None) -> None:
        """Put the ticket that is first of its kind now in place of the front one."""
        self._inside.discard(heappop(self.heap)[2])
        if head is not None:
            self.add(head)
