"""Pipelines end to end, in this process and a round trip away."""

import asyncio

import attrs
import pytest

from swarm.errors import (
    AccessDenied,
    Closed,
    ConfigMismatch,
    InvalidTransition,
    LimitExceeded,
    NotFound,
    TaskError,
    TaskTimeout,
)
from swarm.model import Backoff
from swarm.work import TaskStatus
from swarm.work._task_record import NEVER
from swarm.work.pipelines import _rules as rules
from swarm.work.pipelines._definition import Pipeline, Stage
from tests.work.passage.desks import ADA, BO, KERNELS, desks, quiet

pytestmark = pytest.mark.parametrize("kind", KERNELS)

SOON = Backoff(0.001, 0.001)


async def double(number: int) -> int:
    return number * 2


async def add_one(number: int) -> int:
    return number + 1


async def test_each_stage_gets_the_output_of_the_one_before(kind):
    """P4."""
    async with desks(kind) as desk:
        flow = Pipeline("sums", [Stage("double", double), Stage("add", add_one)])
        run = await desk.pipelines().start(flow, 5, id="run-1")
        assert await run.result() == 11
        assert run.status == "completed"
        assert run.stage("double").output == 10
        assert [s.status for s in run.stages.values()] == ["completed", "completed"]
        assert run.text().startswith("run-1: sums (completed)\n")


async def test_stages_begin_after_all_they_depend_on(kind):
    """P1, P9."""
    async with desks(kind) as desk:
        order = []

        def noting(name):
            async def stage(value=None, **outputs):
                order.append(name)
                return name

            return stage

        async def join(left, right):
            order.append("join")
            return [left, right]

        flow = Pipeline(
            "diamond",
            [
                Stage("top", noting("top")),
                Stage("left", noting("left")),
                Stage("right", noting("right"), after=["top"]),
                Stage("join", join, after=["left", "right"]),
            ],
        )
        run = await desk.pipelines().start(flow)
        assert await run.result() == ["left", "right"]
        assert order[0] == "top"
        assert order[-1] == "join"
        progress = run.stages
        for before, after in (("top", "left"), ("left", "join"), ("right", "join")):
            assert progress[before].ended_at <= progress[after].started_at


async def test_a_stage_maps_over_a_list_some_items_at_a_time(kind):
    async with desks(kind) as desk:
        active, most = 0, 0

        async def slow(number: int) -> int:
            nonlocal active, most
            active += 1
            most = max(most, active)
            await quiet(60)
            active -= 1
            return number * 10

        flow = Pipeline(
            "each",
            [
                Stage("slow", slow, map=True, concurrency=3),
                Stage("sum", total),
            ],
        )
        run = await desk.pipelines().start(flow, list(range(10)))
        assert await run.result() == sum(range(10)) * 10
        assert run.stage("slow").output == [n * 10 for n in range(10)]
        assert most == 3


async def test_the_newest_definition_of_a_pipeline_does_what_is_left(kind):
    """As in a notebook, or in a method that defines it for each run."""
    async with desks(kind) as desk:
        versions = []

        def define(version):
            async def slow(number: int) -> int:
                await quiet(30)
                versions.append(version)
                return number

            return Pipeline("each", [Stage("slow", slow, map=True, concurrency=2)])

        pipelines = desk.pipelines()
        runs = []
        for version in range(4):
            runs.append(await pipelines.start(define(version), [1, 2, 3]))
            await quiet(10)
        assert [await run.result() for run in runs] == [[1, 2, 3]] * 4
        assert versions[-1] == 3


async def total(numbers: list) -> int:
    return sum(numbers)


async def test_an_empty_list_is_mapped_at_once(kind):
    async with desks(kind) as desk:
        flow = Pipeline("each", [Stage("d", double, map=True), Stage("sum", total)])
        run = await desk.pipelines().start(flow, [])
        assert await run.result() == 0


