"""Every public method of work refuses an argument that nothing can be meant by."""

import traceback

import pytest

from swarm import Agent, Pipeline, Stage, Swarm, TaskOptions, serves
from swarm.errors import InvalidPath, InvalidValue, SwarmError
from tests.support.virtual_loop import virtual

NOTHING = object()
OPTIONS = (
    *("key", "priority", "delay", "deadline", "timeout", "max_retries", "backoff"),
    *("parent", "to", "capability", "role", "escalate_to", "schema_version"),
    *("metadata",),
)


async def echo(value: int) -> int:
    return value


class Worker(Agent):
    async def work(self, value: int) -> int:
        return value


FLOW = Pipeline("flow", [Stage("echo", echo)])


def calls(swarm, claim, task, run):
    """Yield each method with arguments that are right, by name."""
    tasks, options = swarm.tasks, dict.fromkeys(OPTIONS[5:7])
    every = {"kind": "a", **dict.fromkeys(OPTIONS)}
    yield "submit", tasks.submit, {**every, "payload": 1, "once": True}
    yield "gather", tasks.gather, {**every, "inputs": [1], "need": "all"}
    yield "gather", tasks.gather, {**every, "inputs": []}
    yield "schedule", tasks.schedule, {"name": "s", "kind": "a", "every": 60.0}
    yield "schedule", tasks.schedule, {"name": "s", "kind": "a", "cron": "* * * * *"}
    yield "schedule", tasks.schedule, {"name": "s", "kind": "a", "every": 1, **options}
    yield "unschedule", tasks.unschedule, {"name": "s"}
    yield "claim", tasks.claim, {"kind": "a", "lease": 30.0, "timeout": 0}
    yield "get", tasks.get, {"task_id": "a"}
    fields = ("kind", "status", "parent", "limit")
    yield "find", tasks.find, dict.fromkeys(fields)
    yield "result", task.result, {"timeout": 0}
    yield "cancel", task.cancel, {"reason": ""}
    yield "resolve", task.resolve, {"result": 1}
    yield "progress", claim.progress, {"percent": 1, "message": "", "eta": 1}
    yield "update", claim.update, {"changes": {}}
    yield "complete", claim.complete, {"result": 1}
    yield "fail", claim.fail, {"error": "", "retry": True}
    yield "snooze", claim.snooze, {"seconds": 1, "reason": ""}
    yield "release", claim.release, {"reason": ""}
    offer = {"claim": claim, "to": "bo", "completed": {}, "remaining": "", "notes": ""}
    offer |= {"checkpoint": None, "leases": (), "timeout": 1}
    yield "offer", swarm.handoffs.offer, offer
    yield "get", swarm.handoffs.get, {"handoff_id": "h"}
    yield "find", swarm.handoffs.find, dict.fromkeys(("task", "status", "limit"))
    save = {"state": 1, "description": "", "task": claim, "parent": 0, "keep": 1}
    yield "save", swarm.checkpoints.save, save
    yield "latest", swarm.checkpoints.latest, {"task": None}
    yield "restore", swarm.checkpoints.restore, {"seq": 1, "task": None}
    yield "list", swarm.checkpoints.list, {"task": None}
    yield "prune", swarm.checkpoints.prune, {"keep": 1, "task": None}
    yield "versioned", swarm.checkpoints.versioned, {"version": 1, "migrations": {}}
    yield "register", swarm.pipelines.register, {"flow": FLOW}
    for name in ("resume", "cancel", "get", "remove"):
        yield name, getattr(swarm.pipelines, name), {"run_id": "r"}
    yield "resume", swarm.pipelines.resume, {"run_id": "r", "flow": FLOW}
    yield "cancel", swarm.pipelines.cancel, {"run_id": "r", "reason": ""}
    yield "find", swarm.pipelines.find, dict.fromkeys(("status", "limit"))
    yield "result", run.result, {"timeout": 1}
    yield "stage", run.stage, {"name": "echo"}
    yield "stage", FLOW.stage, {"name": "echo"}
    yield "Pipeline", Pipeline, {"name": "p", "stages": [Stage("a", echo)]}
    stage = {"name": "a", "function": Worker.work, "after": None, "map": False}
    stage |= {"agent": None, "concurrency": 1, "timeout": None, "max_retries": 1}
    yield "Stage", Stage, {**stage, "backoff": None}
    serve = {"kind": "a", "concurrency": 1, "lease": 1.0, "timeout": None}
    yield "serves", serves, serve
    limiter = {"name": "l", "permits": 1, "per": 1.0}
    yield "limiter", swarm.limiter, limiter
    yield "acquire", swarm.limiter("other", 1, per=1).acquire, {"timeout": 1}
    kept = ("keep", "keep_seconds", "aging", "sample", "patience", "hops", "runs")
    yield "TaskOptions", TaskOptions, dict.fromkeys(kept, 1)


