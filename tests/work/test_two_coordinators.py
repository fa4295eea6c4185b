"""Two processes on one kernel share the work, whichever commits."""

import asyncio

import pytest

from swarm.errors import StaleClaim, TaskError
from swarm.model import Backoff
from tests.support.work import ADA, BO, KERNELS, offices, quiet

pytestmark = pytest.mark.parametrize("kind", KERNELS)


async def test_a_claim_of_one_process_waits_for_a_task_of_the_other(kind):
    async with offices(kind, count=2) as (one, two):
        waiting = asyncio.ensure_future(two.tasks(BO).claim("a")._claimed())
        await quiet()
        task = await one.tasks().submit("a", 5)
        claim = await waiting
        await claim.complete("done")
        assert await task.result() == "done"


async def test_a_result_is_waited_for_in_another_process(kind):
    async with offices(kind, count=2) as (one, two):
        task = await one.tasks().submit("a")
        waiting = asyncio.ensure_future(two.tasks().get(task.id).result())
        await quiet()
        async with one.tasks().claim("a") as claim:
            await claim.complete(7)
        assert await waiting == 7


async def test_every_task_is_done_once_however_many_processes_claim(kind):
    async with offices(kind, count=2) as both:
        done = []

        async def work(office, name):
            tasks = office.tasks(name)
            while True:
                async with tasks.claim("a") as claim:
                    await asyncio.sleep(0)
                    done.append(claim.task_id)

        workers = [
            asyncio.ensure_future(work(office, name))
            for office, name in zip(both, (ADA, BO), strict=True)
            for _ in range(4)
        ]
        tasks = [await both[n % 2].tasks().submit("a", n) for n in range(100)]
        for task in tasks:
            await task.result()
        assert sorted(done) == sorted(task.id for task in tasks)
        for worker in workers:
            worker.cancel()
        await asyncio.gather(*workers, return_exceptions=True)


async def test_a_process_rescues_the_task_of_one_that_is_frozen(kind):
    async with offices(kind, count=2) as (one, two):
        task = await one.tasks().submit("a", timeout=None, backoff=Backoff(0, 0))
        claim = await one.tasks().claim("a", lease=30)
        one.manager._timer.cancel()  # frozen: it renews nothing
        one.manager._unlisten()
        waiting = asyncio.ensure_future(two.tasks(BO).claim("a")._claimed())
        await two.pass_time(31)
        await quiet(100)
        newer = await waiting
        assert (newer.attempt, newer.token > claim.token) == (2, True)
        with pytest.raises(StaleClaim):
            await claim.complete(1)
        await newer.complete(2)
        assert (await task.record()).result == 2


async def test_cancelling_in_one_process_reaches_the_worker_in_the_other(kind):
    async with offices(kind, count=2) as (one, two):
        task = await one.tasks().submit("a")

        async def work():
            async with two.tasks(BO).claim("a"):
                await asyncio.get_running_loop().create_future()
            return "left"

        worker = asyncio.ensure_future(work())
        await quiet()
        await task.cancel("enough")
        assert await worker == "left"
        with pytest.raises(TaskError):
            await task.result()


async def test_a_key_is_unique_over_all_processes(kind):
    async with offices(kind, count=2) as (one, two):
        tasks = await asyncio.gather(
            *(
                office.tasks().submit("a", key="k")
                for office in (one, two)
                for _ in range(3)
            )
        )
        assert len({task.id for task in tasks}) == 1


async def test_a_later_process_knows_the_tasks_that_there_are(kind):
    async with offices(kind, count=2) as (one, two):
        await one.tasks().submit("a", 1)
        await one.tasks().submit("a", 2, delay=5)
        two.manager.close()
        from tests.support.work import Office

        third = Office(one.memory, one.clock, kind)
        claim = await third.tasks().claim("a")
        assert claim.payload == 1
        waiting = asyncio.ensure_future(third.tasks().claim("a")._claimed())
        await third.pass_time(5.1)
        assert (await waiting).payload == 2
        await third.manager.finish()
