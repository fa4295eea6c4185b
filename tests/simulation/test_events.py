"""Promises of each delivery under many schedules and faults."""

import asyncio
from collections import Counter
from typing import Any

import pytest

from swarm import Agent, Event, Swarm, event, on
from swarm.bus import Attempt
from swarm.bus._calls import CallQueue
from swarm.bus._delivery_rules import DeliveryQueue
from swarm.bus._functions import CoroutineSubscription
from swarm.bus._handlers import HandlerSubscription
from swarm.bus._offset_committer import OffsetCommitter
from swarm.bus._offsets import OffsetProgress
from swarm.testing import (
    Fault,
    Faults,
    Schedule,
    Sim,
    SimulationError,
    StuckError,
    explore,
    replay,
    run,
)
from swarm.testing.faults._plan import SIZES
from tests.simulation.oracle import breaks, holds, nothing_left, quietly, slow

EVENT_FAULTS = Faults(
    drop_event=True,
    duplicate_event=True,
    delay_event=True,
    reorder_event=True,
    crash_handler=True,
    most=4,
)
KINDS = EVENT_FAULTS.kinds()
WRONG = (AssertionError, StuckError, ExceptionGroup)
COUNT = 5
ALL = list(range(COUNT))


@event("sim.order")
class Order:
    number: int


class Shop:
    """Publishes some orders to one handler, and waits until all is quiet."""

    def __init__(self, sim: Sim, **options: Any) -> None:
        self.sim = sim
        self.options = options
        self.began: list[int] = []
        self.ended: list[int] = []
        self.times: list[float] = []
        self.running = self.most = 0
        self.stats: Any = None

    async def handle(self, order: Event[Order], *tx: Any) -> None:
        number = order.payload.number
        self.began.append(number)
        self.times.append(self.sim.clock.time())
        self.running += 1
        self.most = max(self.most, self.running)
        try:
            for _ in range(2):
                await asyncio.sleep(0)
            for one in tx:
                await one.increment(f"effects.n{number}")
        finally:
            self.running -= 1
        self.ended.append(number)

    def note(self, order: Event[Order]) -> None:
        self.began.append(order.payload.number)
        self.ended.append(order.payload.number)
        self.times.append(self.sim.clock.time())

    async def open(self) -> None:
        handler = self.note if self.options.pop("plain", False) else self.handle
        async with Swarm() as swarm:
            sub = await swarm.events.on(Order, handler, **self.options)
            for number in ALL:
                await swarm.events.publish(Order(number))
                await self.sim.checkpoint()
            await asyncio.sleep(1_000)
            self.stats = stats = sub.stats
            letters = await swarm.events.dead_letters.list()
            self.dead = [letter.event.payload.number for letter in letters]
            self.effects = [await swarm.state.get(f"effects.n{n}", 0) for n in ALL]
            # E17: everything is somewhere, and at rest nothing is under way.
            assert stats.received == stats.processed + stats.dead + stats.dropped
            assert stats.received == COUNT
            assert stats.in_flight == stats.buffered == 0
        nothing_left(swarm)


def in_order(numbers: list[int]) -> bool:
    return numbers == sorted(numbers)


async def at_most_once(sim: Sim, **options: Any) -> None:
    shop = Shop(sim, delivery="at-most-once", **options)
    await shop.open()
    assert max(Counter(shop.began).values(), default=0) <= 1
    assert len(shop.began) + shop.stats.dropped == COUNT
    assert shop.stats.dead == 0
    assert in_order(shop.began) or options.get("ordered") is False


async def at_least_once(sim: Sim, **options: Any) -> None:
    shop = Shop(sim, delivery="at-least-once", **options)
    await shop.open()
    assert set(shop.ended) == set(ALL), shop.ended
    assert not shop.dead
    assert shop.stats.processed == COUNT
    if options.get("ordered", True):
        assert shop.most == 1
        assert in_order(shop.began), shop.began


async def exactly_once(sim: Sim, **options: Any) -> None:
    shop = Shop(sim, delivery="exactly-once", **options)
    await shop.open()
    assert shop.effects == [1] * COUNT, shop.effects
    assert not shop.dead
    if options.get("ordered", True):
        assert in_order(shop.began), shop.began


