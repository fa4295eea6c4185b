import orjson
import pytest

from swarm.model import Path
from swarm.work import Schedules, TaskKeeper, TaskOptions
from swarm.work._health import health_of
from swarm.work._task_keeper import HEALTH, METRICS
from tests.support.work import KERNELS, offices, quiet

both = pytest.mark.parametrize("kind", KERNELS)


async def value_at(office, path):
    document = await office.kernel.find(path)
    return None if document is None else orjson.loads(document.json)


def keeper_of(office, **options):
    return TaskKeeper(office.manager, Schedules(office.manager), TaskOptions(**options))


async def complete(tasks, count, kind="a"):
    for _ in range(count):
        await tasks.submit(kind, key=None)
        await (await tasks.claim(kind)).complete()


@both
async def test_metrics_are_kept_true(kind):
    async with offices(kind) as office:
        keeper_of(office)
        tasks = office.tasks()
        await complete(tasks, 3)
        await tasks.submit("b")
        await (await tasks.claim("b")).fail("no", retry=False)
        await office.pass_time(2)
        await quiet(100)
        metrics = await value_at(office, METRICS)
        assert metrics["total_tasks_completed"] == 3
        assert metrics["total_tasks_failed"] == 1
        assert metrics["by_kind"] == {"a": {"complete": 3}, "b": {"failed": 1}}
        assert metrics["average_task_duration"] is not None
        assert (await value_at(office, HEALTH))["status"] == "healthy"


@both
async def test_metadata_of_the_user_keep_no_task_for_ever(kind):
    async with offices(kind) as office:
        keeper_of(office, keep=2)
        tasks = office.tasks()
        for _ in range(5):
            await tasks.submit("a", metadata={"pipeline": "mine"})
            await (await tasks.claim("a")).complete()
        await office.pass_time(2)
        await quiet(100)
        assert len(tasks.find(kind="a")) == 2


@both
async def test_changes_are_seen_soon_also_when_a_later_look_is_planned(kind):
    async with offices(kind) as office:
        keeper_of(office)
        tasks = office.tasks()
        for expected in range(1, 4):
            await tasks.submit("lonely")  # may become an issue in a minute
            await complete(tasks, 1)
            await office.pass_time(1.5)
            await quiet(100)
            metrics = await value_at(office, METRICS)
            assert metrics["total_tasks_completed"] == expected


@both
async def test_a_kind_that_nobody_serves_for_a_while_is_an_issue(kind):
    async with offices(kind) as office:
        keeper_of(office, patience=60)
        tasks = office.tasks()
        await tasks.submit("a.lonely")
        await tasks.submit("human.approve")
        await office.pass_time(2)
        await quiet(100)
        assert (await value_at(office, HEALTH))["status"] == "healthy"
        await office.pass_time(60)
        await quiet(100)
        health = await value_at(office, HEALTH)
        assert health["status"] == "degraded"
        assert health["issues"] == ["nobody serves 'a.lonely': due for 60 s or more"]


@both
async def test_final_tasks_beyond_the_limit_are_removed_with_all_that_is_theirs(kind):
    async with offices(kind) as office:
        keeper_of(office, keep=5)
        tasks = office.tasks()
        first = await tasks.submit("a", key="first")
        claim = await tasks.claim("a")
        await claim.step("s", lambda: 1)
        await claim.complete()
        await complete(tasks, 20)
        waiting = await tasks.submit("b")
        for _ in range(5):
            await office.pass_time(2)
            await quiet(100)
        assert len(tasks.find(kind="a")) == 5
        assert (await waiting.record()).status == "pending"
        for path in (
            Path.of("global", "tasks", first.id),
            Path.of("task_steps", first.id, "s"),
            Path.of("global", "task_keys", "first"),
        ):
            assert await office.kernel.find(path) is None


async def test_final_tasks_beyond_the_limit_are_removed_however_many_end_in_a_second():
    async with offices("memory") as office:
        keeper_of(office, keep=5)
        tasks = office.tasks()
        await complete(tasks, 350)
        await office.pass_time(2)
        await quiet(100)
        assert len(tasks.find()) == 5


@both
async def test_a_quiet_swarm_is_looked_at_no_more(kind):
    async with offices(kind) as office:
        keeper = keeper_of(office)
        await complete(office.tasks(), 1)
        await office.pass_time(2)
        await quiet(100)
        revision = office.memory.revision
        await office.pass_time(3600)
        await quiet(100)
        assert office.memory.revision == revision
        assert keeper._is_looking is False


def judged(**facts):
    nothing = {
        "now": 100_000_000,
        "patience": 60_000_000,
        "oldest_due": {},
        "is_served": lambda address, kind: False,
        "overdue_leases": 0,
        "outcomes": {},
        "dead_letters": 0,
        "overdue_schedules": (),
    }
    return health_of(**{**nothing, **facts})


def test_health_says_what_is_wrong_and_when_it_may_go_wrong():
    assert judged() == ({"status": "healthy", "issues": []}, None)
    health, next_at = judged(oldest_due={("", "a"): 99_000_000})
    assert (health["status"], next_at) == ("healthy", 159_000_000)
    assert judged(overdue_leases=1)[0]["status"] == "degraded"
    assert judged(overdue_leases=1_000)[0]["status"] == "critical"
    assert judged(dead_letters=2)[0]["issues"] == ["2 events wait as dead letters"]
    assert judged(overdue_schedules=["x"])[0]["issues"] == ["schedule 'x' is overdue"]
    failing = judged(outcomes={"a": ["failed", "failed", "failed", "complete"]})
    assert failing[0]["issues"] == ["the last 3 tasks of 'a' failed"]
    assert judged(outcomes={"a": ["failed", "complete"]})[0]["status"] == "healthy"


@pytest.mark.parametrize(
    "options",
    [{"keep": 0}, {"keep_seconds": -1}, {"sample": 0}, {"patience": 0}, {"aging": 0}],
)
def test_options_that_mean_nothing_are_refused(options):
    with pytest.raises(ValueError, match="TaskOptions"):
        TaskOptions(**options)


@both
async def test_one_of_two_processes_writes_the_metrics_until_it_is_gone(kind):
    async with offices(kind, count=2) as (one, two):
        for number, office in enumerate((one, two)):
            office.manager.is_shared = True
            office.manager.prefix = f"p{number}"  # the offices have the same seed
            keeper_of(office)
        writers = []
        for _ in range(4):
            await complete(one.tasks(), 1)
            await one.pass_time(1.5)
            await quiet(200)
            writers.append((await value_at(one, METRICS))["writer"])
        assert len(set(writers)) == 1
        gone, left = (one, two) if writers[0] == "p0" else (two, one)
        gone.manager.close()
        await complete(left.tasks(), 1)
        for _ in range(3):
            await left.pass_time(6)
            await quiet(200)
        metrics = await value_at(left, METRICS)
        assert metrics["writer"] == left.manager.prefix
        assert metrics["total_tasks_completed"] == 5
