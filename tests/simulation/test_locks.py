"""Locks, semaphores and barriers under many schedules, judged by their models."""

import asyncio
import contextlib

import attrs
import pytest

from swarm import (
    BarrierTimeout,
    BrokenBarrier,
    DeadlockError,
    LeaseLost,
    LockTimeout,
    StaleLease,
    Swarm,
)
from swarm.coordination import Arrival, Lease, _barrier_rules, _barriers
from swarm.coordination._barriers import BarrierHandle, PartyWaiter
from swarm.coordination._grants import goes_with
from swarm.coordination._lease_state import LockState
from swarm.coordination._semaphore_rules import SemaphoreState
from swarm.coordination._waiting import Waiter
from swarm.ports import Plan
from swarm.testing import (
    BROKEN,
    LEFT,
    BarrierModel,
    History,
    LockModel,
    SemaphoreModel,
    Sim,
    StuckError,
)
from tests.simulation.oracle import breaks, holds, linearizable, nothing_left, quietly
from tests.support.coordination import residue

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
        assert residue(swarm._coordinator.coordination) == (0, 0)
    nothing_left(swarm)
    linearizable(history, LockModel(fenced=True))


def test_leases_are_linearizable_and_their_tokens_grow():
    """L1, L2, L3, L13, L14: whatever the schedule."""
    holds(leases)


@pytest.mark.parametrize(
    ("one", "other"),
    [("exclusive", "shared"), ("upgradeable", "upgradeable"), ("exclusive",) * 2],
)
def test_modes_that_are_held_together_wrongly_are_found(monkeypatch, one, other):
    """L1: the check can fail for every pair of modes that conflict."""

    def lenient(self, request):
        return all(
            goes_with(held.mode, request.mode) or {held.mode, request.mode} == modes
            for held in self.grants.values()
            if held.id != request.upgrades
        )

    modes = {one, other}
    monkeypatch.setattr(LockState, "fits", lenient)
    breaks(leases)


def test_an_upgrade_beside_another_holder_is_found(monkeypatch):
    """L13: the sole holder only."""
    fits = LockState.fits

    def hasty(self, request):
        return bool(request.upgrades) or fits(self, request)

    monkeypatch.setattr(LockState, "fits", hasty)
    breaks(leases)


def test_an_upgrade_with_the_old_token_is_found(monkeypatch):
    """L2: a mode change issues a new token."""
    first: dict[str, int] = {}
    token = Lease.token
    stale = property(lambda self: first.setdefault(self.id, token.fget(self)))
    monkeypatch.setattr(Lease, "token", stale)
    breaks(leases)


def test_a_downgrade_that_lets_go_first_is_found(monkeypatch):
    """L14: nobody comes in between; and the holder keeps its place."""

    async def in_two_steps(self, mode="shared"):
        await self.release()
        await asyncio.sleep(0)
        again = await self._manager.acquire(attrs.evolve(self.spec, mode=mode))
        self.__dict__ = again.__dict__

    monkeypatch.setattr(Lease, "downgrade", in_two_steps)
    breaks(leases, Exception)


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
        assert residue(swarm._coordinator.coordination) == (0, 0)
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


def test_one_permit_too_many_is_found(monkeypatch):
    """M1: the sum of all grants is never above the capacity."""
    fits = SemaphoreState.fits

    def generous(self, request):
        return fits(self, request) or len(self.grants) == 1

    monkeypatch.setattr(SemaphoreState, "fits", generous)
    breaks(permits)


async def meetings(sim: Sim) -> None:
    """Parties come and go; some give up."""
    history = History()
    async with Swarm() as swarm:

        async def party(who: int, patience: float) -> None:
            barrier = swarm.barrier("b", 3)
            for _ in range(2):
                await asyncio.sleep(sim.rng.choice([0, 0, 0.5, 1.5]))
                call = history.invoke(who, "wait")
                try:
                    arrival = await barrier.wait(patience)
                except TimeoutError:
                    history.ok(call, LEFT)
                except BrokenBarrier:
                    history.ok(call, BROKEN)
                else:
                    history.ok(call, (arrival.generation, arrival.index))

        await asyncio.gather(*(party(who, sim.rng.choice([1, 2])) for who in range(4)))
    nothing_left(swarm)
    linearizable(history, BarrierModel(3))


