"""Locks, alive: what semantics.md 2.2 promises of one after the other."""

import asyncio
import contextlib

import pytest

from swarm import (
    Closed,
    DeadlockError,
    LeaseLost,
    LockAcquired,
    LockContention,
    LockExpired,
    LockReleased,
    LockTimeout,
    NotFound,
    Priority,
    StaleLease,
    WouldBlock,
)
from swarm.coordination._lease_state import LockState
from swarm.model import OWNER
from tests.support.coordination import World, residue
from tests.support.virtual_loop import turns, virtual


async def hold(world: World, name: str = "x", seconds: float = 1.0, **options):
    """Hold a lock for a while."""
    async with world.lock(name).acquire(**options) as lease:
        await asyncio.sleep(seconds)
        return lease.token


@virtual
async def test_a_free_lock_is_taken_and_given_back():
    """L1, G13: while held it is a document; afterwards it is none."""
    async with World() as world:
        async with world.lock() as lease:
            (held,) = world.locks.held()
            assert held.lease_id == lease.id
            assert held.token == lease.token == world.kernel.revision
            assert lease.mode == "exclusive"
            assert lease.is_live
            assert world.lock().is_locked()
            value = await world.state.get("locks.x")
            assert value["holders"][0]["token"] == lease.token
        assert not lease.is_live
        assert lease.expires_in == 0
        assert not world.lock().is_locked()
        world.check_empty()


@virtual
async def test_a_name_may_be_any_text():
    """L21: one quoted segment, dots and all."""
    async with World() as world:
        async with world.lock("a.b[0].*"):
            assert world.locks.held("a.b[0].*")
            assert not world.locks.held("a")
        world.check_empty()


@virtual
async def test_exclusive_holders_follow_one_another_in_order():
    """L6, L2: first come, first served; tokens grow."""
    async with World() as world:
        tokens = await asyncio.gather(*(hold(world) for _ in range(5)))
        assert tokens == sorted(tokens)
        assert len(set(tokens)) == 5
        world.check_empty()


@virtual
async def test_shared_holders_hold_together_and_no_request_barges():
    """L7, G7: readers together; behind a waiting writer they wait."""
    async with World() as world:
        lock = world.lock()
        one = await lock.acquire("shared")
        two = await lock.acquire("shared")
        writer = asyncio.ensure_future(hold(world))
        await turns()
        with pytest.raises(WouldBlock):
            lock.acquire_nowait("shared")
        readers = [asyncio.ensure_future(hold(world, mode="shared")) for _ in range(3)]
        await turns()
        assert [q.mode for q in world.locks.queue("x")] == ["exclusive"] + 3 * [
            "shared"
        ]
        await one.release()
        await two.release()
        await turns()
        assert len(world.locks.held()) == 1
        await writer
        await turns()
        assert len(world.locks.held()) == 3
        await asyncio.gather(*readers)
        world.check_empty()


@virtual
async def test_acquire_nowait_leaves_no_trace_when_it_fails():
    """L8."""
    async with World() as world:
        lease = world.lock().acquire_nowait()
        revision = world.kernel.revision

        async def other() -> None:
            with pytest.raises(WouldBlock, match="held by task"):
                world.lock().acquire_nowait()

        await asyncio.ensure_future(other())
        assert world.kernel.revision == revision
        await lease.release()
        world.check_empty()


@virtual
async def test_a_time_out_holds_nothing_and_names_the_holder():
    """L3, G5: decided by the core; a time-out of 0 does not wait at all."""
    async with World() as world:
        async with world.lock():
            for timeout in (5, 0):
                task = asyncio.ensure_future(hold(world, timeout=timeout))
                with pytest.raises(LockTimeout, match="held by task") as caught:
                    await task
                assert isinstance(caught.value, TimeoutError)
        assert world.clock.monotonic() == pytest.approx(1005, abs=0.01)
        world.check_empty()


@virtual
async def test_higher_priority_goes_first_until_waiting_makes_up_for_it():
    """L6: virtual time; ten seconds of waiting make up for one step."""
    async with World() as world:
        order: list[str] = []

        async def want(name: str, priority: Priority) -> None:
            async with world.lock().acquire(priority=priority):
                order.append(name)

        first = asyncio.ensure_future(hold(world, seconds=30))
        await turns()
        tasks = [asyncio.ensure_future(want("old normal", Priority.NORMAL))]
        await asyncio.sleep(11)
        tasks += [
            asyncio.ensure_future(want(name, priority))
            for name, priority in (
                ("low", Priority.LOW),
                ("normal", Priority.NORMAL),
                ("high", Priority.HIGH),
                ("critical", Priority.CRITICAL),
            )
        ]
        await asyncio.gather(first, *tasks)
        assert order == ["critical", "old normal", "high", "normal", "low"]
        world.check_empty()


