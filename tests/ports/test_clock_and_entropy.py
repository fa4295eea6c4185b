import asyncio

import pytest

from swarm.ports import Entropy, LoopClock, Runtime, install_runtime
from tests.support.clock import FakeClock


async def test_the_loop_clock_is_the_loops():
    loop = asyncio.get_running_loop()
    clock = LoopClock()
    assert abs(clock.monotonic() - loop.time()) < 5
    assert clock.wall() > 1_600_000_000_000_000
    called = asyncio.Event()
    clock.call_at(clock.monotonic(), called.set)
    await called.wait()
    never = []
    clock.call_at(clock.monotonic() + 60, lambda: never.append(1)).cancel()
    await clock.sleep(0)
    assert never == []


async def test_wall_time_is_the_runtimes():
    loop = asyncio.get_running_loop()
    install_runtime(loop, Runtime(wall_time=lambda: 12.5))
    assert LoopClock().wall() == 12_500_000


def test_there_is_no_loop_clock_without_a_loop():
    with pytest.raises(RuntimeError):
        LoopClock()


async def test_equal_seeds_give_equal_chance():
    """Time and chance are arguments."""
    one, two, other = Entropy(7), Entropy(7), Entropy("7")
    ids = [one.identifier("task") for _ in range(5)]
    assert ids == [two.identifier("task") for _ in range(5)]
    assert ids != [other.identifier("task") for _ in range(5)]
    assert len(set(ids)) == 5
    assert all(each.startswith("task-") and len(each) == 25 for each in ids)
    assert len(one.identifier()) == 20
    assert 2.0 <= one.jitter(2.0, 3.0) <= 3.0


async def test_the_seed_of_a_swarm_that_was_given_none_is_the_runtimes():
    install_runtime(asyncio.get_running_loop(), Runtime(entropy_seed=3))
    assert Entropy().identifier() == Entropy(3).identifier()


def test_without_seed_and_loop_chance_is_the_machines():
    assert Entropy().identifier() != Entropy().identifier()


async def test_the_fake_clock_moves_by_hand():
    clock = FakeClock()
    rung = []
    clock.call_at(clock.monotonic() + 2, lambda: rung.append("b"))
    clock.call_at(clock.monotonic() + 1, lambda: rung.append("a"))
    sleeper = asyncio.ensure_future(clock.sleep(1.5))
    await asyncio.sleep(0)
    clock.advance(1.25)
    assert rung == ["a"]
    assert not sleeper.done()
    clock.advance(1)
    await sleeper
    assert rung == ["a", "b"]
    assert clock.pending == 0
