"""The simulated loop keeps the contracts of asyncio and anyio on virtual time."""

import asyncio
import contextlib
import contextvars
import functools
import gc
import random
import socket
import sys
import threading
import time
import weakref

import anyio
import anyio.lowlevel
import anyio.to_thread
import pytest

from swarm.testing import (
    EscapeError,
    Schedule,
    SimLoop,
    StepLimitError,
    explore,
    replay,
    run,
    sim_loop_factory,
)
from swarm.testing._policies import Ordered, RandomWalk

eager = pytest.mark.skipif(
    sys.version_info < (3, 12), reason="eager tasks came with Python 3.12"
)


def everywhere(program, **options):
    """Run on the stock order and on many others; return the stock value."""
    value = run(program, **options).unwrap()
    explore(program, schedules=60, max_stall=0.0, **options).check()
    return value


def test_a_year_of_sleep_takes_four_steps():
    async def program():
        await asyncio.sleep(365 * 86400)
        return asyncio.get_running_loop().time()

    result = run(program)
    assert result.unwrap() == result.time == 365 * 86400
    assert result.steps <= 5


def test_timers_fire_in_order_of_time_then_of_creation():
    async def program():
        seen = []
        loop = asyncio.get_running_loop()
        for name, delay in [("c", 2), ("a", 1), ("b", 1), ("d", 2)]:
            loop.call_later(delay, seen.append, name)
        await asyncio.sleep(3)
        return seen

    assert everywhere(program) == ["a", "b", "c", "d"]


def test_plain_callbacks_keep_their_order():
    async def program():
        seen = []
        loop = asyncio.get_running_loop()

        async def starter(name):
            loop.call_soon(seen.append, name)
            await asyncio.sleep(0)

        for number in range(5):
            loop.call_soon(seen.append, number)
        await asyncio.gather(*[starter(n) for n in "xy"])
        await asyncio.sleep(0)
        assert [n for n in seen if isinstance(n, int)] == [0, 1, 2, 3, 4]

    everywhere(program)


def test_a_cancelled_timer_never_fires_and_is_swept():
    async def program():
        loop = asyncio.get_running_loop()
        timers = [loop.call_later(i + 1, pytest.fail) for i in range(300)]
        for timer in timers:
            timer.cancel()
            timer.cancel()
        assert all(t.cancelled() for t in timers)
        assert len(loop._timers) < 200
        await asyncio.sleep(1000)
        assert timers[0].when() == 1
        return repr(timers[0])

    assert everywhere(program).startswith("<SimTimer at 1")


def test_timeouts_and_task_groups():
    async def never():
        async with asyncio.timeout(5):
            await asyncio.Event().wait()

    async def group_of(victim, bad):
        async with asyncio.TaskGroup() as group:
            for number in range(3):
                group.create_task(victim(number))
            group.create_task(bad())

    async def program():
        loop = asyncio.get_running_loop()
        with pytest.raises(TimeoutError):
            await never()
        assert loop.time() == 5
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(asyncio.sleep(9), 1)
        cancelled = []

        async def victim(number):
            try:
                await asyncio.sleep(100)
            finally:
                cancelled.append(number)

        async def bad():
            await asyncio.sleep(1)
            raise ValueError("bad")

        with pytest.raises(ExceptionGroup) as info:
            await group_of(victim, bad)
        assert len(info.value.exceptions) == 1
        assert sorted(cancelled) == [0, 1, 2]
        assert loop.time() == 7

    everywhere(program)


