"""`swarm.events` as programs use it."""

import asyncio
import functools
import sys
from typing import Any

import pytest

from swarm import (
    Agent,
    Attempt,
    BusOptions,
    Closed,
    Compacted,
    ConfigMismatch,
    Event,
    InvalidTransition,
    Lagged,
    Limits,
    NameTaken,
    NotFound,
    Policy,
    Rule,
    StateCreated,
    StateDeleted,
    StateUpdated,
    Swarm,
    SwarmConfig,
    SystemAlert,
    TaskCompleted,
    correlated,
    event,
    keep_active_agents,
    on,
    record_completed_tasks,
)
from tests.support.virtual_loop import turns, virtual

TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


@event("order.placed")
class Placed:
    number: int


@event("order.basket")
class Basket:
    items: list[str]


@event("test.shipped")
class Shipped:
    order: str


class Shop(Agent):
    def __init__(self) -> None:
        self.seen: list[Event[Placed]] = []

    @on(Placed)
    async def placed(self, event: Event[Placed]) -> None:
        self.seen.append(event)
        await self.swarm.events.publish(Shipped(str(event.payload.number)))

    async def order(self, number: int) -> None:
        await self.swarm.events.publish(Placed(number))

    async def relay(self, ref: Any, number: int) -> None:
        await self.swarm.events.publish(Placed(-number))
        await ref.ask(Shop.order, number)

    async def numbers(self) -> list[int]:
        return [e.payload.number for e in self.seen]


@virtual
async def test_publish_returns_a_receipt() -> None:
    """E1, E8: in history when it returns; a key publishes once in its window."""
    async with Swarm() as swarm:
        got: list[Event[Placed]] = []
        await swarm.events.on(Placed, got.append)
        first = await swarm.events.publish(Placed(1), key="k")
        assert (first.delivered_to, first.duplicate) == (1, False)
        assert swarm.events.query(Placed)[-1].seq == first.seq
        again = await swarm.events.publish(Placed(1), key="k")
        assert again == (first.seq, 0, True)
        assert got == [], "E2: publishing runs no handler"
        await turns(2)
        assert [e.payload for e in got] == [Placed(1)]
        await asyncio.sleep(121)
        assert not (await swarm.events.publish(Placed(1), key="k")).duplicate
        with pytest.raises(TypeError, match="is not an event"):
            await swarm.events.publish("text")


@virtual
async def test_two_publishers_of_one_key() -> None:
    """E8: of two at a time, one publishes."""
    async with Swarm() as swarm:
        both = await asyncio.gather(
            *(swarm.events.publish(Placed(1), key="k") for _ in range(5))
        )
        assert sorted(r.duplicate for r in both) == [False, True, True, True, True]
        assert len({r.seq for r in both}) == 1


@virtual
async def test_payloads_are_isolated() -> None:
    """G9, E1: a published payload cannot be changed, not even by its publisher."""
    async with Swarm() as swarm:
        items = ["a"]
        async with swarm.events.subscribe(Basket) as one:
            await swarm.events.publish(Basket(items))
            got = await anext(one)
            got.payload.items.append("b")
            assert got.payload.items == ["a"]


@pytest.mark.parametrize(
    ("overflow", "expected"),
    [("drop-oldest", [3, 4, 5]), ("drop-newest", [1, 2, 3]), ("latest", [5])],
)
def test_overflow_drops(overflow: Any, expected: list[int]) -> None:
    """E17, E18: the buffer is bounded, and drops are counted."""

    @virtual
    async def scenario() -> None:
        async with (
            Swarm() as swarm,
            swarm.events.subscribe(Placed, buffer=3, overflow=overflow) as stream,
        ):
            for number in range(1, 6):
                await swarm.events.publish(Placed(number))
            got = [(await anext(stream)).payload.number for _ in expected]
            assert got == expected
            s = stream.stats
            assert s.received == 5
            assert s.dropped == 5 - len(expected)

    scenario()


@virtual
async def test_overflow_error_can_be_resumed() -> None:
    """E18, S12: `Lagged` says where to go on."""
    got: list[int] = []
    async with Swarm() as swarm:
        async with swarm.events.subscribe(Placed, buffer=3, overflow="error") as stream:
            for number in range(1, 6):
                await swarm.events.publish(Placed(number))
            with pytest.raises(Lagged) as lagged:
                async for each in stream:
                    got.append(each.payload.number)
        async with swarm.events.subscribe(Placed, since=lagged.value.last) as stream:
            got += [(await anext(stream)).payload.number for _ in range(2)]
        assert got == [1, 2, 3, 4, 5]