async def test_what_is_no_list_fails_a_mapping_stage(kind):
    async with desks(kind) as desk:
        flow = Pipeline("each", [Stage("d", double, map=True, max_retries=0)])
        run = await desk.pipelines().start(flow, {"not": "a list"})
        with pytest.raises(TaskError, match="maps over a list of at most 1,000"):
            await run.result()


async def test_each_attempt_gets_the_input_as_it_was_given(kind):
    """P4: also when the one before has changed its own copy."""
    async with desks(kind) as desk:
        seen = []

        async def grow(words):
            seen.append(list(words))
            words.append("more")
            if len(seen) in (1, 3):
                raise ValueError("boom")
            return words

        options = {"max_retries": 2, "backoff": SOON}
        flow = Pipeline("f", [Stage(name, grow, **options) for name in ("one", "two")])
        run = await desk.pipelines().start(flow, ["a"])
        for _ in range(6):
            await quiet()
            await desk.pass_time(0.01)
        assert await run.result() == ["a", "more", "more"]
        assert seen == [["a"], ["a"], ["a", "more"], ["a", "more"]]
        again = await desk.pipelines().get(run.id)
        assert again.stage("one").output == ["a", "more"]


async def test_a_failed_attempt_is_tried_again(kind):
    async with desks(kind) as desk:
        calls = []

        async def flaky(number):
            calls.append(number)
            if len(calls) < 3:
                raise ValueError("boom")
            return number

        flow = Pipeline("f", [Stage("flaky", flaky, max_retries=2, backoff=SOON)])
        run = await desk.pipelines().start(flow, 1)
        for _ in range(4):
            await quiet()
            await desk.pass_time(0.01)
        assert await run.result() == 1
        assert len(calls) == 3


async def test_a_failed_stage_fails_the_run_and_resuming_does_only_that_again(kind):
    """P7: completed work is not done twice."""
    async with desks(kind) as desk:
        calls = []
        broken = True

        async def first(value):
            calls.append("first")
            return value

        async def second(value):
            calls.append("second")
            if broken:
                raise ValueError("boom")
            return value + "!"

        stages = [Stage("first", first), Stage("second", second, max_retries=0)]
        flow = Pipeline("f", [*stages, Stage("third", first)])
        pipelines = desk.pipelines()
        run = await pipelines.start(flow, "bees", id="run-1")
        said = "'second' failed: ValueError: boom; pipelines.resume.'run-1'. begins it"
        with pytest.raises(TaskError, match=said):
            await run.result()
        assert [s.status for s in run.stages.values()] == [
            "completed",
            "failed",
            "skipped",
        ]
        assert run.status == "failed"
        broken = False
        again = await pipelines.resume("run-1")
        assert await again.result() == "bees!"
        assert calls == ["first", "second", "second", "first"]


async def test_only_the_failed_items_are_done_again(kind):
    async with desks(kind) as desk:
        calls = []
        broken = True

        async def item(number):
            calls.append(number)
            if broken and number == 2:
                raise ValueError("boom")
            return number

        flow = Pipeline("f", [Stage("item", item, map=True, max_retries=0)])
        run = await desk.pipelines().start(flow, [1, 2, 3], id="run-1")
        with pytest.raises(TaskError):
            await run.result()
        broken = False
        assert await (await desk.pipelines().resume("run-1")).result() == [1, 2, 3]
        assert calls == [1, 2, 3, 2]


async def test_what_follows_a_resumed_stage_does_not_wait_for_other_branches(kind):
    """P7: one branch goes on from its failure while another one still runs."""
    async with desks(kind) as desk:
        stuck = asyncio.Event()
        broken = True
        ends = []

        async def slow(value):
            await stuck.wait()

        async def flaky(value):
            if broken:
                raise ValueError("boom")

        async def after(value):
            ends.append("after")

        flow = Pipeline(
            "f",
            [
                Stage("slow", slow),
                Stage("flaky", flaky, after=[], max_retries=0),
                Stage("after", after),
            ],
        )
        pipelines = desk.pipelines()
        run = await pipelines.start(flow, id="run-1")
        await quiet(60)
        broken = False
        await pipelines.resume("run-1")
        await quiet(80)
        assert ends == ["after"]
        stuck.set()
        assert await run.result() == {"slow": None, "after": None}


