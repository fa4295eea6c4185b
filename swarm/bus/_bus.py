"""The bus: from a commit to everybody its events are due to.

The kernel calls `_on_commit` once a commit is complete. Nothing of the users runs
there but their `where`: an event is put where each recipient will find it. Plain
functions are called in the loop's next turn, one event after the other; everything
else has a buffer and a task of its own. So what a publisher waits for does not depend
on who listens (E2), but for streams that ask for it (`overflow="block"`) and those who
only need turns of the loop to keep up (`_inline.py`, `_pace.py`).
"""

from collections.abc import Iterator
from contextlib import suppress
from itertools import count
from typing import Any, Final

from swarm.bus._core import ANONYMOUS, Pacing
from swarm.bus._failures import Failures
from swarm.bus._feed import BUDGET
from swarm.bus._history import History, is_book
from swarm.bus._host import BusHost
from swarm.bus._inline import InlineQueue
from swarm.bus._intake import Intake
from swarm.bus._loops import Loops
from swarm.bus._ownership import check_right
from swarm.bus._pins import Pins
from swarm.bus._plain import InlineSubscription
from swarm.bus._position import owner_told, position_path
from swarm.bus._records import BusOptions
from swarm.bus._route import Route
from swarm.bus._subscription import Handling, Recipient
from swarm.errors import AccessDenied, ConflictError, InvalidTransition, Lagged
from swarm.model import (
    EVENT_TYPE,
    OWNER,
    AgentIdentity,
    Commit,
    Event,
    SystemMaintenance,
    document_events,
    event_type,
    is_reserved,
)
from swarm.ports import Expect, Reader, Write, one_loop_turn

_NOBODY: Final = Route()


