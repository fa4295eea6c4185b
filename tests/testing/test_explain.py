"""A failure tells its story, and the story can be replayed anywhere."""

import ast
import asyncio
import functools
import os
import subprocess
import sys
from pathlib import Path

import anyio
import attrs
import pytest

import swarm
from swarm import Agent, Swarm
from swarm.testing import (
    BlobError,
    Deviation,
    Hold,
    InvariantError,
    Schedule,
    StuckError,
    explore,
    replay,
    run,
)
from swarm.testing._report import IDLE, SENDING
from swarm.testing._schedule import describe_hold
from swarm.testing._trace import Row, render
from tests.testing.planted import PROGRAMS

BY_NAME = {p.name: p for p in PROGRAMS}


def failure_of(name):
    planted = BY_NAME[name]
    program = planted.make(False)
    return program, explore(program, max_stall=planted.max_stall).failure


def test_the_story_names_time_task_line_and_the_turn():
    _, failure = failure_of("lost update")
    story = failure.explain()
    assert "AssertionError: lost update: 1" in story
    assert "was slow for" in story
    assert "from its step" in story
    assert "t=0" in story
    assert "counters.py:" in story
    assert "(before " in story
    assert failure.blob in story
    assert len(story.splitlines()) <= 40


def test_the_exception_is_the_programs_own_with_notes():
    program, failure = failure_of("lost update")
    assert type(failure.error) is AssertionError
    assert any("was slow" in note for note in failure.error.__notes__)
    assert any(failure.blob in note for note in failure.error.__notes__)
    with pytest.raises(AssertionError, match="lost update") as info:
        explore(program).check()
    assert info.traceback[-1].name == "program"


def test_a_bug_of_the_stock_order_says_so():
    _, failure = failure_of("self deadlock")
    assert failure.on_stock_order
    assert failure.deviations == 0
    assert "also happens on the stock order" in failure.explain()


@pytest.mark.parametrize("planted", PROGRAMS, ids=lambda p: p.name)
def test_a_replay_is_exact(planted):
    program = planted.make(False)
    failure = explore(program, max_stall=planted.max_stall).failure
    for _ in range(3):
        again = replay(program, failure.blob)
        assert again.digest == failure.digest
        assert again.trace == failure.trace
        assert type(again.error) is type(failure.error)
        assert not hasattr(again.error, "__notes__") or again.blob == failure.blob
    assert Schedule.from_blob(failure.blob) == failure.schedule


def test_a_deadlock_names_primitive_line_holder_and_cycle():
    _, failure = failure_of("abba")
    assert isinstance(failure.error, StuckError)
    text = str(failure.error)
    assert "deadlock at t=0: nothing is ready, no timer is set, 3 tasks wait" in text
    assert "main  waits for gather(t1, t2)  at locks.py:" in text
    assert "t1    waits for Lock held by t2  at locks.py:" in text
    assert "cycle: t1 -> t2 -> t1" in text


def test_a_task_that_waits_for_a_lock_of_a_swarm_names_the_lock_and_its_holder():
    async def program():
        gate = asyncio.Event()

        async def hold():
            async with swarm.lock("press").acquire(ttl=1e9):
                await gate.wait()

        async def want():
            async with swarm.lock("press").acquire(timeout=None):
                gate.set()

        async with Swarm() as swarm, asyncio.TaskGroup() as group:
            group.create_task(hold(), name="ada")
            group.create_task(want(), name="bo")

    text = str(run(program, max_time=100.0).error)
    assert "bo             waits for lock 'press' (exclusive)" in text
    assert "held by task 'ada'" in text


def test_a_self_deadlock_is_a_cycle_of_one():
    _, failure = failure_of("self deadlock")
    assert "waits for Lock held by main" in str(failure.error)
    assert "cycle: main -> main" in str(failure.error)


def test_a_lost_wakeup_names_the_event():
    _, failure = failure_of("lost wakeup")
    assert "consumer  waits for Event  at groups.py:" in str(failure.error)


def test_a_lock_of_a_dead_holder_says_so():
    async def program():
        guard = asyncio.Lock()

        async def leaves():
            await guard.acquire()

        await asyncio.create_task(leaves(), name="leaver")
        await guard.acquire()

    assert "Lock held by leaver, which has ended" in str(run(program).error)


def test_anyio_primitives_and_tasks_are_named():
    async def program():
        guard = anyio.Lock()

        async def holder():
            async with guard:
                await asyncio.Event().wait()

        async def other():
            async with guard:
                pass

        held = asyncio.create_task(holder())
        await asyncio.sleep(0)
        waiting = asyncio.create_task(other())
        await asyncio.sleep(0)
        await waiting
        await held

    text = str(run(program).error)
    assert "waits for Lock held by holder#" in text
    assert "waits for task other#" in text
    assert "main" in text


@pytest.mark.parametrize("library", ["asyncio", "anyio"])
def test_a_task_group_waits_for_its_tasks(library):
    async def program():
        guard = asyncio.Lock()

        async def child():
            async with guard:
                pass

        async with guard:
            if library == "asyncio":
                async with asyncio.TaskGroup() as group:
                    group.create_task(child(), name="child")
            else:
                async with anyio.create_task_group() as group:
                    group.start_soon(child, name="child")

    text = str(run(program).error)
    assert "main   waits for its task group" in text
    assert "cycle: main -> child -> main" in text


def test_many_waiting_tasks_are_summed_up():
    async def program():
        await asyncio.gather(*[asyncio.Event().wait() for _ in range(30)])

    text = str(run(program).error)
    assert "31 tasks wait" in text
    assert "... and 11 more" in text
    assert ", ...)" in text


