"""Records of agents: the document in the tree, and snapshots for readers."""

from datetime import datetime
from typing import Any, Final

import attrs

from swarm.agents._lifecycle import Status
from swarm.errors import StaleLease
from swarm.model import (
    AgentIdentity,
    Displayable,
    Document,
    Path,
    brief,
    from_datetime,
    to_datetime,
)
from swarm.ports import decode_holders

REGISTRY: Final = Path.of("global", "registry")
"""The folder of the agents' documents."""


def registry_path(name: str) -> Path:
    """Return where an agent's document stands.

    Raises:
        InvalidPath: The name cannot be a name in the tree.
    """
    return REGISTRY.child(name)


def generated_path(kind: str, number: int, process: str = "") -> Path:
    """Return `registry_path("<kind>-<number>")`, which needs no checking.

    Where processes share the registry, the name says which one made it up.
    """
    name = f"{kind}-{process}-{number}" if process else f"{kind}-{number}"
    return Path(("global", "registry", name), f"global.registry.{name}")


@attrs.define(eq=False)
class AgentRecord:
    """The record `global.registry.<agent>`; encoded only when bytes are needed.

    Never changed; not a frozen attrs class only because every spawn makes one.

    Attributes:
        identity: The agent's identity.
        capabilities: What it was spawned as capable of.
        started_at: When it was spawned, in microseconds since 1970.
        status: Its status, where "idle" stands for busy as well.
        process: The process in which it lives; "": no other one shares the tree.
        serves: The kinds of tasks it serves, told where processes share the tree.
    """

    identity: AgentIdentity
    capabilities: tuple[str, ...]
    started_at: int
    status: Status
    process: str = ""
    serves: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Return the document."""
        told: dict[str, Any] = {
            "id": self.identity.agent_id,
            "type": self.identity.type,
            "session": self.identity.session,
            "role": self.identity.role,
            "capabilities": list(self.capabilities),
            "started_at": to_datetime(self.started_at).isoformat(),
            "status": str(self.status),
        }
        if self.process:
            told["process"] = self.process
            told["serves"] = list(self.serves)
        return told

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> "AgentRecord":
        """Return the record that `to_json` described."""
        name, kind = value["id"], value["type"]
        return cls(
            AgentIdentity(name, kind, value["session"], value["role"]),
            tuple(value["capabilities"]),
            from_datetime(datetime.fromisoformat(value["started_at"])),
            Status(value["status"]),
            value.get("process", ""),
            tuple(value.get("serves", ())),
        )

    def check_holder(self, id: str, token: int, now: int) -> None:  # noqa: A002, ARG002
        """Refuse a process in which the agent does not live any more (S16).

        Raises:
            StaleLease: It lives in another one; nothing is written.
        """
        if self.process != id:
            raise StaleLease(
                f"agent '{self.identity.agent_id}' lives in process {self.process} "
                "now; nothing was written"
            )


def record_in(document: Document) -> AgentRecord:
    """Return the record in an agent's document."""
    record = document.record
    if isinstance(record, AgentRecord):
        return record
    return AgentRecord.from_json(document.value)


def process_in(document: Document) -> str:
    """Return the process in which an agent lives, as its document says."""
    record = document.record
    if isinstance(record, AgentRecord):
        return record.process
    process: str = document.value.get("process", "")
    return process


decode_holders(REGISTRY.text, record_in)


def status_in(document: Document) -> Status:
    """Return the status that an agent's document says."""
    record = document.record
    if isinstance(record, AgentRecord):
        return record.status
    return Status(document.value["status"])


@attrs.frozen(kw_only=True)
class AgentInfo(Displayable):
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
        started_at: When it was spawned, in UTC.
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
    started_at: datetime
    heartbeat_age: float
    turn: str | None
    turn_age: float | None
    aside: tuple[str, ...]
    waits_for: tuple[str, ...]
    error: str | None = attrs.field(repr=brief)

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
        at: When, in UTC.
        decision: What followed: "restart", "stop" or "escalate".
        trace: The traceback as text; that of `error` itself is dropped when the
            supervisor has dealt with it, for it would keep the handler's locals.
    """

    agent: str
    error: BaseException = attrs.field(repr=brief)
    at: datetime
    decision: str
    trace: str = attrs.field(default="", repr=False)
