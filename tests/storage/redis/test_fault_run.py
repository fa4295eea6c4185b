"""Four processes that use everything, while connections, servers and processes fail.

Real time passes here: processes have to run into the ends of their leases.
"""

import asyncio
import random
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from swarm import Swarm
from tests.support.fault_judge import (
    judge_barriers,
    judge_events,
    judge_handoffs,
    judge_lock,
    judge_registers,
    judge_tasks,
    judge_writes,
    read_log,
    read_records,
    stop,
)
from tests.support.fault_worker import CONFIG, Finisher, Relay, listen
from tests.support.proxy import Faults, Proxy
from tests.support.redis_server import Server, find_server

pytestmark = pytest.mark.skipif(
    find_server() is None, reason="there is no redis-server"
)

ROOT = Path(__file__).parents[3]
PAUSED = 3.0
"""Seconds for which a process is stopped: longer than every lease of it."""


class Run:
    """One fault run: a server, a proxy, four processes, and what happens to them."""

    def __init__(self, folder: Path, seed: int) -> None:
        self.folder = folder
        self.chance = random.Random(seed)
        self.end = folder / "end"
        self.server = Server(folder / "server", durable=True)
        self.proxy = Proxy(self.server.port, seed)
        self.processes: dict[int, subprocess.Popen[bytes]] = {}
        self.starts = 0

    def start(self, number: int) -> None:
        self.starts += 1
        me = f"p{number}.{self.starts}"
        arguments = (self.proxy.url, "faults", me, str(self.end))
        with (self.folder / f"{me}.err").open("wb") as errors:
            self.processes[number] = subprocess.Popen(
                [
                    sys.executable,
                    *("-m", "tests.support.fault_worker", *arguments),
                    str(self.folder / f"{me}.jsonl"),
                ],
                cwd=ROOT,
                stderr=errors,
            )

    async def is_up(self, count: int) -> None:
        while sum(line[1] == "up" for line in read_records(self.folder)) < count:
            await asyncio.sleep(0.1)

    async def kill_a_process(self) -> None:
        number = self.chance.randint(1, 4)
        self.processes[number].send_signal(signal.SIGKILL)
        self.processes[number].wait()
        self.start(number)

    async def stop_a_process(self) -> None:
        process = self.processes[self.chance.randint(1, 4)]
        process.send_signal(signal.SIGSTOP)
        await asyncio.sleep(PAUSED)
        process.send_signal(signal.SIGCONT)

    async def kill_the_server(self) -> None:
        self.server.kill()
        await asyncio.sleep(self.chance.uniform(0.0, 0.5))
        self.server.start()

    async def fall_silent(self) -> None:
        self.proxy.faults.is_silent = True
        await asyncio.sleep(0.5)
        self.proxy.faults.is_silent = False
        self.proxy.cut()

    async def go(self, rounds: int) -> None:
        """Let things fail until the end, then have everything settle."""
        self.server.start()
        try:
            async with Swarm("faults", self.server.url, config=CONFIG) as swarm:
                await listen(swarm)  # from here on no event passes unheard
            async with self.proxy:
                for number in range(1, 5):
                    self.start(number)
                await self.is_up(4)
                self.proxy.faults = Faults(cut_before=0.01, cut_after=0.01, delay=0.004)
                for _ in range(rounds):
                    await self.kill_a_process()
                    await self.stop_a_process()
                    await self.kill_the_server()
                    await self.fall_silent()
                self.end.touch()
                self.proxy.faults = Faults()
                for process in self.processes.values():
                    while process.poll() is None:
                        await asyncio.sleep(0.05)
                assert [p.returncode for p in self.processes.values()] == [0] * 4, (
                    self.errors()
                )
            await self.settle()
        finally:
            stop(list(self.processes.values()))
            commits = self.server.is_alive and read_log(self.server.port, "faults")
            self.server.stop()
        self.judge(commits or [])

    def errors(self) -> str:
        return "\n".join(f.read_text()[-2_000:] for f in self.folder.glob("*.err"))

    async def settle(self) -> None:
        """Finish, without faults, what the processes have left."""
        url = self.server.url
        async with Swarm("faults", url, config=CONFIG, on_failure="log") as swarm:
            await swarm.spawn(Relay)
            await swarm.spawn(Finisher, capabilities=["finish"])

            async def take() -> None:
                while True:
                    async with swarm.tasks.claim("plain") as claim:
                        await claim.complete("settled")

            await listen(swarm)
            taking = asyncio.ensure_future(take())
            published = [
                words[0].replace(".", "-")
                for _, kind, *words in read_records(self.folder)
                if kind == "published"
            ]
            try:
                async with asyncio.timeout(30):
                    while not await self.is_settled(swarm, set(published)):
                        await asyncio.sleep(0.1)
            except TimeoutError:
                audited = await swarm.state.get("shared.audit")
                raise AssertionError(
                    f"not settled: {swarm.tasks.stats()}, "
                    f"unheard {sorted(set(published) - set(audited))}, "
                    f"{swarm.explain()}"
                ) from None
            taking.cancel()
            self.audited = await swarm.state.get("shared.audit")

    async def is_settled(self, swarm: Swarm, published: set[str]) -> bool:
        return not (
            swarm.tasks.find(status="pending", limit=1)
            or swarm.tasks.find(status="running", limit=1)
            or published - set(await swarm.state.get("shared.audit"))
        )

    def judge(self, commits) -> None:
        records = read_records(self.folder)
        counts = {
            "commits": len(commits),
            "cuts": self.proxy.cuts,
            "registers": judge_registers(records),
            "guarded": judge_lock(records, commits),
            "tasks": judge_tasks(records, commits),
            "handoffs": judge_handoffs(commits),
            "events": judge_events(records, self.audited),
            "barriers": judge_barriers(records),
        }
        judge_writes(records, commits)
        print(counts)
        assert all(counts.values()), counts


@pytest.mark.timeout(120)
def test_nothing_is_lost_or_done_twice_while_everything_fails(tmp_path):
    """S5, L9, J6, E7, D11, D13: one round of every fault."""
    asyncio.run(Run(tmp_path, seed=1).go(rounds=1))


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("seed", range(2, 6))
def test_minutes_of_faults(tmp_path, seed):
    asyncio.run(Run(tmp_path, seed=seed).go(rounds=12))
