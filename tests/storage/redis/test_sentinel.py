"""Sentinels say where the server is, also after another one has taken over."""

import asyncio
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import pytest
import redis.asyncio
from redis.exceptions import RedisError

from swarm import StorageFailed, StorageUnsupported, Swarm
from tests.support.redis_server import Server, find_server, free_port, running

pytestmark = pytest.mark.skipif(
    find_server() is None, reason="there is no redis-server"
)


@contextmanager
def watching(folder: Path, port: int) -> Iterator[int]:
    """Run a sentinel that watches the server at `port` as "main"; yield its port."""
    executable, own = find_server(), free_port()
    assert executable is not None
    file = folder / "sentinel.conf"
    file.write_text(
        f"port {own}\nbind 127.0.0.1\ndir {folder}\n"
        f"sentinel monitor main 127.0.0.1 {port} 1\n"
        "sentinel down-after-milliseconds main 500\n"
        "sentinel failover-timeout main 3000\n"
    )
    process = subprocess.Popen(
        [executable, str(file), "--sentinel"], stdout=subprocess.DEVNULL
    )
    try:
        yield own
    finally:
        process.kill()
        process.wait()


async def until(port: int, is_so) -> None:
    """Wait until what a server tells of its replication is so."""
    async with asyncio.timeout(30):
        while True:
            with suppress(RedisError):
                async with redis.asyncio.Redis(port=port) as client:
                    if is_so(await client.info()):
                        return
            await asyncio.sleep(0.05)


@pytest.mark.timeout(120)
async def test_a_swarm_follows_the_server_that_takes_over(tmp_path):
    """G2, D11: what was replicated is there, and revisions go on."""
    first = Server(tmp_path / "first")
    first.start()
    try:
        with running(tmp_path / "second") as second, ExitStack() as stack:
            async with redis.asyncio.Redis(port=second.port) as client:
                await client.replicaof("127.0.0.1", first.port)
            await until(second.port, lambda told: told["master_link_status"] == "up")
            port = stack.enter_context(watching(tmp_path, first.port))
            await until(port, lambda told: told["master0"]["slaves"] == 1)
            url = f"redis+sentinel://127.0.0.1:1,127.0.0.1:{port}/main/1?prefix=moved"
            async with Swarm("shop", url) as one, Swarm("shop", url) as other:
                before = (await one.state.set("shared.n", 1)).version
                async with redis.asyncio.Redis(port=first.port) as client:
                    assert await client.info("keyspace")  # in database 1 alone
                    assert await client.dbsize() == 0
                    end = (await client.info("replication"))["master_repl_offset"]
                await until(second.port, lambda told: told["slave_repl_offset"] >= end)
                first.kill()
                after = await other.state.set("shared.n", 2)
                assert after.version > before
                assert await one.state.get("shared.n") == 2
                assert [c.value for c in await one.state.history("shared.n")] == [1, 2]
    finally:
        first.stop()


async def test_sentinels_that_know_no_such_server_are_one_error(tmp_path):
    with (
        running(tmp_path / "server") as server,
        watching(tmp_path, server.port) as port,
    ):
        await until(port, lambda told: "master0" in told)
        with pytest.raises(StorageFailed, match="no sentinel there knows"):
            await Swarm.open("shop", f"redis+sentinel://127.0.0.1:{port}/another")
        with pytest.raises(StorageFailed, match=r"refuses.*SENTINEL"):
            await Swarm.open("shop", f"redis+sentinel://127.0.0.1:{server.port}/main")
    with pytest.raises(StorageFailed, match=r"of 'main' that is up\. Start"):
        await Swarm.open("shop", f"redis+sentinel://:secret@127.0.0.1:{port}/main")


@pytest.mark.parametrize(
    "end", ["host", "host/", "host:abc/main", "/main", "host/main/x", "host/main?odd=1"]
)
async def test_an_address_of_sentinels_that_means_nothing_is_refused(end):
    with pytest.raises(StorageUnsupported, match=r"redis\+sentinel://"):
        await Swarm.open("shop", f"redis+sentinel://{end}")
