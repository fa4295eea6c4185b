"""Barriers, alive: semantics.md 2.4."""

import asyncio
import gc

import pytest

from swarm import BrokenBarrier, Closed, ConfigMismatch
from swarm.errors import BarrierTimeout
from tests.support.coordination import World
from tests.support.virtual_loop import turns, virtual


async def arrive(world: World, parties: int = 3, **options):
    """Arrive with a handle of one's own."""
    return await world.barrier("b", parties).wait(**options)


@virtual
async def test_all_leave_together_with_their_own_index():
    """B1, B2, B3, B6: indices are a permutation; one leader; generations grow."""
    async with World() as world:
        for generation in range(3):
            tasks = [asyncio.ensure_future(arrive(world)) for _ in range(3)]
            arrivals = await asyncio.gather(*tasks)
            assert {a.generation for a in arrivals} == {generation}
            assert sorted(a.index for a in arrivals) == [0, 1, 2]
            assert [a.is_leader for a in arrivals].count(True) == 1
        assert world.barrier("b").generation == 3
        assert world.barrier("b").waiting == 0
        world.check_empty()


@virtual
async def test_no_party_leaves_before_all_have_arrived():
    """B1, B6: more than there are parties belong to the next generation."""
    async with World() as world:
        tasks = [asyncio.ensure_future(arrive(world, 2)) for _ in range(5)]
        await turns(3)
        assert [task.done() for task in tasks] == [True] * 4 + [False]
        assert [t.result().generation for t in tasks[:4]] == [0, 0, 1, 1]
        assert world.barrier("b").waiting == 1
        await world.barrier("b").reset()
        with pytest.raises(BrokenBarrier, match="reset"):
            await tasks[4]
        world.check_empty()


@virtual
async def test_a_time_out_breaks_the_generation_for_all():
    """B4, B2, B11: one outcome, one reason; the next generation is whole."""
    async with World() as world:
        late = asyncio.ensure_future(arrive(world, timeout=5))
        other = asyncio.ensure_future(arrive(world))
        results = await asyncio.gather(late, other, return_exceptions=True)
        assert [type(r) for r in results] == [BarrierTimeout, BrokenBarrier]
        assert results[0].reason == results[1].reason
        assert results[0].generation == results[1].generation == 0
        assert isinstance(results[0], TimeoutError)
        with pytest.raises(BarrierTimeout):
            await arrive(world, timeout=0)
        arrivals = await asyncio.gather(*(arrive(world) for _ in range(3)))
        assert {a.generation for a in arrivals} == {2}
        world.check_empty()


@virtual
async def test_a_cancellation_breaks_it_and_leaves_no_phantom():
    """B4, B10."""
    async with World() as world:
        one = asyncio.ensure_future(arrive(world))
        two = asyncio.ensure_future(arrive(world))
        await turns()
        one.cancel()
        with pytest.raises(BrokenBarrier, match="was cancelled"):
            await two
        assert one.cancelled()
        assert world.barrier("b").waiting == 0
        world.check_empty()


@virtual
async def test_a_party_cancelled_after_the_trip_still_counts():
    """B5, B2: the core has decided."""
    async with World() as world:
        one = asyncio.ensure_future(arrive(world, 2))
        await turns()
        two = asyncio.ensure_future(arrive(world, 2))
        await turns()
        one.cancel()
        assert (await two).generation == 0
        await asyncio.wait([one])
        assert one.cancelled()
        world.check_empty()


@virtual
async def test_reset_and_abort_break_only_a_generation_that_gathers():
    """B7."""
    async with World() as world:
        barrier = world.barrier("b", 2)
        await barrier.reset()
        await barrier.abort()
        assert barrier.generation == 0
        task = asyncio.ensure_future(arrive(world, 2))
        await turns()
        await barrier.abort("enough")
        with pytest.raises(BrokenBarrier, match="enough") as caught:
            await task
        assert caught.value.generation == 0
        assert barrier.generation == 1
        assert barrier.parties == 2
        world.check_empty()