def test_anyio_scopes_groups_and_streams():
    async def soon():
        with anyio.fail_after(2):
            await anyio.sleep_forever()

    async def program():
        with pytest.raises(TimeoutError), anyio.fail_after(2):
            await anyio.sleep_forever()
        with anyio.move_on_after(1) as scope:
            await anyio.sleep(5)
        assert scope.cancelled_caught
        send, receive = anyio.create_memory_object_stream(1)
        got = []

        async def consumer():
            async with receive:
                async for item in receive:
                    got.append(item)

        async def producer():
            async with send:
                for number in range(4):
                    await send.send(number)

        async with anyio.create_task_group() as group:
            group.start_soon(consumer)
            group.start_soon(producer)
        assert got == [0, 1, 2, 3]
        with anyio.CancelScope() as outer:
            outer.cancel()
            with anyio.CancelScope(shield=True):
                await anyio.sleep(1)
            await anyio.sleep(1)
        assert anyio.current_time() == 4

    everywhere(program)


def test_async_generators_are_closed_with_the_run():
    closed = []

    async def numbers():
        try:
            while True:
                yield 1
        finally:
            await asyncio.sleep(1)
            closed.append(True)

    async def program():
        kept.append(numbers())
        async for _ in kept[-1]:
            return

    kept = []
    everywhere(program)
    assert len(closed) == len(kept) > 1


def test_context_variables_follow_the_task():
    variable = contextvars.ContextVar("variable", default="outer")

    async def child():
        variable.set("inner")
        await asyncio.sleep(0)
        return variable.get()

    async def program():
        assert await asyncio.gather(child(), child()) == ["inner", "inner"]
        assert variable.get() == "outer"

    everywhere(program)


@eager
def test_eager_tasks_run_their_first_step_at_once():
    async def child(seen):
        seen.append("first")
        await asyncio.sleep(0)
        seen.append("second")

    async def program():
        loop = asyncio.get_running_loop()
        loop.set_task_factory(asyncio.eager_task_factory)
        seen = []
        task = loop.create_task(child(seen), name="child")
        assert seen == ["first"]
        await task
        assert hash(task) == task.sim_id
        loop.set_task_factory(None)

    everywhere(program)


def test_a_foreign_task_has_a_number_too():
    async def program():
        loop = asyncio.get_running_loop()
        plain = asyncio.Task(asyncio.sleep(0, "plain"), loop=loop)
        python = asyncio.tasks._PyTask(asyncio.sleep(0, "python"), loop=loop)
        assert loop.lane_of(plain) == loop.lane_of(plain) != loop.lane_of(python)
        return await asyncio.gather(plain, python)

    assert everywhere(program) == ["plain", "python"]


async def use_loop(method, *args):
    loop = asyncio.get_running_loop()
    result = getattr(loop, method)(*args)
    if asyncio.iscoroutine(result):
        await result


@pytest.mark.parametrize(
    ("method", "args"),
    [
        ("create_connection", (object, "localhost", 1)),
        ("add_reader", (0, print)),
        ("subprocess_exec", (object, "true")),
        ("add_signal_handler", (2, print)),
        ("getaddrinfo", ("localhost", 1)),
        ("sock_recv", (None, 1)),
        ("run_in_executor", (None, print)),
    ],
)
def test_the_real_world_is_refused(method, args):
    error = run(functools.partial(use_loop, method, *args)).error
    assert isinstance(error, EscapeError)
    assert "leaves the simulation" in str(error)


def test_a_swallowed_escape_still_fails_the_run():
    async def program():
        try:
            await asyncio.open_connection("localhost", 1)
        except Exception:
            return "offline"

    assert isinstance(run(program).error, EscapeError)


def work(number):
    assert threading.current_thread() is threading.main_thread()
    return number + 1


@pytest.mark.parametrize("to_thread", [asyncio.to_thread, anyio.to_thread.run_sync])
def test_threads_are_refused_or_run_inline(to_thread):
    async def program():
        return await to_thread(work, 1)

    error = run(program).error
    assert isinstance(error, EscapeError)
    assert "running work() in a thread" in str(error)
    assert 'threads="inline"' in str(error)
    assert everywhere(program, threads="inline") == 2


