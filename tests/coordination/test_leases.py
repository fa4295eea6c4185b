"""What a lease is to whoever has it, and to the bodies under it."""

import asyncio
import contextlib
import copy
import pickle

import pytest

from swarm import LeaseLost, LockTimeout, Swarm, WouldBlock
from swarm.model import OWNER
from tests.support.coordination import World
from tests.support.virtual_loop import turns, virtual


def oversleep(seconds: float) -> None:
    """Block the loop, as code does that computes for long."""
    asyncio.get_running_loop().virtual += seconds


@virtual
async def test_a_lease_cannot_be_copied():
    """L1: there would be two of one right, and releasing one would end both."""
    async with World() as world:
        lease = world.lock().acquire_nowait()
        permit = world.semaphore("s", 1).acquire_nowait()
        for one in (lease, permit):
            for duplicate in (copy.copy, copy.deepcopy, pickle.dumps):
                with pytest.raises(TypeError, match="cannot be copied"):
                    duplicate(one)
        several = await world.all.acquire_all(OWNER, ("a", "b"))
        assert copy.copy(several)[0] is several[0]  # a tuple of the same leases
        for duplicate in (copy.deepcopy, pickle.dumps):
            with pytest.raises(TypeError, match="cannot be copied"):
                duplicate(several)
        await several.release()
        await lease.release()
        await permit.release()
        world.check_empty()


@virtual
@pytest.mark.parametrize("timeout", [0, 1.5])
async def test_an_upgrade_that_is_too_late_says_how_long_it_waited(timeout):
    """L13: its own time-out, not that of the lock's acquisition."""
    async with World() as world:
        lease = await world.lock().acquire("upgradeable", timeout=7)
        reader = await world.lock().acquire("shared")
        with pytest.raises(LockTimeout, match=f"within {timeout} s"):
            await asyncio.gather(lease.upgrade(timeout=timeout))
        assert lease.mode == "upgradeable"
        await reader.release()
        await lease.upgrade(timeout=timeout)
        assert lease._spec.timeout == 7
        await lease.release()
        world.check_empty()


@virtual
async def test_a_body_inside_another_is_renewed_while_it_runs():
    """L16, L22: as it asked, whatever the one around it asked, until that ends."""
    async with World() as world:
        lock = world.lock()
        async with lock.acquire(ttl=1, renew=False) as outer:
            async with lock.acquire(ttl=1, reentrant=True) as inner:
                assert inner is outer
                await asyncio.sleep(5)
                async with lock.acquire(ttl=1, reentrant=True):
                    await asyncio.sleep(5)
                await asyncio.sleep(5)
            await asyncio.sleep(5)
            assert outer.is_live
        lease = await lock.acquire(ttl=1)
        async with lock.acquire(ttl=1, reentrant=True):
            await asyncio.sleep(5)
        assert lease.is_live
        await asyncio.sleep(1.001)
        assert not lease.is_live
        with pytest.raises(LeaseLost):
            async with (
                lock.acquire(ttl=1, renew=False),
                lock.acquire(ttl=1, renew=False, reentrant=True),
            ):
                await asyncio.sleep(1.001)
        world.check_empty()


@virtual
async def test_a_body_that_finds_out_itself_that_its_lease_expired_is_cancelled():
    """L11: by asking for something else, which takes away what has expired."""
    async with World() as world:
        semaphore = world.semaphore("s", 3)
        began = world.clock.monotonic()
        with pytest.raises(LeaseLost, match="expired"):
            async with semaphore.acquire(ttl=1) as lease:
                oversleep(2)
                async with semaphore:
                    assert not lease.is_live
                    await asyncio.sleep(100)
                    raise AssertionError("never")
        assert world.clock.monotonic() < began + 3
        assert asyncio.current_task().cancelling() == 0
        world.check_empty()


@virtual
async def test_a_body_that_was_told_and_goes_on_is_cancelled():
    """L11, L17: it may have handled the error, and go on believing."""
    async with World() as world:
        for how in ("renew", "release"):
            with pytest.raises(LeaseLost):
                async with world.lock().acquire(ttl=1) as lease:
                    oversleep(2)
                    with contextlib.suppress(LeaseLost):
                        await getattr(lease, how)()
                    await asyncio.sleep(100)
                    raise AssertionError("never")
            assert asyncio.current_task().cancelling() == 0
        world.check_empty()


@virtual
async def test_a_body_that_ends_its_own_lease_goes_on():
    """L11, L17: it knows, whether it released it or took it from itself."""
    async with World() as world:
        async with world.lock() as lease:
            await lease.release()
            await asyncio.sleep(100)
        with pytest.raises(LeaseLost, match="mine"):
            async with world.lock() as lease:
                await world.locks.force_release(lease.id, reason="mine")
                await asyncio.sleep(100)
                ended = world.clock.monotonic()
        assert world.clock.monotonic() == ended
        world.check_empty()


@virtual
async def test_a_body_that_leaves_with_the_loss_is_not_cancelled_as_well():
    """L11, G3: neither in the block nor behind it."""
    async with World() as world:
        lock, semaphore = world.lock(), world.semaphore("s", 3)
        with pytest.raises(LeaseLost) as raised:
            async with lock.acquire(ttl=1) as lease:
                oversleep(2)
                await lease.renew()
        assert raised.value.__cause__ is None  # the very one it was given
        await turns()
        with pytest.raises(LeaseLost):
            async with lock.acquire(ttl=1):
                oversleep(2)
        await turns()
        with pytest.raises(ZeroDivisionError):
            async with semaphore.acquire(ttl=1), semaphore:
                oversleep(2)
                raise ZeroDivisionError
        await turns()
        async with contextlib.AsyncExitStack() as stack:
            with pytest.raises(LeaseLost):
                async with semaphore.acquire(ttl=1):
                    oversleep(2)
                    await stack.enter_async_context(semaphore)
            await turns()
        assert asyncio.current_task().cancelling() == 0
        world.check_empty()


@virtual
async def test_a_request_that_was_not_awaited_says_what_to_do():
    """The misuse of what `acquire()` returns is told by name."""
    async with World() as world:
        lock = world.lock()
        requests = lock.acquire(), world.semaphore("s", 1).acquire()
        for request in requests:
            with pytest.raises(AttributeError, match="is a request, not a lease"):
                request.token  # noqa: B018
            with pytest.raises(AttributeError, match="no attribute 'tokn'"):
                request.tokn  # noqa: B018
        several = world.all.acquire_all(OWNER, ("a", "b"))
        entry = world.all.limiter(OWNER, "l", 1, 1.0).acquire()
        for thing in (*requests, lock, world.semaphore("s"), several, entry):
            with pytest.raises(TypeError, match="use `async with"):  # noqa: SIM117
                with thing:
                    pass
        world.check_empty()


async def test_acquire_nowait_on_a_store_names_the_call_to_use(tmp_path):
    """A grant in a store waits to be written, so it is never there at once."""
    async with Swarm(storage=tmp_path / "run.db") as swarm:
        for handle in (swarm.lock("x"), swarm.semaphore("s", 1)):
            with pytest.raises(WouldBlock, match=r"await \.\.\.acquire\(timeout=0\)"):
                handle.acquire_nowait()
            lease = await handle.acquire(timeout=0)
            await lease.release()
