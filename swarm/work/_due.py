"""Which task is next: what a worker takes, and the due tasks of one address. Pure."""

from collections.abc import Iterable, Mapping
from heapq import heapify, heappop, heappush
from typing import Final, TypeAlias

from swarm.model import Path, Pattern
from swarm.work._task_record import ANYBODY, TaskRecord

Ticket: TypeAlias = tuple[int, int, TaskRecord]
"""The place of a task in a heap: its rank or time, its sequence, and its record."""

_PATTERNS: Final = 64
"""Maximum number of kind patterns for which an address keeps heaps."""


class TaskSelector:
    """Which tasks a worker takes: a pattern of kinds and its addresses. Immutable.

    Attributes:
        kinds: The pattern, as text.
        addresses: The addresses.
        is_literal: Whether the pattern is one kind.
    """

    __slots__ = ("_matched", "_pattern", "addresses", "is_literal", "kinds")

    def __init__(self, kinds: str, addresses: Iterable[str]) -> None:
        """Take tasks of these kinds for these addresses."""
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


def addresses_of(name: str, role: str, capabilities: Iterable[str]) -> tuple[str, ...]:
    """Return the addresses of what an agent may take: tasks, and handoffs."""
    groups = (f"capability:{capability}" for capability in capabilities)
    return (ANYBODY, f"agent:{name}", f"role:{role}", *groups)


class DueTasks:
    """The due tasks of one address: a heap for each kind.

    A worker that serves one kind looks at one heap. For a pattern of kinds there is a
    heap of the first tasks of the kinds that match, each of them in it once at most: a
    claim costs O(log n), however many tasks and kinds there are.
    """

    __slots__ = ("_records", "_wild", "heaps")

    def __init__(self, records: Mapping[str, TaskRecord]) -> None:
        self._records = records  # a ticket of another record is void
        self.heaps: dict[str, list[Ticket]] = {}
        # For each pattern: the selector, the heap, and the tickets that are in it.
        self._wild: dict[str, tuple[TaskSelector, list[Ticket], set[int]]] = {}

    def add(self, ticket: Ticket) -> None:
        kind = ticket[2].spec.kind
        heap = self.heaps.get(kind)
        if heap is None:
            heap = self.heaps[kind] = []
        heappush(heap, ticket)
        if self._wild and heap[0] is ticket:
            for selector, heads, inside in self._wild.values():
                if selector.takes(kind):
                    inside.add(id(ticket))
                    heappush(heads, ticket)

    def head(self, kind: str) -> Ticket | None:
        """Return the first task of a kind."""
        heap = self.heaps.get(kind)
        if heap is None:
            return None
        records = self._records
        while heap:
            ticket = heap[0]
            record = ticket[2]
            if records.get(record.spec.id) is record:
                return ticket
            heappop(heap)
        del self.heaps[kind]
        return None

    def first(self, selector: TaskSelector) -> Ticket | None:
        """Return the first task of the kinds that a worker takes."""
        if selector.is_literal:
            return self.head(selector.kinds)
        _, heads, inside = self._wild.get(selector.kinds) or self._begin(selector)
        while heads:
            ticket = heads[0]
            head = self.head(ticket[2].spec.kind)
            if head is ticket:
                return ticket
            inside.discard(id(heappop(heads)))
            if head is not None and id(head) not in inside:
                inside.add(id(head))
                heappush(heads, head)
        return None

    def _begin(
        self, selector: TaskSelector
    ) -> tuple[TaskSelector, list[Ticket], set[int]]:
        if len(self._wild) >= _PATTERNS:
            del self._wild[next(iter(self._wild))]
        kinds = [kind for kind in self.heaps if selector.takes(kind)]
        heads = [h for kind in kinds if (h := self.head(kind)) is not None]
        heapify(heads)
        made = self._wild[selector.kinds] = selector, heads, {id(h) for h in heads}
        return made

    def compact(self) -> None:
        for kind, heap in tuple(self.heaps.items()):
            kept = [t for t in heap if self._records.get(t[2].spec.id) is t[2]]
            if kept:
                heapify(kept)
                self.heaps[kind] = kept
            else:
                del self.heaps[kind]
        self._wild.clear()
