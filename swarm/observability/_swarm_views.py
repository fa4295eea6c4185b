"""Panels of a swarm and its agents."""

from itertools import islice
from typing import Any, Final

from swarm.agents import Actor, AgentInfo, LocalRef, Ref, Registry
from swarm.observability import _agent_facts, _facts
from swarm.observability._coordination_facts import wait_graph
from swarm.observability._coordination_views import refused_parts
from swarm.observability._masking import masked_text
from swarm.observability._panels import Badge, Fields, Fold, Lines, Panel, Part, Table
from swarm.observability._pipeline_facts import pipelines
from swarm.observability._tree_facts import events
from swarm.observability._tree_views import event_table
from swarm.observability._work_facts import tasks
from swarm.observability._work_views import run_table, task_table
from swarm.system import Surface

_AGENTS: Final = 20
_TASKS: Final = 10
_WAITS: Final = 10


def counts(numbers: dict[str, Any]) -> str:
    """Return counts as text: "3 idle, 1 busy"; zeros are left out."""
    shown = [f"{number} {word}" for word, number in numbers.items() if number]
    return ", ".join(shown) or "none"


def ago(seconds: float | None) -> str:
    """Return a duration as text: "0.3 s", "5 min", "2 h"."""
    if seconds is None:
        return ""
    if seconds < 90:
        return f"{seconds:.1f} s"
    if seconds < 5400:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"


def swarm_panel(swarm: Surface) -> Panel:
    """Return a swarm in numbers, with its agents, tasks, waits and failures."""
    seen = _facts.overview(swarm)
    title = f"swarm '{seen['name']}'"
    parts: list[Part] = [Fields(_numbers(seen))]
    found = _agent_facts.agents(swarm, limit=_AGENTS)
    if found:
        parts.append(agent_table(found, seen["agents"]["total"]))
    parts += _waits(swarm)
    parts += _failures(seen)
    newest = tasks(swarm, limit=_TASKS)
    if newest:
        parts.append(task_table(newest, seen["tasks"]["total"], seen["now"]))
    runs = pipelines(swarm, limit=5)
    if runs:
        parts.append(run_table(runs))
    told = events(swarm, limit=10)
    if told:
        parts.append(Fold("newest events", [event_table(told)]))
    return Panel(title, seen["phase"], parts)


def _numbers(seen: dict[str, Any]) -> list[tuple[str, Any]]:
    living, work = seen["agents"], seen["tasks"]
    pairs: list[tuple[str, Any]] = [
        ("agents", f"{living['total']} ({counts(living['by_status'])})"),
    ]
    if work.get("total"):
        text = f"{work['total']} ({counts(work['by_status'])})"
        pairs.append(("tasks", text))
        if work["waiting"]:
            waiting = sorted(work["waiting"].items(), key=lambda item: -item[1])
            told = "; ".join(f"{count} {why}" for why, count in waiting[:3])
            pairs.append(("pending", told))
    for what, words in (("locks", "held queued"), ("semaphores", "held queued")):
        if any(seen[what].values()):
            pairs.append((what, counts({w: seen[what][w] for w in words.split()})))
    if any(seen["barriers"].values()):
        pairs.append(("barriers", counts(seen["barriers"])))
    if seen["events"]["dead_letters"]:
        pairs.append(("dead letters", seen["events"]["dead_letters"]))
    errors = list(work.get("failure_reasons", {}).items())[:3]
    pairs += [("failed attempts", f"{count} with {error}") for error, count in errors]
    if seen["health"]["status"] != "unknown":
        pairs.append(("health", Badge(seen["health"]["status"])))
        pairs += [("issue", issue) for issue in seen["health"]["issues"][:5]]
    pairs.append(("revision", seen["revision"]))
    return pairs


def _waits(swarm: Surface) -> list[Part]:
    graph = wait_graph(swarm)
    label = {node["id"]: node["label"] for node in graph["nodes"]}
    seen: dict[tuple[str, str], None] = {}
    for edge in graph["edges"]:
        seen[label[edge["from"]], edge["what"]] = None
    parts: list[Part] = []
    if seen:
        rows = list(seen)[:_WAITS]
        more = len(seen) - len(rows) + graph["more"]
        parts.append(Table(("waits", "for"), rows, more, title="waits"))
    return parts + refused_parts(graph)


