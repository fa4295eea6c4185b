"""Whose a named subscription is, and a dead letter: what a policy calls own."""

from typing import Literal

from swarm.bus._host import BusHost
from swarm.model import OWNER, AgentIdentity, Path


def owner_of(identity: AgentIdentity) -> str:
    """Return whose something is that this identity makes; "": the program's.

    It is a type of agents, not one of them: those of a type share a name by `group`,
    and any of them goes on where another has stopped.
    """
    return "" if identity == OWNER else identity.type


def check_right(
    host: BusHost,
    identity: AgentIdentity,
    path: Path,
    action: Literal["write", "delete"],
    owner: str | None,
) -> None:
    """Refuse to have an identity change what stands at `path` and is of `owner`.

    With what is its own it needs to hold no more than the right to that.

    Raises:
        AccessDenied: The policy does not let it.
    """
    is_own = owner == owner_of(identity)
    host.check_right(identity, path, "hold" if is_own else action)
