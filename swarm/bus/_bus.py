"""The bus: from a commit to everybody its events are due to.

The kernel calls `_on_commit` once a commit is complete. Nothing of the users runs
there but their `where`: an event is put where each subscription will find it. Plain
functions are called in the loop's next turn, one event after the other; everything
else has a buffer and a task of its own. So what a publisher waits for does not depend
on who listens (E2), but for streams that ask for it (`overflow="block"`).
"""

import asyncio
import contextvars
import inspect
import logging
from collections import deque
from collections.abc import Callable, Iterator
from itertools import count
from typing import Any, Final

from swarm.bus._dead import DeadLetters
from swarm.bus._dedupe import DedupeWindow
from swarm.bus._history import History
from swarm.bus._host import BusHost
from swarm.bus._records import BusOptions, Receipt
from swarm.bus._subscription import (
    InlineSubscription,
    Route,
    Subscription,
    one_loop_turn,
)
from swarm.errors import Closed, Lagged, LimitExceeded
from swarm.model import (
    EVENT_TYPE,
    OWNER,
    STATE_EVENTS,
    AgentIdentity,
    Cause,
    Commit,
    Event,
    Path,
    StateEvent,
    SystemAlert,
    event_type,
)
from swarm.ports import Activity, Reader, current_activity, current_cause

_NOBODY: Final = Route([], [])

log: Final = logging.getLogger("swarm.bus")

_BACKLOG: Final = 256  # due to plain functions, before a publisher lets them run
_BUDGET: Final = 128  # events handed to plain functions in one turn of the loop
_ALERTS: Final = 256  # waiting to be published
_POSITIONS: Final = Path.of("subscriptions")


