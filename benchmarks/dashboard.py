"""What a dashboard costs a busy swarm: `uv run python benchmarks/dashboard.py`.

One swarm has 1,000 agents and 100,000 tasks, and 2,000 events a second happen in it:
some are published, others come of agents that are told things and of tasks that are
submitted, claimed and completed. Spans of that work are measured alternately with
nobody looking and with pages open, which another process reads. What is compared is the
CPU time that this process uses in a second, so that other programs on the machine
matter little. "flat out" is what a swarm that is as busy as it can be loses of its
throughput: the events that a second of its CPU time sees.
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
from contextlib import contextmanager, suppress
from pathlib import Path
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

    async def flat_out(self, seconds: float) -> float:
        """Return how many events a CPU second sees, as fast as they can happen."""
        events, used, until = 0, time.process_time(), time.perf_counter() + seconds
        while time.perf_counter() < until:
            await self.tick()
            events += 20
            await asyncio.sleep(0)
        return events / (time.process_time() - used)


SLOW = """
window.slow = [];
new PerformanceObserver((list) => {
    for (const each of list.getEntries()) slow.push(Math.round(each.duration));
}).observe({entryTypes: ["longtask"]});
"""

BROWSED = ("overview", "tasks", "agents", "events", "locks", "state", "pipelines")


async def in_browser(load: Load, url: str, seconds: float, chosen: list[str]) -> None:
    """Look at each page in a real Chromium for an unbroken span, and print its costs.

    A long task of a page takes more than 50 ms of wall time, so other programs on the
    machine lengthen it; the CPU time of the page's main thread is printed as well. The
    costs to the swarm are measured against spans right before and after, in which the
    browser shows an empty page.
    """
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    options.add_argument("--headless=new")
    options.add_argument("--no-sandbox")
    service = Service(shutil.which("chromedriver"))
    driver = await asyncio.to_thread(webdriver.Chrome, options=options, service=service)

    async def go(place: str) -> None:
        opening = asyncio.create_task(asyncio.to_thread(driver.get, place))
        while not opening.done():
            await load.used(0.1)
        await load.used(2.0)  # the first drawing is not what is measured

    def page_cpu() -> float:
        found = driver.execute_cdp_cmd("Performance.getMetrics", {})["metrics"]
        return {each["name"]: each["value"] for each in found}["TaskDuration"]

    base = url.partition("?")[0]
    try:
        await go(url)
        for page in chosen:
            await go("about:blank")
            alone = [await load.used(10.0)]
            await go(f"{base}#/{'' if page == 'overview' else page}")
            driver.execute_script(SLOW)
            driver.execute_cdp_cmd("Performance.enable", {"timeDomain": "threadTicks"})
            drawing = page_cpu()
            before = renderer(service.process.pid), memory_now()
            used = await load.used(seconds)
            drawing = (page_cpu() - drawing) / seconds
            slow = driver.execute_script("return window.slow")
            after = renderer(service.process.pid), memory_now()
            await go("about:blank")
            alone.append(await load.used(10.0))
            cost = 100 * (used - statistics.mean(alone))
            print(
                f"  {page:<10} {seconds:.0f} s: costs {cost:.1f} % of a core; "
                f"{len(slow)} long tasks, longest {max(slow, default=0)} ms, "
                f"{1000 * drawing:.0f} ms of CPU a second; page "
                f"{before[0]:.0f} to {after[0]:.0f} MB, process {before[1]:.0f} to "
                f"{after[1]:.0f} MB",
                flush=True,
            )
    finally:
        await asyncio.to_thread(driver.quit)


def renderer(root: int) -> float:
    """Return the resident memory, in MB, of the largest renderer below a process."""
    parents: dict[int, int] = {}
    for entry in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            parents[int(entry.parent.name)] = int(
                entry.read_text().rpartition(")")[2].split()[1]
            )
    largest = 0.0
    for each in parents:
        above: int | None = each
        while above is not None and above != root:
            above = parents.get(above)
        with suppress(OSError):
            if (
                above
                and b"--type=renderer" in Path(f"/proc/{each}/cmdline").read_bytes()
            ):
                largest = max(largest, resident(each))
    return largest


def resident(process: int | str) -> float:
    """Return the resident memory of a process, in MB."""
    pages = int(Path(f"/proc/{process}/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 1e6


def memory_now() -> float:
    return resident("self")


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
    browsed: list[str],
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
            costs, lost, got = [], [], [0, 0]
            for _ in range(pairs):
                alone, pace = await load.used(span), await load.flat_out(span)
                with readers(url, served.token, pages) as counts:
                    await asyncio.sleep(1.0)  # the reader's process starts
                    costs.append(await load.used(span) - alone)
                    lost.append(1 - await load.flat_out(span) / pace)
                got = [got[0] + counts[0], max(got[1], counts[1])]
            low, cost, high = min(costs), statistics.median(costs), max(costs)
            rate = got[0] / pairs / (2 * span + 1)
            print(
                f"  {name:<12} {100 * cost:5.1f} % of a core ({100 * low:.1f} to "
                f"{100 * high:.1f}), flat out {100 * statistics.median(lost):.1f} % of "
                f"{pace:,.0f} events/s, {rate:.1f} messages a second, "
                f"the largest {got[1]:,} bytes"
            )
        if browser:
            await in_browser(load, served.url, browser, browsed)
        print(f"  at the end: {memory():,.0f} MB")


def memory() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--agents", type=int, default=1_000)
    parser.add_argument("--tasks", type=int, default=100_000)
    parser.add_argument("--span", type=float, default=6.0)
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--only", choices=PAGES, action="append", default=[])
    parser.add_argument(
        "--browser",
        type=float,
        default=0.0,
        metavar="SECONDS",
        help="look at each page this long in a real Chromium, and at nothing else",
    )
    parser.add_argument("--page", choices=BROWSED, action="append")
    chosen = parser.parse_args()
    others = [] if chosen.browser else PAGES
    pages = {name: PAGES[name] for name in chosen.only or others}
    asyncio.run(
        main(
            chosen.agents,
            chosen.tasks,
            chosen.span,
            chosen.pairs,
            pages,
            chosen.browser,
            chosen.page or list(BROWSED),
        )
    )