def test_barriers_are_linearizable():
    """B1 to B6, B10."""
    holds(meetings)


WRONG = (AssertionError, StuckError, ExceptionGroup)


def test_a_ghost_at_a_barrier_is_found(monkeypatch):
    """B10: who has given up is not counted."""

    async def leaves_its_shadow(waiter):
        waiter.fail(BarrierTimeout("gave up", generation=0, reason="gave up"))

    monkeypatch.setattr(PartyWaiter, "_time_out", leaves_its_shadow)
    breaks(meetings, WRONG)


def test_a_barrier_that_trips_too_early_is_found(monkeypatch):
    """B1: exactly as many as there are parties."""
    arrive = _barriers.plan_arrive

    def one_less(view, path, parties, *rest):
        plan = arrive(view, path, parties, *rest)
        ended = plan.outcome
        return (
            plan if ended is not None else _barrier_rules.end(view, path, with_me(plan))
        )

    def with_me(plan):
        return plan.writes[0].record

    monkeypatch.setattr(_barriers, "plan_arrive", one_less)
    breaks(meetings, WRONG)


def test_an_index_given_twice_is_found(monkeypatch):
    """B3: as asyncio's own barrier does after a cancellation (gh-155233)."""
    monkeypatch.setattr(
        BarrierHandle, "_arrival", lambda self, ended, _: Arrival(ended.generation, 0)
    )
    breaks(meetings, WRONG)


def test_a_generation_that_does_not_end_for_all_is_found(monkeypatch):
    """B2, B4: one outcome, for everybody who was in it."""
    fail = Waiter.fail

    def only_late_ones(self, error):
        if isinstance(error, BarrierTimeout) or not isinstance(error, BrokenBarrier):
            fail(self, error)

    monkeypatch.setattr(Waiter, "fail", only_late_ones)
    breaks(meetings, WRONG)


def test_a_generation_that_is_used_twice_is_found(monkeypatch):
    """B6: it grows by one at each trip and each break."""
    end = _barrier_rules.end

    def stays(view, path, muster, reason=""):
        plan = end(view, path, muster, reason)
        (write,) = plan.writes
        muster = attrs.evolve(write.record, generation=muster.generation)
        return Plan((attrs.evolve(write, record=muster),), outcome=plan.outcome)

    monkeypatch.setattr(_barrier_rules, "end", stays)
    breaks(meetings, WRONG)


async def deserted(sim: Sim) -> None:
    """A party is cancelled while it waits; the others are told, and meet again."""
    async with Swarm() as swarm:

        async def party() -> Arrival:
            while True:
                with contextlib.suppress(BrokenBarrier):
                    return await swarm.barrier("b", 2).wait()

        async def guest() -> None:
            await swarm.barrier("b", 2).wait()

        passing = asyncio.ensure_future(guest())
        for _ in range(sim.rng.randrange(6)):
            await sim.checkpoint()
        passing.cancel()
        await quietly(passing)
        arrivals = await asyncio.gather(party(), party())
        assert sorted(arrival.index for arrival in arrivals) == [0, 1]
        assert len({arrival.generation for arrival in arrivals}) == 1
        assert swarm.barrier("b", 2).waiting == 0
    nothing_left(swarm)


def test_a_cancelled_party_is_not_waited_for():
    """B4, B10, G4."""
    holds(deserted)


def test_a_cancelled_party_that_stays_counted_is_found(monkeypatch):
    """B10: the check can fail."""
    monkeypatch.setattr(PartyWaiter, "withdraw", lambda waiter: None)
    breaks(deserted, WRONG)


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
