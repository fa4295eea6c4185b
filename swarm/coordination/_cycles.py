"""Cycles of waits over several processes, as the records of locks and semaphores tell.

A request and a grant name their session, and a session's name says its process. So each
process sees the same cycles at the same revision. A cycle within one process is found
by the wait-for graph, at the request that would close it.
"""

# Some of what is private to users is shared by the files of this package.
# ruff: noqa: SLF001

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final, TypeAlias

import attrs

from swarm.coordination._core import Core
from swarm.coordination._grants import Grant, RecordText, Request
from swarm.coordination._terms import LOCKS, SEMAPHORES
from swarm.coordination._wait_graph import AnyOf, WaitGraph
from swarm.model import Commit, Document, Path
from swarm.ports import View

Load: TypeAlias = Callable[[Path], Any]
"""Returns the record at a path."""

_FOLDERS: Final = (LOCKS.segments[0], SEMAPHORES.segments[0])


@attrs.frozen
class CycleLink:
    """One session of a cycle.

    Attributes:
        session: The turn or task, with its process.
        grant: The id of what it holds, for which the session before it waits.
        request: The id of its own request.
        at: When it asked, in kernel time.
    """

    session: str
    grant: str
    request: str
    at: int


def victim_of(cycle: Sequence[CycleLink]) -> CycleLink:
    """Return the session whose request fails: the newest, the same in each process."""
    return max(cycle, key=lambda link: (link.at, link.request))


class QueuedRequest:
    """A queued request as an obstacle of the wait-for graph."""

    __slots__ = ("_id", "_load", "_path")

    def __init__(self, id: str, path: Path, load: Load) -> None:  # noqa: A002
        """Look for the request in the record at `path`, each time."""
        self._id = id
        self._path = path
        self._load = load

    def request(self) -> Request | None:
        """Return the request, or None: it has left."""
        request: Request | None = self._load(self._path).requests.get(self._id)
        return request

    def blockers(self) -> Any:
        """Return the sessions that must give back first, or enough of them."""
        state, request = self._load(self._path), self.request()
        needed = None if request is None else state.needed(request, _never)
        if needed is None:
            return tuple(grant.session for grant in self.grants())
        weights = [(grant.session, grant.permits) for grant in self.grants()]
        return AnyOf(lambda: weights, needed) if needed > 0 else ()

    def grants(self) -> list[Grant]:
        """Return the grants that are in its way."""
        state, request = self._load(self._path), self.request()
        if request is None:
            return []
        if state.needed(request, _never) is None:
            return list(state.in_the_way(request, _never))
        return list(state.grants.values())

    def describe_wait(self) -> str:
        """Return what is waited for."""
        return f"{self._path}"


class WaitIndex:
    """Which sessions of all processes wait, and where."""

    __slots__ = ("_by_path", "_graph", "_load")

    def __init__(self, load: Load) -> None:
        """Begin with none; `load` returns the record at a path."""
        self._load = load
        self._graph = WaitGraph()
        self._by_path: dict[str, dict[str, tuple[str, QueuedRequest]]] = {}

    def __len__(self) -> int:
        """Return how many sessions wait."""
        return len(self._graph)

    def update(self, path: Path, requests: Iterable[Request]) -> list[str]:
        """Note the queue of a record; return the sessions that are new in it."""
        before, now = self._by_path.pop(path.text, {}), {}
        new = []
        for each in requests:
            wait = before.pop(each.id, None)
            if wait is None:
                wait = each.session, QueuedRequest(each.id, path, self._load)
                self._graph.note(*wait)
                new.append(each.session)
            now[each.id] = wait
        for gone in before.values():
            self._graph.leave(*gone)
        if now:
            self._by_path[path.text] = now
        return new

    def knows(self, path: Path) -> bool:
        """Return whether a session waits at a path."""
        return path.text in self._by_path

    def find_cycle(self, session: str) -> tuple[CycleLink, ...]:
        """Return the cycle that a wait of a session closes, or ()."""
        for queued in self._graph.waits(session):
            cycle: Any = self._graph.search(session, queued)
            if cycle:
                before = (*cycle[-1:], *cycle[:-1])
                return tuple(map(_link, cycle, before))
        return ()


def _link(
    step: tuple[str, QueuedRequest], before: tuple[str, QueuedRequest]
) -> CycleLink:
    """Return a session of a cycle; that of the step `before` waits for it."""
    session, request = step[0], step[1].request()
    assert request is not None  # or it would be in no cycle
    held = next(grant for grant in before[1].grants() if grant.session == session)
    return CycleLink(session, held.id, request.id, request.at)


def _never(id: str) -> bool:  # noqa: A002, ARG001
    return False


# --- watching the log ---------------------------------------------------------


class CycleWatch:
    """Looks at each new request in the log: whether it closes a cycle.

    The request that fails is one of a session that holds something. So a process that
    does not both hold and want something only notes which queues have changed.
    """

    def __init__(
        self, core: Core, load: Load, found: Callable[[tuple[CycleLink, ...]], object]
    ) -> None:
        """Watch from now on; `found` is called with cycles that this process breaks."""
        self._core = core
        self._load = load
        self._found = found
        self._index = WaitIndex(load)
        self._changed: dict[str, Path] = {}
        self._wanted: set[str] = set()
        for path in core.look(_paths):
            self._index.update(path, load(path).queue)
        core.listen(self._saw, documents=True, folders=_FOLDERS)

    def _saw(self, commit: Commit) -> None:
        for document in commit.documents:
            if document.path.segments[0] in _FOLDERS:
                self._look(document)

    def _look(self, document: Document) -> None:
        path = document.path
        record = None if document.is_deleted else RecordText(document)
        has_queue = record is not None and record.has_queue()
        if not has_queue and not self._index.knows(path):
            self._changed.pop(path.text, None)
            self._wanted.discard(path.text)
            return
        if record is not None and record.has_queue(f"{self._core.origin}-"):
            self._wanted.add(path.text)
        else:
            self._wanted.discard(path.text)
        if not (self._core.leases and self._wanted):
            self._changed[path.text] = path
            return
        self._changed.pop(path.text, None)
        self._catch_up()
        queue = () if document.is_deleted else self._load(path).queue
        for session in self._index.update(path, queue):
            cycle = self._index.find_cycle(session)
            if len({_process_of(link) for link in cycle}) < 2:
                continue  # the wait-for graph has found it
            if _process_of(victim_of(cycle)) == self._core.origin:
                self._found(cycle)

    def is_there(self, cycle: tuple[CycleLink, ...]) -> bool:
        """Return whether a cycle is still there: nothing but an error ends one."""
        self._catch_up()
        return self._index.find_cycle(cycle[0].session) == cycle

    def _catch_up(self) -> None:
        """Note the queues that were only noted as changed."""
        changed, self._changed = self._changed, {}
        for path in changed.values():
            self._index.update(path, self._load(path).queue)


def describe_link(core: Core, grant: str, request: str) -> str | None:
    """Return what a session waits for while it holds a grant, if it does both."""
    waiter = core.waiters.get(request)
    lease = core.leases.get(grant)
    if waiter is None or lease is None or waiter.is_over():
        return None
    holder = lease._session if lease._inside is None else lease._inside
    if holder is not waiter.session:
        return None
    return f"{waiter.session} waits for {waiter.describe_wait()}"


def _process_of(link: CycleLink) -> str:
    return link.request.rpartition("-")[0]


def _paths(view: View) -> list[Path]:
    return [d.path for folder in (LOCKS, SEMAPHORES) for d in view.documents(folder)]
