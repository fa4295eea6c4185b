"""Facts about a swarm, its agents, and what they hold: plain JSON records.

These functions and those of the neighbouring `_*_facts.py` are the one source of every
window on a swarm: notebook, dashboard and command line. They never wait and change
nothing. A swarm that has ended, or was never opened, gives empty records; what has
gone is left out. What the policy hides from the identity of the surface is left out,
and values of users are `masked`.

Times called `at` or `*_at` are seconds since 1970; other times are durations in
seconds.
"""

from collections import Counter
from itertools import islice
from typing import Any, Final

from swarm.agents import AgentInfo, Cell, info_of
from swarm.bus import SubscriptionStats
from swarm.coordination import HeldLock, HeldPermits, QueuedLock, QueuedPermits
from swarm.errors import Closed
from swarm.model import OWNER, Path, repr_of
from swarm.observability._masking import clipped, masked, masked_text
from swarm.observability._source import FactSource, bounded, seconds, source_of
from swarm.system import Surface
from swarm.work import TaskRecord

_HEALTH: Final = Path.of("global", "health")
_TASKS: Final = Path.of("global", "tasks")
_DEAD: Final = Path.of("dead_letters")
_ERROR: Final = 500
"""How many characters of an error are shown in a list."""


def overview(swarm: Surface) -> dict[str, Any]:
    """Return the swarm in numbers.

    Returns:
        `{"name", "phase", "now", "revision", "agents", "tasks", "locks", "semaphores",
        "barriers", "events", "health", "failures", "store"}`:

        - phase: "not open", "open", "draining", "ending" or "closed".
        - now: kernel time, seconds since 1970; revision: the newest commit.
        - agents: `{"total", "by_status": {status: n}, "load", "handled", "failures",
          "restarts"}`.
        - tasks: `{"total", "by_status", "by_kind": {kind: {status: n}}, "seconds_in":
          {status: {"count", "mean", "p95"}}, "failure_reasons": {error: n}, "ready",
          "waiting": {reason: n}}`; empty where this identity may not read the tasks.
        - locks and semaphores: `{"held", "queued"}`; barriers: `{"open", "waiting"}`.
        - events: `{"subscriptions", "dead_letters", "compacted"}`; the log holds the
          revisions after `compacted`.
        - health: `{"status", "issues": [str]}`: "unknown" while no task was submitted.
        - failures: `{"count", "newest": [{"agent", "error", "at", "decision",
          "trace"}]}`: the failures that no asker received, newest first.
        - store: `{"recovered": [str]}`: what opening the store found to tell.
    """
    source = source_of(swarm)
    if source is None:
        return {"name": getattr(swarm, "name", ""), "phase": "not open"}
    coordinator = source.coordinator
    locks, semaphores, barriers = _coordination_counts(source)
    report = coordinator.recovery
    return {
        "name": coordinator.name,
        "phase": coordinator.phase.value,
        "now": seconds(source.now()),
        "revision": coordinator.tail.revision,
        "agents": _agent_counts(source),
        "tasks": _task_counts(source),
        "locks": locks,
        "semaphores": semaphores,
        "barriers": barriers,
        "events": {
            "subscriptions": len(_subscriptions(source)),
            "dead_letters": len(source.documents(_DEAD)),
            "compacted": coordinator.tail.compacted,
        },
        "health": _health(source),
        "failures": _failures(source),
        "store": {"recovered": [] if report is None else list(report.notes)},
    }


def _coordination_counts(source: FactSource) -> tuple[dict[str, int], ...]:
    surface = source.surface
    try:
        locks, semaphores = surface.locks, surface.semaphores
        barriers = surface.barriers
        return (
            {"held": len(locks.held()), "queued": len(locks.queue())},
            {"held": len(semaphores.held()), "queued": len(semaphores.queue())},
            {"open": len(barriers.held()), "waiting": len(barriers.queue())},
        )
    except Closed:
        none = {"held": 0, "queued": 0}
        return none, dict(none), {"open": 0, "waiting": 0}


def _cells(source: FactSource) -> list[Cell]:
    cells = source.coordinator.table.cells.values()
    return [cell for cell in tuple(cells) if source.sees(cell.path)]


def _agent_counts(source: FactSource) -> dict[str, Any]:
    cells = _cells(source)
    statuses: Counter[str] = Counter()
    for cell in cells:
        statuses[_status(cell)] += 1
    return {
        "total": len(cells),
        "by_status": dict(statuses),
        "load": sum(cell.load() for cell in cells),
        "handled": sum(cell.handled for cell in cells),
        "failures": sum(cell.failures for cell in cells),
        "restarts": sum(cell.restarts for cell in cells),
    }


