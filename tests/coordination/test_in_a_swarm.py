"""Locks, semaphores and barriers as agents use them, with asks around them."""

import asyncio

import pytest

from swarm import (
    AccessDenied,
    Agent,
    AskTimeout,
    Closed,
    ConfigMismatch,
    DeadlockError,
    LeaseLost,
    LockTimeout,
    Ref,
    StaleLease,
    Swarm,
    SwarmConfig,
    interleave,
)
from swarm.model import Commit
from tests.support.coordination import residue
from tests.support.virtual_loop import turns, virtual


class Worker(Agent):
    def __init__(self) -> None:
        self.friend: Ref[Worker] | None = None

    async def meet(self, friend: "Ref[Worker]") -> None:
        self.friend = friend

    async def hold(self, name: str, seconds: float) -> int:
        async with self.swarm.lock(name) as lease:
            await asyncio.sleep(seconds)
            return lease.token

    async def grab(self, name: str) -> None:
        await self.swarm.lock(name).acquire()

    async def hold_and_ask(self, name: str, delay: float) -> object:
        async with self.swarm.lock(name):
            await asyncio.sleep(delay)
            return await self.friend.ask(Worker.hold, name, 0)

    async def hold_and_wait_for_turn(self, name: str, delay: float) -> object:
        async with self.swarm.lock(name):
            await asyncio.sleep(delay)
            return await self.friend.ask(Worker.hello)

    async def child_holds_and_asks(self, name: str) -> object:
        async def child() -> object:
            return await self.hold_and_ask(name, 0)

        return await asyncio.ensure_future(child())

    async def children_share(self, name: str) -> None:
        async def child() -> None:
            async with self.swarm.lock(name):
                await asyncio.sleep(1)

        async with self.swarm.lock(name):
            tasks = [asyncio.ensure_future(child()) for _ in range(2)]
            await asyncio.sleep(1)
        await asyncio.gather(*tasks)

    async def hello(self) -> str:
        return "hello"

    async def gather_round(self, delay: float, name: str | None = None) -> int:
        await asyncio.sleep(delay)
        if name is None:
            return (await self.swarm.barrier("b", 2).wait()).index
        async with self.swarm.lock(name):
            return (await self.swarm.barrier("b", 2).wait()).index

    @interleave
    async def aside(self, name: str, seconds: float) -> int:
        return await self.hold(name, seconds)


class Steady(Agent):
    """Has no method that could run amid another."""

    async def gather_round(self, delay: float, name: str | None = None) -> int:
        await asyncio.sleep(delay)
        if name is None:
            return (await self.swarm.barrier("b", 2).wait()).index
        async with self.swarm.lock(name):
            return (await self.swarm.barrier("b", 2).wait()).index


async def pair(swarm: Swarm) -> tuple[Ref[Worker], Ref[Worker]]:
    ada = await swarm.spawn(Worker, name="ada")
    bo = await swarm.spawn(Worker, name="bo")
    await ada.ask(Worker.meet, bo)
    await bo.ask(Worker.meet, ada)
    return ada, bo


def check_empty(swarm: Swarm) -> None:
    """G13."""
    assert residue(swarm._coordinator.coordination) == (0, 0)
    assert len(swarm._coordinator.graph) == 0
    assert not swarm._coordinator.coordination.sessions.of_turns


