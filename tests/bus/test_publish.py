"""Publishing: keys, guards, limits, and waiting for room."""

import asyncio
import datetime
import enum
import math
from typing import Any

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from swarm import (
    Agent,
    AskTimeout,
    BusOptions,
    DeadlockError,
    Event,
    InvalidPath,
    LimitExceeded,
    Limits,
    StaleLease,
    Swarm,
    SwarmConfig,
    event,
)
from swarm.model import UNKNOWN, measure_of
from swarm.ports import Expect
from tests.support.virtual_loop import VirtualLoop, turns, virtual


@event("pub.ping")
class Ping:
    number: int


@event("pub.pong")
class Pong:
    number: int


@event("pub.text")
class Text:
    text: str
    more: Any = None


# --- keys -----------------------------------------------------------------------------


@given(
    st.lists(
        st.tuples(st.sampled_from("abcdef"), st.integers(0, 5)), min_size=1, max_size=25
    ),
    st.integers(1, 4),
)
def test_a_key_publishes_once_in_its_window(
    published: list[tuple[str, int]], most: int
) -> None:
    """E8: against a dict of when each key was published; bounded by count and age."""

    async def scenario() -> None:
        options = BusOptions(dedupe_keys=most, dedupe_seconds=10)
        async with Swarm(config=SwarmConfig(events=options)) as swarm:
            model: dict[str, tuple[int, float]] = {}
            now = 0.0
            for key, passed in published:
                await asyncio.sleep(passed)
                now += passed
                model = {k: v for k, v in model.items() if now - v[1] < 10}
                receipt = await swarm.events.publish(Ping(1), key=key)
                if key in model:
                    assert receipt == (model[key][0], 0, True)
                    continue
                assert not receipt.duplicate
                model[key] = (receipt.seq, now)
                for oldest in sorted(model, key=lambda k: model[k][0])[:-most]:
                    del model[oldest]
                kept = await swarm.state.get('receipts["pub.ping"].program', {})
                assert set(kept) == set(model)

    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        runner.run(scenario())


@virtual
async def test_a_receipt_is_a_document_of_the_same_commit() -> None:
    """E8: its version is the seq, so a duplicate is told by the condition alone."""
    async with Swarm() as swarm:
        receipt = await swarm.events.publish(Ping(1), key="a.b/c [x]")
        path = 'receipts["pub.ping"].program["a.b/c [x]"]'
        document = await swarm.state.read(path)
        assert document is not None
        assert document.version == receipt.seq
        assert swarm.events.query(Ping)[0].key == "a.b/c [x]"
        before = swarm._coordinator.kernel.revision
        again = await swarm.events.publish(Ping(2), key="a.b/c [x]")
        assert again == (receipt.seq, 0, True)
        assert swarm._coordinator.kernel.revision == before, "S4: no commit"


@pytest.mark.parametrize("key", ["", "x" * 600, 7, b"k", "\ud800"])
def test_a_key_that_can_be_no_name(key: Any) -> None:
    """InvalidPath, before any effect."""

    @virtual
    async def scenario() -> None:
        async with Swarm() as swarm:
            with pytest.raises((InvalidPath, LimitExceeded)):
                await swarm.events.publish(Ping(1), key=key)
            assert swarm.events.query(Ping) == []

    scenario()


def test_publishing_a_key_at_once_from_everywhere() -> None:
    """E8: of many publishers of one key, in every order, one publishes."""

    class PausingLoop(VirtualLoop):
        async def pause(self) -> None:
            await asyncio.sleep(0)

    async def scenario() -> None:
        async with Swarm() as swarm:
            both = await asyncio.gather(
                *(swarm.events.publish(Ping(n), key="k") for n in range(20))
            )
            assert sorted(r.duplicate for r in both) == [False] + [True] * 19
            assert len({r.seq for r in both}) == 1
            assert len(swarm.events.query(Ping)) == 1

    with asyncio.Runner(loop_factory=PausingLoop) as runner:
        runner.run(scenario())


