"""Odd corners of asyncio and anyio: the simulator does what the stock loop does.

Each program is short of races, so its value is the same in every legal order.
"""

import asyncio
import concurrent.futures
import contextlib
import contextvars
import os
import signal
import socket
import sys
import threading

import anyio
import anyio.from_thread
import anyio.to_thread
import pytest

from swarm.testing import EscapeError, SimLoop, explore, run

PROGRAMS = []
NEWER = object()


def program(function):
    PROGRAMS.append(function)
    return function


@program
async def groups_within_groups():
    log = []

    async def leaf(seconds, error=None):
        try:
            await asyncio.sleep(seconds)
            if error:
                raise error
        except asyncio.CancelledError:
            log.append(f"cancelled {seconds}")
            raise
        log.append(seconds)

    try:
        async with asyncio.TaskGroup() as outer:
            outer.create_task(leaf(0.03))
            async with asyncio.TaskGroup() as inner:
                inner.create_task(leaf(0.01, ValueError("bad")))
                inner.create_task(leaf(0.02))
    except* ValueError as group:
        log.append(repr(group))
    return log


@program
async def a_shielded_task_outlives_its_timeout():
    async def inner():
        await asyncio.sleep(0.02)
        return "done"

    task = asyncio.ensure_future(inner())
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(asyncio.shield(task), 0.01)
    return await task


@program
async def generators_closed_late():
    log = []

    async def numbers(name):
        try:
            for number in range(10):
                yield number
        finally:
            await asyncio.sleep(0.001)
            log.append(name)

    closed = numbers("closed")
    async for number in closed:
        if number == 2:
            break
    await closed.aclose()
    dropped = numbers("dropped")
    await anext(dropped)
    del dropped  # the loop closes it
    await asyncio.sleep(0.01)
    return log


@program
async def timeouts_of_zero():
    log = []
    for seconds in (0, -1):
        try:
            async with asyncio.timeout(seconds):
                log.append("begun")
                await asyncio.sleep(0)
                await asyncio.sleep(1)
        except TimeoutError:
            log.append("late")
    ready = asyncio.get_running_loop().create_future()
    ready.set_result(7)
    log.append(await asyncio.wait_for(ready, 0))
    return log


@program
async def the_first_of_several():
    async def nap(seconds):
        await asyncio.sleep(seconds)
        return seconds

    left = {asyncio.create_task(nap(n)) for n in (0.03, 0.01, 0.02)}
    order = []
    while left:
        done, left = await asyncio.wait(left, return_when=asyncio.FIRST_COMPLETED)
        order += sorted(task.result() for task in done)
    for next_one in asyncio.as_completed([nap(0.2), nap(0.1)], timeout=1):
        order.append(await next_one)
    return order


@program
async def a_queue_shut_down():
    queue = asyncio.Queue(2)
    if not hasattr(queue, "shutdown"):
        return NEWER
    log = []

    async def reader():
        with contextlib.suppress(asyncio.QueueShutDown):
            while True:
                log.append(await queue.get())

    reading = asyncio.create_task(reader())
    await queue.put(1)
    await queue.put(2)
    await asyncio.sleep(0.01)
    queue.shutdown()
    await reading
    with pytest.raises(asyncio.QueueShutDown):
        await queue.put(3)
    return log


@program
async def timers_in_order():
    loop, log = asyncio.get_running_loop(), []
    now = loop.time()
    loop.call_at(now + 0.02, log.append, "second")
    loop.call_at(now + 0.02, log.append, "third")
    loop.call_later(0.01, log.append, "first")
    loop.call_later(0.01, log.append, "never").cancel()
    loop.call_soon(log.append, "soon")
    await asyncio.sleep(0)
    await asyncio.sleep(0.05)
    return log


@program
async def exceptions_where_nobody_waits():
    loop, log = asyncio.get_running_loop(), []
    loop.set_exception_handler(lambda _, c: log.append(type(c["exception"]).__name__))
    loop.call_soon(lambda: 1 / 0)
    await asyncio.sleep(0.001)
    loop.call_later(0.001, lambda: {}["x"])
    future = loop.create_future()
    future.add_done_callback(lambda _: [][1])
    future.set_result(None)
    await asyncio.sleep(0.01)
    return log


@program
async def context_of_callbacks_and_tasks():
    variable = contextvars.ContextVar("variable")
    loop, log = asyncio.get_running_loop(), []
    variable.set(1)
    context = contextvars.copy_context()
    variable.set(2)
    loop.call_soon(lambda: log.append(variable.get()))
    loop.call_soon(lambda: log.append(variable.get()), context=context)

    async def task():
        log.append(variable.get())
        variable.set(9)

    await asyncio.create_task(task(), context=context)
    log.append(context[variable])
    await asyncio.to_thread(lambda: log.append(variable.get()))
    return log


@program
async def cancelled_and_called_back():
    log = []

    async def stubborn():
        started.set()
        try:
            await asyncio.sleep(1)
        except asyncio.CancelledError as error:
            log.append(error.args)
            log.append(asyncio.current_task().cancelling())
            log.append(asyncio.current_task().uncancel())
        await asyncio.sleep(0.001)
        return "alive"

    started = asyncio.Event()
    task = asyncio.create_task(stubborn())
    await started.wait()
    task.cancel("why")
    log.append(await task)
    return log