async def test_a_process_without_the_pipeline_hears_of_the_end_of_a_run(kind):
    """P8: also when the run is cancelled while none of its tasks runs."""
    async with desks(kind, 2) as (here, there):
        flow = Pipeline("f", [Stage("double", double)])
        run = await here.pipelines().start(flow, 1, id="run-1")
        assert await (await there.pipelines().get("run-1")).result() == 2
        here.pipeline_manager.drive = lambda _: None  # it begins no task
        run = await here.pipelines().start(flow, 1, id="run-2")
        waiting = asyncio.ensure_future((await there.pipelines().get("run-2")).result())
        await quiet(40)
        await here.pipelines().cancel("run-2", "not needed")
        await quiet(40)
        assert waiting.done()
        with pytest.raises(TaskError, match="was cancelled: not needed"):
            await waiting
        await run.refresh()
        assert run.status == "cancelled"


async def test_another_process_goes_on_with_what_a_dead_one_was_running(kind):
    """P7: after a crash only the running stage runs again."""
    async with desks(kind, 2) as (here, there):
        calls = []
        stuck = asyncio.Event()

        async def first(value):
            calls.append("first")
            return value

        async def second(value):
            calls.append("second")
            if len(calls) == 2:
                await stuck.wait()
            return value + 1

        flow = Pipeline("f", [Stage("first", first), Stage("second", second)])
        await here.pipelines().start(flow, 1, id="run-1")
        await quiet(80)
        assert calls == ["first", "second"]
        here.close()
        here.office.manager.close()  # the process is gone, its lease is not
        run = await there.pipelines().resume("run-1", flow)
        assert run.stage("second").status == "running"
        await there.pass_time(31)
        await there.pass_time(10)
        assert await run.result() == 2
        assert calls == ["first", "second", "second"]


async def test_a_process_that_lost_a_stage_completes_nothing(kind):
    """P3: the stage has the output of the claim that is live."""
    async with desks(kind, 2) as (here, there):
        stuck, outputs = asyncio.Event(), iter(["late", "in time"])

        async def write(topic):
            output = next(outputs)
            if output == "late":
                await stuck.wait()
            return output

        flow = Pipeline("f", [Stage("write", write)])
        await here.pipelines().start(flow, "bees", id="run-1")
        await quiet(80)
        (claim,) = here.office.manager.claims.values()
        claim.beats_at, claim.follow = NEVER, lambda *_: None  # its process is frozen
        run = await there.pipelines().resume("run-1", flow)
        await there.pass_time(31)
        await there.pass_time(10)
        assert await run.result() == "in time"
        stuck.set()
        await quiet(80)
        assert (await there.pipelines().get("run-1")).stage("write").output == "in time"
        assert len(there.told("TaskCompleted")) == 1


async def test_a_cancelled_run_begins_nothing_more(kind):
    """P8."""
    async with desks(kind) as desk:
        begun = []
        stuck = asyncio.Event()

        async def wait(value):
            begun.append("wait")
            await stuck.wait()

        async def after(value):
            begun.append("after")

        flow = Pipeline("f", [Stage("wait", wait), Stage("after", after)])
        pipelines = desk.pipelines()
        run = await pipelines.start(flow, None, id="run-1")
        await quiet(40)
        assert begun == ["wait"]
        await pipelines.cancel("run-1", "not needed")
        for _ in range(3):
            await desk.pass_time(10)  # the worker sees it at its heartbeat
        with pytest.raises(TaskError, match="was cancelled: not needed") as caught:
            await run.result()
        assert caught.value.status == "cancelled"
        assert begun == ["wait"]
        assert [s.status for s in run.stages.values()] == ["skipped", "skipped"]
        with pytest.raises(InvalidTransition, match="was cancelled"):
            await pipelines.resume("run-1")
        await pipelines.cancel("run-1")


