"""Facts about a swarm and its leases, barriers and subscriptions: JSON records.

These functions and those of the neighbouring `_*_facts.py` are the one source of every
window on a swarm: notebook, dashboard and command line. They never wait and change
nothing. A swarm that has ended, or was never opened, gives empty records. Documents
that the policy hides from the identity of the surface are left out, and values of
users are `masked`.

Times called `at` or `*_at` are seconds since 1970; other times are durations in
seconds.
"""

from collections import Counter
from typing import Any, Final

from swarm.bus import SubscriptionStats
from swarm.coordination import HeldLock, HeldPermits, QueuedLock, QueuedPermits
from swarm.errors import Closed
from swarm.model import Path, repr_of
from swarm.observability._agent_facts import agent_counts, living_cells
from swarm.observability._masking import masked, masked_text, shown_text
from swarm.observability._source import FactSource, bounded, seconds, source_of
from swarm.system import Surface

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
        - store: `{"recovered": [str]}`: the notes of opening the store.
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
        "agents": agent_counts(source),
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


def _task_counts(source: FactSource) -> dict[str, Any]:
    work = source.work
    if work is None or not source.sees(_TASKS):
        return {}
    totals = work.index.totals
    stats = totals.shown(work.index.ready_count, {})
    waiting = Counter[str]() if source.is_closed else work.waiting_reasons(_LOOKED_AT)
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
"""How many pending tasks are counted by the reason of their wait."""


def _health(source: FactSource) -> dict[str, Any]:
    document = source.find(_HEALTH)
    value = None if document is None else document.value
    if not isinstance(value, dict) or "status" not in value:
        return {"status": "unknown", "issues": []}
    return {"status": value["status"], "issues": list(value.get("issues", ()))[:50]}


def _failures(source: FactSource) -> dict[str, Any]:
    registry = source.coordinator.registry
    names = None if source.may_read is None else {c.name for c in living_cells(source)}
    shown = [f for f in registry.failures if names is None or f.agent in names]
    return {
        "count": registry.failure_count if names is None else len(shown),
        "newest": [
            {
                "agent": failure.agent,
                "error": shown_text(repr_of(failure.error), _ERROR),
                "at": seconds(failure.at),
                "decision": failure.decision,
                "trace": shown_text(failure.trace[-4_000:], 4_000),
            }
            for failure in reversed(shown)
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