def test_a_long_trace_keeps_its_turns_and_its_end():
    rows = [Row(float(i), 2, "t", None, f"step {i}", "") for i in range(500)]
    rows[100] = rows[100]._replace(overtook="other")
    lines = render(rows).splitlines()
    assert len(lines) <= 30
    assert any("step 100" in line and "(before other)" in line for line in lines)
    assert "step 499" in lines[-1]
    assert "steps" in lines[0]
    assert render([]) == "  (no steps)"


def test_a_program_that_leaves_the_simulation_is_called_irreproducible():
    calls = []

    async def program():
        calls.append(1)
        await asyncio.gather(asyncio.sleep(0), asyncio.sleep(0))
        assert len(calls) != 3

    failure = explore(program, schedules=20).failure
    assert not failure.reproducible
    assert "NOT REPRODUCIBLE" in failure.explain()


@pytest.mark.parametrize("blob", ["", "swarm9.x", "swarm2.x", "swarm2.eNqrBgAAewB6"])
def test_a_damaged_blob_is_refused(blob):
    with pytest.raises(BlobError):
        replay(functools.partial(asyncio.sleep, 0), blob)


def test_a_blob_from_elsewhere_comes_with_a_warning():
    program, failure = failure_of("lost update")
    foreign = attrs.evolve(failure.schedule, python="2.7", hash_seed="42")
    notes = replay(program, foreign.blob).error.__notes__
    assert any("Python 2.7" in note for note in notes)
    assert any("PYTHONHASHSEED=42" in note for note in notes)


def test_holds_in_words():
    one = describe_hold(Hold(1, 5, 1), "t")
    assert one == "`t` was slow for 1 turn from its step 5"
    assert "as long as others" in describe_hold(Hold(1, 2, 1000), "t")
    assert describe_hold(Hold(0, 2, 3), "t") == "callbacks were slow for 3 turns once"


def test_a_schedule_survives_a_change_of_the_program():
    made = ((1, 1, 7), (1, 2, -1), (2, 1, 0), (99, 3, 4))
    schedule = Schedule(deviations=tuple(Deviation(*one) for one in made))

    async def program():
        await asyncio.gather(*[asyncio.sleep(0) for _ in range(3)])

    assert run(program, schedule=schedule).error is None


async def unordered():
    """Depends on the order of a set of tasks in four ways."""
    seen = []

    async def victim(number):
        try:
            await asyncio.sleep(100)
        finally:
            await asyncio.sleep(0)
            seen.append(number)

    async def bad():
        await asyncio.sleep(1)
        raise ValueError

    try:
        async with asyncio.TaskGroup() as group:
            for number in range(12):
                group.create_task(victim(number))
            group.create_task(bad())
    except* ValueError:
        pass
    with anyio.move_on_after(1):
        async with anyio.create_task_group() as anyio_group:
            for number in range(12):
                anyio_group.start_soon(victim, number)
    tasks = {asyncio.create_task(asyncio.sleep(0, n)) for n in range(12)}
    done, _ = await asyncio.wait(tasks)
    seen.extend(task.result() for task in done)
    raise InvariantError(repr(seen))


PROCESS = """
import sys
from swarm.testing import replay, run, explore
from tests.testing.test_explain import unordered
failure = explore(unordered, strategy="random", seed=5).failure
again = replay(unordered, sys.argv[1])
print(failure.blob.split(".")[0], failure.digest, again.digest, again.error)
"""


def test_one_blob_gives_one_trace_in_every_run():
    result = run(unordered)
    assert {replay(unordered, result.blob).digest for _ in range(5)} == {result.digest}


def test_one_blob_gives_one_trace_in_every_process():
    result = run(unordered)
    results = set()
    for hash_seed in range(6):
        done = subprocess.run(
            [sys.executable, "-c", PROCESS, result.blob],
            env={
                **os.environ,
                "PYTHONPATH": os.pathsep.join([os.getcwd(), *filter(None, sys.path)]),
                "PYTHONHASHSEED": str(hash_seed),
            },
            capture_output=True,
            text=True,
            check=True,
        )
        results.add(done.stdout)
    assert len(results) == 1
    assert result.digest in results.pop()


def test_a_stuck_swarm_tells_what_its_tasks_wait_for():
    class Counter(Agent):
        async def hold(self):
            await asyncio.Event().wait()

        async def count(self):
            for number in range(100):
                yield number

    async def program():
        async with Swarm() as swarm:
            ada, bo = [await swarm.spawn(Counter, name=name) for name in ("ada", "bo")]

            async def read():
                async for _ in bo.within(None).stream(Counter.count):
                    await asyncio.Event().wait()

            async def follow():
                async with swarm.state.watch("x") as changes:
                    async for _ in changes:
                        pass

            await ada.tell(Counter.hold)
            async with asyncio.TaskGroup() as group:
                group.create_task(read(), name="reader")
                group.create_task(follow(), name="follower")
                group.create_task(ada.ended(), name="monitor")
                group.create_task(ada.within(None).ask(Counter.hold), name="asker")

    story = str(run(program).error)
    told = dict(line.split(" waits for ") for line in story.splitlines()[1:] if line)
    shown = {name.strip(): what.partition("  at ")[0] for name, what in told.items()}
    assert shown["swarm default"] == "what comes due"
    assert shown["bo"] == "the stream's reader"
    assert shown["follower"] == "the next commit"
    assert shown["monitor"] == "its agent"
    assert shown["asker"] == "agent 'ada' in Counter.hold"


def test_the_functions_that_a_report_knows_are_there():
    known = set()
    for file in (Path(swarm.__file__).parent).rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.ClassDef):
                known |= {f"{node.name}.{getattr(n, 'name', '')}" for n in node.body}
            elif isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
                known.add(node.name)
    assert {*SENDING, *IDLE, "Waiter.wait"} <= known
