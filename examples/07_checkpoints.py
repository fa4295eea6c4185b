"""Go on where another worker stopped: a checkpoint for each finished part."""

import asyncio

from swarm import Agent, Claim, Swarm, serves

CHAPTERS = ["hives", "queens", "honey"]


class Author(Agent):
    """Writes a book chapter by chapter. The first author is stuck in the middle."""

    def __init__(self, stuck_at: str | None = None) -> None:
        self.stuck_at = stuck_at

    @serves("book")
    async def write(self, claim: Claim) -> str:
        latest = await self.checkpoints.latest(task=claim)
        chapters = [] if latest is None else latest.state["chapters"]
        if latest is not None:
            print(f"{self.name} goes on after: {latest.description}")
        for name in CHAPTERS[len(chapters) :]:
            if name == self.stuck_at:
                await self.shared.set("stuck", self.name)
                await asyncio.Event().wait()  # for ever
            chapters.append(f"About {name}.")
            print(f"{self.name} wrote {name}")
            state = {"chapters": chapters}
            await self.checkpoints.save(state, f"chapter {name}", task=claim)
        return " ".join(chapters)


async def main() -> None:
    async with Swarm() as swarm:
        ada = await swarm.spawn(Author, "honey", name="ada")
        book = await swarm.tasks.submit("book")
        await swarm.state.wait_until("shared.stuck", lambda name: name == "ada")
        await ada.kill()  # the task goes back to the queue
        await swarm.spawn(Author, name="bo")
        print(await book.result())

        found = await swarm.checkpoints.list(task=book.id)
        print([f"{each.seq} by {each.agent}" for each in found])


asyncio.run(main())

# > ada wrote hives
# > ada wrote queens
# > bo goes on after: chapter queens
# > bo wrote honey
# > About hives. About queens. About honey.
# > ['1 by ada', '2 by ada', '3 by bo']
