"""Streams: order, a window, one end (semantics.md, T)."""

import asyncio
import contextlib
import gc

import pytest

from swarm import AgentDied, AskTimeout, NoSuchAgent, Swarm, SwarmConfig
from tests.support.actors import Worker
from tests.support.virtual_loop import turns, virtual


@virtual
async def test_items_come_in_order_and_then_the_end():
    """T1, T5, T7: FIFO, dense, and every receiver sees the end."""
    async with Swarm() as swarm:
        ref = await swarm.spawn(Worker)
        stream = ref.stream(Worker.count, 100)
        assert [item async for item in stream] == list(range(100))
        with pytest.raises(StopAsyncIteration):
            await anext(stream)
        assert [item async for item in ref.proxy.count(3)] == [0, 1, 2]


@virtual
async def test_the_producer_is_at_most_the_window_ahead():
    """T2: sent minus consumed never exceeds the window."""
    async with Swarm(config=SwarmConfig(stream_window=4)) as swarm:
        diary: list[str] = []
        ref = await swarm.spawn(Worker, diary)
        consumed = 0
        async for _ in ref.stream(Worker.count, 30):
            await turns(20)
            consumed += 1
            assert sum("yield" in line for line in diary) <= consumed + 4


@virtual
async def test_nothing_is_sent_before_the_first_item_is_wanted():
    """T3: a stream that is never read has no effect."""
    async with Swarm() as swarm:
        diary: list[str] = []
        ref = await swarm.spawn(Worker, diary)
        ref.stream(Worker.count, 3)
        await turns(5)
        assert diary == []
        async with ref.stream(Worker.count, 1):
            await turns(5)
            assert diary[0] == "begin count"


@virtual
async def test_leaving_early_cancels_the_producer():
    """T9: the consumer is gone; by break, by aclose, by cancellation."""
    async with Swarm() as swarm:
        diary: list[str] = []
        ref = await swarm.spawn(Worker, diary)
        async for item in ref.stream(Worker.count, 1000):
            if item == 3:
                break
        gc.collect()
        await turns(5)
        assert diary.pop() == "closed count"
        async with ref.stream(Worker.count, 1000) as stream:
            await anext(stream)
        await turns(5)
        assert diary.pop() == "closed count"
        await stream.aclose()
        assert ref.load == 0
        assert await ref.ask(Worker.add, 1) == 1


@virtual
async def test_a_cancelled_wait_loses_no_item():
    """T4: the item is there for the next to ask."""
    async with Swarm() as swarm:
        ref = await swarm.spawn(Worker)
        for k in range(12):
            stream = ref.stream(Worker.count, 5)
            wait = asyncio.ensure_future(anext(stream))
            await turns(k)
            wait.cancel()
            first: list[int] = []
            with contextlib.suppress(asyncio.CancelledError):
                first.append(await wait)
            rest = [item async for item in stream]
            assert first + rest == [0, 1, 2, 3, 4], k


@virtual
async def test_an_error_comes_after_the_items_before_it():
    """T5: buffered items first; the terminal state is final."""
    async with Swarm() as swarm:
        ref = await swarm.spawn(Worker)
        stream = ref.stream(Worker.count_then_fail, 3)
        got = []
        with pytest.raises(ValueError, match="after the items"):
            async for item in stream:
                got.append(item)
        assert got == [0, 1, 2]
        with pytest.raises(ValueError, match="after the items"):
            await anext(stream)


@virtual
async def test_silence_is_a_timeout_that_ends_the_stream():
    """T10: the ref's time-out bounds the wait for each item."""
    async with Swarm() as swarm:
        ref = await swarm.spawn(Worker)
        stream = ref.within(5).stream(Worker.silent)
        assert await anext(stream) == 1
        with pytest.raises(AskTimeout) as caught:
            await anext(stream)
        assert caught.value.started
        assert await ref.ask(Worker.add, 1) == 1


@virtual
async def test_readers_wake_when_the_agent_dies():
    """T6, Q2: at once, all of them."""
    async with Swarm() as swarm:
        ref = await swarm.spawn(Worker)
        stream = ref.stream(Worker.silent)
        assert await anext(stream) == 1
        readers = [asyncio.ensure_future(anext(stream)) for _ in range(2)]
        await turns(3)
        ref.kill()
        for reader in readers:
            with pytest.raises(AgentDied):
                await reader
        with pytest.raises(NoSuchAgent):
            await anext(ref.stream(Worker.silent))


@virtual
async def test_several_readers_share_the_items():
    """T11: in queue mode each item goes to one reader."""
    async with Swarm(config=SwarmConfig(stream_window=1)) as swarm:
        ref = await swarm.spawn(Worker)
        stream = ref.stream(Worker.count, 20)

        async def read() -> list[int]:
            return [item async for item in stream]

        parts = await asyncio.gather(read(), read(), read())
        assert sorted(item for part in parts for item in part) == list(range(20))


@virtual
async def test_a_stream_dropped_in_a_turn_inherits_its_deadline():
    """Q4: the calling turn's deadline bounds all of the stream."""

    class Reader(Worker):
        async def read(self, name: str) -> list[int]:
            return [i async for i in self.friends[name].stream(Worker.silent)]

    async with Swarm() as swarm:
        ada = await swarm.spawn(Reader)
        bo = await swarm.spawn(Worker, name="bo")
        await ada.ask(Worker.meet, bo=bo)
        with pytest.raises(AskTimeout):
            await ada.within(3).ask(Reader.read, "bo")
        await turns(5)
        assert bo.load == 0


@virtual
async def test_a_cancelled_reader_whose_error_is_kept_frees_the_agent():
    """T9: the traceback of its cancellation does not hold the stream."""
    async with Swarm() as swarm:
        ref = await swarm.spawn(Worker)

        async def read() -> None:
            async for _ in ref.stream(Worker.silent):
                pass

        reader = asyncio.ensure_future(read())
        await turns(5)
        reader.cancel()
        await asyncio.wait([reader])
        assert await ref.within(1).ask(Worker.add, 1) == 1
        assert reader.cancelled()


@virtual
async def test_a_reader_that_is_slow_does_not_time_out():
    """T10: the time-out bounds the wait for an item, not the time between two."""
    async with Swarm(config=SwarmConfig(ask_timeout=5)) as swarm:
        ref = await swarm.spawn(Worker)
        got = []
        async for item in ref.stream(Worker.count, 40):
            await asyncio.sleep(10)
            got.append(item)
        assert got == list(range(40))
