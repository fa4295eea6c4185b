"""Identities and priorities."""

import enum
import re

import attrs

OWNER_ROLE = "owner"
"""The role of the program that opened the swarm; no policy binds it."""


class Priority(enum.IntEnum):
    """The urgency of a request; higher goes first."""

    LOW = 0
    NORMAL = 1
    HIGH = 2
    CRITICAL = 3


@attrs.frozen
class AgentIdentity:
    """The identity of an agent: bound to its handles, never passed as an argument.

    Attributes:
        agent_id: The agent's name, unique among the living agents of a swarm.
        type: Its class's name in snake_case.
        session: The segment that names its own state below `agents.<type>`.
        role: The role that rules of a `Policy` name; the type unless given to `spawn`.
    """

    agent_id: str
    type: str
    session: str
    role: str

    def __str__(self) -> str:
        return self.agent_id


OWNER = AgentIdentity("owner", "", "", OWNER_ROLE)
"""The program itself: the identity of `swarm.state` and the like. Compare with `==`:
the identity of an agent has a type and a session, so no choice of names equals it."""

TIME = AgentIdentity("time", "", "", "time")
"""The author of what expires. Compare with `==`."""

_BOUNDARY = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")


def type_name(cls: type) -> str:
    """Return the name of a class in paths: `DreamWeaver` is `dream_weaver`."""
    return _BOUNDARY.sub("_", cls.__name__).lower()