@virtual
async def test_a_full_stream_blocks_publish_and_no_other_commit() -> None:
    """E2, E18: only `publish` waits; a state write goes on, and is seen later."""
    async with Swarm() as swarm:
        stream = swarm.events.subscribe(
            [Placed, "state.**"], buffer=2, overflow="block"
        )
        async with stream:
            numbers: list[int] = []

            async def publisher() -> None:
                for number in range(1, 6):
                    await swarm.events.publish(Placed(number))
                    numbers.append(number)

            task = asyncio.ensure_future(publisher())
            await turns(20)
            assert numbers == [1, 2]
            await swarm.state.set("a", 1)
            await swarm.state.set("a", 2)
            seen = [(await anext(stream)).type for _ in range(4)]
            assert seen[:2] == ["order.placed"] * 2
            for _ in range(3):
                seen.append((await anext(stream)).type)
                await turns(3)
            await task
            assert sorted(seen) == ["order.placed"] * 5 + [
                "state.created",
                "state.updated",
            ]


@virtual
async def test_cancelling_a_blocked_publisher_publishes_nothing() -> None:
    """G3, T3: cancelled while it waits for room, it has had no effect."""
    async with (
        Swarm() as swarm,
        swarm.events.subscribe(Placed, buffer=1) as stream,
    ):

        async def publish(number: int) -> None:
            await swarm.events.publish(Placed(number))

        await asyncio.ensure_future(publish(1))
        for k in range(6):
            task = asyncio.ensure_future(publish(2))
            await turns(k)
            assert not task.done()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
        third = asyncio.ensure_future(publish(3))
        await turns(2)
        got = [(await anext(stream)).payload.number for _ in range(2)]
        await third
        assert got == [1, 3]


@virtual
async def test_cancelling_the_wait_for_an_event_loses_none() -> None:
    """T4: whenever the reader is cancelled, the next one gets the event."""
    async with Swarm() as swarm, swarm.events.subscribe(Placed) as stream:
        got: list[int] = []

        async def read() -> None:
            got.append((await anext(stream)).payload.number)

        number = 0
        for k in range(5):
            for late in (False, True):
                task = asyncio.ensure_future(read())
                await turns(k)
                if late:
                    number += 1
                    await swarm.events.publish(Placed(number))
                task.cancel()
                if not late:
                    number += 1
                    await swarm.events.publish(Placed(number))
                await asyncio.gather(task, return_exceptions=True)
        while len(got) < number:
            await read()
        assert got == list(range(1, number + 1))


@virtual
async def test_a_stream_ends_with_the_swarm() -> None:
    """G12, T5: buffered events come first, then the end."""
    swarm = await Swarm.open()
    stream = swarm.events.subscribe(Placed)
    async with stream:
        await swarm.events.publish(Placed(1))
        reader = asyncio.ensure_future(anext(stream))
        assert (await reader).payload.number == 1
        waiting = asyncio.ensure_future(_collect(stream))
        await turns(2)
        await swarm.close()
        assert await waiting == []
    with pytest.raises(Closed):
        await swarm.events.publish(Placed(1))
    with pytest.raises(Closed):
        swarm.events.query()


@virtual
async def test_a_stream_that_is_not_entered_says_so() -> None:
    """A forgotten `async with`: reading, pausing and resuming fail, and say why."""
    async with Swarm() as swarm:
        stream = swarm.events.subscribe(Placed)
        with pytest.raises(InvalidTransition, match="was not entered"):
            await anext(stream)
        for misuse in (stream.pause, stream.resume):
            with pytest.raises(InvalidTransition, match="was not entered"):
                misuse()


async def _collect(stream: Any) -> list[Any]:
    return [each async for each in stream]