@virtual
async def test_the_words_of_the_design():
    """DESIGN.md, section 5, as it is spelled there."""
    async with Swarm() as swarm:
        async with swarm.lock("report.pdf").acquire(
            mode="exclusive", ttl=30, timeout=5
        ) as lease:
            await lease.renew(60)
            await swarm.state.set("report", "…", guard=lease)
            await lease.downgrade()
            await lease.upgrade()
            assert lease.token > 0
        with pytest.raises(StaleLease):
            await swarm.state.set("report", "late", guard=lease)
        async with swarm.lock("x"):
            assert [held.resource for held in swarm.locks.held()] == ["x"]
        lease = swarm.lock("x").acquire_nowait()
        assert swarm.locks.queue("x") == ()
        await swarm.locks.force_release(lease.id, reason="enough")
        leases = await swarm.acquire_all(["a", "b"])
        await leases.release()
        async with swarm.semaphore("llm", capacity=4).acquire(permits=2, timeout=5):
            with pytest.raises(ConfigMismatch):
                swarm.semaphore("llm", capacity=5)
        arrivals = await asyncio.gather(
            *(swarm.barrier("ready", parties=3).wait(timeout=60) for _ in range(3))
        )
        assert sorted(a.index for a in arrivals) == [0, 1, 2]
        check_empty(swarm)


@virtual
async def test_explain_shows_permits_and_parties():
    """`explain` leaves out nothing that is held or waited for."""
    async with Swarm() as swarm:

        async def party() -> None:
            await swarm.barrier("b", 2).wait()

        async with swarm.semaphore("llm", 4).acquire(3):
            task = asyncio.ensure_future(party())
            await turns(2)
            text = swarm.explain()
            assert "semaphore 'llm': task" in text
            assert "(owner) holds 3 permits" in text
            assert "waits for barrier 'b' (1 of 2 parties there)" in text
        task.cancel()
        await asyncio.wait([task])
        check_empty(swarm)


@virtual
async def test_agents_hold_in_their_own_name():
    """G11, L21: identity from the handle; records are read only for agents."""
    async with Swarm() as swarm:
        ada, bo = await pair(swarm)
        one = asyncio.ensure_future(ada.ask(Worker.hold, "x", 5))
        await turns(5)
        two = asyncio.ensure_future(bo.ask(Worker.hold, "x", 1))
        await turns(5)
        (held,) = swarm.locks.held()
        assert (held.owner, held.session) == ("ada", "'ada' in Worker.hold")
        assert [q.owner for q in swarm.locks.queue("x")] == ["bo"]
        text = swarm.explain()
        assert "lock 'x': 'ada' in Worker.hold (ada) holds it exclusive" in text
        assert "'bo' in Worker.hold waits for lock 'x'" in text
        assert "held by 'ada' in Worker.hold" in text
        for state in (swarm.state,):
            with pytest.raises(AccessDenied):
                await state.set("locks.x", {})
        assert await one < await two
        check_empty(swarm)


@virtual
async def test_a_turn_that_ends_without_releasing_loses_what_it_holds():
    """L19: the turn is the session, not the agent."""
    async with Swarm() as swarm:
        ada, bo = await pair(swarm)
        await ada.ask(Worker.grab, "x")
        check_empty(swarm)
        assert await bo.ask(Worker.hold, "x", 0)
        await ada.ask(Worker.aside, "x", 0)
        check_empty(swarm)


@virtual
async def test_an_agent_that_is_killed_or_cancelled_releases():
    """L19: by death as by the cancellation of its turn."""
    for how in ("kill", "timeout"):
        async with Swarm() as swarm:
            ada, bo = await pair(swarm)
            seconds = 2.0 if how == "timeout" else None
            one = asyncio.ensure_future(ada.within(seconds).ask(Worker.hold, "x", 50))
            await turns(5)
            two = asyncio.ensure_future(bo.ask(Worker.hold, "x", 1))
            await asyncio.sleep(1)
            if how == "kill":
                await ada.kill()
            assert await two
            with pytest.raises(Exception, match="ada") as caught:
                await one
            assert isinstance(caught.value, AskTimeout) == (how == "timeout")
            check_empty(swarm)


@virtual
async def test_asking_an_agent_that_waits_for_our_lock_is_a_deadlock():
    """L15: at the ask that closes it; the waiting agent is not disturbed."""
    async with Swarm() as swarm:
        ada, bo = await pair(swarm)
        one = asyncio.ensure_future(ada.ask(Worker.hold_and_wait_for_turn, "x", 2))
        await asyncio.sleep(1)
        two = asyncio.ensure_future(bo.ask(Worker.hold, "x", 0))
        with pytest.raises(DeadlockError) as caught:
            await one
        assert "lock 'x'" in str(caught.value)
        assert "'bo' (Worker.hello)" in str(caught.value)
        assert await two
        check_empty(swarm)


