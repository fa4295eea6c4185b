"""Complete searches, sweeps of cancellations, and the options of a run."""

import asyncio

import pytest

from swarm.testing import (
    GoalError,
    InvariantError,
    explore,
    prove,
    replay,
    run,
    sweep_cancel,
)
from tests.testing.planted.locks import CarefulLock, HastyLock


def pair(lock_type):
    async def program():
        lock = lock_type()

        async def user(name):
            if await lock.acquire(name):
                try:
                    await asyncio.sleep(1)
                finally:
                    await lock.release(name)

        tasks = [asyncio.create_task(user(n), name=n) for n in ("ada", "bob")]
        await asyncio.gather(*tasks, return_exceptions=True)
        assert lock.holder is None, f"held by {lock.holder}, who has left"

    return program


def test_a_sweep_finds_the_cancelled_waiter():
    program = pair(HastyLock)
    report = sweep_cancel(program)
    assert report.failure is not None
    assert "was cancelled before step" in report.failure.why[0]
    again = replay(program, report.failure.blob)
    assert again.digest == report.failure.digest
    assert type(again.error) is type(report.failure.error)


def test_a_sweep_passes_the_careful_lock():
    report = sweep_cancel(pair(CarefulLock))
    assert report.failure is None
    assert report.schedules > 10


def test_a_sweep_can_be_limited():
    program = pair(HastyLock)
    assert sweep_cancel(program, tasks=[]).schedules == 1
    assert sweep_cancel(program, max_schedules=3).schedules == 3
    some = sweep_cancel(pair(CarefulLock), tasks=["bob", "main"])
    assert 1 < some.schedules < 40


def test_a_sweep_reports_the_failure_of_the_stock_order():
    async def program():
        raise ValueError

    report = sweep_cancel(program)
    assert report.schedules == 1
    assert isinstance(report.failure.error, ValueError)


def test_a_proof_counts_every_order():
    async def program():
        async def steps():
            await asyncio.sleep(0)

        await asyncio.gather(steps(), steps())

    proof = prove(program)
    assert proof.exhausted
    assert proof.schedules == prove(program).schedules > 2
    assert not prove(program, max_schedules=2).exhausted
    proof.check()


def test_a_proof_finds_and_raises():
    async def program():
        seen = []

        async def steps(name):
            seen.append(name)
            await asyncio.sleep(0)

        await asyncio.gather(steps("a"), steps("b"))
        assert seen == ["a", "b"]

    proof = prove(program)
    assert not proof.exhausted
    with pytest.raises(AssertionError):
        proof.check()


def test_order_fifo_varies_only_time():
    async def program():
        seen = []

        async def one(name):
            await asyncio.sleep(0)
            seen.append(name)

        await asyncio.gather(*[one(n) for n in "abc"])
        assert seen == ["a", "b", "c"]

    explore(program, order="fifo").check()
    explore(program, order="fifo", max_stall=1.0).check()
    assert explore(program).failure is not None


def test_order_fifo_with_a_stall_moves_the_clock():
    async def program():
        async def worker():
            await asyncio.sleep(0.9)
            await asyncio.sleep(0)

        async with asyncio.timeout(1.0):
            await worker()

    explore(program, order="fifo", max_stall=0.0).check()
    assert isinstance(
        explore(program, order="fifo", max_stall=0.2).failure.error, TimeoutError
    )


def test_chance_comes_from_the_seed():
    async def program(sim):
        import random

        return random.random(), sim.rng.random()

    assert run(program, seed=1).value == run(program, seed=1).value
    assert run(program, seed=1).value != run(program, seed=2).value


def test_the_seed_of_a_failure_is_in_its_blob():
    async def program(sim):
        assert sim.rng.random() < 0.9

    failure = explore(program).failure
    assert isinstance(replay(program, failure.blob).error, AssertionError)
    assert failure.on_stock_order


def test_always_is_checked_after_each_step():
    async def program(sim):
        box = [0]
        sim.always(lambda: box[0] == 0, "box is empty")
        await sim.checkpoint()
        box[0] = 1
        await sim.checkpoint()
        box[0] = 0

    error = run(program).error
    assert isinstance(error, InvariantError)
    assert "always(box is empty) is false at t=0" in str(error)


def test_eventually_has_a_deadline():
    async def program(sim, delay):
        box = []
        sim.eventually(lambda: box, within=5)
        await sim.clock.sleep(delay)
        box.append(1)
        await sim.clock.sleep(1)

    async def in_time(sim):
        await program(sim, 3)

    async def too_late(sim):
        await program(sim, 9)

    run(in_time).unwrap()
    assert "was still false at t=5" in str(run(too_late).error)


def test_eventually_must_hold_at_the_end():
    def never():
        return False

    async def program(sim):
        sim.eventually(never, within=5)

    assert "eventually(never) was false when" in str(run(program).error)


def test_sometimes_must_be_met_once():
    async def program(sim):
        order = []

        async def one(name):
            await sim.checkpoint()
            order.append(name)

        await asyncio.gather(one("a"), one("b"))
        sim.sometimes("b overtakes", order == ["b", "a"])
        sim.sometimes("c exists", "c" in order)

    report = explore(program)
    assert report.goals == {"b overtakes": True, "c exists": False}
    with pytest.raises(GoalError, match=r"schedules: c exists"):
        report.check()


def test_polling_is_not_mistaken_for_a_livelock():
    async def program():
        flag = []

        async def setter():
            await asyncio.sleep(0)
            flag.append(1)

        async def poller():
            while not flag:
                await asyncio.sleep(0)

        await asyncio.gather(poller(), poller(), setter())

    explore(program, schedules=500).check()
    explore(program, schedules=200, strategy="pos").check()