@virtual
async def test_state_events() -> None:
    """E1, S15: changes of documents are events, hidden without the right to read."""
    policy = Policy(
        [Rule("shop", "open", "r"), Rule("*", "agents.*.*", "rw", own=True)]
    )
    async with Swarm(policy=policy) as swarm:
        shop = await swarm.spawn(Shop, name="shop")
        mine = shop._cell.host.surfaces(shop.identity).swarm.events
        async with (
            mine.subscribe("state.*") as seen,
            swarm.events.subscribe("state.*") as all_of_it,
        ):
            await swarm.state.set("open.a", 1)
            await swarm.state.set("secret", 1)
            await swarm.state.set("open.a", 2)
            await swarm.state.delete("open.a")
            await swarm.state.set("short", 1, ttl=1)
            await asyncio.sleep(2)
            theirs = [(await anext(seen)).payload for _ in range(3)]
            assert [type(p) for p in theirs] == [
                StateCreated,
                StateUpdated,
                StateDeleted,
            ]
            assert theirs[1].old_value == 1
            rest = [(await anext(all_of_it)) for _ in range(6)]
            assert rest[-1].payload == StateDeleted("short", rest[-2].seq, 1, True)
        paths = {e.payload.path for e in mine.query("state.*")}
        assert "secret" not in paths
        assert "open.a" in paths


@virtual
async def test_correlation_flows_everywhere() -> None:
    """E19: asks, tells and events carry the correlation id and the trace."""
    async with Swarm() as swarm:
        ada = await swarm.spawn(Shop, name="ada")
        bo = await swarm.spawn(Shop, name="bo")
        await ada.ask(Shop.relay, bo, 5)
        await asyncio.sleep(1)
        placed = swarm.events.query(Placed)
        assert len({e.correlation_id for e in placed}) == 1
        done = swarm.events.query(Shipped)
        assert {e.correlation_id for e in done} == {placed[0].correlation_id}
        assert {e.causation_id for e in done} == {e.id for e in placed}
        assert all(e.depth == 1 and e.seq > placed[0].seq for e in done)
        with correlated("request-7", trace=TRACE):
            await ada.tell(Shop.order, 9)
        await asyncio.sleep(1)
        found = swarm.events.query(correlation_id="request-7")
        assert [e.type for e in found].count("test.shipped") == 2
        assert {e.trace for e in found} == {TRACE}
        await swarm.events.publish(Placed(1))
        assert swarm.events.query(Placed)[-1].causation_id is None
    with pytest.raises(ValueError, match="traceparent"), correlated(trace="00-1-2-3"):
        pass


@virtual
async def test_handlers_that_publish_in_a_circle_are_stopped() -> None:
    """E19: the depth limit ends event loops."""
    async with Swarm(config=SwarmConfig(events=BusOptions(depth=5))) as swarm:

        async def again(event: Event[Placed]) -> None:
            await swarm.events.publish(Placed(event.payload.number + 1))

        async def write(event: Event[StateUpdated]) -> None:
            await swarm.state.set("a", event.seq)

        sub = await swarm.events.on(Placed, again)
        await swarm.events.on("state.*", write)
        await swarm.events.publish(Placed(0))
        await swarm.state.set("a", 0)
        await asyncio.sleep(10)
        assert swarm.events.query(Placed)[-1].payload.number == 5
        (letter,) = await swarm.events.dead_letters.list(sub.name)
        assert letter.error.type == "LimitExceeded"
        assert "event loops: 1 deliveries were not made" in swarm.explain()


@virtual
async def test_an_agents_methods_are_turns() -> None:
    """Q11: an agent hears events from before it is announced until it ends."""
    async with Swarm() as swarm:
        shop = await swarm.spawn(Shop, name="shop")
        for number in range(3):
            await swarm.events.publish(Placed(number))
        assert await shop.ask(Shop.numbers) == [0, 1, 2]
        await shop.stop()
        receipt = await swarm.events.publish(Placed(4))
        assert receipt.delivered_to == 0
        assert swarm.events.subscriptions() == []


@virtual
async def test_a_full_mailbox_drops_with_an_alert() -> None:
    """E18: bounded; never silently."""
    alerts: list[Event[SystemAlert]] = []
    async with Swarm() as swarm:
        await swarm.events.on(SystemAlert, alerts.append)
        shop = await swarm.spawn(Shop, mailbox=2)
        for number in range(6):
            await swarm.events.publish(Placed(number))
        (heard,) = [s for s in swarm.events.subscriptions() if "placed" in s.name]
        assert (heard.stats.processed, heard.stats.dropped) == (4, 2)
        await asyncio.sleep(1)
        assert [a.payload.kind for a in alerts] == ["events-lost"] * 2
        assert await shop.ask(Shop.numbers) == [0, 1, 2, 3]


