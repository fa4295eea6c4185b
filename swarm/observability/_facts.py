"""Facts about a swarm and its leases, barriers and subscriptions: JSON records.

These functions and those of the neighbouring `_*_facts.py` are the one source of every
window on a swarm: notebook, dashboard and command line. They never wait and change
nothing. A swarm that has ended gives empty records; one that was
never opened raises `Closed`. Documents
that the policy hides from the identity of the surface are left out, and values of
users are `masked`.

Times called `at` or `*_at` are seconds since 1970; other times are durations in
seconds.
"""

from collections import Counter
from typing import Any, Final

from swarm.model import Path, repr_of
from swarm.observability._agent_facts import agent_counts, living_cells
from swarm.observability._masking import masked_text, shown_text
from swarm.observability._source import FactSource, seconds, source_of
from swarm.system import Surface

_HEALTH: Final = Path.of("global", "health")
_TASKS: Final = Path.of("global", "tasks")
_DEAD: Final = Path.of("dead_letters")
_ERROR: Final = 500
"""The most characters of an error that are shown in a list."""


def overview(swarm: Surface) -> dict[str, Any]:
    """Return the swarm in numbers.

    Returns:
        `{"name", "phase", "now", "revision", "agents", "tasks", "locks", "semaphores",
        "barriers", "events", "health", "failures", "store"}`:

        - phase: "open", "draining", "ending" or "closed".
        - now: kernel time, seconds since 1970; revision: the newest commit.
        - agents: `{"total", "by_status": {status: n}, "load", "handled", "failures",
          "restarts"}`.
        - tasks: `{"total", "by_status", "by_kind": {kind: {status: n}}, "seconds_in":
          {status: {"count", "mean", "p95"}}, "failure_reasons": {error: n}, "ready",
          "waiting": {reason: n}}`; empty where this identity may not read the tasks.
        - locks and semaphores: `{"held", "queued"}`; barriers: `{"open", "waiting"}`.
        - events: `{"subscriptions", "dead_letters", "compacted"}`; the log holds the
          revisions after `compacted`.
        - health: `{"status", "issues": [str]}`: "unknown" while no task was submitted,
          "critical" once the store has failed.
        - failures: `{"count", "newest": [{"agent", "error", "at", "decision",
          "trace"}]}`: the failures that no asker received, newest first.
        - store: `{"recovered": [str]}`: the notes of opening the store.
    """
    source = source_of(swarm)
    coordinator = source.coordinator
    nothing = {"held": 0, "queued": 0}
    empty = {
        "locks": nothing,
        "semaphores": nothing,
        "barriers": {"open": 0, "waiting": 0},
    }
    listeners = source.ask(lambda surface: len(surface.events.subscriptions()), 0)
    report = coordinator.recovery
    return {
        "name": coordinator.name,
        "phase": coordinator.phase.value,
        "now": seconds(source.now()),
        "revision": coordinator.tail.revision,
        "agents": agent_counts(source),
        "tasks": _task_counts(source),
        **source.ask(_coordination_counts, empty),
        "events": {
            "subscriptions": listeners,
            "dead_letters": len(source.documents(_DEAD)),
            "compacted": coordinator.tail.compacted,
        },
        "health": _health(source),
        "failures": _failures(source),
        "store": {"recovered": [] if report is None else list(report.notes)},
    }


def _coordination_counts(surface: Surface) -> dict[str, dict[str, int]]:
    locks, semaphores, barriers = surface.locks, surface.semaphores, surface.barriers
    return {
        "locks": {"held": len(locks.held()), "queued": len(locks.queue())},
        "semaphores": {
            "held": len(semaphores.held()),
            "queued": len(semaphores.queue()),
        },
        "barriers": {"open": len(barriers.held()), "waiting": len(barriers.queue())},
    }


def _task_counts(source: FactSource) -> dict[str, Any]:
    work = source.work
    if work is None or not source.sees(_TASKS):
        return {}
    stats = work.index.stats()
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
"""The most pending tasks that are counted by the reason of their wait."""


def _health(source: FactSource) -> dict[str, Any]:
    document = source.find(_HEALTH)
    value = None if document is None else document.value
    if not isinstance(value, dict) or "status" not in value:
        value = {"status": "unknown"}
    health = {"status": value["status"], "issues": list(value.get("issues", ()))[:50]}
    failure = source.coordinator.store_failure
    if failure is not None:
        issue = f"the store takes nothing more: {failure}"
        health = {"status": "critical", "issues": [issue, *health["issues"]]}
    return health


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
                "at": failure.at.timestamp(),
                "decision": failure.decision,
                "trace": shown_text(failure.trace[-4_000:], 4_000),
            }
            for failure in reversed(shown)
        ],
    }
