"""Facts about locks, semaphores, barriers, and which turn waits for which.

See `_facts`.
"""

from collections.abc import Callable, Hashable, Iterable
from itertools import islice
from typing import Any, Final

from swarm.agents import Envelope
from swarm.coordination import (
    AnyOf,
    HeldLock,
    HeldPermits,
    QueuedLock,
    QueuedPermits,
    Session,
    WaitGraph,
)
from swarm.model import Path
from swarm.observability._masking import shown_text
from swarm.observability._source import bounded, source_of
from swarm.system import Surface

_QUEUE: Final = 100
"""The most waiting requests of one lock that are shown."""

_PARTIES: Final = 200
"""The most waiting parties of the wait-for graph that are shown."""

_EDGES: Final = 50
"""The most blockers of one wait that are shown."""

_REGISTRY: Final = Path.of("global", "registry")

# --- locks, semaphores, barriers ------------------------------------------------------


def locks(swarm: Surface, *, limit: int = 200) -> list[dict[str, Any]]:
    """Return the locks that are held or waited for, by name.

    Returns:
        Records `{"resource", "holders", "queue", "queued"}`. holders: `{"owner",
        "session", "mode", "token", "lease", "held_for", "expires_in"}`; queue, in
        order: `{"owner", "session", "mode", "waited", "is_upgrade"}`, at most 100 for
        each lock; queued: how many wait.
    """
    return source_of(swarm).ask(
        lambda s: by_resource(s.locks.held(), s.locks.queue(), limit), []
    )


def semaphores(swarm: Surface, *, limit: int = 200) -> list[dict[str, Any]]:
    """Return the semaphores whose permits are held or waited for, by name.

    Returns:
        As `locks`, with "permits" in place of "mode" and "is_upgrade".
    """
    return source_of(swarm).ask(
        lambda s: by_resource(s.semaphores.held(), s.semaphores.queue(), limit), []
    )


def by_resource(held: Any, queued: Any, limit: int) -> list[dict[str, Any]]:
    """Return grants and requests as `locks` and `semaphores` show them."""
    found: dict[str, dict[str, Any]] = {}
    for grant in held:
        _record(found, grant.resource)["holders"].append(_grant(grant))
    for request in queued:
        record = _record(found, request.resource)
        record["queued"] += 1
        if record["queued"] <= _QUEUE:
            record["queue"].append(_request(request))
    return [found[name] for name in sorted(found)][: bounded(limit)]


def _record(found: dict[str, dict[str, Any]], name: str) -> dict[str, Any]:
    blank = {"resource": name, "holders": [], "queue": [], "queued": 0}
    return found.setdefault(name, blank)


def _grant(grant: HeldLock | HeldPermits) -> dict[str, Any]:
    record: dict[str, Any] = {
        "owner": grant.owner,
        "session": grant.session,
        "lease": grant.lease_id,
        "held_for": grant.held_for,
        "expires_in": grant.expires_in,
    }
    if isinstance(grant, HeldLock):
        return {**record, "mode": grant.mode, "token": grant.token}
    return {**record, "permits": grant.permits}


def _request(request: QueuedLock | QueuedPermits) -> dict[str, Any]:
    record = _waiting(request)
    if isinstance(request, QueuedLock):
        return {**record, "mode": request.mode, "is_upgrade": request.is_upgrade}
    return {**record, "permits": request.permits}


def _waiting(each: Any) -> dict[str, Any]:
    return {"owner": each.owner, "session": each.session, "waited": each.waited}


def barriers(swarm: Surface, *, limit: int = 200) -> list[dict[str, Any]]:
    """Return the barriers that have been used, by name.

    Returns:
        Records `{"resource", "parties", "generation", "arrived", "missing",
        "waiting": [{"owner", "session", "waited"}]}`.
    """
    return source_of(swarm).ask(
        lambda s: barriers_in(s.barriers.held(), s.barriers.queue(), limit), []
    )


def barriers_in(opened: Any, queued: Any, limit: int) -> list[dict[str, Any]]:
    """Return barriers and waiting parties as `barriers` shows them."""
    waiting: dict[str, list[dict[str, Any]]] = {}
    for party in queued:
        shown = waiting.setdefault(party.resource, [])
        if len(shown) < _QUEUE:
            shown.append(_waiting(party))
    return [
        {
            "resource": each.resource,
            "parties": each.parties,
            "generation": each.generation,
            "arrived": each.arrived,
            "missing": each.parties - each.arrived,
            "waiting": waiting.get(each.resource, []),
        }
        for each in sorted(opened, key=lambda each: each.resource)[: bounded(limit)]
    ]


