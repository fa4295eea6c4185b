"""How the work of a swarm fares: what is an issue, and how bad it is. Pure."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import attrs

from swarm.work._task_record import MICRO

_FAILING: Final = 3
"""How many of the newest tasks of a kind have to have failed, and none completed."""

_BACKLOG: Final = 100
"""How many late leases are critical."""

BY_PEOPLE: Final = "human."
"""What the kinds of tasks begin with that people do."""


@attrs.frozen
class HealthLimits:
    """What is an issue.

    Attributes:
        patience: How long a due task may wait for somebody to serve its kind.
    """

    patience: int


@attrs.frozen(kw_only=True)
class Facts:
    """What the health of a swarm is judged by.

    Attributes:
        now: Kernel time.
        oldest_due: For each address and kind with due tasks, since when one waits.
        is_served: Whether anybody known takes tasks of an address and kind.
        overdue_leases: How many leases ended long ago, and were not followed up.
        outcomes: For each kind, how its newest tasks ended: "complete" or "failed".
        dead_letters: How many events wait as dead letters.
        overdue_schedules: The schedules whose next task is late.
    """

    now: int
    oldest_due: Mapping[tuple[str, str], int]
    is_served: Callable[[str, str], bool]
    overdue_leases: int = 0
    outcomes: Mapping[str, Sequence[str]] = attrs.field(factory=dict)
    dead_letters: int = 0
    overdue_schedules: Sequence[str] = ()


def health_of(facts: Facts, limits: HealthLimits) -> tuple[dict[str, Any], int | None]:
    """Return `global.health`, and when an issue may begin with time alone, or None."""
    issues: list[str] = []
    is_critical = False
    next_at: int | None = None
    for (address, kind), since in sorted(facts.oldest_due.items()):
        if kind.startswith(BY_PEOPLE) or facts.is_served(address, kind):
            continue
        whom = f" of {address}" if address else ""
        begins = since + limits.patience
        if begins <= facts.now:
            waited = (facts.now - since) // MICRO // 60 * 60
            issues.append(f"nobody{whom} serves {kind!r}: due for {waited} s or more")
        elif next_at is None or begins < next_at:
            next_at = begins
    if facts.overdue_leases:
        issues.append(f"{facts.overdue_leases} tasks wait to be rescued")
        is_critical = facts.overdue_leases >= _BACKLOG
    for kind, outcomes in sorted(facts.outcomes.items()):
        newest = list(outcomes)[-_FAILING:]
        if len(newest) == _FAILING and "complete" not in newest:
            issues.append(f"the last {_FAILING} tasks of {kind!r} failed")
    if facts.dead_letters:
        issues.append(f"{facts.dead_letters} events wait as dead letters")
    issues += [f"schedule {name!r} is overdue" for name in facts.overdue_schedules]
    status = "critical" if is_critical else "degraded" if issues else "healthy"
    return {"status": status, "issues": issues}, next_at