PROMISES = [
    (at_most_once, {"plain": True}),
    (at_most_once, {}),
    (at_most_once, {"ordered": False}),
    (at_most_once, {"name": "kept"}),
    (at_least_once, {}),
    (at_least_once, {"ordered": False}),
    (at_least_once, {"name": "kept"}),
    (at_least_once, {"ack_wait": 40.0, "max_retries": 9}),
    (exactly_once, {}),
    (exactly_once, {"ordered": False, "max_in_flight": 2}),
    (exactly_once, {"name": "kept"}),
    (exactly_once, {"name": "kept", "ordered": False}),
]


@pytest.mark.parametrize(("promise", "options"), PROMISES)
def test_no_fault_breaks_what_a_delivery_promises(promise, options):
    """E3 to E9, E17: with faults at every event and in every order."""

    async def program(sim: Sim) -> None:
        await promise(sim, **options)
        sim.sometimes("something went wrong", sim.faults.happened)

    holds(program, schedules=60, faults=EVENT_FAULTS)


@slow
@pytest.mark.parametrize(("promise", "options"), PROMISES)
def test_no_fault_breaks_a_delivery_in_many_schedules(promise, options):
    """E3 to E9, E17: the same for longer."""
    program = trusting(promise, **options)
    holds(program, schedules=3_000, faults=EVENT_FAULTS, seed=3)


# --- and the checks can fail ----------------------------------------------------------


def trusting(promise: Any, **options: Any) -> Any:
    async def program(sim: Sim) -> None:
        await promise(sim, **options)

    return program


def test_a_hand_over_before_it_is_acknowledged_is_found(monkeypatch):
    """E4: an event that was handed over is done, also when its handler is cancelled."""
    monkeypatch.setattr(DeliveryQueue, "done", lambda self, run, now: None)
    program = trusting(at_most_once, ordered=False)
    breaks(program, WRONG, faults=Faults(crash_handler=True))


def test_a_run_that_is_handed_over_again_is_found(monkeypatch):
    """E4: the short way acknowledges before it hands over."""
    work = CoroutineSubscription._work

    async def again(self):
        try:
            await work(self)
        except asyncio.CancelledError:
            if self._status == "active":
                self._queue.appendleft(Event(self.newest, 0))
            raise

    def take(self, event):
        self.newest = event._commit
        return taken(self, event)

    taken = CoroutineSubscription._take
    monkeypatch.setattr(CoroutineSubscription, "_take", take)
    monkeypatch.setattr(CoroutineSubscription, "_work", again)
    breaks(trusting(at_most_once), WRONG, faults=Faults(crash_handler=True))


def test_a_plain_function_called_twice_is_found(monkeypatch):
    """E4: at most once."""
    put = CallQueue.put

    def twice(self, event, route):
        put(self, event, route)
        put(self, event, route)
        route.count -= 1
        route.done -= 1

    monkeypatch.setattr(CallQueue, "put", twice)
    breaks(trusting(at_most_once, plain=True), WRONG)


def test_an_event_lost_with_its_handler_is_found(monkeypatch):
    """E5: a cancelled attempt is repeated."""
    monkeypatch.setattr(DeliveryQueue, "returned", DeliveryQueue.done)
    breaks(trusting(at_least_once), WRONG, faults=Faults(crash_handler=True))


def test_a_worker_that_is_not_replaced_is_found(monkeypatch):
    """E5: the end of one worker wakes the next."""
    monkeypatch.setattr(HandlerSubscription, "_wake_member", one_worker_ever)
    breaks(trusting(at_least_once), WRONG, faults=Faults(crash_handler=True))


def one_worker_ever(self, member):
    if member.is_paused or hasattr(member, "had_one"):
        return member.wake_one()
    member.had_one = True
    member.tasks.add(self.bus.host.start(self._work(member), "worker"))
    return True


def test_successors_that_overtake_are_found(monkeypatch):
    """E9: a late event holds back its successors."""
    ended = DeliveryQueue._end

    def rotates(self, run, gone, now):
        ended(self, run, gone, now)
        items = run.queue.items
        if gone == 0 and len(items) > 1:
            items.rotate(-1)

    monkeypatch.setattr(DeliveryQueue, "_end", rotates)
    breaks(trusting(at_least_once), WRONG, faults=Faults(delay_event=True))