def test_inline_threads_raise_what_the_function_raises():
    async def program():
        with pytest.raises(ZeroDivisionError):
            await anyio.to_thread.run_sync(lambda: 1 // 0)
        return await asyncio.get_running_loop().run_in_executor(None, work, 1)

    assert everywhere(program, threads="inline") == 2


def test_anyio_threads_work_again_outside():
    async def program():
        return await anyio.to_thread.run_sync(threading.current_thread)

    assert isinstance(run(program).error, EscapeError)
    assert anyio.run(program) is not threading.main_thread()


def test_a_real_thread_is_refused():
    async def program():
        loop = asyncio.get_running_loop()
        event = asyncio.Event()
        thread = threading.Thread(target=knock, args=(loop, event))
        thread.start()
        thread.join()
        await event.wait()

    refused = []

    def knock(loop, event):
        try:
            loop.call_soon_threadsafe(event.set)
        except EscapeError as exc:
            refused.append(exc)

    error = run(program).error
    assert isinstance(error, EscapeError)
    assert "another thread" in str(error)
    assert "StuckError('deadlock" in error.__notes__[0]


def test_call_soon_threadsafe_works_within_the_loop():
    async def program():
        event = asyncio.Event()
        asyncio.get_running_loop().call_soon_threadsafe(event.set)
        await event.wait()

    everywhere(program)


def test_spinning_at_one_instant_says_that_time_stands_still():
    async def program():
        await asyncio.sleep(3)
        while True:
            await asyncio.sleep(0)

    error = run(program, max_steps=1000).error
    assert isinstance(error, StepLimitError)
    assert "stood still at t=3" in str(error)


def test_spinning_through_time_says_that_time_moved():
    async def program():
        while True:
            await asyncio.sleep(1)

    error = run(program, max_steps=1000).error
    assert isinstance(error, StepLimitError)
    assert "virtual time kept moving" in str(error)
    error = run(program, max_time=60).error
    assert isinstance(error, StepLimitError)
    assert "t=60" in str(error)


def test_the_wall_clock_jumps_alone():
    async def program(sim):
        start = sim.clock.wall()
        sim.clock.jump_wall(-3600)
        await sim.clock.sleep(10)
        assert sim.clock.wall() == start - 3590
        assert sim.clock.time() == 10

    everywhere(program)


def test_the_clock_moves_under_ready_work_only_within_the_stall():
    async def program():
        loop = asyncio.get_running_loop()
        late = []

        async def busy():
            for _ in range(5):
                before = loop.time()
                await asyncio.sleep(0)
                late.append(loop.time() - before)

        await asyncio.gather(busy(), asyncio.sleep(0.3), asyncio.sleep(0.6))
        return max(late)

    assert run(program).unwrap() == 0
    seen = set()
    for seed in range(50):
        loop = SimLoop(RandomWalk(random.Random(seed)), max_stall=0.5)
        seen.add(loop.run_until_complete(program()))
        loop.close()
    assert max(seen) <= 0.5
    assert len(seen) > 1


def test_what_is_left_is_cancelled_in_order_of_creation():
    ended = []

    async def forever(name):
        try:
            await asyncio.sleep(1000)
        finally:
            await asyncio.sleep(1)
            ended.append(name)

    async def program():
        kept.extend(asyncio.create_task(forever(n)) for n in "abc")
        await asyncio.sleep(1)

    kept = []
    assert run(program).error is None
    assert ended == ["a", "b", "c"]


def test_a_task_that_refuses_to_end_does_not_hang_the_run():
    async def stubborn():
        while True:
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.sleep(1)

    async def program():
        kept.append(asyncio.create_task(stubborn()))
        await asyncio.sleep(0)

    kept = []
    result = run(program)
    assert result.error is None
    assert "teardown" in result.complaints[0]["message"]


async def has_a_failing_callback():
    asyncio.get_running_loop().call_soon(lambda: 1 // 0)
    await asyncio.sleep(1)


async def forgets_a_task_that_fails():
    async def fails():
        raise ZeroDivisionError("forgotten")

    task = asyncio.create_task(fails(), name="forgotten")
    await asyncio.wait([task])


async def leaves_a_task_that_fails_at_its_end():
    async def fails():
        try:
            await asyncio.sleep(1000)
        finally:
            raise ZeroDivisionError

    kept = asyncio.create_task(fails(), name="left")
    await asyncio.sleep(1)
    assert not kept.done()


@pytest.mark.parametrize(
    ("program", "words"),
    [
        (has_a_failing_callback, "exception in has_a_failing_callback"),
        (forgets_a_task_that_fails, "task forgotten failed and nothing awaited it"),
        (leaves_a_task_that_fails_at_its_end, "task left failed when it was cancelled"),
    ],
)
def test_an_exception_that_nothing_receives_is_a_failure(program, words):
    for error in (run(program).error, explore(program).failure.error):
        assert isinstance(error, ZeroDivisionError)
        assert words in error.__notes__[0]
    ignored = run(program, unhandled="ignore")
    assert ignored.error is None
    assert isinstance(ignored.complaints[0]["exception"], ZeroDivisionError)
    assert explore(program, unhandled="ignore").failure is None


def test_an_exception_that_nothing_receives_fails_other_runners_too():
    with (
        pytest.raises(ZeroDivisionError),
        asyncio.Runner(loop_factory=sim_loop_factory()) as runner,
    ):
        runner.run(has_a_failing_callback())
    ignoring = sim_loop_factory(unhandled="ignore")
    with asyncio.Runner(loop_factory=ignoring) as runner:
        runner.run(has_a_failing_callback())


def test_a_task_that_fails_and_is_awaited_later_is_no_failure():
    async def fails():
        raise ZeroDivisionError

    async def program():
        task = asyncio.create_task(fails())
        await asyncio.sleep(5)
        with pytest.raises(ZeroDivisionError):
            await task
        both = [asyncio.create_task(fails()) for _ in range(2)]
        with pytest.raises(ZeroDivisionError):
            await asyncio.gather(*both)
        await asyncio.gather(*both, return_exceptions=True)

    everywhere(program)


def test_a_timer_that_is_due_can_still_be_cancelled():
    async def program():
        loop, seen = asyncio.get_running_loop(), []

        def first():
            second.cancel()

        loop.call_later(1, first)
        second = loop.call_later(1, seen.append, "cancelled too late")
        await asyncio.sleep(2)
        assert seen == []
        async with asyncio.timeout(1):  # due in the moment in which the body ends
            await asyncio.sleep(0.999_999_999)

    everywhere(program)


async def keeps_time():
    start = time.time(), time.monotonic(), time.perf_counter_ns()
    await asyncio.sleep(3600)
    assert time.time() - start[0] == 3600
    assert time.monotonic() - start[1] == 3600
    assert time.perf_counter_ns() - start[2] == 3600 * 10**9
    time.sleep(60)  # noqa: ASYNC251  a step that takes a minute
    assert asyncio.get_running_loop().time() == 3660


def test_the_time_module_is_virtual_in_a_simulation():
    real = time.monotonic()
    run(keeps_time).unwrap()
    explore(keeps_time, max_stall=0.1, schedules=20).check()
    assert time.monotonic() - real < 3000


async def waits_for_a_cancelled_child():
    """Correct: but the cancellation of anyio arms itself again until the child ends."""

    async def child(turns):
        try:
            await anyio.sleep(100)
        finally:
            with anyio.CancelScope(shield=True):
                for _ in range(turns):
                    await anyio.lowlevel.checkpoint()

    async with anyio.create_task_group() as group:
        for turns in (3, 5):
            group.start_soon(child, turns)
        await anyio.sleep(1)
        group.cancel_scope.cancel()


@pytest.mark.parametrize("strategy", ["auto", "random", "pos", "weighted", "holds"])
def test_no_policy_starves_a_task_against_callbacks_that_arm_themselves(strategy):
    explore(
        waits_for_a_cancelled_child, strategy=strategy, schedules=300, max_steps=5_000
    ).check()


def test_a_step_is_overtaken_by_64_callbacks_in_a_row_at_most():
    class Starving(Ordered):
        def pop(self, callback, stall):
            return None if callback else self.pool.pop(0)

    def again():
        ran.append(1)
        loop.call_soon(again)

    async def program():
        loop.call_soon(again)
        ready = asyncio.create_task(asyncio.sleep(0))
        await ready

    ran = []
    loop = SimLoop(Starving(), unhandled="ignore")
    loop.run_until_complete(program())
    loop.close()
    assert len(ran) <= 4 * 64 + 4


def test_an_own_exception_handler_is_asked():
    seen = []

    async def program():
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _, context: seen.append(context["message"]))
        loop.call_soon(lambda: 1 // 0)
        await asyncio.sleep(1)

    run(program).unwrap()
    assert "exception in" in seen[0]


def test_a_closed_loop_refuses_work():
    loop = SimLoop()
    loop.close()
    for call in (loop.call_soon, functools.partial(loop.call_later, 1)):
        with pytest.raises(RuntimeError, match="closed"):
            call(print)
    sleeping = asyncio.sleep(1)
    with pytest.raises(RuntimeError, match="closed"):
        loop.create_task(sleeping)
    sleeping.close()


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
def test_leaving_is_never_swallowed(error):
    async def program():
        asyncio.get_running_loop().call_soon(leave)
        await asyncio.sleep(1)

    def leave():
        raise error

    with pytest.raises(error):
        run(program)
    with pytest.raises(error):
        explore(program)


def test_it_is_a_loop_factory_for_the_runner():
    async def program():
        await asyncio.sleep(5)
        return asyncio.get_running_loop().time()

    with asyncio.Runner(loop_factory=SimLoop) as runner:
        assert runner.run(program()) == 5
    assert anyio.run(program, backend_options={"loop_factory": SimLoop}) == 5


def test_stopping_an_empty_loop_ends_it():
    loop = SimLoop()
    loop.stop()
    loop.run_forever()
    loop.call_soon(loop.stop)
    loop.run_forever()
    chosen = SimLoop(RandomWalk(random.Random(0)))
    chosen.stop()
    chosen.run_forever()
    loop.close()
    chosen.close()


def test_no_socket_is_opened(monkeypatch):
    monkeypatch.setattr(socket, "socket", pytest.fail)
    monkeypatch.setattr(socket, "socketpair", pytest.fail)
    assert run(functools.partial(asyncio.sleep, 1)).error is None


async def test_a_program_can_be_explored_within_a_coroutine():
    async def program():
        await asyncio.sleep(1)
        return asyncio.get_running_loop().time()

    outer = asyncio.get_running_loop()
    assert run(program).unwrap() == 1
    assert explore(program, schedules=5).failure is None
    assert asyncio.get_running_loop() is outer
    await asyncio.sleep(0)


class Weighty(Exception):
    """An exception that can be referred to weakly."""


async def forgets_what_a_task_raised():
    async def fails():
        await asyncio.sleep(0)
        raise Weighty

    gc.disable()
    try:
        task = asyncio.create_task(fails())
        await asyncio.wait([task])
        left = weakref.ref(task.exception())
        del task
        await asyncio.sleep(0)
        assert left() is None, gc.get_referrers(left())
    finally:
        gc.enable()


@pytest.mark.parametrize("order", ["tasks", "fifo"])
@pytest.mark.parametrize("max_stall", [0.0, 0.1])
def test_the_loop_keeps_no_step_that_has_run(order, max_stall):
    """Nor does its frame, which every traceback leads to (anyio tests this too)."""
    asyncio.run(forgets_what_a_task_raised())
    options = {"order": order, "max_stall": max_stall}
    explore(forgets_what_a_task_raised, schedules=20, **options).check()
    blob = Schedule(**options).blob
    replay(forgets_what_a_task_raised, blob).unwrap()  # every step is watched
    loop = SimLoop()
    loop.run_until_complete(forgets_what_a_task_raised())
    loop.close()
