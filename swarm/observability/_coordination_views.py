"""Panels of locks, semaphores and barriers."""

# These draw objects of swarm's own, whose parts they read.
# ruff: noqa: SLF001

from functools import partial
from typing import Any, Final

from swarm.coordination import (
    BarrierHandle,
    Barriers,
    Lease,
    LockHandle,
    Locks,
    SemaphoreHandle,
    Semaphores,
)
from swarm.model import OWNER
from swarm.observability._coordination_facts import (
    barriers_in,
    by_resource,
    graph_fact,
)
from swarm.observability._graph_svg import GraphEdge, GraphNode, graph_svg
from swarm.observability._panels import (
    COLOURS,
    Fields,
    Lines,
    Panel,
    Part,
    Picture,
    Table,
)

_SHOWN: Final = 30
_DRAWN: Final = 20


def lock_panel(lock: LockHandle) -> Panel:
    """Return a lock: holders, queue, and the wait-for graph."""
    seen = Locks(lock._terms, lock._identity)
    held, queue = seen.held(lock.name), seen.queue(lock.name)
    badge = f"{len(held)} held" if held else "free"
    parts = _lease_parts(by_resource(held, queue, 1))
    parts += wait_parts(lock._terms.core.graph, lock._identity, lock._terms.core.rights)
    return Panel(f"lock '{lock.name}'", badge, parts)


def locks_panel(locks: Locks) -> Panel:
    """Return all locks that are held or waited for, and the wait-for graph."""
    found = by_resource(locks.held(), locks.queue(), 1_000)
    core = locks._terms.core
    parts = _lease_parts(found) or [Lines(["no lock is held"])]
    parts += wait_parts(core.graph, locks._identity, core.rights)
    return Panel(f"locks: {len(found)}", "", parts)


def semaphore_panel(semaphore: SemaphoreHandle) -> Panel:
    """Return a semaphore: capacity, holders and queue."""
    seen = Semaphores(semaphore._terms, semaphore._identity)
    held, queue = seen.held(semaphore.name), seen.queue(semaphore.name)
    taken = sum(grant.permits for grant in held)
    state = semaphore._seen()
    badge = f"{taken} of {state.capacity} taken"
    parts = _lease_parts(by_resource(held, queue, 1))
    return Panel(f"semaphore '{semaphore.name}'", badge, parts)


def semaphores_panel(semaphores: Semaphores) -> Panel:
    """Return all semaphores whose permits are held or waited for."""
    found = by_resource(semaphores.held(), semaphores.queue(), 1_000)
    parts = _lease_parts(found) or [Lines(["no permit is held"])]
    return Panel(f"semaphores: {len(found)}", "", parts)


def _lease_parts(found: list[dict[str, Any]]) -> list[Part]:
    rows = []
    for record in found:
        for grant in record["holders"]:
            how = grant.get("mode") or f"{grant['permits']} permits"
            since = f"{grant['held_for']:.1f} s"
            ends = f"ends in {grant['expires_in']:.1f} s"
            rows.append((record["resource"], "held", *_who(grant), how, since, ends))
        for number, request in enumerate(record["queue"], 1):
            how = request.get("mode") or f"{request['permits']} permits"
            how = "upgrade" if request.get("is_upgrade") else how
            since, place = f"{request['waited']:.1f} s", f"{number} in the queue"
            rows.append(
                (record["resource"], "waits", *_who(request), how, since, place)
            )
    if not rows:
        return []
    headers = ("name", "", "owner", "session", "how", "for", "")
    return [Table(headers, rows[:_SHOWN], max(0, len(rows) - _SHOWN))]


def _who(record: dict[str, Any]) -> tuple[str, str]:
    return record["owner"], record["session"]


def wait_parts(graph: Any, identity: Any, rights: Any) -> list[Part]:
    """Return the wait-for graph as a picture, with a cycle in red."""
    may_read = None if identity == OWNER else partial(rights.may_see, identity)
    seen = graph_fact(graph, may_read)
    label = {node["id"]: node["label"] for node in seen["nodes"]}
    parts: list[Part] = []
    if seen["edges"]:
        lines = []
        for edge in seen["edges"]:
            whom = f" <- {label[edge['to']]}" if edge["to"] is not None else ""
            lines.append(f"{label[edge['from']]} waits for {edge['what']}{whom}")
        drawn = _drawn(seen)
        parts.append(Lines(lines[:_DRAWN], title="waits"))
        if drawn is not None:
            parts.append(drawn)
    return parts + refused_parts(seen)


def refused_parts(seen: dict[str, Any]) -> list[Part]:
    """Return the newest cycles of a wait-for graph that were refused."""
    told = [" / ".join(cycle) for cycle in seen["refused"][:3]]
    return [Lines(told, title="deadlocks that were refused")] if told else []


def _drawn(seen: dict[str, Any]) -> Picture | None:
    nodes = seen["nodes"][:_DRAWN]
    known = {node["id"] for node in nodes}
    edges = [e for e in seen["edges"] if e["to"] in known and e["from"] in known]
    if not edges:
        return None
    cycle = set(seen["cycle"])
    svg, width, height = graph_svg(
        [
            GraphNode(
                node["id"],
                node["label"],
                "in a cycle" if node["id"] in cycle else "",
                COLOURS["red" if node["id"] in cycle else "grey"],
            )
            for node in nodes
        ],
        [
            GraphEdge(
                edge["from"],
                edge["to"],
                COLOURS["red" if {edge["from"], edge["to"]} <= cycle else "grey"],
            )
            for edge in edges
        ],
    )
    return Picture(svg, width, height)


def barrier_panel(barrier: BarrierHandle) -> Panel:
    """Return a barrier: arrived and missing parties."""
    pairs: list[tuple[str, Any]] = [
        ("arrived", f"{barrier.waiting} of {barrier.parties}"),
        ("missing", barrier.parties - barrier.waiting),
    ]
    return Panel(f"barrier '{barrier.name}'", "", [Fields(pairs)])


def barriers_panel(barriers: Barriers) -> Panel:
    """Return all barriers that have been used."""
    found = barriers_in(barriers.held(), barriers.queue(), _SHOWN)
    parts = [_barrier_table(found)] if found else [Lines(["no barrier was used"])]
    return Panel(f"barriers: {len(found)}", "", parts)


def _barrier_table(found: list[dict[str, Any]]) -> Table:
    rows = [
        (
            each["resource"],
            f"{each['arrived']} of {each['parties']}",
            each["missing"],
            each["generation"],
            ", ".join(party["session"] for party in each["waiting"][:10]),
        )
        for each in found
    ]
    return Table(("name", "arrived", "missing", "generation", "waiting"), rows)


def lease_panel(lease: Lease) -> Panel:
    """Return a lease."""
    pairs = [("token", lease.token), ("id", lease.id)]
    badge = "open" if lease.is_live else "lost"
    return Panel(f"lease of '{lease.name}'", badge, [Fields(pairs)])
