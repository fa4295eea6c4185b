"""What the swarm itself announces, one class for each kind of event."""

from swarm.model._event import event


@event("agent.registered")
class AgentRegistered:
    """An agent can be found under its name.

    Attributes:
        agent_id: Its name.
        type: What kind of agent it is.
        role: What a policy knows it as.
        capabilities: What it says it can do.
    """

    agent_id: str
    type: str
    role: str
    capabilities: tuple[str, ...] = ()


@event("agent.started")
class AgentStarted:
    """An agent takes messages.

    Attributes:
        agent_id: Its name.
    """

    agent_id: str


@event("agent.stopped")
class AgentStopped:
    """An agent has ended and its name is free.

    Attributes:
        agent_id: Its name.
        reason: Why: "stopped", "killed", "failed" or "closed".
    """

    agent_id: str
    reason: str = "stopped"
