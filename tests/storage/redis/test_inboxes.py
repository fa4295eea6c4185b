"""The inbox of a process on a real server: bounded, trimmed, only for the living."""

import asyncio

import pytest

from swarm.errors import MailboxFull, NotFound
from swarm.model import OWNER, Path
from swarm.ports import Entropy, LoopClock, Write
from swarm.storage.redis import RedisKernel, _inboxes
from tests.support.redis_server import find_server, running

pytestmark = pytest.mark.skipif(
    find_server() is None, reason="there is no redis-server"
)


@pytest.fixture
async def kernel(tmp_path, monkeypatch):
    """A kernel with the inbox of a process `p1`, which holds five messages."""
    monkeypatch.setattr(_inboxes, "CAPACITY", 5)
    monkeypatch.setattr(_inboxes, "_TRIM", 3)
    with running(tmp_path) as server:
        kernel = RedisKernel(server.url, "inboxes", LoopClock(), Entropy())
        await kernel.open()
        for process in ("p1", "p2"):
            path = Path.of("global", "processes", process)
            await kernel.commit(OWNER, [Write(path, b"1")])
        received: list[bytes] = []
        await kernel.inboxes.open("p1", received.append)
        kernel.received = received
        yield kernel
        await kernel.close()


async def test_an_inbox_that_is_not_read_is_full_after_so_many_messages(kernel):
    for n in range(5):
        await kernel.inboxes.send("p2", b"%d" % n)
    with pytest.raises(MailboxFull, match="holds 5 messages"):
        await kernel.inboxes.send("p2", b"5")
    key = kernel.inboxes._key_of("p2")
    assert await kernel._wire.send("XLEN", key) == 5
    assert 0 < await kernel._wire.send("TTL", key) <= 600


async def test_messages_that_were_read_make_room(kernel):
    for n in range(40):
        async with asyncio.timeout(20):
            while True:
                try:
                    await kernel.inboxes.send("p1", b"%d" % n)
                    break
                except MailboxFull:
                    await asyncio.sleep(0.01)
    async with asyncio.timeout(20):
        while len(kernel.received) < 40:
            await asyncio.sleep(0.01)
    assert kernel.received == [b"%d" % n for n in range(40)]


async def test_a_process_that_has_gone_gets_no_messages(kernel):
    with pytest.raises(NotFound, match="no process p3"):
        await kernel.inboxes.send("p3", b"x")
    assert not await kernel._wire.send("EXISTS", kernel.inboxes._key_of("p3"))


async def test_messages_go_on_when_the_server_has_forgotten_its_scripts(kernel):
    await kernel._wire.send("SCRIPT", "FLUSH")
    await kernel.inboxes.send("p1", b"x")
    async with asyncio.timeout(20):
        while kernel.received != [b"x"]:
            await asyncio.sleep(0.01)