def _status(cell: Cell) -> str:
    is_busy = cell.status == "idle" and cell.is_busy()
    return "busy" if is_busy else str(cell.status)


def _task_counts(source: FactSource) -> dict[str, Any]:
    work = source.work
    if work is None or not source.sees(_TASKS):
        return {}
    totals = work.index.totals
    stats = totals.shown(work.index.ready_count, {})
    waiting: Counter[str] = Counter()
    pending = () if source.is_closed else work.index.pending()
    servers = None
    for record in islice(pending, _LOOKED_AT):
        servers = work.all_servers() if servers is None else servers
        waiting[work.why(record, brief=True, servers=servers)] += 1
    return {
        "total": len(work.index),
        "by_status": dict(stats.by_status),
        "by_kind": {kind: dict(counts) for kind, counts in stats.by_kind.items()},
        "seconds_in": {
            str(status): {"count": d.count, "mean": d.mean, "p95": d.p95}
            for status, d in stats.seconds_in.items()
        },
        "failure_reasons": {
            masked_text(reason): n for reason, n in stats.failure_reasons.items()
        },
        "ready": stats.ready,
        "waiting": dict(waiting),
    }


_LOOKED_AT: Final = 1_000
"""How many pending tasks are asked what they wait for."""


def _health(source: FactSource) -> dict[str, Any]:
    document = source.find(_HEALTH)
    value = None if document is None else document.value
    if not isinstance(value, dict) or "status" not in value:
        return {"status": "unknown", "issues": []}
    return {"status": value["status"], "issues": list(value.get("issues", ()))[:50]}


def _failures(source: FactSource) -> dict[str, Any]:
    registry = source.coordinator.registry
    names = None if source.may_read is None else {c.name for c in _cells(source)}
    shown = [f for f in registry.failures if names is None or f.agent in names]
    return {
        "count": registry.failure_count if names is None else len(shown),
        "newest": [
            {
                "agent": failure.agent,
                "error": _text(failure.error),
                "at": seconds(failure.at),
                "decision": failure.decision,
                "trace": clipped(masked_text(failure.trace[-4_000:]), 4_000),
            }
            for failure in reversed(shown)
        ],
    }


def _text(error: BaseException) -> str:
    try:
        return clipped(masked_text(repr_of(error)), _ERROR)
    except Exception:  # noqa: BLE001  # the repr is user code
        return f"{type(error).__name__}(...)"


# --- agents ---------------------------------------------------------------------------


def agents(
    swarm: Surface,
    *,
    text: str = "",
    status: str | None = None,
    limit: int = 200,
    offset: int = 0,
) -> list[dict[str, Any]]:
    """Return the living agents that fit all that is given, oldest first.

    Args:
        swarm: The swarm.
        text: What their name or type contains, in any case of letters.
        status: A status.
        limit: How many at most; never more than 1,000.
        offset: How many to leave out first.

    Returns:
        Records `{"name", "type", "session", "role", "capabilities", "status", "load",
        "handled", "failures", "restarts", "late", "started_at", "heartbeat_age",
        "turn", "turn_age", "aside", "waits_for", "error", "spawner", "group",
        "restart", "tasks"}`: see `AgentInfo`; `turn` and `error` may be None, `aside`
        and `waits_for` are lists of text. spawner: the agent that spawned it, "owner"
        for the program; group: its supervision group or None; restart: "permanent",
        "transient", "temporary" or None; tasks: the ids of the tasks it works on.
    """
    source = source_of(swarm)
    if source is None:
        return []
    text = text.lower()
    found = (
        cell
        for cell in _cells(source)
        if (not text or text in f"{cell.name}\n{cell.identity.type}".lower())
        and (status is None or _status(cell) == status)
    )
    first = max(0, offset)
    chosen = islice(found, first, first + bounded(limit))
    return [agent_fact(cell, source) for cell in chosen]


def agent(swarm: Surface, name: str) -> dict[str, Any] | None:
    """Return one living agent, as `agents` does; None: there is none of this name."""
    source = source_of(swarm)
    cell = None if source is None else source.coordinator.table.cells.get(name)
    if source is None or cell is None or not source.sees(cell.path):
        return None
    return agent_fact(cell, source)