@virtual
async def test_failures_are_seen_and_never_recursive() -> None:
    """E2, E10: counted, alerted, requeued; an alert's own failure is only counted."""
    async with Swarm() as swarm:
        broken = True
        got: list[int] = []

        def handler(event: Event[Placed]) -> None:
            if broken:
                raise ValueError("no")
            got.append(event.payload.number)

        def deaf(event: Event[SystemAlert]) -> None:
            raise ValueError("not this either")

        sub = await swarm.events.on(Placed, handler)
        other = await swarm.events.on(SystemAlert, deaf)
        await swarm.events.publish(Placed(1))
        await asyncio.sleep(1)
        (alert,) = swarm.events.query(SystemAlert)
        letters = swarm.events.dead_letters
        assert alert.payload.subject == sub.name
        mine, theirs = await letters.list()
        assert alert.payload.event_id == mine.event.id
        assert (sub.stats.dead, other.stats.dead) == (1, 1)
        assert "ValueError: no" in swarm.explain()
        broken = False
        await letters.requeue(mine.id)
        await asyncio.sleep(1)
        assert (got, sub.stats.dead, sub.stats.processed) == ([1], 0, 1)
        assert await letters.discard(theirs.id)
        assert not await letters.discard(theirs.id)
        assert not await letters.list()
        with pytest.raises(NotFound):
            await letters.requeue(mine.id)


