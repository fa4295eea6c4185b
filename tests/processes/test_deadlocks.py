"""A cycle of waits over several processes fails its newest request, once."""

import asyncio

import pytest

from swarm import DeadlockError, LockTimeout
from swarm.testing import MemoryServer, explore
from tests.support.processes import Shop, pair, settle, swarms
from tests.support.virtual_loop import virtual


async def both(swarm, first, second, ready, timeout=None):
    """Hold one lock, and then want another."""
    async with swarm.lock(first):
        ready.set()
        await asyncio.sleep(0.5)
        async with swarm.lock(second).acquire(timeout=timeout):
            return "done"


def kinds(found):
    return sorted(type(each).__name__ for each in found)


@virtual
async def test_two_processes_that_want_each_others_lock_have_one_victim():
    for timeout in (None, 100):
        async with pair() as (_, one, two):
            event = asyncio.Event()
            began = asyncio.get_running_loop().time()
            found = await asyncio.gather(
                both(one, "x", "y", event, timeout),
                both(two, "y", "x", event, timeout),
                return_exceptions=True,
            )
            assert asyncio.get_running_loop().time() - began < 2
            (error,) = [each for each in found if each != "done"]
            assert isinstance(error, DeadlockError)
            assert isinstance(error, LockTimeout) == (timeout is not None)
            assert len(error.cycle) == 2
            text = str(error)
            assert "lock 'x'" in text
            assert "lock 'y'" in text
            assert text.count("in process p") >= 2


@virtual
async def test_three_processes_and_a_semaphore():
    server = MemoryServer()
    one, two, three = swarms(server, 3)
    async with one, two, three:

        async def last():
            async with three.semaphore("s", 1).acquire():
                await asyncio.sleep(0.5)
                async with three.lock("x"):
                    return "done"

        async def middle():
            async with two.lock("y"):
                await asyncio.sleep(0.5)
                async with two.semaphore("s", 1).acquire():
                    return "done"

        found = await asyncio.gather(
            both(one, "x", "y", asyncio.Event()),
            middle(),
            last(),
            return_exceptions=True,
        )
        errors = [each for each in found if each != "done"]
        assert len(errors) == 1
        assert isinstance(errors[0], DeadlockError)
        assert len(errors[0].cycle) == 3


@virtual
async def test_a_lease_that_was_handed_on_raises_no_alarm():
    async with pair() as (_, one, two):

        async def hold(lease):
            async with lease:
                await asyncio.sleep(5)

        async def hand_on():
            lease = await one.lock("x").acquire(ttl=1000)
            holding = asyncio.ensure_future(hold(lease))
            await asyncio.sleep(0.5)
            async with one.lock("y"):  # while another task holds x
                await holding
                return "done"

        found = await asyncio.gather(
            hand_on(), both(two, "y", "x", asyncio.Event()), return_exceptions=True
        )
        assert found == ["done", "done"]


@virtual
async def test_a_queue_over_processes_is_no_cycle():
    async with pair() as (_, one, two):

        async def work(swarm):
            for _ in range(5):
                async with swarm.lock("a"), swarm.lock("b"), swarm.lock("c"):
                    await asyncio.sleep(0.01)

        await asyncio.gather(*(work(swarm) for swarm in (one, two) * 3))


def test_each_cycle_has_one_victim_under_every_schedule():
    async def program() -> None:
        server = MemoryServer()
        one, two = swarms(server)
        async with one, two:
            found = await asyncio.gather(
                both(one, "x", "y", asyncio.Event()),
                both(two, "y", "x", asyncio.Event()),
                return_exceptions=True,
            )
            # A late step may let one be done before the other begins.
            assert kinds(found) in (
                ["DeadlockError", "str"],
                ["str", "str"],
            )

    explore(program, schedules=15).check()


@pytest.mark.parametrize("delay", [0.0, 0.05])
def test_the_victim_is_told_soon_at_any_distance(delay):
    @virtual
    async def check() -> None:
        async with pair(delay) as (_, one, two):
            found = await asyncio.gather(
                both(one, "x", "y", asyncio.Event()),
                both(two, "y", "x", asyncio.Event()),
                return_exceptions=True,
            )
            assert sorted(type(each).__name__ for each in found) == [
                "DeadlockError",
                "str",
            ]

    check()