def agent_fact(cell: Cell, source: FactSource | None = None) -> dict[str, Any]:
    """Return an agent as `agents` shows it; without a source, without its tasks."""
    info: AgentInfo = info_of(cell)
    identity = info.identity
    running: list[TaskRecord] = []
    if source is not None and source.work is not None:
        running = source.work.index.running_of(info.name)
    group = cell.supervisor.group_of(cell)
    return {
        "name": info.name,
        "type": identity.type,
        "session": identity.session,
        "role": identity.role,
        "capabilities": list(info.capabilities),
        "status": str(info.status),
        "load": info.load,
        "handled": info.handled,
        "failures": info.failures,
        "restarts": info.restarts,
        "late": info.late,
        "started_at": seconds(info.started_at),
        "heartbeat_age": info.heartbeat_age,
        "turn": info.turn,
        "turn_age": info.turn_age,
        "aside": list(info.aside[:50]),
        "waits_for": list(info.waits_for[:50]),
        "error": None if info.error is None else clipped(masked_text(info.error), 500),
        "spawner": OWNER.agent_id if cell.spawner == OWNER else cell.spawner.agent_id,
        "group": None if group is None else group.name or None,
        "restart": None if cell.restart is None else cell.restart.kind,
        "tasks": [
            r.spec.id
            for r in running[:50]
            if source is not None and source.sees(r.spec.path)
        ],
    }


# --- locks, semaphores, barriers ------------------------------------------------------


def locks(swarm: Surface, *, limit: int = 200) -> list[dict[str, Any]]:
    """Return the locks that are held or waited for, by name.

    Returns:
        Records `{"resource", "holders", "queue", "queued"}`. holders: `{"owner",
        "session", "mode", "token", "lease", "held_for", "expires_in"}`; queue, in
        order: `{"owner", "session", "mode", "waited", "is_upgrade"}`, at most 100 for
        each lock; queued: how many wait.
    """
    source = source_of(swarm)
    if source is None:
        return []
    try:
        view = source.surface.locks
        return by_resource(view.held(), view.queue(), limit)
    except Closed:
        return []


def semaphores(swarm: Surface, *, limit: int = 200) -> list[dict[str, Any]]:
    """Return the semaphores whose permits are held or waited for, by name.

    Returns:
        As `locks`, with "permits" in place of "mode" and "is_upgrade".
    """
    source = source_of(swarm)
    if source is None:
        return []
    try:
        view = source.surface.semaphores
        return by_resource(view.held(), view.queue(), limit)
    except Closed:
        return []


_QUEUE: Final = 100


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
    record: dict[str, Any] = {
        "owner": request.owner,
        "session": request.session,
        "waited": request.waited,
    }
    if isinstance(request, QueuedLock):
        return {**record, "mode": request.mode, "is_upgrade": request.is_upgrade}
    return {**record, "permits": request.permits}


def barriers(swarm: Surface, *, limit: int = 200) -> list[dict[str, Any]]:
    """Return the barriers that have been used, by name.

    Returns:
        Records `{"resource", "parties", "generation", "arrived", "missing",
        "waiting": [{"owner", "session", "waited"}]}`.
    """
    source = source_of(swarm)
    if source is None:
        return []
    try:
        view = source.surface.barriers
        return barriers_in(view.held(), view.queue(), limit)
    except Closed:
        return []


def barriers_in(opened: Any, queued: Any, limit: int) -> list[dict[str, Any]]:
    """Return barriers and waiting parties as `barriers` shows them."""
    waiting: dict[str, list[dict[str, Any]]] = {}
    for party in queued:
        shown = waiting.setdefault(party.resource, [])
        if len(shown) < _QUEUE:
            shown.append(
                {
                    "owner": party.owner,
                    "session": party.session,
                    "waited": party.waited,
                }
            )
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


# --- subscriptions --------------------------------------------------------------------


def _subscriptions(source: FactSource) -> list[Any]:
    try:
        return source.surface.events.subscriptions()
    except Closed:
        return []


def subscriptions(swarm: Surface, *, limit: int = 200) -> list[dict[str, Any]]:
    """Return the recipients of events, oldest first.

    Returns:
        Records `{"name", "pattern", "owner", "status", "processed", "waiting",
        "errors", "dead", "dropped", "lost"}`.
    """
    source = source_of(swarm)
    if source is None:
        return []
    found = []
    for each in _subscriptions(source)[: bounded(limit)]:
        stats: SubscriptionStats = each.stats
        found.append(
            {
                "name": each.name,
                "pattern": each.pattern,
                "owner": each.identity.agent_id,
                "status": each.status,
                "processed": stats.processed,
                "waiting": stats.buffered + stats.in_flight,
                "errors": stats.errors,
                "dead": stats.dead,
                "dropped": stats.dropped,
                "lost": stats.lost,
            }
        )
    return found


def dead_letters(swarm: Surface, *, limit: int = 100) -> list[dict[str, Any]]:
    """Return the events that subscriptions gave up, as they stand in the tree.

    Returns:
        Records `{"path", "at", "letter"}`: the document, masked.
    """
    source = source_of(swarm)
    if source is None:
        return []
    return [
        {"path": d.path.text, "at": seconds(d.at), "letter": masked(d.value)}
        for d in source.documents(_DEAD)[: bounded(limit)]
    ]
