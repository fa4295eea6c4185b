"""The contract of any storage for events: what a swarm on it publishes and delivers.

    class TestMyStorage(EventContract):
        def storage(self): ...      # what `Swarm(name, storage)` is to be opened on
        is_shared = True            # whether two swarms may be open on it at once

Where that is so, events are published by one process and delivered in the other.
"""

import asyncio
from abc import abstractmethod
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import attrs
import pytest

from swarm.bus import EventStream
from swarm.errors import Compacted, Lagged, NameTaken
from swarm.model import Backoff, Event, event
from swarm.state import Transaction
from swarm.system import Swarm, SwarmConfig

AT_ONCE = Backoff(0, 0)
PATIENCE = 30
"""Seconds after which a delivery that does not come fails a test."""


@event("contract.made")
class OrderMade:
    """An order."""

    number: int


@event("contract.made.again")
class OrderRepeated(OrderMade):
    """A subclass: a subscription of its base gets it, too."""


@event("contract.paid")
class OrderPaid:
    """Another event."""

    number: int


@attrs.define
class Sink:
    """A handler that keeps the numbers it gets.

    Attributes:
        numbers: The numbers, in the order in which they came.
    """

    numbers: list[int] = attrs.field(factory=list)
    _news: asyncio.Event = attrs.field(factory=asyncio.Event)

    def put(self, number: int) -> None:
        """Keep a number."""
        self.numbers.append(number)
        self._news.set()

    async def handle(self, event: Event[OrderMade]) -> None:
        """Keep the event's number."""
        self.put(event.payload.number)

    async def until(self, is_enough: Callable[[list[int]], bool]) -> None:
        """Wait until the numbers are enough."""
        async with asyncio.timeout(PATIENCE):
            while not is_enough(self.numbers):
                self._news.clear()
                await self._news.wait()

    async def count(self, number: int) -> None:
        """Wait until there are so many numbers."""
        await self.until(lambda numbers: len(numbers) >= number)


async def _read_all(stream: EventStream[Any]) -> None:
    async for _ in stream:
        pass


