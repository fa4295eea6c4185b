"""Cancelled at any turn of the loop, a wait for another process leaves nothing."""

import asyncio

import pytest

from swarm import MailboxFull
from swarm.processes import Answers
from tests.support.processes import Shop, pair, settle
from tests.support.virtual_loop import virtual


async def ask(ref, _):
    await ref.ask(Shop.add, 1)


async def hang(ref, _):
    await ref.ask(Shop.hang)


async def tell(ref, _):
    await ref.tell(Shop.note, "x")


async def read(ref, _):
    async with ref.stream(Shop.count, 8) as stream:
        async for _ in stream:
            pass


async def wait_for_an_item(ref, _):
    async with ref.stream(Shop.count, 8, 1.0) as stream:
        async for _ in stream:
            pass


async def end(ref, _):
    await ref.ended()


async def stop(ref, _):
    await ref.stop()


async def pause(ref, _):
    await ref.pause()
    await ref.resume()


async def spawn_a_singleton(_, swarm):
    await swarm.spawn(Shop, name="boss", singleton=True)


WAITS = [ask, hang, tell, read, wait_for_an_item, end, stop, pause, spawn_a_singleton]


def left(swarm):
    """Return what is open between processes."""
    network = swarm._coordinator.registry.elsewhere
    answers: Answers = network.calls._post.handlers["request"].__self__
    return [
        len(network.calls.open),
        len(answers.requests),
        len(answers.credits),
        len(swarm._coordinator.graph),
    ]


@pytest.mark.parametrize("wait", WAITS, ids=lambda wait: wait.__name__)
def test_a_wait_that_is_cancelled_leaves_nothing(wait):
    @virtual
    async def sweep() -> None:
        for turns in (*range(24), 30, 40):
            async with pair() as (_, one, two):
                local = await one.spawn(Shop, name="ada")
                await settle()
                waiting = asyncio.ensure_future(wait(two.agents["ada"], two))
                for _ in range(turns):
                    await asyncio.sleep(0)
                waiting.cancel()
                await asyncio.wait([waiting])
                await settle()
                if wait is pause and local.status == "paused":
                    await local.resume()
                if wait is not stop:
                    assert await two.agents["ada"].ask(Shop.add, 1) == 2
                assert left(one) == left(two) == [0, 0, 0, 0]
                if wait is spawn_a_singleton:
                    boss = await two.spawn(Shop, name="boss", singleton=True)
                    assert await boss.ask(Shop.add, 1) == 2

    sweep()


@virtual
async def test_a_full_inbox_is_mailbox_full_and_sends_nothing():
    async with pair() as (server, one, two):
        await one.spawn(Shop, name="ada")
        await settle()
        ada = two.agents["ada"]
        server.cut_off(0)
        asks = [asyncio.ensure_future(ada.ask(Shop.add, n)) for n in range(10_001)]
        await settle()
        with pytest.raises(MailboxFull, match="'ada' cannot be reached"):
            await asks[-1]
        server.reconnect(0)
        assert await asyncio.gather(*asks[:-1]) == list(range(1, 10_001))
