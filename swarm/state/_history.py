"""The past: earlier states, and what happened to one place."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import Any, Final, TypeVar

import attrs

from swarm.errors import Compacted
from swarm.model import (
    ABSENT,
    Change,
    Document,
    Path,
    Pattern,
    Segment,
    narrow,
    to_change,
)
from swarm.ports import Kernel, LoopBudget
from swarm.state._reading import ReadableState
from swarm.state._store import Access
from swarm.state._watch import changes_at

T = TypeVar("T")

_ALL: Final = 1_000_000_000


class PastState(ReadableState):
    """The state as it was at one revision.

    Reading it raises `Compacted` once the log no longer reaches back that far, and
    `ValueError` if the revision is still to come.
    """

    __slots__ = ("_kernel", "revision")

    def __init__(
        self, kernel: Kernel, access: Access, revision: int, budget: LoopBudget
    ) -> None:
        """Read the state of `revision`."""
        self._kernel = kernel
        self._access = access
        self._budget = budget
        self.revision: int = revision

    def __repr__(self) -> str:
        return f"PastState({self._access.root.text!r}, revision {self.revision})"

    async def _look(self, look: Callable[..., T], *arguments: Any) -> T:
        if self._budget.left < 0:
            await self._budget.turn()
        self._budget.left -= LoopBudget.OPERATION
        return look(await self._kernel.view_at(self.revision), *arguments)


async def changes_of(
    kernel: Kernel, access: Access, place: Path, limit: int | None
) -> list[Change]:
    """Return the newest changes of one place that the log holds, oldest first."""
    name = access.name(place)
    found: list[Change] = []
    # It may have been a document at one time, and lain inside one at another.
    for n in range(len(place.segments), 0, -1):
        rest = place.segments[n:]
        whole = Path.of(*place.segments[:n]) if rest else place
        # Inside a document not every change is one of the place, so read them all.
        most = _ALL if rest or limit is None else limit
        versions = await kernel.versions(whole, most)
        found += islice(_seen(versions, name, rest), limit)
    found.sort(key=lambda change: (change.revision, change.value is not ABSENT))
    return found if limit is None else found[max(0, len(found) - limit) :]


async def changes_below(
    kernel: Kernel, access: Access, folder: Path, limit: int | None, budget: LoopBudget
) -> list[Change]:
    """Return the newest changes below a folder that the log holds, oldest first."""
    pattern = Pattern.of(*folder.segments)
    try:
        reader = await kernel.follow(0, pattern)
    except Compacted as compacted:
        reader = await kernel.follow((compacted.first or 1) - 1, pattern)
    found: deque[Change] = deque(maxlen=limit)
    try:
        while (commit := reader.next_nowait()) is not None:
            for document in commit.documents:
                found.extend(changes_at(pattern, document, access))
                budget.left -= 2 * (LoopBudget.OPERATION + document.size)
            if budget.left < 0:
                await budget.turn()
    finally:
        reader.close()
    return list(found)


def _seen(
    versions: Iterable[Document], name: str, rest: tuple[Segment, ...]
) -> Iterator[Change]:
    for version in versions:
        if version.previous is None and version.created != version.version:
            continue  # what stood before has left the log, so the change is unknown
        change = attrs.evolve(to_change(version), path=name)
        narrowed = narrow(change, name, rest) if rest else change
        if narrowed is not None:
            yield narrowed
