"""Report what fails: alerts, and dead letters with their alerts.

Failures are met where nothing can wait (in a commit, in a callback). So they are
queued, and a task commits them in order. A dead letter, its alert and, for a named
subscription, the position beyond the event are one commit.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Final, TypeAlias

import attrs

from swarm.bus._contracts import BusHost, owner_of
from swarm.bus._dead_letters import (
    LETTERS,
    DeadLetter,
    ErrorInfo,
    WrittenEvent,
    text_of,
)
from swarm.bus._delivery_rules import QueuedEvent
from swarm.bus._offsets import OffsetCommitter
from swarm.bus._records import BusOptions
from swarm.errors import Closed, ConflictError, SwarmError
from swarm.model import OWNER, AgentIdentity, Cause, Event, Path, SystemAlert
from swarm.ports import (
    Activity,
    Kernel,
    Plan,
    View,
    Write,
    current_activity,
    one_loop_turn,
)

log: Final = logging.getLogger("swarm.bus")

_ALERTS: Final = 256  # failures that wait with an alert; more wait without
_TURN: Final = 64  # commits in one turn of the loop
_PART: Final = 16  # the part of a folder that is pruned at a time
_BATCH: Final = 500  # deletions in one commit

Told: TypeAlias = Callable[[int], Sequence[object]]
"""Returns the events to publish about so many documents that were pruned."""


# --- bounded folders ----------------------------------------------------------------


def prune(view: View, folder: Path, keep: int, told: Told) -> Plan:
    """Delete the oldest documents beyond `keep`. Pure.

    The outcome is the number of documents then, and the number deleted.
    """
    documents = list(view.documents(folder))
    surplus = min(len(documents) - keep, _BATCH)
    if surplus <= 0:
        return Plan(outcome=(len(documents), 0))
    documents.sort(key=lambda document: document.version)
    return Plan(
        [Write(document.path) for document in documents[:surplus]],
        told(surplus),
        (len(documents) - surplus, surplus),
    )


class BoundedFolder:
    """A folder of documents with a largest number; the oldest are pruned.

    The documents are counted once in a while, and in between taken to grow by those
    added here. So several processes together may exceed the bound for a while.

    Attributes:
        gone: How many documents were pruned.
    """

    def __init__(self, kernel: Kernel, folder: Path, most: int, told: Told) -> None:
        """Hold at most `most`; publish `told(number)` about those pruned."""
        self._kernel = kernel
        self._folder = folder
        self._most = most
        self._told = told
        self._room = 0
        self.gone: int = 0

    async def reserve(self, *, is_quiet: bool = False) -> None:
        """Make room for one more document; `give_back` if it is not written.

        Args:
            is_quiet: Whether nothing is published about what is pruned.
        """
        while self._room <= 0:
            part = max(1, self._most // _PART)
            told = _nothing if is_quiet else self._told
            _, (left, gone) = await self._kernel.apply(
                OWNER, prune, self._folder, self._most - part, told
            )
            self.gone += gone
            self._room = self._most - left
        self._room -= 1

    def give_back(self) -> None:
        """Note that a reserved document was not written."""
        self._room += 1


def _nothing(_: int) -> Sequence[object]:
    return ()


def _forgotten(count: int) -> tuple[SystemAlert]:
    text = f"{count} dead letters, the oldest, were pruned (BusOptions.dead_letters)"
    return (SystemAlert("warning", "dead-letters-forgotten", text),)


# --- the sink -------------------------------------------------------------------------


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

    Attributes:
        silent: Failures without an alert.
        written: Dead letters written so far.
        recent: The newest dead letters, for `explain`.
    """

    def __init__(self, host: BusHost, options: BusOptions) -> None:
        """Begin without failures."""
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
        """How many dead letters were pruned, or never written for lack of room."""
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

        Args:
            name: The subscription.
            identity: The identity that subscribed.
            item: The event.
            error: Why it was given up.
            offsets: Commits the position beyond the event, if the subscription has one.
        """
        event = item.event
        make = partial(
            DeadLetter,
            subscription=name,
            error=ErrorInfo.of(error),
            attempts=item.failures,
            at=self._host.clock.wall(),
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
