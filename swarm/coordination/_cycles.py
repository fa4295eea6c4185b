"""Cycles of waits over several processes, as the records of locks and semaphores tell.

A request and a grant name their session, and a session's name says its process. So each
process sees the same cycles at the same revision. A cycle within one process is found
by the wait-for graph, at the request that would close it.
"""

# Some of what is private to users is shared by the files of this package.
# ruff: noqa: SLF001

from collections import deque
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from typing import Any, Final, TypeAlias

import attrs

from swarm.coordination._core import Core
from swarm.coordination._grants import Grant, Request, summarize
from swarm.coordination._lease_state import LeaseState
from swarm.coordination._terms import LOCKS, SEMAPHORES
from swarm.coordination._wait_graph import AnyOf, reduce
from swarm.model import Commit, Document, Path
from swarm.ports import View

Load: TypeAlias = Callable[[Path], LeaseState]
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


class WaitIndex:
    """Which sessions wait, and where."""

    __slots__ = ("_by_path", "_by_session")

    def __init__(self) -> None:
        """Begin with none."""
        self._by_path: dict[str, dict[str, str]] = {}
        self._by_session: dict[str, dict[str, Path]] = {}

    def update(self, path: Path, requests: Iterable[Request]) -> list[str]:
        """Note the queue of a record; return the sessions that are new in it."""
        before = self._by_path.pop(path.text, {})
        now = {each.id: each.session for each in requests}
        if now:
            self._by_path[path.text] = now
        for gone in before.keys() - now.keys():
            waits = self._by_session[before[gone]]
            del waits[gone]
            if not waits:
                del self._by_session[before[gone]]
        new = {made: session for made, session in now.items() if made not in before}
        for made, session in new.items():
            self._by_session.setdefault(session, {})[made] = path
        return list(new.values())

    def waits(self, session: str) -> Iterator[tuple[str, Path]]:
        """Yield the requests of a session, and where their records stand."""
        yield from self._by_session.get(session, {}).items()


def find_cycle(session: str, index: WaitIndex, load: Load) -> tuple[CycleLink, ...]:
    """Return the cycle that a session's newest wait has closed, or ()."""
    search = _CycleSearch(session, index, load)
    search.run(None)
    if search.closing is None:
        return ()
    if search.has_choice:  # of the holders of a semaphore, enough others may go on
        stuck = reduce(search.waits)
        if session not in stuck:
            return ()
        search = _CycleSearch(session, index, load)
        search.run(stuck)
    return (
        () if search.closing is None else _spell(session, search.came, search.closing)
    )


class _CycleSearch:
    """One search from a session, along its waits, back to itself."""

    def __init__(self, session: str, index: WaitIndex, load: Load) -> None:
        self.session = session
        self.index = index
        self.load = load
        self.came: dict[str, tuple[str, Request, Grant]] = {}
        self.waits: dict[Hashable, list[_Queued]] = {}
        self.closing: tuple[str, Request, Grant] | None = None
        self.has_choice = False

    def run(self, within: set[Any] | None) -> None:
        """Follow the waits, of all sessions or only of these."""
        frontier = deque([self.session])
        while frontier:
            waiter = frontier.popleft()
            self.waits[waiter] = []
            for id, path in self.index.waits(waiter):  # noqa: A001
                request = self.load(path).requests.get(id)
                if request is None:
                    continue
                grants, obstacle = _obstacle(self.load(path), request)
                self.waits[waiter].append(obstacle)
                self.has_choice |= isinstance(obstacle.blockers(), AnyOf)
                for grant in grants:
                    if within is not None and grant.session not in within:
                        continue
                    if grant.session == self.session:
                        self.closing = self.closing or (waiter, request, grant)
                    elif grant.session not in self.came:
                        self.came[grant.session] = waiter, request, grant
                        frontier.append(grant.session)


def _spell(
    session: str,
    came: dict[str, tuple[str, Request, Grant]],
    closing: tuple[str, Request, Grant],
) -> tuple[CycleLink, ...]:
    """Return the cycle, beginning with the session that was looked from."""
    links: list[CycleLink] = []
    waiter, request, _ = closing
    while waiter != session:
        before, its_request, held = came[waiter]
        links.append(CycleLink(waiter, held.id, request.id, request.at))
        waiter, request = before, its_request
    links.append(CycleLink(session, closing[2].id, request.id, request.at))
    links.reverse()
    return tuple(links)


class _Queued:
    """A queued request as an obstacle: what must be given back first."""

    __slots__ = ("_blockers",)

    def __init__(self, blockers: Any) -> None:
        self._blockers = blockers

    def blockers(self) -> Any:
        return self._blockers

    def describe_wait(self) -> str:
        return "a queued request"


def _obstacle(state: Any, request: Request) -> tuple[list[Grant], _Queued]:
    """Return the grants that are in the way of a request, and how many must go."""
    needed = state.needed(request, _never)
    if needed is None:
        grants = list(state.in_the_way(request, _never))
        return grants, _Queued(tuple(grant.session for grant in grants))
    if needed <= 0:
        return [], _Queued(())
    grants = list(state.grants.values())
    return grants, _Queued(
        AnyOf(lambda: [(grant.session, grant.permits) for grant in grants], needed)
    )


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
        self._index = WaitIndex()
        self._changed: dict[str, Path] = {}
        self._wanted: set[str] = set()
        for path in core.look(_paths):
            self._index.update(path, load(path).queue)
        core.on_commit = self._saw

    def _saw(self, commit: Commit) -> None:
        for document in commit.documents:
            if document.path.segments[0] in _FOLDERS:
                self._look(document)

    def _look(self, document: Document) -> None:
        path = document.path
        if document.json and summarize(document).has_request_of(self._core.origin):
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
            cycle = find_cycle(session, self._index, self._load)
            if len({_process_of(link) for link in cycle}) < 2:
                continue  # the wait-for graph has found it
            if _process_of(victim_of(cycle)) == self._core.origin:
                self._found(cycle)

    def is_there(self, cycle: tuple[CycleLink, ...]) -> bool:
        """Return whether a cycle is still there: nothing but an error ends one."""
        self._catch_up()
        return find_cycle(cycle[0].session, self._index, self._load) == cycle

    def _catch_up(self) -> None:
        """Note the queues that were only noted as changed."""
        changed, self._changed = self._changed, {}
        for path in changed.values():
            self._index.update(path, self._load(path).queue)


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


def _process_of(link: CycleLink) -> str:
    return link.request.rpartition("-")[0]


def _paths(view: View) -> list[Path]:
    return [d.path for folder in (LOCKS, SEMAPHORES) for d in view.documents(folder)]
