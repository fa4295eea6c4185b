"""`swarm.events`: the bus as one identity uses it."""

from collections.abc import Callable, Iterable
from datetime import datetime
from typing import Any, Final, TypeVar, overload

from swarm.bus._bus import Bus, Recipient
from swarm.bus._contracts import Subscription, SubscriptionScope
from swarm.bus._dead_letters import DeadLetters
from swarm.bus._history import Page, query
from swarm.bus._patterns import EventPattern, OtherPattern, Where, may_see, select
from swarm.bus._publisher import Publisher, Publishing
from swarm.bus._records import (
    Batch,
    Delivery,
    Handler,
    HandlerOptions,
    OnError,
    Overflow,
    complete_options,
    requires,
)
from swarm.bus._start import HandlerStart, forget
from swarm.bus._streams import EventStream
from swarm.errors import Closed, WaitTimeout
from swarm.model import (
    OWNER,
    AgentIdentity,
    AgentStarted,
    AgentStopped,
    Backoff,
    Displayable,
    Event,
    Path,
    TaskCompleted,
    check_timeout,
)

P = TypeVar("P")


class Events(Publishing, Displayable):
    """Publish and get events, as one identity.

    The policy decides what an agent sees: of `state.*` events, those of paths that it
    may read. The subscriptions that an agent makes by `self.swarm.events` end with it,
    and also when it is built anew: `started` subscribes again, and a name goes on at
    its position.
    """

    __slots__ = ("_scope",)

    def __init__(
        self,
        publisher: Publisher,
        bus: Bus,
        identity: AgentIdentity,
        scope: SubscriptionScope | None = None,
    ) -> None:
        super().__init__(publisher, bus, identity)
        self._scope = scope

    def __repr__(self) -> str:
        return f"<Events of {self._identity}>"

    # --- getting ------------------------------------------------------------------

    @overload
    def subscribe(
        self,
        pattern: type[P],
        *,
        source: object = None,
        source_type: str | Iterable[str] | None = None,
        correlation_id: str | None = None,
        where: Callable[[Event[P]], bool] | None = None,
        buffer: int = 256,
        overflow: Overflow = "block",
        since: int | None = None,
    ) -> EventStream[P]: ...
    @overload
    def subscribe(
        self,
        pattern: OtherPattern | None = None,
        *,
        source: object = None,
        source_type: str | Iterable[str] | None = None,
        correlation_id: str | None = None,
        where: Where | None = None,
        buffer: int = 256,
        overflow: Overflow = "block",
        since: int | None = None,
    ) -> EventStream[Any]: ...
    def subscribe(
        self,
        pattern: Any = None,
        *,
        source: object = None,
        source_type: str | Iterable[str] | None = None,
        correlation_id: str | None = None,
        where: Any = None,
        buffer: int = 256,
        overflow: Overflow = "block",
        since: int | None = None,
    ) -> EventStream[Any]:
        """Return events as an async iterator, to be entered with `async with`.

        Args:
            pattern: An event class (its subclasses match too), a dotted pattern such as
                "task.*" or "task.**", a compiled regex (searched in the type), or
                several of these; None: every event.
            source: Only events of these agents: names, identities or refs.
            source_type: Only events of agents of these types.
            correlation_id: Only events with this correlation id.
            where: Only events for which it returns true. It is called soon after the
                commit and must be quick; an exception counts as false.
            buffer: The number of events that wait.
            overflow: What happens then: "block", "drop-oldest", "drop-newest",
                "latest" or "error"; see `EventStream`.
            since: Begin with the events after this revision (0: all of history).

        Raises:
            TypeError: The pattern or source has a wrong type.
            ValueError: The pattern, `buffer` or `overflow` has no meaning.
        """
        selector = select(
            pattern,
            source=source,
            source_type=source_type,
            correlation_id=correlation_id,
            where=where,
        )
        kind = self._bus.host.runtime.substitute(EventStream)
        return kind(
            self._bus,
            selector,
            self._identity,
            buffer=buffer,
            overflow=overflow,
            since=since,
            scope=self._scope,
        )

    @overload
    async def wait_for(
        self,
        pattern: type[P],
        *,
        source: object = None,
        source_type: str | Iterable[str] | None = None,
        correlation_id: str | None = None,
        where: Callable[[Event[P]], bool] | None = None,
        since: int | None = None,
        timeout: float | None = None,
    ) -> Event[P]: ...
    @overload
    async def wait_for(
        self,
        pattern: OtherPattern | None = None,
        *,
        source: object = None,
        source_type: str | Iterable[str] | None = None,
        correlation_id: str | None = None,
        where: Where | None = None,
        since: int | None = None,
        timeout: float | None = None,
    ) -> Event[Any]: ...
    async def wait_for(
        self,
        pattern: Any = None,
        *,
        source: object = None,
        source_type: str | Iterable[str] | None = None,
        correlation_id: str | None = None,
        where: Any = None,
        since: int | None = None,
        timeout: float | None = None,  # ends the wait, not the task
    ) -> Event[Any]:
        """Wait for the first event that matches, from now on, and return it.

        An event of before the call is not seen, unless `since` says so: to miss none
        of what an action leads to, note `await swarm.state.revision()` before it. For
        a condition on the state rather than an event, `state.wait_until` is simpler.

        Args:
            pattern: As for `subscribe`; so are the next four.
            source: Only events of these agents.
            source_type: Only events of agents of these types.
            correlation_id: Only events with this correlation id.
            where: Only events for which it returns true.
            since: Look at the events after this revision first.
            timeout: Seconds to wait; None: for ever.

        Raises:
            WaitTimeout: No event matched in time; also a `TimeoutError`.
            TypeError: The pattern, source or timeout has a wrong type.
            ValueError: The pattern or timeout has no meaning, or `since` is still to
                come.
            Compacted: History no longer reaches back to `since`.
            Closed: The swarm was closed, the agent that waits has ended, or the stream
                of this wait was cancelled.
        """
        check_timeout(timeout)
        stream = self.subscribe(
            pattern,
            source=source,
            source_type=source_type,
            correlation_id=correlation_id,
            where=where,
            buffer=1,
            overflow="drop-newest",
            since=since,
        )
        clock, timer, is_late = self._bus.host.clock, None, False

        def give_up() -> None:
            nonlocal is_late
            is_late = True
            stream.cancel()

        async with stream:
            if timeout is not None:
                timer = clock.call_at(clock.monotonic() + timeout, give_up)
            try:
                return await anext(stream)
            except StopAsyncIteration:
                self._check()
                if not is_late:
                    raise Closed(f"the wait for {stream.pattern} was ended") from None
                raise WaitTimeout(
                    f"no event of {stream.pattern} came within {timeout:g} s"
                ) from None
            finally:
                if timer is not None:
                    timer.cancel()

    async def on(
        self,
        pattern: EventPattern | None,
        handler: Handler,
        *,
        source: object = None,
        source_type: str | Iterable[str] | None = None,
        correlation_id: str | None = None,
        where: Where | None = None,
        delivery: Delivery | None = None,
        ordered: bool | None = None,
        partition: Callable[[Event[Any]], Any] | None = None,
        batch: Batch | None = None,
        on_error: OnError | None = None,
        max_retries: int = 3,
        backoff: Backoff | None = None,
        ack_wait: float | None = None,
        max_in_flight: int = 16,
        buffer: int = 256,
        name: str | None = None,
        group: str | None = None,
        since: int | None = None,
    ) -> Subscription:
        """Call `handler` with every matching event from now on.

        A plain function that gets each event at most once is called in the loop's next
        turn, in the order of the commits; it must not return something to await. Other
        handlers run in tasks of the swarm, each run in a context of its own. The
        events and commits of a handler carry the event's correlation id, and its id as
        causation id.

        - "at-most-once": an event is acknowledged before the handler is called.
        - "at-least-once": it is acknowledged when the handler has returned. An attempt
          that fails, is cancelled or gives no sign for `ack_wait` is repeated. With a
          `name`, acknowledgements are written down some 50 ms later, or after 64.
        - "exactly-once": the handler is called with `(event, tx)`. Its writes through
          the transaction `tx` are committed together with the acknowledgement, or not
          at all. Effects outside of the swarm are at-least-once: make them idempotent
          with `Attempt.key`.

        A handler that requires one more argument gets an `Attempt`.

        Args:
            pattern: As for `subscribe`.
            handler: `(event)`, or `(events)` of a batch; plain or async.
            source: As for `subscribe`.
            source_type: As for `subscribe`.
            correlation_id: As for `subscribe`.
            where: As for `subscribe`.
            delivery: "at-least-once" when there is a `name`, else "at-most-once".
            ordered: Handle one event after the other, the next one when the one before
                is done or given up; else up to `max_in_flight`. True without `group`.
            partition: Keep only events for which it returns the same value in order.
            batch: Call the handler with lists of events. It may return a list with an
                exception for each event that failed; if it raises, all have failed.
            on_error: "retry" (not for at-most-once), then dead letter; "dead-letter"
                at once; or "ignore". "retry" when possible.
            max_retries: The number of retries of an event.
            backoff: The pauses before them.
            ack_wait: Seconds after which an attempt without a sign has failed, and is
                cancelled. A handler that ignores its cancellation keeps its place, and
                the next attempt waits, until it ends.
            max_in_flight: The number of handlers that run at a time when not ordered.
            buffer: The number of events that wait, at least a whole batch. Further
                events are dropped (at-most-once), with an alert each time that the loss
                has doubled; or wait in the log, and what leaves it unread is alerted.
            name: Keep the position in the tree at `subscriptions.<name>`, and go on
                from there if it exists.
            group: Share the events with all other handlers of this group: each event
                goes to exactly one of them.
            since: Begin with the events after this revision. A new member of a group
                passes the same value as the others, or None.

        Raises:
            TypeError: The pattern or the handler has a wrong type.
            ValueError: Options have no meaning, or contradict each other.
            NameTaken: A subscription of this name is active.
            AccessDenied: The policy lets this identity keep no position; or the
                position belongs to agents of another type; or the group is told of
                changes of the state that this identity may not see.
            ConfigMismatch: The group exists with other options, or another `since`.
            Compacted: The events after `since`, or after the kept position, are not
                all there any more; pass a later `since` to go on.
            Closed: The swarm is closed; or the agent that subscribes has ended.
        """
        if self._pause is not None:
            await self._pause()
        self._check()
        selector = select(
            pattern,
            source=source,
            source_type=source_type,
            correlation_id=correlation_id,
            where=where,
        )
        options = complete_options(
            delivery=delivery,
            ordered=ordered,
            partition=partition,
            batch=batch,
            on_error=on_error,
            max_retries=max_retries,
            backoff=backoff,
            ack_wait=ack_wait,
            max_in_flight=max_in_flight,
            buffer=buffer,
            is_named=name is not None,
            is_shared=group is not None,
        )
        start = HandlerStart(self._bus, self._identity, selector, options)
        return self._held(
            await start.begin(handler, name=name, group=group, since=since)
        )

    def _check(self) -> None:
        self._bus.host.check()
        if self._scope is not None:
            self._scope.check()

    def _held(self, subscription: Subscription) -> Subscription:
        if self._scope is not None:
            self._scope.hold(subscription)
        return subscription

    async def react(
        self, pattern: EventPattern, reaction: Handler, *, name: str | None = None
    ) -> Subscription:
        """Call `reaction` with every event, in order, until it has succeeded.

        A reaction `(event, tx)` runs exactly once, with a transaction on the state; see
        `on`. After three retries an event becomes a dead letter.

        Args:
            pattern: As for `subscribe`.
            reaction: `(event)` or `(event, tx)`, plain or async.
            name: Keep the position in the tree.
        """
        effects = requires(reaction, 2)
        delivery: Delivery = "exactly-once" if effects else "at-least-once"
        return await self.on(pattern, reaction, delivery=delivery, name=name)

    async def replay(
        self,
        pattern: EventPattern | None = None,
        *,
        since: int,
        handler: Handler,
        follow: bool = True,
    ) -> Subscription:
        """Call `handler` with the past, in order, and go on with the present.

        Returns when the past is handled. Its events say `replayed`; no other
        subscription gets them again, and nothing is committed. Events that are
        published meanwhile follow, without a gap and without a duplicate. A failure of
        the handler is a dead letter.

        Args:
            pattern: As for `subscribe`.
            since: Begin with the events after this revision (0: all of history).
            handler: `(event)`, plain or async.
            follow: Whether to go on; else it ends with the present of its beginning.

        Raises:
            Compacted: The events after `since` are not all there any more.
            ValueError: `since` is still to come.
        """
        if self._pause is not None:
            await self._pause()
        self._check()
        options = HandlerOptions(delivery="at-least-once", on_error="dead-letter")
        start = HandlerStart(self._bus, self._identity, select(pattern), options)
        return await start.replay(handler, since=since, follow=follow, begun=self._held)

    # --- history ------------------------------------------------------------------

    def query(
        self,
        types: EventPattern | None = None,
        sources: object = None,
        *,
        after: datetime | int | None = None,
        before: datetime | int | None = None,
        correlation_id: str | None = None,
        limit: int | None = None,
        offset: int = 0,
        after_seq: int | Event[Any] | None = None,
        upto: int | None = None,
    ) -> Page:
        """Return the matching events of history, oldest first.

        History reaches back `BusOptions.history_events` and `history_seconds`, and no
        further than the log (`Limits.log_commits`, `log_bytes`, `log_seconds`).

        Args:
            types: As `pattern` of `subscribe`.
            sources: Names, identities or refs of agents.
            after: From this time on (microseconds since 1970, or a `datetime`).
            before: Before this time.
            correlation_id: Only events with this correlation id.
            limit: The largest number of events; 0: none.
            offset: The number of events to skip. Pages fit together only with the same
                `upto`, and while history drops nothing; `after_seq` has no such limit.
            after_seq: Only events after this revision, or after this event: a cursor
                that neither skips nor repeats while others publish.
            upto: Only events up to this revision; None: the newest.

        Raises:
            Compacted: Events after `after_seq` are not all there any more; or, with an
                `offset`, history has dropped events since `upto` was the newest.
            ValueError: `offset` or `limit` is negative.
            Closed: The swarm is closed.
        """
        bus = self._bus
        bus.host.check()
        may_read = bus.host.reader_of(self._identity)
        return query(
            bus.history,
            select(types, source=sources, correlation_id=correlation_id),
            lambda event: may_see(event, may_read),
            bus.host.tail.revision,
            after=after,
            before=before,
            limit=limit,
            offset=offset,
            after_seq=after_seq,
            upto=upto,
        )

    @property
    def dead_letters(self) -> DeadLetters:
        """The events that subscriptions gave up: list, inspect, requeue them."""
        bus = self._bus
        return DeadLetters(bus.host, bus.failures, bus.find, self._identity)

    async def forget(self, name: str) -> bool:
        """Forget the position of a named subscription; return whether it was known.

        The log keeps nothing for the name any more. Its dead letters stay.

        Raises:
            InvalidTransition: The subscription is active in this process; cancel it
                first. One that is active in another process goes on, and writes its
                position again.
            AccessDenied: The position belongs to agents of another type, and this
                identity may not delete it.
            InvalidPath: The name cannot be a name in the tree.
            Closed: The swarm is closed.
        """
        self._bus.host.check()
        return await forget(self._bus, name, self._identity)

    def subscriptions(self) -> list[Recipient]:
        """Return every recipient of events, agents included, oldest first.

        To an agent, only its own: the holder of a subscription may cancel it.
        """
        mine = self._identity
        return [r for r in self._bus if mine == OWNER or r.identity is mine]


# --- ready-made reactions, for `react` ---

_COMPLETED: Final = Path.of("global", "completed_tasks")
_ACTIVE: Final = Path.of("global", "active_agents")

KEPT_SECONDS: Final = 3600.0
"""Seconds for which a completed task is remembered."""


async def record_completed_tasks(event: Event[TaskCompleted], tx: Any) -> None:
    """Remember at `global.completed_tasks.<task id>` that it is done, for an hour."""
    path = _COMPLETED.child(event.payload.task_id).text
    await tx.set(path, True, ttl=KEPT_SECONDS)


async def keep_active_agents(event: Event[Any], tx: Any) -> None:
    """Keep at `global.active_agents.<name>` the type of every agent that is alive."""
    payload = event.payload
    if isinstance(payload, AgentStarted):
        await tx.set(_ACTIVE.child(payload.agent_id).text, event.source.type)
    elif isinstance(payload, AgentStopped):
        await tx.delete(_ACTIVE.child(payload.agent_id).text)
