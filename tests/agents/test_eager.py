"""Agents whose loop steps each task as it is made (as eager ones of 3.12 are)."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from swarm import Agent, DeadlockError, Ref, Swarm, interleave
from tests.support.eager import in_eager_tasks, stepping
from tests.support.virtual_loop import turns


class Worker(Agent):
    def __init__(self) -> None:
        self.seen: list[str] = []

    async def work(self, what: str = "") -> list[str]:
        self.seen.append(what)
        await turns(2)
        return list(self.seen)

    @interleave
    async def look(self, what: str = "") -> list[str]:
        self.seen.append(what)
        return list(self.seen)

    @interleave
    async def look_later(self, what: str = "") -> list[str]:
        await turns()
        return await self.look(what)

    @interleave
    async def count(self, to: int) -> AsyncIterator[int]:
        for number in range(to):
            yield number

    async def hold(self, name: str) -> int:
        async with self.swarm.lock(name) as lease:
            await turns(3)
            return lease.token

    async def ask_back(self, other: "Ref[Worker]", me: "Ref[Worker]") -> list[str]:
        return await other.ask(Worker.ask_me, me)

    async def ask_me(self, me: "Ref[Worker]") -> list[str]:
        return await me.ask(Worker.work)


@in_eager_tasks
async def test_turns_beside_others_answer_and_end():
    """A4: whether or not they suspend, in the asker's step or later."""
    async with Swarm() as swarm:
        ref = await swarm.spawn(Worker)
        busy = asyncio.ensure_future(ref.ask(Worker.work, "busy"))
        assert await ref.ask(Worker.look, "beside") == ["busy", "beside"]
        assert "later" in await ref.ask(Worker.look_later, "later")
        await busy
        assert [n async for n in ref.stream(Worker.count, 3)] == [0, 1, 2]
        for _ in range(100):
            await ref.ask(Worker.look)
            await ref.tell(Worker.look_later)
        many = await asyncio.gather(*(ref.ask(Worker.look_later) for _ in range(50)))
        assert len(many) == 50
        await ref.stop()
        assert ref.status.value == "offline"


@in_eager_tasks
async def test_locks_are_taken_in_order_and_deadlocks_found():
    """L2, L6, L15."""
    async with Swarm() as swarm:
        refs = [await swarm.spawn(Worker) for _ in range(4)]
        asks = (ref.ask(Worker.hold, "x") for ref in refs)
        tokens = await asyncio.gather(*asks)
        assert tokens == sorted(tokens)
        with pytest.raises(DeadlockError):
            await refs[0].ask(Worker.ask_back, refs[1], refs[0])


@in_eager_tasks
async def test_a_child_that_wants_what_its_parent_holds_is_a_deadlock():
    """L15: the child asks before the parent waits for it."""
    if asyncio.get_running_loop().get_task_factory() is stepping:
        pytest.skip("such a task is not yet the current one in its first step")

    class Parent(Worker):
        async def fork(self) -> object:
            return await asyncio.gather(self.ref.ask(Worker.work))

    async with Swarm() as swarm:

        async def child() -> None:
            async with swarm.lock("x"):
                pass

        async with swarm.lock("x"):
            with pytest.raises(DeadlockError):
                await asyncio.gather(child())
            with pytest.raises(ExceptionGroup) as caught:
                async with asyncio.TaskGroup() as group:
                    group.create_task(child())
            assert caught.group_contains(DeadlockError)
        parent = await swarm.spawn(Parent)
        with pytest.raises(DeadlockError):
            await parent.ask(Parent.fork)


@in_eager_tasks
async def test_a_barrier_and_permits():
    """B1, M1."""
    if asyncio.get_running_loop().get_task_factory() is stepping:
        pytest.skip("such a task is not yet the current one in its first step")
    async with Swarm() as swarm:
        barrier = swarm.barrier("b", 3)
        semaphore = swarm.semaphore("s", 2)
        inside = 0

        async def member() -> int:
            nonlocal inside
            async with semaphore:
                inside += 1
                assert inside <= 2
                await turns(2)
                inside -= 1
            return (await barrier.wait()).index

        found = await asyncio.gather(*(member() for _ in range(3)))
        assert sorted(found) == [0, 1, 2]
