"""A log that is read seldom is read sooner when something here waits."""

import asyncio
import math

import pytest

from swarm.model import OWNER, Path
from swarm.ports import Entropy, LoopClock
from swarm.storage.redis import RedisKernel
from swarm.storage.redis._reading_pace import ReadingPace
from tests.support.redis_server import find_server, running

pytestmark = pytest.mark.skipif(
    find_server() is None, reason="there is no redis-server"
)


async def test_a_log_is_read_as_soon_as_what_waits_here_needs_it(tmp_path, monkeypatch):
    """A process that begins to wait does not finish the long rest of an idle one."""
    monkeypatch.setattr(ReadingPace, "rest", lambda self, **told: 3600.0)
    with running(tmp_path) as server:
        one, other = (
            RedisKernel(server.url, "hurry", LoopClock(), Entropy()) for _ in range(2)
        )
        await one.open()
        await other.open()
        needs: list[float | None] = [math.inf]
        other.tail.keep_up(lambda: needs[0])

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
            for nothing_waits in (math.inf, 3600.0):
                needs[0] = nothing_waits
                other.tail.hurry()
                assert not other._follower._resting.done()
            for something_waits in (None, 0.0, 0.001):
                needs[0] = something_waits
                other.tail.hurry()
                await has(late)
                await rests()
                late = await put(2)
        finally:
            await one.close()
            await other.close()