def test_an_effect_without_its_acknowledgement_is_found(monkeypatch):
    """E7: effects and acknowledgement are one commit, or neither is there."""

    async def apart(worker, member, run):
        transaction = worker.bus.host.effects(member.identity, lambda: ((), ()))
        async with transaction as tx:
            await member.handler(run.items[0].event, tx)
        await asyncio.sleep(0)
        return [None]

    monkeypatch.setattr("swarm.bus._handlers.exactly_once", apart)
    breaks(trusting(exactly_once), WRONG, faults=Faults(crash_handler=True))


def test_a_position_that_runs_ahead_is_found(monkeypatch):
    """E5: current events of an ended subscription are due to the next of its name."""
    monkeypatch.setattr(OffsetProgress, "take", lambda self, place: None)
    breaks(handed_on, WRONG, faults=EVENT_FAULTS)


def test_a_position_that_is_not_kept_is_found(monkeypatch):
    """E7: handled events are not handled again by the next of the name."""
    monkeypatch.setattr(OffsetCommitter, "has_done", lambda self, place: False)
    to_commit = OffsetCommitter.to_commit

    def nothing(self, *arguments):
        mark = to_commit(self, *arguments)
        return mark._replace(writes=mark.writes[1:], conditions=())

    monkeypatch.setattr(OffsetCommitter, "to_commit", nothing)
    breaks(handed_on, WRONG, faults=EVENT_FAULTS)


async def handed_on(sim: Sim) -> None:
    """A named subscription ends in the middle; another one of its name goes on."""
    async with Swarm() as swarm:

        async def effect(order: Event[Order], tx: Any) -> None:
            await asyncio.sleep(0)
            await tx.increment(f"effects.n{order.payload.number}")

        async def begin() -> Any:
            return await swarm.events.on(
                Order, effect, delivery="exactly-once", name="kept"
            )

        sub = await begin()
        for number in ALL:
            await swarm.events.publish(Order(number))
        for _ in range(sim.rng.randrange(20)):
            await sim.checkpoint()
        await sub.cancel()
        sub = await begin()
        await asyncio.sleep(1_000)
        effects = [await swarm.state.get(f"effects.n{n}", 0) for n in ALL]
        assert effects == [1] * COUNT, effects
    nothing_left(swarm)


def test_a_named_subscription_hands_on_exactly_what_is_not_done():
    """E7, H4: however it ends, and with faults on the way."""
    holds(handed_on, schedules=60, faults=EVENT_FAULTS)


# --- streams and mailboxes ------------------------------------------------------------


async def streamed(sim: Sim, overflow: str) -> None:
    got: list[int] = []
    async with Swarm() as swarm:
        stream = swarm.events.subscribe(Order, overflow=overflow, buffer=2)

        async def read() -> None:
            async for order in stream:
                got.append(order.payload.number)
                if order.payload.number == ALL[-1]:
                    return

        async with stream:
            reading = asyncio.create_task(read())
            for number in ALL:
                await swarm.events.publish(Order(number))
                await sim.checkpoint()
            await asyncio.sleep(1_000)
            stats = stream.stats
            assert in_order(got)
            assert max(Counter(got).values(), default=0) <= 1
            if overflow == "block":
                assert got == ALL
            else:
                assert len(got) + stats.dropped == COUNT
                assert stats.received == stats.processed + stats.dropped
        reading.cancel()
        await quietly(reading)
    nothing_left(swarm)


@pytest.mark.parametrize("overflow", ["block", "drop-oldest", "drop-newest", "latest"])
def test_a_stream_loses_only_what_it_may_lose(overflow):
    """E18, T1: in order, at most once, every drop counted."""
    program = trusting(streamed, overflow=overflow)
    holds(program, schedules=60, faults=EVENT_FAULTS)


def test_a_stream_that_loses_events_is_found(monkeypatch):
    """E3: the check can fail."""
    path = "swarm.bus._log_recipient.just_before"
    monkeypatch.setattr(path, lambda event: event.place)
    breaks(trusting(streamed, overflow="block"), WRONG)