@virtual
async def test_waiting_for_a_lock_of_ones_asker_is_a_deadlock():
    """L15: at the acquire that closes it; also when the asker is the program."""
    async with Swarm() as swarm:
        ada, bo = await pair(swarm)
        with pytest.raises(DeadlockError):
            await ada.ask(Worker.hold_and_ask, "x", 0)
        with pytest.raises(DeadlockError):
            await ada.ask(Worker.child_holds_and_asks, "x")
        async with swarm.lock("x"):
            with pytest.raises(DeadlockError) as caught:
                await bo.ask(Worker.hold, "x", 0)
        assert "task" in str(caught.value)
        check_empty(swarm)


@virtual
async def test_children_of_a_turn_are_sessions_of_their_own():
    """L15, G4: they may wait for each other, and for the turn's own code."""
    async with Swarm() as swarm:
        ada, _ = await pair(swarm)
        await ada.ask(Worker.children_share, "x")
        check_empty(swarm)


@virtual
async def test_the_default_ttl_is_configured():
    """L11."""
    config = SwarmConfig(lock_ttl=2)
    async with Swarm(config=config) as swarm:
        lease = await swarm.lock("x").acquire()
        await asyncio.sleep(3)
        with pytest.raises(LeaseLost):
            await lease.release()
    for wrong in ({"lock_ttl": 0}, {"lock_ttl": float("inf")}, {"lock_aging": -1}):
        with pytest.raises(ValueError):
            SwarmConfig(**wrong)


@virtual
async def test_the_end_of_the_swarm_wakes_every_waiter():
    """G12."""
    swarm = await Swarm.open()
    await swarm.lock("x").acquire()

    async def wait() -> None:
        await swarm.lock("x").acquire()

    task = asyncio.ensure_future(wait())
    await turns(3)
    await swarm.close()
    with pytest.raises(Closed):
        await task
    with pytest.raises(Closed):
        swarm.lock("x")


@virtual
async def test_a_body_can_outlive_the_swarm_without_another_error():
    """G15: releasing after the end does nothing."""
    swarm = await Swarm.open()
    async with swarm.lock("x"), swarm.semaphore("s", 1):
        await swarm.close()


@virtual
async def test_a_time_out_within_a_turn_leaves_the_turn_alone():
    """L3: the agent goes on."""

    class Patient(Worker):
        async def try_it(self, name: str) -> str:
            try:
                await self.swarm.lock(name).acquire(timeout=1)
            except LockTimeout:
                return "late"
            return "held"

    async with Swarm() as swarm:
        ref = await swarm.spawn(Patient)
        async with swarm.lock("x"):
            assert await ref.tell(Patient.hello) is None
            began = asyncio.get_running_loop().time()
            # This very task holds it and waits: a time-out that is known at once.
            assert await ref.ask(Patient.try_it, "x") == "late"
            assert asyncio.get_running_loop().time() == began
            with pytest.raises(DeadlockError):
                await ref.ask(Patient.hold, "x", 0)
        assert await ref.ask(Patient.try_it, "x") == "held"
        check_empty(swarm)


@virtual
async def test_a_turn_that_ends_with_two_expired_leases_of_one_record():
    """L11, L19: taking the first away has ended the second."""

    class Sleepy(Worker):
        async def hold_two(self) -> None:
            for _ in range(2):
                await self.swarm.semaphore("s", 2).acquire(ttl=1)
                await self.swarm.lock("x").acquire("shared", ttl=1)
            asyncio.get_running_loop().virtual += 5  # blocks, and no alarm rings

    async with Swarm() as swarm:
        ref = await swarm.spawn(Sleepy)
        await ref.ask(Sleepy.hold_two)
        await ref.ask(Sleepy.hello)
        check_empty(swarm)


