"""Options, receipts and statistics of the bus, checked once. Pure."""

import inspect
import math
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, Final, Literal, NamedTuple, TypeAlias, get_args

import attrs

from swarm.model import Backoff, Event, check_choice, check_seconds, check_whole

Delivery: TypeAlias = Literal["at-most-once", "at-least-once", "exactly-once"]
OnError: TypeAlias = Literal["ignore", "retry", "dead-letter"]
Overflow: TypeAlias = Literal["block", "drop-oldest", "drop-newest", "latest", "error"]
SubscriptionStatus: TypeAlias = Literal["active", "paused", "cancelled"]

Handler: TypeAlias = Callable[..., Any] | Callable[..., Awaitable[Any]]
"""`(event)`, or `(events)` of a batch; exactly-once adds the transaction. A handler
that requires one more argument gets the `Attempt`."""


BACKOFF: Final = Backoff(0.1, 30.0)
"""The pauses before retries, unless asked otherwise."""


class Receipt(NamedTuple):
    """The result of `publish`.

    Attributes:
        seq: The revision under which the event was published.
        delivered_to: The number of subscriptions of this process that the event is
            due to, before any `where` is asked; 0 for a duplicate.
        duplicate: Whether an event of this key was published before; `seq` is its.
    """

    seq: int
    delivered_to: int
    duplicate: bool = False


@attrs.frozen
class Batch:
    """Hand events over several at a time.

    Attributes:
        size: The largest number of events in a batch.
        wait: Seconds after the first event when a smaller batch is handed over.
    """

    size: int
    wait: float = 0.1

    def __attrs_post_init__(self) -> None:
        """Refuse values without a meaning."""
        check_whole("Batch.size", self.size, 1)
        if not 0 <= self.wait < math.inf:
            raise ValueError(f"Batch.wait is finite, 0 or more, not {self.wait}")


@attrs.frozen(kw_only=True)
class SubscriptionStats:
    """Count the events of one subscription (E17).

    `received` is the sum of `processed`, `dead`, `dropped`, `in_flight` and `buffered`.

    Attributes:
        received: Events taken in.
        processed: Events handled, or failed and ignored.
        dead: Events that became dead letters.
        dropped: Events dropped unhandled.
        in_flight: Events a handler works on.
        buffered: Events that wait, retries included.
        errors: Failures of the handler and of `where`.
        lost: Commits that left the log before the subscription read them.
    """

    received: int
    processed: int
    dead: int = 0
    dropped: int
    in_flight: int = 0
    buffered: int
    errors: int
    lost: int