class Listener(Agent):
    def __init__(self, heard: list[int]) -> None:
        self.heard = heard

    @on(Order)
    async def order(self, order: Event[Order]) -> None:
        await asyncio.sleep(0)
        self.heard.append(order.payload.number)


async def posted(sim: Sim) -> None:
    heard: list[int] = []
    async with Swarm() as swarm:
        await swarm.spawn(Listener, heard, name="ada")
        for number in ALL:
            await swarm.events.publish(Order(number))
            await sim.checkpoint()
        await asyncio.sleep(1_000)
        (sub,) = [s for s in swarm.events.subscriptions() if s.name == "ada.order"]
        assert in_order(heard)
        assert len(set(heard)) == len(heard) == COUNT - sub.stats.dropped
        if sub.stats.dropped:
            alerts = [a.payload for a in swarm.events.query("system.alert")]
            assert {alert.kind for alert in alerts} == {"events-lost"}
    nothing_left(swarm)


def test_an_event_misses_a_mailbox_only_with_an_alert():
    """E4: in order, at most once, counted."""
    holds(posted, schedules=60, faults=EVENT_FAULTS)


async def left_early(sim: Sim) -> tuple[list[int], int]:
    """A stream ends, and an agent stops, while events are on their way to them."""
    asked: list[int] = []

    def fits(order: Event[Order]) -> bool:
        asked.append(order.payload.number)
        return order.payload.number != 1

    async with Swarm() as swarm:
        ada = await swarm.spawn(Listener, [], name="ada")
        async with swarm.events.subscribe(Order, where=fits) as stream:
            sim.faults.delay_event(stream, 50)
            sim.faults.delay_event("ada.order", 50)
            for number in ALL:
                await swarm.events.publish(Order(number))
            assert stream.stats.received == 0
            await ada.stop()
            stream.cancel()  # what was due before can still be read
            got = [order.payload.number async for order in stream]
        assert asked == ALL
        assert stream.stats.received == stream.stats.processed == len(got)
    nothing_left(swarm)
    return got, len(sim.faults.happened)


def test_what_is_on_its_way_at_the_end_is_not_lost():
    """T5: buffered items first, then the end; and `where` is asked once for each."""
    assert run(left_early).unwrap() == ([0, 2, 3, 4], 2)


async def fails_and_is_not_heard(sim: Sim) -> None:
    """A failed attempt whose acknowledgement would be lost is a failed attempt."""
    numbers: list[int] = []
    async with Swarm() as swarm:

        async def handle(_: Event[Order], attempt: Attempt) -> None:
            numbers.append(attempt.number)
            if attempt.number == 1:
                raise ValueError("at first")

        sub = await swarm.events.on(Order, handle, delivery="at-least-once")
        sim.faults.duplicate_event(sub)
        await swarm.events.publish(Order(1))
        await asyncio.sleep(10)
        assert (sub.stats.errors, sub.stats.processed) == (1, 1)
        sim.faults.duplicate_event(sub)
        await swarm.events.publish(Order(2))
        await asyncio.sleep(10)
    # The lost acknowledgement uses up no attempt: as far as is known, there was none.
    assert numbers == [1, 2, 1, 2]


def test_a_lost_acknowledgement_does_not_hide_a_failure():
    """E5, E14."""
    run(fails_and_is_not_heard).unwrap()


# --- the faults themselves ------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "promise", "options"),
    [
        ("drop_event", at_most_once, {}),
        ("drop_event", at_most_once, {"plain": True}),
        ("drop_event", at_least_once, {"ack_wait": 5.0}),
        ("duplicate_event", at_least_once, {}),
        ("duplicate_event", exactly_once, {}),
        ("delay_event", exactly_once, {}),
        ("reorder_event", at_least_once, {"ordered": False, "max_in_flight": 1}),
        ("crash_handler", at_least_once, {}),
        ("crash_handler", exactly_once, {}),
    ],
)
def test_a_fault_of_events_is_recorded_replayed_shrunk_and_told(kind, promise, options):
    """A program that trusts in more than is promised is found out."""

    async def program(sim: Sim) -> None:
        shop = Shop(sim, delivery=promise.__name__.replace("_", "-"), **options)
        await shop.open()
        assert shop.began == ALL
        assert shop.times == [0.0] * COUNT

    failure = breaks(program, faults=Faults(**{kind: True}, most=3)).failure
    (fault,) = failure.schedule.faults
    assert fault.kind == kind
    assert fault.target == "sub:1"
    assert str(fault) in failure.why
    assert str(fault) in failure.trace
    again = replay(program, failure.blob)
    assert again.digest == failure.digest
    assert Schedule.from_blob(failure.blob).faults == (fault,)


