"""The commands on a tree that a Redis server holds."""

import asyncio
import json

import pytest

from swarm import Agent, Swarm, serves
from swarm.cli import main
from tests.support.redis_server import find_server, running

pytestmark = pytest.mark.skipif(find_server() is None, reason="there is no Redis")


class Worker(Agent):
    @serves("work.*")
    async def work(self, topic: str) -> str:
        return topic


async def command(capsys, *words):
    capsys.readouterr()
    code = await asyncio.to_thread(main, list(words))
    said = capsys.readouterr()
    assert code == 0, said.err
    return said.out


async def test_a_tree_on_redis_is_shown_and_changed(tmp_path, capsys):
    with running(tmp_path) as server:
        async with Swarm("shop", server.url) as swarm:
            await swarm.spawn(Worker, name="ada")
            done = await swarm.tasks.submit("work.a", {"topic": "x"})
            await done.result()
            other = await swarm.tasks.submit("other")
            place = ("-s", server.url, "--name", "shop")
            out = await command(capsys, "tasks", "list", *place, "--json")
            tasks = {task["id"]: task for task in map(json.loads, out.splitlines())}
            assert tasks[done.id]["status"] == "complete"
            out = await command(capsys, "top", "--once", *place)
            assert "ada" in out
            out = await command(capsys, "trace", done.id, *place)
            assert "ada" in out
            words = ("tasks", "cancel", other.id, "--reason", "not wanted")
            await command(capsys, *words, *place)
            assert (await other.record()).status == "cancelled"


async def test_a_name_that_no_swarm_on_the_server_has_is_an_error(tmp_path, capsys):
    with running(tmp_path) as server:
        words = ["doctor", "-s", server.url, "--name", "shpo"]
        assert await asyncio.to_thread(main, words) == 1
        assert "there is no swarm 'shpo' on this server" in capsys.readouterr().err
