"""Two swarms on one server, in virtual time: one dies, leaves, or is only slow."""

import asyncio

import pytest

from swarm import (
    Agent,
    AgentDied,
    BrokenBarrier,
    LeaseLost,
    LockTimeout,
    NameTaken,
    StorageFailed,
    Swarm,
    SwarmConfig,
    event,
)
from swarm.processes._process_rules import plan_cleanup
from swarm.testing import MemoryServer, explore
from tests.support.virtual_loop import virtual

CONFIG = SwarmConfig(process_ttl=9.0, ask_timeout=60.0)


@event("shop.sold")
class Sold:
    n: int


class Worker(Agent):
    async def wait(self) -> None:
        await asyncio.get_running_loop().create_future()

    async def work(self, n: int = 1) -> int:
        return n


def swarms(server, count=2):
    return [Swarm("shop", server, config=CONFIG) for _ in range(count)]


async def names(swarm):
    return sorted(
        [
            path.rpartition(".")[2]
            async for path, _ in swarm.state.scan("global.registry.*")
        ]
    )


async def processes(swarm):
    return [path async for path, _ in swarm.state.scan("global.processes.*")]


async def cut_off(server, swarm, number):
    """Cut a swarm off for longer than a process lives."""
    server.cut_off(number)
    await asyncio.sleep(9.5)
    await settle()


async def settle():
    for _ in range(60):
        await asyncio.sleep(0)


@virtual
async def test_a_process_has_a_document_while_it_is_open():
    server = MemoryServer()
    one, two = swarms(server)
    async with one:
        async with two:
            assert len(await processes(one)) == 2
            await asyncio.sleep(60)
            assert len(await processes(one)) == 2
            assert "others: 1" in one.explain()
        assert len(await processes(one)) == 1
        await two.close()


@virtual
async def test_agents_of_a_process_that_dies_leave_the_registry():
    server = MemoryServer()
    one, two = swarms(server)
    async with one, two:
        await one.spawn(Worker, name="ada")
        await two.spawn(Worker, name="bo")
        assert await names(two) == ["ada", "bo"]
        await cut_off(server, one, 0)
        assert await names(two) == ["bo"]
        server.reconnect(0)
        await settle()
        assert await names(two) == ["ada", "bo"]  # it has joined again


@virtual
async def test_what_the_store_refuses_to_clean_up_is_cleaned_up_later():
    server = MemoryServer()
    one, two = swarms(server)
    async with one, two:
        await one.spawn(Worker, name="ada")
        await two.spawn(Worker, name="bo")
        membership = two._coordinator.membership
        kernel, refusals = membership._kernel, []

        class Full:
            async def apply(self, author, rule, *arguments):
                if rule is plan_cleanup and not refusals:
                    refusals.append(arguments)
                    raise StorageFailed("full")
                return await kernel.apply(author, rule, *arguments)

        membership._kernel = Full()
        await cut_off(server, one, 0)
        await asyncio.sleep(9.0 / 3)  # it is renewed
        await settle()
        assert refusals
        assert await names(two) == ["bo"]
        server.reconnect(0)
        await settle()


@virtual
async def test_names_are_unique_over_all_processes():
    server = MemoryServer()
    one, two = swarms(server)
    async with one, two:
        await one.spawn(Worker, name="ada")
        with pytest.raises(NameTaken, match="another process"):
            await two.spawn(Worker, name="ada")
        made = await asyncio.gather(*(s.spawn(Worker) for s in (one, two) * 3))
        assert len({ref.name for ref in made}) == 6
        assert len(await names(one)) == 7


@virtual
async def test_a_waiter_of_a_dead_process_does_not_block_the_queue():
    server = MemoryServer()
    one, two = swarms(server)
    async with one, two:
        held = await two.lock("x").acquire(ttl=1000)
        waiting = asyncio.ensure_future(one.lock("x").acquire())
        await settle()
        assert len(two.locks.queue("x")) == 1
        await cut_off(server, one, 0)
        assert two.locks.queue("x") == ()
        await held.release()
        await (await two.lock("x").acquire(timeout=0)).release()
        server.reconnect(0)
        with pytest.raises(LeaseLost, match="taken for dead"):
            await waiting


@virtual
@pytest.mark.parametrize("kind", ["lock", "semaphore"])
async def test_a_request_that_others_took_out_of_the_queue_is_lost_not_removed(kind):
    """It may have been made after the process was lost, before it joined again."""
    server = MemoryServer()
    one, two = swarms(server)

    def asked(swarm):
        if kind == "lock":
            return swarm.lock("x").acquire(ttl=1000)
        return swarm.semaphore("x", capacity=1).acquire(ttl=1000)

    async with one, two:
        held = await asked(two)
        waiting = asyncio.ensure_future(asked(one))
        await settle()
        origin = one._coordinator.origin
        await two._coordinator.coordination.forget(lambda process: process == origin)
        with pytest.raises(LeaseLost, match="taken for dead"):
            await waiting
        await held.release()
        await (await asked(one)).release()


@virtual
async def test_a_request_that_is_gone_before_its_answer_comes_is_lost_not_removed():
    """The log can be ahead of the answer; then no commit tells what became of it."""
    server = MemoryServer()
    one, two = swarms(server)
    async with one, two:
        held = await two.semaphore("x", capacity=1).acquire(ttl=1000)
        waiting = asyncio.ensure_future(one.semaphore("x", capacity=1).acquire())
        await settle()
        (waiter,) = one._coordinator.coordination._core.waiters.values()
        waiter.manager.records.see(waiter.id, waiter.manager.blank)
        with pytest.raises(LeaseLost, match="taken for dead"):
            await waiting
        await held.release()


