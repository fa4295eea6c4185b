"""The rules of singletons: which process runs the agent of a name. Pure."""

from typing import Final

from swarm.agents import AgentRecord, record_in, registry_path
from swarm.model import AgentStopped, Commit
from swarm.ports import Plan, View, Write
from swarm.processes._process_rules import CLOSED, GONE

_MOVES: Final = frozenset((GONE, CLOSED))
"""The end of an agent that another process starts again."""


def plan_claim(view: View, record: AgentRecord) -> Plan:
    """Let a process run the agent of a name if no other one does.

    The outcome is whether it may.
    """
    path = registry_path(record.identity.agent_id)
    if view.find(path) is not None:
        return Plan(outcome=False)
    return Plan((Write(path, None, record),), outcome=True)


def plan_release(view: View, record: AgentRecord, reason: str) -> Plan:
    """Give the name back that `plan_claim` gave, unless the agent lives by now."""
    name = record.identity.agent_id
    document = view.find(registry_path(name))
    if document is None:
        return Plan()
    there = record_in(document)
    if (there.process, there.started_at) != (record.process, record.started_at):
        return Plan()
    return Plan((Write(document.path),), (AgentStopped(name, reason),))


def moves_on(commit: Commit, name: str) -> bool:
    """Return whether an agent whose document a commit has removed is to be moved.

    It is when its process has gone; one that was stopped, was killed or has failed for
    good is over in every process.
    """
    return any(
        isinstance(event, AgentStopped)
        and event.agent_id == name
        and event.reason in _MOVES
        for event in commit.events
    )
