"""A log that is read seldom is read at once when it is hurried."""

import asyncio

import pytest

from swarm.model import OWNER, Path
from swarm.ports import Entropy, LoopClock
from swarm.storage.redis import RedisKernel
from swarm.storage.redis._reading_pace import ReadingPace
from tests.support.redis_server import find_server, running

pytestmark = pytest.mark.skipif(
    find_server() is None, reason="there is no redis-server"
)


async def test_a_hurried_log_is_read_at_once_for_a_few_commits(tmp_path, monkeypatch):
    """A process that is next in a queue hears of its turn without a rest."""
    monkeypatch.setattr(ReadingPace, "rest", lambda self, **told: 3600.0)
    with running(tmp_path) as server:
        one, other = (
            RedisKernel(server.url, "hurry", LoopClock(), Entropy()) for _ in range(2)
        )
        await one.open()
        await other.open()

        async def put(n: int) -> int:
            document = await one.put(OWNER, Path.parse("a"), b"%d" % n)
            assert document is not None
            return document.version

        async def rests() -> None:
            async with asyncio.timeout(20):
                while (resting := other._follower._resting) is None or resting.done():
                    await asyncio.sleep(0.001)

        async def has(revision: int) -> None:
            async with asyncio.timeout(20):
                while other.tail.revision < revision:
                    await asyncio.sleep(0.001)

        try:
            await has(await put(0))
            await rests()
            late = await put(1)
            assert other.tail.revision < late
            other.tail.hurry()
            await has(late)
            for n in range(2, 5):
                await has(await put(n))
            await rests()
            assert not other.tail.hurried
        finally:
            await one.close()
            await other.close()
