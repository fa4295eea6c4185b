"""Who acts: identities and priorities."""

import enum
import re

import attrs

OWNER_ROLE = "owner"
"""The role of the program that opened the swarm; no policy binds it."""


class Priority(enum.IntEnum):
    """How urgent a request is; higher goes first."""

    LOW = 0
    NORMAL = 1
    HIGH = 2
    CRITICAL = 3


@attrs.frozen
class AgentIdentity:
    """Who somebody is: bound to the handles they are given, never passed by them.

    Attributes:
        agent_id: The agent's name, unique among those alive in one swarm.
        type: What kind of agent it is: its class's name in snake_case.
        session: The segment that names its own state below `agents.<type>`.
        role: What a `Policy` speaks of; the type unless `spawn` said otherwise.
    """

    agent_id: str
    type: str
    session: str
    role: str

    def __str__(self) -> str:
        return self.agent_id


OWNER = AgentIdentity("owner", "", "", OWNER_ROLE)
"""The program itself: what `swarm.state` and its sisters act as. Compare with `==`:
the identity of an agent has a type and a session, so no choice of names equals it."""

TIME = AgentIdentity("time", "", "", "time")
"""The author of what expires. Compare with `==`."""

_BOUNDARY = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")


def type_name(cls: type) -> str:
    """Return how a class is called in paths: `DreamWeaver` is `dream_weaver`."""
    return _BOUNDARY.sub("_", cls.__name__).lower()
