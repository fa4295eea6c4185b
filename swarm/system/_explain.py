"""The text of `Swarm.explain`: who runs what since when, and waits for whom."""

from swarm.agents import AgentInfo, Envelope, Registry, info_of


def explain_agents(name: str, phase: str, registry: Registry) -> str:
    """Return how every agent is doing, one after the other."""
    cells = registry.cells()
    nested = {
        obstacle
        for cell in cells[:1]
        for party in cell.host.graph.parties()
        for obstacle in cell.host.graph.waits(party)
    }
    lines = [f"swarm '{name}' ({phase}): {len(cells)} agents"]
    for cell in cells:
        lines.extend(_agent_lines(info_of(cell)))
        requests = list(cell.mailbox or ())
        if cell.current is not None:
            requests.insert(0, cell.current)
        owned = [request for request in requests if request not in nested]
        lines.extend(_owner_lines(owned, cell.host.now()))
    if registry.failure_count:
        lines.append(f"failures nobody asked for: {registry.failure_count}")
        lines.extend(
            f"  '{failure.agent}': {failure.error!r} -> {failure.decision}"
            for failure in registry.failures
        )
    return "\n".join(lines)


def _agent_lines(info: AgentInfo) -> list[str]:
    counts = (
        f"{info.load} in hand or queued, {info.handled} handled, "
        f"{info.failures} failed, {info.restarts} restarts, {info.late} late"
    )
    lines = [f"'{info.name}' ({info.identity.type}) {info.status}: {counts}"]
    if info.turn is not None:
        lines.append(f"  in {info.turn} for {info.turn_age or 0.0:.1f} s")
    lines.extend(f"  beside it: {name}" for name in info.aside)
    lines.extend(f"  waits for {what}" for what in info.waits_for)
    if info.error is not None:
        lines.append(f"  failed last with {info.error}")
    return lines


def _owner_lines(requests: list[Envelope], now: float) -> list[str]:
    return [
        f"  asked by the program: {request.call.name}, {now - request.since:.1f} s ago"
        for request in requests
        if not request.is_tell()
    ]
