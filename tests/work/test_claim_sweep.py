"""A wait that is cancelled at any step leaves nothing behind, and loses no task."""

import asyncio

import pytest

from tests.support.work import KERNELS, offices, quiet

pytestmark = pytest.mark.parametrize("kind", KERNELS)
STEPS = range(25)


async def cancelled_after(coroutine, steps):
    """Run a coroutine for some loop turns, then cancel it; return how it ended."""
    task = asyncio.ensure_future(coroutine)
    for _ in range(steps):
        await asyncio.sleep(0)
    task.cancel()
    (outcome,) = await asyncio.gather(task, return_exceptions=True)
    return outcome


def check_tickets(office):
    """Each pending task can be claimed: no claim that is gone keeps its ticket."""
    index = office.manager.index
    ready = sorted(record.spec.id for record in index.ready())
    assert ready == sorted(record.spec.id for record in index.pending())


@pytest.mark.parametrize("steps", STEPS)
async def test_a_cancelled_claim_leaves_the_task_to_others(kind, steps):
    async with offices(kind) as office:
        tasks = office.tasks()
        task = await tasks.submit("a")

        async def work():
            async with tasks.claim("a"):
                await asyncio.get_running_loop().create_future()

        await cancelled_after(work(), steps)
        await quiet(50)
        record = await task.record()
        assert (record.status, record.attempt) == ("pending", 0)
        assert office.manager.claims == {}
        assert len(office.manager.queue) == 0
        check_tickets(office)
        async with tasks.claim("a") as claim:
            assert claim.task_id == task.id


@pytest.mark.parametrize("error", [None, ValueError])
@pytest.mark.parametrize("steps", STEPS[1:])
async def test_a_block_that_is_cancelled_at_its_end_ends_its_claim(kind, steps, error):
    async with offices(kind) as office:
        tasks = office.tasks()
        task = await tasks.submit("a", max_retries=0)
        claim = await tasks.claim("a")

        async def work():
            async with claim:
                if error is not None:
                    raise error

        await cancelled_after(work(), steps)
        await quiet(50)
        assert (await task.record()).status in ("pending", "complete", "failed")
        assert office.manager.claims == {}
        assert office.failures == []


@pytest.mark.parametrize("steps", STEPS[1:])
async def test_a_cancelled_completion_completes_the_task_or_gives_it_back(kind, steps):
    async with offices(kind) as office:
        tasks = office.tasks()
        task = await tasks.submit("a")
        claim = await tasks.claim("a")

        async def work():
            async with claim:
                await claim.complete(1)

        await cancelled_after(work(), steps)
        await quiet(50)
        assert (await task.record()).status in ("pending", "complete")
        assert office.manager.claims == {}
        assert office.failures == []


@pytest.mark.parametrize("steps", STEPS)
async def test_a_claim_that_is_cancelled_as_a_task_comes_passes_it_on(kind, steps):
    async with offices(kind) as office:
        tasks = office.tasks()
        first = asyncio.ensure_future(tasks.claim("a")._claimed())
        await quiet()
        second = asyncio.ensure_future(tasks.claim("a")._claimed())
        await quiet()
        submitting = asyncio.ensure_future(tasks.submit("a"))
        for _ in range(steps):
            await asyncio.sleep(0)
        first.cancel()
        (outcome,) = await asyncio.gather(first, return_exceptions=True)
        await submitting
        await quiet(50)
        if isinstance(outcome, asyncio.CancelledError):
            assert (await second).attempt == 1
        else:
            second.cancel()
        await asyncio.gather(second, return_exceptions=True)
        assert len(office.manager.queue) == 0
        check_tickets(office)


@pytest.mark.parametrize("steps", STEPS)
async def test_a_cancelled_wait_for_a_result_leaves_no_observer(kind, steps):
    async with offices(kind) as office:
        tasks = office.tasks()
        task = await tasks.submit("a")
        await cancelled_after(task.result(), steps)
        await cancelled_after(tasks.gather("b", [1, 2], key="k"), steps)
        await cancelled_after(anext(aiter(task.watch())), steps)
        await quiet(50)
        assert office.manager._observers == {}
        assert (await task.record()).status == "pending"


@pytest.mark.parametrize("steps", STEPS)
async def test_a_cancelled_step_or_end_leaves_the_claim_or_ends_it(kind, steps):
    async with offices(kind) as office:
        tasks = office.tasks()
        task = await tasks.submit("a")

        async def work():
            async with tasks.claim("a") as claim:
                await claim.step("s", lambda: 1)
                await claim.complete(2)

        await cancelled_after(work(), steps)
        await quiet(50)
        record = await task.record()
        assert str(record.status) in ("pending", "complete")
        assert office.manager.claims == {}