# --- the wait-for graph ---------------------------------------------------------------


def wait_graph(swarm: Surface) -> dict[str, Any]:
    """Return which turns and tasks wait, for what, and for which others.

    A request that would close a cycle is refused with a `DeadlockError`, so a cycle
    stands here only when the waits in it end by themselves: time-outs, leases. The
    newest refused cycles are kept.

    Returns:
        `{"nodes", "edges", "cycle", "refused", "more"}`:

        - nodes: `{"id", "label", "agent"}`; agent: the name of the agent whose turn it
          is, or None.
        - edges: `{"from", "to", "what", "any"}`: ids of nodes; what: the wait in
          words; any: whether some of several blockers are enough. "to" is None when
          no other party holds it up, as far as is known.
        - cycle: ids of nodes, each waits for the next and the last for the first; or
          an empty list.
        - refused: the newest cycles that were refused, newest first: each a list of
          lines, "A waits for ...".
        - more: how many waiting parties are left out.
    """
    source = source_of(swarm)
    return graph_fact(source.coordinator.graph, source.may_read)


def graph_fact(
    graph: WaitGraph, may_read: Callable[[Path], bool] | None = None
) -> dict[str, Any]:
    """Return the record of `wait_graph`, as far as a reader may see it."""
    nodes: dict[Hashable, dict[str, Any]] = {}
    edges: list[dict[str, Any]] = []
    for party in islice(graph.parties(), _PARTIES):
        if not _is_seen(may_read, party):
            continue
        _node(nodes, party)
        for obstacle in graph.waits(party):
            what = shown_text(obstacle.describe_wait(), 200)
            blockers = _blockers(obstacle)
            others = [each for each in blockers if _is_seen(may_read, each)]
            edges.extend(
                {
                    "from": _node(nodes, party)["id"],
                    "to": None if other is None else _node(nodes, other)["id"],
                    "what": what,
                    "any": isinstance(blockers, _Some),
                }
                for other in others or [None]
            )
    return {
        "nodes": list(nodes.values()),
        "edges": edges,
        "cycle": find_cycle(edges),
        "refused": [] if may_read is not None else _refused(graph),
        "more": max(0, len(graph) - _PARTIES),
    }


class _Some(tuple[Hashable, ...]):
    """Blockers of which some are enough."""

    __slots__ = ()


def _blockers(obstacle: Any) -> tuple[Hashable, ...]:
    try:
        found = obstacle.blockers()
        shown: Iterable[Hashable] = islice(found, _EDGES)
        return _Some(shown) if isinstance(found, AnyOf) else tuple(shown)
    except Exception:  # noqa: BLE001  # an obstacle may come to its end right now
        return ()


def _is_seen(may_read: Callable[[Path], bool] | None, party: Hashable) -> bool:
    if may_read is None:
        return True
    return isinstance(party, Envelope) and may_read(_REGISTRY.child(party.cell.name))


def _node(nodes: dict[Hashable, dict[str, Any]], party: Hashable) -> dict[str, Any]:
    node = nodes.get(party)
    if node is None:
        is_turn = isinstance(party, Envelope)
        agent = party.cell.name if isinstance(party, Envelope) else None
        label = party.name if isinstance(party, Session) else str(party)
        if not is_turn and not isinstance(party, Session):
            get_name = getattr(party, "get_name", None)
            label = f"task '{get_name()}'" if get_name is not None else label
        node = nodes[party] = {
            "id": f"n{len(nodes)}",
            "label": shown_text(label, 120),
            "agent": agent,
        }
    return node


def find_cycle(edges: list[dict[str, Any]]) -> list[str]:
    """Return the nodes of a cycle in edges of which all have to go, or []."""
    following: dict[str, list[str]] = {}
    for edge in edges:
        if edge["to"] is not None and not edge["any"]:
            following.setdefault(edge["from"], []).append(edge["to"])
    done: set[str] = set()
    for start in following:
        path: list[str] = []
        branches = [iter((start,))]
        while branches:
            node = next(branches[-1], None)
            if node is None:
                branches.pop()
                if path:
                    done.add(path.pop())
            elif node in path:
                return path[path.index(node) :]
            elif node not in done:
                path.append(node)
                branches.append(iter(following.get(node, ())))
    return []


def _refused(graph: WaitGraph) -> list[list[str]]:
    return [
        [shown_text(line, 300) for line in lines] for lines in reversed(graph.refused)
    ]
