"""Go on where another worker stopped: a checkpoint for each finished part."""

import asyncio

from swarm import Agent, Backoff, Claim, Swarm, serves

CHAPTERS = ["hives", "queens", "honey"]


class Author(Agent):
    """Writes a book chapter by chapter. The first author gives up in the middle."""

    def __init__(self, gives_up_at: str | None = None) -> None:
        self.gives_up_at = gives_up_at

    @serves("book")
    async def write(self, claim: Claim) -> str:
        latest = await self.checkpoints.latest(task=claim)
        chapters = [] if latest is None else latest.state["chapters"]
        if latest is not None:
            print(f"{self.name} goes on after: {latest.description}")
        for name in CHAPTERS[len(chapters) :]:
            if name == self.gives_up_at:
                raise RuntimeError("no more ideas")
            chapters.append(f"About {name}.")
            print(f"{self.name} wrote {name}")
            state = {"chapters": chapters}
            await self.checkpoints.save(state, f"chapter {name}", task=claim)
        return " ".join(chapters)


async def main() -> None:
    async with Swarm() as swarm:
        ada = await swarm.spawn(Author, "honey", name="ada")
        book = await swarm.tasks.submit("book", backoff=Backoff(0.01, 0.01))
        async for change in book.watch():
            if change.attempt == 1 and change.status == "pending":
                break  # the first attempt has failed
        await ada.stop()
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
