"""Panels of tasks, handoffs, checkpoints and pipelines."""

# These draw objects of swarm's own, whose parts they read.
# ruff: noqa: SLF001

from collections.abc import Mapping, Sequence
from itertools import islice
from typing import Any, Final

from swarm.errors import SwarmError
from swarm.model import MICRO
from swarm.observability._graph_svg import GraphEdge, GraphNode, graph_svg
from swarm.observability._masking import clipped, masked, masked_text, shown_text
from swarm.observability._panels import (
    COLOURS,
    Badge,
    Fields,
    Fold,
    Lines,
    Panel,
    Part,
    Picture,
    Table,
    colour_of,
)
from swarm.observability._source import TreeSource, tail_of
from swarm.observability._tree_views import as_json, clock_time
from swarm.observability._work_facts import checkpoint_fact, task_facts, task_in
from swarm.work import (
    Checkpoint,
    Handoff,
    Pipeline,
    PipelineRun,
    Pipelines,
    RunView,
    Task,
    TaskInfo,
    TaskList,
    TaskManager,
    Tasks,
    read_run,
)

_SHOWN: Final = 50
_STAGES: Final = 24


# --- tasks ----------------------------------------------------------------------------


def task_table(found: Sequence[Mapping[str, Any]], total: int, now: float) -> Table:
    """Return tasks as a table."""
    rows = [
        (
            each["id"],
            each["kind"],
            Badge(each["status"]),
            each["assignee"] or "",
            each["attempt"],
            f"{max(0.0, now - each['status_since']):.1f} s",
            _told(each),
        )
        for each in found
    ]
    headers = ("task", "kind", "status", "agent", "attempt", "for", "")
    return Table(headers, rows, max(0, total - len(rows)))


def _told(each: Mapping[str, Any]) -> str:
    if each["status"] == "running" and each["progress"]:
        progress = each["progress"]
        return f"{progress['percent']:g} % {progress['message']}".strip()
    if each["status"] in ("pending", "failed", "escalated"):
        return clipped(each["error"] or each["why"], 80)
    return ""


def _source(manager: TaskManager) -> TreeSource:
    return TreeSource(tail_of(manager.kernel), manager.clock, None, manager)


def task_panel(task: Task) -> Panel:
    """Return a task: the reason of its wait, its attempts, steps and history."""
    caller = task._caller
    seen = None
    if caller.may_read(task.id):
        seen = task_in(_source(caller.manager), task.id)
    if seen is None:
        return Panel(f"task {task.id} ({task.kind})", "unknown")
    parts: list[Part] = [Fields(_task_fields(seen))]
    if seen["attempts"]:
        parts.append(_attempt_table(seen["attempts"]))
    if seen["steps"]:
        rows = [(s["name"], s["agent"], as_json(s["result"])) for s in seen["steps"]]
        parts.append(Table(("step", "agent", "result"), rows[:20], title="steps"))
    for word, key in (("handoffs", "to"), ("checkpoints", "description")):
        if seen[word]:
            lines = [str(each.get(key, "")) for each in seen[word][:10]]
            parts.append(Lines(lines, title=word))
    if seen["children"]:
        shown = seen["children"][:20]
        children = [(each["id"], each["kind"], Badge(each["status"])) for each in shown]
        more = len(seen["children"]) - len(shown)
        parts.append(Table(("part", "kind", "status"), children, more))
    parts.append(Fold("history", [_history_table(seen["history"])]))
    return Panel(f"task {task.id} ({task.kind})", seen["status"], parts)


