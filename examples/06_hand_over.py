"""Hand a task on: what is done, what is left, and exactly one owner at any instant."""

import asyncio

from swarm import Agent, Claim, Handoff, Swarm, serves


class Researcher(Agent):
    """Finds the facts of an article, and hands the rest of the task on."""

    @serves("article.*")
    async def research(self, claim: Claim) -> str | None:
        facts = await claim.step("facts", self.find, claim.payload["topic"])
        handoff = await self.handoffs.offer(
            claim,
            to="capability:writing",
            completed={"facts": facts},
            remaining="write the article",
            notes="two sentences at most",
        )
        if await handoff.outcome() == "accepted":
            print(f"{self.name}: {handoff.receiver} has it now")
            return None  # this claim is stale from that commit on
        return f"an article from notes only: {facts}"

    async def find(self, topic: str) -> list[str]:
        return [f"{topic} dance", f"{topic} make honey"]


class Writer(Agent):
    """Takes articles over. The hook is a turn: its result completes the task."""

    def __init__(self, is_busy: bool = False) -> None:
        self.is_busy = is_busy

    async def handoff(self, offer: Handoff) -> str | None:
        if self.is_busy:
            await offer.reject("three articles on my desk")
            return None
        await offer.accept()
        print(f"{self.name}: {offer.sender} left: {offer.remaining} ({offer.notes})")
        return " and ".join(offer.completed["facts"]) + "."


async def main() -> None:
    async with Swarm() as swarm:
        await swarm.spawn(Researcher, name="ada")
        await swarm.spawn(Writer, True, name="bo", capabilities=["writing"])
        await swarm.spawn(Writer, name="cy", capabilities=["writing"])

        task = await swarm.tasks.submit("article.short", {"topic": "bees"})
        print("result:", await task.result())

        [handoff] = await swarm.handoffs.find(task=task.id)
        print(f"{handoff.sender} -> {handoff.receiver}: {handoff.status}")


asyncio.run(main())

# > cy: ada left: write the article (two sentences at most)
# > ada: cy has it now
# > result: bees dance and bees make honey.
# > ada -> cy: completed