@virtual
async def test_a_cancelled_waiter_is_gone_and_lets_the_next_in():
    """L5: X behind S, S behind X; X cancelled, S granted at once."""
    async with World() as world:
        lock = world.lock()
        lease = await lock.acquire("shared")
        writer = asyncio.ensure_future(hold(world))
        await turns()
        reader = asyncio.ensure_future(hold(world, mode="shared"))
        await turns()
        assert len(world.locks.held()) == 1
        writer.cancel()
        await turns()
        assert len(world.locks.held()) == 2
        await reader
        await lease.release()
        world.check_empty()


@virtual
async def test_a_grant_whose_waiter_was_cancelled_is_passed_on():
    """L4, G5: granted and cancelled in one turn of the loop, in both orders."""
    for cancel_first in (True, False):
        async with World() as world:
            lease = await world.lock().acquire()
            one = asyncio.ensure_future(hold(world))
            two = asyncio.ensure_future(hold(world))
            await turns(2)
            if cancel_first:
                one.cancel()
            await lease.release()
            one.cancel()
            await turns(2)
            assert one.cancelled()
            assert await two
            world.check_empty()


@virtual
async def test_an_expired_lease_is_void_and_tells_everybody():
    """L11, L23: one event, `lost` fires, the waiter runs; no grant outlives its own."""
    async with World() as world:
        lease = await world.lock().acquire(ttl=2)
        watching = asyncio.ensure_future(_wait(lease.lost()))
        waiter = asyncio.ensure_future(hold(world))
        await asyncio.sleep(1.9)
        assert lease.is_live
        assert not waiter.done()
        await asyncio.sleep(0.2)
        assert not lease.is_live
        assert await watching == "it expired"
        assert len([e for e in world.events() if isinstance(e, LockExpired)]) == 1
        for act in (lease.release, lease.renew, lease.upgrade, lease.downgrade):
            with pytest.raises(LeaseLost):
                await act()
        assert await waiter > lease.token
        world.check_empty()


async def _wait(awaitable):
    return await awaitable


@virtual
async def test_lost_gives_none_after_an_ordinary_release():
    """L11: it was not lost."""
    async with World() as world:
        lease = await world.lock().acquire()
        assert not lease.lost
        watching = asyncio.ensure_future(_wait(lease.lost))
        await turns()
        await lease.release()
        assert await watching is None
        assert await lease.lost is None
        assert lease.lost


@virtual
async def test_a_body_is_renewed_as_long_as_it_runs():
    """L22: much longer than the time to live; nothing is renewed afterwards."""
    async with World() as world:
        async with world.lock().acquire(ttl=3) as lease:
            await asyncio.sleep(100)
            assert lease.is_live
        revision = world.kernel.revision
        await asyncio.sleep(100)
        assert world.kernel.revision == revision
        world.check_empty()


@virtual
async def test_without_a_body_or_with_renew_false_nothing_is_renewed():
    """L22: the watchdog is bound to the body."""
    async with World() as world:
        lease = await world.lock().acquire(ttl=3)
        await asyncio.sleep(4)
        assert not lease.is_live
        with pytest.raises(LeaseLost, match="expired"):
            async with world.lock().acquire(ttl=3, renew=False):
                await asyncio.sleep(100)
        world.check_empty()


@virtual
async def test_a_body_is_cancelled_when_its_lease_is_lost():
    """L11, L17: by force as by expiry; the reason is told; no cancellation is left."""
    async with World() as world:
        entered = asyncio.Event()
        seen: list[str] = []

        async def body() -> None:
            task = asyncio.current_task()
            try:
                async with world.lock() as lease:
                    seen.append(lease.id)
                    entered.set()
                    await asyncio.sleep(100)
            except LeaseLost as error:
                seen.append(str(error))
            assert task is not None
            assert task.cancelling() == 0
            await asyncio.sleep(1)

        task = asyncio.ensure_future(body())
        await entered.wait()
        await world.locks.force_release(seen[0], reason="it hung")
        await task
        assert "it hung" in seen[1]
        released = [e for e in world.events() if isinstance(e, LockReleased)]
        assert [e.reason for e in released] == ["it hung"]
        with pytest.raises(NotFound):
            await world.locks.force_release(seen[0], reason="again")
        world.check_empty()


