"""A stream from an agent in another process: in order, bounded, and ended by both."""

import asyncio
import gc

import pytest

from swarm import AgentDied, AskTimeout, NoSuchAgent, StorageFailed, Stream
from swarm.testing import MemoryServer, explore
from swarm.testing._server import MemoryInboxes
from tests.support.processes import CONFIG, OutOfStock, Shop, pair, settle, swarms
from tests.support.virtual_loop import virtual

WINDOW = CONFIG.stream_window


async def remote(one, two, name="ada"):
    await one.spawn(Shop, name=name)
    await settle()
    return two.agents[name]


async def notes(ref):
    await settle()
    return await ref.ask(Shop.seen)


@virtual
async def test_items_come_in_order_and_then_the_end():
    async with pair() as (_, one, two):
        ada = await remote(one, two)
        stream = ada.stream(Shop.count, 50)
        assert isinstance(stream, Stream)
        assert [n async for n in stream] == list(range(50))
        assert [n async for n in ada.proxy.count(3)] == [0, 1, 2]
        with pytest.raises(StopAsyncIteration):
            await anext(stream)


@virtual
async def test_a_slow_reader_holds_the_agent_up():
    async with pair() as (_, one, two):
        ada = await remote(one, two)
        async with ada.stream(Shop.count, 100) as stream:
            assert await anext(stream) == 0
            await settle(300)
            seen = await notes(ada)
            assert len(seen) <= 2 * WINDOW + 2
            assert [await anext(stream) for _ in range(99)] == list(range(1, 100))


@pytest.mark.parametrize("number", [1, 2, 3])
def test_an_item_that_the_server_refuses_leaves_no_hole(monkeypatch, number):
    """The reader gets the items before it, and then an error."""
    sent = []

    def refuse(self, process, message):
        sent.append(b'"kind":"item"' in message)
        if sum(sent) == number and sent[-1]:
            refused = asyncio.get_running_loop().create_future()
            refused.set_exception(StorageFailed("full"))
            return refused
        return send(self, process, message)

    send = MemoryInboxes.send
    monkeypatch.setattr(MemoryInboxes, "send", refuse)

    @virtual
    async def scenario():
        async with pair() as (_, one, two):
            ada = await remote(one, two)
            seen = []
            with pytest.raises(StorageFailed, match="was lost on its way"):
                async for n in ada.stream(Shop.count, 3):
                    seen.append(n)
            assert seen == list(range(number - 1))

    scenario()


@virtual
async def test_an_error_comes_after_the_items_before_it():
    async with pair() as (_, one, two):
        ada = await remote(one, two)
        seen = []
        with pytest.raises(OutOfStock):
            async for n in ada.stream(Shop.count_and_fail, 3):
                seen.append(n)
        assert seen == [0, 1, 2]


@virtual
async def test_leaving_early_ends_the_turn():
    async with pair() as (_, one, two):
        ada = await remote(one, two)
        async with ada.stream(Shop.count, 1000, 0.1) as stream:
            assert await anext(stream) == 0
        assert (await notes(ada))[-1] == "stream ended"
        with pytest.raises(StopAsyncIteration):
            await anext(stream)


@virtual
async def test_a_stream_that_is_dropped_ends_the_turn():
    async with pair() as (_, one, two):
        ada = await remote(one, two)
        stream = ada.stream(Shop.count, 1000, 0.1)
        assert await anext(stream) == 0
        del stream
        gc.collect()
        assert (await notes(ada))[-1] == "stream ended"
        assert two._coordinator.registry.elsewhere.calls.open == {}


@virtual
async def test_cancelling_the_wait_for_an_item_loses_none():
    async with pair() as (_, one, two):
        ada = await remote(one, two)
        async with ada.stream(Shop.count, 5, 1.0) as stream:
            seen = [await anext(stream)]
            waiting = asyncio.ensure_future(anext(stream))
            await settle()
            waiting.cancel()
            await asyncio.wait([waiting])
            seen += [n async for n in stream]
            assert seen == [0, 1, 2, 3, 4]


@virtual
async def test_each_item_has_the_time_out():
    async with pair() as (_, one, two):
        ada = await remote(one, two)
        assert [n async for n in ada.within(2).stream(Shop.count, 4, 1.5)] == [
            0,
            1,
            2,
            3,
        ]
        with pytest.raises(AskTimeout, match="no item came within 1 s"):
            async for _ in ada.within(1).stream(Shop.count, 4, 1.5):
                pass
        assert (await notes(ada))[-1] == "stream ended"


@virtual
async def test_a_stream_dies_with_the_process():
    async with pair() as (server, one, two):
        ada = await remote(one, two)
        stream = ada.stream(Shop.count, 1000, 1.0)
        assert await anext(stream) == 0
        server.cut_off(0)
        with pytest.raises(AgentDied):
            async for _ in stream:
                pass
        with pytest.raises(NoSuchAgent):
            ada.stream(Shop.count, 3)


@virtual
async def test_a_reader_that_has_gone_ends_the_turn():
    async with pair() as (server, one, two):
        ada = await remote(one, two)
        stream = ada.stream(Shop.count, 1000, 0.5)
        assert await anext(stream) == 0
        server.cut_off(1)
        await asyncio.sleep(10)
        assert "stream ended" in await notes(one.agents["ada"])
        server.reconnect(1)
        with pytest.raises(AgentDied):
            async for _ in stream:
                pass


def test_streams_between_processes_are_whole_under_every_schedule():
    async def program() -> None:
        server = MemoryServer()
        one, two = swarms(server)
        async with one, two:
            await one.spawn(Shop, name="ada")
            while (ada := two.agents.get("ada")) is None:
                await asyncio.sleep(0)
            assert [n async for n in ada.stream(Shop.count, 12)] == list(range(12))
            async with ada.stream(Shop.count, 12, 0.1) as stream:
                await anext(stream)
            assert await ada.ask(Shop.add, 1) == 2

    explore(program, schedules=15).check()
