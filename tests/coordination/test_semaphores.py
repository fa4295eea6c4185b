"""Semaphores, alive: semantics.md 2.3."""

import asyncio
import contextlib

import pytest

from swarm import (
    ConfigMismatch,
    DeadlockError,
    LeaseLost,
    LockTimeout,
    StaleLease,
    WouldBlock,
)
from swarm.kernel import MemoryKernel
from swarm.model import OWNER, Path
from swarm.ports import Write
from tests.support.coordination import World
from tests.support.virtual_loop import turns, virtual


async def hold(world: World, permits: int = 1, seconds: float = 1.0, **options):
    """Hold permits for a while."""
    async with world.semaphore().acquire(permits, **options) as lease:
        await asyncio.sleep(seconds)
        return lease


@virtual
async def test_never_more_permits_are_out_than_there_are():
    """M1, M2, M4: several grants of one task count each for itself."""
    async with World() as world:
        semaphore = world.semaphore("s", 3)
        one = await semaphore.acquire(2)
        two = await semaphore.acquire()
        assert (semaphore.available, semaphore.capacity) == (0, 3)
        with pytest.raises(WouldBlock):
            semaphore.acquire_nowait()
        await one.release()
        assert semaphore.available == 2
        with pytest.raises(LeaseLost):  # M3
            await one.release()
        assert semaphore.available == 2
        await two.release()
        assert semaphore.available == 3
        world.check_empty()


@virtual
async def test_first_come_first_served_also_with_many_permits():
    """M5, M6: a small request does not overtake a large one, which holds nothing."""
    async with World() as world:
        semaphore = world.semaphore("s", 3)
        lease = await semaphore.acquire(2)
        order: list[int] = []

        async def want(permits: int) -> None:
            async with semaphore.acquire(permits):
                order.append(permits)
                await asyncio.sleep(1)

        tasks = [asyncio.ensure_future(want(n)) for n in (3, 1, 2)]
        await turns()
        assert semaphore.waiting == 3
        assert semaphore.available == 1
        with pytest.raises(WouldBlock):
            semaphore.acquire_nowait()
        await lease.release()
        await asyncio.gather(*tasks)
        assert order == [3, 1, 2]
        world.check_empty()


@virtual
async def test_the_usual_permit_with_async_with():
    """M2: `async with semaphore` takes one."""
    async with World() as world:
        semaphore = world.semaphore("s", 2)
        async with semaphore as lease:
            assert lease.permits == 1
            await lease.release()
            with pytest.raises(LeaseLost, match="1 permits"):
                await lease.renew()
        world.check_empty()


@virtual
async def test_what_can_never_be_granted_is_refused_at_once():
    """M7."""
    async with World() as world:
        semaphore = world.semaphore("s", 2)
        for permits in (0, -1, 3):
            with pytest.raises(ValueError):
                semaphore.acquire(permits)
        for capacity in (0, -1):
            with pytest.raises(ValueError):
                world.semaphore("t", capacity)
        for number in (1.0, True, "2"):
            with pytest.raises(TypeError, match="permits is a whole number"):
                semaphore.acquire(number)
            with pytest.raises(TypeError, match="capacity is a whole number"):
                world.semaphore("t", number)
            with pytest.raises(TypeError, match="capacity is a whole number"):
                await semaphore.resize(number)
        with pytest.raises(ValueError, match="not open"):
            world.semaphore("t")


@virtual
async def test_another_capacity_is_a_mismatch():
    """G14: also when only the document remembers it."""
    async with World() as world:
        world.semaphore("s", 2)
        assert world.semaphore("s").capacity == 2
        with pytest.raises(ConfigMismatch):
            world.semaphore("s", 3)
        async with world.semaphore("s").acquire():
            other = World.__new__(World)
            other.kernel = world.kernel
            other.all = _second(world)
            with pytest.raises(ConfigMismatch):
                other.semaphore("s", 3)
            assert other.semaphore("s", 2).available == 1


def _second(world: World):
    """Return the coordination of another process, as it were."""
    from swarm.coordination import Coordination, WaitGraph

    return Coordination(world.kernel, world.clock, world.entropy, WaitGraph())


