"""Events that the swarm itself publishes, one class for each kind."""

from swarm.model._event_type import event


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
        reason: Why: "stopped", "killed", "failed", "closed" or "process died".
    """

    agent_id: str
    reason: str = "stopped"


@event("lock.acquired")
class LockAcquired:
    """Somebody holds a lock, or holds it in another mode. The event's `seq` is the
    fencing token.

    Attributes:
        resource: The lock.
        lease_id: The grant.
        owner: The agent that holds it.
        mode: "exclusive", "shared" or "upgradeable".
    """  # noqa: D205

    resource: str
    lease_id: str
    owner: str
    mode: str


@event("lock.released")
class LockReleased:
    """A grant has ended before its time.

    Attributes:
        resource: The lock.
        lease_id: The grant.
        owner: The agent that held it.
        mode: How it was held.
        reason: Why it was taken away; None when the holder gave it back.
    """

    resource: str
    lease_id: str
    owner: str
    mode: str
    reason: str | None = None


@event("lock.expired")
class LockExpired:
    """A grant was not renewed in time and is void.

    Attributes:
        resource: The lock.
        lease_id: The grant.
        owner: The agent that held it.
        mode: How it was held.
    """

    resource: str
    lease_id: str
    owner: str
    mode: str


@event("lock.contention")
class LockContention:
    """Somebody has to wait for a lock.

    Attributes:
        resource: The lock.
        lease_id: What the grant's id will be.
        owner: The agent that waits.
        mode: How it wants to hold it.
    """

    resource: str
    lease_id: str
    owner: str
    mode: str
