"""What is seen and changed by name: held, queue, force, remove, limiters, rights."""

import asyncio

import pytest

from swarm import (
    AccessDenied,
    AgentIdentity,
    BrokenBarrier,
    ConfigMismatch,
    LeaseLost,
    LockTimeout,
    NotFound,
    Policy,
    Priority,
    WouldBlock,
)
from swarm.model import OWNER
from tests.support.coordination import World
from tests.support.sweep import CANCELLED, sweep
from tests.support.virtual_loop import turns, virtual

ADA = AgentIdentity("ada", "pulse", "ada", "pulse")
NAMESAKE = AgentIdentity("owner", "pulse", "owner", "pulse")
HIDING = Policy([("pulse", "locks.open", "rw"), ("pulse", "agents", "r")])


@virtual
async def test_semaphores_show_holders_and_waiters():
    """L21, M2: one consistent view, in order."""
    async with World() as world:
        semaphores = world.all.semaphores(OWNER)
        lease = await world.semaphore("s", 3).acquire(2)
        waiter = asyncio.ensure_future(_hold(world.semaphore("s").acquire(2)))
        await asyncio.sleep(1)
        (held,) = semaphores.held()
        assert (held.resource, held.permits, held.lease_id) == ("s", 2, lease.id)
        assert held.held_for == pytest.approx(1)
        (queued,) = semaphores.queue("s")
        assert (queued.permits, queued.waited) == (2, pytest.approx(1))
        assert semaphores.held("t") == semaphores.queue("t") == ()
        await semaphores.force_release(lease.id, reason="needed")
        with pytest.raises(LeaseLost, match="needed"):
            await lease.release()
        await waiter
        with pytest.raises(NotFound):
            await semaphores.force_release(lease.id, reason="again")
        world.check_empty()


async def _hold(acquisition):
    async with acquisition as lease:
        return lease


@virtual
async def test_a_removed_semaphore_can_be_opened_with_another_capacity():
    """G14: its holders and waiters are told."""
    async with World() as world:
        semaphores = world.all.semaphores(OWNER)
        world.semaphore("s", 2)
        await semaphores.remove("s")  # never used: only the name is forgotten
        lease = await world.semaphore("s", 3).acquire(3)
        waiter = asyncio.ensure_future(_hold(world.semaphore("s").acquire()))
        await turns()
        await semaphores.remove("s", reason="a new plan")
        with pytest.raises(NotFound, match="a new plan"):
            await waiter
        with pytest.raises(LeaseLost, match="a new plan"):
            await lease.renew()
        assert world.semaphore("s", 4).available == 4
        with pytest.raises(NotFound):
            await semaphores.remove("nothing")
        world.check_empty()


@virtual
async def test_barriers_show_their_parties_and_can_be_broken_and_removed():
    """B7, G14."""
    async with World() as world:
        barriers = world.all.barriers(OWNER)
        world.barrier("b", 3)
        assert barriers.held() == ()
        party = asyncio.ensure_future(world.barrier("b").wait())
        await asyncio.sleep(1)
        (shown,) = barriers.held("b")
        assert (shown.parties, shown.generation, shown.arrived) == (3, 0, 1)
        (queued,) = barriers.queue()
        assert (queued.owner, queued.waited) == ("owner", pytest.approx(1))
        await barriers.force_break("b", reason="enough")
        with pytest.raises(BrokenBarrier, match="enough"):
            await party
        with pytest.raises(NotFound):
            await barriers.force_break("b", reason="enough")
        with pytest.raises(ConfigMismatch):
            world.barrier("b", 2)
        await barriers.remove("b")
        arrivals = await asyncio.gather(
            world.barrier("b", 2).wait(), world.barrier("b", 2).wait()
        )
        assert {each.generation for each in arrivals} == {0}
        with pytest.raises(NotFound):
            await barriers.remove("nothing")
        world.check_empty()


@virtual
async def test_a_limiter_begins_so_many_in_any_window_in_order():
    """M5: whoever leaves early makes no room."""
    async with World() as world:
        begun: list[tuple[int, float]] = []
        start = world.clock.monotonic()

        async def use(number: int) -> None:
            async with world.all.limiter(OWNER, "openai", 2, per=60).acquire():
                begun.append((number, round(world.clock.monotonic() - start, 3)))

        await asyncio.gather(*(use(number) for number in range(5)))
        assert begun == [(0, 0), (1, 0), (2, 60), (3, 60), (4, 120)]
        limiter = world.all.limiter(OWNER, "openai", 2, per=60)
        await limiter.acquire()
        with pytest.raises(LockTimeout):
            await limiter.acquire(timeout=1)
        world.all.limiter(OWNER, "openai", 2, per=60.0)
        for number, per in ((3, 60), (2, 30.5)):
            with pytest.raises(ConfigMismatch) as caught:
                world.all.limiter(OWNER, "openai", number, per=per)
            assert str(caught.value) == (
                "limiter 'openai' was opened with permits=2, per=60 s, now with "
                f"permits={number}, per={per} s"
            )
        with pytest.raises(ConfigMismatch, match=r"now with capacity=2$"):
            world.semaphore("openai", 2)
        with pytest.raises(ValueError):
            world.all.limiter(OWNER, "other", 2, per=0)
        await asyncio.sleep(61)
        world.check_empty()


@virtual
async def test_a_limiter_is_entered_itself_or_taken_at_once():
    """An `async with` of the limiter waits as its `acquire` does."""
    async with World() as world:
        limiter = world.all.limiter(OWNER, "api", 2, per=60)
        start = world.clock.monotonic()
        async with limiter:
            assert limiter.acquire_nowait() is None
            with pytest.raises(WouldBlock, match="limiter 'api' cannot be had"):
                limiter.acquire_nowait()
            async with limiter:
                assert round(world.clock.monotonic() - start) == 60
        with pytest.raises(TypeError, match="not entered by a plain `with`"), limiter:
            pass
        with pytest.raises(TypeError, match=r"`await` its `acquire\(...\)`"):
            await limiter
        await asyncio.sleep(61)
        world.check_empty()


