"""The rules of processes: how one joins, stays and leaves. Pure."""

from typing import Final

import attrs

from swarm.agents import REGISTRY, process_in
from swarm.model import AgentStopped, Document
from swarm.ports import Plan, View, Write
from swarm.processes._process_record import (
    PROCESSES,
    ProcessRecord,
    new_process_id,
    process_path,
)

GONE: Final = "process died"
"""The end of an agent whose process is dead."""

CLOSED: Final = "closed"
"""The end of an agent whose process has left."""

_PAGE: Final = 400
"""Maximum number of agents removed from the registry in one commit."""


def plan_join(view: View, record: ProcessRecord, ttl: int) -> Plan:
    """Let a process join; the outcome is its record, with the id that it gets.

    Args:
        view: The tree.
        record: The process; its id is chosen here.
        ttl: How long its document lives unless it is renewed, in microseconds.
    """
    list(view.documents(PROCESSES))  # a condition: no other has joined meanwhile
    now = view.now
    joined = attrs.evolve(record, id=new_process_id(view.revision, now))
    path = process_path(joined.id)
    return Plan((Write(path, None, joined, now + ttl),), outcome=joined)


def plan_renewal(view: View, record: ProcessRecord, ttl: int) -> Plan:
    """Let a process live on; the outcome is False when it was taken for dead."""
    path = process_path(record.id)
    if view.find(path) is None:
        return Plan(outcome=False)
    return Plan((Write(path, None, record, view.now + ttl),), outcome=True)


def plan_cleanup(view: View, process: str) -> Plan:
    """Take the agents of a dead process out of the registry.

    The outcome is whether there are more of them: then ask again. Nothing happens
    while the process lives.
    """
    if view.find(process_path(process)) is not None:
        return Plan(outcome=False)
    return _removal(view, process, GONE)


def plan_leave(view: View, process: str) -> Plan:
    """Take a process that leaves, and its agents, out of the tree.

    The outcome is whether there are more agents: then ask again.
    """
    plan = _removal(view, process, CLOSED)
    if plan.outcome:
        return plan
    path = process_path(process)
    if view.find(path) is None:
        return plan
    return Plan((*plan.writes, Write(path)), plan.events)


def _removal(view: View, process: str, reason: str) -> Plan:
    found: list[Document] = [
        document
        for document in view.documents(REGISTRY)
        if process_in(document) == process
    ]
    gone = found[:_PAGE]
    writes = tuple(Write(document.path) for document in gone)
    events = tuple(AgentStopped(str(each.path.name), reason) for each in gone)
    return Plan(writes, events, outcome=len(found) > _PAGE)
