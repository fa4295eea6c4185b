"""The clock of a real server is set while swarms work on it."""

import asyncio
import shutil
import subprocess
from pathlib import Path

import pytest

from swarm import StaleLease, Swarm
from tests.support.redis_server import Server, find_server

pytestmark = [
    pytest.mark.skipif(find_server() is None, reason="there is no redis-server"),
    pytest.mark.skipif(shutil.which("cc") is None, reason="there is no C compiler"),
]

SHIM = """
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/time.h>
int gettimeofday(struct timeval *now, void *zone) {
  static int (*real)(struct timeval *, void *);
  if (!real) real = dlsym(RTLD_NEXT, "gettimeofday");
  int result = real(now, zone);
  FILE *file = fopen(getenv("CLOCK_OFFSET"), "r");
  long offset = 0;
  if (file) {
    if (fscanf(file, "%ld", &offset) == 1) now->tv_sec += offset;
    fclose(file);
  }
  return result;
}
"""


class Clock:
    """The clock of a server, as the tests set it."""

    def __init__(self, folder: Path) -> None:
        self.offset = folder / "offset"
        source, self.library = folder / "shim.c", folder / "shim.so"
        source.write_text(SHIM)
        subprocess.run(
            ["cc", "-shared", "-fPIC", "-o", self.library, source, "-ldl"], check=True
        )

    def server(self, folder: Path) -> Server:
        return Server(
            folder,
            environment={
                "LD_PRELOAD": str(self.library),
                "CLOCK_OFFSET": str(self.offset),
            },
        )

    def step(self, seconds: int) -> None:
        new = self.offset.with_suffix(".new")
        new.write_text(str(seconds))
        new.replace(self.offset)


@pytest.mark.parametrize("seconds", [3600, -3600])
async def test_a_step_of_the_server_s_clock_repeats_no_revision_and_no_grant(
    tmp_path, seconds
):
    """G2, L2, S16, D15: whether leases end early or late, tokens decide."""
    clock = Clock(tmp_path)
    server = clock.server(tmp_path / "server")
    server.start()
    try:
        async with (
            Swarm("steps", server.url) as one,
            Swarm("steps", server.url) as other,
        ):
            versions = [(await one.state.set("shared.n", -1)).version]
            lease = await one.lock("x").acquire(ttl=30)
            clock.step(seconds)
            for n in range(50):
                state = (one if n % 2 else other).state
                versions.append((await state.set("shared.n", n)).version)
            assert versions == sorted(set(versions))
            if seconds < 0:
                await one.state.set("shared.report", 1, guard=lease)
                await lease.release()
            async with other.lock("x").acquire(timeout=20) as theirs:
                assert theirs.token > lease.token
                with pytest.raises(StaleLease):
                    await one.state.set("shared.report", 2, guard=lease)
            task = await one.tasks.submit("kind")
            async with asyncio.timeout(20), other.tasks.claim("kind") as claim:
                await claim.complete("done")
            assert await task.result() == "done"
    finally:
        server.stop()
