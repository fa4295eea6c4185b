"""The commits about an agent: its registration, its status, its end.

The rules see the agent as it is when they are committed, not as it was when the commit
was requested: commits that overtake each other must neither leave an old status behind
nor bring back the document of an agent that has gone meanwhile.
"""

from swarm.agents._cell import Cell
from swarm.agents._lifecycle import Status, health_of
from swarm.agents._protocol import served_kinds
from swarm.agents._records import AgentRecord, process_in, status_in
from swarm.agents._registry import AgentTable
from swarm.errors import NameTaken
from swarm.model import (
    AgentHealthChanged,
    AgentRegistered,
    AgentStarted,
    AgentStopped,
    Document,
    repr_of,
)
from swarm.ports import Plan, View, Write


def plan_arrival(view: View, cell: Cell) -> Plan:
    """Announce an agent.

    Raises:
        NameTaken: An agent of this name lives in another process.
    """
    document = view.find(cell.path)
    if cell.status is Status.OFFLINE:
        return Plan()
    if document is not None and _is_elsewhere(document, cell):
        raise NameTaken(
            f"an agent called '{cell.name}' lives in another process, "
            f"{process_in(document)}"
        )
    name, kind, role = cell.name, cell.identity.type, cell.identity.role
    return Plan(
        (Write(cell.path, record=_record(cell)),),
        (AgentRegistered(name, kind, role, cell.capabilities), AgentStarted(name)),
    )


def _is_elsewhere(document: Document | None, cell: Cell) -> bool:
    """Return whether an agent's document is gone, or is of one in another process."""
    if document is None or not cell.host.origin:
        return document is None
    return process_in(document) != cell.host.origin


def plan_status(view: View, cell: Cell) -> Plan:
    """Write down an agent's status, if that still stands."""
    document = view.find(cell.path)
    if _is_elsewhere(document, cell) or cell.status is Status.OFFLINE:
        return Plan()
    assert document is not None
    was, now = health_of(status_in(document)), health_of(cell.status)
    events: tuple[object, ...] = ()
    if was != now:
        reason = repr_of(cell.error) if now == "failed" else ""
        events = (AgentHealthChanged(cell.name, now, was, reason),)
    return Plan((Write(cell.path, record=_record(cell)),), events)


def plan_departure(view: View, cell: Cell, table: AgentTable) -> Plan:
    """Remove an agent's document, unless an heir has it, and announce its end."""
    if _is_elsewhere(view.find(cell.path), cell):
        return Plan()  # its arrival had yet to be committed, and will not be
    heir = table.cells.get(cell.name)
    is_inherited = heir is not None and heir.registered
    writes = () if is_inherited else (Write(cell.path),)
    return Plan(writes, (AgentStopped(cell.name, cell.reason),))


def _record(cell: Cell) -> AgentRecord:
    identity, capabilities = cell.identity, cell.capabilities
    process = cell.host.origin
    serves = served_kinds(cell.agent.__class__) if process else ()
    return AgentRecord(
        identity, capabilities, cell.started_at, cell.status, process, serves
    )
