"""Report what fails, by alerts and dead letters.

Failures are met where nothing can wait (in a commit, in a callback). So they are
queued, and a task commits them in order. A dead letter, its alert and, for a named
subscription, the position beyond the event are one commit.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Any, Final

import attrs

from swarm.bus._bounded_folder import BoundedFolder
from swarm.bus._contracts import BusHost, owner_of
from swarm.bus._dead_letter import (
    LETTERS,
    DeadLetter,
    ErrorInfo,
    WrittenEvent,
    text_of,
)
from swarm.bus._delivery_rules import QueuedEvent
from swarm.bus._offset_committer import OffsetCommitter
from swarm.bus._records import BusOptions
from swarm.errors import (
    Closed,
    ConflictError,
    StorageFailed,
    SwarmError,
)
from swarm.model import (
    OWNER,
    AgentIdentity,
    Cause,
    Event,
    SystemAlert,
    to_datetime,
)
from swarm.ports import (
    Activity,
    Write,
    current_activity,
    one_loop_turn,
)

log: Final = logging.getLogger("swarm.bus")

_ALERTS: Final = 256  # failures that wait with an alert; more wait without
_TURN: Final = 64  # commits in one turn of the loop


def _forgotten(count: int) -> tuple[SystemAlert]:
    text = f"{count} dead letters, the oldest, were pruned (BusOptions.dead_letters)"
    return (SystemAlert("warning", "dead-letters-forgotten", text),)


@attrs.define
class _Failure:
    """One failure on its way into the tree."""

    event: Event[Any] | None
    alert: SystemAlert | None
    letter: Callable[[], DeadLetter] | None = None
    offsets: OffsetCommitter | None = None
    item: QueuedEvent | None = None


class FailureSink:
    """The failures of one swarm's subscriptions.

    It counts failures without an alert (`silent`) and the dead letters `written`, of
    which it keeps the newest for `explain`.
    """

    def __init__(self, host: BusHost, options: BusOptions) -> None:
        self._host = host
        self._options = options
        self._waiting: deque[_Failure] = deque()
        self._alerts = 0
        self._is_running = False
        self._flushed: list[asyncio.Future[None]] = []
        self._folder = BoundedFolder(
            host.kernel, LETTERS, options.dead_letters, _forgotten
        )
        self._overflowed = 0
        self.silent: int = 0
        self.written: int = 0
        self.recent: deque[DeadLetter] = deque(maxlen=10)

    @property
    def forgotten(self) -> int:
        """Number of dead letters pruned, or never written for lack of room."""
        return self._folder.gone + self._overflowed

    def is_idle(self) -> bool:
        """Return whether every failure so far is committed."""
        return not self._is_running

    def give_up(
        self,
        name: str,
        identity: AgentIdentity,
        item: QueuedEvent,
        error: BaseException,
        offsets: OffsetCommitter | None = None,
    ) -> None:
        """Make a dead letter of an event that subscription `name` gave up.

        `offsets` commits the position beyond the event, if the subscription has one.
        """
        event = item.event
        make = partial(
            DeadLetter,
            subscription=name,
            error=ErrorInfo.of(error),
            attempts=item.failures,
            at=to_datetime(self._host.clock.wall()),
            is_durable=offsets is not None,
            owner=owner_of(identity),
        )

        def letter() -> DeadLetter:
            # Made outside of commits: writing a payload down may run code of the user.
            return make(written=WrittenEvent.of(event))

        alert = self._alert_about(name, event, error, "dead-letter")
        self._add(_Failure(event, alert, letter, offsets, item))

    def complain(
        self, name: str, event: Event[Any] | None, error: BaseException, kind: str
    ) -> None:
        """Publish an alert about a failure of subscription `name`."""
        alert = self._alert_about(name, event, error, kind)
        if alert is not None:
            self._add(_Failure(event, alert))

    def _alert_about(
        self, name: str, event: Event[Any] | None, error: BaseException, kind: str
    ) -> SystemAlert | None:
        """Return the alert; None for a failure with an alert, and in a flood."""
        about = "" if event is None else f" with event {event.id}"
        extra = {"subscription": name, "failure": kind}
        if event is not None:
            extra.update(event=event.id, event_type=event.type)
        log.warning("%s: '%s'%s", kind, name, about, exc_info=error, extra=extra)
        is_alert = event is not None and event.payload_class is SystemAlert
        if is_alert or self._alerts >= _ALERTS:
            self.silent += 1
            return None
        self._alerts += 1
        return SystemAlert(
            "warning" if kind == "where-failed" else "error",
            kind,
            f"{type(error).__name__}: {text_of(error)}",
            name,
            "" if event is None else event.id,
        )

    def _add(self, failure: _Failure) -> None:
        waiting = self._waiting
        waiting.append(failure)
        if len(waiting) > self._options.dead_letters + _ALERTS:
            self._let_go(waiting.popleft())
        if not self._is_running:
            self._begin()

    def _begin(self) -> None:
        self._is_running = True
        name = "failures of subscriptions"
        self._host.start(self._commit_all(), name, essential=True, ended=self._ended)

    def _ended(self) -> None:
        """Note that the task is over; start another one if it was cancelled."""
        self._is_running = False
        if self._waiting:
            self._begin()
            return
        flushed, self._flushed = self._flushed, []
        for waiter in flushed:
            if not waiter.done():
                waiter.set_result(None)

    def _let_go(self, failure: _Failure) -> None:
        """Do without the oldest of too many failures."""
        self._overflowed += failure.letter is not None
        self.silent += failure.alert is not None
        self._alerts -= failure.alert is not None
        if failure.offsets is not None and failure.item is not None:
            failure.offsets.finished([failure.item])

    async def flush(self) -> None:
        """Wait until every failure so far is committed."""
        if self._is_running:
            flushed = self._host.loop.create_future()
            self._flushed.append(flushed)
            await flushed

    # --- the task -----------------------------------------------------------------

    async def _commit_all(self) -> None:
        left = _TURN
        while self._waiting:
            failure = self._waiting.popleft()
            self._alerts -= failure.alert is not None
            current_activity.set(self._activity(failure.event))
            await self._commit(failure)
            left -= 1
            if not left:
                left = _TURN
                await one_loop_turn()

    async def _commit(self, failure: _Failure) -> None:
        events = () if failure.alert is None else (failure.alert,)
        try:
            if failure.letter is None:
                await self._host.kernel.commit(OWNER, events=events)
                return
            # Pruning letters about alerts is quiet: its alert would fail as well.
            await self._folder.reserve(is_quiet=failure.alert is None)
            letter = failure.letter()
            if await self._commit_letter(failure, letter, events):
                self.written += 1
                self.recent.append(letter)
            else:
                self._folder.give_back()
        except Closed:
            self.silent += 1
        except StorageFailed as error:  # logged by every commit that it concerns
            self.silent += 1
            log.error("a failure of a subscription is not committed: %s", error)  # noqa: TRY400
        except SwarmError:
            self.silent += 1
            log.exception("a failure of a subscription could not be committed")

    async def _commit_letter(
        self, failure: _Failure, letter: DeadLetter, events: tuple[SystemAlert, ...]
    ) -> bool:
        """Commit a dead letter; False: another subscription has the name and event."""
        kernel, offsets, item = self._host.kernel, failure.offsets, failure.item
        write = Write(letter.path, record=letter)
        if offsets is None or item is None:
            await kernel.commit(OWNER, [write], events=events)
            return True
        while True:
            made = offsets.to_commit([item], write)
            try:
                with offsets.under_way():
                    commit = await kernel.commit(
                        OWNER, made.writes, conditions=made.conditions, events=events
                    )
            except ConflictError:
                if await offsets.has_lost_name():
                    return False
                await one_loop_turn()  # the position was written meanwhile
                continue
            assert commit is not None  # it writes documents
            offsets.committed(commit.revision, made)
            return True

    def _activity(self, event: Event[Any] | None) -> Activity | None:
        """Return the cause of an alert about an event.

        The alert is delivered even at the end of an event loop; its consequences are
        not.
        """
        if event is None:
            return None
        depth = min(event.depth + 1, self._options.depth)
        return Activity(Cause(event.correlation_id, event.id, event.trace, depth))