@virtual
async def test_a_body_that_ignores_the_loss_is_told_at_its_end():
    """L11: the block raises `LeaseLost` in any case but another error."""
    async with World() as world:

        async def force() -> None:
            await world.locks.force_release(
                world.locks.held()[0].lease_id, reason="no more"
            )

        with pytest.raises(LeaseLost):
            async with world.lock():
                with contextlib.suppress(asyncio.CancelledError):
                    await asyncio.gather(asyncio.sleep(100), force())
        with pytest.raises(LeaseLost):
            async with world.lock():
                await force()
        await asyncio.sleep(0)
        with pytest.raises(ZeroDivisionError):
            async with world.lock():
                await force()
                raise ZeroDivisionError
        world.check_empty()


@virtual
async def test_a_cancellation_from_outside_stays_one_when_the_lease_is_lost_as_well():
    """L11, G3."""
    async with World() as world:
        task = asyncio.ensure_future(hold(world, seconds=100))
        await turns()
        await world.locks.force_release(world.locks.held()[0].lease_id, reason="no")
        task.cancel()
        await asyncio.wait([task])
        assert task.cancelled()
        world.check_empty()


@virtual
async def test_renew_never_shortens():
    """L10: the end is the later of what it was and now plus ttl."""
    async with World() as world:
        lease = await world.lock().acquire(ttl=10)
        await lease.renew(2)
        assert lease.expires_in == pytest.approx(10, abs=0.01)
        await lease.renew(60)
        assert lease.expires_in == pytest.approx(60, abs=0.01)
        await asyncio.sleep(59)
        assert lease.is_live
        await asyncio.sleep(2)
        assert not lease.is_live
        with pytest.raises(LeaseLost):
            await lease.renew(60)
        for ttl in (0, -1, float("inf"), float("nan")):
            with pytest.raises(ValueError):
                await world.lock().acquire(ttl=ttl)
        world.check_empty()


@virtual
async def test_upgrade_waits_for_the_other_readers_ahead_of_everybody():
    """L13: held all the while; a new token."""
    async with World() as world:
        lock = world.lock()
        lease = await lock.acquire("upgradeable")
        token = lease.token
        reader = asyncio.ensure_future(hold(world, mode="shared"))
        await turns()
        writer = asyncio.ensure_future(hold(world))
        await turns()
        await lease.upgrade()
        assert reader.done()
        assert lease.mode == "exclusive"
        assert lease.token > token
        assert [q.owner for q in world.locks.queue("x")] == ["owner"]
        await lease.upgrade()
        await lease.release()
        assert await writer > lease.token
        world.check_empty()


@pytest.mark.parametrize("modes", [("shared", "shared"), ("upgradeable", "shared")])
@virtual
async def test_two_readers_that_both_upgrade_are_a_deadlock(modes):
    """L13: the second is told at once and keeps what it has; the first completes."""
    async with World() as world:
        done: list[str] = []

        async def first(mode: str) -> None:
            async with world.lock().acquire(mode) as lease:
                await asyncio.sleep(1)
                await lease.upgrade()
                done.append("first")

        async def second(mode: str) -> None:
            async with world.lock().acquire(mode) as lease:
                token = lease.token
                await asyncio.sleep(2)
                with pytest.raises(DeadlockError) as caught:
                    await lease.upgrade()
                assert len(caught.value.cycle) == 2
                assert (lease.mode, lease.token) == (mode, token)
                assert lease.is_live

        await asyncio.gather(first(modes[0]), second(modes[1]))
        assert done == ["first"]
        world.check_empty()


@virtual
async def test_an_upgrade_that_fails_leaves_the_lease_as_it_was():
    """L13: timed out, cancelled while it waited, cancelled when it was granted."""
    async with World() as world:
        lock = world.lock()
        other = await lock.acquire("shared")
        lease = await lock.acquire("shared")
        token = lease.token

        async def upgrade(timeout: float | None = None) -> None:
            await lease.upgrade(timeout)

        with pytest.raises(LockTimeout):
            await asyncio.ensure_future(upgrade(1))
        task = asyncio.ensure_future(upgrade())
        await turns()
        task.cancel()
        await asyncio.wait([task])
        assert (lease.mode, lease.token) == ("shared", token)
        task = asyncio.ensure_future(upgrade())
        await turns()
        await other.release()
        assert lease.mode == "exclusive"
        task.cancel()
        await asyncio.wait([task])
        assert task.cancelled()
        assert lease.mode == "shared"
        assert lease.token > token
        await lease.release()
        world.check_empty()


@virtual
async def test_an_upgrade_whose_lease_is_lost_meanwhile_fails():
    """L13, L17."""
    async with World() as world:
        lock = world.lock()
        other = await lock.acquire("shared")
        lease = await lock.acquire("shared")

        async def upgrade() -> None:
            await lease.upgrade()

        task = asyncio.ensure_future(upgrade())
        await turns()
        await world.locks.force_release(lease.id, reason="no")
        with pytest.raises(LeaseLost):
            await task
        await other.release()
        world.check_empty()


