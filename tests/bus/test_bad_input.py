"""Bad input is refused with one clear error, and has no effect."""

import asyncio
import datetime
import inspect
from collections.abc import Callable
from typing import Any

import pytest

from swarm import Backoff, Batch, BusOptions, Swarm, event
from tests.support.virtual_loop import virtual


@event("bad.input")
class Ping:
    number: int = 0


def h(_: Any) -> None: ...


async def generator(_: Any) -> Any:
    yield 1


def on(**options: Any) -> Callable[[Any], Any]:
    return lambda events: events.on(Ping, options.pop("handler", h), **options)


def worker(**options: Any) -> Callable[[Any], Any]:
    return on(delivery="at-least-once", **options)


NAIVE = datetime.datetime(2020, 1, 1)  # noqa: DTZ001

CASES: dict[str, tuple[Callable[[Any], Any], type[Exception], str]] = {
    "pattern: a number": (lambda e: e.on(5, h), TypeError, "a pattern is"),
    "pattern: empty": (lambda e: e.on("", h), ValueError, "dotted words"),
    "pattern: two dots": (lambda e: e.on("a..b", h), ValueError, "dotted words"),
    "pattern: none of a list": (lambda e: e.on([], h), ValueError, "empty list"),
    "pattern: in a list": (lambda e: e.on([Ping, 3], h), TypeError, "a pattern is"),
    "handler: None": (on(handler=None), TypeError, "a handler is"),
    "handler: no argument": (on(handler=lambda: 1), TypeError, r"with \(event\)"),
    "handler: three": (on(handler=lambda a, b, c: 1), TypeError, r"\(event\)"),
    "handler: a generator": (on(handler=generator), TypeError, "never run"),
    "handler: no transaction": (
        on(delivery="exactly-once"),
        TypeError,
        r"\(event, tx\)",
    ),
    "delivery": (on(delivery="once"), ValueError, "delivery is one of"),
    "on_error": (on(on_error="explode"), ValueError, "on_error is one of"),
    "retry at most once": (on(on_error="retry"), ValueError, "at-least-once"),
    "ack_wait at most once": (on(ack_wait=1), ValueError, "redelivers"),
    "batch: a number": (on(batch=5), TypeError, "takes a Batch"),
    "batch: unordered": (
        worker(batch=Batch(2), ordered=False),
        ValueError,
        "keeps events in order",
    ),
    "batch: size 0": (lambda _: Batch(0), ValueError, "1 or more"),
    "batch: nan": (lambda _: Batch(2, float("nan")), ValueError, "finite"),
    "backoff: a number": (worker(backoff=0.5), TypeError, "takes a Backoff"),
    "backoff: backwards": (lambda _: Backoff(5, 1), ValueError, "first <= most"),
    "max_retries: text": (worker(max_retries="3"), TypeError, "whole number"),
    "max_retries: -1": (worker(max_retries=-1), ValueError, "0 or more"),
    "max_in_flight: 0": (worker(max_in_flight=0), ValueError, "1 or more"),
    "buffer: 0": (on(buffer=0), ValueError, "1 or more"),
    "buffer: 2.5": (worker(buffer=2.5), TypeError, "whole number"),
    "buffer: True": (worker(buffer=True), TypeError, "whole number"),
    "ack_wait: 0": (worker(ack_wait=0), ValueError, "from 0.000001"),
    "ack_wait: for ever": (worker(ack_wait=float("inf")), ValueError, "from 0.000001"),
    "ack_wait: text": (worker(ack_wait="5"), TypeError, "number of seconds"),
    "partition: text": (worker(partition="n"), TypeError, "plain function"),
    "partition: async": (worker(partition=asyncio.sleep), TypeError, "plain"),
    "partition: unordered": (
        worker(partition=h, ordered=False),
        ValueError,
        "kept in order",
    ),
    "where: text": (on(where="x"), TypeError, "plain function"),
    "where: async": (on(where=asyncio.sleep), TypeError, "plain function"),
    "name: a number": (on(name=5), ValueError, "name is text"),
    "name: empty": (on(name=""), ValueError, "non-empty"),
    "name: long": (on(name="x" * 600), ValueError, "512 bytes"),
    "group: a number": (on(group=5), TypeError, "a group is text"),
    "group: empty": (on(group=""), ValueError, "non-empty"),
    "since: to come": (on(since=10**9), ValueError, "still to come"),
    "since: negative": (on(since=-1), ValueError, "0 or more"),
    "since: text": (on(since="1"), TypeError, "whole number"),
    "source: a number": (on(source=5), TypeError, "a source is"),
    "source_type": (on(source_type=5), TypeError, "a source is"),
    "correlation_id": (on(correlation_id=5), TypeError, "is text"),
    "replay: to come": (
        lambda e: e.replay(since=10**9, handler=h),
        ValueError,
        "still to come",
    ),
    "replay: handler": (lambda e: e.replay(since=0, handler=None), TypeError, "handle"),
    "replay: since": (lambda e: e.replay(since="0", handler=h), TypeError, "whole"),
    "replay: no since": (
        lambda e: e.replay(since=None, handler=h),
        TypeError,
        "since is a whole number",
    ),
    "react: handler": (lambda e: e.react(Ping, None), TypeError, "a handler"),
    "query: limit": (lambda e: e.query(limit=-1), ValueError, "0 or more"),
    "query: limit text": (lambda e: e.query(limit="1"), TypeError, "whole number"),
    "query: offset": (lambda e: e.query(offset=-1), ValueError, "0 or more"),
    "query: naive time": (lambda e: e.query(after=NAIVE), ValueError, "time zone"),
    "query: time text": (lambda e: e.query(before="now"), TypeError, "datetime"),
    "query: cursor": (lambda e: e.query(after_seq="1"), TypeError, "whole number"),
    "query: upto": (lambda e: e.query(upto="1"), TypeError, "whole number"),
    "subscribe: overflow": (
        lambda e: e.subscribe(Ping, overflow="spill"),
        ValueError,
        "overflow is one of",
    ),
    "subscribe: buffer": (lambda e: e.subscribe(buffer="5"), TypeError, "whole"),
    "publish: guard": (lambda e: e.publish(Ping(), guard="x"), TypeError, "a guard is"),
    "forget": (lambda e: e.forget(5), ValueError, "name is text"),
    "options: -1": (lambda _: BusOptions(depth=-1), ValueError, "depth is 1 or more"),
    "options: 2.5": (lambda _: BusOptions(dead_letters=2.5), TypeError, "whole"),  # type: ignore[arg-type]
    "options: nan": (
        lambda _: BusOptions(dedupe_seconds=float("nan")),
        ValueError,
        "dedupe_seconds is from",
    ),
    "event: a number": (lambda _: event(5), TypeError, "has a name"),  # type: ignore[arg-type]
    "event: upper case": (lambda _: event("Bad Name"), ValueError, "lower-case"),
    "event: empty": (lambda _: event(""), ValueError, "lower-case"),
}


@pytest.mark.parametrize("case", CASES)
def test_bad_input_is_one_clear_error_without_effect(case: str) -> None:
    """The error is typed and names the right form."""
    act, kind, words = CASES[case]

    @virtual
    async def scenario() -> None:
        async with Swarm() as swarm:
            with pytest.raises(kind, match=words):
                made = act(swarm.events)
                if inspect.isawaitable(made):
                    await made
            bus = swarm._coordinator.bus
            assert swarm.events.subscriptions() == []
            assert not bus.named
            assert not bus.groups
            assert len(bus.holds) == 0
            assert swarm._coordinator.kernel.revision == 0

    scenario()
