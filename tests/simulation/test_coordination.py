"""Locks, semaphores and barriers under many schedules, cancellations and faults."""

import asyncio
import contextlib

import pytest

from swarm import Agent, LeaseLost, LockTimeout, StaleLease, Swarm
from swarm.agents import Restart
from swarm.coordination._lease_manager import LeaseManager
from swarm.coordination._waiting import LeaseWaiter
from swarm.kernel import MemoryKernel
from swarm.ports import Holder
from swarm.testing import (
    Faults,
    History,
    LockModel,
    Sim,
    StuckError,
    sweep_cancel,
)
from tests.simulation.oracle import breaks, holds, linearizable, nothing_left, quietly

EVERYBODY = ("ada", "bo", "cy")
WRONG = (AssertionError, StuckError, ExceptionGroup, LockTimeout)
LOST = (LeaseLost, StaleLease, LockTimeout, asyncio.CancelledError)


def free(swarm: Swarm, name: str) -> None:
    """G13: nobody holds the lock, nobody waits for it, the books are empty."""
    assert swarm.locks.held(name) == ()
    assert swarm.locks.queue(name) == ()


async def locked(sim: Sim, cancel: bool = True) -> None:
    """Three take a lock in turn; one of them is cancelled at some time."""
    history = History()
    inside = 0
    async with Swarm() as swarm:

        async def work(who: str) -> None:
            nonlocal inside
            for _ in range(2):
                lock = swarm.lock("x")
                call = history.invoke(who, "acquire")
                async with lock.acquire(timeout=20) as lease:
                    history.ok(call, lease.token)
                    inside += 1
                    try:
                        assert inside == 1
                        await sim.checkpoint()
                    finally:
                        inside -= 1
                    call = history.invoke(who, "release", lease.token)
                history.ok(call, True)

        tasks = [asyncio.create_task(work(who), name=who) for who in EVERYBODY]
        if cancel:
            for _ in range(sim.rng.choice(range(10))):
                await sim.checkpoint()
            sim.rng.choice(tasks).cancel()
        for task in tasks:
            outcome = await quietly(task)
            assert outcome is None or isinstance(outcome, asyncio.CancelledError)
        free(swarm, "x")
        async with swarm.lock("x"):
            pass
    nothing_left(swarm)
    if not any(task.cancelled() for task in tasks):
        linearizable(history, LockModel(fenced=True))


def test_a_lock_lets_one_in_at_a_time_and_leaves_no_waiter():
    """L1, L4, G6, G13: with growing tokens, whoever is cancelled whenever."""
    holds(locked, schedules=80)


def test_a_lock_leaves_no_waiter_wherever_its_users_are_cancelled():
    """L4, G3: the sweep over all steps of all users."""

    async def program(sim: Sim) -> None:
        await locked(sim, cancel=False)

    report = sweep_cancel(program, tasks=EVERYBODY)
    report.check()
    assert report.schedules > 40


def test_a_cancelled_waiter_that_keeps_its_place_is_found(monkeypatch):
    """G6: those behind it wait for ever."""
    monkeypatch.setattr(LeaseWaiter, "withdraw", lambda waiter: None)
    breaks(locked, WRONG)


def test_a_grant_that_is_lost_with_its_cancelled_waiter_is_found(monkeypatch):
    """L4: cancelled after the grant, it is passed on."""
    monkeypatch.setattr(LeaseManager, "pass_on", lambda self, result: None)
    monkeypatch.setattr(LeaseManager, "orphan", lambda self, lease, reason: None)
    breaks(locked, WRONG)


class Writer(Agent):
    """Writes under a lock, with its lease as the guard."""

    async def write(self, grants: list[int], writes: list[tuple[int, int]]) -> None:
        # Without a body, so that nothing but the guard stands in the way.
        lease = await self.swarm.lock("x").acquire(ttl=20, timeout=100)
        grants.append(lease.token)
        try:
            for _ in range(3):
                await asyncio.sleep(0)
                done = await self.shared.set("x", self.name, guard=lease)
                writes.append((lease.token, done.version))
        finally:
            with contextlib.suppress(LeaseLost):
                await lease.release()


async def fenced(sim: Sim) -> None:
    """Holders crash, freeze and lose their leases; stale ones must not write."""
    grants: list[int] = []
    writes: list[tuple[int, int]] = []
    async with Swarm() as swarm:
        restart = Restart("permanent", max=20)
        agents = [await swarm.spawn(Writer, name=n, restart=restart) for n in EVERYBODY]
        asks = [agent.ask(Writer.write, grants, writes) for agent in agents]
        outcomes = await asyncio.gather(*map(quietly, asks))
        await asyncio.sleep(200)
        free(swarm, "x")
        sim.sometimes("a lease was lost", any(isinstance(o, LOST) for o in outcomes))
    assert len(grants) == len(set(grants))
    for token, version in writes:  # S16: nobody else was granted it in between
        assert not [other for other in grants if token < other < version]
    nothing_left(swarm)


