"""The past: earlier states, and what happened to one place."""

from collections.abc import Callable
from typing import Any, TypeVar

import attrs

from swarm.model import Change, Path, narrow, to_change
from swarm.ports import Kernel
from swarm.state._look import rest_of
from swarm.state._reading import ReadableState
from swarm.state._store import Access

T = TypeVar("T")


class PastState(ReadableState):
    """The state as it was at one revision.

    Reading it raises `Compacted` once the log no longer reaches back that far, and
    `ValueError` if the revision is still to come.
    """

    __slots__ = ("_kernel", "revision")

    def __init__(self, kernel: Kernel, access: Access, revision: int) -> None:
        """Read the state of `revision`."""
        self._kernel = kernel
        self._access = access
        self.revision: int = revision

    async def _look(self, look: Callable[..., T], *arguments: Any) -> T:
        return look(await self._kernel.view_at(self.revision), *arguments)


async def changes_of(
    kernel: Kernel, access: Access, place: Path, limit: int
) -> list[Change]:
    """Return the newest changes of one place that the log holds, oldest first."""
    document = await kernel.find(place)
    whole = place if document is None else document.path
    rest = () if document is None else rest_of(place, document)
    name = access.name(place)
    # Inside a document not every change is one of the place, so read on from there.
    versions = await kernel.versions(whole, limit if not rest else 1_000_000_000)
    found: list[Change] = []
    for version in versions:
        if len(found) >= limit:
            break
        if version.previous is None and version.created != version.version:
            continue  # what stood before has left the log, so the change is unknown
        change: Change | None = attrs.evolve(to_change(version), path=name)
        if rest and change is not None:
            change = narrow(change, name, rest)
        if change is not None:
            found.append(change)
    return found[::-1]