def test_every_kind_of_fault_has_a_text_and_amounts():
    for kind in KINDS:
        assert SIZES[kind]
        assert "`billing`" in str(Fault(kind, "billing", 2, 1.0))


async def by_hand(sim: Sim) -> list[int]:
    got: list[int] = []
    async with Swarm() as swarm:

        async def handle(order: Event[Order]) -> None:
            for _ in range(3):
                await asyncio.sleep(0)
            got.append(order.payload.number)

        sub = await swarm.events.on(
            Order, handle, name="billing", ordered=False, max_in_flight=1
        )
        numbers = iter(range(100))

        async def publish(*, after: float = 0.0) -> None:
            await swarm.events.publish(Order(next(numbers)))
            await asyncio.sleep(after)

        sim.faults.duplicate_event(sub)
        await publish(after=1)
        assert got == [0, 0]
        sim.faults.drop_event("billing")
        await publish(after=0.5)
        assert got == [0, 0]
        await asyncio.sleep(1)
        assert got == [0, 0, 1]
        sim.faults.delay_event(sub, 5)
        await publish(after=4)
        assert got == [0, 0, 1]
        await asyncio.sleep(2)
        sim.faults.reorder_event(sub)
        await publish()
        await publish(after=0.5)
        assert got == [0, 0, 1, 2, 4, 3]
        sim.faults.crash_handler(sub, turns=2)
        await publish(after=1)
        assert got[6:] == [5]
        happened = [fault.kind for fault in sim.faults.happened]
        assert happened == [
            *("duplicate_event", "drop_event", "delay_event"),
            *("reorder_event", "crash_handler"),
        ]
    return got


def test_faults_of_events_can_be_injected_by_hand():
    assert run(by_hand).unwrap() == [0, 0, 1, 2, 4, 3, 5]


async def refuses(sim: Sim) -> None:
    async with Swarm() as swarm:
        plain = await swarm.events.on(Order, lambda _: None)
        with pytest.raises(SimulationError, match="possible are drop_event"):
            sim.faults.delay_event(plain, 1.0)
        kept = await swarm.events.on(Order, Shop(sim).handle, name="kept")
        with pytest.raises(SimulationError, match="would break what 'kept' was"):
            sim.faults.reorder_event(kept)
        once = await swarm.events.on(Order, Shop(sim).handle)
        with pytest.raises(SimulationError, match="duplicate_event would break"):
            sim.faults.duplicate_event(once)
        async with swarm.events.subscribe(Order) as stream:
            with pytest.raises(SimulationError, match="drop_event would break"):
                sim.faults.drop_event(stream)
        with pytest.raises(SimulationError, match="no subscription 'nobody'"):
            sim.faults.drop_event("nobody")


def test_a_fault_that_would_break_a_promise_is_refused():
    """Nor is it ever planned: the occasions are not counted."""
    run(refuses).unwrap()
    assert explore(refuses, schedules=50, faults=EVENT_FAULTS).failure is None


def test_subscriptions_outside_a_simulation_know_nothing_of_faults():
    """In production they are plain."""

    async def program() -> set[type]:
        async with Swarm() as swarm:
            await swarm.events.on(Order, lambda _: None)
            await swarm.events.on(Order, print, name="kept")
            async with swarm.events.subscribe(Order):
                return {type(s) for s in swarm.events.subscriptions()}

    names = {cls.__name__ for cls in asyncio.run(program())}
    assert names == {"FunctionSubscription", "HandlerSubscription", "EventStream"}
    names = {cls.__name__ for cls in run(program).unwrap()}
    assert names == {"FaultyFunction", "FaultyHandler", "FaultyStream"}
