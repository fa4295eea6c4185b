import asyncio
import datetime

import pytest

from swarm.errors import GatherError, LimitExceeded
from swarm.work import Schedules
from tests.support.work import KERNELS, offices, quiet

pytestmark = pytest.mark.parametrize("kind", KERNELS)


async def serve(tasks, kind="a", fail=()):
    """Complete tasks of a kind for ever, with twice their payload."""
    while True:
        claim = await tasks.claim(kind)
        if claim.payload in fail:
            await claim.fail("no", retry=False)
        else:
            await claim.complete(claim.payload * 2)


async def test_gather_returns_results_in_the_order_of_the_inputs(kind):
    async with offices(kind) as office:
        tasks = office.tasks()
        worker = asyncio.ensure_future(serve(tasks))
        assert await tasks.gather("a", [3, 1, 2]) == [6, 2, 4]
        assert await tasks.gather("a", []) == []
        worker.cancel()


async def test_gather_keeps_what_was_finished_when_one_fails(kind):
    async with offices(kind) as office:
        tasks = office.tasks()
        worker = asyncio.ensure_future(serve(tasks, fail=(1,)))
        with pytest.raises(GatherError) as caught:
            await tasks.gather("a", [3, 1, 2])
        assert caught.value.results == {0: 6, 2: 4}
        assert list(caught.value.errors) == [1]
        worker.cancel()


async def test_gather_of_the_first_cancels_the_rest(kind):
    async with offices(kind) as office:
        tasks = office.tasks()
        gathering = asyncio.ensure_future(tasks.gather("a", [1, 2, 3], need="first"))
        await quiet(50)
        await (await tasks.claim("a")).fail("no", retry=False)
        await (await tasks.claim("a")).complete("second")
        gathered = await gathering
        assert gathered == ["second"]
        assert gathered.indexes == (1,)
        assert list(gathered.errors) == [0]
        assert [info.status for info in tasks.find(status="cancelled")]
        assert office.manager._observers == {}


async def test_gather_returns_as_many_results_as_are_needed(kind):
    async with offices(kind) as office:
        tasks = office.tasks()
        worker = asyncio.ensure_future(serve(tasks))
        await tasks.gather("a", [3, 1, 2], key="k")
        worker.cancel()
        gathered = await tasks.gather("a", [3, 1, 2], key="k", need=2)
        assert gathered == [6, 2]
        assert gathered.indexes == (0, 1)
        assert await tasks.gather("a", [3, 1, 2], key="k", need="first") == [6]


async def test_gather_of_some_fails_once_there_cannot_be_enough(kind):
    async with offices(kind) as office:
        tasks = office.tasks()
        gathering = asyncio.ensure_future(tasks.gather("a", [1, 2, 3], need=2))
        await quiet(50)
        for _ in range(2):
            await (await tasks.claim("a")).fail("no", retry=False)
        with pytest.raises(GatherError):
            await gathering


async def test_gather_resumes_without_submitting_again(kind):
    async with offices(kind) as office:
        tasks = office.tasks()
        parent = await tasks.submit("parent")
        first = asyncio.ensure_future(tasks.gather("a", [1, 2], parent=parent))
        await quiet(100)
        await (await tasks.claim("a")).complete("one")
        first.cancel()
        await quiet()
        again = asyncio.ensure_future(tasks.gather("a", [1, 2], parent=parent))
        await quiet(100)
        await (await tasks.claim("a")).complete("two")
        assert await again == ["one", "two"]
        assert len(tasks.find(kind="a")) == 2
        assert len(tasks.find(parent=parent)) == 2


@pytest.mark.parametrize(
    ("need", "error"),
    [
        ("some", ValueError),
        (4, ValueError),
        (0, ValueError),
        (-1, ValueError),
        (1.5, TypeError),
    ],
)
async def test_gather_refuses_a_need_that_means_nothing(kind, need, error):
    async with offices(kind) as office:
        with pytest.raises(error):
            await office.tasks().gather("a", [1, 2, 3], need=need)
        with pytest.raises(TypeError):
            await office.tasks().gather("a", "text")