FAULTS = Faults(crash=True, freeze=True, expire="x", most=3)


def test_no_holder_writes_after_its_lease_has_gone():
    """S16, L19: fencing, whatever happens to the holders."""
    holds(fenced, schedules=100, faults=FAULTS)


def test_a_guard_that_is_not_checked_is_found(monkeypatch):
    """S16: the check can fail."""
    check = MemoryKernel._check

    def lenient(self, conditions):
        check(self, [c for c in conditions if not isinstance(c, Holder)])

    monkeypatch.setattr(MemoryKernel, "_check", lenient)
    breaks(fenced, faults=Faults(expire="x", freeze=True))


def test_a_lease_can_be_made_to_end_by_hand():
    """`sim.faults.expire`: the body is cancelled, the block raises LeaseLost."""

    async def program(sim: Sim) -> None:
        async with Swarm() as swarm:
            sim.faults.expire("x", after=5)
            with pytest.raises(LeaseLost):
                async with swarm.lock("x"):
                    await asyncio.sleep(100)
            assert sim.clock.time() == 5
            assert [fault.kind for fault in sim.faults.happened] == ["expire"]

    holds(program, schedules=20)


async def entered(sim: Sim) -> None:
    async with Swarm() as swarm:

        async def work() -> None:
            async with swarm.lock("x") as lease:
                held = [grant.lease_id for grant in swarm.locks.held("x")]
                assert held == [lease.id]
                await asyncio.sleep(1)

        for outcome in await asyncio.gather(*(quietly(work()) for _ in EVERYBODY)):
            assert outcome is None or isinstance(outcome, LeaseLost), outcome
        free(swarm, "x")
    nothing_left(swarm)


def test_no_body_begins_under_a_lease_that_has_gone():
    """L: lost between the grant and the first step of the body, it does not run."""
    holds(entered, schedules=80, faults=Faults(expire="x", most=3))


async def limited(sim: Sim) -> None:
    """Five share three permits."""
    used = most = 0
    async with Swarm() as swarm:

        async def work(permits: int) -> None:
            nonlocal used, most
            semaphore = swarm.semaphore("s", capacity=3)
            async with semaphore.acquire(permits=permits, timeout=20):
                used += permits
                most = max(most, used)
                try:
                    await sim.checkpoint()
                finally:
                    used -= permits

        tasks = [asyncio.create_task(work(n)) for n in (1, 2, 3, 1, 2)]
        for _ in range(sim.rng.choice(range(8))):
            await sim.checkpoint()
        sim.rng.choice(tasks).cancel()
        for task in tasks:
            outcome = await quietly(task)
            assert outcome is None or isinstance(outcome, asyncio.CancelledError)
        assert most <= 3
        async with swarm.semaphore("s", capacity=3).acquire(permits=3, timeout=1):
            pass
    nothing_left(swarm)


def test_a_semaphore_gives_no_more_than_it_has_and_gets_all_back():
    """M2: conservation of permits, with a cancelled user."""
    holds(limited, schedules=80)


def test_a_semaphore_that_loses_a_permit_is_found(monkeypatch):
    """M2: the check can fail."""
    monkeypatch.setattr(LeaseManager, "pass_on", lambda self, result: None)
    monkeypatch.setattr(LeaseManager, "orphan", lambda self, lease, reason: None)
    breaks(limited, WRONG)


async def mustered(sim: Sim) -> None:
    """Three meet twice; a fourth comes and goes."""
    met: list[tuple[int, int]] = []
    async with Swarm() as swarm:

        async def party(who: str) -> None:
            for _ in range(2):
                arrival = await swarm.barrier("b", parties=3).wait(timeout=100)
                met.append((arrival.generation, arrival.index))
                await sim.checkpoint()

        async def guest() -> None:
            await swarm.barrier("b", parties=3).wait(timeout=100)

        passing = asyncio.create_task(guest())
        await asyncio.sleep(0)
        passing.cancel()
        await quietly(passing)
        await asyncio.gather(*(quietly(party(who)) for who in EVERYBODY))
    by_generation: dict[int, list[int]] = {}
    for generation, index in met:
        by_generation.setdefault(generation, []).append(index)
    assert all(sorted(i) == list(range(len(i))) for i in by_generation.values()), met
    nothing_left(swarm)


def test_a_barrier_numbers_its_parties_and_its_generations():
    """B: no index twice, also after one that was cancelled (gh-155233)."""
    holds(mustered, schedules=80)