class Bus:
    """All recipients of one swarm's events.

    Attributes:
        host: The system around it.
        options: How much it keeps.
        failures: Where failures are taken.
        inline: What is due to plain functions.
        pins: What the log keeps for named subscriptions.
        named: The active subscriptions that have a name.
        groups: The subscriptions that several handlers share, by name.
        crowded: The full ones that publishers wait for.
        routes: Who gets events of which class, as far as it was asked.
        due: To how many recipients the newest event is due.
        loops: What is done when too many events lead one to the next.
    """

    def __init__(self, host: BusHost, options: BusOptions) -> None:
        """Listen to nothing yet."""
        self.host: BusHost = host
        self.options: BusOptions = options
        self.failures: Failures = Failures(host, options, host.codec)
        self.crowded: set[Pacing] = set()
        self.inline: InlineQueue = InlineQueue(
            host, options.inline_backlog, self.crowded
        )
        self.pins: Pins = Pins(self)
        self.named: dict[str, Intake] = {}
        self.groups: dict[str | None, Any] = {}
        self.routes: dict[type[Any], Route] = {}
        self.due: int = 0
        self.loops: Loops = Loops(options.depth, self.failures)
        self._ids = count(1)
        self._recipients: dict[Recipient, bool] = {}
        self._wants_documents = 0
        self._history = History()
        self._reader: Reader | None = None

    # --- recipients -------------------------------------------------------------

    def new_id(self) -> str:
        """Return an id that no subscription has had, here or in any other process."""
        return f"{ANONYMOUS}{self.host.origin}{next(self._ids)}"

    def __iter__(self) -> Iterator[Recipient]:
        """Yield every recipient, oldest first."""
        return iter(tuple(self._recipients))

    def find(self, name: str) -> Handling | None:
        """Return the active subscription with a handler that has this name."""
        named = self.named.get(name)
        if named is not None:
            return named
        return next((r for r in self._handling() if r.name == name), None)

    def add(self, recipient: Recipient) -> None:
        """Give a recipient every event from the next commit on (E3)."""
        wants = self._recipients[recipient] = recipient.wants_documents()
        self._wants_documents += wants
        for cls, route in self.routes.items():
            self._lead(cls, route, recipient)
        self._tap()

    def remove(self, recipient: Recipient) -> None:
        """Give a recipient no more events."""
        if recipient in self._recipients:
            self._wants_documents -= self._recipients.pop(recipient)
            self._lead_away(recipient)
        if isinstance(recipient, Intake):
            if self.named.get(recipient.name) is recipient:
                del self.named[recipient.name]
            if self.groups.get(recipient.group) is recipient:
                del self.groups[recipient.group]
            self.pins.leave(recipient)
        self._tap()

    def unpin(self, subscription: Intake) -> None:
        """Keep nothing in the log for a subscription that has lost its name."""
        self.pins.release_of(subscription)

    def _tap(self) -> None:
        """Hear of commits if anybody listens."""
        self.due = 0
        callback = self._on_commit if self._recipients else None
        self.host.tail.tap(callback, documents=self._wants_documents > 0)

    def route(self, cls: type[Any]) -> Route:
        """Return who gets events of this class."""
        route = self.routes.get(cls)
        if route is not None:
            return route
        if EVENT_TYPE not in cls.__dict__:
            return _NOBODY
        route = self.routes[cls] = Route(cls)
        for recipient in self._recipients:
            self._lead(cls, route, recipient)
        if is_reserved(cls):  # whoever publishes asks for this first
            route.measure = _refuse
        return route

    def _lead(self, cls: type[Any], route: Route, recipient: Recipient) -> None:
        """Have a route lead to a recipient, if events of its class can be meant."""
        if not recipient.selector.fits_class(cls):
            return
        if (
            isinstance(recipient, InlineSubscription)
            and recipient.worker is None
            and recipient.is_open_to(cls)
        ):
            route.add_inline(recipient)
        else:
            route.add_queued(recipient)

    def _lead_away(self, recipient: Recipient) -> None:
        """Have no route lead to a recipient any more."""
        for cls, route in tuple(self.routes.items()):
            fits = recipient.selector.fits_class(cls)
            if not self._recipients or (fits and not route.take_out(recipient)):
                del self.routes[cls]
                route.retire()

    # --- from a commit to the recipients ----------------------------------------

    def _on_commit(self, commit: Commit) -> None:
        routes = self.routes
        cause = commit.cause
        if cause is not None and cause.depth > self.options.depth:
            self.due = 0
            self.loops.deliver(commit, self._recipients)
            return
        for index, payload in enumerate(commit.events):
            cls = payload.__class__
            route = routes.get(cls) or self.route(cls)
            due = len(route.inline)
            if route.size:
                event: Event[Any] = Event(commit, index)
                if due:
                    self.inline.put(event, route)
                for offer in route.offers:
                    due += offer(event)
            self.due = due
        if self._wants_documents:
            for event in document_events(commit):
                if is_book(event.document):
                    continue
                route = self.route(event.payload_class)
                if route.inline:
                    self.inline.put(event, route)
                for offer in route.offers:
                    offer(event)

    # --- history ----------------------------------------------------------------

    def history(self) -> History:
        """Return the events that are kept, as they are now."""
        tail, history, options = self.host.tail, self._history, self.options
        try:
            self._catch_up(history)
        except Lagged:
            self._reader = None
            history = self._history = History(history.compacted)
            self._catch_up(history)
            history.moved = tail.revision  # what it held is gone
        history.forget(tail.compacted)
        age = int(options.history_seconds * 1_000_000)
        history.retain(options.history_events, self.host.clock.wall() - age)
        return history

    def _catch_up(self, history: History, most: int | None = None) -> bool:
        """Read what is new, at most so many commits; return whether that was all."""
        if self._reader is None:
            self._reader = self.host.tail.follow_now(self.host.tail.compacted)
        for _ in count() if most is None else range(most):
            commit = self._reader.next_nowait()
            if commit is None:
                return True
            history.append(commit)
        return False

    async def catch_up(self) -> None:
        """Have history read what is new, and others run meanwhile.

        Who waits for it may ask then how far back it reaches, and holds up nobody.

        Raises:
            Closed: The swarm is closed.
        """
        self.host.check()
        with suppress(Lagged):  # `history` begins again
            while not self._catch_up(self._history, BUDGET):
                await one_loop_turn()
                self.host.check()

    @property
    def compacted(self) -> int:
        """The newest revision that history has let go of."""
        return self.history().compacted

    # --- life -------------------------------------------------------------------

    async def forget(self, name: str, identity: AgentIdentity) -> bool:
        """Do what `Events.forget` does."""
        path, kernel = position_path(name), self.host.kernel
        while True:
            document = await kernel.find(path)
            if document is not None:
                owner = owner_told(document)
                check_right(self.host, identity, path, "delete", owner)
            if name in self.named:
                raise InvalidTransition(
                    f"subscription '{name}' is active; cancel it first"
                )
            await self.failures.flush()
            if document is None:
                return False
            conditions = [Expect(path, document.version)]
            try:
                await kernel.commit(identity, [Write(path)], conditions=conditions)
            except ConflictError:
                continue  # its position was written meanwhile
            self.pins.release(name)
            return True

    def describe(self) -> list[str]:
        """Return, for `explain`, how every recipient fares."""
        lines = [recipient.describe() for recipient in self._recipients]
        lines.extend(self.pins.describe())
        failures = self.failures
        if failures.buried:
            lines.append(f"dead letters so far: {failures.buried}; the newest")
            lines.extend(
                f"  {letter.id} ({letter.written.type}) after {letter.attempts} "
                f"attempts: {letter.error}"
                for letter in failures.recent
            )
        if failures.forgotten:
            lines.append(f"dead letters that had to go: {failures.forgotten}")
        if failures.silent:
            lines.append(f"failures that raised no alert: {failures.silent}")
        if self.loops.cut:
            lines.append(f"event loops: {self.loops.cut} deliveries were not made")
        return lines

    async def announce_end(self) -> None:
        """Tell those who listen that the swarm is about to end; no others can know."""
        if self._recipients:
            closing = SystemMaintenance("closing", "what is due is still handled")
            await self.host.kernel.commit(OWNER, events=(closing,))

    def hurry(self) -> None:
        """Have no batch wait to be full any more, nor for its time."""
        for recipient in self._handling():
            recipient.hurry()

    def _handling(self) -> Iterator[Handling]:
        return (r for r in tuple(self._recipients) if isinstance(r, Handling))

    async def settle(self, until: float) -> bool:
        """Wait until everything that is due is handled; return whether any was.

        Batches are due as they are, and retries when it is their time, if that is
        before `until`, in monotonic seconds. What is paused is not waited for.
        """
        waited = False
        while True:
            self.hurry()
            busy = next((r for r in self._handling() if r.is_busy(until)), None)
            if self.inline.is_idle() and self.failures.is_idle() and busy is None:
                return waited
            waited = True
            await (one_loop_turn() if busy is None else busy.change())

    def close(self) -> None:
        """End every subscription; what is due is dropped, and counted."""
        for recipient in tuple(self._recipients):
            recipient.cancel()
        self.host.tail.tap(None, documents=False)


def _refuse(payload: Any) -> int:
    raise AccessDenied(
        f"{event_type(payload)} is what the swarm itself says of what it has done: it "
        "is in the commit that did it, and nobody publishes it"
    )
