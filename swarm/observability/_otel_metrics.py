"""Metrics of an open swarm, sampled in its own loop.

Readers of OpenTelemetry call their callbacks in threads of their own, which must not
touch a swarm. So a task of the swarm keeps the newest numbers, and callbacks read
those.
"""

from collections.abc import Callable, Iterable
from typing import Any

from opentelemetry.metrics import CallbackOptions, Meter, Observation

from swarm.errors import Closed
from swarm.observability import _otel_names as names
from swarm.observability._agent_facts import agents
from swarm.observability._facts import overview
from swarm.observability._source import FactSource, source_of

_Values = list[tuple[float, dict[str, Any]]]


class SwarmMetrics:
    """The instruments of all swarms that share one interceptor."""

    def __init__(self, meter: Meter, interval: float) -> None:
        """Create the instruments; sample every `interval` seconds."""
        self._interval = interval
        self._newest: dict[str, dict[str, _Values]] = {}
        for name, unit, description in _GAUGES:
            meter.create_observable_gauge(name, [self._reader(name)], unit, description)
        meter.create_observable_counter(
            names.COMMITS,
            [self._reader(names.COMMITS)],
            "{commit}",
            "Commits since it opened",
        )

    def _reader(self, name: str) -> Callable[[CallbackOptions], Iterable[Observation]]:
        def read(_: CallbackOptions) -> Iterable[Observation]:
            return [
                Observation(value, {names.SWARM: swarm, **attributes})
                for swarm, found in tuple(self._newest.items())
                for value, attributes in found.get(name, ())
            ]

        return read

    def sample(self, swarm: Any) -> None:
        """Sample a swarm while it is open."""
        source = source_of(swarm)
        source.coordinator.start(self._sample(swarm, source), "telemetry: metrics")

    async def _sample(self, swarm: Any, source: FactSource) -> None:
        clock, lag = source.coordinator.clock, 0.0
        first = source.tail.revision
        try:
            while True:
                self._newest[swarm.name] = _values(swarm, lag, first)
                due = clock.monotonic() + self._interval
                await clock.sleep(self._interval)
                lag = max(0.0, clock.monotonic() - due)
        finally:
            self._newest.pop(swarm.name, None)


def _values(swarm: Any, lag: float, first: int) -> dict[str, _Values]:
    """Return the values of every instrument; commits count from revision `first`."""
    facts = overview(swarm)
    tasks, coordination = facts["tasks"], facts["locks"]
    mailboxes: dict[str, int] = {}
    for each in agents(swarm, limit=1_000):
        mailboxes[each["type"]] = mailboxes.get(each["type"], 0) + each["load"]
    seconds_in = tasks.get("seconds_in", {}).items()
    return {
        names.AGENTS: [
            (n, {names.AGENT_STATUS: status})
            for status, n in facts["agents"]["by_status"].items()
        ],
        names.MAILBOX: [(n, {names.AGENT_TYPE: kind}) for kind, n in mailboxes.items()],
        names.TASKS: [
            (n, {names.TASK_KIND: kind, names.TASK_STATUS: status})
            for kind, counts in tasks.get("by_kind", {}).items()
            for status, n in counts.items()
        ],
        names.TASKS_READY: [(tasks.get("ready", 0), {})],
        names.TASK_TIME_MEAN: [
            (found["mean"], {names.TASK_STATUS: status}) for status, found in seconds_in
        ],
        names.TASK_TIME_P95: [
            (found["p95"], {names.TASK_STATUS: status}) for status, found in seconds_in
        ],
        names.LOCKS_HELD: [(coordination["held"], {})],
        names.LOCKS_WAITING: [(coordination["queued"], {})],
        names.LOCK_WAIT: [(_longest_wait(swarm), {})],
        names.COMMITS: [(facts["revision"] - first, {})],
        names.DEAD_LETTERS: [(facts["events"]["dead_letters"], {})],
        names.LOOP_LAG: [(lag, {})],
    }


def _longest_wait(swarm: Any) -> float:
    """Return how long the request has waited that waits longest, in seconds."""
    try:
        return max((each.waited for each in swarm.locks.queue()), default=0.0)
    except Closed:
        return 0.0


_GAUGES = (
    (names.AGENTS, "{agent}", "Living agents by status"),
    (names.MAILBOX, "{request}", "Requests queued or handled, by type of agent"),
    (names.TASKS, "{task}", "Tasks by kind and status"),
    (names.TASKS_READY, "{task}", "Tasks that are due and free"),
    (names.TASK_TIME_MEAN, "s", "Mean time that tasks were in a status"),
    (names.TASK_TIME_P95, "s", "95th percentile of the time in a status"),
    (names.LOCKS_HELD, "{lease}", "Leases of locks that are held"),
    (names.LOCKS_WAITING, "{request}", "Requests that wait for a lock"),
    (names.LOCK_WAIT, "s", "How long the request has waited that waits longest"),
    (names.DEAD_LETTERS, "{event}", "Events that handlers gave up"),
    (names.LOOP_LAG, "s", "How late the newest timer of the sampler ran"),
)
