"""At most one of a singleton lives over all processes; it moves when its own dies."""

import asyncio
from typing import ClassVar

import pytest

from swarm import Agent, NameTaken, NoSuchAgent, StaleLease, Swarm
from swarm.testing import MemoryServer, explore
from tests.support.processes import Shop, pair, settle, swarms
from tests.support.virtual_loop import virtual


class Leader(Shop):
    """Counts its lives in the tree, and can be asked to write."""

    lives: ClassVar[list[Agent]] = []

    async def started(self) -> None:
        Leader.lives.append(self)
        await self.shared.increment("lives", 1)

    async def write(self, value: int) -> None:
        await self.shared.set("written", value)

    async def lead(self) -> str:
        return self.swarm._coordinator.origin


@pytest.fixture(autouse=True)
def no_lives():
    Leader.lives = []
    yield
    Leader.lives = []


def running(swarm):
    return "boss" in swarm._coordinator.table.cells


async def spawn(swarm, name="boss", **options):
    return await swarm.spawn(Leader, name=name, singleton=True, **options)


@virtual
async def test_one_process_runs_it_and_the_others_get_a_ref_to_it():
    async with pair() as (_, one, two):
        refs = await asyncio.gather(spawn(one), spawn(two), spawn(one), spawn(two))
        assert len(Leader.lives) == 1
        assert running(one) != running(two)
        answers = {await ref.ask(Leader.lead) for ref in refs}
        assert len(answers) == 1
        assert refs[0] == refs[2]
        assert refs[0] not in (one.agents["boss"], two.agents["boss"])
        assert await one.state.get("shared.lives") == 1


@virtual
async def test_it_moves_when_its_process_leaves():
    server = MemoryServer()
    one, two = swarms(server)
    async with two:
        async with one:
            first = await spawn(one)
            ref = await spawn(two)
            assert await ref.ask(Leader.lead) == await first.ask(Leader.lead)
            assert not running(two)
        await settle()
        assert running(two)
        assert await ref.ask(Leader.lead) == two._coordinator.origin
        assert len(Leader.lives) == 2


@virtual
async def test_it_moves_when_its_process_dies_and_the_old_one_stands_by():
    async with pair() as (server, one, two):
        await spawn(one)
        ref = await spawn(two)
        server.cut_off(0)
        await asyncio.sleep(9.5)
        await settle()
        assert running(two)
        assert await ref.ask(Leader.lead) == two._coordinator.origin
        server.reconnect(0)
        await settle(200)
        assert not running(one)
        there = one.agents["boss"]
        assert await there.ask(Leader.lead) == two._coordinator.origin
        await two.close()
        await settle(200)
        assert running(one)
        assert len(Leader.lives) == 3


@virtual
async def test_a_singleton_that_was_replaced_cannot_write():
    async with pair() as (server, one, two):
        await spawn(one)
        await spawn(two)
        old = Leader.lives[0]
        server.cut_off(0)
        writes = [
            asyncio.ensure_future(write)
            for write in (
                old.shared.set("late", 1),
                old.shared.increment("late.n", 1),
                old.state.set("late", 1),
                old.shared.update("late.u", lambda _: 1),
                old.swarm.lock("late").acquire(),
            )
        ]
        await asyncio.sleep(9.5)
        await settle()
        assert running(two)
        server.reconnect(0)
        for write in writes:
            with pytest.raises(StaleLease, match=r"'boss' lives in process|any more"):
                await write
        assert await two.state.get("shared.late", default=None) is None
        assert await two.state.get("shared.late.n", default=None) is None
        await two.agents["boss"].ask(Leader.write, 7)
        assert await one.state.get("shared.written") == 7


@virtual
async def test_a_singleton_alone_is_started_again_by_the_same_process():
    async with pair() as (server, one, _):
        ref = await spawn(one)
        server.cut_off(0)
        await asyncio.sleep(12)
        server.reconnect(0)
        await settle(200)
        assert running(one)
        assert await ref.ask(Leader.lead) == one._coordinator.origin
        await ref.ask(Leader.write, 3)
        assert await one.state.get("shared.written") == 3


@virtual
async def test_it_moves_also_when_the_log_did_not_tell():
    async with pair() as (server, one, two):
        await spawn(one)
        ref = await spawn(two)
        two._coordinator.singletons._ignore()
        server.cut_off(0)
        await asyncio.sleep(13)
        assert await ref.ask(Leader.lead) == two._coordinator.origin


@virtual
async def test_one_that_is_stopped_is_over_for_all_until_it_is_spawned_again():
    async with pair() as (_, one, two):
        await spawn(one)
        ref = await spawn(two)
        await ref.stop()
        await settle()
        assert not running(one)
        assert not running(two)
        with pytest.raises(NoSuchAgent):
            await ref.ask(Leader.lead)
        again = await spawn(two)
        assert running(two)
        assert await again.ask(Leader.lead) == two._coordinator.origin


@virtual
async def test_one_that_cannot_start_leaves_its_name_free():
    class Broken(Agent):
        async def started(self) -> None:
            raise OSError("no")

    async with pair() as (_, one, two):
        with pytest.raises(OSError, match="no"):
            await one.spawn(Broken, name="boss", singleton=True)
        await spawn(two)
        assert running(two)


@virtual
async def test_a_name_that_a_plain_agent_has_is_taken():
    async with pair() as (_, one, two):
        await one.spawn(Shop, name="boss")
        with pytest.raises(NameTaken):
            await spawn(one)
        await spawn(two)  # stands by: the name is the other agent's
        assert not running(two)
        with pytest.raises(TypeError, match="has a name="):
            await one.spawn(Leader, singleton=True)
        with pytest.raises(TypeError, match="has a name="):
            await one.spawn(Leader, name="x", singleton=True, replace=True)


async def test_in_memory_a_singleton_is_an_agent_that_is_spawned_once():
    async with Swarm() as swarm:
        first = await spawn(swarm)
        assert await spawn(swarm) == first
        assert len(Leader.lives) == 1


def test_at_most_one_lives_under_every_schedule():
    async def program() -> None:
        Leader.lives = []
        server = MemoryServer()
        one, two, three = swarms(server, 3)
        async with one, two, three:
            refs = await asyncio.gather(*map(spawn, (one, two, three)))
            alive = [swarm for swarm in (one, two, three) if running(swarm)]
            assert len(alive) == 1
            number = (one, two, three).index(alive[0])
            server.cut_off(number)
            await asyncio.sleep(15)
            moved = [swarm for swarm in (one, two, three) if running(swarm)]
            assert len(moved) == 2  # the one that was cut off cannot know
            assert len(Leader.lives) == 2
            server.reconnect(number)
            await asyncio.sleep(5)
            assert len([s for s in (one, two, three) if running(s)]) == 1
            assert len({await ref.ask(Leader.lead) for ref in refs}) == 1

    explore(program, schedules=10).check()
