"""The context of a task: what to know of it before working on it. Pure.

The lines are ordered by section: the task, what is done, what others work on, what to
update. Every place in the tree is looked at only if the agent may read it. Each section
has a share of the characters; long values are cut, and surplus lines are counted.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from typing import Any, Final, TypeAlias

import attrs
import orjson

from swarm.model import JSON, OWNER, AgentIdentity, Path
from swarm.ports import View
from swarm.work import _checkpoint_rules as checkpoints
from swarm.work._handoff_record import handoff_path, load_handoff
from swarm.work._steps import STEPS
from swarm.work._task_handle import Caller
from swarm.work._task_record import TaskRecord, task_path
from swarm.work._task_rules import require
from swarm.work.pipelines import read_run, run_path

Reader: TypeAlias = Callable[[Path], bool]
"""Whether a place may be read."""

LIMIT: Final = 8_000
"""Default maximum number of characters in a context."""

_SHARES: Final = {
    "Task": 0.3,
    "Done so far": 0.4,
    "Others at work": 0.2,
    "To update": 0.1,
}
_REGISTRY: Final = Path.of("global", "registry")
_OTHERS: Final = 50
_FOLDERS: Final = {"global", "agents", "shared", "locks", "semaphores", "barriers"} | {
    *("handoffs", "checkpoints", "pipelines", "task_steps"),
    *("subscriptions", "dead_letters"),
}


@attrs.frozen(kw_only=True)
class Context:
    """The context of a task for its worker. `str()` is text for a prompt.

    Attributes:
        sections: The lines of each section, by its title.
        limit: How many characters the text has at most.
    """

    sections: dict[str, list[str]]
    limit: int

    def __str__(self) -> str:
        return "\n\n".join(
            _section(title, lines, int(self.limit * _SHARES[title]))
            for title, lines in self.sections.items()
            if lines
        )


def context_of(
    view: View,
    task_id: str,
    caller: Caller,
    running: Iterable[TaskRecord],
    limit: int = LIMIT,
) -> Context:
    """Return what an agent should know of a task, as far as it may read it.

    `running` is the tasks that are being worked on.

    Raises:
        NotFound: There is no such task.
        AccessDenied: The agent may not read it.
    """
    identity, may_read = caller.identity, caller.may_see
    caller.check(task_path(task_id), "read")
    task = require(view.find(task_path(task_id)), task_id)
    others = _others(view, task, identity, may_read, running)
    own = f"agents.{identity.type}.{identity.session}"
    sections = {
        "Task": list(_task(task)),
        "Done so far": list(_done(view, task, may_read)),
        "Others at work": list(islice(others, 2 * _OTHERS)),
        "To update": [
            f"progress, partial and final result: through the claim of task {task_id}",
            *([f"notes of your own: below {own}"] if identity != OWNER else ()),
            "what others need: below shared",
        ],
    }
    return Context(sections=sections, limit=limit)


def visible(value: JSON, may_read: Reader) -> JSON:
    """Return a value without the keys that name places the agent may not read.

    Only a dict has such keys: those that spell a path below a folder of the tree.
    """
    if type(value) is not dict:
        return value
    return {k: v for k, v in value.items() if not _names_hidden_place(k, may_read)}


def _names_hidden_place(key: str, may_read: Reader) -> bool:
    try:
        path = Path.parse(key)
    except ValueError:
        return False
    is_place = len(path.segments) > 1 and path.segments[0] in _FOLDERS
    return is_place and not may_read(path)


# --- sections -----------------------------------------------------------------------


def _task(task: TaskRecord) -> Iterator[str]:
    spec, progress = task.spec, task.progress
    yield f"{spec.id} ({spec.kind}), {task.status}, attempt {task.attempt}"
    if spec.payload != b"null":
        yield f"payload: {spec.payload.decode()}"
    if spec.metadata != b"{}":
        yield f"metadata: {spec.metadata.decode()}"
    if progress is not None:
        yield f"progress: {progress.percent:g} % {progress.message}".rstrip()
    if task.partial is not None:
        yield f"partial result: {task.partial.decode()}"
    for error in task.errors():
        yield f"an attempt failed: {error}"


def _done(view: View, task: TaskRecord, may_read: Reader) -> Iterator[str]:
    task_id = task.spec.id
    for step in view.documents(STEPS.child(task_id)):
        yield f"step {step.path.name}: {_json(step.value['result'])}"
    if task.handoff is not None and may_read(handoff_path(task.handoff)):
        record = load_handoff(view.find(handoff_path(task.handoff)))
        if record is not None:
            completed = visible(record.completed, may_read)
            yield f"handed on by {record.sender}: {_json(completed)}"
            yield from (f"remaining: {record.remaining}",) if record.remaining else ()
            yield from (f"notes: {record.notes}",) if record.notes else ()
    series = checkpoints.task_series(task_id)
    latest = checkpoints.find(view, series) if may_read(series) else None
    if latest is not None:
        yield f"{latest}: {_json(latest.state)}"
    run_id = orjson.loads(task.spec.metadata).get("pipeline")
    if isinstance(run_id, str) and view.find(run_path(run_id)) is not None:
        for stage in read_run(view, run_id).progress.values():
            if stage.status == "completed":
                yield f"stage {stage.name}: {_json(stage.output)}"


def _others(
    view: View,
    task: TaskRecord,
    identity: AgentIdentity,
    may_read: Reader,
    running: Iterable[TaskRecord],
) -> Iterator[str]:
    busy = {identity.agent_id}
    related = {task.spec.parent, task.spec.id} - {None}
    ordered = sorted(
        running, key=lambda t: (t.spec.parent not in related, t.created_at, t.spec.id)
    )
    for each in ordered[:_OTHERS]:
        claim, progress = each.claim, each.progress
        if claim is None or claim.agent == identity.agent_id or each is task:
            continue
        if each.spec.id != task.spec.id and may_read(task_path(each.spec.id)):
            busy.add(claim.agent)
            far = "" if progress is None else f", {progress.percent:g} % "
            text = "" if progress is None else progress.message
            yield f"{claim.agent}: {each.spec.kind} {each.spec.id}{far}{text}".rstrip()
    for document in view.documents(_REGISTRY):
        if document.path.name not in busy and may_read(document.path):
            agent: dict[str, Any] = document.value
            can = ", ".join(agent["capabilities"])
            yield f"{agent['id']}: {agent['role']}{f', can {can}' if can else ''}"


# --- text ---------------------------------------------------------------------------


def _section(title: str, lines: Sequence[str], room: int) -> str:
    """Return a title and as many lines as there is room for, the first ones first."""
    text = f"# {title}"
    longest = max(40, room // 3)
    for n, line in enumerate(lines):
        shown = f"\n- {_shortened(line.replace(chr(10), ' '), longest)}"
        left = len(lines) - n
        more = f"\n- (and {left} more)"
        if len(text) + len(shown) + (len(more) if left > 1 else 0) > room:
            return (text + more)[:room]
        text += shown
    return text


def _shortened(text: str, limit: int) -> str:
    if len(text) <= limit:
        return text
    cut = f"... ({len(text)} characters)"
    return text[: limit - len(cut)] + cut


def _json(value: JSON) -> str:
    return value if type(value) is str else orjson.dumps(value).decode()
