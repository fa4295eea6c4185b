"""What a server refuses is one clear error, and nothing is lost by it."""

import asyncio
from contextlib import suppress

import pytest
import redis.asyncio

from swarm import Event, StorageFailed, StorageUnsupported, Swarm, event
from swarm.storage.redis._server import (
    describe_server,
    explain_refusal,
    refusal_code,
)
from tests.support.redis_server import find_server, running

pytestmark = pytest.mark.skipif(
    find_server() is None, reason="there is no redis-server"
)


@event("refusals.thing")
class Thing:
    n: int


async def test_a_server_without_memory_writes_nothing_and_still_reads_and_deletes(
    tmp_path,
):
    with running(tmp_path) as server:
        async with (
            redis.asyncio.Redis.from_url(server.url) as client,
            Swarm("full", server.url) as swarm,
        ):
            first = await swarm.state.set("shared.first", "x" * 100_000)
            await client.config_set("maxmemory", 1_000_000)
            with pytest.raises(StorageFailed, match=r"maxmemory.*nothing was written"):
                await swarm.state.set("shared.second", "y" * 1_000)
            assert await swarm.state.get("shared.second") is None
            assert (await swarm.state.read("shared.first")).version == first.version
            assert await swarm.state.delete("shared.first")
            await client.config_set("maxmemory", 0)
            await swarm.state.set("shared.second", "y")
            assert await swarm.state.keys("shared.**") == ["shared.second"]


async def test_handlers_go_on_after_a_server_had_no_memory(tmp_path):
    """E5, E7: positions are written once there is room; nothing is handled anew."""
    with running(tmp_path) as server:
        async with (
            redis.asyncio.Redis.from_url(server.url) as client,
            Swarm("full", server.url) as swarm,
        ):
            seen: list[int] = []

            async def handle(event: Event[Thing]) -> None:
                if not seen:
                    await client.config_set("maxmemory", 1_000_000)
                seen.append(event.payload.n)

            handler = await swarm.events.on(Thing, handle, name="named")
            for n in range(3):
                await swarm.events.publish(Thing(n))
            async with asyncio.timeout(20):
                while not handler.saver._refused:  # type: ignore[attr-defined]
                    await asyncio.sleep(0.01)
            await client.config_set("maxmemory", 0)
            async with asyncio.timeout(20):
                while handler.saver._refused:  # type: ignore[attr-defined]
                    await asyncio.sleep(0.01)
            await handler.cancel()
            await swarm.events.publish(Thing(3))
            await swarm.events.on(Thing, handle, name="named")
            async with asyncio.timeout(20):
                while len(seen) < 4:
                    await asyncio.sleep(0.01)
        assert seen == [0, 1, 2, 3]


async def test_a_key_of_another_type_is_one_clear_error_and_nobody_waits(tmp_path):
    with running(tmp_path) as server:
        async with redis.asyncio.Redis.from_url(server.url) as client:
            swarm = await Swarm.open("mine", server.url, on_failure="log")
            await swarm.state.set("shared.n", 1)
            [key] = [k async for k in client.scan_iter("*:log")]
            await client.set(key, "theirs")
            async with asyncio.timeout(20):
                with pytest.raises(StorageFailed, match=r"another program.*\?prefix="):
                    await swarm.state.set("shared.n", 2)
                with pytest.raises(StorageFailed, match=r"another program.*\?prefix="):
                    while True:
                        await swarm.state.get("shared.n")
                with pytest.raises(StorageFailed, match="another program"):
                    await Swarm.open("mine", server.url)
                with suppress(StorageFailed, ExceptionGroup):
                    await swarm.close()


async def test_a_wrong_password_is_no_absent_server(tmp_path):
    with running(tmp_path) as server:
        async with redis.asyncio.Redis.from_url(server.url) as client:
            await client.config_set("requirepass", "secret")
        place = server.url.removeprefix("redis://")
        async with Swarm("shop", f"redis://default:secret@{place}"):
            pass
        for user in (":wrong@", "bob:wrong@"):
            with pytest.raises(StorageFailed, match=r"refuses.*password") as caught:
                async with Swarm("shop", f"redis://{user}{place}"):
                    pass
            assert "wrong" not in str(caught.value)
        with pytest.raises(StorageFailed, match="it asks for a password"):
            async with Swarm("shop", server.url):
                pass


