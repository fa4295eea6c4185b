"""A process of its own: opens a swarm on a server, spawns an agent, and waits.

Run as `python -m tests.support.process_program URL SWARM AGENT [singleton]`. It prints
"ready" once the agent lives, and notes in the tree what a singleton does.
"""

import asyncio
import os
import sys
from typing import Any

from swarm import Swarm, SwarmConfig
from tests.support.processes import Shop

CONFIG = SwarmConfig(process_ttl=1.5)


class Beacon(Shop):
    """A singleton that writes to the tree all the time."""

    async def run(self) -> None:
        number = 0
        while True:
            number += 1
            await self.shared.set("beacon", {"by": os.getpid(), "n": number})
            await asyncio.sleep(0.01)


async def main(url: str, name: str, agent: str, *rest: str) -> None:
    async with Swarm(name, url, config=CONFIG, on_failure="log") as swarm:
        options: dict[str, Any] = {"singleton": True} if rest else {}
        await swarm.spawn(Beacon if rest else Shop, name=agent, **options)
        print("ready", flush=True)
        await asyncio.get_running_loop().create_future()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