@virtual
async def test_downgrade_lets_readers_in_at_once():
    """L14, L2: atomic; a new token; no stronger mode."""
    async with World() as world:
        lock = world.lock()
        lease = await lock.acquire()
        token = lease.token
        readers = [asyncio.ensure_future(hold(world, mode="shared")) for _ in range(2)]
        await turns()
        await lease.downgrade()
        assert (lease.mode, len(world.locks.held())) == ("shared", 3)
        assert lease.token > token
        with pytest.raises(ValueError):
            await lease.downgrade("exclusive")
        with pytest.raises(ValueError):
            await lease.downgrade("loose")
        await lease.downgrade("shared")
        await lease.release()
        await asyncio.gather(*readers)
        world.check_empty()


@virtual
async def test_a_guard_stops_a_holder_that_slept_too_long():
    """S16, L9: every kind of write; with no effect; also inside a transaction."""
    async with World() as world:
        lease = await world.lock().acquire(ttl=2)
        state = world.state
        await state.set("a", 1, guard=lease)
        await state.set_many({"b": 1}, guard=lease)
        await state.update("a", lambda n: n + 1, guard=lease)
        await state.increment("a", guard=lease)
        assert await state.compare_and_set("a", 3, 4, guard=lease)
        async with state.transaction(guard=lease) as tx:
            await tx.set("c", 1)
        late = state.transaction(guard=lease)
        with pytest.raises(StaleLease):
            async with late as tx:
                await tx.set("a", "late")
                await asyncio.sleep(3)

        async def slow(value):
            return value

        async def work(tx) -> None:
            await tx.set("a", "late")

        before = world.kernel.revision
        for write in (
            lambda: state.set("a", 9, guard=lease),
            lambda: state.set("a", 9, ttl=9, guard=lease),
            lambda: state.set_many({"a": 9}, guard=lease),
            lambda: state.update("a", slow, guard=lease),
            lambda: state.increment("a", guard=lease),
            lambda: state.compare_and_set("a", 4, 9, guard=lease),
            lambda: state.delete("a", guard=lease),
            lambda: state.delete_many(["a"], guard=lease),
            lambda: state.transact(work, guard=lease),
        ):
            with pytest.raises(StaleLease):
                await write()
        assert world.kernel.revision == before
        assert await state.get("a") == 4


@virtual
async def test_a_guard_is_stale_after_a_change_of_mode():
    """L2: a change of mode makes the old token stale."""
    async with World() as world:
        lease = await world.lock().acquire()
        conditions = lease.conditions()
        await lease.downgrade()
        with pytest.raises(StaleLease, match="does not hold"):
            await world.kernel.commit(
                world.state.identity, events=[], conditions=conditions
            )
        await world.state.set("a", 1, guard=lease)
        await lease.release()


@virtual
async def test_a_task_that_ends_without_releasing_loses_what_it_holds():
    """L19: session death; the next gets it."""
    async with World() as world:
        held = []

        async def forgetful():
            held.append(await world.lock().acquire())

        await asyncio.ensure_future(forgetful())
        (lease,) = held
        waiter = asyncio.ensure_future(hold(world))
        await turns(3)
        with pytest.raises(LeaseLost, match="ended without releasing"):
            await lease.release()
        await waiter
        world.check_empty()
        assert len(world.all._core.sessions) == 0


@virtual
async def test_waiting_for_oneself_is_a_deadlock_unless_reentrant():
    """L16: never a hang; reentrant: same grant, same token, counted."""
    async with World() as world:
        lock = world.lock()
        async with lock.acquire() as lease:
            with pytest.raises(DeadlockError, match="waits for lock 'x'"):
                await lock.acquire()
            async with lock.acquire(reentrant=True) as again:
                assert again is lease
            assert lease.is_live
            assert lock.acquire_nowait(reentrant=True) is lease
            await lease.release()
            assert lease.is_live
        assert not lease.is_live
        async with lock.acquire("shared"):
            with pytest.raises(DeadlockError, match="upgrade"):
                await lock.acquire(reentrant=True)
        world.check_empty()


@virtual
async def test_abba_is_reported_to_the_request_that_closes_it():
    """L15: exactly one victim, at once; the other gets its lock."""
    async with World() as world:

        async def take(first: str, second: str, delay: float) -> str:
            async with world.lock(first):
                await asyncio.sleep(delay)
                async with world.lock(second):
                    return first

        results = await asyncio.gather(
            take("a", "b", 1), take("b", "a", 2), return_exceptions=True
        )
        assert results[0] == "a"
        assert isinstance(results[1], DeadlockError)
        text = str(results[1])
        assert "lock 'a' (exclusive)" in text
        assert "lock 'b' (exclusive)" in text
        assert "held by task" in text
        world.check_empty()


