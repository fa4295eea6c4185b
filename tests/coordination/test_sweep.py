"""The cancellation sweep: every wait, every pair of modes, every turn of the loop.

semantics.md, section 7.1: no stranded waiter, no lost grant, no residue.
"""

import asyncio
from itertools import product

import pytest

from swarm import BrokenBarrier, LockTimeout
from tests.support.coordination import World
from tests.support.sweep import CANCELLED, sweep
from tests.support.virtual_loop import run, turns

MODES = ("exclusive", "shared", "upgradeable")
KINDS = (*MODES, "semaphore")


def line(world: World, kind: str, **options):
    """Return an acquisition of one kind."""
    if kind == "semaphore":
        return world.semaphore("s", 2).acquire(2, **options)
    return world.lock().acquire(kind, **options)


async def hold(world: World, kind: str, steps: int = 2) -> int:
    async with line(world, kind) as lease:
        await turns(steps)
        return lease.token


@pytest.mark.parametrize(("first", "second", "third"), list(product(KINDS, repeat=3)))
def test_cancelling_in_the_middle_of_a_queue(first: str, second: str, third: str):
    """L3, L4, L5, M8, G6, G13: whoever is left gets it; nothing is left behind."""

    async def act(world: World) -> int:
        others = [asyncio.ensure_future(hold(world, first))]
        await turns()
        mine = asyncio.ensure_future(hold(world, second))
        await turns()
        others.append(asyncio.ensure_future(hold(world, third)))
        try:
            return await mine
        finally:
            mine.cancel()
            await asyncio.gather(*others)
            await asyncio.wait([mine])

    async def check(world: World, outcome: object) -> None:
        assert outcome is CANCELLED or outcome > 0
        await turns(3)
        world.check_empty()

    assert sweep(World, act, check) > 3


@pytest.mark.parametrize(
    ("kind", "k", "order"),
    list(product(KINDS, range(4), ("event first", "cancel first"))),
)
def test_the_grant_and_the_cancellation_in_one_turn(kind: str, k: int, order: str):
    """G5, L4: both orders, at every distance from the beginning of the wait."""

    async def scenario() -> None:
        async with World() as world:
            lease = await line(world, kind if kind == "semaphore" else "exclusive")
            one = asyncio.ensure_future(hold(world, kind))
            two = asyncio.ensure_future(hold(world, kind))
            await turns(k)
            if order == "event first":
                await lease.release()
                one.cancel()
            else:
                one.cancel()
                await lease.release()
            assert await two
            await asyncio.wait([one])
            await turns(3)
            world.check_empty()

    run(scenario())


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("late", [False, True])
def test_grant_and_time_out_in_one_turn_have_one_outcome(kind: str, late: bool):
    """G5: the loop was blocked beyond the deadline; the core decides once."""

    async def scenario() -> None:
        async with World() as world:
            loop = asyncio.get_running_loop()
            lease = await line(world, kind if kind == "semaphore" else "exclusive")

            async def want() -> int:
                async with line(world, kind, timeout=2) as mine:
                    return mine.token

            task = asyncio.ensure_future(want())
            await turns(2)
            loop.virtual += 5.0  # blocked
            if late:
                await turns(2)
            await lease.release()
            try:
                assert await task > lease.token
                assert not late
            except LockTimeout:
                assert late
            world.check_empty()

    run(scenario())


@pytest.mark.parametrize("kind", KINDS)
def test_a_sweep_through_acquire_and_body(kind: str):
    """G15: cancelled anywhere, a body leaves nothing behind."""

    async def act(world: World) -> int:
        holder = asyncio.ensure_future(hold(world, kind))
        await turns()
        try:
            return await hold(world, kind, 3)
        finally:
            await holder

    async def check(world: World, outcome: object) -> None:
        await turns(4)
        world.check_empty()

    assert sweep(World, act, check) > 2


def test_a_sweep_through_an_upgrade():
    """L13: cancelled anywhere, the lease is what it was, or is exclusive."""

    async def act(world: World) -> str:
        reader = asyncio.ensure_future(hold(world, "shared", 4))
        await turns()
        try:
            async with world.lock().acquire("shared") as lease:
                try:
                    await lease.upgrade()
                except asyncio.CancelledError:
                    assert lease.mode == "shared"
                    assert lease.is_live
                    raise
                assert lease.mode == "exclusive"
                await turns(2)
                return lease.mode
        finally:
            await asyncio.wait([reader])

    async def check(world: World, outcome: object) -> None:
        await turns(4)
        world.check_empty()

    assert sweep(World, act, check) > 3


def test_a_sweep_through_acquire_all():
    """L20, L3: all or none."""

    async def act(world: World) -> int:
        holder = asyncio.ensure_future(hold(world, "exclusive"))
        await turns()
        try:
            names = ["w", "x", "y"]
            async with world.all.acquire_all(world.state.identity, names) as leases:
                await turns(2)
                return len(leases)
        finally:
            await asyncio.wait([holder])

    async def check(world: World, outcome: object) -> None:
        assert outcome in (CANCELLED, 3)
        await turns(4)
        world.check_empty()

    assert sweep(World, act, check) > 2


@pytest.mark.parametrize("parties", [2, 3])
def test_a_sweep_through_a_barrier(parties: int):
    """B2, B4, B10: all of a generation have one outcome; nobody stays behind."""

    async def act(world: World) -> int:
        async def other() -> object:
            try:
                return (await world.barrier("b", parties).wait()).generation
            except BrokenBarrier as error:
                return -1 - error.generation

        others = [asyncio.ensure_future(other()) for _ in range(parties - 1)]
        try:
            await turns(2)
            return (await world.barrier("b", parties).wait()).generation
        finally:
            await world.barrier("b", parties).reset()
            outcomes = set(await asyncio.gather(*others))
            assert len(outcomes) == 1, outcomes

    async def check(world: World, outcome: object) -> None:
        await turns(2)
        world.check_empty()

    assert sweep(World, act, check) > 2