@virtual
async def test_a_raising_predicate_matches_nothing() -> None:
    """E15: no match, and counted."""
    async with Swarm() as swarm:
        got: list[Any] = []
        sub = await swarm.events.on(Placed, got.append, where=lambda e: 1 // 0 > 0)
        receipt = await swarm.events.publish(Placed(1))
        await asyncio.sleep(1)
        assert (got, sub.stats.errors, sub.stats.received) == ([], 1, 0)
        assert receipt.delivered_to == 1, "counted before `where` is asked"


@virtual
async def test_subscribing_and_cancelling_inside_a_handler() -> None:
    """E13, E12: a new one does not see the current event; a cancelled one neither."""
    async with Swarm() as swarm:
        log: list[str] = []
        subs: list[Any] = []

        async def late() -> None:
            subs.append(await swarm.events.on(Placed, lambda e: log.append("late")))

        def first(event: Event[Placed]) -> None:
            log.append("first")
            victim.cancel()

        async def third(event: Event[Placed]) -> None:
            await late()

        await swarm.events.on(Placed, first)
        victim = await swarm.events.on(Placed, lambda e: log.append("victim"))
        await swarm.events.on(Placed, third)
        await swarm.events.publish(Placed(1))
        await asyncio.sleep(1)
        assert log == ["first"]
        assert victim.stats.dropped == 1
        await swarm.events.publish(Placed(2))
        await asyncio.sleep(1)
        assert log == ["first", "first", "late"]


@virtual
async def test_replay_joins_live_without_gap_or_duplicate() -> None:
    """H4, H6: under concurrent publishing, for slow and fast handlers."""
    async with Swarm() as swarm:
        for number in range(20):
            await swarm.events.publish(Placed(number))
        got: list[tuple[int, bool]] = []
        others: list[int] = []
        await swarm.events.on(Placed, lambda e: others.append(e.payload.number))

        async def handler(event: Event[Placed]) -> None:
            await turns(event.payload.number % 3)
            got.append((event.payload.number, event.replayed))

        async def publisher() -> None:
            for number in range(20, 60):
                await swarm.events.publish(Placed(number))
                await turns(number % 2)

        task = asyncio.ensure_future(publisher())
        sub = await swarm.events.replay(Placed, since=5, handler=handler)
        await task
        await asyncio.sleep(1)
        assert [number for number, _ in got] == list(range(5, 60))
        assert [r for _, r in got] == [True] * 15 + [False] * 40
        assert others == list(range(20, 60))
        assert sub.stats.processed == 55
        done = await swarm.events.replay(Placed, since=0, handler=handler, follow=False)
        assert done.status == "cancelled"


@virtual
async def test_events_that_left_the_log_are_reported() -> None:
    """H5: `Compacted`, never a silent skip; H2: cursors and pages."""
    config = SwarmConfig(limits=Limits(log_commits=10))
    async with Swarm(config=config) as swarm:
        for number in range(30):
            await swarm.events.publish(Placed(number))
        with pytest.raises(Compacted):
            swarm.events.query(after_seq=1)
        with pytest.raises(Compacted):
            async with swarm.events.subscribe(Placed, since=1):
                pass
        with pytest.raises(Compacted):
            await swarm.events.replay(since=1, handler=print)
        kept = await swarm.events.query(Placed)
        assert kept == swarm.events.query("order.*", sources="owner")
        assert [e.payload.number for e in kept] == list(range(30 - len(kept), 30))
        first = swarm.events.query(Placed, limit=3)
        await swarm.events.publish(Placed(99))
        assert swarm.events.query(Placed, after_seq=first[-1], limit=1) == kept[3:4]
        assert swarm.events.query(Placed, limit=0) == []
        with pytest.raises(Compacted):  # the first of them is not the first any more
            swarm.events.query(Placed, offset=2, limit=2, upto=first.upto)
        now = swarm.events.query(Placed)
        assert swarm.events.query(Placed, offset=2, limit=2, upto=now.upto) == now[2:4]
        assert swarm.events.query(before=kept[1].timestamp, after=kept[0].at) in (
            kept[:1],
            [],
        )


@virtual
async def test_names_and_groups_are_exclusive() -> None:
    """G14, E16: one active subscription of a name; a group has one configuration."""
    async with Swarm() as swarm:
        on_ = swarm.events.on
        sub = await on_(Placed, print, name="billing")
        with pytest.raises(NameTaken):
            await on_(Placed, print, name="billing")
        await sub.cancel()
        await sub.cancel()
        with pytest.raises(Closed):
            sub.pause()
        got: dict[str, list[int]] = {"a": [], "b": []}

        async def member(name: str, event: Event[Placed]) -> None:
            await asyncio.sleep(1)
            got[name].append(event.payload.number)

        for name in got:
            await on_(Placed, functools.partial(member, name), group="g")
        with pytest.raises(ConfigMismatch):
            await on_("order.*", print, group="g")
        for number in range(10):
            await swarm.events.publish(Placed(number))
        await asyncio.sleep(20)
        assert sorted(got["a"] + got["b"]) == list(range(10))
        assert got["a"]
        assert got["b"]


@virtual
async def test_a_handler_that_hangs_is_tried_again() -> None:
    """E5, E6: `ack_wait` without a sign; `in_progress` extends; a stale one raises."""
    async with Swarm() as swarm:
        attempts: list[int] = []
        keys: set[str] = set()

        async def hang(event: Event[Placed], attempt: Attempt) -> None:
            attempts.append(attempt.number)
            keys.add(attempt.key)
            if attempt.number == 1:
                await asyncio.sleep(4)
                attempt.in_progress()
                await asyncio.sleep(4)
                attempt.in_progress()
                await asyncio.sleep(1_000)

        sub = await swarm.events.on(
            Placed, hang, delivery="at-least-once", ack_wait=5, name="hang"
        )
        await swarm.events.publish(Placed(1))
        await asyncio.sleep(12)
        assert attempts == [1]
        await asyncio.sleep(20)
        assert attempts == [1, 2]
        assert keys == {"hang:" + swarm.events.query(Placed)[0].id}
        assert (sub.stats.processed, sub.stats.errors) == (1, 1)


@virtual
async def test_reactions() -> None:
    """The reactive coordinator: completed tasks recorded, active agents kept."""
    async with Swarm() as swarm:
        await swarm.events.react(TaskCompleted, record_completed_tasks)
        await swarm.events.react("agent.*", keep_active_agents)
        seen: list[str] = []
        await swarm.events.react(Placed, lambda e: seen.append(e.type), name="mine")
        shop = await swarm.spawn(Shop, name="shop")
        await swarm.events.publish(Placed(7))
        task = await swarm.tasks.submit("ship")
        async with swarm.tasks.claim("ship"):
            pass
        await asyncio.sleep(1)
        assert await swarm.state.get("global.active_agents") == {"shop": "shop"}
        assert await swarm.state.get(f"global.completed_tasks.{task.id}") is True
        await shop.stop()
        await asyncio.sleep(1)
        assert await swarm.state.get("global.active_agents", None) is None
        assert seen == ["order.placed"]


@virtual
async def test_a_swarm_ends_when_its_handlers_are_done() -> None:
    """G12: a clean end waits for due events, at most for `drain_timeout`."""
    got: list[int] = []

    async def slow(event: Event[Placed]) -> None:
        await asyncio.sleep(event.payload.number)
        got.append(event.payload.number)

    async with Swarm() as swarm:
        await swarm.events.on(Placed, lambda e: got.append(-e.payload.number))
        await swarm.events.on(Placed, slow)
        for number in (1, 2):
            await swarm.events.publish(Placed(number))
    assert sorted(got) == [-2, -1, 1, 2]
    got.clear()
    began = asyncio.get_running_loop().time()
    async with Swarm() as swarm:
        sub = await swarm.events.on(Placed, slow)
        for number in (1_000, 1):
            await swarm.events.publish(Placed(number))
    assert asyncio.get_running_loop().time() - began < 11
    assert got == []
    s = sub.stats
    assert (s.received, s.processed, s.dropped) == (2, 1, 1)


@virtual
async def test_a_stream_from_the_past_lets_publishers_go_on() -> None:
    """E18: reading up to the present lets blocked publishers in."""
    async with Swarm() as swarm:
        await swarm.events.publish(Placed(0))
        got: list[int] = []

        async def read() -> None:
            async with swarm.events.subscribe(Placed, since=0, buffer=1) as stream:
                await turns(3)
                async for each in stream:
                    got.append(each.payload.number)
                    if len(got) == 6:
                        return

        reader = asyncio.ensure_future(read())
        await turns(1)
        for number in range(1, 6):
            await swarm.events.publish(Placed(number))
        await reader
        assert got == list(range(6))


@virtual
async def test_publishing_takes_no_time_of_handlers() -> None:
    """E2: no handler, however slow, is between a publisher and its receipt."""
    async with Swarm() as swarm:
        loop = asyncio.get_running_loop()

        async def slow(event: Event[Placed]) -> None:
            await asyncio.sleep(1)

        for delivery in ("at-most-once", "at-least-once"):
            await swarm.events.on(Placed, slow, delivery=delivery)  # type: ignore[arg-type]
        shop = await swarm.spawn(Shop)
        began = loop.time()
        for number in range(300):
            await swarm.events.publish(Placed(number))
        assert loop.time() == began
        await shop.kill()
        for sub in swarm.events.subscriptions():
            sub.cancel()


@virtual
async def test_a_paused_handler_that_hangs_is_given_up_all_the_same() -> None:
    """E5, E12: `ack_wait` goes on for the current runs; no run starts."""
    async with Swarm() as swarm:

        async def hang(event: Event[Placed]) -> None:
            await asyncio.sleep(1_000)

        sub = await swarm.events.on(
            Placed,
            hang,
            delivery="at-least-once",
            ack_wait=5,
            ordered=False,
            max_retries=0,
        )
        await swarm.events.publish(Placed(1))
        await asyncio.sleep(2)
        await swarm.events.publish(Placed(2))
        await asyncio.sleep(2)
        settled = sub.pause()
        await swarm.events.publish(Placed(3))
        await settled
        await asyncio.sleep(10)
        s = sub.stats
        assert (s.dead, s.in_flight, s.buffered) == (2, 0, 1)


@virtual
async def test_a_page_costs_the_same_however_long_history_is() -> None:
    """H2: `after_seq` and `after` begin where they say, and do not scan."""
    calls = 0

    def count(frame: Any, what: str, _: Any) -> None:
        nonlocal calls
        calls += what == "call"

    async with Swarm() as swarm:

        def cost(**options: Any) -> int:
            nonlocal calls
            swarm.events.query(limit=1)  # has read what is new
            calls = 0
            before = sys.getprofile()
            sys.setprofile(count)
            try:
                page = swarm.events.query(limit=1, **options)
            finally:
                sys.setprofile(before)
            assert [event.payload.number for event in page] == [7]
            return calls

        costs: list[int] = []
        for more in (20, 2_000):
            for _ in range(more):
                await swarm.events.publish(Placed(0))
            await asyncio.sleep(1)
            receipt = await swarm.events.publish(Placed(7))
            at = swarm.events.query(Placed)[-1].at
            costs.append(cost(types=Placed, after_seq=receipt.seq - 1))
            costs.append(cost(after_seq=receipt.seq - 1))
            costs.append(cost(types=Placed, after=at))
        assert max(costs) < 2 * min(costs) + 100