@virtual
async def test_a_line_survives_as_json():
    """The rules read what another world has written as bytes."""
    async with World() as world:
        lease = await world.semaphore("s", 2).acquire(2)
        lock = await world.lock().acquire("shared")
        waiter = asyncio.ensure_future(hold(world))
        writer = asyncio.ensure_future(world.lock().acquire("exclusive").__aenter__())
        await turns()
        kernel: MemoryKernel = world.kernel
        for name in ("semaphores.s", "locks.x"):
            document = kernel.find_now(Path.parse(name))
            kernel.commit_now(OWNER, [Write(document.path, document.json)])
        assert len(world.locks.held()) == 1
        assert world.locks.queue("x")[0].mode == "exclusive"
        await lease.release()
        await lock.release()
        await asyncio.gather(waiter, writer)
        await turns(3)
        world.check_empty()


@virtual
async def test_expiry_gives_permits_back_once():
    """M9, M13: by the kernel's clock; a late release is an error."""
    async with World() as world:
        semaphore = world.semaphore("s", 2)
        lease = await semaphore.acquire(2, ttl=1)
        waiter = asyncio.ensure_future(hold(world, 2))
        await asyncio.sleep(1.5)
        assert semaphore.available == 0
        with pytest.raises(LeaseLost):
            await lease.release()
        assert semaphore.available == 0
        await waiter
        world.check_empty()


@virtual
async def test_resizing_up_wakes_and_down_waits():
    """M12: nothing is taken away; who waits in vain is told."""
    async with World() as world:
        semaphore = world.semaphore("s", 2)
        lease = await semaphore.acquire(2)
        waiter = asyncio.ensure_future(hold(world, 2, 5))
        await turns()
        await semaphore.resize(4)
        await turns()
        assert semaphore.available == 0
        big = asyncio.ensure_future(hold(world, 3))
        await turns()
        await semaphore.resize(2)
        assert semaphore.available == -2
        with pytest.raises(ValueError, match="resized"):
            await big
        with pytest.raises(ValueError, match="never"):
            semaphore.acquire(3)
        await lease.release()
        small = asyncio.ensure_future(hold(world))
        await turns(2)
        assert semaphore.waiting == 1
        await asyncio.gather(waiter, small)
        await semaphore.resize(2)
        assert semaphore.capacity == 2
        with pytest.raises(ValueError):
            await semaphore.resize(0)
        world.check_empty()


@pytest.mark.parametrize("has_holder", [False, True])
@virtual
async def test_a_request_made_before_a_resize_does_not_wait_for_ever(has_holder):
    """M7: it is refused when it is entered, and blocks no request behind it."""
    async with World() as world:
        semaphore = world.semaphore("s", 4)
        lease = await semaphore.acquire() if has_holder else None
        asked = semaphore.acquire(3)
        await semaphore.resize(2)
        with pytest.raises(ValueError, match="resized"):
            await asked
        async with semaphore.acquire(timeout=0):
            pass
        if lease is not None:
            await lease.release()


@virtual
async def test_a_request_made_before_a_resize_gets_no_more_than_there_is():
    """M1, M7: back at its first capacity, a free semaphore has no document."""
    async with World() as world:
        semaphore = world.semaphore("s", 2)
        await semaphore.resize(8)
        asked = semaphore.acquire(6)
        await semaphore.resize(2)
        with pytest.raises(ValueError, match="resized"):
            await asked
        assert semaphore.available == 2
        world.check_empty()


@virtual
async def test_a_resized_semaphore_is_opened_with_what_it_was_opened_with():
    """G14: `capacity=` names the configuration, not the moment."""
    async with World() as world:
        await world.semaphore("s", 2).resize(5)
        assert world.semaphore("s", 2).capacity == 5
        assert world.semaphore("s").acquire_nowait(5).permits == 5


@virtual
async def test_time_out_and_cancellation_pass_permits_on():
    """M8: L3 to L5."""
    async with World() as world:
        semaphore = world.semaphore("s", 2)
        lease = await semaphore.acquire()
        big = asyncio.ensure_future(hold(world, 2, timeout=5))
        small = asyncio.ensure_future(hold(world))
        await turns(2)
        assert semaphore.waiting == 2
        with pytest.raises(LockTimeout, match="semaphore 's'"):
            await big
        await small
        big = asyncio.ensure_future(hold(world, 2))
        small = asyncio.ensure_future(hold(world, 1, 5))
        await turns(2)
        big.cancel()
        await turns(2)
        assert semaphore.available == 0
        await lease.release()
        await small
        world.check_empty()


