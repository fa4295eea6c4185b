"""Facts about agents; see `_facts`."""

from collections import Counter
from collections.abc import Iterator
from itertools import chain, islice
from typing import Any, Final

from swarm.agents import AgentInfo, AgentRecord, Cell, info_of, record_in
from swarm.model import OWNER, AgentIdentity, Path
from swarm.observability._masking import shown_text
from swarm.observability._source import FactSource, bounded, seconds, source_of
from swarm.system import Surface
from swarm.work import TaskRecord

_REGISTRY: Final = Path.of("global", "registry")


def living_cells(source: FactSource) -> list[Cell]:
    """Return the engines of the agents of this process that may be seen."""
    cells = source.coordinator.table.cells.values()
    return [cell for cell in tuple(cells) if source.sees(cell.path)]


def agent_counts(source: FactSource) -> dict[str, Any]:
    """Return the agents of this process in numbers; see `overview`."""
    cells = living_cells(source)
    statuses: Counter[str] = Counter(map(_status, cells))
    return {
        "total": len(cells),
        "by_status": dict(statuses),
        "load": sum(cell.load() for cell in cells),
        "handled": sum(cell.handled for cell in cells),
        "failures": sum(cell.failures for cell in cells),
        "restarts": sum(cell.restarts for cell in cells),
    }


def _status(cell: Cell) -> str:
    is_busy = cell.status == "idle" and cell.is_busy()
    return "busy" if is_busy else str(cell.status)


def agents(
    swarm: Surface,
    *,
    text: str = "",
    status: str | None = None,
    limit: int = 200,
    offset: int = 0,
) -> list[dict[str, Any]]:
    """Return the living agents that fit all that is given, oldest first.

    Args:
        swarm: The swarm.
        text: What their name or type contains, in any case of letters.
        status: A status.
        limit: How many at most; never more than 1,000.
        offset: How many to leave out first.

    Returns:
        Records `{"name", "type", "session", "role", "capabilities", "status", "load",
        "handled", "failures", "restarts", "late", "started_at", "heartbeat_age",
        "turn", "turn_age", "aside", "waits_for", "error", "spawner", "group",
        "restart", "tasks", "process"}`: see `AgentInfo`; `turn` and `error` may be
        None, `aside` and `waits_for` are lists of text. spawner: the agent that spawned
        it, "owner" for the program; group: its supervision group or None; restart:
        "permanent", "transient", "temporary" or None; tasks: the ids of its tasks;
        process: where it lives, "" when no other process shares the tree. Agents of
        other processes come last; of them only what the registry says is known, and
        numbers are 0.
    """
    source = source_of(swarm)
    text = text.lower()

    def fits(identity: AgentIdentity, has: str) -> bool:
        named = not text or text in f"{identity.agent_id}\n{identity.type}".lower()
        return named and (status is None or status == has)

    here = (c for c in living_cells(source) if fits(c.identity, _status(c)))
    away = (r for r in _elsewhere(source) if fits(r.identity, str(r.status)))
    first = max(0, offset)
    chosen: Iterator[Cell | AgentRecord] = chain(here, away)
    return [
        agent_fact(each, source) if isinstance(each, Cell) else _record_fact(each)
        for each in islice(chosen, first, first + bounded(limit))
    ]


def _elsewhere(source: FactSource) -> Iterator[AgentRecord]:
    """Yield the records of the agents that live in other processes."""
    origin = source.coordinator.origin
    if not origin:
        return
    for document in source.documents(_REGISTRY):
        record = record_in(document)
        if record.process != origin:
            yield record


def _record_fact(record: AgentRecord) -> dict[str, Any]:
    identity = record.identity
    numbers = dict.fromkeys(("load", "handled", "failures", "restarts", "late"), 0)
    unknown = dict.fromkeys(("heartbeat_age", "turn", "turn_age", "error", "group"))
    return {
        "name": identity.agent_id,
        "type": identity.type,
        "session": identity.session,
        "role": identity.role,
        "capabilities": list(record.capabilities),
        "status": str(record.status),
        "started_at": seconds(record.started_at),
        **numbers,
        **unknown,
        "aside": [],
        "waits_for": [],
        "spawner": "",
        "restart": None,
        "tasks": [],
        "process": record.process,
    }


def agent(swarm: Surface, name: str) -> dict[str, Any] | None:
    """Return one living agent, as `agents` does; None: there is none of this name."""
    source = source_of(swarm)
    cell = source.coordinator.table.cells.get(name)
    if cell is not None:
        return agent_fact(cell, source) if source.sees(cell.path) else None
    found = (r for r in _elsewhere(source) if r.identity.agent_id == name)
    record = next(found, None)
    return None if record is None else _record_fact(record)


def agent_fact(cell: Cell, source: FactSource | None = None) -> dict[str, Any]:
    """Return an agent as `agents` shows it; without a source, without its tasks."""
    info: AgentInfo = info_of(cell)
    identity = info.identity
    running: list[TaskRecord] = []
    if source is not None and source.work is not None:
        running = source.work.index.running_of(info.name)
    group = cell.supervisor.group_of(cell)
    return {
        "name": info.name,
        "type": identity.type,
        "session": identity.session,
        "role": identity.role,
        "capabilities": list(info.capabilities),
        "status": str(info.status),
        "load": info.load,
        "handled": info.handled,
        "failures": info.failures,
        "restarts": info.restarts,
        "late": info.late,
        "started_at": info.started_at.timestamp(),
        "heartbeat_age": info.heartbeat_age,
        "turn": info.turn,
        "turn_age": info.turn_age,
        "aside": list(info.aside[:50]),
        "waits_for": list(info.waits_for[:50]),
        "error": None if info.error is None else shown_text(info.error, 500),
        "spawner": OWNER.agent_id if cell.spawner == OWNER else cell.spawner.agent_id,
        "group": None if group is None else group.name or None,
        "restart": None if cell.restart is None else cell.restart.kind,
        "tasks": [
            r.spec.id
            for r in running[:50]
            if source is not None and source.sees(r.spec.path)
        ],
        "process": cell.host.origin,
    }
