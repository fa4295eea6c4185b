"""The contract of any kernel for two processes that wait for each other.

    class TestMyKernel(CoordinationContract):
        async def make_kernel(self, limits=None): ...
        async def another(self, kernel): ...        # the same tree, as another process
        async def pass_time(self, kernel, seconds): ...
        clock = ...                                 # set by `make_kernel`

Two coordinations share one kernel, each with its own tasks, waiters and leases. Each
test has a holder in one and a waiter in the other: what one commits, the other sees.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager
from typing import Any

import attrs
import pytest

from swarm.coordination import (
    BarrierHandle,
    Coordination,
    Lease,
    LockHandle,
    SemaphoreHandle,
    WaitGraph,
)
from swarm.errors import (
    BarrierTimeout,
    BrokenBarrier,
    ConfigMismatch,
    LeaseLost,
    LockTimeout,
    NotFound,
)
from swarm.model import OWNER, ROOT
from swarm.ports import Clock, Entropy, Kernel, View
from swarm.testing.contracts._base import ContractBase

KINDS = ("exclusive", "shared", "upgradeable", "semaphore")
"""The ways to hold something; each keeps out the exclusive holder."""


@attrs.define
class Process:
    """One of two processes, with its own coordination."""

    coordination: Coordination

    def lock(self, name: str = "x") -> LockHandle:
        """Return a handle on a lock."""
        return self.coordination.lock(OWNER, name)

    def semaphore(self, capacity: int = 1) -> SemaphoreHandle:
        """Return a handle on the semaphore."""
        return self.coordination.semaphore(OWNER, "s", capacity)

    def barrier(self, parties: int = 2) -> BarrierHandle:
        """Return a handle on the barrier."""
        return self.coordination.barrier(OWNER, "b", parties)

    async def hold(self, kind: str, **options: Any) -> Lease:
        """Hold the lock in a mode, or the one permit."""
        if kind == "semaphore":
            return await self.semaphore().acquire(**options)
        return await self.lock().acquire(kind, **options)  # type: ignore[arg-type]

    async def want(self, kind: str, **options: Any) -> Lease:
        """Hold what keeps out every other holder of the kind."""
        mode = kind if kind == "semaphore" else "exclusive"
        return await self.hold(mode, **options)


def start(awaitable: Awaitable[Any]) -> "asyncio.Task[Any]":
    """Run something in a task of its own."""
    return asyncio.ensure_future(awaitable)


async def outcome(task: "asyncio.Task[Any]") -> Any:
    """Return the result of a task, or its error."""
    await asyncio.wait([task])
    if task.cancelled():
        return "cancelled"
    return task.exception() or task.result()


def _people(view: View) -> list[str]:
    return [
        document.path.text
        for document in view.documents(ROOT)
        for key in ("holders", "queue", "arrivals")
        if document.value.get(key)
    ]


class CoordinationContract(ContractBase):
    """The tests that two coordinations on one kernel must pass."""

    clock: Clock

    async def another(self, kernel: Kernel) -> Kernel:
        """Return the same tree for another process; by default the same kernel."""
        return kernel

    async def settle(self) -> None:
        """Let every operation that can be done, be done, round trips included."""
        for _ in range(60):
            await asyncio.sleep(0)

    @asynccontextmanager
    async def processes(self) -> AsyncIterator[tuple[Process, Process]]:
        """Give two processes; at the end nothing may be held or waited for."""
        kernel = self._kernel = await self.make_kernel()
        other = await self.another(kernel)
        pair = [
            Process(Coordination(each, self.clock, Entropy(seed), WaitGraph()))
            for seed, each in enumerate((kernel, other))
        ]
        try:
            yield pair[0], pair[1]
            await self.settle()
            assert await kernel.read(_people) == []
            for process in pair:
                assert not process.coordination.leases
                assert not process.coordination.explain()
        finally:
            for process in pair:
                process.coordination.close()
            await kernel.close()
            if other is not kernel:
                await other.close()
            await self.settle()

    async def wait(self, seconds: float) -> None:
        """Let time pass, and everything happen that it brings."""
        await self.pass_time(self._kernel, seconds)
        await self.settle()

    # --- locks and permits ------------------------------------------------------------

    @pytest.mark.parametrize("kind", KINDS)
    async def test_a_release_grants_to_a_waiter_in_the_other_process(
        self, kind: str
    ) -> None:
        """L2, L7: with a larger token."""
        async with self.processes() as (one, other):
            lease = await one.hold(kind)
            waiter = start(other.want(kind))
            await self.settle()
            assert not waiter.done()
            await lease.release()
            await self.settle()
            theirs = waiter.result()
            assert theirs.token > lease.token
            with pytest.raises(LeaseLost):
                await lease.release()
            await theirs.release()

    @pytest.mark.parametrize("kind", KINDS)
    async def test_a_lease_released_by_its_body_is_not_lost(self, kind: str) -> None:
        async with self.processes() as (one, _):
            async with await one.hold(kind) as lease:
                gone = start(lease.lost())
                await self.settle()
                await lease.release()
                await self.settle()
            assert await outcome(gone) is None
            assert "it was released" in repr(lease)

    @pytest.mark.parametrize("kind", ["exclusive", "semaphore"])
    async def test_a_request_that_its_own_process_takes_out_is_lost(
        self, kind: str
    ) -> None:
        """L5: as one does that was taken for dead. It tells itself of own commits."""
        async with self.processes() as (one, other):
            lease = await other.hold(kind)
            waiter = start(one.want(kind))
            await self.settle()
            await one.coordination.forget(lambda _: True)
            await self.settle()
            assert waiter.done()
            assert isinstance(await outcome(waiter), LeaseLost)
            await lease.release()

    async def test_an_upgrade_that_its_own_process_takes_out_is_lost(self) -> None:
        async with self.processes() as (one, other):
            lease = await one.hold("upgradeable")
            reader = await other.hold("shared")
            upgrade = start(lease.upgrade())
            await self.settle()
            await one.coordination.forget(lambda _: True)
            await self.settle()
            assert upgrade.done()
            assert isinstance(await outcome(upgrade), LeaseLost)
            assert lease.mode == "upgradeable"
            await reader.release()
            await lease.release()

    async def test_an_arrival_that_its_own_process_takes_out_is_lost(self) -> None:
        """B4."""
        async with self.processes() as (one, _):
            waiter = start(one.barrier().wait())
            await self.settle()
            await one.coordination.forget(lambda _: True)
            await self.settle()
            assert waiter.done()
            assert isinstance(await outcome(waiter), BrokenBarrier)

    async def test_a_lock_taken_away_during_its_release_says_so(self) -> None:
        async with self.processes() as (one, other):
            lease = await one.hold("exclusive")
            locks = other.coordination.locks(OWNER)
            forcing = start(locks.force_release(lease.id, reason="needed"))
            releasing = start(lease.release())
            await self.settle()
            await outcome(forcing)
            lost = await outcome(releasing)
            assert lost is None or "needed" in str(lost)

    async def test_requests_of_two_processes_are_served_in_order(self) -> None:
        """L6, M5."""
        async with self.processes() as (one, other):
            for kind in ("exclusive", "semaphore"):
                order: list[int] = []

                async def use(
                    process: Process,
                    number: int,
                    kind: str = kind,
                    order: list[int] = order,
                ) -> None:
                    lease = await process.want(kind)
                    order.append(number)
                    await lease.release()

                lease = await one.hold(kind)
                tasks = []
                for number in range(6):
                    process = (other, one)[number % 2]
                    tasks.append(start(use(process, number)))
                    await self.settle()
                await lease.release()
                await asyncio.gather(*tasks)
                assert order == list(range(6))

    @pytest.mark.parametrize("kind", KINDS)
    async def test_an_expiry_grants_to_a_waiter_in_the_other_process(
        self, kind: str
    ) -> None:
        """L11, M9: and the holder is told."""
        async with self.processes() as (one, other):
            lease = await one.hold(kind, ttl=2)
            waiter = start(other.want(kind))
            await self.settle()
            await self.wait(2.1)
            assert not lease.is_live
            theirs = waiter.result()
            with pytest.raises(LeaseLost, match="expired"):
                await lease.renew()
            await theirs.release()

    @pytest.mark.parametrize("kind", KINDS)
    async def test_the_lease_of_a_dead_process_ends_for_the_other(
        self, kind: str
    ) -> None:
        """L11, L19: the waiter's process looks after it."""
        async with self.processes() as (one, other):
            lease = await one.hold(kind, ttl=2)
            waiter = start(other.want(kind))
            await self.settle()
            one.coordination.close()
            await self.wait(2.1)
            assert waiter.done(), "nobody looked after the lease"
            assert waiter.result().token > lease.token
            await waiter.result().release()

    @pytest.mark.parametrize("kind", KINDS)
    async def test_force_reaches_the_holder_in_the_other_process(
        self, kind: str
    ) -> None:
        """L17: its body is cancelled, and the waiter gets it."""
        async with self.processes() as (one, other):

            async def body() -> None:
                async with await one.hold(kind):
                    await asyncio.Event().wait()

            holder = start(body())
            await self.settle()
            waiter = start(other.want(kind))
            await self.settle()
            if kind == "semaphore":
                permits = other.coordination.semaphores(OWNER)
                (held,) = permits.held()
                await permits.force_release(held.lease_id, reason="needed")
            else:
                locks = other.coordination.locks(OWNER)
                (lock,) = locks.held()
                await locks.force_release(lock.lease_id, reason="needed")
            await self.settle()
            error = await outcome(holder)
            assert isinstance(error, LeaseLost)
            if kind != "semaphore":
                assert "needed" in str(error)
            await (await waiter).release()

    @pytest.mark.parametrize("kind", KINDS)
    async def test_a_cancelled_waiter_holds_up_nobody_in_the_other_process(
        self, kind: str
    ) -> None:
        """L5, G6: at every turn of the loop."""
        async with self.processes() as (one, other):
            for turns in range(12):
                lease = await one.hold(kind)
                waiter = start(other.want(kind))
                for _ in range(turns):
                    await asyncio.sleep(0)
                waiter.cancel()
                behind = start(one.hold(kind))
                await self.settle()
                if kind == "shared":
                    await behind  # granted beside the lease
                await lease.release()
                assert await outcome(waiter) == "cancelled"
                await (await behind).release()
                await self.settle()

    @pytest.mark.parametrize("kind", KINDS)
    async def test_a_grant_and_a_cancellation_at_once_lose_nothing(
        self, kind: str
    ) -> None:
        """L4, G5: at every turn of the loop, the grant is passed on."""
        async with self.processes() as (one, other):
            for turns in range(12):
                lease = await one.hold(kind)
                waiter = start(other.want(kind))
                behind = start(one.want(kind))
                await self.settle()
                release = start(lease.release())
                for _ in range(turns):
                    await asyncio.sleep(0)
                waiter.cancel()
                await release
                await self.settle()
                if not waiter.cancelled():
                    await waiter.result().release()
                await (await behind).release()
                await self.settle()

    @pytest.mark.parametrize("kind", KINDS)
    async def test_a_time_out_leaves_nothing_behind(self, kind: str) -> None:
        """L3, G5: with a holder in the other process."""
        async with self.processes() as (one, other):
            lease = await one.hold(kind)
            waiter = start(other.want(kind, timeout=1))
            await self.settle()
            await self.wait(1.1)
            assert isinstance(await outcome(waiter), LockTimeout)
            with pytest.raises(LockTimeout):
                await other.want(kind, timeout=0)
            await lease.release()
            await (await other.want(kind, timeout=0)).release()

    @pytest.mark.parametrize("kind", ["exclusive", "semaphore"])
    async def test_a_task_that_ends_gives_way_to_the_other_process(
        self, kind: str
    ) -> None:
        """L19."""
        async with self.processes() as (one, other):

            async def forgetful() -> None:
                await one.hold(kind)

            waiter = None
            for _ in range(2):
                await start(forgetful())
                waiter = start(other.want(kind))
                await self.settle()
                await waiter.result().release()

    async def test_a_body_is_renewed_while_the_other_process_waits(self) -> None:
        """L10, L22: for longer than its time to live."""
        async with self.processes() as (one, other):
            go = asyncio.Event()

            async def body() -> None:
                async with one.lock().acquire(ttl=3):
                    await go.wait()

            holder = start(body())
            await self.settle()
            waiter = start(other.want("exclusive"))
            for _ in range(24):  # some steps within each third of its time to live
                await self.wait(0.5)
            assert not waiter.done()
            go.set()
            await holder
            await (await waiter).release()

    async def test_an_upgrade_waits_for_readers_in_the_other_process(self) -> None:
        """L13, L14: granted with a new token; a downgrade lets them in again."""
        async with self.processes() as (one, other):
            lease = await one.hold("upgradeable")
            reader = await other.hold("shared")
            upgrade = start(lease.upgrade())
            await self.settle()
            assert not upgrade.done()
            await reader.release()
            await upgrade
            assert lease.mode == "exclusive"
            waiter = start(other.hold("shared"))
            await self.settle()
            assert not waiter.done()
            await lease.downgrade()
            await (await waiter).release()
            await lease.release()

    async def test_an_upgrade_cancelled_on_its_way_leaves_the_lease(self) -> None:
        """L13, L4: at every turn of the loop, in the mode that it had."""
        async with self.processes() as (one, other):
            for is_alone in (True, False):
                for turns in range(12):
                    lease = await one.hold("upgradeable")
                    reader = None if is_alone else await other.hold("shared")
                    upgrade = start(lease.upgrade())
                    for _ in range(turns):
                        await asyncio.sleep(0)
                    upgrade.cancel()
                    await self.settle()
                    assert lease.is_live
                    if upgrade.cancelled():
                        assert lease.mode == "upgradeable"
                    (shown,) = (
                        each
                        for each in other.coordination.locks(OWNER).held()
                        if each.lease_id == lease.id
                    )
                    assert (shown.mode, shown.token) == (lease.mode, lease.token)
                    if reader is not None:
                        await reader.release()
                    await lease.release()
                    await self.settle()

    async def test_a_resize_reaches_waiters_in_the_other_process(self) -> None:
        """M12: more let them in; fewer are told."""
        async with self.processes() as (one, other):
            lease = await one.semaphore(2).acquire(2)
            waiter = start(other.semaphore(2).acquire(1))
            await self.settle()
            await one.semaphore(2).resize(3)
            small = await waiter
            large = start(other.semaphore(2).acquire(3))
            await self.settle()
            await one.semaphore(2).resize(2)
            assert isinstance(await outcome(large), ValueError)
            await small.release()
            await lease.release()

    async def test_a_capacity_that_two_processes_do_not_share_is_refused(self) -> None:
        """G14: neither takes the other's number silently, also if both open at once."""
        async with self.processes() as (one, other):
            first, second = one.semaphore(2), other.semaphore(3)
            lease = await first.acquire()
            with pytest.raises(ConfigMismatch, match=r"'s'.*2 permits.*asks for 3"):
                await second.acquire()
            await lease.release()
            lease = await second.acquire(3)
            await lease.release()

    async def test_a_removed_semaphore_reaches_the_other_process(self) -> None:
        """G14: holders and waiters are told, and the name can be opened anew."""
        async with self.processes() as (one, other):
            lease = await other.semaphore(2).acquire(2)
            waiter = start(other.semaphore(2).acquire())
            await self.settle()
            one.semaphore(2)
            await one.coordination.semaphores(OWNER).remove("s")
            await self.settle()
            assert isinstance(await outcome(waiter), NotFound)
            assert not lease.is_live
            assert one.semaphore(3).capacity == 3

    async def test_a_limiter_counts_both_processes(self) -> None:
        """M5: at most so many begun in any window, first come, first served."""
        async with self.processes() as (one, other):
            begun: list[int] = []

            async def use(process: Process, number: int) -> None:
                limiter = process.coordination.limiter(OWNER, "l", 2, per=10)
                async with limiter.acquire():
                    begun.append(number)

            tasks = []
            for number in range(6):
                tasks.append(start(use((one, other)[number % 2], number)))
                await self.settle()
            for expected in ([0, 1], [0, 1, 2, 3], [0, 1, 2, 3, 4, 5]):
                assert begun == expected
                await self.wait(10.1)
            await asyncio.gather(*tasks)
            await self.wait(10.1)

    # --- barriers ---------------------------------------------------------------------

    async def test_parties_of_two_processes_meet(self) -> None:
        """B1, B2, B3: each generation, with an index of its own."""
        async with self.processes() as (one, other):
            for generation in range(3):
                tasks = [start(p.barrier(3).wait()) for p in (one, other)]
                await self.settle()
                assert one.barrier(3).waiting == other.barrier(3).waiting == 2
                tasks.append(start((one, other)[generation % 2].barrier(3).wait()))
                arrivals = await asyncio.gather(*tasks)
                assert {a.generation for a in arrivals} == {generation}
                assert sorted(a.index for a in arrivals) == [0, 1, 2]

    @pytest.mark.parametrize("how", ["cancel", "time-out", "reset", "force", "remove"])
    async def test_a_barrier_breaks_for_the_parties_of_both(self, how: str) -> None:
        """B2, B4, B7: for one reason; the next generation is whole."""
        async with self.processes() as (one, other):
            first = start(one.barrier(3).wait(1 if how == "time-out" else None))
            await self.settle()
            second = start(other.barrier(3).wait())
            await self.settle()
            barriers = other.coordination.barriers(OWNER)
            if how == "cancel":
                first.cancel()
            elif how == "time-out":
                await self.wait(1.1)
            elif how == "reset":
                await other.barrier(3).reset()
            elif how == "force":
                await barriers.force_break("b", reason="enough")
            else:
                await barriers.remove("b")
            await self.settle()
            told, also = await outcome(first), await outcome(second)
            assert isinstance(also, BrokenBarrier)
            if how == "cancel":
                assert told == "cancelled"
            elif how == "time-out":
                assert isinstance(told, BarrierTimeout)
            else:
                assert isinstance(told, BrokenBarrier)
            assert one.barrier(3).waiting == 0
            parties = [one, other, one]
            await asyncio.gather(*(each.barrier(3).wait() for each in parties))

    async def test_an_arrival_cancelled_on_its_way_leaves_no_phantom(self) -> None:
        """B4, B10: at every turn of the loop, all parties have one outcome."""
        async with self.processes() as (one, other):
            for turns in range(12):
                first = start(one.barrier(2).wait())
                await self.settle()
                second = start(other.barrier(2).wait())
                for _ in range(turns):
                    await asyncio.sleep(0)
                second.cancel()
                await self.settle()
                if not first.done():
                    await other.barrier(2).reset()
                await outcome(first)
                assert one.barrier(2).waiting == 0
                await asyncio.gather(one.barrier(2).wait(), other.barrier(2).wait())