@virtual
async def test_a_permit_holder_that_is_needed_is_in_the_graph():
    """L15: and one whose permits others could make up for is not."""
    async with World() as world:
        semaphore = world.semaphore("s", 2)

        async def first(permits: int) -> None:
            async with semaphore.acquire(permits):
                await asyncio.sleep(1)
                async with world.lock():
                    pass

        async def second(permits: int) -> None:
            async with world.lock():
                await asyncio.sleep(2)
                async with semaphore.acquire(permits):
                    pass

        results = await asyncio.gather(first(1), second(2), return_exceptions=True)
        assert [type(r) for r in results] == [type(None), DeadlockError]
        results = await asyncio.gather(
            first(1), hold(world, seconds=5), second(1), return_exceptions=True
        )
        assert not any(isinstance(r, Exception) for r in results)
        async with semaphore:
            with pytest.raises(DeadlockError):
                await semaphore.acquire(2)
            async with semaphore:
                with pytest.raises(DeadlockError):
                    await semaphore.acquire(1)
        world.check_empty()


@virtual
async def test_holders_that_all_wait_for_one_more_are_a_deadlock():
    """L15: any of several would do, but all of them are stuck."""
    async with World() as world:
        semaphore = world.semaphore("s", 3)

        async def greedy(delay: float) -> None:
            async with semaphore.acquire():
                await asyncio.sleep(delay)
                async with semaphore.acquire():
                    pass

        results = await asyncio.gather(
            greedy(1), greedy(2), greedy(3), return_exceptions=True
        )
        assert [type(r) for r in results] == [type(None)] * 2 + [DeadlockError]
        world.check_empty()


@virtual
async def test_permits_come_back_only_through_the_lease_they_were_granted_with():
    """M11, M3: neither a second release nor the end of another session frees them."""
    async with World() as world:
        semaphore = world.semaphore("s", 2)
        mine = await semaphore.acquire()

        async def other() -> None:
            theirs = await semaphore.acquire()
            await theirs.release()
            with pytest.raises(LeaseLost):
                await theirs.release()
            await semaphore.acquire()  # and ends without giving it back

        await asyncio.ensure_future(other())
        await turns()
        assert mine.is_live
        assert semaphore.available == 1
        await mine.release()
        world.check_empty()


@virtual
async def test_a_lease_of_permits_guards_a_write_while_it_is_live():
    """M9, M10: it proves that permits are held, and says nothing of the others."""
    async with World() as world:
        semaphore = world.semaphore("s", 2)
        one, two = await semaphore.acquire(), await semaphore.acquire()
        await world.state.set("a", 1, guard=two)
        await world.state.set("a", 2, guard=one)
        await one.release()
        with pytest.raises(StaleLease):
            await world.state.set("a", 3, guard=one)
        await world.state.set("a", 4, guard=two)
        await two.release()
        assert await world.state.get("a") == 4
        world.check_empty()


@virtual
async def test_a_body_left_in_another_task_gives_back_its_own():
    """M3: an abandoned async generator is closed by a task of the loop's."""
    async with World() as world:
        semaphore = world.semaphore("s", 2)
        leases = []

        async def items():
            async with semaphore as lease:
                leases.append(lease)
                yield 1

        async def victim() -> None:
            async with semaphore as lease:
                await asyncio.sleep(1)
                assert lease.is_live

        async def elsewhere(generator) -> None:
            await generator.aclose()

        generator = items()
        await anext(generator)
        other = asyncio.ensure_future(victim())
        await turns()
        assert semaphore.available == 0
        await asyncio.create_task(elsewhere(generator))
        assert not leases[0].is_live
        assert semaphore.available == 1
        await other
        world.check_empty()


@virtual
async def test_an_exit_stack_left_in_another_task_gives_back_its_own():
    """L9, M3: not the one that was entered last."""
    async with World() as world:
        lock = world.lock()
        stack = contextlib.AsyncExitStack()
        mine = await stack.enter_async_context(lock)
        await world.locks.force_release(mine.id, reason="needed elsewhere")

        async def victim() -> None:
            async with lock as lease:
                await asyncio.sleep(1)
                assert lease.is_live

        async def leave() -> None:
            with pytest.raises(LeaseLost, match="needed elsewhere"):
                await stack.aclose()

        other = asyncio.ensure_future(victim())
        await turns(2)
        await asyncio.create_task(leave())
        await other
        world.check_empty()
