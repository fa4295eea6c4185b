"""Try three continuations of the same state: a snapshot, and a fork for each.

The swarm keeps its tree in a folder, so it survives the process. A fork begins with
the snapshot's documents and history, in memory here, and changes nothing else.
"""

import asyncio
import tempfile

from swarm import Agent, Swarm


class Planner(Agent):
    def __init__(self, style: str) -> None:
        self.style = style

    async def plan(self) -> float:
        """Spend what is left of the budget, and return what the plan is worth."""
        left: int = await self.shared.get("budget")
        price = {"bold": 40, "careful": 15, "cheap": 5}[self.style]
        bought = left // price
        await self.shared.set("budget", left - bought * price)
        await self.shared.set("plan", {"style": self.style, "days": bought})
        return float(bought * price**0.9)


async def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        async with Swarm("trip", f"file:{folder}/trip") as swarm:
            await swarm.state.set("shared.budget", 100)
            snapshot = await swarm.snapshots.create("before the choice")

            worth = {}
            for style in ("bold", "careful", "cheap"):
                async with Swarm(style, restore=snapshot) as fork:
                    planner = await fork.spawn(Planner, style)
                    worth[style] = await planner.ask(Planner.plan)
                print(f"{style} is worth {worth[style]:.0f}")

            best = max(worth, key=lambda style: worth[style])
            planner = await swarm.spawn(Planner, best)
            await planner.ask(Planner.plan)

        async with Swarm("trip", f"file:{folder}/trip") as swarm:  # as after a restart
            print(await swarm.state.get("shared.plan"))


asyncio.run(main())

# > bold is worth 55
# > careful is worth 69
# > cheap is worth 85
# > {'style': 'cheap', 'days': 20}
