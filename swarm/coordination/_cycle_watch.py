"""Watching the records of locks and semaphores for cycles over several processes."""

# Some of what is private to users is shared by the files of this package.
# ruff: noqa: SLF001

from collections.abc import Callable
from typing import Any

from swarm.coordination._core import Core
from swarm.coordination._cycles import (
    CycleLink,
    Load,
    WaitIndex,
    find_cycle,
    victim_of,
)
from swarm.coordination._locks import LOCKS
from swarm.coordination._semaphores import SEMAPHORES
from swarm.model import Commit, Document, Path
from swarm.ports import View


class CycleWatch:
    """Looks at each new request in the log: whether it closes a cycle."""

    def __init__(
        self, core: Core, load: Load, found: Callable[[tuple[CycleLink, ...]], object]
    ) -> None:
        """Watch from now on; `found` is called with cycles that this process breaks."""
        self._core = core
        self._load = load
        self._found = found
        self._index = WaitIndex()
        for path in core.look(_paths):
            self._index.update(path, load(path).queue)
        core.on_commit = self._saw

    def _saw(self, commit: Commit) -> None:
        for document in commit.documents:
            if document.path.segments[0] in _FOLDERS:
                self._look(document)

    def _look(self, document: Document) -> None:
        path = document.path
        queue = () if document.is_deleted else self._load(path).queue
        for session in self._index.update(path, queue):
            cycle = find_cycle(session, self._index, self._load)
            if len({_process_of(link) for link in cycle}) < 2:
                continue  # the wait-for graph has found it
            if _process_of(victim_of(cycle)) == self._core.origin:
                self._found(cycle)

    def is_there(self, cycle: tuple[CycleLink, ...]) -> bool:
        """Return whether a cycle is still there: nothing but an error ends one."""
        return find_cycle(cycle[0].session, self._index, self._load) == cycle


def describe_link(core: Core, grant: str, request: str) -> str | None:
    """Return what a session waits for while it holds a grant, if it does both."""
    waiter: Any = core.waiters.get(request)
    lease = core.leases.get(grant)
    if waiter is None or lease is None or waiter.is_over():
        return None
    holder = lease._session if lease._inside is None else lease._inside
    if holder is not waiter.session:
        return None
    return f"{waiter.session} waits for {waiter.describe_wait()}"


_FOLDERS = (LOCKS.segments[0], SEMAPHORES.segments[0])


def _process_of(link: CycleLink) -> str:
    return link.request.rpartition("-")[0]


def _paths(view: View) -> list[Path]:
    return [d.path for folder in (LOCKS, SEMAPHORES) for d in view.documents(folder)]