async def test_starting_a_run_twice_starts_it_once(kind):
    async with desks(kind) as desk:
        calls = []

        async def once(value):
            calls.append(value)
            return value

        flow = Pipeline("f", [Stage("once", once)])
        pipelines = desk.pipelines()
        runs = await asyncio.gather(
            *[pipelines.start(flow, "x", id="run-1") for _ in range(3)]
        )
        assert [await run.result() for run in runs] == ["x"] * 3
        assert calls == ["x"]
        with pytest.raises(ConfigMismatch, match="another input"):
            await pipelines.start(flow, "y", id="run-1")


async def test_two_processes_share_the_stages_of_a_run(kind):
    async with desks(kind, 2) as (here, there):

        async def slow(number: int) -> int:
            await quiet(5)
            return number

        flow = Pipeline("f", [Stage("slow", slow, map=True, concurrency=4)])
        there.pipelines().register(flow)
        run = await here.pipelines().start(flow, list(range(12)), id="run-1")
        assert await run.result() == list(range(12))
        seen = await there.pipelines().get("run-1")
        assert seen.stage("slow").output == list(range(12))


async def test_an_unfinished_stage_has_no_output(kind):
    """P6."""
    async with desks(kind) as desk:
        stuck = asyncio.Event()

        async def wait(value):
            await stuck.wait()

        flow = Pipeline("f", [Stage("wait", wait)])
        run = await desk.pipelines().start(flow)
        await quiet(40)
        await run.refresh()
        with pytest.raises(InvalidTransition, match="is running and has no output"):
            _ = run.stage("wait").output
        with pytest.raises(NotFound, match="no stage 'other'"):
            run.stage("other")
        waiting = asyncio.ensure_future(run.result(timeout=5))
        await quiet()
        await desk.pass_time(6)
        with pytest.raises(TaskTimeout, match="wait  running"):
            await waiting
        stuck.set()
        assert await run.result() is None


async def test_arguments_and_results_have_the_types_of_the_annotations(kind):
    @attrs.frozen
    class Facts:
        topic: str
        count: int

    async def find(topic: str) -> Facts:
        return Facts(topic, 3)

    async def write(facts: Facts) -> str:
        assert isinstance(facts, Facts)
        return f"{facts.count} facts about {facts.topic}"

    find.__annotations__["return"] = write.__annotations__["facts"] = Facts
    async with desks(kind) as desk:
        flow = Pipeline("f", [Stage("find", find), Stage("write", write)])
        run = await desk.pipelines().start(flow, "bees")
        assert await run.result() == "3 facts about bees"
        assert run.stage("find").output == {"topic": "bees", "count": 3}


async def test_a_run_belongs_to_the_agent_that_started_it(kind):
    def deny(identity, path, action):
        raise AccessDenied(f"{identity} {action} {path}")

    async with desks(kind) as desk:
        flow = Pipeline("f", [Stage("double", double)])
        mine = desk.pipelines(ADA, rights=deny)
        run = await mine.start(flow, 1, id="run-1")
        assert await run.result() == 2
        others = desk.pipelines(BO, rights=deny)
        for attempt in (
            others.cancel("run-1"),
            others.resume("run-1"),
            others.remove("run-1"),
            others.get("run-1"),
        ):
            with pytest.raises(AccessDenied):
                await attempt
        await mine.cancel("run-1")
        await mine.remove("run-1")
        with pytest.raises(NotFound):
            await desk.pipelines().get("run-1")
        assert desk.office.manager.index.records == {}


async def test_a_run_that_is_removed_leaves_no_tasks(kind, monkeypatch):
    monkeypatch.setattr("swarm.work.pipelines._rules.CHUNK", 5)
    async with desks(kind) as desk:
        flow = Pipeline("f", [Stage("d", double, map=True, concurrency=50)])
        pipelines = desk.pipelines()
        run = await pipelines.start(flow, list(range(12)), id="run-1")
        await run.result()
        assert len(desk.office.manager.index.records) == 12
        await pipelines.remove("run-1")
        await quiet()
        assert desk.office.manager.index.records == {}
        with pytest.raises(NotFound):
            await pipelines.remove("run-1")


