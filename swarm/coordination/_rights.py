"""Who may hold what, and see who does: the policy, as coordination asks it."""

from typing import Final

from swarm.errors import AccessDenied
from swarm.model import OWNER, AgentIdentity, Path
from swarm.state import Policy

_CACHED: Final = 4_096


class Rights:
    """The policy's answers about locks, semaphores and barriers.

    They are remembered: rules and identities never change.
    """

    __slots__ = ("_granted", "_policy")

    def __init__(self, policy: Policy) -> None:
        """Ask this policy."""
        self._policy = policy
        self._granted: dict[tuple[AgentIdentity, str], None] = {}

    def check_hold(self, identity: AgentIdentity, path: Path) -> None:
        """Refuse an identity that may not acquire what stands at `path`.

        Raises:
            AccessDenied: The policy does not let it.
        """
        if identity == OWNER or (identity, path.text) in self._granted:
            return
        decision = self._policy.explain(identity, path, "hold")
        if not decision:
            raise AccessDenied(decision.reason)
        if len(self._granted) >= _CACHED:
            self._granted.clear()
        self._granted[identity, path.text] = None

    def check_force(self, identity: AgentIdentity, path: Path) -> None:
        """Refuse an identity that may not take from others what stands at `path`.

        Raises:
            AccessDenied: The policy does not let it write there.
        """
        decision = self._policy.explain(identity, path, "write")
        if not decision:
            raise AccessDenied(
                f"{decision.reason}, as taking a lease from its holder needs"
            )

    def may_see(self, identity: AgentIdentity, path: Path) -> bool:
        """Return whether an identity may see who holds what stands at `path`."""
        return self._policy.allows(identity, path, "read")
