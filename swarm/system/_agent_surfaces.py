"""The parts of the swarm that one agent holds."""

from functools import cached_property
from typing import TYPE_CHECKING

from swarm.bus import SubscriptionScope
from swarm.model import ROOT, AgentIdentity
from swarm.state import StateHandle, home
from swarm.system._coordinator import Coordinator
from swarm.system._surface import Surface

if TYPE_CHECKING:  # a hello world does not load it
    from swarm.work import HeldClaim


class AgentSurfaces:
    """The surfaces that one agent holds; each is made when it is first used.

    Fulfils `agents.Holdings`.
    """

    def __init__(self, coordinator: Coordinator, identity: AgentIdentity) -> None:
        """Act as `identity`."""
        self._coordinator = coordinator
        self._identity = identity
        self._subscription_scope = SubscriptionScope()

    def is_in_use(self) -> bool:
        """Return whether a subscription or a claim of the agent has not ended."""
        return self._subscription_scope.is_in_use() or bool(self._claims())

    def end(self) -> None:
        """End the subscriptions of the agent and refuse new ones."""
        self._subscription_scope.end()

    async def ended(self, reason: str) -> None:
        """Give back the tasks that the agent has claimed; wait for its handlers."""
        for claim in self._claims():
            await claim.close(
                f"its worker has ended: {reason}", has_failed=reason == "failed"
            )
        await self._subscription_scope.ended()

    def _claims(self) -> "list[HeldClaim]":
        """Return the claims that nothing but the agent itself would end."""
        work = self._coordinator.work
        if work is None or "swarm" not in vars(self):
            return []
        return work.claims_of(self._identity)

    @cached_property
    def state(self) -> StateHandle:
        """The agent's own namespace."""
        store, identity = self._coordinator.store, self._identity
        return StateHandle(store, identity, home(identity))

    @cached_property
    def shared(self) -> StateHandle:
        """The namespace all agents share."""
        store = self._coordinator.store
        return StateHandle(store, self._identity, ROOT.child("shared"))

    @cached_property
    def swarm(self) -> Surface:
        """The swarm, acting as the agent."""
        return Surface.bound_to(
            self._coordinator, self._identity, self._subscription_scope
        )