@virtual
async def test_what_a_limiter_holds_is_told_from_a_body_that_runs():
    """The permit of a body that has ended lasts until its time is over."""
    async with World() as world:
        async with world.all.limiter(OWNER, "api", 2, per=60):
            pass
        (held,) = world.all.semaphores(OWNER).held()
        assert held.session.startswith("limiter entry of task ")
        (line,) = world.all.explain()
        assert "limiter entry of task" in line
        await asyncio.sleep(61)
        assert not world.all.semaphores(OWNER).held()


def test_a_sweep_through_a_limiter():
    """L3, L5: cancelled anywhere, a waiter leaves the queue."""

    async def act(world: World) -> str:
        limiter = world.all.limiter(OWNER, "l", 1, per=1)
        await limiter.acquire()
        loop = asyncio.get_running_loop()
        loop.call_soon(lambda: setattr(loop, "virtual", loop.virtual + 2))
        async with limiter.acquire():
            await turns(2)
        return "done"

    async def check(world: World, outcome: object) -> None:
        assert outcome in (CANCELLED, "done")
        await asyncio.sleep(3)
        world.check_empty()

    assert sweep(World, act, check) > 2


@virtual
async def test_an_agent_called_owner_is_not_the_program():
    """G11, L17: identities are compared, not names."""
    async with World() as world:
        lease = await world.lock().acquire()
        with pytest.raises(AccessDenied):
            await world.all.locks(NAMESAKE).force_release(lease.id, reason="mine")
        permit = await world.semaphore("s", 1).acquire()
        with pytest.raises(AccessDenied):
            await world.all.semaphores(NAMESAKE).force_release(permit.id, reason="mine")
        own = await world.all.semaphore(ADA, "t", 1).acquire()
        await world.all.semaphores(ADA).force_release(own.id, reason="done")
        await permit.release()
        await lease.release()
        world.check_empty()


@virtual
async def test_changing_what_others_use_needs_the_right_to_write():
    """S15: to resize, to break by force, to remove; a new name needs `hold`."""
    async with World() as world:
        semaphore = world.all.semaphore(ADA, "s", 2)
        world.all.barrier(ADA, "b", 2)
        for refused in (
            lambda: semaphore.resize(3),
            lambda: world.all.semaphores(ADA).remove("s"),
            lambda: world.all.barriers(ADA).remove("b"),
            lambda: world.all.barriers(ADA).force_break("b", reason="no"),
        ):
            with pytest.raises(AccessDenied):
                await refused()
        assert semaphore.capacity == 2
    async with World(policy=HIDING) as world:
        for opened in (
            lambda: world.all.semaphore(ADA, "new", 2),
            lambda: world.all.barrier(ADA, "new", 2),
            lambda: world.all.limiter(ADA, "new", 2, 1.0),
        ):
            with pytest.raises(AccessDenied, match="hold"):
                opened()
        assert world.semaphore("new", 5).capacity == 5  # no name was taken


@virtual
async def test_what_a_policy_hides_no_question_tells():
    """S15: is_locked, available, waiting, generation, held, queue and explain."""
    async with World(policy=HIDING) as world:
        lease = await world.lock("hidden").acquire()
        other = await world.lock("open").acquire()
        permit = await world.semaphore("s", 2).acquire()
        party = asyncio.ensure_future(world.barrier("b", 2).wait())
        waiter = asyncio.ensure_future(_hold(world.lock("hidden").acquire()))
        await turns()
        assert world.all.lock(ADA, "open").is_locked()
        semaphore, barrier = world.all.semaphore(ADA, "s"), world.all.barrier(ADA, "b")
        for question in (
            lambda: world.all.lock(ADA, "hidden").is_locked(),
            lambda: semaphore.available,
            lambda: semaphore.waiting,
            lambda: semaphore.capacity,
            lambda: barrier.waiting,
            lambda: barrier.generation,
        ):
            with pytest.raises(AccessDenied):
                question()
        assert world.all.semaphores(ADA).held() == ()
        assert world.all.barriers(ADA).queue() == ()
        (line,) = world.all.explain(ADA)
        assert "lock 'open'" in line
        assert len(world.all.explain()) == 5
        await world.barrier("b").reset()
        with pytest.raises(BrokenBarrier):
            await party
        for each in (lease, other, permit):
            await each.release()
        await waiter
        world.check_empty()


@virtual
async def test_one_acquire_all_serves_many_tasks():
    """L20, M3: each leaves with its own leases."""
    async with World() as world:
        several = world.all.acquire_all(OWNER, ["a", "b"])
        inside: list[str] = []

        async def use(name: str, seconds: float) -> None:
            async with several as leases:
                inside.append(name)
                await asyncio.sleep(seconds)
                assert all(lease.is_live for lease in leases)
                assert inside == [name]
                inside.remove(name)

        await asyncio.gather(use("first", 3), use("second", 1), use("third", 2))
        world.check_empty()


@virtual
async def test_a_priority_is_a_number_or_refused():
    """L6: a word is no priority."""
    async with World() as world:
        for wrong in ("HIGH", True, 1.0, None):
            with pytest.raises(TypeError, match=r"Priority\.HIGH"):
                world.lock().acquire(priority=wrong)
        lease = await world.lock().acquire(priority=Priority.HIGH)
        await lease.release()
        world.check_empty()