def _task_fields(seen: Mapping[str, Any]) -> list[tuple[str, Any]]:
    pairs = [
        ("now", seen["why"]),
        ("agent", seen["assignee"]),
        ("for", seen["address"]),
        ("by", seen["requester"]),
        ("attempt", f"{seen['attempt']} of {seen['max_retries'] + 1}"),
        ("error", seen["error"]),
        ("payload", as_json(seen["payload"], 400)),
        ("result", None if seen["result"] is None else as_json(seen["result"], 400)),
        ("partial", None if seen["partial"] is None else as_json(seen["partial"], 400)),
        ("parent", seen["parent"]),
    ]
    if seen["progress"]:
        progress = seen["progress"]
        text = f"{progress['percent']:g} % {progress['message']}".strip()
        pairs.insert(1, ("progress", text))
    return [(name, value) for name, value in pairs if value]


def _attempt_table(attempts: Sequence[Mapping[str, Any]]) -> Table:
    rows = [
        (
            each["number"],
            each["agent"],
            clock_time(each["started_at"]),
            f"{each['seconds']:.3g} s",
            Badge(each["outcome"]),
            each["error"],
        )
        for each in attempts[-20:]
    ]
    headers = ("attempt", "agent", "from", "took", "outcome", "error")
    return Table(headers, rows)


def _history_table(history: Sequence[Mapping[str, Any]]) -> Table:
    rows = [
        (clock_time(e["at"]), e["step"], Badge(e["status"]), e["agent"], e["reason"])
        for e in history
    ]
    return Table(("at", "step", "status", "agent", "reason"), rows)


def task_info_panel(info: TaskInfo) -> Panel:
    """Return a task as it was at one moment."""
    pairs = [
        ("agent", info.assignee),
        ("for", info.address),
        ("by", info.requester),
        ("attempt", f"{info.attempt} of {info.max_retries + 1}"),
        ("error", masked_text(info.errors[-1]) if info.errors else ""),
        ("payload", as_json(masked(info.payload), 400)),
        ("result", None if info.result is None else as_json(masked(info.result), 400)),
    ]
    history = [
        {**entry._asdict(), "at": entry.at / MICRO, "reason": masked_text(entry.reason)}
        for entry in info.history
    ]
    parts: list[Part] = [Fields([pair for pair in pairs if pair[1]])]
    parts.append(Fold("history", [_history_table(history)]))
    return Panel(f"task {info.id} ({info.kind})", info.status.value, parts)


def task_list_panel(found: TaskList) -> Panel:
    """Return a list of tasks as a table."""
    rows = [
        (
            info.id,
            info.kind,
            Badge(info.status.value),
            info.assignee or "",
            info.attempt,
            shown_text(info.errors[-1], 80) if info.errors else "",
        )
        for info in found[:_SHOWN]
    ]
    headers = ("task", "kind", "status", "agent", "attempt", "error")
    table = Table(headers, rows, len(found) - len(rows))
    return Panel(f"tasks: {len(found)}", "", [table] if found else [])


def tasks_panel(tasks: Tasks) -> Panel:
    """Return the tasks of a swarm in numbers, and the newest of them."""
    manager, caller = tasks.manager, tasks._caller
    index, source = manager.index, _source(manager)
    newest = islice(reversed(index.records.values()), 20)
    seen = [record for record in newest if caller.may_read(record.spec.id)]
    found = task_facts(source, manager, seen)
    stats = index.stats()
    headers = ("kind", *stats.by_status)
    rows = [
        (kind, *(counts.get(status, "") for status in stats.by_status))
        for kind, counts in list(stats.by_kind.items())[:20]
    ]
    parts: list[Part] = [Table(headers, rows, len(stats.by_kind) - len(rows))]
    if found:
        now = source.now() / MICRO
        parts.append(task_table(found, len(index), now))
    return Panel(f"tasks: {len(index)}", "", parts)


# --- handoffs and checkpoints ---------------------------------------------------------


def handoff_panel(handoff: Handoff) -> Panel:
    """Return a handoff, as it was made or loaded."""
    pairs = [
        ("task", f"{handoff.task_id} ({handoff.kind})"),
        ("from", handoff.sender),
        ("to", handoff.to),
        ("accepted by", handoff.receiver),
        ("remaining", masked(handoff.remaining)),
        ("notes", masked(handoff.notes)),
        ("completed", as_json(masked(handoff.completed), 400)),
        ("reason", masked(handoff.reason)),
        ("before", " -> ".join(handoff.trail[-8:])),
    ]
    fields = Fields([pair for pair in pairs if pair[1] and pair[1] != "null"])
    return Panel(f"handoff {handoff.id}", str(handoff.status), [fields])