@virtual
async def test_a_conflicting_request_ahead_in_the_queue_counts():
    """L15: a soft edge, a conflicting request ahead."""
    async with World() as world:

        async def reader() -> None:
            async with world.lock("x").acquire("shared"):
                await asyncio.sleep(10)

        async def writer() -> None:
            async with world.lock("y"):
                await asyncio.sleep(1)
                async with world.lock("x"):
                    pass

        async def victim() -> None:
            async with world.lock("z"):
                await asyncio.sleep(2)
                async with world.lock("x").acquire("shared"):  # behind the writer
                    pass

        async def closer() -> None:
            await asyncio.sleep(3)
            async with world.lock("y").acquire():  # which the writer holds
                pass

        results = await asyncio.gather(
            reader(), writer(), victim(), closer(), return_exceptions=True
        )
        assert results == [None] * 4

        async def victim_with_y() -> None:
            async with world.lock("z"):
                await asyncio.sleep(2)
                async with world.lock("x").acquire("shared"):
                    pass

        async def writer_wants_z() -> None:
            async with world.lock("x").acquire("shared"):
                await asyncio.sleep(3)
                async with world.lock("z"):
                    pass

        async def between() -> None:
            await asyncio.sleep(1)
            async with world.lock("x"):
                pass

        results = await asyncio.gather(
            victim_with_y(), writer_wants_z(), between(), return_exceptions=True
        )
        assert [type(r) for r in results] == [type(None), DeadlockError, type(None)]
        world.check_empty()


@virtual
async def test_acquire_all_takes_all_or_none_in_one_order():
    """L20: opposite orders do not deadlock; a time-out is for all together."""
    async with World() as world:
        done: list[str] = []

        async def take(*names: str) -> None:
            async with world.all.acquire_all(world.state.identity, names) as leases:
                assert [lease.name for lease in leases] == sorted(set(names))
                await asyncio.sleep(1)
                done.append("".join(names))

        await asyncio.gather(take("a", "b", "c"), take("c", "b", "a"), take("b", "b"))
        assert len(done) == 3
        async with world.lock("b"):

            async def late() -> None:
                await world.all.acquire_all(world.state.identity, ["a", "b"], timeout=2)

            with pytest.raises(LockTimeout):
                await asyncio.ensure_future(late())
            assert [held.resource for held in world.locks.held()] == ["b"]
        leases = await world.all.acquire_all(world.state.identity, ["a", "b"])
        await world.state.set("k", 1, guard=leases)
        await leases[0].release()
        with pytest.raises(StaleLease):
            await world.state.set("k", 2, guard=leases)
        with pytest.raises(LeaseLost):
            await leases.release()
        with pytest.raises(TypeError):
            world.all.acquire_all(world.state.identity, "ab")
        world.check_empty()


@virtual
async def test_acquire_all_as_a_block_tells_of_a_loss():
    """L11, L20."""
    async with World() as world:
        with pytest.raises(LeaseLost):
            async with world.all.acquire_all(world.state.identity, ["a"]):
                raise LeaseLost
        names = ["a", "b"]
        with pytest.raises(LeaseLost, match="no"):
            async with world.all.acquire_all(world.state.identity, names) as leases:
                await world.locks.force_release(leases[0].id, reason="no")
        world.check_empty()


@virtual
async def test_events_ride_in_the_commits():
    """L2: the event's revision is the token."""
    async with World() as world:
        tasks = [asyncio.ensure_future(hold(world)) for _ in range(2)]
        await asyncio.gather(*tasks)
        assert [type(event) for event in world.events()] == [
            LockAcquired,
            LockContention,
            LockReleased,
            LockAcquired,
            LockReleased,
        ]
        assert {event.resource for event in world.events()} == {"x"}


@virtual
async def test_close_wakes_every_waiter():
    """G12: with `Closed`; releasing afterwards does no harm."""
    async with World() as world:
        lease = await world.lock().acquire()
        waiter = asyncio.ensure_future(hold(world))
        watching = asyncio.ensure_future(_wait(lease.lost))
        await turns()
        world.all.close()
        world.all.close()
        await world.kernel.close()
        for task in (waiter, watching):
            with pytest.raises(Closed):
                await task
        with pytest.raises(Closed):
            await world.lock().acquire()
        await lease.release()
        assert residue(world.all) == (0, 0)


@virtual
async def test_one_lease_serves_one_body_at_a_time():
    """L22: it is bound to the task it cancels."""
    async with World() as world:
        lease = await world.lock().acquire()
        async with lease:

            async def other() -> None:
                with pytest.raises(RuntimeError, match="another task"):
                    async with lease:
                        pass

            await asyncio.ensure_future(other())
            assert "live" in repr(lease)
        assert "released" in repr(lease)
        world.check_empty()


