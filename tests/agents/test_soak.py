"""Many agents, many clients, random cancellations, deadlines, pauses and ends."""

import asyncio
import contextlib
import logging
import random
from collections import Counter

import pytest

from swarm import (
    AgentDied,
    AskTimeout,
    Backoff,
    DeadlockError,
    MailboxFull,
    NoSuchAgent,
    Restart,
    Swarm,
    SwarmError,
)
from tests.support.actors import Worker, graph_of
from tests.support.virtual_loop import turns, virtual

EXPECTED = (AgentDied, AskTimeout, DeadlockError, MailboxFull, NoSuchAgent, ValueError)


class Node(Worker):
    """Asks on at random, in turns and child tasks."""

    def __init__(self, chance: random.Random) -> None:
        super().__init__()
        self.chance = chance

    async def visit(self, depth: int) -> int:
        await asyncio.sleep(self.chance.choice([0, 0, 0.1, 1]))
        if self.chance.random() < 0.05:
            raise ValueError("a node may fail")
        if not depth:
            return 1
        refs = self.chance.sample(list(self.swarm.agents), 2)
        asks = [ref.within(5).ask(Node.visit, depth - 1) for ref in refs]
        results = await asyncio.gather(*asks, return_exceptions=True)
        for result in results:
            if isinstance(result, BaseException) and not isinstance(result, SwarmError):
                raise result
        return 1

    async def items(self, number: int):
        for value in range(number):
            await asyncio.sleep(self.chance.choice([0, 0, 0.1]))
            yield value


async def _client(swarm: Swarm, chance: random.Random, seen: Counter[str]) -> None:
    for _ in range(12):
        ref = chance.choice(list(swarm.agents))
        try:
            match chance.randrange(6):
                case 0 | 1:
                    await ref.within(chance.choice([0.05, 1, 20])).ask(Node.visit, 2)
                case 2:
                    await ref.within(chance.choice([0.05, 20])).tell(Node.visit, 1)
                case 3:
                    ref.tell_nowait(Node.visit, 0)
                case 4:
                    async for item in ref.within(20).stream(Node.items, 30):
                        if item == chance.randrange(40):
                            break
                case 5:
                    await ref.ask(Node.peek)
            seen["done"] += 1
        except EXPECTED as error:
            seen[type(error).__name__] += 1


@pytest.mark.parametrize("seed", range(12))
@virtual
async def test_everything_ends_and_nothing_is_left(seed, caplog):
    """Q1, G12, G13: every call has an outcome, every table is empty at the end."""
    caplog.set_level(logging.CRITICAL, "swarm")
    chance = random.Random(seed)
    seen: Counter[str] = Counter()
    restart = Restart(max=10_000, backoff=Backoff(0.1, 1), in_hand="redeliver")
    async with Swarm(seed=seed) as swarm:
        refs = [
            await swarm.spawn(Node, chance, mailbox=3, restart=restart)
            for _ in range(6)
        ]
        clients = [
            asyncio.ensure_future(_client(swarm, chance, seen)) for _ in range(20)
        ]
        while not all(client.done() for client in clients):
            await asyncio.sleep(chance.choice([0, 0.05, 0.5]))
            ref = chance.choice(refs)
            match chance.randrange(8):
                case 0:
                    chance.choice(clients).cancel()
                case 1 if ref.status in ("idle", "busy"):
                    ref.pause()
                    await asyncio.sleep(chance.choice([0, 0.3]))
                    if ref.status == "paused":
                        ref.resume()
                case 2 if len(swarm.agents) > 4 and chance.random() < 0.1:
                    ref.kill()
                case 3 if len(swarm.agents) > 4 and chance.random() < 0.1:
                    with contextlib.suppress(ValueError):
                        await ref.stop(timeout=5)
        await asyncio.sleep(200)
        for ref in swarm.agents:
            assert ref.load == 0, swarm.explain()
            assert await ref.ask(Node.add, 1) == 1
        await turns(3)
        assert len(graph_of(refs[0])) == 0
        assert seen["done"] > 0