async def test_a_run_that_was_resumed_leaves_no_failed_tasks(kind):
    """The tasks that were begun again have ids of their own, and go with the run."""
    async with desks(kind) as desk:

        async def fail(value):
            raise ValueError("boom")

        flow = Pipeline("f", [Stage("s", fail, map=True, max_retries=0)])
        pipelines = desk.pipelines()
        run = await pipelines.start(flow, [1], id="run-1")
        for _ in range(3):
            with pytest.raises(TaskError):
                await run.result()
            run = await pipelines.resume("run-1")
        with pytest.raises(TaskError):
            await run.result()
        records = desk.office.manager.index.records
        assert set(records) == {f"run-1:s:0{n}" for n in ("", "~1", "~2", "~3")}
        await pipelines.remove("run-1")
        await quiet()
        assert records == {}


async def test_the_oldest_runs_go_when_there_are_too_many(kind):
    async with desks(kind) as desk:
        desk.pipeline_manager._keep = 2
        stuck = asyncio.Event()

        async def wait(value):
            if value == 0:
                await stuck.wait()

        pipelines = desk.pipelines()
        flow = Pipeline("f", [Stage("w", wait)])
        for n in range(4):
            run = await pipelines.start(flow, n, id=f"run-{n}")
            if n:
                await run.result()
            await desk.pass_time(1)
        await quiet()
        assert (await pipelines.get("run-0")).status == "running"
        assert (await pipelines.get("run-3")).status == "completed"
        for gone in ("run-1", "run-2"):
            with pytest.raises(NotFound):
                await pipelines.get(gone)
        stuck.set()
        await (await pipelines.get("run-0")).result()


async def test_a_run_that_is_running_is_not_removed(kind):
    async with desks(kind) as desk:
        stuck = asyncio.Event()

        async def wait(value):
            await stuck.wait()

        pipelines = desk.pipelines()
        await pipelines.start(Pipeline("f", [Stage("w", wait)]), id="run-1")
        with pytest.raises(InvalidTransition, match="is running"):
            await pipelines.remove("run-1")


async def test_finding_some_runs_looks_at_the_tasks_of_no_others(kind, monkeypatch):
    async with desks(kind) as desk:
        pipelines = desk.pipelines()
        flow = Pipeline("f", [Stage("d", double)])
        for n in range(4):
            await (await pipelines.start(flow, n, id=f"run-{n}")).result()
            await desk.pass_time(1)
        looks = []
        derive = rules.derive
        monkeypatch.setattr(
            rules, "derive", lambda *a, **k: looks.append(a) or derive(*a, **k)
        )
        found = await pipelines.find(status="completed", limit=2)
        assert [run.id for run in found] == ["run-3", "run-2"]
        assert len(looks) == 2
        assert len(await pipelines.find(limit=None)) == 4
        assert await pipelines.find(status="failed") == []


async def test_resuming_needs_the_same_pipeline(kind):
    async with desks(kind, 2) as (here, there):
        flow = Pipeline("f", [Stage("a", double)])
        other = Pipeline("f", [Stage("b", double)])
        await (await here.pipelines().start(flow, 1, id="run-1")).result()
        with pytest.raises(NotFound, match="does not know pipeline 'f'"):
            await there.pipelines().resume("run-1")
        with pytest.raises(ConfigMismatch, match="other stages"):
            await there.pipelines().resume("run-1", other)
        with pytest.raises(NotFound, match="no run run-9"):
            await there.pipelines().resume("run-9", flow)
        run = await there.pipelines().resume("run-1", flow)
        assert await run.result() == 2


