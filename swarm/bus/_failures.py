"""Report what fails: alerts, and dead letters, which users list, requeue and discard.

Failures are met where nothing can wait (in a commit, in a callback). So they are
queued, and a task commits them in order. A dead letter, its alert and, for a named
subscription, the position beyond the event are one commit.
"""

import asyncio
import logging
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from functools import partial
from typing import Any, Final, Literal, TypeAlias

import attrs

from swarm.bus._contracts import BusHost, check_right, owner_of
from swarm.bus._dead_letters import (
    LETTERS,
    DeadLetter,
    ErrorInfo,
    WrittenEvent,
    letters_path,
    path_of,
    text_of,
)
from swarm.bus._delivery_rules import QueuedEvent
from swarm.bus._offset_committer import OffsetCommitter
from swarm.bus._records import BusOptions
from swarm.errors import (
    AccessDenied,
    Closed,
    ConflictError,
    NotFound,
    StorageFailed,
    SwarmError,
)
from swarm.model import (
    OWNER,
    AgentIdentity,
    Cause,
    Document,
    Event,
    Path,
    SystemAlert,
    to_datetime,
)
from swarm.ports import (
    Activity,
    Expect,
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


# --- dead letters ---------------------------------------------------------------------


class DeadLetters:
    """The dead letters of a swarm, as one identity may see them.

    They are documents at `dead_letters.<subscription>.<event id>`: they outlive their
    subscription, and their number is bounded (`BusOptions.dead_letters`). An agent
    sees those that it may read and those of its own type; it requeues and discards its
    own, and others where it may write.
    """

    __slots__ = ("_failures", "_find", "_host", "_identity", "_kernel", "_may_read")

    def __init__(
        self,
        host: BusHost,
        failures: FailureSink,
        find: Callable[[str], Any],
        identity: AgentIdentity,
    ) -> None:
        self._host = host
        self._kernel = host.kernel
        self._failures = failures
        self._find = find
        self._identity = identity
        self._may_read = host.reader_of(identity)

    def __repr__(self) -> str:
        return f"<DeadLetters: {self._failures.written} so far>"

    @property
    def forgotten(self) -> int:
        """The number of dead letters that this process has pruned for their limit."""
        return self._failures.forgotten

    async def list(self, subscription: str | None = None) -> list[DeadLetter]:
        """Return all of them, or those of one subscription, oldest first.

        Raises:
            Closed: The swarm is closed.
        """
        folder = LETTERS if subscription is None else letters_path(subscription)
        await self._failures.flush()
        found = await self._kernel.read(oldest_first, folder)
        return [letter for d in found if self._may_see(letter := DeadLetter.of(d))]

    async def count(self, subscription: str | None = None) -> int:
        """Return how many there are, or are of one subscription."""
        return len(await self.list(subscription))

    async def get(self, letter_id: str) -> DeadLetter:
        """Return the dead letter of an id.

        Raises:
            NotFound: It does not exist, or not any more.
            AccessDenied: The policy does not let this identity read it.
        """
        return (await self._load(letter_id))[0]

    async def __aiter__(self) -> AsyncIterator[DeadLetter]:
        """Yield them, oldest first."""
        for letter in await self.list():
            yield letter

    async def requeue(self, letter_id: str) -> None:
        """Have the subscription try the event again, with all attempts before it.

        The letter of a named subscription stays, marked, until the event is handled or
        given up again. While the subscription is not active, the letter waits for the
        next one of its name. Other letters end when the event is taken in.

        Raises:
            NotFound: The letter does not exist any more, or its event cannot be read
                here (see `DeadLetter.event`).
            Closed: The subscription had no name and is cancelled; the letter stays.
            AccessDenied: The policy does not let this identity read or write it.
        """
        while True:
            letter, version = await self._load(letter_id)
            self._check(letter, "write")
            letter.event  # noqa: B018  # an unreadable event is refused here
            subscription = self._find(letter.subscription)
            if subscription is None and not letter.is_durable:
                raise Closed(
                    f"subscription '{letter.subscription}' was cancelled and had no "
                    "name to come back under; the dead letter stays"
                )
            if letter.is_requeued:
                return
            marked = attrs.evolve(letter, is_requeued=True)
            write = Write(letter.path, record=marked if letter.is_durable else None)
            try:
                await self._kernel.commit(
                    self._identity, [write], conditions=[Expect(letter.path, version)]
                )
            except ConflictError:
                continue  # it was taken in, or given up again, meanwhile
            if subscription is not None:
                await self._hand_over(subscription, letter, marked)
            return

    async def _hand_over(
        self, subscription: Any, letter: DeadLetter, marked: DeadLetter
    ) -> None:
        """Give a letter to its subscription; write it again if that has ended."""
        try:
            subscription.requeue(marked)
        except Closed:
            if letter.is_durable:
                return  # the next subscription of the name takes it up
            write = Write(letter.path, record=letter)
            await self._kernel.commit(self._identity, [write])
            raise

    async def discard(self, letter_id: str) -> bool:
        """Delete a dead letter; return whether it existed.

        Raises:
            AccessDenied: The policy does not let this identity read or delete it.
        """
        while True:
            try:
                letter, version = await self._load(letter_id)
                self._check(letter, "delete")
                await self._kernel.commit(
                    self._identity,
                    [Write(letter.path)],
                    conditions=[Expect(letter.path, version)],
                )
            except NotFound:
                return False
            except ConflictError:
                continue  # it was marked, or given up again, meanwhile
            return True

    async def _load(self, letter_id: str) -> tuple[DeadLetter, int]:
        path = path_of(letter_id)
        if path is not None:
            await self._failures.flush()
            document = await self._kernel.find(path)
            letter = None if document is None else DeadLetter.of(document)
            if not (self._may_read is None or self._may_read(path)) and (
                letter is None or not self._is_own(letter)
            ):  # the error does not tell whether the letter exists
                raise AccessDenied(f"{self._identity} may not read {path}")
            if letter is not None and document is not None:
                return letter, document.version
        raise NotFound(f"there is no dead letter {letter_id!r}")

    def _may_see(self, letter: DeadLetter) -> bool:
        may_read = self._may_read
        return may_read is None or may_read(letter.path) or self._is_own(letter)

    def _is_own(self, letter: DeadLetter) -> bool:
        return letter.owner == owner_of(self._identity)

    def _check(self, letter: DeadLetter, action: Literal["write", "delete"]) -> None:
        check_right(self._host, self._identity, letter.path, action, letter.owner)


def oldest_first(view: View, folder: Path) -> list[Document]:
    """Return the documents below a folder in the order of their versions."""
    return sorted(view.documents(folder), key=lambda document: document.version)