@virtual
async def test_what_is_no_value_of_an_argument_is_one_typed_error():
    async with Swarm() as swarm:
        await swarm.spawn(Worker, name="bo")
        task = await swarm.tasks.submit("a.task", timeout=None)
        claim = await swarm.tasks.claim("a.task")
        run = await swarm.pipelines.start(FLOW, 1, id="r")
        await run.result()
        before = await swarm.state.revision()
        tried = 0
        for name, call, right in calls(swarm, claim, task, run):
            for wrong in right:
                what = f"{name}({wrong}=...)"
                with pytest.raises((TypeError, ValueError, SwarmError)) as told:
                    outcome = call(**{**right, wrong: NOTHING})
                    if hasattr(outcome, "__await__"):
                        await outcome
                    pytest.fail(f"{what} took an object for {outcome!r}")
                file = traceback.extract_tb(told.tb)[-1].filename
                assert "/swarm/" in file, f"{what} is refused by accident"
                tried += 1
        assert tried > 120
        assert await swarm.state.revision() == before
        await claim.complete()


@pytest.mark.parametrize(
    ("call", "error", "says"),
    [
        (lambda s: s.tasks.gather("a", [1], key=3), TypeError, "key is text, not 3"),
        (lambda s: s.tasks.gather("a", [1], key=""), ValueError, "key is not empty"),
        (lambda s: s.tasks.gather("", []), InvalidPath, "at least one segment"),
        (
            lambda s: s.tasks.gather("a", [1], once=True),
            TypeError,
            r"gather\(\) got an unexpected keyword argument 'once'",
        ),
        (
            lambda s: s.tasks.schedule("a", "b", cron="0 7 * * *", zone="Europe"),
            ValueError,
            "'Europe' is not a time zone",
        ),
        (lambda s: s.pipelines.get(3), TypeError, "the id of a run is text"),
        (lambda s: s.pipelines.get(""), ValueError, "the id of a run is not empty"),
        (
            lambda s: s.checkpoints.save(object()),
            InvalidValue,
            "the state of a checkpoint is not a JSON value",
        ),
        (
            lambda s: s.pipelines.start(FLOW, object()),
            InvalidValue,
            "the input of a run is not a JSON value",
        ),
    ],
)
@virtual
async def test_a_wrong_argument_is_named(call, error, says):
    async with Swarm() as swarm:
        with pytest.raises(error, match=says):
            await call(swarm)
        assert swarm.tasks.find() == []
        assert await swarm.pipelines.find() == []


@pytest.mark.parametrize(
    ("make", "error", "says"),
    [
        (lambda: Stage("a", echo, after=[1]), TypeError, "`after` is a list of names"),
        (lambda: Stage("a", echo, after=b"x"), TypeError, "`after` is a list of names"),
        (lambda: Stage("a", Worker.work, agent=""), ValueError, "agent is not empty"),
        (lambda: FLOW.stage(["echo"]), TypeError, "the name of a stage is text"),
        (lambda: TaskOptions(keep="9"), TypeError, "TaskOptions.keep is a whole num"),
        (lambda: TaskOptions(hops=1.5), TypeError, "TaskOptions.hops is a whole num"),
        (lambda: TaskOptions(sample=None), TypeError, "TaskOptions.sample is a numb"),
        (lambda: TaskOptions(aging=0), ValueError, "TaskOptions.aging is from"),
    ],
)
def test_a_wrong_argument_of_a_class_is_named(make, error, says):
    with pytest.raises(error, match=says):
        make()


@pytest.mark.parametrize("wrong", ["x" * 70_000, ["x" * 70_000]])
def test_an_error_does_not_repeat_a_long_argument(wrong):
    for make in (
        lambda: Pipeline("p", wrong),
        lambda: Stage("a", wrong),
        lambda: Stage("a", echo, map=wrong),
        lambda: Stage("a", echo, backoff=wrong),
        lambda: serves("a")(wrong),
    ):
        with pytest.raises(TypeError) as told:
            make()
        assert len(str(told.value)) < 300


@virtual
async def test_a_run_that_is_over_is_told_without_waiting():
    """As `Task.result` and `Handoff.outcome` do with a time-out of 0."""
    async with Swarm() as swarm:
        run = await swarm.pipelines.start(FLOW, 1)
        assert await run.result() == 1
        assert await run.result(timeout=0) == 1