def checkpoint_panel(checkpoint: Checkpoint) -> Panel:
    """Return a checkpoint with its state."""
    seen = checkpoint_fact(checkpoint)
    pairs = [
        ("description", seen["description"]),
        ("agent", seen["agent"]),
        ("task", seen["task"]),
        ("at", checkpoint.at.isoformat(timespec="seconds")),
        ("step", seen["step"]),
        ("state", as_json(seen["state"], 2_000)),
    ]
    fields = Fields([pair for pair in pairs if pair[1]])
    badge = "valid" if seen["is_valid"] else "invalid"
    return Panel(f"checkpoint {seen['seq']} of {seen['series']}", badge, [fields])


# --- pipelines ------------------------------------------------------------------------


def run_table(runs: Sequence[Mapping[str, Any]]) -> Table:
    """Return runs of pipelines as a table."""
    rows = [
        (
            run["id"],
            run["name"],
            Badge(run["status"]),
            ", ".join(f"{s['name']} {s['status']}" for s in run["stages"][:8]),
        )
        for run in runs
    ]
    return Table(("run", "pipeline", "status", "stages"), rows)


def pipeline_panel(flow: Pipeline) -> Panel:
    """Return a pipeline as a graph."""
    text = flow.text().splitlines()
    parts: list[Part] = [_graph(flow.shapes, {}, text[1:])]
    return Panel(text[0], "", parts)


def run_panel(run: PipelineRun) -> Panel:
    """Return a run as a graph, coloured by status: as it is now, if it can be seen."""
    record, stages, status = run._record, run.stages, str(run.status)
    seen: RunView | None
    try:
        seen = tail_of(run._manager.tasks.kernel).read_now(read_run, run.id)
    except SwarmError:  # the swarm has ended, or the run was removed
        seen = None
    if seen is not None:
        record, status = seen.record, str(seen.status)
        stages = dict(seen.progress)
    rows = []
    for shape in record.stages:
        each = stages[shape.name]
        number = f"{each.tasks}/{each.of}" if shape.map and each.of is not None else ""
        took = ""
        if each.started_at and each.ended_at:
            took = f"{(each.ended_at - each.started_at).total_seconds():.3g} s"
        output = as_json(masked(each.output)) if each.status == "completed" else ""
        told = masked_text(each.error) or output
        rows.append((shape.name, Badge(each.status), number, took, told))
    table = Table(("stage", "status", "items", "took", "output"), rows)
    parts: list[Part] = [_graph(record.stages, stages, ()), table]
    return Panel(f"run {run.id} of pipeline '{run.name}'", status, parts)


def _graph(shapes: Any, stages: Mapping[str, Any], text: Sequence[str]) -> Part:
    if len(shapes) > _STAGES:
        return Lines(text)
    nodes = []
    for shape in shapes:
        each = stages.get(shape.name)
        status = "" if each is None else str(each.status)
        below = shape.label if each is None else status
        colour = colour_of(status) if status else COLOURS["grey"]
        nodes.append(GraphNode(shape.name, shape.name, below, colour))
    edges = [GraphEdge(name, shape.name) for shape in shapes for name in shape.after]
    svg, width, height = graph_svg(nodes, edges)
    return Picture(svg, width, height, text)


def pipelines_panel(pipelines: Pipelines) -> Panel:
    """Return the pipelines that this process serves."""
    manager = pipelines._manager
    flows = list(manager.flows.values())[:20]
    rows = [(flow.name, ", ".join(flow.stages)) for flow in flows]
    table = Table(("pipeline", "stages"), rows)
    return Panel("pipelines served here", "", [table] if rows else [])