@virtual
async def test_a_boss_that_opens_a_barrier_for_its_workers_is_no_deadlock():
    """L15: which party will come to a barrier is not known."""

    class Boss(Worker):
        async def run_both(self, workers: list[Ref[Worker]]) -> list[int]:
            self.swarm.barrier("b", 2)
            async with self.swarm.lock("x"):
                return await asyncio.gather(
                    *(worker.ask(Worker.gather_round, 0.1) for worker in workers)
                )

    async with Swarm() as swarm:
        workers = list(await pair(swarm))
        boss = await swarm.spawn(Boss)
        assert sorted(await boss.ask(Boss.run_both, workers)) == [0, 1]
        check_empty(swarm)


@virtual
async def test_a_holder_that_joins_a_child_while_another_releases_is_no_deadlock():
    """L15: a lease without a body may be given back by any task."""

    class Keeper:
        lease = None

    async with Swarm() as swarm:
        keeper = Keeper()
        keeper.lease = await swarm.lock("x").acquire()

        async def child() -> str:
            async with swarm.lock("x"):
                return "mine"

        async def releases() -> None:
            await asyncio.sleep(1)
            await keeper.lease.release()

        other = asyncio.ensure_future(releases())
        (told,) = await asyncio.gather(child())
        assert told == "mine"
        await other
        check_empty(swarm)


@virtual
async def test_an_explicit_time_out_turns_a_deadlock_into_a_time_out_at_once():
    """L15: an error that is both, for locks, upgrades and permits."""
    async with Swarm() as swarm:
        began = asyncio.get_running_loop().time()
        async with swarm.lock("x"), swarm.semaphore("s", 1):
            for asked in (
                swarm.lock("x").acquire(timeout=5),
                swarm.semaphore("s").acquire(timeout=5),
            ):
                with pytest.raises(LockTimeout) as caught:
                    await asked
                assert isinstance(caught.value, DeadlockError)
                assert len(caught.value.cycle) == 1
            with pytest.raises(DeadlockError) as told:
                await swarm.lock("x").acquire()
            assert not isinstance(told.value, TimeoutError)
        assert asyncio.get_running_loop().time() == began
        check_empty(swarm)


@virtual
@pytest.mark.parametrize("kind", ["lock", "semaphore"])
async def test_a_cycle_is_told_by_its_parties_however_long_the_queues_are(kind):
    """L15: not by all who wait in them."""
    async with Swarm() as swarm:
        y = swarm.lock("y") if kind == "lock" else swarm.semaphore("y", 1)

        async def crowd() -> None:
            async with y:
                pass

        async def other() -> None:
            async with y:
                await asyncio.sleep(1)
                async with swarm.lock("x"):
                    pass

        tasks = [asyncio.ensure_future(other())]
        await turns(2)
        tasks += [asyncio.ensure_future(crowd()) for _ in range(300)]
        async with swarm.lock("x"):
            await asyncio.sleep(2)
            with pytest.raises(DeadlockError) as caught:
                await y.acquire()
        assert len(caught.value.cycle) == 2
        assert len(str(caught.value).splitlines()) == 3
        await asyncio.gather(*tasks)
        check_empty(swarm)


@virtual
async def test_events_of_a_lock_are_made_only_for_a_recipient():
    """A subscription to other events costs a lock no event of its own."""
    async with Swarm() as swarm:
        tree = swarm._coordinator.kernel.local
        commits: list[Commit] = []
        tree.listen(commits.append, documents=True, folders=["locks"])
        async with swarm.events.subscribe("task.*"), swarm.lock("x"):
            (commit,) = commits
            assert commit.announced
        async with swarm.events.subscribe("lock.*") as heard:
            async with swarm.lock("x"):
                assert not commits[-1].announced
            assert (await anext(aiter(heard))).payload.resource == "x"
