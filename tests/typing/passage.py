"""What mypy --strict and pyright infer for handoffs, checkpoints and pipelines.

Checked by both, never run; see `agents.py`.
"""

# pyright: strict, reportUnnecessaryTypeIgnoreComment=true

from typing import Literal, assert_type

from swarm import (
    Agent,
    Checkpoint,
    Claim,
    Context,
    Handoff,
    Pipeline,
    PipelineRun,
    Stage,
    StageProgress,
    Swarm,
    serves,
)


class Writer(Agent):
    @serves("article.*")
    async def write(self, claim: Claim) -> str:
        latest = await self.checkpoints.latest(task=claim)
        assert_type(latest, Checkpoint | None)
        assert_type(await self.checkpoints.save([1], task=claim), Checkpoint)
        assert_type(await self.context(claim), Context)
        offer = await self.handoffs.offer(claim, to="bo", completed={"pages": 1})
        assert_type(offer, Handoff)
        outcome = await offer.outcome()
        assert_type(outcome, Literal["accepted", "rejected", "expired", "withdrawn"])
        await self.handoffs.offer(claim, "bo")  # type: ignore[call-arg]
        return outcome

    async def handoff(self, offer: Handoff) -> None:
        assert_type(await offer.accept(), Claim)
        await offer.reject("busy")

    async def polish(self, text: str) -> str:
        return text


def not_async(text: str) -> str:
    return text


async def runs(swarm: Swarm) -> None:
    flow = Pipeline("content", [Stage("polish", Writer.polish, agent="bo")])
    run = await swarm.pipelines.start(flow, "bees", id="content-1")
    assert_type(run, PipelineRun)
    assert_type(run.stage("polish"), StageProgress)
    assert_type(await swarm.pipelines.resume("content-1"), PipelineRun)
    Stage("polish", not_async)  # type: ignore[arg-type]