@virtual
async def test_one_handle_serves_many_tasks():
    """G4: each has a lease of its own; cancelling one does not touch the other."""
    async with World() as world:
        lock = world.lock()

        async def use() -> None:
            async with lock:
                await asyncio.sleep(1)

        tasks = [asyncio.ensure_future(use()) for _ in range(3)]
        await turns(2)
        tasks[1].cancel()
        await asyncio.wait(tasks)
        assert [task.cancelled() for task in tasks] == [False, True, False]
        world.check_empty()


@virtual
async def test_bad_modes_are_refused():
    """L1."""
    async with World() as world:
        with pytest.raises(ValueError, match="exclusive, shared or upgradeable"):
            world.lock().acquire("loose")
        async with world.semaphore(capacity=1).acquire() as lease:
            with pytest.raises(TypeError):
                await lease.upgrade()
            with pytest.raises(TypeError):
                await lease.downgrade()


@virtual
async def test_a_crowd_of_readers_gets_in_at_once_each_with_its_own_token():
    """L7, L2: one release, one turn of the loop, as many tokens as readers."""
    async with World() as world:
        lease = await world.lock().acquire()
        readers = [
            asyncio.ensure_future(hold(world, mode="shared")) for _ in range(1_200)
        ]
        await turns(2)
        await lease.release()
        held = world.locks.held()
        assert len(held) == 1_200
        assert len({each.token for each in held}) == 1_200
        await asyncio.gather(*readers)
        world.check_empty()


@virtual
async def test_what_a_release_costs_does_not_depend_on_how_many_read(monkeypatch):
    """L7: who may go in is asked so often for each of a crowd, not for each pair."""
    asked = 0

    def counting(method):
        def count(self, *args):
            nonlocal asked
            asked += 1
            return method(self, *args)

        return count

    for name in ("fits", "head", "admits", "next_request"):
        monkeypatch.setattr(LockState, name, counting(getattr(LockState, name)))
    async with World() as world:
        lease = await world.lock().acquire()
        crowd = [asyncio.ensure_future(hold(world, mode="shared")) for _ in range(500)]
        await turns(2)
        await lease.release()
        await asyncio.gather(*crowd)
        assert asked < 20 * 500
        world.check_empty()


@virtual
async def test_the_log_knows_how_much_a_long_line_holds():
    """H1: a version of a long line holds only what the next one changed."""
    async with World() as world:
        sizes = []
        async with contextlib.AsyncExitStack() as stack:
            for _ in range(100):
                await stack.enter_async_context(world.lock().acquire(mode="shared"))
                log = world.kernel._log
                sizes.append(log.entry(log.end - 1).size)
        assert len(set(sizes[1:])) == 1  # the first replaced nothing


@virtual
async def test_a_lock_stays_closed_for_a_while_when_its_holder_lost_it():
    """L18: whoever lost it may not know yet; who gives it back does."""
    async with World(lock_delay=2.0) as world:
        await world.lock().acquire(ttl=1, renew=False)
        waits = asyncio.ensure_future(hold(world, seconds=0))
        await asyncio.sleep(1.5)
        with pytest.raises(WouldBlock, match=r"stays closed for 1\.5 s"):
            world.lock().acquire_nowait()
        with pytest.raises(LockTimeout, match="stays closed"):
            await world.lock().acquire(timeout=0)
        assert not waits.done()
        began = world.clock.monotonic()
        await waits
        assert world.clock.monotonic() - began == pytest.approx(1.5, abs=0.001)
        async with world.lock():
            pass
        (lease,) = [await world.lock().acquire()]  # given back: open at once
        await world.locks.force_release(lease.id, reason="stuck")
        assert await world.state.get("locks.x.opens_at") > 0
        await asyncio.sleep(2.001)
        assert await world.state.read("locks.x") is None
        world.check_empty()


@virtual
async def test_a_closed_lock_does_not_outlive_the_swarm():
    """G12: the alarm that would open it is no more."""
    async with World(lock_delay=2.0) as world:
        lease = await world.lock().acquire()
        waits = asyncio.ensure_future(hold(world))
        await turns()
        await world.locks.force_release(lease.id, reason="stuck")
    with pytest.raises(Closed):
        await waits