@program
async def eager_tasks():
    if sys.version_info < (3, 12):
        return NEWER
    loop, log = asyncio.get_running_loop(), []
    loop.set_task_factory(asyncio.eager_task_factory)

    async def work(number):
        log.append(number)
        assert asyncio.current_task() is not None
        if number:
            await asyncio.sleep(0)
        return number

    tasks = [loop.create_task(work(n), name=f"w{n}") for n in range(3)]
    log.append("created")
    log.append(await asyncio.gather(*tasks))
    log.append([task.get_name() for task in tasks])
    loop.set_task_factory(None)
    return log


@program
async def a_loop_in_debug_mode():
    loop = asyncio.get_running_loop()
    loop.set_debug(True)
    await asyncio.create_task(asyncio.sleep(0.001))
    loop.call_later(0.001, int)
    await asyncio.sleep(0.002)
    loop.set_debug(False)
    return loop.slow_callback_duration


@program
async def a_coroutine_handed_in_as_from_a_thread():
    loop = asyncio.get_running_loop()
    future = asyncio.run_coroutine_threadsafe(asyncio.sleep(0, "x"), loop)
    return await asyncio.wrap_future(future)


@program
async def a_reader_without_a_socket():
    reader = asyncio.StreamReader()
    reader.feed_data(b"one\ntwo")
    reader.feed_eof()
    return await reader.readline(), await reader.read()


@program
async def back_from_a_worker_thread():
    def work():
        anyio.from_thread.check_cancelled()
        return anyio.from_thread.run_sync(anyio.current_time) >= 0

    return await anyio.to_thread.run_sync(work)


@pytest.mark.filterwarnings("ignore:There is no current event loop")
@pytest.mark.parametrize("function", PROGRAMS, ids=lambda f: f.__name__)
def test_it_is_as_on_the_stock_loop(function):
    expected = asyncio.run(function())
    if expected is NEWER:
        pytest.skip("this interpreter does not have it")
    result = run(function, threads="inline")
    assert result.unwrap() == expected
    assert not result.complaints

    async def again():
        assert await function() == expected

    for order in ("tasks", "fifo"):
        on_time = {"order": order, "max_stall": 0.0}
        explore(again, threads="inline", schedules=60, **on_time).check()


# --- what leaves the simulation -------------------------------------------------------


async def waits_for_an_executor():
    gate = threading.Event()  # the thread must not be through before it is waited for
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        try:
            await asyncio.wrap_future(pool.submit(gate.wait, 60))
        finally:
            gate.set()


async def connects():
    await anyio.connect_tcp("127.0.0.1", 1)


async def begins_a_process():
    await anyio.run_process(["true"])


async def listens_to_a_signal():
    with anyio.open_signal_receiver(signal.SIGTERM):
        pass


async def waits_for_a_socket():
    one, other = socket.socketpair()
    with one, other:
        await anyio.wait_readable(one)


async def asks_the_loop_from_a_thread():
    await anyio.to_thread.run_sync(anyio.from_thread.run, anyio.sleep, 0)


async def swallows_it():
    with contextlib.suppress(Exception):
        await asyncio.open_connection("127.0.0.1", 1)
    raise ValueError("offline")


@pytest.mark.parametrize(
    ("function", "words"),
    [
        (waits_for_an_executor, "a concurrent.futures.Future leaves the simulation"),
        (connects, "no network"),
        (begins_a_process, "no child processes"),
        (listens_to_a_signal, "no signals"),
        (waits_for_a_socket, "no file descriptors"),
        (asks_the_loop_from_a_thread, "cannot wait for it"),
        (swallows_it, "no network"),
    ],
)
def test_what_leaves_the_simulation_is_one_clear_error(function, words):
    """Whatever the program makes of it: a group, an error of its own, a deadlock."""
    error = run(function, threads="inline").error
    assert isinstance(error, EscapeError)
    assert words in str(error)
    assert "leaves the simulation: " in str(error)


async def real_program():
    def work():
        anyio.from_thread.check_cancelled()
        here = threading.get_ident()
        return here, anyio.from_thread.run_sync(threading.get_ident)

    worker, own = await anyio.to_thread.run_sync(work)
    scopes = {anyio.CancelScope(), anyio.CancelScope()}
    assert len(scopes) == 2
    assert worker != own == threading.get_ident()
    return await anyio.to_thread.run_sync(anyio.from_thread.run, asyncio.sleep, 0, 1)


def test_a_real_loop_elsewhere_keeps_its_real_threads():
    """While a simulation runs, anyio is as ever for everybody outside of it."""
    results = []

    async def simulated():
        other = threading.Thread(target=lambda: results.append(anyio.run(real_program)))
        other.start()
        other.join()

    run(simulated).unwrap()
    assert results == [1]


def test_an_interrupt_cancels_the_main_task_of_a_runner():
    async def main():
        os.kill(os.getpid(), signal.SIGINT)
        try:
            await asyncio.sleep(100)
        except asyncio.CancelledError:
            ended.append("cancelled")
            raise

    ended = []
    with (
        pytest.raises(KeyboardInterrupt),
        asyncio.Runner(loop_factory=SimLoop) as runner,
    ):
        runner.run(main())
    assert ended == ["cancelled"]
