"""Several ends of one claim at once: one of them counts, and the others are refused."""

import asyncio

import pytest

from swarm.errors import InvalidTransition
from tests.support.work import KERNELS, offices

pytestmark = pytest.mark.parametrize("kind", KERNELS)


ENDS = {
    "complete": lambda claim: claim.complete(1),
    "fail": lambda claim: claim.fail("no", retry=False),
    "snooze": lambda claim: claim.snooze(60),
    "release": lambda claim: claim.release(),
}


@pytest.mark.parametrize("first", ENDS)
@pytest.mark.parametrize("second", ENDS)
async def test_the_second_of_two_ends_at_once_is_refused(kind, first, second):
    async with offices(kind) as office:
        tasks = office.tasks()
        await tasks.submit("a")
        async with tasks.claim("a") as claim:
            ends = ENDS[first](claim), ENDS[second](claim)
            outcomes = await asyncio.gather(*ends, return_exceptions=True)
        assert outcomes[0] is None
        with pytest.raises(InvalidTransition, match=f"it cannot {second}"):
            raise outcomes[1]
        assert tasks.find()[0].history[-1].step == first


async def test_a_block_that_is_left_while_its_claim_is_being_ended_leaves_that_be(kind):
    async with offices(kind) as office:
        tasks = office.tasks()
        task = await tasks.submit("a")
        async with tasks.claim("a") as claim:
            completing = asyncio.create_task(claim.complete("done"))
            await asyncio.sleep(0)
        await completing
        assert await task.result() == "done"


async def test_a_cancelled_block_just_ends_though_its_lease_ended_before_it(kind):
    async with offices(kind) as office:
        tasks = office.tasks()
        task = await tasks.submit("a")
        is_claimed, may_end = asyncio.Event(), asyncio.Event()

        async def work() -> None:
            async with tasks.claim("a", lease=1) as claim:
                is_claimed.set()
                try:
                    await asyncio.Event().wait()
                finally:
                    await may_end.wait()
            assert not claim.is_live

        working = asyncio.create_task(work())
        await is_claimed.wait()
        await task.cancel("why")
        await office.pass_time(5)
        assert (await task.record()).status == "cancelled"
        may_end.set()
        await working
