"""What commits leave behind on the server stays within bounds."""

import asyncio

import pytest
import redis.asyncio

from swarm import ConflictError, Limits, Swarm, SwarmConfig
from swarm.model import OWNER, Path
from swarm.ports import Entropy, ExpectFolder, LoopClock, Plan, Write
from swarm.storage.redis import RedisKernel, _trimming
from tests.support.redis_server import find_server, running

pytestmark = pytest.mark.skipif(
    find_server() is None, reason="there is no redis-server"
)


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with running(tmp_path_factory.mktemp("redis")) as server:
        yield server


@pytest.fixture
def eager(monkeypatch):
    """Look for folders that are few and young as well."""
    monkeypatch.setattr(_trimming, "_FIELDS", 20)
    monkeypatch.setattr(_trimming, "_AGE", 0)


async def a_kernel(server, name) -> RedisKernel:
    kernel = RedisKernel(server.url, name, LoopClock(), Entropy())
    await kernel.open()
    return kernel


async def fields_of(server, name) -> set[str]:
    async with redis.asyncio.Redis.from_url(server.url) as client:
        found = await client.hgetall(f"{{swarm:{name}}}:vers")
        return {field.decode() for field in found}


async def make_folders(kernel, number) -> None:
    for n in range(number):
        path = Path.parse(f"gone.f{n}.x")
        await kernel.commit(OWNER, [Write(path, b"1")])
        await kernel.commit(OWNER, [Write(path)])


async def test_folders_without_a_document_are_forgotten(server, eager):
    kernel = await a_kernel(server, "folders")
    await kernel.commit(OWNER, [Write(Path.parse("kept.here.x"), b"1")])
    await make_folders(kernel, 200)
    await kernel._trimmer.trim()
    found = await fields_of(server, "folders")
    assert {"kept.here.x", "kept.", "kept.here."} < found
    assert len(found) < 20, sorted(found)
    await kernel.close()


async def test_few_folders_and_young_ones_are_left_alone(server, eager, monkeypatch):
    kernel = await a_kernel(server, "young")
    await make_folders(kernel, 4)
    await kernel._trimmer.trim()
    assert "gone.f1." in await fields_of(server, "young")  # they are few
    await make_folders(kernel, 50)
    monkeypatch.setattr(_trimming, "_AGE", 60_000_000)
    await kernel._trimmer.trim()
    assert "gone.f1." in await fields_of(server, "young")
    await kernel.close()


async def test_a_folder_that_was_forgotten_is_still_known_to_have_changed(
    server, eager
):
    """S5: a commit that looked at the folder before it changed is made again."""
    one, other = await a_kernel(server, "changed"), await a_kernel(server, "changed")
    path, looked = Path.parse("gone.f7.x"), []

    def count(view):
        looked.append(len(view.below(Path.of("gone", "f7"))))
        return Plan((Write(Path.of("seen"), b"%d" % len(looked)),))

    behind = one.tail.take_entries
    one.tail.take_entries = lambda entries: None  # its replica stays where it is
    await other.commit(OWNER, [Write(path, b"1")])
    await other.commit(OWNER, [Write(path)])
    await make_folders(other, 50)
    await other._trimmer.trim()
    assert "gone.f7." not in await fields_of(server, "changed")
    committing = asyncio.create_task(one.apply(OWNER, count))
    await asyncio.sleep(0.1)
    assert not committing.done()
    assert len(looked) == 1
    one.tail.take_entries = behind
    await committing
    assert len(looked) == 2
    await one.close()
    await other.close()


async def test_a_condition_from_before_a_trim_holds_if_the_folder_did_not_change(
    server, eager
):
    kernel = await a_kernel(server, "old")
    first = await kernel.commit(OWNER, [Write(Path.of("a"), b"1")])
    await make_folders(kernel, 50)
    await kernel._trimmer.trim()
    for folder in ("never", "gone"):
        condition = ExpectFolder(Path.of(folder), first.revision)
        writing = kernel.commit(
            OWNER, [Write(Path.of("b"), b"1")], conditions=[condition]
        )
        if folder == "never":
            assert await asyncio.wait_for(writing, 5) is not None
        else:
            with pytest.raises(ConflictError):
                await writing
    await kernel.close()


async def test_the_log_is_bounded_by_its_number_of_entries(server):
    """The server trims blocks of a hundred entries at a time."""
    limits = Limits(log_commits=32, held_commits=64)
    async with (
        Swarm("entries", server.url, config=SwarmConfig(limits=limits)) as swarm,
        redis.asyncio.Redis.from_url(server.url) as client,
    ):
        for n in range(400):
            await swarm.state.set("shared.n", n)
        assert 64 <= await client.xlen("{swarm:entries}:log") < 264


async def test_the_log_is_bounded_by_its_bytes(server):
    limits = Limits(log_bytes=200_000, held_bytes=200_000)
    async with (
        Swarm("bytes", server.url, config=SwarmConfig(limits=limits)) as swarm,
        redis.asyncio.Redis.from_url(server.url) as client,
    ):
        for n in range(300):
            await swarm.state.set(f"shared.large.d{n % 3}", "x" * 10_000)
        key = "{swarm:bytes}:log"
        async with asyncio.timeout(20):
            while await client.memory_usage(key, samples=0) > 900_000:
                await asyncio.sleep(0.01)
        assert 10 < await client.xlen(key) < 90
        await swarm.state.set("shared.last", 1)
        assert await swarm.state.get("shared.large.d2") == "x" * 10_000