async def test_a_schedule_submits_one_task_for_each_time(kind):
    async with offices(kind) as office:
        Schedules(office.manager)
        tasks = office.tasks()
        await tasks.schedule("tick", "a", {"x": 1}, every=60)
        await quiet()
        for _ in range(3):
            await office.pass_time(60.1)
        found = tasks.find(kind="a")
        assert len(found) == 3
        assert found[0].metadata["schedule"] == "tick"


async def test_two_processes_submit_one_task_for_each_time(kind):
    async with offices(kind, count=2) as (one, two):
        for office in (one, two):
            Schedules(office.manager)
        await one.tasks().schedule("tick", "a", every=60)
        await quiet(50)
        for _ in range(5):
            await one.pass_time(60.1)
            await quiet(50)
        assert len(two.tasks().find(kind="a")) == 5


async def test_a_process_follows_schedules_from_before_until_they_are_removed(kind):
    async with offices(kind) as office:
        tasks = office.tasks()
        await tasks.schedule("tick", "a", every=60)
        await tasks.schedule("tock", "b", every=60)
        Schedules(office.manager)
        await office.pass_time(60.1)
        assert await tasks.unschedule("tick")
        await quiet()
        await office.pass_time(60.1)
        assert len(tasks.find(kind="a")) == 1
        assert len(tasks.find(kind="b")) == 2


async def test_times_that_were_missed_get_one_task_and_are_counted(kind):
    async with offices(kind) as office:
        Schedules(office.manager)
        tasks = office.tasks()
        await tasks.schedule("tick", "a", every=60)
        await quiet()
        office.clock._now += 60 * 10  # the process was stopped
        await office.pass_time(1)
        assert len(tasks.find(kind="a")) == 1
        schedule = await tasks.schedule("tick", "a", every=60)
        assert (schedule.count, schedule.missed) == (1, 9)


async def test_a_schedule_on_the_same_terms_goes_on_and_on_others_begins_anew(kind):
    async with offices(kind) as office:
        tasks = office.tasks()
        first = await tasks.schedule("tick", "a", cron="0 7 * * *")
        await office.pass_time(1)
        again = await tasks.schedule("tick", "a", cron="0 7 * * *")
        assert again == first or again.next_at == first.next_at
        other = await tasks.schedule("tick", "a", cron="0 8 * * *")
        assert other.next_at != first.next_at
        assert await tasks.unschedule("tick")
        assert not await tasks.unschedule("tick")


async def test_a_cron_schedule_follows_its_time_zone(kind):
    async with offices(kind) as office:
        Schedules(office.manager)
        tasks = office.tasks()
        utc = await tasks.schedule("utc", "a", cron="0 7 * * *")
        tokyo = await tasks.schedule("tokyo", "a", cron="0 7 * * *", zone="Asia/Tokyo")
        hours = abs(utc.next_at - tokyo.next_at) / datetime.timedelta(hours=1)
        assert hours in (9, 15)
        await quiet()
        await office.pass_time(24 * 3600)
        assert len(tasks.find(kind="a")) == 2


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ({}, ValueError),
        ({"cron": "0 7 * * *", "every": 5}, ValueError),
        ({"cron": "at seven"}, ValueError),
        ({"cron": 7}, TypeError),
        ({"cron": "0 7 * * *", "zone": "Nowhere/Here"}, ValueError),
        ({"every": 0}, ValueError),
        ({"every": "1"}, TypeError),
        ({"every": 5, "kind": "a.*"}, ValueError),
        ({"every": 5, "name": ""}, ValueError),
    ],
)
async def test_a_schedule_that_means_nothing_is_one_typed_error(kind, arguments, error):
    async with offices(kind) as office:
        with pytest.raises(error):
            await office.tasks().schedule(**{"name": "x", "kind": "a", **arguments})


async def test_a_schedule_whose_tasks_could_have_no_id_is_refused(kind):
    async with offices(kind) as office:
        with pytest.raises(LimitExceeded, match="a path is at most 512 bytes"):
            await office.tasks().schedule("n" * 480, "a", every=60)
        assert await office.tasks().schedules() == []
