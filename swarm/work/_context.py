"""What an agent should know before it works on a task: permitted and bounded. Pure.

The lines are ordered by section: the task, what is done, what others work on, what to
update. Every place in the tree is looked at only if the agent may read it. Each section
has a share of the characters; long values are cut, and surplus lines are counted.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final

import attrs
import orjson

from swarm.model import JSON, AgentIdentity, Path
from swarm.ports import View
from swarm.work import _checkpoint_rules as checkpoint_rules
from swarm.work._handoff_record import HandoffRecord, handoff_path, load_handoff
from swarm.work._pipeline_graph import StageProgress
from swarm.work._task_record import TaskRecord, task_path

LIMIT: Final = 8_000
"""How many characters a context has at most unless told otherwise."""

_SHARES: Final = {"task": 0.3, "done": 0.4, "others": 0.2, "update": 0.1}
_TITLES: Final = {
    "task": "Task",
    "done": "Done so far",
    "others": "Others at work",
    "update": "To update",
}
_REGISTRY: Final = Path.of("global", "registry")
_OTHERS: Final = 50


@attrs.frozen(kw_only=True)
class Context:
    """What an agent should know of a task. `str()` is text for a prompt.

    Attributes:
        sections: The lines of each section: "task", "done", "others", "update".
        limit: How many characters the text has at most.
        withheld: How many things the agent may not read.
    """

    sections: dict[str, list[str]]
    limit: int
    withheld: int = 0

    def __str__(self) -> str:
        parts: list[str] = []
        for name, lines in self.sections.items():
            if lines:
                room = int(self.limit * _SHARES[name])
                parts.append(_section(_TITLES[name], lines, room))
        return "\n\n".join(parts)


@attrs.frozen(kw_only=True)
class Sources:
    """What a context is made of.

    Attributes:
        task: The task's record.
        identity: The agent.
        may_read: Whether the agent may read a place.
        steps: The durable steps of the task so far: name and result.
        stages: How far the stages of its pipeline have come.
        running: The records of tasks that are being worked on.
        limit: How many characters the text has at most.
    """

    task: TaskRecord
    identity: AgentIdentity
    may_read: Callable[[Path], bool]
    steps: Sequence[tuple[str, JSON]] = ()
    stages: Iterable[StageProgress] = ()
    running: Iterable[TaskRecord] = ()
    limit: int = LIMIT


def build(view: View, sources: Sources) -> Context:
    """Return what the agent should know, as far as it may read it."""
    reader = _Reader(sources.may_read)
    sections = {
        "task": _task(sources.task),
        "done": _done(view, sources, reader),
        "others": _others(view, sources, reader),
        "update": _update(sources),
    }
    return Context(sections=sections, limit=sources.limit, withheld=reader.withheld)


class _Reader:
    """Asks whether a place may be read, and counts the refusals."""

    def __init__(self, may_read: Callable[[Path], bool]) -> None:
        self._may_read = may_read
        self.withheld = 0

    def __call__(self, path: Path) -> bool:
        if self._may_read(path):
            return True
        self.withheld += 1
        return False


def visible(
    value: JSON, may_read: Callable[[Path], bool]
) -> tuple[JSON, tuple[str, ...]]:
    """Return a value without the keys that name places the agent may not read.

    Only a dict has such keys: those that spell a path below one of the folders of the
    tree. The second value is the keys that were left out.
    """
    if type(value) is not dict:
        return value, ()
    hidden = tuple(key for key in value if _names_hidden_place(key, may_read))
    return {k: v for k, v in value.items() if k not in hidden}, hidden


_FOLDERS: Final = frozenset(
    (
        "global",
        "agents",
        "shared",
        "locks",
        "semaphores",
        "barriers",
        "handoffs",
        "checkpoints",
        "pipelines",
        "subscriptions",
        "dead_letters",
    )
)


def _names_hidden_place(key: str, may_read: Callable[[Path], bool]) -> bool:
    if key.split(".", 1)[0].split("[", 1)[0] not in _FOLDERS or key in _FOLDERS:
        return False
    try:
        path = Path.parse(key)
    except ValueError:
        return False
    return not may_read(path)


# --- sections -----------------------------------------------------------------------


def _task(task: TaskRecord) -> list[str]:
    spec = task.spec
    lines = [f"{spec.id} ({spec.kind}), {task.status}, attempt {task.attempt}"]
    if spec.payload != b"null":
        lines.append(f"payload: {spec.payload.decode()}")
    if spec.metadata != b"{}":
        lines.append(f"metadata: {spec.metadata.decode()}")
    if task.progress is not None:
        progress = task.progress
        lines.append(f"progress: {progress.percent:g} % {progress.message}".rstrip())
    if task.partial is not None:
        lines.append(f"partial result: {task.partial.decode()}")
    lines += [f"an attempt failed: {error}" for error in task.errors()]
    return lines


def _done(view: View, sources: Sources, reader: _Reader) -> list[str]:
    task = sources.task
    task_id = task.spec.id
    lines = [f"step {name}: {_json(result)}" for name, result in sources.steps]
    if task.handoff is not None and reader(handoff_path(task.handoff)):
        record = load_handoff(view.find(handoff_path(task.handoff)))
        if record is not None:
            lines += _handoff(record, reader)
    series = checkpoint_rules.task_series(task_id)
    if reader(series):
        latest = checkpoint_rules.find(view, series)
        if latest is not None:
            lines.append(f"{latest}: {_json(latest.state)}")
    lines += [
        f"stage {stage.name}: {_json(stage.output)}"
        for stage in sources.stages
        if stage.status == "completed"
    ]
    return lines


def _handoff(record: HandoffRecord, reader: _Reader) -> list[str]:
    completed, hidden = visible(orjson.loads(record.completed), reader)
    lines = [f"handed on by {record.sender}: {_json(completed)}"]
    if hidden:
        lines.append(f"withheld: {len(hidden)} of its entries")
    if record.remaining:
        lines.append(f"remaining: {record.remaining}")
    if record.notes:
        lines.append(f"notes: {record.notes}")
    return lines


def _others(view: View, sources: Sources, reader: _Reader) -> list[str]:
    lines: list[str] = []
    me = sources.identity.agent_id
    busy: set[str] = set()
    related = {sources.task.spec.parent, sources.task.spec.id} - {None}
    running = sorted(
        sources.running,
        key=lambda t: (t.spec.parent not in related, t.created_at, t.spec.id),
    )
    for task in running:
        claim = task.claim
        if claim is None or claim.agent == me or task.spec.id == sources.task.spec.id:
            continue
        if not reader(task_path(task.spec.id)):
            continue
        busy.add(claim.agent)
        text = f"{claim.agent}: {task.spec.kind} {task.spec.id}"
        if task.progress is not None:
            text += f", {task.progress.percent:g} % {task.progress.message}".rstrip()
        lines.append(text)
        if len(lines) == _OTHERS:
            break
    for document in view.documents(_REGISTRY):
        name = str(document.path.name)
        if len(lines) >= 2 * _OTHERS or name == me or name in busy:
            continue
        if reader(document.path):
            agent: dict[str, Any] = document.value
            can = ", ".join(agent["capabilities"])
            lines.append(f"{name}: {agent['role']}{f', can {can}' if can else ''}")
    return lines


def _update(sources: Sources) -> list[str]:
    task, me = sources.task, sources.identity
    return [
        f"progress, partial and final result: through the claim of task {task.spec.id}",
        f"notes of your own: below agents.{me.type}.{me.session}",
        "what others need: below shared",
    ]


# --- text --------------------------------------------------------------------------


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
