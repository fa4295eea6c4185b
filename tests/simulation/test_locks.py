"""Locks, semaphores and barriers under many schedules, judged by their models."""

import asyncio
import contextlib

from swarm import (
    BrokenBarrier,
    DeadlockError,
    LeaseLost,
    LockTimeout,
    StaleLease,
    Swarm,
)
from swarm.testing import (
    BROKEN,
    LEFT,
    BarrierModel,
    History,
    LockModel,
    SemaphoreModel,
    Sim,
)
from tests.simulation.oracle import breaks, holds, linearizable, nothing_left, quietly

CHANGES = {"exclusive": "downgrade", "shared": "upgrade", "upgradeable": "upgrade"}


async def leases(sim: Sim) -> None:
    """Clients take a lock in any mode, change it, and some are cancelled."""
    history = History()
    async with Swarm() as swarm:

        async def client(who: int, mode: str, change: str, patience: float) -> None:
            lock = swarm.lock("x")
            call = history.invoke(who, "acquire", mode)
            try:
                lease = await lock.acquire(mode, timeout=patience)
            except LockTimeout:
                history.ok(call, False)
                return
            history.ok(call, lease.token)
            await asyncio.sleep(sim.rng.choice([0, 1]))
            if change:
                call = history.invoke(who, change)
                try:
                    if change == "upgrade":
                        await lease.upgrade(1)
                    else:
                        await lease.downgrade()
                except (DeadlockError, LockTimeout):
                    history.ok(call, False)
                else:
                    history.ok(call, lease.token)
            call = history.invoke(who, "release", lease.token)
            await lease.release()
            history.ok(call, True)

        rng = sim.rng
        await asyncio.gather(
            *(
                client(
                    who,
                    mode,
                    rng.choice(["", CHANGES[mode]]),
                    rng.choice([0.5, 5.0]),
                )
                for who, mode in enumerate(
                    rng.choices(["exclusive", "shared", "upgradeable"], k=4)
                )
            )
        )
        assert swarm._coordinator.coordination.residue() == (0, 0)
    nothing_left(swarm)
    linearizable(history, LockModel(fenced=True))


def test_leases_are_linearizable_and_their_tokens_grow():
    """L1, L2, L3, L13, L14: whatever the schedule."""
    holds(leases)


async def cancelled(sim: Sim) -> None:
    """Clients are cancelled anywhere; whoever is left gets the lock."""
    async with Swarm() as swarm:
        inside = 0

        async def client() -> None:
            nonlocal inside
            async with swarm.lock("x"), swarm.semaphore("s", 1).acquire():
                inside += 1
                assert inside == 1
                try:
                    await asyncio.sleep(0.001)
                finally:
                    inside -= 1

        tasks = [asyncio.ensure_future(client()) for _ in range(4)]
        for task in sim.rng.sample(tasks, 2):
            for _ in range(sim.rng.choice([0, 1, 2, 3])):
                await asyncio.sleep(0)
            task.cancel()
        for task in tasks:
            outcome = await quietly(task)
            assert outcome is None or isinstance(outcome, asyncio.CancelledError)
        await asyncio.sleep(0.001)
        assert swarm._coordinator.coordination.residue() == (0, 0)
        assert swarm.locks.held() == ()
    nothing_left(swarm)


def test_no_cancellation_strands_anybody():
    """L4, L5, G13, G15."""
    holds(cancelled)


async def fenced(sim: Sim) -> None:
    """A holder sleeps beyond its lease; only the live holder's writes count."""
    async with Swarm() as swarm:
        written: list[int] = []

        async def writer(sleep: float) -> None:
            lease = await swarm.lock("x").acquire(ttl=1)
            await asyncio.sleep(sleep)
            with contextlib.suppress(StaleLease):
                await swarm.state.set("doc", lease.token, guard=lease)
                written.append(lease.token)
            with contextlib.suppress(LeaseLost):
                await lease.release()

        await asyncio.gather(*(writer(s) for s in (0.5, 1.5, 0.2)))
        assert written == sorted(written)
        if written:
            assert await swarm.state.get("doc") == written[-1]


def test_a_paused_holder_cannot_write_whatever_the_timing():
    """S16, L11: also when the whole loop stalls."""
    holds(fenced, max_stall=2.0)


async def unfenced(sim: Sim) -> None:
    """The same without a guard: a planted bug."""
    async with Swarm() as swarm:
        written: list[int] = []

        async def writer(sleep: float) -> None:
            lease = await swarm.lock("x").acquire(ttl=1)
            await asyncio.sleep(sleep)
            await swarm.state.set("doc", lease.token)
            written.append(lease.token)
            await quietly(lease.release())

        await asyncio.gather(*(writer(s) for s in (0.5, 1.5, 0.2)))
        assert written == sorted(written)


def test_without_the_guard_it_can():
    """The judge is not blind."""
    breaks(unfenced)


async def permits(sim: Sim) -> None:
    """Clients take several permits at once."""
    history = History()
    async with Swarm() as swarm:

        async def client(who: int, number: int) -> None:
            semaphore = swarm.semaphore("s", 3)
            call = history.invoke(who, "acquire", number)
            try:
                lease = await semaphore.acquire(number, timeout=1)
            except LockTimeout:
                history.ok(call, False)
                return
            history.ok(call, True)
            await asyncio.sleep(sim.rng.choice([0, 0.6]))
            call = history.invoke(who, "release", number)
            await lease.release()
            history.ok(call, True)

        await asyncio.gather(
            *(client(who, sim.rng.choice([1, 2, 3])) for who in range(4))
        )
    nothing_left(swarm)
    linearizable(history, SemaphoreModel(3, owned=True))


def test_permits_are_linearizable():
    """M1, M2, M3, M6."""
    holds(permits)


async def meetings(sim: Sim) -> None:
    """Parties come and go; some give up."""
    history = History()
    async with Swarm() as swarm:

        async def party(who: int, patience: float) -> None:
            barrier = swarm.barrier("b", 2)
            for _ in range(2):
                call = history.invoke(who, "wait")
                try:
                    arrival = await barrier.wait(patience)
                except TimeoutError:
                    history.ok(call, LEFT)
                except BrokenBarrier:
                    history.ok(call, BROKEN)
                else:
                    history.ok(call, (arrival.generation, arrival.index))

        await asyncio.gather(*(party(who, sim.rng.choice([1, 2])) for who in range(3)))
    nothing_left(swarm)
    linearizable(history, BarrierModel(2))


def test_barriers_are_linearizable():
    """B1 to B6, B10."""
    holds(meetings)


async def crossed(sim: Sim) -> None:
    """ABBA: at most one victim, and nobody hangs."""
    async with Swarm() as swarm:

        async def take(first: str, second: str) -> None:
            async with swarm.lock(first):
                await asyncio.sleep(0)
                async with swarm.lock(second):
                    await asyncio.sleep(0)

        outcomes = await asyncio.gather(
            take("a", "b"), take("b", "a"), return_exceptions=True
        )
        assert [o for o in outcomes if o is None]
        assert all(o is None or isinstance(o, DeadlockError) for o in outcomes)
    nothing_left(swarm)


def test_a_deadlock_has_one_victim_whatever_the_schedule():
    """L15."""
    holds(crossed)
