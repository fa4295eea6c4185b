"""`swarm.events`: the bus as one identity holds it."""

from collections.abc import Callable, Iterable
from datetime import datetime
from typing import Any, TypeVar, overload

from swarm.bus._bus import Bus
from swarm.bus._dead import DeadLetters
from swarm.bus._host import made_of
from swarm.bus._patterns import EventPattern, OtherPattern, Where, select
from swarm.bus._publisher import Publisher
from swarm.bus._query import Page, query
from swarm.bus._records import (
    Batch,
    Delivery,
    Handler,
    HandlerOptions,
    OnError,
    Overflow,
    Receipt,
    RetryBackoff,
)
from swarm.bus._start import HandlerStart, to_options
from swarm.bus._stream import EventStream
from swarm.bus._subscription import Recipient, Subscription
from swarm.bus._tenure import Tenure
from swarm.model import OWNER, AgentIdentity, Event
from swarm.ports import Guard, current_runtime

P = TypeVar("P")


class Events:
    """Publish and get events, as one identity.

    An agent sees `state.*` events only of places that it may read. What it subscribes
    (by `self.swarm.events`) ends when it does, and when it is built anew: then it
    subscribes again, in `started`, and a name goes on where it was.
    """

    __slots__ = ("_bus", "_identity", "_pause", "_publisher", "_tenure")

    def __init__(
        self,
        publisher: Publisher,
        bus: Bus,
        identity: AgentIdentity,
        tenure: Tenure | None = None,
    ) -> None:
        """Act as `identity`; what is subscribed ends with `tenure`."""
        self._publisher = publisher
        self._bus = bus
        self._identity = identity
        self._tenure = tenure
        self._pause = current_runtime().pause

    # --- publishing -------------------------------------------------------------

    async def publish(
        self,
        payload: object,
        *,
        key: str | None = None,
        guard: Guard | None = None,
    ) -> Receipt:
        """Commit an event. When this returns, it is in history and due to everybody.

        Handlers never run in here and what they raise never comes out of here. Waits
        while a stream with `overflow="block"` is full, while plain functions are far
        behind, and while a handler whose buffer is full keeps on handling: for one
        that itself waits, a few turns of the loop at most. First come, first served;
        cancelling the wait publishes nothing.

        Args:
            payload: An instance of an `@event` class.
            key: Publish it only if no event of this key was published of late
                (`BusOptions.dedupe_seconds`), by anybody; a name in the tree, kept at
                `receipts.<key>`.
            guard: Publish it only while this lease, or other guard, holds at the
                commit.

        Raises:
            TypeError: It is no event.
            AccessDenied: It is what only the swarm itself announces: an event of the
                state, of agents, of locks or of the configuration.
            StaleLease: The guard is a lease that does not hold any more.
            LimitExceeded: It is larger than `BusOptions.payload_bytes`, or too many
                events led to this one, one to the next.
            DeadlockError: The reader of a full stream waits for this code.
            InvalidPath: The key cannot be a name in the tree.
            Closed: The swarm is closed.
            WrongLoop: Called from another event loop.
        """
        if key is None and guard is None:
            if self._pause is not None:
                await self._pause()
            receipt = self._publisher.publish_now(self._identity, payload)
            if receipt is not None:
                return receipt
        return await self._publisher.publish(self._identity, payload, key, guard)

    # --- getting ----------------------------------------------------------------

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
            pattern: An event class (its subclasses too), a dotted pattern such as
                "task.*" or "task.**", a compiled regex (searched in the type), or
                several of these; None: everything.
            source: Only events of these agents: names, identities or refs.
            source_type: Only events of agents of these types.
            correlation_id: Only events with this correlation id.
            where: Only events it returns true for. It is called right after the
                commit and must be quick; when it raises, the event is not meant.
            buffer: How many events wait at most.
            overflow: What happens then: "block", "drop-oldest", "drop-newest",
                "latest" or "error"; see `EventStream`.
            since: Begin with the events after this revision (0: all that is there).

        Raises:
            TypeError: The pattern or source is none.
            ValueError: A pattern, `buffer` or `overflow` means nothing.
        """
        selector = select(
            pattern,
            source=source,
            source_type=source_type,
            correlation_id=correlation_id,
            where=where,
        )
        kind = made_of(self._bus.host.loop, EventStream)
        return kind(
            self._bus,
            selector,
            self._identity,
            buffer=buffer,
            overflow=overflow,
            since=since,
            tenure=self._tenure,
        )

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
        backoff: RetryBackoff | None = None,
        ack_wait: float | None = None,
        max_in_flight: int = 16,
        buffer: int = 256,
        name: str | None = None,
        group: str | None = None,
        since: int | None = None,
    ) -> Subscription:
        """Have `handler` called with every event that is meant, from now on.

        A plain function that gets each event at most once is called in the loop's
        next turn, in one context with all that are called in that turn; one that
        takes long shares the loop. When it returns something to await, it is handled
        like any other handler from then on: in tasks of the swarm, where no run sees
        the context variables of another. What a handler does carries the event's
        correlation id, and its id as causation id.

        - "at-most-once": an event counts as handled before the handler is called.
        - "at-least-once": it counts once the handler has returned; an attempt that
          fails, is cancelled or gives no sign for `ack_wait` is repeated.
        - "exactly-once": the handler is called with `(event, tx)`. What it writes
          through the transaction `tx` is committed together with the acknowledgement,
          or not at all. Effects outside of the swarm are at-least-once: make them
          idempotent with `Attempt.key`.

        A handler that requires one more argument gets an `Attempt`.

        Args:
            pattern: As for `subscribe`.
            handler: `(event)`, or of a batch `(events)`; plain or async.
            source: As for `subscribe`.
            source_type: As for `subscribe`.
            correlation_id: As for `subscribe`.
            where: As for `subscribe`.
            delivery: "at-least-once" when there is a `name`, else "at-most-once".
            ordered: One event after the other, the next only when the one before is
                done or given up; else up to `max_in_flight`. True without a `group`.
            partition: Keep only events of which it returns the same in order.
            batch: Call the handler with lists of events. It may return a list with
                an exception for each event that failed; when it raises, all have.
                What it does carries the correlation id that all of them have, if any.
            on_error: "retry" (not for at-most-once), then dead letter; "dead-letter"
                at once; or "ignore". "retry" when possible.
            max_retries: How often an event is tried again.
            backoff: The pauses before that.
            ack_wait: Seconds after which an attempt without a sign has failed, and is
                cancelled. One that has not ended after as many again is left alone,
                with an alert, and others go on beside it; `max_in_flight` at most.
            max_in_flight: How many handlers may run at a time when not ordered.
            buffer: How many events wait here, at least a whole batch. More are
                dropped (at-most-once), with an alert each time that the loss has
                doubled, or wait in the log; what leaves the log unread is an alert.
                While others may go on, what waits behind a retry does not count, up
                to 16 times the buffer.
            name: Keep the position in the tree at `subscriptions.<name>`, and go on
                from there when there is one.
            group: Share the events with all other handlers of this group: each gets
                to exactly one of them.
            since: Begin with the events after this revision. Who joins a group gets
                what the others get: then it is what they said, or None.

        Raises:
            TypeError: The pattern or the handler is none.
            ValueError: Options mean nothing, or not together.
            NameTaken: A subscription of this name is active.
            AccessDenied: The policy lets this identity keep no position; or there is
                one that is not of agents of its type, and it may not write that; or
                the group is told of changes of the state that it may not see.
            ConfigMismatch: The group is there with other options, or another `since`.
            Compacted: The events after `since`, or after the kept position, are not
                all there any more; pass a later `since` to go on.
            Closed: The swarm is closed; or the agent has ended that this is of.
        """
        if since is not None:
            await self._bus.catch_up()
        self._check()
        selector = select(
            pattern,
            source=source,
            source_type=source_type,
            correlation_id=correlation_id,
            where=where,
        )
        options = to_options(
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
        if self._tenure is not None:
            self._tenure.check()

    def _held(self, subscription: Subscription) -> Subscription:
        if self._tenure is not None:
            self._tenure.hold(subscription)
        return subscription

    async def react(
        self, pattern: EventPattern, reaction: Handler, *, name: str | None = None
    ) -> Subscription:
        """Have `reaction` called with every event, in order, until it has succeeded.

        One that takes `(event, tx)` runs exactly once, with a transaction on the
        state: see `on`. After three retries an event becomes a dead letter.

        Args:
            pattern: As for `subscribe`.
            reaction: `(event)` or `(event, tx)`, plain or async.
            name: Keep its position in the tree.
        """
        delivery: Delivery = HandlerStart.delivery_for(reaction)
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

        Returns when the past is handled. Its events say `replayed`; nobody else gets
        them again, and nothing is committed. What is published meanwhile follows,
        without a gap and without a duplicate. A handler's failure is a dead letter.

        Args:
            pattern: As for `subscribe`.
            since: Begin with the events after this revision (0: all that is there).
            handler: `(event)`, plain or async.
            follow: Whether to go on; else it ends with what is past when it begins.

        Raises:
            Compacted: The events after `since` are not all there any more.
            ValueError: `since` is still to come.
        """
        await self._bus.catch_up()
        self._check()
        options = HandlerOptions(delivery="at-least-once", on_error="dead-letter")
        start = HandlerStart(self._bus, self._identity, select(pattern), options)
        return await start.replay(handler, since=since, follow=follow, begun=self._held)

    # --- history ----------------------------------------------------------------

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
        """Return the events of history that are meant, oldest first.

        History reaches back `BusOptions.history_events` and `history_seconds`, and no
        further than the log (`Limits.log_commits`, `log_bytes`, `log_seconds`).

        Args:
            types: As `pattern` of `subscribe`.
            sources: Names, identities or refs of agents.
            after: From this time on (microseconds since 1970, or a `datetime`).
            before: Before this time.
            correlation_id: Only events with this correlation id.
            limit: How many at most; 0: none.
            offset: How many to skip. Pages fit together only with the same `upto`,
                and while history lets go of nothing: an `after_seq` has no such limit.
            after_seq: Only events after this revision, or after this event: a cursor
                that neither skips nor repeats while others publish.
            upto: Only events up to this revision; the newest when None.

        Raises:
            Compacted: Events after `after_seq` are not all there any more; or, with an
                `offset`, history has let go of events since `upto` was the newest.
            ValueError: `offset` or `limit` is negative.
            Closed: The swarm is closed.
        """
        return query(
            self._bus,
            self._identity,
            types,
            sources,
            after=after,
            before=before,
            correlation_id=correlation_id,
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
        """Forget how far a named subscription has come; return whether it was known.

        The log keeps nothing for it any more. Its dead letters stay.

        Raises:
            InvalidTransition: It is active; cancel it first.
            AccessDenied: It is not this identity's, which may not delete it.
            InvalidPath: The name cannot be one.
            Closed: The swarm is closed.
        """
        self._bus.host.check()
        return await self._bus.forget(name, self._identity)

    def subscriptions(self) -> list[Recipient]:
        """Return everybody who gets events, agents included, oldest first.

        To an agent, only what it has subscribed itself: who sees one may cancel it.
        """
        mine = self._identity
        return [r for r in self._bus if mine == OWNER or r.identity is mine]