# --- guards ---------------------------------------------------------------------------


@virtual
async def test_a_guard_lets_only_the_live_holder_publish() -> None:
    """S16: the event is committed while the lease holds, else nothing happens."""
    async with Swarm() as swarm:
        got: list[int] = []
        await swarm.events.on(Ping, lambda e: got.append(e.payload.number))
        lease = await swarm.lock("x").acquire(ttl=5)
        receipt = await swarm.events.publish(Ping(1), guard=lease)
        assert receipt.delivered_to == 1
        await swarm.events.publish(Ping(2), key="k", guard=lease)
        await asyncio.sleep(6)
        before = swarm._coordinator.kernel.revision
        for key in (None, "new", "k"):
            with pytest.raises(StaleLease):
                await swarm.events.publish(Ping(3), key=key, guard=lease)
        assert swarm._coordinator.kernel.revision == before
        assert got == [1, 2]
        assert set(await swarm.state.get('receipts["pub.ping"].program')) == {"k"}
        next_lease = await swarm.lock("x").acquire()
        await next_lease.release()
        with pytest.raises(StaleLease):
            await swarm.events.publish(Ping(3), guard=next_lease)


@virtual
async def test_a_guard_of_ones_own() -> None:
    """Its conditions are checked in the commit; a conflict of its own is raised."""
    from swarm import ConflictError
    from swarm.model import Path

    class Guard:
        def conditions(self) -> list[Any]:
            return [Expect(Path.parse("a"), 0)]

    async with Swarm() as swarm:
        await swarm.events.publish(Ping(1), key="k", guard=Guard())
        await swarm.state.set("a", 1)
        with pytest.raises(ConflictError):
            await swarm.events.publish(Ping(2), key="k2", guard=Guard())
        assert len(swarm.events.query(Ping)) == 1


# --- how large ------------------------------------------------------------------------


class Color(enum.Enum):
    RED = "red"


@attrs.frozen
class Inner:
    text: str


@event("pub.fixed")
class Fixed:
    a: int
    b: float | None
    c: datetime.datetime
    d: float
    e: bool = True


@event("pub.all")
class Everything:
    text: str = ""
    blob: bytes = b""
    items: list[Any] = attrs.field(factory=list)
    table: dict[str, Any] = attrs.field(factory=dict)
    inner: Inner | None = None
    thing: Any = None


BIG = 300 * 1024


