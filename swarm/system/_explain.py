"""The text of `Swarm.explain`: each agent with its turns, waits and failures."""

import html
from collections.abc import Callable, Container

from swarm.agents import AgentInfo, Cell, Envelope, info_of
from swarm.model import Path, repr_of
from swarm.system._coordinator import Coordinator


class Explanation(str):
    """The text of `Swarm.explain`; a notebook shows it in lines, not in quotes."""

    __slots__ = ()

    def _repr_html_(self) -> str:
        return f"<pre>{html.escape(self)}</pre>"


def explain_agents(
    coordinator: Coordinator, may_read: Callable[[Path], bool] | None
) -> list[str]:
    """Return the state of the coordinator and of each agent, as lines.

    Args:
        coordinator: Of which swarm.
        may_read: Whether the reader may see the document at a path; None: every one.
    """
    cells = [
        cell
        for cell in coordinator.table.cells.values()
        if may_read is None or may_read(cell.path)
    ]
    graph = coordinator.graph
    nested = {wait for party in graph.parties() for wait in graph.waits(party)}
    lines = [
        f"swarm '{coordinator.name}' ({coordinator.phase.value}): "
        + counted(len(cells), "agent"),
        coordinator.describe(),
    ]
    for cell in cells:
        lines += _agent_lines(info_of(cell))
        lines += _owner_lines(cell, nested)
    return lines + _failure_lines(coordinator, {cell.name for cell in cells}, may_read)


def counted(number: int, word: str) -> str:
    """Return a number of things in English: "1 agent", "2 agents"."""
    return f"{number} {word}" if number == 1 else f"{number} {word}s"


def _agent_lines(info: AgentInfo) -> list[str]:
    counts = (
        f"{info.load} in hand or queued, {info.handled} handled, "
        f"{info.failures} failed, {counted(info.restarts, 'restart')}, "
        f"{counted(info.late, 'late answer')}"
    )
    lines = [f"'{info.name}' ({info.identity.type}) {info.status}: {counts}"]
    if info.turn is not None:
        lines.append(f"  in {info.turn} for {info.turn_age or 0.0:.1f} s")
    lines.extend(f"  beside it: {name}" for name in info.aside)
    lines.extend(f"  waits for {what}" for what in info.waits_for)
    if info.error is not None:
        lines.append(f"  failed last with {info.error}")
    return lines


def _owner_lines(cell: Cell, nested: Container[object]) -> list[str]:
    """Return the requests that the program itself has made of an agent."""
    requests: list[Envelope] = list(cell.mailbox or ())
    if cell.current is not None:
        requests.insert(0, cell.current)
    now = cell.host.now()
    return [
        f"  asked by the program: {request.call.name}, {now - request.since:.1f} s ago"
        for request in requests
        if request not in nested and not request.is_tell
    ]


def _failure_lines(
    coordinator: Coordinator,
    names: set[str],
    may_read: Callable[[Path], bool] | None,
) -> list[str]:
    """Return the failures that reached no asker."""
    registry = coordinator.registry
    shown = [f for f in registry.failures if may_read is None or f.agent in names]
    if not shown:
        return []
    count = registry.failure_count if may_read is None else len(shown)
    return [
        f"failures that reached no asker: {count}",
        *(
            f"  '{each.agent}': {repr_of(each.error)} -> {each.decision}"
            for each in shown
        ),
    ]
