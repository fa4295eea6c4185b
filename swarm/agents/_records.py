"""Records of agents: the document in the tree, and snapshots for readers."""

from typing import Any

import attrs

from swarm.agents._lifecycle import Status
from swarm.model import AgentIdentity, Document, Path, to_datetime

_REGISTRY = Path.of("global", "registry")


def registry_path(name: str) -> Path:
    """Return where an agent's document stands.

    Raises:
        InvalidPath: The name cannot be a name in the tree.
    """
    return _REGISTRY.child(name)


def generated_path(kind: str, number: int) -> Path:
    """Return `registry_path("<kind>-<number>")`, which needs no checking."""
    name = f"{kind}-{number}"
    return Path(("global", "registry", name), f"global.registry.{name}")


@attrs.define(eq=False)
class AgentRecord:
    """What `global.registry.<agent>` says; written out only when bytes are needed.

    Never changed; not a frozen attrs class only because every spawn makes one.

    Attributes:
        identity: The agent's identity.
        capabilities: What it was spawned as capable of.
        started_at: When it was spawned, in microseconds since 1970.
        status: Its status, where "idle" stands for busy as well.
    """

    identity: AgentIdentity
    capabilities: tuple[str, ...]
    started_at: int
    status: Status

    def to_json(self) -> dict[str, Any]:
        """Return the document."""
        return {
            "id": self.identity.agent_id,
            "type": self.identity.type,
            "session": self.identity.session,
            "role": self.identity.role,
            "capabilities": list(self.capabilities),
            "started_at": to_datetime(self.started_at).isoformat(),
            "status": str(self.status),
        }


def status_in(document: Document) -> Status:
    """Return the status that an agent's document says."""
    record = document.record
    if isinstance(record, AgentRecord):
        return record.status
    return Status(document.value["status"])


@attrs.frozen(kw_only=True)
class AgentInfo:
    """One agent at one moment.

    Attributes:
        identity: The agent's identity.
        capabilities: What it was spawned as capable of.
        status: Its status.
        load: How many requests are queued or being handled.
        handled: How many turns have ended.
        failures: How many turns raised, and how often `run` or a hook did.
        restarts: How often it was built anew.
        late: How many outcomes came after their asker had gone.
        started_at: When it was spawned, in microseconds since 1970.
        heartbeat_age: Seconds since it began a turn or called `heartbeat()`.
        turn: The method of the turn that runs, such as "Researcher.research".
        turn_age: Seconds since that turn began.
        aside: The methods that run beside it (`@interleave`).
        waits_for: What its turns wait for, as text.
        error: What it failed with last, or None.
    """

    identity: AgentIdentity
    capabilities: tuple[str, ...]
    status: Status
    load: int
    handled: int
    failures: int
    restarts: int
    late: int
    started_at: int
    heartbeat_age: float
    turn: str | None
    turn_age: float | None
    aside: tuple[str, ...]
    waits_for: tuple[str, ...]
    error: str | None

    @property
    def name(self) -> str:
        """The agent's name."""
        return self.identity.agent_id


@attrs.frozen(kw_only=True)
class AgentFailure:
    """A failure that no asker received, and the supervisor's decision.

    Attributes:
        agent: The agent's name.
        error: What was raised.
        at: When, in microseconds since 1970.
        decision: What followed: "restart", "stop" or "escalate".
        trace: The traceback as text; that of `error` itself is dropped when the
            supervisor has dealt with it, for it would keep the handler's locals.
    """

    agent: str
    error: BaseException
    at: int
    decision: str
    trace: str = attrs.field(default="", repr=False)