@virtual
@pytest.mark.parametrize("kind", ["lock", "semaphore"])
async def test_a_crowd_cancelled_in_one_tick_passes_the_grant_on_without_end(kind):
    """L4, L5, G13: to the last of a thousand, however deep that would nest."""
    async with World() as world:
        if kind == "lock":
            first, ask = await world.lock().acquire(), world.lock().acquire
        else:
            first, ask = await world.semaphore("s", 1).acquire(), None
            ask = world.semaphore("s").acquire
        tasks = [asyncio.ensure_future(_get(ask)) for _ in range(1_000)]
        last = asyncio.ensure_future(_get(ask))
        await turns()
        for task in tasks:
            task.cancel()
        await first.release()
        results = await asyncio.gather(*tasks, return_exceptions=True)
        assert {type(result) for result in results} == {asyncio.CancelledError}
        lease = await last
        assert lease.is_live
        await lease.release()
        world.check_empty()


async def _get(ask):
    return await ask(ttl=5)


@virtual
async def test_a_lease_without_a_record_is_lost_when_it_is_due():
    """L11: its alarm is not set again and again for nothing."""
    async with World() as world:
        lease = await world.lock().acquire(ttl=1)
        world.kernel._tree.remove(lease._spec.path)  # as a fault would leave it
        await asyncio.sleep(1.5)
        assert not lease.is_live
        assert residue(world.all) == (0, 0)
        assert not world.all.leases
        world.check_empty()


@virtual
async def test_an_acquisition_can_be_used_again_also_by_many_at_once():
    """M1, L1: each use is a request of its own."""
    async with World() as world:
        limit = world.semaphore("s", 2).acquire()
        inside = most = 0

        async def use() -> None:
            nonlocal inside, most
            async with limit as lease:
                inside += 1
                most = max(most, inside)
                await asyncio.sleep(1)
                assert lease.is_live
                inside -= 1

        await asyncio.gather(*(use() for _ in range(20)))
        assert most == 2
        shared = world.lock().acquire("shared", ttl=1)
        async with shared as one, shared as two:
            assert one.id != two.id
            await asyncio.sleep(3)  # both are renewed
        three = await shared
        assert three.id not in (one.id, two.id)
        await asyncio.sleep(1.5)
        assert not three.is_live  # awaited: nobody renews it
        world.check_empty()


@virtual
async def test_a_lease_that_a_task_returns_belongs_to_the_task_that_enters_it():
    """L19: gathered, waited for with a time-out, in every version alike."""
    async with World() as world:
        first, second = await asyncio.gather(
            world.lock("x").acquire(ttl=3), world.lock("y").acquire(ttl=3)
        )
        third = await asyncio.wait_for(world.lock("z").acquire(ttl=3), 5)
        both = asyncio.ensure_future(_all_of(world))
        leases = await both
        await turns(3)
        for lease in (first, second, third, *leases):
            assert lease.is_live
        await world.state.set("a", 1, guard=first)
        await third.release()
        async with first, second:
            with pytest.raises(DeadlockError):  # it is this task's now
                await world.lock("x").acquire()
            await asyncio.sleep(5)  # and renewed
            assert first.is_live
        for lease in leases:  # or given back by whoever has it
            await lease.release()
        lost = await asyncio.ensure_future(_get(world.lock("x").acquire))
        await asyncio.sleep(6)  # by nobody: it expires
        assert not lost.is_live
        world.check_empty()
        assert len(world.all._core.sessions) == 1


async def _all_of(world: World):
    return await world.all.acquire_all(OWNER, ["p", "q"])


@virtual
async def test_acquire_all_fails_at_once_when_one_lease_is_lost():
    """L20: and not only when it gets the others."""
    async with World() as world:
        other = await world.lock("b").acquire(ttl=100)
        waits = asyncio.ensure_future(_wait(world.all.acquire_all(OWNER, ["a", "b"])))
        await turns()
        (held,) = world.locks.held("a")
        await world.locks.force_release(held.lease_id, reason="needed elsewhere")
        with pytest.raises(LeaseLost, match="needed elsewhere"):
            await waits
        assert not world.locks.queue()
        await other.release()
        world.check_empty()


