"""What the log keeps for named subscriptions, active or not (H7)."""

from collections.abc import Sequence

from swarm.bus._core import Core
from swarm.bus._intake import Intake
from swarm.bus._position import Position
from swarm.errors import Lost
from swarm.model import Commit


class Pin:
    """The part of the log that one named subscription needs.

    Fulfils `ports.RetentionHold`. It outlasts the subscription, for the next one of
    its name.

    Attributes:
        name: Whose it is.
        holder: The id of the subscription it was made for, active or not.
        after: The revision up to which nothing is needed any more.
        subscription: The active one of this name, or None.
        lost: How many commits it had to do without.
    """

    __slots__ = (
        "_bus",
        "_is_saving",
        "_tell_at",
        "after",
        "holder",
        "lost",
        "name",
        "subscription",
    )

    def __init__(self, bus: Core, subscription: Intake, position: Position) -> None:
        """Need what comes after `position`."""
        self._bus = bus
        self._is_saving = False
        self.name: str = subscription.name
        self.holder: str = subscription.id
        self.after: int = position.needs
        self.subscription: Intake | None = None
        self.lost: int = 0
        self._tell_at = 1

    def move(self, position: Position) -> None:
        """Need what comes after `position`, which is in force now."""
        self.after = position.needs

    def on_pressure(self) -> None:
        """Write the position down if that frees something: it may be an old one."""
        keeper = None if self.subscription is None else self.subscription.keeper
        if keeper is None or self._is_saving or keeper.needs() <= self.after:
            return
        self._is_saving = True
        name = f"subscription {self.name} position"
        self._bus.host.start(keeper.save(), name, essential=True, ended=self._saved)

    def _saved(self) -> None:
        self._is_saving = False

    def on_truncate(self, commits: Sequence[Commit]) -> None:
        """Do without these; who needed them is told how many they are.

        The alert is a commit as well, for which another may have to go. So there is
        one each time that the loss has doubled, and not one for each.
        """
        before, self.after = self.after, commits[-1].revision
        missed = len(commits)
        if self.subscription is not None:
            missed = self.subscription.lose(commits)
        self.lost += missed
        if self.lost >= self._tell_at:
            self._tell_at = 2 * self.lost
            error = Lost(self.lost, before, self.after + 1)
            self._bus.failures.complain(self, None, error, "events-lost")


class Pins:
    """The pins of one swarm, by the names of the subscriptions."""

    def __init__(self, bus: Core) -> None:
        """Begin with none."""
        self._bus = bus
        self._pins: dict[str, Pin] = {}

    def __len__(self) -> int:
        return len(self._pins)

    def hold(self, subscription: Intake, position: Position) -> Pin:
        """Keep what comes after `position` from now on; to be `set`, or `let_go`.

        Raises:
            Compacted: It is not all there any more.
        """
        pin = Pin(self._bus, subscription, position)
        self._bus.host.tail.hold(pin)
        return pin

    def set(self, pin: Pin) -> None:
        """Let a pin be the one of its name; it takes the place of that before it."""
        self.release(pin.name)
        self._pins[pin.name] = pin

    def let_go(self, pin: Pin) -> None:
        """Keep nothing for a pin that is not set."""
        self._bus.host.tail.release(pin)

    def describe(self) -> list[str]:
        """Return, for `explain`, for whom the log is kept though nobody is there."""
        return [
            f"subscription '{pin.name}' is not active: the log is kept for it after "
            f"revision {pin.after} (events.forget lets go)"
            for pin in self._pins.values()
            if pin.subscription is None
        ]

    def leave(self, subscription: Intake) -> None:
        """Note that a subscription is over; what it needs stays needed."""
        pin = self._pins.get(subscription.name)
        if pin is not None and pin.subscription is subscription:
            pin.subscription = None

    def release(self, name: str) -> None:
        """Keep nothing for this name any more."""
        pin = self._pins.pop(name, None)
        if pin is not None:
            self._bus.host.tail.release(pin)

    def release_of(self, subscription: Intake) -> None:
        """Keep nothing for a subscription whose name somebody else has now.

        Who has it in this process has a pin of its own, which stays (H7).
        """
        pin = self._pins.get(subscription.name)
        if pin is not None and pin.holder == subscription.id:
            self.release(subscription.name)