class EventContract:
    """The tests that events on a storage must pass."""

    is_shared: bool = False

    @abstractmethod
    def storage(self) -> Any:
        """Return the storage of this test: each call the same one."""

    def opened(self, **config: Any) -> Swarm:
        """Return a swarm that is to be opened on the storage."""
        return Swarm("contract", self.storage(), config=SwarmConfig(**config))

    @asynccontextmanager
    async def swarms(self) -> AsyncIterator[tuple[Swarm, Swarm]]:
        """Give the swarms of two processes, or one swarm twice."""
        async with self.opened() as one:
            if not self.is_shared:
                yield one, one
                return
            async with self.opened() as other:
                yield one, other

    # --- published --------------------------------------------------------------------

    async def test_what_is_published_is_in_the_history_of_every_process(self) -> None:
        """E1: under the revision that its publisher got."""
        async with self.swarms() as (one, other):
            first = await one.events.publish(OrderMade(1))
            second = await other.events.publish(OrderPaid(2))
            assert first.seq < second.seq
            found = other.events.query("contract.*")
            assert [(e.seq, e.payload) for e in found] == [
                (first.seq, OrderMade(1)),
                (second.seq, OrderPaid(2)),
            ]
            assert [e.seq for e in other.events.query(OrderPaid)] == [second.seq]
            assert [e.seq for e in other.events.query("contract.*", limit=1)] == [
                first.seq
            ]
            after = other.events.query("contract.*", after_seq=first.seq)
            assert [e.payload.number for e in after] == [2]

    async def test_a_repeated_key_returns_the_first_receipt(self) -> None:
        """E8: in whichever process it is repeated, also at the same time."""
        async with self.swarms() as (one, other):
            receipts = await asyncio.gather(
                *[s.events.publish(OrderMade(1), key="k") for s in (one, other) * 3]
            )
            assert len({receipt.seq for receipt in receipts}) == 1
            assert Counter(r.duplicate for r in receipts) == {False: 1, True: 5}
            assert len(one.events.query(OrderMade)) == 1

    async def test_state_and_event_are_one_commit_or_none(self) -> None:
        """S5, E1."""

        async def write(swarm: Swarm, number: int, *, fails: bool) -> None:
            async with swarm.state.transaction() as tx:
                await tx.set("shared.order", number)
                tx.publish(OrderMade(number))
                if fails:
                    raise ValueError("boom")

        async with (
            self.swarms() as (one, other),
            other.events.subscribe(OrderMade) as stream,
        ):
            with pytest.raises(ValueError, match="boom"):
                await write(one, 1, fails=True)
            await write(one, 2, fails=False)
            async with asyncio.timeout(PATIENCE):
                got = await anext(stream)
            assert got.payload.number == 2
            written = await other.state.read("shared.order")
            assert written is not None
            assert (written.value, written.version) == (2, got.seq)

    async def test_an_event_is_waited_for_whichever_process_publishes_it(self) -> None:
        """E1: before the wait, if it looks back, or in the middle of it."""
        async with self.swarms() as (one, other), asyncio.timeout(PATIENCE):
            first = await one.events.publish(OrderMade(1))
            waiting = asyncio.ensure_future(
                other.events.wait_for(
                    OrderMade, where=lambda ev: ev.payload.number > 2, since=first.seq
                )
            )
            await one.events.publish(OrderMade(2))
            await one.events.publish(OrderMade(3))
            assert (await waiting).payload.number == 3
            found = await other.events.wait_for(OrderMade, since=first.seq)
            assert found.payload.number == 2

    async def test_a_failing_handler_is_none_of_its_publishers_business(self) -> None:
        """E2, E4: it was handed the event once; the failure is a dead letter."""
        async with self.swarms() as (one, other):
            sink = Sink()

            async def fail(event: Event[OrderMade]) -> None:
                sink.put(event.payload.number)
                raise ValueError("boom")

            subscription = await other.events.on(OrderMade, fail)
            await one.events.publish(OrderMade(1))
            await one.events.publish(OrderMade(2))
            await sink.count(2)
            assert sink.numbers == [1, 2]
            assert subscription.stats.received == 2

    # --- delivered --------------------------------------------------------------------

    async def test_a_stream_gets_every_event_in_the_order_of_history(self) -> None:
        """E3: whichever process published them."""
        async with self.swarms() as (one, other):
            async with other.events.subscribe(OrderMade) as stream:
                await asyncio.gather(
                    *[
                        (one, other)[n % 2].events.publish(OrderMade(n))
                        for n in range(20)
                    ]
                )
                async with asyncio.timeout(PATIENCE):
                    got = [await anext(stream) for _ in range(20)]
            seqs = [e.seq for e in got]
            assert seqs == sorted(set(seqs))
            assert seqs == [e.seq for e in one.events.query(OrderMade)]
            assert sorted(e.payload.number for e in got) == list(range(20))

    async def test_patterns_match_in_every_process(self) -> None:
        """E15: by class with its subclasses, by segments, by a predicate."""
        async with self.swarms() as (one, other):
            sinks = [Sink() for _ in range(4)]
            on = other.events.on
            await on(OrderMade, sinks[0].handle)
            await on("contract.made.*", sinks[1].handle)
            await on([OrderPaid, OrderRepeated], sinks[2].handle)
            await on(
                "contract.**", sinks[3].handle, where=lambda e: e.payload.number > 2
            )
            for payload in (OrderMade(1), OrderRepeated(2), OrderPaid(3)):
                await one.events.publish(payload)
            for sink, numbers in zip(sinks, ([1, 2], [2], [2, 3], [3]), strict=True):
                await sink.count(len(numbers))
                assert sink.numbers == numbers

    async def test_an_event_is_handled_again_until_that_succeeds(self) -> None:
        """E5, E9: the events behind it wait."""
        async with self.swarms() as (one, other):
            sink = Sink()
            fails = Counter({2: 2})

            async def handle(event: Event[OrderMade]) -> None:
                number = event.payload.number
                if fails[number]:
                    fails[number] -= 1
                    raise ValueError("boom")
                sink.put(number)

            await other.events.on(
                OrderMade, handle, delivery="at-least-once", backoff=AT_ONCE
            )
            for number in (1, 2, 3):
                await one.events.publish(OrderMade(number))
            await sink.count(3)
            assert sink.numbers == [1, 2, 3]

    async def test_what_fails_for_good_is_a_dead_letter_once(self) -> None:
        """E10: which can be handled again."""
        async with self.swarms() as (one, other):
            sink, tries = Sink(), Sink()

            async def handle(event: Event[OrderMade]) -> None:
                tries.put(event.payload.number)
                if len(tries.numbers) <= 3:
                    raise ValueError("boom")
                await sink.handle(event)

            await other.events.on(
                OrderMade,
                handle,
                delivery="at-least-once",
                max_retries=2,
                backoff=AT_ONCE,
                name="billing",
            )
            await one.events.publish(OrderMade(1))
            await one.events.publish(OrderMade(2))
            await sink.count(1)
            assert tries.numbers == [1, 1, 1, 2]
            letters = await other.events.dead_letters.list()
            assert [letter.event.payload for letter in letters] == [OrderMade(1)]
            await other.events.dead_letters.requeue(letters[0].id)
            await sink.count(2)
            assert sink.numbers == [2, 1]

    async def test_effects_commit_with_the_acknowledgement(self) -> None:
        """E7: however often the handler fails."""
        async with self.swarms() as (one, other):
            sink, tries = Sink(), Counter[int]()

            async def handle(event: Event[OrderMade], tx: Transaction) -> None:
                number = event.payload.number
                tries[number] += 1
                count = await tx.get("shared.total", 0)
                await tx.set("shared.total", count + number)
                if tries[number] < 2:
                    raise ValueError("boom")
                sink.put(number)

            await other.events.on(
                OrderMade, handle, delivery="exactly-once", backoff=AT_ONCE
            )
            for number in (1, 2, 3):
                await one.events.publish(OrderMade(number))
            total = await one.state.wait_until(
                "shared.total", lambda value: value == 6, timeout=PATIENCE
            )
            assert (total, sink.numbers) == (6, [1, 2, 3])

    async def test_a_named_subscription_goes_on_where_it_was(self) -> None:
        """E5: in another process, or the same one; it is active in one at a time."""
        async with self.swarms() as (one, other):
            sink = Sink()
            first = await one.events.on(OrderMade, sink.handle, name="billing")
            with pytest.raises(NameTaken):
                await one.events.on(OrderMade, sink.handle, name="billing")
            await other.events.publish(OrderMade(1))
            await sink.count(1)
            await first.cancel()
            await other.events.publish(OrderMade(2))
            await other.events.on(OrderMade, sink.handle, name="billing")
            await one.events.publish(OrderMade(3))
            await sink.count(3)
            assert sink.numbers == [1, 2, 3]

    async def test_each_event_goes_to_one_member_of_a_group(self) -> None:
        """E16."""
        async with self.swarms() as (one, other):
            sink = Sink()
            for _ in range(3):
                await other.events.on(OrderMade, sink.handle, group="workers")
            for number in range(20):
                await one.events.publish(OrderMade(number))
            await sink.count(20)
            assert sorted(sink.numbers) == list(range(20))

    async def test_replay_hands_over_the_past_and_then_the_present(self) -> None:
        """E3: without a gap or a duplicate."""
        async with self.swarms() as (one, other):
            first = await one.events.publish(OrderMade(1))
            await one.events.publish(OrderMade(2))
            sink, since = Sink(), first.seq - 1
            await other.events.replay(OrderMade, since=since, handler=sink.handle)
            await sink.count(2)
            assert sink.numbers == [1, 2]
            await one.events.publish(OrderMade(3))
            await sink.count(3)
            assert sink.numbers == [1, 2, 3]
            with pytest.raises((ValueError, Compacted)):
                await other.events.replay(
                    OrderMade, since=2**62, handler=sink.handle, follow=False
                )

    async def test_a_paused_subscription_goes_on_in_order(self) -> None:
        """E12."""
        async with self.swarms() as (one, other):
            sink = Sink()
            subscription = await other.events.on(
                OrderMade, sink.handle, delivery="at-least-once"
            )
            subscription.pause()
            for number in (1, 2, 3):
                await one.events.publish(OrderMade(number))
            assert sink.numbers == []
            subscription.resume()
            await sink.count(3)
            assert sink.numbers == [1, 2, 3]
            await subscription.cancel()

    async def test_a_stream_that_is_too_slow_is_told(self) -> None:
        """E18."""
        async with self.swarms() as (one, other):
            subscribe = other.events.subscribe
            async with (
                subscribe(OrderMade, buffer=2, overflow="error") as strict,
                subscribe(OrderMade, buffer=2, overflow="drop-oldest") as lenient,
                subscribe(OrderPaid) as marks,
            ):
                for number in range(5):
                    await one.events.publish(OrderMade(number))
                await one.events.publish(OrderPaid(0))
                async with asyncio.timeout(PATIENCE):
                    await anext(marks)  # all before it has arrived there
                    got = [(await anext(lenient)).payload.number for _ in range(2)]
                    with pytest.raises(Lagged):
                        await _read_all(strict)
                assert got == [3, 4]

    async def test_what_a_handler_publishes_names_its_cause(self) -> None:
        """E19: the correlation id goes along, from process to process."""
        async with self.swarms() as (one, other):

            async def pay(event: Event[OrderMade]) -> None:
                await other.events.publish(OrderPaid(event.payload.number))

            await other.events.on(OrderMade, pay)
            async with one.events.subscribe(OrderPaid) as paid:
                receipt = await one.events.publish(OrderMade(1))
                async with asyncio.timeout(PATIENCE):
                    got = await anext(paid)
            (cause,) = one.events.query(OrderMade)
            assert cause.seq == receipt.seq
            assert got.causation_id == cause.id
            assert got.correlation_id == cause.correlation_id

    async def test_history_outlives_its_publisher(self) -> None:
        """E1: on what keeps anything; and a named subscriber gets what it missed."""
        sink = Sink()
        async with self.opened() as first:
            subscription = await first.events.on(OrderMade, sink.handle, name="billing")
            await first.events.publish(OrderMade(1))
            await sink.count(1)
            await subscription.cancel()
            await first.events.publish(OrderMade(2))
        async with self.opened() as second:
            if not second.events.query(OrderMade):
                pytest.skip("this storage keeps nothing")
            await second.events.on(OrderMade, sink.handle, name="billing")
            await sink.count(2)
            assert sink.numbers == [1, 2]
