"""What fails has a receiver: alerts, and dead letters with their alerts.

Failures are met where nobody can wait (in the middle of a commit, in a callback), so
they stand in a queue until a task has committed them, in order: the letter, its alert,
and, where a subscription keeps its position, the position beyond it, as one commit.
"""

import asyncio
import logging
from collections import deque
from typing import Any, Final, Protocol

from swarm.bus._delivery_rule import Item
from swarm.bus._host import BusHost
from swarm.bus._keeper import Keeper
from swarm.bus._letter import LETTERS, DeadLetter
from swarm.bus._ownership import owner_of
from swarm.bus._records import BusOptions
from swarm.bus._shelf import Shelf
from swarm.bus._written import ErrorInfo, WrittenEvent, text_of
from swarm.errors import Closed, ConflictError, SwarmError
from swarm.model import OWNER, AgentIdentity, Cause, Event, SystemAlert
from swarm.ports import Activity, Codec, Write, current_activity, one_loop_turn

log: Final = logging.getLogger("swarm.bus")

_ALERTS: Final = 256  # failures that wait with an alert; more wait without
_BUDGET: Final = 64  # commits before others run


class Failing(Protocol):
    """A subscription as its failures see it."""

    @property
    def name(self) -> str:
        """What it is called."""
        ...


class Burying(Failing, Protocol):
    """A subscription as its dead letters see it."""

    @property
    def identity(self) -> AgentIdentity:
        """Who subscribed."""
        ...


class Report:
    """One failure on its way into the tree.

    Attributes:
        event: What failed; None: no event did.
        alert: What is said of it; None: nothing.
        letter: The dead letter; None: there is none.
        keeper: Who keeps the subscription's position; None: nobody.
        item: The event as `keeper` knows it.
    """

    __slots__ = ("alert", "event", "item", "keeper", "letter")

    def __init__(
        self,
        event: Event[Any] | None,
        alert: SystemAlert | None,
        letter: DeadLetter | None = None,
        keeper: Keeper | None = None,
        item: Item | None = None,
    ) -> None:
        """Report this."""
        self.event = event
        self.alert = alert
        self.letter = letter
        self.keeper = keeper
        self.item = item