async def test_every_stage_is_a_task(kind):
    async with desks(kind) as desk:
        flow = Pipeline("f", [Stage("a", double), Stage("b", double)])
        await (await desk.pipelines(ADA).start(flow, 1, id="run-1")).result()
        records = desk.office.manager.index.records
        assert set(records) == {"run-1:a", "run-1:b"}
        for record in records.values():
            assert record.status is TaskStatus.COMPLETE
            assert record.spec.requester == ADA
            assert record.spec.kind.startswith("pipeline.f.")


async def test_the_wait_for_a_result_ends_with_the_swarm(kind):
    async with desks(kind) as desk:
        stuck = asyncio.Event()

        async def wait(value):
            await stuck.wait()

        run = await desk.pipelines().start(Pipeline("f", [Stage("w", wait)]))
        waiting = asyncio.ensure_future(run.result())
        await quiet()
        desk.office.manager.close()
        desk.close()
        with pytest.raises(Closed):
            await waiting


async def test_a_cancelled_wait_leaves_nothing_behind(kind):
    async with desks(kind) as desk:
        stuck = asyncio.Event()

        async def wait(value):
            await stuck.wait()

        run = await desk.pipelines().start(Pipeline("f", [Stage("w", wait)]))
        await quiet(40)
        for turns in range(8):
            waiting = asyncio.ensure_future(run.result(timeout=60))
            await quiet(turns)
            waiting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await waiting
            assert desk.pipeline_manager._news._waiting == {}
        stuck.set()
        assert await run.result() is None


async def test_bad_arguments_are_one_typed_error(kind):
    async with desks(kind) as desk:
        pipelines = desk.pipelines()
        flow = Pipeline("f", [Stage("a", double)])
        with pytest.raises(TypeError, match="a Pipeline is registered"):
            await pipelines.start("content", 1)
        with pytest.raises(ValueError, match="without ':'"):
            await pipelines.start(flow, 1, id="a:b")
        with pytest.raises(TypeError, match="id of a run is text"):
            await pipelines.start(flow, 1, id=3)
        with pytest.raises(TypeError, match="id of a run is text"):
            await pipelines.get(3)
        run = await pipelines.start(flow, 1)
        with pytest.raises(TypeError, match="a Pipeline is registered"):
            await pipelines.resume(run.id, "f")
        with pytest.raises(ValueError, match="a time-out is 0 seconds or more"):
            await run.result(timeout=-1)


async def test_names_too_long_for_the_tasks_of_a_run_are_refused(kind):
    """A name that makes no kind of a task would end the swarm later."""
    async with desks(kind) as desk:
        with pytest.raises(LimitExceeded, match="at most 64 bytes, not 65"):
            Pipeline("f", [Stage("d" * 65, double)])
        with pytest.raises(LimitExceeded, match="at most 64 bytes, not 65"):
            Pipeline("f" * 65, [Stage("d", double)])
        word = "d" * 64
        flow = Pipeline(word, [Stage("d", double), Stage(word, double)])
        with pytest.raises(LimitExceeded, match="a path is at most 512 bytes"):
            await desk.pipelines().start(flow, 1, id="r" * 450)
        assert await desk.pipelines().find() == []
        assert await (await desk.pipelines().start(flow, 1, id="r" * 400)).result() == 4


async def test_a_stage_that_is_cancelled_from_inside_has_failed(kind):
    """It was claimed again at once, for ever: a cancelled attempt does not count."""
    async with desks(kind) as desk:
        calls = 0

        async def awaits_what_is_cancelled(_: int) -> None:
            nonlocal calls
            calls += 1
            gone = asyncio.get_running_loop().create_future()
            gone.cancel()
            await gone

        stage = Stage("s", awaits_what_is_cancelled, max_retries=2, backoff=SOON)
        run = await desk.pipelines().start(Pipeline("f", [stage]), 1)
        result = asyncio.create_task(run.result())
        while not result.done():
            await desk.pass_time(1)
        with pytest.raises(TaskError, match="was cancelled from inside"):
            await result
        assert calls == 3
