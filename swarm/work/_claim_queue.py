"""Claims that wait for a task, first come first served among those it fits."""

import asyncio
from collections.abc import Iterator

from swarm.work._due import TaskSelector, Ticket
from swarm.work._task_index import TaskIndex
from swarm.work._task_record import TaskRecord


class ClaimWaiter:
    """A claim that waits for a task to try for.

    Attributes:
        selector: Which tasks it takes.
        seq: Its place among those that wait.
        future: The ticket of the task that it is to try for; None: it is too late.
    """

    __slots__ = ("future", "selector", "seq")

    def __init__(self, selector: TaskSelector, seq: int) -> None:
        """Wait for a task that `selector` takes."""
        self.selector: TaskSelector = selector
        self.seq: int = seq
        self.future: asyncio.Future[Ticket | None]
        self.future = asyncio.get_running_loop().create_future()


class ClaimQueue:
    """The claims of this process that wait.

    A task goes to the claim that has waited longest among those it fits; that is
    looked up by its address and by the distinct patterns of kinds that are waited for.

    Attributes:
        waiting: The claims, by their place.
    """

    def __init__(self, index: TaskIndex) -> None:
        """Hand out the tasks of `index`."""
        self._index = index
        self.waiting: dict[int, ClaimWaiter] = {}
        # By address and pattern; the claims of each in their order.
        self._lanes: dict[str, dict[str, dict[int, ClaimWaiter]]] = {}
        self._seq = 0

    def __len__(self) -> int:
        """Return how many claims wait."""
        return len(self.waiting)

    def __iter__(self) -> Iterator[ClaimWaiter]:
        """Yield the claims that wait."""
        return iter(tuple(self.waiting.values()))

    def add(self, selector: TaskSelector) -> ClaimWaiter:
        """Let a claim wait, in the last place."""
        self._seq += 1
        waiter = self.waiting[self._seq] = ClaimWaiter(selector, self._seq)
        for address in selector.addresses:
            lane = self._lanes.setdefault(address, {})
            lane.setdefault(selector.kinds, {})[waiter.seq] = waiter
        return waiter

    def remove(self, waiter: ClaimWaiter) -> bool:
        """Let a claim wait no more; return whether it did."""
        if self.waiting.pop(waiter.seq, None) is None:
            return False
        kinds = waiter.selector.kinds
        for address in waiter.selector.addresses:
            lane = self._lanes[address]
            del lane[kinds][waiter.seq]
            if not lane[kinds]:
                del lane[kinds]
                if not lane:
                    del self._lanes[address]
        return True

    def offer(self, record: TaskRecord) -> None:
        """Give the claim that comes first for this task a task to try for.

        Most times it is this task. A claim may have a better one that became due in the
        same moment; then the next claim is looked for.
        """
        while (waiter := self._first_for(record)) is not None:
            if waiter.future.done():  # cancelled in this very turn of the loop
                self.remove(waiter)
                continue
            picked = self._index.pick(waiter.selector)
            if picked is None:
                return
            self.remove(waiter)
            waiter.future.set_result(picked)
            if picked[2] is record:
                return

    def close(self, error: Exception) -> None:
        """Wake every claim with an error."""
        for waiter in self:
            self.remove(waiter)
            if not waiter.future.done():
                waiter.future.set_exception(error)

    def _first_for(self, record: TaskRecord) -> ClaimWaiter | None:
        first: ClaimWaiter | None = None
        for queue in self._lanes.get(record.address, {}).values():
            seq, waiter = next(iter(queue.items()))
            if (first is None or seq < first.seq) and waiter.selector.takes(
                record.spec.kind
            ):
                first = waiter
        return first