class Failures:
    """The failures of one swarm's subscriptions.

    Attributes:
        forgotten: How many dead letters had to go because there were too many.
        silent: Failures that raised no alert.
        recent: The newest dead letters, for `explain`.
    """

    def __init__(self, host: BusHost, options: BusOptions, codec: Codec) -> None:
        """Begin with none."""
        self._host = host
        self._options = options
        self._codec = codec
        self._waiting: deque[Report] = deque()
        self._alerts = 0
        self._is_running = False
        self._flushed: list[asyncio.Future[None]] = []
        self._shelf = Shelf(host.kernel, LETTERS, options.dead_letters, _forgotten)
        self._overflowed = 0
        self.silent: int = 0
        self.buried: int = 0
        self.recent: deque[DeadLetter] = deque(maxlen=10)

    @property
    def forgotten(self) -> int:
        """How many dead letters had to go because there were too many."""
        return self._shelf.gone + self._overflowed

    def is_idle(self) -> bool:
        """Return whether everything that failed so far is committed."""
        return not self._is_running

    def bury(
        self,
        subscription: Burying,
        item: Item,
        error: BaseException,
        keeper: Keeper | None = None,
    ) -> None:
        """Make a dead letter of an event that a subscription gave up."""
        event = item.event
        letter = DeadLetter(
            subscription=subscription.name,
            written=WrittenEvent.of(event, self._codec),
            error=ErrorInfo.of(error),
            attempts=item.failures,
            at=self._host.clock.wall(),
            is_durable=keeper is not None,
            owner=owner_of(subscription.identity),
        )
        self.recent.append(letter)
        alert = self._alert_about(subscription, event, error, "dead-letter")
        self._add(Report(event, alert, letter, keeper, item))

    def complain(
        self,
        subscription: Failing,
        event: Event[Any] | None,
        error: BaseException,
        kind: str,
    ) -> None:
        """Publish an alert about a failure, but for a failure with an alert."""
        alert = self._alert_about(subscription, event, error, kind)
        if alert is not None:
            self._add(Report(event, alert))

    def _alert_about(
        self,
        subscription: Failing,
        event: Event[Any] | None,
        error: BaseException,
        kind: str,
    ) -> SystemAlert | None:
        """Return what to say, None where that would feed itself or flood."""
        about = "" if event is None else f" with event {event.id}"
        log.warning("%s: '%s'%s", kind, subscription.name, about, exc_info=error)
        is_alert = event is not None and event.payload_class is SystemAlert
        if is_alert or self._alerts >= _ALERTS:
            self.silent += 1
            return None
        self._alerts += 1
        return SystemAlert(
            "warning" if kind == "where-failed" else "error",
            kind,
            f"{type(error).__name__}: {text_of(error)}",
            subscription.name,
            "" if event is None else event.id,
        )

    def _add(self, report: Report) -> None:
        waiting = self._waiting
        waiting.append(report)
        if len(waiting) > self._options.dead_letters + _ALERTS:
            self._let_go(waiting.popleft())
        if not self._is_running:
            self._begin()

    def _begin(self) -> None:
        self._is_running = True
        name = "failures of subscriptions"
        self._host.start(self._commit_all(), name, essential=True, ended=self._ended)

    def _ended(self) -> None:
        """Note that the task is over; if somebody cancelled it, go on in another."""
        self._is_running = False
        if self._waiting:
            self._begin()
            return
        flushed, self._flushed = self._flushed, []
        for waiter in flushed:
            if not waiter.done():
                waiter.set_result(None)

    def _let_go(self, report: Report) -> None:
        """Do without the oldest of too many."""
        self._overflowed += report.letter is not None
        self.silent += report.alert is not None
        self._alerts -= report.alert is not None
        if report.keeper is not None and report.item is not None:
            report.keeper.finished([report.item])

    # --- the task -----------------------------------------------------------------

    async def flush(self) -> None:
        """Wait until every failure that was met so far is committed."""
        if self._is_running:
            flushed = self._host.loop.create_future()
            self._flushed.append(flushed)
            await flushed

    async def _commit_all(self) -> None:
        budget = _BUDGET
        while self._waiting:
            report = self._waiting.popleft()
            self._alerts -= report.alert is not None
            current_activity.set(self._alarm(report.event))
            await self._commit(report)
            budget -= 1
            if not budget:
                budget = _BUDGET
                await one_loop_turn()

    async def _commit(self, report: Report) -> None:
        events = () if report.alert is None else (report.alert,)
        letter = report.letter
        try:
            if letter is None:
                await self._host.kernel.commit(OWNER, events=events)
                return
            # About alerts there are none, or who fails at them would go on for ever.
            await self._shelf.reserve(is_quiet=report.alert is None)
            if await self._commit_letter(report, letter, events):
                self.buried += 1
            else:
                self._shelf.give_back()
        except Closed:
            self.silent += 1
        except SwarmError:
            self.silent += 1
            log.exception("a failure of a subscription could not be committed")

    async def _commit_letter(
        self, report: Report, letter: DeadLetter, events: tuple[SystemAlert, ...]
    ) -> bool:
        """Commit a letter; False: its subscription was taken over, and has it again."""
        kernel, keeper, item = self._host.kernel, report.keeper, report.item
        burial = Write(letter.path, record=letter)
        if keeper is None or item is None:
            await kernel.commit(OWNER, [burial], events=events)
            return True
        while True:
            mark = keeper.to_commit([item], burial)
            try:
                commit = await kernel.commit(
                    OWNER, mark.writes, conditions=mark.conditions, events=events
                )
            except ConflictError:
                if await keeper.was_taken_over():
                    return False
                continue  # the position was written meanwhile: try with the new one
            assert commit is not None  # it writes something
            keeper.committed(commit.revision, mark)
            return True

    def _alarm(self, event: Event[Any] | None) -> Activity | None:
        """Return what an alert about an event is done as.

        It is delivered even if it comes of an event loop; what comes of it is not.
        """
        if event is None:
            return None
        depth = min(event.depth + 1, self._options.depth)
        return Activity(Cause(event.correlation_id, event.id, event.trace, depth))


def _forgotten(count: int) -> tuple[SystemAlert]:
    text = f"{count} dead letters, the oldest, had to go (BusOptions.dead_letters)"
    return (SystemAlert("warning", "dead-letters-forgotten", text),)