class Bus:
    """All subscriptions of one swarm.

    Attributes:
        host: The system around it.
        options: How much it keeps.
        dead: The dead letters.
        running: The route whose plain functions are being called.
        named: The subscriptions that have a name, and the groups, by name.
        loops: Events not delivered because too many led one to the next.
    """

    def __init__(self, host: BusHost, options: BusOptions) -> None:
        """Listen to nothing yet."""
        self.host = host
        self.options = options
        self.dead: DeadLetters = DeadLetters(options.dead_letters)
        self.running: Route | None = None
        self.named: dict[str, Subscription] = {}
        self.groups: dict[str, Subscription] = {}
        self.loops: int = 0
        self.published_alerts: int = 0
        self.silent_alerts: int = 0
        self._ids = count(1)
        self._subscriptions: dict[Subscription, None] = {}
        self._routes: dict[type[Any], Route] = {}
        self._pending: deque[tuple[Event[Any], Route]] = deque()
        self._afterwards: list[Callable[[], None]] = []
        self._is_scheduled = False
        self._wants_documents = False
        self._due = 0
        self._context = contextvars.copy_context()
        self._dedupe = DedupeWindow(options.dedupe_keys, options.dedupe_seconds)
        self._keys: dict[str, asyncio.Future[None]] = {}
        self._history = History()
        self._reader: Reader | None = None
        self._alerts: deque[tuple[SystemAlert, Event[Any] | None]] = deque()

    # --- subscriptions ----------------------------------------------------------

    def new_id(self) -> str:
        """Return an id that no subscription has had."""
        return f"sub-{next(self._ids)}"

    def __iter__(self) -> Iterator[Subscription]:
        """Yield every subscription, oldest first."""
        return iter(tuple(self._subscriptions))

    def add(self, subscription: Subscription) -> None:
        """Give a subscription every event from the next commit on (E3)."""
        self._subscriptions[subscription] = None
        self._changed()

    def remove(self, subscription: Subscription) -> None:
        """Give a subscription no more events."""
        self._subscriptions.pop(subscription, None)
        for registry in (self.named, self.groups):
            for name in [n for n, s in registry.items() if s is subscription]:
                del registry[name]
        self._changed()

    def _changed(self) -> None:
        for route in self._routes.values():
            route.retire()
        self._routes.clear()
        subscriptions = self._subscriptions
        self._wants_documents = any(s.wants_documents() for s in subscriptions)
        self.host.tail.tap(
            self._on_commit if subscriptions else None, documents=self._wants_documents
        )

    def _route(self, cls: type[Any]) -> Route:
        """Return who gets events of this class."""
        if EVENT_TYPE not in cls.__dict__:
            return _NOBODY
        fitting = [s for s in self._subscriptions if s.selector.fits_class(cls)]
        inline: list[InlineSubscription] = []
        queued: list[Subscription] = []
        open_to_all = cls not in STATE_EVENTS
        for subscription in fitting:
            plain = subscription.is_plain or (
                open_to_all and subscription.selector.is_static
            )
            if plain and isinstance(subscription, InlineSubscription):
                inline.append(subscription)
            else:
                queued.append(subscription)
        route = self._routes[cls] = Route(inline, queued)
        return route

    # --- from a commit to the subscriptions -------------------------------------

    def _on_commit(self, commit: Commit) -> None:
        routes = self._routes
        cause = commit.cause
        if cause is not None and cause.depth > self.options.depth:
            self._stop_loop(commit)
            return
        for index, payload in enumerate(commit.events):
            route = routes.get(type(payload)) or self._route(type(payload))
            if route.size:
                self._give(Event(commit, index), route)
            else:
                self._due = 0
        if self._wants_documents:
            for index, document in enumerate(commit.documents, len(commit.events)):
                if document.path.within(_POSITIONS):
                    continue
                event: Event[Any] = StateEvent(commit, index)
                cls = event.payload_class
                route = routes.get(cls) or self._route(cls)
                if route.size:
                    self._give(event, route)

    def _give(self, event: Event[Any], route: Route) -> None:
        due = 0
        if route.inline:
            due = len(route.inline)
            self.enqueue(event, route)
        for subscription in route.queued:
            due += subscription.offer(event)
        self._due = due

    def enqueue(self, event: Event[Any], route: Route, *, first: bool = False) -> None:
        """Have the plain functions of a route called with an event, soon."""
        pending = self._pending
        route.count += 1
        if first:
            pending.appendleft((event, route))
        else:
            pending.append((event, route))
            if len(pending) > self.options.inline_backlog:
                self._drop_oldest()
        if not self._is_scheduled:
            self._is_scheduled = True
            self.host.loop.call_soon(self._drain, context=self._context)

    def _drop_oldest(self) -> None:
        _, route = self._pending.popleft()
        route.done += 1
        for subscription in route.inline:
            subscription.dropped += 1
        if route.is_retired and route.done == route.count:
            route.fold()

    def _stop_loop(self, commit: Commit) -> None:
        """Deliver nothing that too many events have led to, one after the other."""
        self._due = 0
        self.loops += 1
        log.error(
            "events of commit %s are not delivered: more than %s events led to them, "
            "one to the next (BusOptions.depth)",
            commit.revision,
            self.options.depth,
        )

    # --- plain functions --------------------------------------------------------

    def _drain(self) -> None:
        """Call plain functions with what is due to them, for one turn of the loop."""
        budget = _BUDGET
        pending = self._pending
        try:
            while pending and budget:
                budget -= 1
                event, route = pending.popleft()
                self.running = route
                current_activity.set(event)
                self._call_all(event, route)
        finally:
            self.running = None
            current_activity.set(None)
            self._is_scheduled = bool(pending)
            if pending:
                self.host.loop.call_soon(self._drain, context=self._context)

    def _call_all(self, event: Event[Any], route: Route) -> None:
        failures: list[tuple[InlineSubscription, BaseException]] = []
        subscriptions = iter(route.inline)
        subscription = route.inline[0]
        try:
            while True:
                try:
                    for subscription in subscriptions:
                        result = subscription.call(event)
                        if result is not None and inspect.isawaitable(result):
                            self._await(subscription, event, result)
                    break
                except (Exception, asyncio.CancelledError) as error:  # noqa: BLE001
                    failures.append((subscription, error))
        finally:
            self.running = None
            route.done += 1
            if route.is_retired and route.done == route.count:
                route.fold()
        if failures or self._afterwards:
            afterwards, self._afterwards = self._afterwards, []
            for act in afterwards:
                act()
            for failing, failure in failures:
                failing.failed(event, failure)

    def afterwards(self, act: Callable[[], None]) -> None:
        """Change a subscription's books once the event being handed over is."""
        self._afterwards.append(act)

    def _await(
        self, subscription: InlineSubscription, event: Event[Any], result: Any
    ) -> None:
        """Await what a function returned that turned out not to be a plain one."""

        async def wait() -> None:
            current_activity.set(event)
            try:
                await result
            except Exception as error:  # noqa: BLE001  # it goes to the subscription
                subscription.failed(event, error)

        self.host.start(wait(), f"subscription {subscription.name}")

    # --- failures ---------------------------------------------------------------

    def bury(
        self,
        subscription: Subscription,
        event: Event[Any],
        error: BaseException,
        attempts: int,
    ) -> None:
        """Make a dead letter of an event that a subscription gave up."""
        at = self.host.clock.wall()
        self.dead.add(subscription, event, error, attempts, at)
        self.complain(subscription, event, error, "dead-letter")

    def complain(
        self,
        subscription: Subscription,
        event: Event[Any] | None,
        error: BaseException,
        kind: str,
    ) -> None:
        """Publish an alert about a failure, but for a failure with an alert."""
        about = "" if event is None else f" with event {event.id}"
        log.warning("%s: '%s'%s", kind, subscription.name, about, exc_info=error)
        if event is not None and event.payload_class is SystemAlert:
            self.silent_alerts += 1
            return
        if len(self._alerts) >= _ALERTS:
            self.silent_alerts += 1
            return
        alert = SystemAlert(
            "warning" if kind == "where-failed" else "error",
            kind,
            f"{type(error).__name__}: {error}",
            subscription.name,
            "" if event is None else event.id,
        )
        if not self._alerts:
            self.host.start(self._publish_alerts(), "alerts")
        self._alerts.append((alert, event))

    async def _publish_alerts(self) -> None:
        while self._alerts:
            alert, event = self._alerts[0]
            current_activity.set(self._alarm(event))
            try:
                await self.host.kernel.commit(OWNER, events=(alert,))
                self.published_alerts += 1
            except Closed:
                self.silent_alerts += 1
            self._alerts.popleft()

    def _alarm(self, event: Event[Any] | None) -> Activity | None:
        """Return what an alert about an event is done as.

        It is delivered even if it comes of an event loop; what comes of it is not.
        """
        if event is None:
            return None
        depth = min(event.depth + 1, self.options.depth)
        return Activity(Cause(event.correlation_id, event.id, event.trace, depth))

    # --- publishing -------------------------------------------------------------

    async def publish(
        self, identity: AgentIdentity, payload: object, key: str | None
    ) -> Receipt:
        """Commit one event; see `Events.publish`."""
        cls = type(payload)
        route = self._routes.get(cls)
        if route is None:
            event_type(cls)
            route = self._route(cls)
        if current_activity.get() is not None:
            self._check_depth()
        if route.blocking:
            await self._wait_for_room(cls)
        elif len(self._pending) > _BACKLOG:
            await one_loop_turn()
        if key is not None:
            return await self._publish_once(identity, payload, key)
        self._due = 0
        kernel = self.host.kernel
        local = kernel.local
        if local is not None:
            commit = local.commit_now(identity, events=(payload,))
        else:
            commit = await kernel.commit(identity, events=(payload,))
        assert commit is not None  # it has an event
        return Receipt(commit.revision, self._due)

    def _check_depth(self) -> None:
        cause = current_cause()
        if cause is not None and cause.depth > self.options.depth:
            raise LimitExceeded(
                f"more than {self.options.depth} events led to this one, one to the "
                "next (BusOptions.depth): handlers seem to publish in a circle"
            )

    async def _wait_for_room(self, cls: type[Any]) -> None:
        """Wait until every stream that publishers wait for has room."""
        while True:
            route = self._routes.get(cls) or self._route(cls)
            full = next((stream for stream in route.blocking if stream.is_full()), None)
            if full is None:
                return
            await full.wait_for_room()

    async def _publish_once(
        self, identity: AgentIdentity, payload: object, key: str
    ) -> Receipt:
        """Publish unless an event of this key was published of late (E8)."""
        while (pending := self._keys.get(key)) is not None:
            await asyncio.wait([pending])
        known = self._dedupe.find(key, self.host.clock.wall())
        if known is not None:
            return Receipt(known, 0, duplicate=True)
        done = self._keys[key] = self.host.loop.create_future()
        try:
            self._due = 0
            kernel = self.host.kernel
            commit = await kernel.commit(identity, events=(payload,), key=key)
            assert commit is not None  # it has an event
            self._dedupe.add(key, commit.revision, commit.at)
            return Receipt(commit.revision, self._due)
        finally:
            del self._keys[key]
            done.set_result(None)

    # --- history ----------------------------------------------------------------

    def history(self) -> History:
        """Return the events of the log as it is now."""
        tail, history = self.host.tail, self._history
        try:
            self._catch_up(history)
        except Lagged:
            self._reader = None
            history = self._history = History()
            self._catch_up(history)
        history.forget(tail.compacted)
        return history

    def _catch_up(self, history: History) -> None:
        if self._reader is None:
            self._reader = self.host.tail.follow_now(self.host.tail.compacted)
        while (commit := self._reader.next_nowait()) is not None:
            history.append(commit)

    # --- life -------------------------------------------------------------------

    def describe(self) -> list[str]:
        """Return, for `explain`, how every subscription fares."""
        lines = [subscription.describe() for subscription in self._subscriptions]
        if self.dead:
            lines.append(f"dead letters: {len(self.dead)}")
            lines.extend(
                f"  {letter.id}: event {letter.event.id} ({letter.event.type}) of "
                f"'{letter.subscription}' after {letter.attempts} attempts: "
                f"{letter.error!r}"
                for letter in self.dead.list()[-10:]
            )
        if self.silent_alerts:
            lines.append(f"failures that raised no alert: {self.silent_alerts}")
        if self.loops:
            lines.append(f"event loops stopped: {self.loops}")
        return lines

    async def settle(self) -> bool:
        """Wait until everything that is due now is handled; return whether any was."""
        waited = False
        while True:
            busy = next((s for s in self._subscriptions if s.is_busy()), None)
            if not self._pending and not self._alerts and busy is None:
                return waited
            waited = True
            await (one_loop_turn() if busy is None else busy.change())

    def close(self) -> None:
        """End every subscription; what is due is dropped, and counted."""
        for subscription in tuple(self._subscriptions):
            subscription.close()
        self.host.tail.tap(None, documents=False)
