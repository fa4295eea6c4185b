"""The rule of a task that has a handoff: both change in one commit. Pure."""

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import attrs

from swarm.model import (
    Document,
    Path,
)
from swarm.ports import KEEP, Plan, Ruling, View, Write
from swarm.work._task_record import (
    TaskRecord,
    load,
)
from swarm.work._transitions import (
    evolve,
)

OnClaimEnd: TypeAlias = Callable[
    [View, TaskRecord, TaskRecord, int], tuple[Sequence[Write], Sequence[object]]
]
"""What the end of the claim of a task with a handoff writes and publishes as well."""


def decide_with_handoff(
    view: View,
    path: Path,
    rule: Callable[[Document | None, int, Any], Ruling],
    request: Any,
    on_claim_end: OnClaimEnd | None,
) -> Plan:
    """Ask the rule of one task, and commit what its end means to its handoff as well.

    A rule for `Kernel.apply`.
    """
    document, now = view.find(path), view.now
    old = load(document)
    if document is None or old is None:
        return _planned(path, rule(document, now, request))
    handoff = old.handoff
    bare = attrs.evolve(document, record=evolve(old, handoff=None), body=None)
    ruling = rule(bare, now, request)
    record = ruling[0]
    if record is KEEP or record is None:
        return _planned(path, ruling)
    record.handoff = handoff
    plan = _planned(path, ruling)
    is_over = old.claim is not None and record.claim is None
    if not is_over or handoff is None or on_claim_end is None:
        return plan
    writes, events = on_claim_end(view, old, record, now)
    return Plan([*plan.writes, *writes], [*plan.events, *events], plan.outcome)


def _planned(path: Path, ruling: Ruling) -> Plan:
    record, announced, outcome = ruling
    writes = () if record is KEEP else (Write(path, record=record),)
    return Plan(writes, [make(*given) for make, *given in announced], outcome)
