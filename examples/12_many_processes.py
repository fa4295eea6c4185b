"""Three processes, one tree: agents are asked across them, and a leader moves.

Each `Swarm("shop", ...)` here stands for a process of its own. By default they share a
server in this event loop; `--storage redis://localhost` has them share a real one.
"""

import argparse
import asyncio

from swarm import Agent, Swarm
from swarm.testing import MemoryServer


class Stock(Agent):
    """Lives in one process; every process asks it."""

    def __init__(self) -> None:
        self.left = 3

    async def take(self, item: str) -> str:
        if not self.left:
            raise LookupError(f"no {item} left")
        self.left -= 1
        return f"{item}, {self.left} left"


class Leader(Agent):
    """At most one lives over all processes."""

    async def started(self) -> None:
        await self.shared.increment("leaders", 1)

    async def decide(self, question: str) -> str:
        return f"yes, {question}"


async def leads(swarm: Swarm) -> str:
    leader = await swarm.spawn(Leader, name="leader", singleton=True)
    return await leader.ask(Leader.decide, "open the shop")


async def main(storage: str | MemoryServer) -> None:
    first = await Swarm.open("shop", storage)
    async with Swarm("shop", storage) as second, Swarm("shop", storage) as third:
        # Agents of other processes are found by name, and asked as those here.
        await second.spawn(Stock, name="stock")
        await third.state.wait_until("global.registry.stock", bool)
        stock = third.agents["stock"]
        print(await stock.ask(Stock.take, "tea"))
        print(await stock.ask(Stock.take, "tea"))
        print(await second.agents["stock"].ask(Stock.take, "tea"))
        try:
            await stock.ask(Stock.take, "tea")
        except LookupError as error:
            print(f"{type(error).__name__}: {error}")

        # All processes spawn the leader; it lives in the first that did.
        await first.state.set("shared.leaders", 0)  # a server keeps what runs leave
        print([await leads(swarm) for swarm in (first, second, third)])
        print("leaders so far:", await third.state.get("shared.leaders"))

        # The first process leaves; another one starts the leader.
        await first.close()
        await third.state.wait_until("shared.leaders", lambda count: count == 2)
        print(await leads(third))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--storage", default="")
    options, _ = parser.parse_known_args()
    asyncio.run(main(options.storage or MemoryServer()))

# > tea, 2 left
# > tea, 1 left
# > tea, 0 left
# > LookupError: no tea left
# > ['yes, open the shop', 'yes, open the shop', 'yes, open the shop']
# > leaders so far: 1
# > yes, open the shop
