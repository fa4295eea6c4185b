"""A process in a network of its own, cut off from the server by the kernel.

It must stop acting on its leases in time, and come back clean. Real time passes.
"""

import asyncio
import json
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from swarm import Swarm
from tests.support.redis_server import Server, find_server

ROOT = Path(__file__).parents[3]
SPACE = f"swarm-{os.getpid()}"
LINK = f"sw{os.getpid()}-"
NETWORK = f"10.213.{os.getpid() % 250}"
"""Names of its own, so that two runs on one machine do not meet."""

TTL = 4.0
"""Seconds of a lease: long enough that a busy machine lets its holder renew it."""


def ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True)


def why_not() -> str:
    if find_server() is None:
        return "there is no redis-server"
    if shutil.which("ip") is None:
        return "there is no `ip` command"
    try:
        ip("netns", "add", f"{SPACE}-try")
        ip("link", "add", f"{LINK}t0", "type", "veth", "peer", "name", f"{LINK}t1")
    except subprocess.CalledProcessError as error:
        return f"network namespaces are not allowed here: {error.stderr!r}"
    finally:
        for words in (
            ("link", "delete", f"{LINK}t0"),
            ("netns", "delete", f"{SPACE}-try"),
        ):
            subprocess.run(["ip", *words], check=False, capture_output=True)
    return ""


HOLDER = """
import asyncio, json, sys, time
from swarm import LeaseLost, Swarm, SwarmConfig, SwarmError

def tell(*words):
    print(json.dumps([time.monotonic(), *words]), flush=True)

async def main(url, ttl):
    config = SwarmConfig(lock_ttl=ttl, process_ttl=ttl)
    swarm = await Swarm.open("cut", url, config=config, on_failure="log")
    try:
        async with swarm.lock("x"):
            while True:
                tell("acts")
                await asyncio.sleep(0.02)
    except LeaseLost:
        tell("lost")
    while True:
        try:
            async with swarm.lock("x").acquire(ttl=ttl, timeout=60) as lease:
                await swarm.state.set("shared.back", lease.token, guard=lease)
                tell("back", lease.token)
                break
        except SwarmError as error:
            tell("error", repr(error))
            await asyncio.sleep(0.2)
    await swarm.close()

asyncio.run(main(sys.argv[1], float(sys.argv[2])))
"""


@pytest.fixture
def network(tmp_path) -> Iterator[str]:
    """Yield the address of this side; the other side is in a namespace."""
    if reason := why_not():
        pytest.skip(reason)
    ip("netns", "add", SPACE)
    try:
        ip("link", "add", f"{LINK}0", "type", "veth", "peer", "name", f"{LINK}1")
        ip("link", "set", f"{LINK}1", "netns", SPACE)
        ip("addr", "add", f"{NETWORK}.1/24", "dev", f"{LINK}0")
        ip("link", "set", f"{LINK}0", "up")
        inside = ("netns", "exec", SPACE, "ip")
        ip(*inside, "addr", "add", f"{NETWORK}.2/24", "dev", f"{LINK}1")
        ip(*inside, "link", "set", f"{LINK}1", "up")
        yield f"{NETWORK}.1"
    finally:
        subprocess.run(["ip", "netns", "delete", SPACE], check=False)


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_a_process_that_is_cut_off_stops_in_time_and_comes_back_clean(
    network, tmp_path
):
    """L12: nobody else holds the lock while the one that is cut off still acts."""
    server = Server(tmp_path, host=network)
    server.start()
    command = ["ip", "netns", "exec", SPACE, sys.executable, "-c", HOLDER]
    holder = subprocess.Popen(
        [*command, server.url, str(TTL)], stdout=subprocess.PIPE, text=True, cwd=ROOT
    )
    told: list[list[object]] = []
    reading = threading.Thread(
        target=lambda: told.extend(map(json.loads, holder.stdout or ()))
    )
    reading.start()

    async def other() -> tuple[float, int]:
        """Take the lock once the holder has lost it, and keep it for a while."""
        async with Swarm("cut", server.url) as swarm:
            async with swarm.state.watch("locks.x", initial=True) as changes:
                for _ in range(3):  # it is taken, and renewed twice
                    await anext(aiter(changes))
            assert len(swarm.locks.held()) == 1
            ip("link", "set", f"{LINK}0", "down")
            async with swarm.lock("x").acquire(ttl=30, timeout=30) as lease:
                granted = time.monotonic()
                await asyncio.sleep(TTL)
                ip("link", "set", f"{LINK}0", "up")
                await asyncio.sleep(TTL)
                return granted, lease.token

    try:
        granted, token = asyncio.run(other())
        holder.wait(timeout=60)
    finally:
        holder.kill()
        holder.wait()
        reading.join()
        assert holder.stdout is not None
        holder.stdout.close()
        server.stop()
    assert holder.returncode == 0
    acted = [line[0] for line in told if line[1] == "acts"]
    # A process that the system does not let run cannot stop before it runs again.
    stopped = max(0.0, acted[-1] - acted[-2] - 0.02)
    assert acted[-1] - stopped < granted
    assert next(line[1] for line in told if line[1] != "acts") == "lost"
    assert told[-1][1] == "back"
    assert told[-1][2] > token