def _failures(seen: dict[str, Any]) -> list[Part]:
    failures = seen["failures"]
    rows = [
        (each["agent"], each["error"], each["decision"]) for each in failures["newest"]
    ]
    if not rows:
        return []
    more = failures["count"] - len(rows[:5])
    title = "failures that reached no asker"
    return [Table(("agent", "error", "decision"), rows[:5], max(0, more), title)]


def agent_table(found: list[dict[str, Any]], total: int) -> Table:
    """Return agents as a table."""
    rows = [
        (
            each["name"],
            each["type"],
            Badge(each["status"]),
            _doing(each),
            each["load"],
            each["handled"],
            each["failures"],
        )
        for each in found
    ]
    headers = ("agent", "type", "status", "now", "load", "handled", "failed")
    return Table(headers, rows, max(0, total - len(rows)))


def _doing(each: dict[str, Any]) -> str:
    if each["turn"] is None:
        return ", ".join(each["aside"][:3])
    text = f"{each['turn']}, {ago(each['turn_age'])}"
    waits = each["waits_for"]
    return f"{text}; waits for {waits[0]}" if waits else text


def ref_panel(ref: Ref[Any]) -> Panel:
    """Return an agent by its ref."""
    if not isinstance(ref, LocalRef):  # it lives in another process
        where = getattr(ref, "process", "")
        pairs = [("process", where), ("asked from here", ref.load)]
        title = f"agent '{ref.name}' ({ref.identity.type})"
        return Panel(title, str(ref.status), [Fields(pairs)])
    return _agent_panel(_agent_facts.agent_fact(ref._cell))  # noqa: SLF001  # draws swarm's own


def actor_panel(actor: Actor) -> Panel:
    """Return an agent by itself."""
    cell = getattr(actor, "_cell", None)
    if cell is None:
        return Panel(f"{type(actor).__name__}, not spawned")
    return _agent_panel(_agent_facts.agent_fact(cell))


def _agent_panel(seen: dict[str, Any]) -> Panel:
    names = ("role", "capabilities", "load", "handled", "failures", "restarts")
    pairs: list[tuple[str, Any]] = [("now", _doing(seen))] if _doing(seen) else []
    pairs += [
        (name, ", ".join(seen[name]) if name == "capabilities" else seen[name])
        for name in names
        if seen[name]
    ]
    pairs += [("waits for", wait) for wait in seen["waits_for"][:10]]
    if seen["error"]:
        pairs.append(("failed last with", seen["error"]))
    if seen["group"]:
        pairs.append(("group", seen["group"]))
    pairs.append(("spawned by", seen["spawner"]))
    title = f"agent '{seen['name']}' ({seen['type']})"
    return Panel(title, seen["status"], [Fields(pairs)])


def info_panel(info: AgentInfo) -> Panel:
    """Return an agent as it was at one moment."""
    pairs: list[tuple[str, Any]] = [
        ("load", info.load),
        ("handled", info.handled),
        ("failures", info.failures),
        ("restarts", info.restarts),
    ]
    if info.turn is not None:
        pairs.insert(0, ("now", f"{info.turn}, {ago(info.turn_age)}"))
    pairs += [("waits for", wait) for wait in info.waits_for[:10]]
    if info.error is not None:
        pairs.append(("failed last with", masked_text(info.error)))
    title = f"agent '{info.name}' ({info.identity.type})"
    return Panel(title, str(info.status), [Fields(pairs)])


def registry_panel(registry: Registry) -> Panel:
    """Return the living agents, also those of other processes."""
    found: list[dict[str, Any]] = []
    away: list[tuple[Any, ...]] = []
    for ref in islice(registry, 50):
        if isinstance(ref, LocalRef):
            found.append(_agent_facts.agent_fact(ref._cell))  # noqa: SLF001  # draws swarm's own
        else:
            status, process = Badge(str(ref.status)), getattr(ref, "process", "")
            away.append((ref.name, ref.identity.type, status, process))
    parts: list[Part] = [agent_table(found, len(found))]
    if away:
        parts.append(Table(("agent", "type", "status", "process"), away))
    if (more := len(registry) - len(found) - len(away)) > 0:
        parts.append(Lines([f"… {more} more"]))
    return Panel(f"agents: {len(registry)}", "", parts)