@attrs.frozen(kw_only=True)
class BusOptions:
    """Bound the memory of the bus.

    Attributes:
        dedupe_keys: The number of publish keys remembered; the oldest go first, some
            at a time.
        dedupe_seconds: How long a publish key is remembered.
        dead_letters: The number of dead letters kept; the oldest go first.
        payload_bytes: The size of a payload, about: its text and bytes, and the
            contents of its containers.
        history_events: The number of events that `query`, `replay` and `since` reach.
        history_seconds: The age of the oldest event they reach.
        depth: The number of events that may lead one to the next before the bus
            assumes an event loop.
        inline_backlog: The number of events that wait for plain functions, and for
            `where`. Beyond it the oldest are dropped, with an alert each time the loss
            has doubled; but a subscription that reads the log reads them from there.
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
        """Refuse values without a meaning."""
        for field in attrs.fields(type(self)):
            what, value = f"BusOptions.{field.name}", getattr(self, field.name)
            if field.type is float:
                check_seconds(what, value)
            else:
                check_whole(what, value, 1)


@attrs.frozen(kw_only=True)
class HandlerOptions:
    """The checked arguments of `Events.on`, which explains them."""

    delivery: Delivery = "at-most-once"
    ordered: bool = True
    partition: Callable[[Event[Any]], Any] | None = None
    batch: Batch | None = None
    on_error: OnError = "dead-letter"
    max_retries: int = 3
    backoff: Backoff = BACKOFF
    ack_wait: float | None = None
    max_in_flight: int = 16
    buffer: int = 256

    def __attrs_post_init__(self) -> None:
        """Refuse values and combinations without a meaning."""
        check_choice("delivery", self.delivery, get_args(Delivery))
        check_choice("on_error", self.on_error, get_args(OnError))
        check_whole("max_retries", self.max_retries, 0)
        check_whole("max_in_flight", self.max_in_flight, 1)
        check_whole("buffer", self.buffer, 1)
        if self.ack_wait is not None:
            check_seconds("ack_wait", self.ack_wait)
        if self.partition is not None:
            check_plain_function("partition", self.partition)
        for what, value, kind in (
            ("batch", self.batch, Batch),
            ("backoff", self.backoff, Backoff),
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
    def is_one_queue(self) -> bool:
        """Whether every event waits for all events before it."""
        return self.ordered and self.partition is None

    @property
    def width(self) -> int:
        """The number of handlers that may run at a time."""
        return 1 if self.is_one_queue else self.max_in_flight

    @property
    def is_simple(self) -> bool:
        """Whether single events are handed over once, in order: the short way."""
        return (
            self.delivery == "at-most-once" and self.is_one_queue and self.batch is None
        )


def complete_options(
    *,
    delivery: Delivery | None,
    ordered: bool | None,
    on_error: OnError | None,
    backoff: Backoff | None,
    batch: Batch | None,
    partition: Callable[..., Any] | None,
    buffer: int,
    is_named: bool,
    is_shared: bool,
    **others: Any,
) -> HandlerOptions:
    """Return the options of a handler, with the defaults that depend on others."""
    if delivery is None:
        delivery = "at-least-once" if is_named else "at-most-once"
    if on_error is None:
        on_error = "dead-letter" if delivery == "at-most-once" else "retry"
    if ordered is None:
        ordered = not is_shared or batch is not None or partition is not None
    return HandlerOptions(
        delivery=delivery,
        ordered=ordered,
        partition=partition,
        batch=batch,
        on_error=on_error,
        backoff=BACKOFF if backoff is None else backoff,
        buffer=max(buffer, batch.size) if isinstance(batch, Batch) else buffer,
        **others,
    )


def has_doubled(before: int, now: int) -> bool:
    """Return whether a count has reached another power of two.

    Then an alert is due: alerts are events as well, and one for each loss would make
    a flood of a flood.
    """
    return now.bit_length() > before.bit_length()


# --- functions of the user --------------------------------------------------------


def check_plain_function(what: str, value: object) -> None:
    """Refuse a value that cannot be called, or is an `async def`.

    Raises:
        TypeError: The value is not a plain function.
    """
    if not callable(value) or inspect.iscoroutinefunction(value):
        raise TypeError(f"{what} takes a plain function of an event, not {value!r}")


def check_handler(value: Callable[..., Any], arguments: int, shown: str) -> None:
    """Refuse a value that does not take so many arguments, or one more.

    Raises:
        TypeError: The value is not such a function, or is a generator.
    """
    if not callable(value):
        raise TypeError(f"a handler is a function of an event, not {value!r}")
    if inspect.isgeneratorfunction(value) or inspect.isasyncgenfunction(value):
        raise TypeError(f"a generator would never run; {value!r} is not a handler")
    try:
        signature = inspect.signature(value)
    except (TypeError, ValueError):  # a builtin without a signature
        return
    for more in (0, 1):
        try:
            signature.bind(*range(arguments + more))
        except TypeError:
            continue
        return
    raise TypeError(f"this handler is called with {shown}; {value!r} takes {signature}")


def requires(handler: Callable[..., Any], number: int) -> bool:
    """Return whether a handler requires at least `number` positional arguments."""
    try:
        signature = inspect.signature(handler)
    except (TypeError, ValueError):  # a builtin without a signature
        return False
    required = [
        parameter
        for parameter in signature.parameters.values()
        if parameter.kind
        in (parameter.POSITIONAL_ONLY, parameter.POSITIONAL_OR_KEYWORD)
        and parameter.default is parameter.empty
    ]
    return len(required) >= number


def is_async(handler: object) -> bool:
    """Return whether calling a handler makes a coroutine, as far as it shows."""
    while isinstance(handler, partial):
        handler = handler.func
    return inspect.iscoroutinefunction(handler) or inspect.iscoroutinefunction(
        getattr(handler, "__call__", None)  # noqa: B004  # the attribute is inspected
    )


def refuse_awaitable(handler: object, result: Any) -> None:
    """Refuse the result of a plain function if it has to be awaited.

    Raises:
        TypeError: It has to be awaited; it is closed.
    """
    if inspect.isawaitable(result):
        end = getattr(result, "close", None) or getattr(result, "cancel", None)
        if end is not None:
            end()
        raise TypeError(
            f"the plain function {handler!r} returned a value to await; write the "
            "handler as `async def`"
        )
