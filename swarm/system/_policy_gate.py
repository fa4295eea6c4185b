"""The policy of a swarm, as its parts ask it."""

from collections.abc import Callable
from typing import Literal

from swarm.errors import AccessDenied
from swarm.model import ROOT, AgentIdentity, Path
from swarm.state import Access, Policy


class PolicyGate:
    """Answers agents and the bus, and refuses what the policy does not allow."""

    def __init__(self, policy: Policy) -> None:
        """Ask this policy."""
        self._policy = policy

    def reader_of(self, identity: AgentIdentity) -> Callable[[Path], bool] | None:
        """Return whether an identity may read a path; None: it may read every path."""
        if "**" in self._policy.accessible_paths(identity, "read"):
            return None
        return Access(self._policy, identity, ROOT).may_read

    def check_right(
        self,
        identity: AgentIdentity,
        path: Path,
        action: Literal["read", "write", "delete", "hold", "spawn", "kill"],
    ) -> None:
        """Refuse an identity that may not do this at a path.

        Raises:
            AccessDenied: The policy does not allow it.
        """
        decision = self._policy.explain(identity, path, action)
        if not decision:
            raise AccessDenied(str(decision))

    def check_spawn(self, spawner: AgentIdentity, name: str, role: str) -> None:
        """Refuse a spawner that may not spawn an agent of this name and role.

        Raises:
            AccessDenied: The policy does not allow it.
        """
        decision = self._policy.explain_spawn(spawner, name, role)
        if not decision:
            raise AccessDenied(str(decision))
