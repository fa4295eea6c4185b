"""One agent, one question. The agent counts in its own part of the state."""

import asyncio

from swarm import Agent, Swarm


class Greeter(Agent):
    async def greet(self, name: str) -> str:
        count = await self.state.increment("greeted")
        return f"Hello {name}, you are number {count}"


async def main() -> None:
    async with Swarm() as swarm:
        ada = await swarm.spawn(Greeter, name="ada")
        print(await ada.ask(Greeter.greet, "Bo"))
        print(await ada.ask(Greeter.greet, "Cy"))
        print(await swarm.state.get("agents.greeter.ada"))


asyncio.run(main())

# > Hello Bo, you are number 1
# > Hello Cy, you are number 2
# > {'greeted': 2}