# --- cycles that go through asks ------------------------------------------------------


async def shops(*swarms):
    """Spawn one agent in each swarm: "a", "b", ..."""
    refs = [
        await swarm.spawn(Shop, name=name)
        for swarm, name in zip(swarms, "abcdef", strict=False)
    ]
    await settle()
    return refs


async def raises_soon(awaitable, cycle):
    began = asyncio.get_running_loop().time()
    with pytest.raises(DeadlockError) as caught:
        await awaitable
    assert asyncio.get_running_loop().time() - began < 3
    assert len(caught.value.cycle) == cycle
    return str(caught.value)


@virtual
async def test_an_ask_that_comes_back_to_an_agent_amid_its_turn():
    async with pair() as (_, one, two):
        a, b = await shops(one, two)
        text = await raises_soon(a.ask(Shop.chain, "b", "a"), 2)
        assert "'a' in Shop.chain" in text
        assert "'b' in Shop.chain" in text
        await raises_soon(b.ask(Shop.chain, "a", "b"), 2)
        assert await a.ask(Shop.chain, "b") == "end"


@virtual
async def test_an_ask_that_comes_back_by_a_third_process_and_a_local_agent():
    server = MemoryServer()
    one, two, three = swarms(server, 3)
    async with one, two, three:
        a, _, _, _ = await shops(one, two, three, one)
        await raises_soon(a.ask(Shop.chain, "b", "c", "d", "a"), 4)
        assert await a.ask(Shop.chain, "b", "c", "d") == "end"


@virtual
async def test_an_ask_that_waits_for_a_lock_of_the_asker():
    async with pair() as (_, one, two):
        a, b = await shops(one, two)
        text = await raises_soon(a.ask(Shop.chain, "hold x", "b", "hold x"), 2)
        assert "lock 'x'" in text
        async with two.lock("x"):
            pass
        assert await b.ask(Shop.chain, "hold x", "a") == "end"


@virtual
async def test_a_slow_answer_a_tell_and_an_interleaved_turn_are_no_cycle():
    async with pair() as (_, one, two):
        a, b = await shops(one, two)
        slow = asyncio.ensure_future(a.within(20).ask(Shop.hang_at, "b"))
        await asyncio.sleep(5)
        told = asyncio.ensure_future(b.tell(Shop.chain, "a"))
        await asyncio.sleep(5)
        assert not slow.done()
        slow.cancel()
        await asyncio.wait([slow, told])
        await settle()
        assert await a.ask(Shop.add, 1) == 2
        assert await one.agents["b"].ask(Shop.chain, "a") == "end"


@virtual
async def test_two_agents_that_ask_each_other_have_one_victim():
    async with pair() as (_, one, two):
        a, b = await shops(one, two)
        await a.tell(Shop.wait)
        await b.tell(Shop.wait)
        asks = [
            asyncio.ensure_future(a.ask(Shop.chain, "b")),
            asyncio.ensure_future(b.ask(Shop.chain, "a")),
        ]
        await settle()
        await asyncio.gather(a.ask(Shop.open), b.ask(Shop.open))
        found = await asyncio.gather(*asks, return_exceptions=True)
        assert kinds(found) == ["DeadlockError", "str"]


def test_asks_that_close_a_cycle_have_one_victim_under_every_schedule():
    async def program() -> None:
        server = MemoryServer()
        one, two = swarms(server)
        async with one, two:
            a = await one.spawn(Shop, name="a")
            await two.spawn(Shop, name="b")
            await two.state.wait_until("global.registry.a", bool)
            await one.state.wait_until("global.registry.b", bool)
            await asyncio.sleep(0.1)
            with pytest.raises(DeadlockError):
                await a.ask(Shop.chain, "b", "a")
            assert await a.ask(Shop.chain, "b") == "end"

    explore(program, schedules=15).check()
