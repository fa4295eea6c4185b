"""What publishers and subscribers are told: receipts, options, statistics."""

import math
from collections.abc import Awaitable, Callable
from typing import Any, Literal, NamedTuple, TypeAlias, get_args

import attrs

from swarm.bus._checks import plain_function
from swarm.model import Event, check_choice, check_seconds, check_whole

Delivery: TypeAlias = Literal["at-most-once", "at-least-once", "exactly-once"]
OnError: TypeAlias = Literal["ignore", "retry", "dead-letter"]
Overflow: TypeAlias = Literal["block", "drop-oldest", "drop-newest", "latest", "error"]
SubscriptionStatus: TypeAlias = Literal["active", "paused", "cancelled"]

Handler: TypeAlias = Callable[..., Any] | Callable[..., Awaitable[Any]]
"""`(event)`, or of a batch `(events)`; exactly-once also gets its transaction, and
who takes one more argument gets the `Attempt`."""


class Receipt(NamedTuple):
    """What `publish` returns.

    Attributes:
        seq: The revision the event was published under.
        delivered_to: How many subscriptions it is due to; 0 for a duplicate.
        duplicate: Whether an event of this key was published before; `seq` is its.
    """

    seq: int
    delivered_to: int
    duplicate: bool = False


@attrs.frozen
class Batch:
    """Hand events over several at a time.

    Attributes:
        size: At most how many.
        wait: Seconds after the first one, after which fewer are enough.
    """

    size: int
    wait: float = 0.1

    def __attrs_post_init__(self) -> None:
        """Refuse what means nothing."""
        check_whole("Batch.size", self.size, 1)
        if not 0 <= self.wait < math.inf:
            raise ValueError(f"Batch.wait is finite, 0 or more, not {self.wait}")


@attrs.frozen
class RetryBackoff:
    """How long to wait before a retry: twice as long each time, with jitter.

    Attributes:
        first: Seconds before the first retry.
        most: Seconds that are never exceeded.
    """

    first: float = 0.1
    most: float = 30.0

    def __attrs_post_init__(self) -> None:
        """Refuse times that mean nothing."""
        if not 0 <= self.first <= self.most < math.inf:
            raise ValueError(f"a backoff needs 0 <= first <= most, not {self}")

    def delay(self, retry: int, chance: float) -> float:
        """Return the seconds before retry number `retry`, counted from 1.

        Args:
            retry: Which retry it is.
            chance: A number from 0 to 1; the delay is scaled to 50 to 100 percent.
        """
        doubled: float = self.first * 2.0 ** min(retry - 1, 60)
        return min(self.most, doubled) * (0.5 + chance / 2)


@attrs.frozen(kw_only=True)
class SubscriptionStats:
    """One subscription's books: `received` is the sum of the others but `errors`.

    Attributes:
        received: Events it took in.
        processed: Events that are done: handled, or failed and ignored.
        dead: Events that became dead letters.
        dropped: Events that were let go of unhandled.
        in_flight: Events that are being handled.
        buffered: Events that wait, retries included.
        errors: How often its handler failed, or its `where` raised.
        lost: Commits that left the log before it could read them.
    """

    received: int
    processed: int
    dead: int
    dropped: int
    in_flight: int
    buffered: int
    errors: int
    lost: int


@attrs.frozen(kw_only=True)
class BusOptions:
    """How much the bus keeps.

    Attributes:
        dedupe_keys: How many publish keys are remembered at most; the oldest go
            first, some at a time.
        dedupe_seconds: For how long.
        dead_letters: How many dead letters are kept at most; likewise.
        payload_bytes: How large the payload of an event may be, about: its text and
            bytes, and what its containers hold.
        history_events: How many events can be queried and replayed.
        history_seconds: For how long they can.
        depth: How many events may lead one to the next before an event loop is
            assumed.
        inline_backlog: How many events may wait for plain functions. Publishers wait
            before there are so many; what other commits cause beyond it is dropped,
            the oldest first, with an alert each time that the loss has doubled.
    """

    dedupe_keys: int = 10_000
    dedupe_seconds: float = 120.0
    dead_letters: int = 1_000
    payload_bytes: int = 256 * 1024
    history_events: int = 4_096
    history_seconds: float = 3600.0
    depth: int = 64
    inline_backlog: int = 16_384

    def __attrs_post_init__(self) -> None:
        """Refuse limits that mean nothing."""
        for field in attrs.fields(type(self)):
            what, value = f"BusOptions.{field.name}", getattr(self, field.name)
            if field.type is float:
                check_seconds(what, value)
            else:
                check_whole(what, value, 1)


@attrs.frozen(kw_only=True)
class HandlerOptions:
    """How a handler gets its events; the arguments of `on`, checked.

    Attributes:
        delivery: How often it may get each event.
        ordered: Whether one after the other (for each partition).
        partition: What events are kept in order by; None: all of them.
        batch: How many at a time; None: one.
        on_error: What becomes of an event its handler fails with.
        max_retries: How often it is tried again.
        backoff: How long before each retry.
        ack_wait: Seconds a handler may take; None: as long as it wants.
        max_in_flight: How many may run at a time when not ordered.
        buffer: How many events wait here; more stay in the log, or are dropped. What
            waits behind a retry does not count, up to 16 times as many.
    """

    delivery: Delivery = "at-most-once"
    ordered: bool = True
    partition: Callable[[Event[Any]], Any] | None = None
    batch: Batch | None = None
    on_error: OnError = "dead-letter"
    max_retries: int = 3
    backoff: RetryBackoff = attrs.field(factory=RetryBackoff)
    ack_wait: float | None = None
    max_in_flight: int = 16
    buffer: int = 256

    def __attrs_post_init__(self) -> None:
        """Refuse what cannot be meant."""
        check_choice("delivery", self.delivery, get_args(Delivery))
        check_choice("on_error", self.on_error, get_args(OnError))
        check_whole("max_retries", self.max_retries, 0)
        check_whole("max_in_flight", self.max_in_flight, 1)
        check_whole("buffer", self.buffer, 1)
        if self.ack_wait is not None:
            check_seconds("ack_wait", self.ack_wait)
        if self.partition is not None:
            plain_function("partition", self.partition)
        for what, value, kind in (
            ("batch", self.batch, Batch),
            ("backoff", self.backoff, RetryBackoff),
        ):
            if value is not None and not isinstance(value, kind):
                raise TypeError(f"{what} takes a {kind.__name__}, not {value!r}")
        if self.delivery == "at-most-once":
            if self.on_error == "retry":
                raise ValueError(
                    'on_error="retry" hands an event over again; that needs '
                    'delivery="at-least-once" or "exactly-once"'
                )
            if self.ack_wait is not None:
                raise ValueError("ack_wait redelivers; at-most-once never does")
        if self.batch is not None and not self.ordered and self.partition is None:
            raise ValueError("a batch keeps events in order; use ordered=True with it")
        if self.partition is not None and not self.ordered:
            raise ValueError("a partition is kept in order; use ordered=True with it")

    @property
    def is_one_lane(self) -> bool:
        """Whether every event waits for all before it."""
        return self.ordered and self.partition is None

    @property
    def width(self) -> int:
        """How many handlers may run at a time."""
        return 1 if self.is_one_lane else self.max_in_flight
