"""What a dashboard costs a busy swarm: `uv run python benchmarks/dashboard.py`.

One swarm has 1,000 agents and 100,000 tasks, and 2,000 events a second happen in it:
some are published, others come of agents that are told things and of tasks that are
submitted, claimed and completed. Spans of that work are measured alternately with
nobody looking and with pages open, which another process reads. What is compared is the
CPU time that this process uses in a second, so that other programs on the machine
matter little: a swarm that is as busy as it can be loses that part of its throughput.
"""

import argparse
import asyncio
import gc
import resource
import shutil
import statistics
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from subprocess import PIPE, Popen

from swarm import Agent, Swarm, SwarmConfig, TaskOptions, event

READER = """
import json, sys, threading, urllib.request
url, token, *pages = sys.argv[1:]
got, most = [0], [0]
def read(page):
    asked = urllib.request.Request(url + "api/stream/" + page)
    asked.add_header("Authorization", "Bearer " + token)
    with urllib.request.urlopen(asked) as answer:
        for line in answer:
            if line.startswith(b"data: "):
                got[0] += 1
                most[0] = max(most[0], len(line))
for page in pages:
    threading.Thread(target=read, args=(page,), daemon=True).start()
sys.stdin.read()
print(got[0], most[0])
"""

PAGES = {
    "overview": ["overview"],
    "tasks": ["tasks"],
    "agents": ["agents"],
    "events": ["events"],
    "five pages": ["overview", "tasks", "agents", "events", "locks"],
}


@event("bench.happened")
class Happened:
    """Something has happened."""

    number: int


class Clerk(Agent):
    """Does next to nothing."""

    async def note(self, number: int) -> int:
        return number


class Load:
    """Work for a swarm, at a steady pace."""

    def __init__(self, swarm: Swarm, clerks: list) -> None:
        self.swarm = swarm
        self.clerks = clerks
        self.number = 0

    async def tick(self) -> None:
        """Have 20 events happen: 8 are published, the others come of three tasks."""
        swarm = self.swarm
        for turn in range(8):
            self.number += 1
            clerk = self.clerks[self.number % len(self.clerks)]
            await clerk.tell(Clerk.note, self.number)
            await swarm.events.publish(Happened(self.number))
            if turn < 3:
                await swarm.tasks.submit("bench.work", self.number)
                claim = await swarm.tasks.claim("bench.work")
                await claim.complete(self.number)

    async def used(self, seconds: float) -> float:
        """Return the CPU seconds used in a second, over a span of time."""
        loop = asyncio.get_running_loop()
        began, used = loop.time(), time.process_time()
        at = began
        while at < began + seconds:
            await self.tick()
            at += 0.01
            await asyncio.sleep(max(0.0, at - loop.time()))
        return (time.process_time() - used) / (loop.time() - began)


SLOW = """
window.slow = [];
new PerformanceObserver((list) => {
    for (const each of list.getEntries()) slow.push(Math.round(each.duration));
}).observe({entryTypes: ["longtask"]});
"""


async def in_browser(load: "Load", url: str, seconds: float) -> None:
    """Look at each page in a real Chromium, and print its tasks of more than 50 ms."""
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    options.add_argument("--headless=new")
    options.add_argument("--no-sandbox")
    service = Service(shutil.which("chromedriver"))
    driver = await asyncio.to_thread(webdriver.Chrome, options=options, service=service)
    try:
        opening = asyncio.create_task(asyncio.to_thread(driver.get, url))
        while not opening.done():
            await load.used(0.1)
        for page in ("", "tasks", "agents", "events", "locks", "state"):
            driver.execute_script("location.hash = arguments[0]", f"#/{page}")
            await load.used(2.0)  # the first drawing is not what is measured
            driver.execute_script(SLOW)
            used = await load.used(seconds)
            slow = driver.execute_script("return window.slow")
            heap = driver.execute_script("return performance.memory.usedJSHeapSize")
            print(
                f"  page {page or 'overview':<10} {100 * used:.1f} % of a core, "
                f"long tasks {len(slow)}, the longest {max(slow, default=0)} ms, "
                f"heap {heap / 1e6:.1f} MB"
            )
    finally:
        await asyncio.to_thread(driver.quit)


@contextmanager
def readers(url: str, token: str, pages: list[str]) -> Iterator[list[int]]:
    """Have another process read pages; afterwards the list holds what it got."""
    got: list[int] = []
    reader = Popen(
        [sys.executable, "-c", READER, url, token, *pages], stdin=PIPE, stdout=PIPE
    )
    try:
        yield got
    finally:
        out, _ = reader.communicate(timeout=20)
        got.extend(map(int, out.split()))


async def main(
    agents: int,
    tasks: int,
    span: float,
    pairs: int,
    chosen: dict[str, list[str]],
    browser: float,
) -> None:
    # What has ended goes soon, so that memory grows only if the dashboard keeps things.
    config = SwarmConfig(tasks=TaskOptions(keep=1_000))
    async with Swarm("bench", config=config) as swarm:
        clerks = [await swarm.spawn(Clerk) for _ in range(agents)]
        for number in range(tasks):
            await swarm.tasks.submit("bench.later", number, delay=3_600)
        load = Load(swarm, clerks)
        gc.collect()
        gc.freeze()  # else rare walks through all tasks hide what is measured
        await load.used(10.0)  # until its log and its memory are as full as they get
        alone = await load.used(span)
        print(f"{agents:,} agents, {tasks:,} tasks, {pairs} pairs of {span} s")
        print(f"  nobody looks: {100 * alone:.1f} % of a core, {memory():,.0f} MB")
        served = await swarm.dashboard(tell=None)
        url = f"http://127.0.0.1:{served.port}/"
        for name, pages in chosen.items():
            costs, got = [], [0, 0]
            for _ in range(pairs):
                alone = await load.used(span)
                with readers(url, served.token, pages) as counts:
                    await asyncio.sleep(1.0)  # the reader's process starts
                    costs.append(await load.used(span) - alone)
                got = [got[0] + counts[0], max(got[1], counts[1])]
            low, cost, high = min(costs), statistics.median(costs), max(costs)
            rate = got[0] / pairs / (span + 1)
            print(
                f"  {name:<12} {100 * cost:5.1f} % of a core ({100 * low:.1f} to "
                f"{100 * high:.1f}), {rate:.1f} messages a second, "
                f"the largest {got[1]:,} bytes"
            )
        if browser:
            await in_browser(load, served.url, browser)
        print(f"  at the end: {memory():,.0f} MB")


def memory() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--agents", type=int, default=1_000)
    parser.add_argument("--tasks", type=int, default=100_000)
    parser.add_argument("--span", type=float, default=6.0)
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--only", choices=PAGES, action="append")
    parser.add_argument(
        "--browser", type=float, default=0.0, metavar="SECONDS", help="for each page"
    )
    chosen = parser.parse_args()
    pages = {name: PAGES[name] for name in chosen.only or PAGES}
    asyncio.run(
        main(
            chosen.agents,
            chosen.tasks,
            chosen.span,
            chosen.pairs,
            pages,
            chosen.browser,
        )
    )