@pytest.mark.parametrize(
    "end",
    [
        "localhost:abc",
        "localhost?nonsense=1",
        "localhost/abc",
        "localhost?prefix=a&prefix=b",
        "localhost?prefix=",
        "localhost?prefix=a:b",
        "localhost?prefix=a}b",
        "localhost?durability=",
        "localhost/0#1",
    ],
)
async def test_a_wrong_address_is_refused_and_shown(end):
    with pytest.raises(StorageUnsupported, match=r"redis://localhost"):
        async with Swarm("shop", f"redis://{end}"):
            pass


async def test_an_option_that_the_client_does_not_know_is_shown():
    url = "redis://localhost?nonsense=1&password=hunter2"
    with pytest.raises(StorageUnsupported, match="options nonsense, pass") as told:
        await Swarm.open("shop", url)
    assert "hunter2" not in str(told.value)


async def test_an_address_is_shown_as_it_was_given():
    with pytest.raises(StorageFailed, match=r"answers at unix:///no/socket:"):
        await Swarm.open("shop", "unix:///no/socket")


def test_a_server_is_called_by_its_name():
    told = {"redis_version": "7.2.4", "valkey_version": "9.1.2"}
    assert str(describe_server(told, None, 1)).startswith("Valkey 9.1.2, ")
    assert str(describe_server({"redis_version": "7.4"}, None, 1))[:10] == "Redis 7.4,"


def test_a_node_of_a_cluster_that_has_another_slot_says_where_the_tree_is():
    text = explain_refusal("MOVED 3884 10.0.0.7:6379")
    assert "10.0.0.7:6379" in text
    assert "name the node" in text


@pytest.mark.parametrize(
    ("told", "is_too_old"),
    [
        ({"redis_version": "5.0.14"}, True),
        ({"redis_version": "6.0.16"}, True),
        ({"redis_version": "6.2.0"}, False),
        ({"redis_version": "7.0.15"}, False),
        ({"redis_version": "7.2.4", "valkey_version": "8.1.0"}, False),
        ({}, False),
    ],
)
def test_a_server_that_lacks_commands_is_known_by_its_version(told, is_too_old):
    assert describe_server(told, None, 1).is_too_old is is_too_old


def test_a_refusal_inside_the_script_is_known_from_servers_before_redis_7():
    text = (
        "ERR Error running script (call to f_653c): @user_script:13: @user_script: 13: "
        "-OOM command not allowed when used memory > 'maxmemory'."
    )
    assert refusal_code(text) == "OOM"
    assert "nothing was written" in explain_refusal(text)
    text = "ERR Error running script (call to f_65): @user_script:9: WRONGTYPE No"
    assert refusal_code(text) == "WRONGTYPE"
    assert refusal_code("READONLY You can't write") == "READONLY"
    assert refusal_code("ERR value is: -OOM no") == "ERR"


async def test_a_server_that_throws_documents_away_is_refused(tmp_path):
    with running(tmp_path) as server:
        async with redis.asyncio.Redis.from_url(server.url) as client:
            await client.config_set("maxmemory-policy", "allkeys-lru")
            async with Swarm("x", server.url) as swarm:  # it has no bound
                assert "durability memory" in swarm.explain()
            await client.config_set("maxmemory", 100_000_000)
            with pytest.raises(StorageUnsupported, match="set the policy to noevic"):
                await Swarm.open("x", server.url)


async def test_the_options_of_the_client_that_concern_replies_change_nothing(tmp_path):
    with running(tmp_path) as server:
        url = f"{server.url}?protocol=3&decode_responses=true"
        async with Swarm("x", url) as one, Swarm("x", server.url) as other:
            await other.state.set("shared.n", 1)
            async with asyncio.timeout(20):
                await one.state.wait_until("shared.n", bool)
