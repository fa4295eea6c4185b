"""A call that is cancelled at any step has done its one commit or none."""

import pytest

from swarm.errors import ConflictError, SwarmError
from swarm.work.pipelines._definition import Pipeline, Stage
from tests.work.passage.desks import ADA, BO, KERNELS, desks, quiet
from tests.work.test_claim_sweep import cancelled_after

pytestmark = [
    pytest.mark.parametrize("kind", KERNELS),
    pytest.mark.parametrize("steps", range(12)),
]


async def test_a_cancelled_offer_is_open_or_was_not_made(kind, steps):
    """O1, O5: an open one is found, and withdrawn."""
    async with desks(kind) as desk:
        await desk.tasks().submit("report")
        claim = await desk.tasks(ADA).claim("report")
        handoffs = desk.handoffs(ADA)
        await cancelled_after(handoffs.offer(claim, to="bo"), steps)
        await quiet(40)
        for offer in await handoffs.find(task=claim, status="requested"):
            with pytest.raises(ConflictError):
                await handoffs.offer(claim, to="bo")
            await offer.withdraw()
        again = await handoffs.offer(claim, to="bo")
        await (await (await desk.handoffs(BO).get(again.id)).accept()).complete()


async def test_a_cancelled_decision_is_made_or_not(kind, steps):
    """O3: the handoff has one status, and its task one owner."""
    async with desks(kind) as desk:
        await desk.tasks().submit("report")
        claim = await desk.tasks(ADA).claim("report")
        offer = await desk.handoffs(ADA).offer(claim, to="bo")
        received = await desk.handoffs(BO).get(offer.id)
        await cancelled_after(received.reject("no"), steps)
        await quiet(40)
        await offer.refresh()
        assert offer.status in ("requested", "rejected")
        assert claim.is_live
        await claim.complete()


async def test_a_cancelled_save_is_whole_or_not_there(kind, steps):
    """C1, C3."""
    async with desks(kind) as desk:
        checkpoints = desk.checkpoints(ADA)
        await checkpoints.save("first")
        await cancelled_after(checkpoints.save("second"), steps)
        await quiet(40)
        latest = await checkpoints.latest()
        assert (latest.seq, latest.state) in ((1, "first"), (2, "second"))
        assert latest.is_valid
        assert (await checkpoints.save("third")).parent == latest.seq


async def test_a_run_whose_calls_are_cancelled_is_started_again(kind, steps):
    """P1, P7: starting, resuming and waiting leave nothing half done."""
    async with desks(kind) as desk:
        calls = []

        async def item(number: int) -> int:
            calls.append(number)
            if calls == [1]:
                raise ValueError("boom")
            return number

        stage = Stage("item", item, map=True, max_retries=0, concurrency=1)
        flow = Pipeline("items", [stage])
        pipelines = desk.pipelines()
        await cancelled_after(pipelines.start(flow, [1, 2], id="r"), steps)
        run = await pipelines.start(flow, [1, 2], id="r")
        await cancelled_after(run.result(), steps)
        with pytest.raises(SwarmError, match="boom"):
            await run.result()
        await cancelled_after(pipelines.resume("r"), steps)
        run = await pipelines.resume("r")
        assert await run.result() == [1, 2]
        assert calls == [1, 1, 2]
        await quiet()
        assert desk.pipeline_manager._news._waiting == {}
        assert desk.pipeline_manager._drivers == {}
