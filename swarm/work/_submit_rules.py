"""The rules by which tasks are made. Pure.

`decide_submit` is a rule of one record, for `Kernel.apply_one`. `decide_submit_once`
looks at the task's key and parent as well, and is for `Kernel.apply`.
"""

from typing import NamedTuple

import orjson

from swarm.errors import InvalidTransition
from swarm.model import Announcement, Document, TaskCreated
from swarm.ports import KEEP, Plan, Ruling, View, Write
from swarm.work._task_record import (
    FINAL,
    NEVER,
    PENDING,
    TaskRecord,
    TaskSpec,
    key_path,
    load,
    task_path,
)
from swarm.work._task_rules import require


class Submission(NamedTuple):
    """What is submitted.

    Attributes:
        spec: The task.
        delay: How long it may not be claimed yet.
        deadline: After how long it fails unless it is complete, or None.
        until: When it does, in kernel time, or None; the earlier of both counts.
    """

    spec: TaskSpec
    delay: int = 0
    deadline: int | None = None
    until: int | None = None


def submitted(request: Submission, now: int) -> tuple[TaskRecord, Announcement]:
    """Return a new task's record, and the event that says so."""
    spec, delay, relative, deadline = request
    if relative is not None:
        deadline = min(now + relative, NEVER if deadline is None else deadline)
    record = TaskRecord(
        spec, PENDING, now, now + delay, deadline, 0, None, spec.address
    )
    return record, (TaskCreated, spec.id, spec.kind)


def decide_submit(document: Document | None, now: int, request: Submission) -> Ruling:
    """Make a task. Outcome: its id; None: another task has this id."""
    if document is not None:
        return KEEP, (), None
    record, event = submitted(request, now)
    return record, (event,), request.spec.id


def decide_submit_once(view: View, request: Submission, once: bool) -> Plan:
    """Make a task unless its key is taken (J11), or its parent is over.

    A rule for `Kernel.apply`. With `once`, a key stays taken after its task's end.
    Outcome: the id and kind of the task that there is now; None: the id is taken.
    """
    spec = request.spec
    path = task_path(spec.id)
    writes = []
    if view.find(path) is not None:
        return Plan()
    if spec.key is not None:
        place = key_path(spec.key)
        taken = view.find(place)
        if taken is not None:
            other = load(view.find(task_path(taken.value["task"])))
            if other is not None and (once or other.status not in FINAL):
                return Plan(outcome=(other.spec.id, other.spec.kind))
        writes.append(Write(place, orjson.dumps({"task": spec.id})))
    if spec.parent is not None:
        parent = require(view.find(task_path(spec.parent)), spec.parent)
        if parent.status in FINAL:
            raise InvalidTransition(
                f"task {spec.parent} is {parent.status}; it gets no more parts"
            )
    record, (make, *given) = submitted(request, view.now)
    writes.append(Write(path, record=record))
    return Plan(writes, (make(*given),), (spec.id, spec.kind))
