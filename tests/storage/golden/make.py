"""Write the stores of this folder with the formats of today.

Run once when a format gets a new version: `python tests/storage/golden/make.py`. The
stores of older versions stay, and `test_golden.py` opens all of them.
"""

import asyncio
from pathlib import Path

from swarm import Agent, Swarm
from swarm.storage._frames import FORMAT

HERE = Path(__file__).parent


class Clerk(Agent):
    async def note(self, text: str) -> None:
        await self.state.set("data.note", text)


async def fill(storage: str) -> None:
    """Write one record of every kind that a store keeps."""
    async with Swarm("golden", storage) as swarm:
        await swarm.state.set("shared.title", "Bees")
        await swarm.state.set("shared.title", "Ants")
        await swarm.state.set("shared.odd", [None, 1, 1.0, True, "ä\u2028", 2**63 - 1])
        ada = await swarm.spawn(Clerk, name="ada")
        await ada.ask(Clerk.note, "kept")
        await swarm.tasks.submit("later", {"n": 1}, delay=10**9, max_retries=1)
        task = await swarm.tasks.submit("done")
        async with swarm.tasks.claim("done") as claim:
            await claim.step("one", lambda: 1)
            await claim.complete({"result": 2})
        await task.result()
        await swarm.lock("door").acquire(ttl=60)
        await swarm.snapshots.create("golden")
        await swarm.state.set("shared.after", "the snapshot")


async def main() -> None:
    made = HERE / f"format-{FORMAT}"
    made.mkdir()
    await fill(f"file:{made / 'files'}")
    await fill(f"sqlite:///{made / 'run.db'}")
    for path in made.rglob("*"):
        if path.name == "LOCK" or path.suffix == ".lock":
            path.unlink()


if __name__ == "__main__":
    asyncio.run(main())