@virtual
async def test_what_cannot_be_meant_is_refused():
    """One clear error each, and nothing happens."""
    async with World() as world:
        lock, semaphore = world.lock(), world.semaphore("s", 2)
        lease = lock.acquire_nowait("shared")
        barrier = world.barrier("b", 2)
        for wrong in ("3", True, b"", [1]):
            for ask in (lock.acquire, semaphore.acquire):
                with pytest.raises(TypeError, match="a timeout is a number"):
                    ask(timeout=wrong)
                with pytest.raises(TypeError, match="a ttl is a number"):
                    ask(ttl=wrong)
            for wait in (lease.upgrade, barrier.wait):
                with pytest.raises(TypeError, match="a timeout is a number"):
                    await wait(timeout=wrong)
            with pytest.raises(TypeError, match="a ttl is a number"):
                await lease.renew(wrong)
        for wrong in (-1, float("nan"), float("-inf")):
            with pytest.raises(ValueError, match="a timeout is 0 seconds or more"):
                lock.acquire(timeout=wrong)
            with pytest.raises(ValueError, match="a timeout is 0 seconds or more"):
                await barrier.wait(wrong)
        for wrong in (0, -1, 1e300, float("inf"), float("nan")):
            with pytest.raises(ValueError, match=r"a ttl is from 0\.000001"):
                lock.acquire(ttl=wrong)
            with pytest.raises(ValueError, match=r"a ttl is from 0\.000001"):
                await lease.renew(wrong)
        with pytest.raises(TypeError, match="a priority is one of"):
            lock.acquire(priority="high")
        with pytest.raises(ValueError, match=r"is one of `Priority`, .* not 7"):
            lock.acquire(priority=7)
        for wrong in (5, None, b"x", lock):
            with pytest.raises(TypeError, match="the name of a lock is text"):
                world.lock(wrong)
            with pytest.raises(TypeError, match="the name of a semaphore is text"):
                world.semaphore(wrong, 1)
            with pytest.raises(TypeError, match="the name of a barrier is text"):
                world.barrier(wrong, 1)
        assert lease.is_live
        await lease.release()
        world.check_empty()


@virtual
async def test_a_lease_after_the_end_says_so():
    """G12: it holds nothing any more, and nothing hangs."""
    async with World() as world:
        lease = await world.lock().acquire()
        watching = asyncio.ensure_future(_wait(lease.lost))
        others = [asyncio.ensure_future(hold(world)) for _ in range(2)]
        await turns()
        world.all.close()
    assert not lease.is_live
    assert lease.expires_in == 0
    assert "the swarm is closed" in repr(lease)
    for wait in (_wait(lease.lost), watching, lease.renew(), lease.upgrade()):
        with pytest.raises(Closed):
            await wait
    await lease.release()
    errors = await asyncio.gather(*others, return_exceptions=True)
    assert [type(error) for error in errors] == [Closed, Closed]
    assert errors[0] is not errors[1]


@virtual
async def test_a_lease_is_upgraded_once_at_a_time():
    """L13: another holder who upgrades as well is a deadlock; oneself is a mistake."""
    async with World() as world:
        lease = await world.lock().acquire("upgradeable")
        reader = asyncio.ensure_future(hold(world, mode="shared"))
        await turns()
        first = asyncio.ensure_future(lease.upgrade())
        await turns()
        with pytest.raises(RuntimeError, match="is being upgraded already"):
            await lease.upgrade()
        await asyncio.gather(first, reader)
        assert lease.mode == "exclusive"
        await lease.release()
        world.check_empty()


@virtual
async def test_a_guard_holds_in_its_own_swarm_alone():
    """L3: two swarms of one seed give their leases the same ids."""
    async with World() as one, World() as other:
        guard = await one.lock().acquire()
        theirs = await other.lock().acquire()
        assert (guard.id, guard.token) == (theirs.id, theirs.token)
        await one.state.set("a", 1, guard=guard)
        with pytest.raises(StaleLease, match="another swarm"):
            await other.state.set("a", 1, guard=guard)
        with pytest.raises(StaleLease, match="another swarm"):
            async with other.state.transaction(guard=guard) as tx:
                await tx.set("a", 1)
        assert await other.state.get("a", None) is None
        for wrong in (one.lock(), 5, "lease"):
            with pytest.raises(TypeError, match="a guard is a lease"):
                await one.state.set("a", 2, guard=wrong)
            with pytest.raises(TypeError, match="a guard is a lease"):
                one.state.transaction(guard=wrong)
        assert await one.state.get("a") == 1
        await guard.release()
        await theirs.release()


@virtual
@pytest.mark.parametrize("what", ["renew", "release", "downgrade"])
async def test_what_finds_that_another_lease_is_over_acts_on_what_that_lets_in(what):
    """L3, L9, L11: its own upgrade is granted meanwhile, with another token."""
    async with World() as world:
        lease = await world.lock().acquire("upgradeable", ttl=30)
        await world.lock().acquire("shared", ttl=1, renew=False)
        upgrade = asyncio.ensure_future(lease.upgrade())
        waits = asyncio.ensure_future(hold(world))
        await turns(2)
        asyncio.get_running_loop().virtual += 2  # the loop is busy: no alarm has rung
        await getattr(lease, what)()
        await upgrade
        (held,) = world.locks.held()
        assert (held.lease_id == lease.id) is (what != "release")
        if what != "release":
            assert lease.is_live
            assert lease.mode == ("exclusive" if what == "renew" else "shared")
            await world.state.set("a", 1, guard=lease)
            await lease.release()
        await waits
        world.check_empty()