@virtual
async def test_another_number_of_parties_is_a_mismatch():
    """B12, G14: also when only the document remembers it."""
    async with World() as world:
        barrier = world.barrier("b", 2)
        with pytest.raises(ConfigMismatch):
            world.barrier("b", 3)
        assert world.barrier("b").parties == 2
        await asyncio.gather(arrive(world, 2), arrive(world, 2))
        world.all._barriers.names.forget("b")
        with pytest.raises(ConfigMismatch):
            world.barrier("b", 3)
        assert world.barrier("b", 2).generation == barrier.generation == 1
        for parties in (0, -1):
            with pytest.raises(ValueError):
                world.barrier("c", parties)
        with pytest.raises(TypeError, match="parties is a whole number"):
            world.barrier("c", 1.5)
        with pytest.raises(ValueError, match="not open"):
            world.barrier("c")
        with pytest.raises(ConfigMismatch):
            world.barrier("d", 2, print)
            world.barrier("d", 2, repr)

        async def action() -> None: ...

        with pytest.raises(TypeError):
            world.barrier("e", 2, action)


@virtual
async def test_a_barrier_of_one_never_waits():
    """B1."""
    async with World() as world:
        assert (await arrive(world, 1)).index == 0
        assert (await arrive(world, 1, timeout=0)).generation == 1


@virtual
async def test_the_action_runs_once_before_anybody_leaves():
    """B9."""
    async with World() as world:
        calls: list[int] = []
        barrier = world.barrier("b", 2, lambda: calls.append(barrier.waiting))
        await asyncio.gather(barrier.wait(), barrier.wait())
        await asyncio.gather(arrive(world, 2), arrive(world, 2))
        assert calls == [2, 2]
        world.check_empty()


@virtual
async def test_an_action_that_raises_breaks_the_barrier():
    """B9: the last to arrive gets the error, the others a broken barrier."""
    async with World() as world:
        barrier = world.barrier("b", 2, lambda: 1 / 0)
        results = await asyncio.gather(
            barrier.wait(), barrier.wait(), return_exceptions=True
        )
        assert [type(r) for r in results] == [BrokenBarrier, ZeroDivisionError]
        assert "ZeroDivisionError" in str(results[0])
        world.check_empty()


@virtual
async def test_an_action_may_break_the_barrier_itself():
    """B9, B2: all are told."""
    async with World() as world:

        def action() -> None:
            barrier.abort("no good").send(None)

        def run() -> None:
            with pytest.raises(StopIteration):
                action()

        barrier = world.barrier("b", 2, run)
        results = await asyncio.gather(
            barrier.wait(), barrier.wait(), return_exceptions=True
        )
        assert [type(r) for r in results] == [BrokenBarrier, BrokenBarrier]
        world.check_empty()


@virtual
async def test_close_wakes_the_waiting():
    """G12."""
    async with World() as world:
        task = asyncio.ensure_future(arrive(world))
        await turns()
        world.all.close()
        await world.kernel.close()
        with pytest.raises(Closed):
            await task


@virtual
async def test_opening_a_barrier_for_others_raises_no_alarm():
    """L15: it may wait for a lock that a party holds; the missing party comes."""
    async with World() as world:
        barrier = world.barrier("b", 2)

        async def first() -> None:
            async with world.lock():
                await barrier.wait()

        async def second() -> None:
            await asyncio.sleep(3)
            await barrier.wait()

        tasks = [asyncio.ensure_future(t) for t in (first(), second())]
        await asyncio.sleep(1)
        async with world.lock():
            pass
        await asyncio.gather(*tasks)
        world.check_empty()


@virtual
async def test_no_alarm_where_more_could_come_than_are_needed():
    """L15: three know the barrier for two; one of them is stuck, one is not."""
    async with World() as world:
        await asyncio.gather(arrive(world, 1))
        gc.collect()

        async def member(delay: float, how: str) -> None:
            barrier = world.barrier("c", 2)
            await asyncio.sleep(delay)
            if how == "holds":
                async with world.lock():
                    await barrier.wait()
            elif how == "wants":
                async with world.lock():
                    await asyncio.sleep(0)
            else:
                await barrier.wait()

        await asyncio.gather(member(1, "holds"), member(2, "wants"), member(3, "comes"))
        world.check_empty()


@virtual
async def test_an_action_that_only_begins_is_refused():
    """B9: nobody leaves before the action has ended, so it cannot be asynchronous."""

    class Acting:
        async def __call__(self) -> None:
            raise AssertionError("never")

    async with World() as world:
        for wrong in (Acting(), Acting().__call__, 5):
            with pytest.raises(TypeError, match="action is a"):
                world.barrier("b", 2, wrong)
        barrier = world.barrier("c", 2, lambda: Acting()())
        other = asyncio.ensure_future(barrier.wait())
        await turns()
        with pytest.raises(TypeError, match="awaits nothing"):
            await barrier.wait()
        with pytest.raises(BrokenBarrier, match="awaits nothing"):
            await other
