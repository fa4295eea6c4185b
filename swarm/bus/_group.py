"""Members of a group: several handlers that share the events of one subscription."""

from swarm.bus._attempt import Member
from swarm.bus._core import ANONYMOUS
from swarm.bus._records import SubscriptionStats, SubscriptionStatus
from swarm.bus._subscription import Settled, Subscription
from swarm.bus._worker import WorkerSubscription
from swarm.errors import Closed


def group_name(group: str) -> str:
    """Return what the subscription is called that a group without a name shares."""
    return f"group:{group}"


def is_given(name: str) -> bool:
    """Return whether a name is like those that are given to what has none.

    Nobody can choose one of them: dead letters of two subscriptions never mix.
    """
    return name.startswith((group_name(""), ANONYMOUS))


class GroupMember(Subscription):
    """One of those who share the events of a group."""

    def __init__(self, worker: WorkerSubscription, member: Member) -> None:
        """Be `member` of `worker`."""
        self.id = worker.bus.new_id()
        self.name = worker.name
        self.identity = member.identity
        self._worker = worker
        self._member = member
        self._status: SubscriptionStatus = "active"

    @property
    def pattern(self) -> str:
        """Which events are meant, as text."""
        return self._worker.pattern

    @property
    def status(self) -> SubscriptionStatus:
        """Whether this member is "active", "paused" or "cancelled"."""
        ended = self._worker.status == "cancelled"
        return "cancelled" if ended else self._status

    @property
    def stats(self) -> SubscriptionStats:
        """The books of the whole group."""
        return self._worker.stats

    def pause(self) -> Settled:
        """Have this member handle nothing more; the others do."""
        self._become("paused")
        self._member.is_paused = True
        self._worker.wake()
        return Settled(lambda: self._worker.until_free(self._member))

    def resume(self) -> None:
        """Have this member handle events again."""
        self._become("active")
        self._member.is_paused = False
        self._member.wake_all()
        self._worker.wake()

    def cancel(self) -> Settled:
        """Leave the group; what is in hand goes to the others."""
        self._status = "cancelled"
        return self._worker.leave(self._member)

    def end(self) -> Settled:
        """Leave the group because who subscribed has ended."""
        settled = self.cancel()
        self._member.cancel_here()
        return settled

    def _become(self, status: SubscriptionStatus) -> None:
        if self.status == "cancelled":
            raise Closed(f"this member of group '{self.name}' was cancelled")
        self._status = status