@virtual
async def test_a_lease_of_a_dead_process_ends_at_its_own_time():
    server = MemoryServer()
    one, two = swarms(server)
    async with one, two:
        await one.lock("x").acquire(ttl=30)
        await cut_off(server, one, 0)
        with pytest.raises(LockTimeout):
            await two.lock("x").acquire(timeout=5)
        async with two.lock("x").acquire(timeout=20):
            pass
        server.reconnect(0)
        await settle()


@virtual
async def test_a_process_that_was_taken_for_dead_gives_up_what_it_held():
    server = MemoryServer()
    one, two = swarms(server)
    async with one, two:
        lease = await one.lock("x").acquire(ttl=1000)
        await cut_off(server, one, 0)
        assert lease.is_live  # it cannot know yet
        server.reconnect(0)
        assert "taken for dead" in await lease.lost()
        async with two.lock("x").acquire(timeout=1):
            pass
        await (await one.lock("x").acquire(timeout=1)).release()
        assert len(await processes(two)) == 2


@virtual
async def test_a_party_of_a_dead_process_breaks_its_barrier():
    server = MemoryServer()
    one, two = swarms(server)
    async with one, two:
        gone = asyncio.ensure_future(one.barrier("b", 3).wait())
        await settle()
        waiting = asyncio.ensure_future(two.barrier("b", 3).wait())
        await cut_off(server, one, 0)
        with pytest.raises(BrokenBarrier, match="a process has gone"):
            await waiting
        server.reconnect(0)
        with pytest.raises(BrokenBarrier):
            await gone


@virtual
async def test_what_a_process_that_leaves_still_holds_is_free_at_once():
    server = MemoryServer()
    one, two = swarms(server)
    async with two:
        async with one:
            await one.lock("x").acquire(ttl=1000)
            await one.semaphore("s", 1).acquire(ttl=1000)
        async with two.lock("x").acquire(timeout=0.1):
            pass
        async with two.semaphore("s", 1).acquire(timeout=0.1):
            pass


@virtual
async def test_a_later_process_buries_those_that_died_alone():
    server = MemoryServer()
    one, two = swarms(server)
    async with one:
        await one.spawn(Worker, name="ada")
        held = await one.lock("x").acquire(ttl=1000)
        waiting = asyncio.ensure_future(one.lock("x").acquire())
        await settle()
        server.cut_off(0)
        await asyncio.sleep(20)
        async with two:
            await settle()
            assert await names(two) == []
            assert two.locks.queue("x") == ()
            assert held.is_live
            server.reconnect(0)
            with pytest.raises(LeaseLost):
                await waiting


@virtual
async def test_an_agent_whose_name_was_taken_meanwhile_ends():
    server = MemoryServer()
    one, two = swarms(server)
    async with one, two:
        ada = await one.spawn(Worker, name="ada")
        await cut_off(server, one, 0)
        await two.spawn(Worker, name="ada")
        server.reconnect(0)
        assert await ada.ended() == "failed"
        await settle()
        assert await names(one) == ["ada"]


@virtual
async def test_a_death_that_the_log_did_not_tell_is_noticed_at_the_next_renewal():
    server = MemoryServer()
    one, two = swarms(server)
    async with one, two:
        await one.spawn(Worker, name="ada")
        await settle()
        waiting = asyncio.ensure_future(two.agents["ada"].within(None).ask(Worker.wait))
        await asyncio.sleep(4)  # a renewal has seen the other process
        two._coordinator.membership._ignore()
        await cut_off(server, one, 0)
        await asyncio.sleep(3)
        with pytest.raises(AgentDied):
            await waiting
        assert await names(two) == []
        server.reconnect(0)
        await settle()


@virtual
async def test_a_server_that_does_not_answer_does_not_keep_a_swarm_from_its_end():
    server = MemoryServer()
    (one,) = swarms(server, 1)
    async with one:
        server.cut_off(0)
        began = asyncio.get_running_loop().time()
    assert asyncio.get_running_loop().time() - began < 20


def test_what_follows_from_a_death_is_the_same_under_every_schedule():
    async def program() -> None:
        server = MemoryServer()
        one, two, three = swarms(server, 3)
        async with one, two, three:
            await one.spawn(Worker, name="ada")
            await one.lock("x").acquire(ttl=5)
            server.cut_off(0)
            async with two.lock("x").acquire(timeout=30):
                pass
            await asyncio.sleep(15)
            assert await names(two) == await names(three) == []
            server.reconnect(0)
            await asyncio.sleep(5)
            assert await names(three) == ["ada"]

    explore(program, schedules=15).check()


@virtual
async def test_a_named_subscription_goes_on_in_a_process_that_begins_later():
    """H5: what was published meanwhile is in the log that it finds."""
    server = MemoryServer()
    one, two = swarms(server)
    seen = []

    async def handle(event):
        seen.append(event.payload.n)

    async with one:
        await (await one.events.on(Sold, handle, name="clerk")).cancel()
        for n in range(5):
            await one.events.publish(Sold(n))
        async with two:
            await two.events.on(Sold, handle, name="clerk")
            await settle()
            assert seen == list(range(5))
            past = []
            await two.events.replay(since=0, handler=past.append)
            sold = [each.payload.n for each in past if each.type == "shop.sold"]
            assert sold == seen