@pytest.mark.parametrize(
    "payload",
    [
        Text("x" * BIG),
        Text("ä" * (BIG // 2)),
        Everything(blob=b"x" * BIG),
        Everything(items=["x" * 1024] * 300),
        Everything(items=[[["x" * BIG]]]),
        Everything(table={"x" * BIG: 1}),
        Everything(table={"a": {"b": ["x" * BIG]}}),
        Everything(inner=Inner("x" * BIG)),
        Everything(thing={"x" * BIG}),
        Everything(items=[0] * BIG),
    ],
    ids=lambda p: type(p).__name__,
)
def test_a_payload_that_is_too_large(payload: Any) -> None:
    """DESIGN 8: a typed error that names limit and option, before any effect."""

    @virtual
    async def scenario() -> None:
        async with Swarm() as swarm:
            for key in (None, "k"):
                with pytest.raises(LimitExceeded, match="payload_bytes") as caught:
                    await swarm.events.publish(payload, key=key)
                assert "262144" in str(caught.value)
            assert swarm._coordinator.kernel.revision == 0

    scenario()


def test_the_size_of_a_payload_counts_text_and_bytes() -> None:
    """Numbers and the like cost nothing, text its length; the rest is unknown."""
    fixed = Fixed(1, None, datetime.datetime.now(datetime.UTC), 2)
    assert measure_of(Fixed)(fixed) == 0
    assert measure_of(Text)(Text("ä" * 10)) == 20
    assert measure_of(Ping)(Ping(2**63 - 1)) == 0
    assert measure_of(Ping)(Ping(2**63)) == UNKNOWN
    assert measure_of(Text)(Text("\ud800")) == UNKNOWN
    assert measure_of(Fixed)(attrs.evolve(fixed, d=math.inf)) == UNKNOWN
    assert measure_of(Fixed)(attrs.evolve(fixed, a="1")) == UNKNOWN
    everything = Everything("a" * 100, b"b" * 100, ["c" * 100], {"d": "e" * 99})
    assert measure_of(Everything)(everything) == UNKNOWN


@virtual
async def test_large_payloads_within_the_limit_count_for_the_log() -> None:
    """Limits.log_bytes holds for events as well."""
    config = SwarmConfig(
        limits=Limits(log_bytes=1_000_000), events=BusOptions(payload_bytes=400_000)
    )
    async with Swarm(config=config) as swarm:
        for _ in range(10):
            await swarm.events.publish(Text("x" * BIG))
        assert len(swarm.events.query(Text)) == 3


@pytest.mark.parametrize("payload", [Ping, "text", None, 5, object(), Inner("x")])
def test_publishing_a_value_that_is_no_event_is_refused(payload: Any) -> None:
    """One clear TypeError."""

    @virtual
    async def scenario() -> None:
        async with Swarm() as swarm:
            with pytest.raises(TypeError):
                await swarm.events.publish(payload)
            with pytest.raises(TypeError):
                await swarm.events.publish(payload, key="k")
            assert swarm._coordinator.kernel.revision == 0

    scenario()


# --- waiting for room -----------------------------------------------------------------


async def _echo(swarm: Swarm, mine: Any, other: Any, ready: Any) -> int:
    """Read one stream and answer into the other, for ever."""
    count = 0
    async with swarm.events.subscribe(mine, buffer=1) as stream:
        ready.set()
        async for _ in stream:
            for _ in range(4):
                await swarm.events.publish(other(count))
                count += 1
    return count


@virtual
async def test_two_streams_that_publish_to_each_other() -> None:
    """L15 for room: the publish that closes the cycle is told, at once; no hang."""
    async with Swarm() as swarm:
        one, two = asyncio.Event(), asyncio.Event()
        a = asyncio.create_task(_echo(swarm, Ping, Pong, one), name="a")
        b = asyncio.create_task(_echo(swarm, Pong, Ping, two), name="b")
        await one.wait()
        await two.wait()
        await swarm.events.publish(Ping(0))
        done, rest = await asyncio.wait([a, b], return_when="FIRST_COMPLETED")
        (failed,) = done
        with pytest.raises(DeadlockError) as caught:
            await failed
        text = str(caught.value)
        assert "room in the stream" in text
        assert "pub.pong" in text or "Pong" in text
        assert "task 'a'" in text
        assert "task 'b'" in text
        (other,) = rest
        await asyncio.sleep(1)
        assert not other.done(), "exactly one victim"
        other.cancel()
        await asyncio.gather(other, return_exceptions=True)
        assert len(swarm._coordinator.graph) == 0


class Relay(Agent):
    async def send(self, number: int) -> None:
        await self.swarm.events.publish(Ping(number))

    async def drain(self, other: Any, first: int) -> None:
        async with self.swarm.events.subscribe(Ping, buffer=1) as stream:
            for number in range(first):
                await other.ask(Relay.send, number)
                await anext(stream)
            for number in range(3):
                await other.ask(Relay.send, number)

    async def hold(self) -> None:
        async with self.swarm.lock("x"):
            await self.swarm.events.publish(Ping(1))
            await self.swarm.events.publish(Ping(2))


@virtual
async def test_a_reader_that_asks_its_publisher_closes_a_cycle() -> None:
    """L15: the edge of room and the edge of an ask are in one graph."""
    async with Swarm() as swarm:
        one, two = await swarm.spawn(Relay, name="one"), await swarm.spawn(Relay)
        with pytest.raises(DeadlockError, match=r"'one' in Relay\.drain reads"):
            await one.ask(Relay.drain, two, 2)
        # Who has entered and not read may have somebody else read: nothing is claimed.
        with pytest.raises(AskTimeout):
            await one.within(5).ask(Relay.drain, two, 0)


@virtual
async def test_a_reader_that_waits_for_a_lock_of_its_publisher() -> None:
    """L15: the edge of room and the edge of a lock are in one graph."""
    async with Swarm() as swarm:
        relay = await swarm.spawn(Relay, name="relay")
        async with swarm.events.subscribe(Ping, buffer=1) as stream:
            stream.__aiter__()
            holding = asyncio.create_task(relay.ask(Relay.hold))
            await turns(5)
            with pytest.raises(DeadlockError):
                await swarm.lock("x").acquire(timeout=60)
            async for _ in stream:
                if holding.done():
                    break
                await turns(5)
            await holding


@virtual
async def test_no_false_alarm_among_readers() -> None:
    """L15: readers that look blocked raise no alarm."""
    async with Swarm() as swarm:
        seen: list[int] = []

        # Another task reads than the one that entered, and publishes meanwhile.
        async def read(stream: Any) -> None:
            while len(seen) < 30:
                seen.append((await anext(stream)).payload.number)
                await asyncio.sleep(1)

        async with (
            swarm.events.subscribe(Ping, buffer=1) as pings,
            swarm.events.subscribe(Pong, buffer=1) as pongs,
        ):

            async def answer() -> None:
                for number in range(30):
                    await anext(pongs)
                    await swarm.events.publish(Ping(number))

            async with asyncio.TaskGroup() as group:
                group.create_task(read(pings))
                group.create_task(answer())
                for number in range(30):
                    await swarm.events.publish(Pong(number))
        assert seen == list(range(30))


@virtual
async def test_two_readers_of_one_stream_are_no_cycle() -> None:
    """L15: of several readers any may come back; nothing is claimed."""
    async with Swarm() as swarm, swarm.events.subscribe(Ping, buffer=1) as pings:
        got: list[int] = []

        async def other() -> None:
            got.append((await anext(pings)).payload.number)
            await asyncio.sleep(100)
            async for each in pings:
                got.append(each.payload.number)
                if len(got) == 6:
                    return

        task = asyncio.create_task(other())
        await turns(2)
        await swarm.events.publish(Ping(0))
        await turns(2)

        async def me() -> None:
            await swarm.events.publish(Ping(1))
            got.append((await anext(pings)).payload.number)
            await swarm.events.publish(Ping(2))
            await swarm.events.publish(Ping(3))

        publisher = asyncio.create_task(me())
        await asyncio.sleep(1)
        for number in (4, 5):
            await swarm.events.publish(Ping(number))
        await publisher
        await task
        assert sorted(got) == list(range(6))


@virtual
async def test_a_reader_publishes_to_itself() -> None:
    """E18: the reader itself does not wait for room, and loses nothing."""
    async with Swarm() as swarm:
        got: list[int] = []
        async with swarm.events.subscribe(Ping, buffer=2) as stream:
            for number in range(10):
                await swarm.events.publish(Ping(number))
            async for each in stream:
                got.append(each.payload.number)
                if len(got) == 10:
                    break
        assert got == list(range(10))


class Listening(Agent):
    """Reads a stream over many turns: each is a reader of its own."""

    async def started(self) -> None:
        self.stream = self.swarm.events.subscribe(Ping, buffer=1)
        await self.stream.__aenter__()

    async def read(self) -> int:
        got: Event[Ping] = await anext(self.stream)
        return got.payload.number

    async def stopping(self) -> None:
        await self.stream.__aexit__(None, None, None)


@virtual
async def test_an_agent_reads_in_one_turn_after_the_other() -> None:
    """L15: a turn that is over has no edge."""
    async with Swarm() as swarm:
        agent = await swarm.spawn(Listening)

        async def publish() -> None:
            for number in range(10):
                await swarm.events.publish(Ping(number))

        task = asyncio.create_task(publish())
        got = [await agent.ask(Listening.read) for _ in range(10)]
        await task
        assert got == list(range(10))
