"""State operations against a dict of orjson bytes, measured in the same run.

    uv run python benchmarks/state.py [--quick]

Only the ratios count. The raw limit is measured right before every repetition, and
medians are shown. Every operation goes through path, access check, commit, log and
history; the agent that acts is bound by the default policy.
"""

import asyncio
import gc
import statistics
import subprocess
import sys
from collections.abc import Awaitable, Callable
from time import perf_counter

import orjson

from swarm.kernel import MemoryKernel
from swarm.model import AgentIdentity, Path
from swarm.ports import Codec, Entropy, Limits, LoopClock
from swarm.state import Policy, StateHandle, Store

ADA = AgentIdentity("ada", "bench", "ada", "bench")
REPETITIONS = 7
PATHS = 256

# name: (bar, stretch), as x raw
BARS = {
    "set 200 B": (0.10, 0.25),
    "set 5 KB": (0.50, 0.80),
    "get 200 B": (0.40, 0.70),
    "get 5 KB": (0.85, 0.95),
}


def value_of(size: int) -> dict[str, object]:
    """Return an object of about `size` bytes, like a task or a finding."""
    item = {"id": 12345, "title": "a middling title", "score": 0.25, "tags": ["x", "y"]}
    items = [dict(item, id=n) for n in range(max(1, size // 75))]
    whole = {"status": "running", "owner": "ada", "items": items, "note": ""}
    whole["note"] = "n" * max(0, size - len(orjson.dumps(whole)))
    return whole


async def make_state(documents: int) -> StateHandle:
    """Return an agent's handle on a tree of so many documents."""
    kernel, limits = MemoryKernel(LoopClock()), Limits()
    for n in range(documents):
        await kernel.put(ADA, Path.parse(f"shared.f{n % 1_000}.d{n}"), b'{"n":1}')
    store = Store(kernel, Codec(limits), Policy.default(), LoopClock(), Entropy(1))
    return StateHandle(store, ADA)


Work = Callable[[int], Awaitable[None]]


async def timed(work: Work, count: int) -> float:
    """Return seconds per operation."""
    gc.collect()
    start = perf_counter()
    await work(count)
    return (perf_counter() - start) / count


class Workload:
    """One kind of operation, raw and through the state, over the same values."""

    def __init__(self, state: StateHandle, size: int) -> None:
        self.state = state
        self.value = value_of(size)
        self.paths = [f"shared.bench{n % 16}.d{n}" for n in range(PATHS)]
        self.raw = {path: orjson.dumps(self.value) for path in self.paths}

    async def prepare(self) -> None:
        for path in self.paths:
            await self.state.set(path, self.value)

    async def raw_set(self, count: int) -> None:
        raw, paths, value, dumps = self.raw, self.paths, self.value, orjson.dumps
        for n in range(count):
            raw[paths[n % PATHS]] = dumps(value)

    async def set(self, count: int) -> None:
        put, paths, value = self.state.set, self.paths, self.value
        for n in range(count):
            await put(paths[n % PATHS], value)

    async def raw_get(self, count: int) -> None:
        raw, paths, loads = self.raw, self.paths, orjson.loads
        for n in range(count):
            loads(raw[paths[n % PATHS]])

    async def get(self, count: int) -> None:
        get, paths = self.state.get, self.paths
        for n in range(count):
            await get(paths[n % PATHS])

    async def raw_update(self, count: int) -> None:
        raw, paths = self.raw, self.paths
        for n in range(count):
            path = paths[n % PATHS]
            raw[path] = orjson.dumps(touch(orjson.loads(raw[path])))

    async def update(self, count: int) -> None:
        update, paths = self.state.update, self.paths
        for n in range(count):
            await update(paths[n % PATHS], touch)

    async def raw_transaction(self, count: int) -> None:
        raw, paths = self.raw, self.paths
        for n in range(count):
            one, two = paths[n % PATHS], paths[(n + 1) % PATHS]
            a, b = orjson.loads(raw[one]), orjson.loads(raw[two])
            raw.update({one: orjson.dumps(b), two: orjson.dumps(a)})

    async def transaction(self, count: int) -> None:
        state, paths = self.state, self.paths
        for n in range(count):
            one, two = paths[n % PATHS], paths[(n + 1) % PATHS]
            async with state.transaction() as tx:
                a, b = await tx.get(one), await tx.get(two)
                await tx.set(one, b)
                await tx.set(two, a)


def touch(value: dict[str, object]) -> dict[str, object]:
    """Change a value as an update does."""
    value["status"] = "done"
    return value


async def compare(raw: Work, ours: Work, count: int) -> tuple[float, float]:
    """Return our microseconds and the ratio to raw (more is better), medians."""
    await ours(count // 10 + 1)
    costs, ratios = [], []
    for _ in range(REPETITIONS):
        limit = await timed(raw, count)
        cost = await timed(ours, count)
        costs.append(cost)
        ratios.append(limit / cost)
    return statistics.median(costs) * 1e6, statistics.median(ratios)


async def measure(documents: int, count: int) -> None:
    """Print a line for every operation at this number of documents."""
    state = await make_state(documents)
    for size, label in ((200, "200 B"), (5_000, "5 KB")):
        work = Workload(state, size)
        await work.prepare()
        for name in ("set", "get", "update", "transaction"):
            raw, ours = getattr(work, f"raw_{name}"), getattr(work, name)
            share = count if name in ("set", "get") else count // 4
            cost, ratio = await compare(raw, ours, share)
            title = f"{name} {label}"
            bar, stretch = BARS.get(title, (None, None))
            goal = "" if bar is None else f"{bar:.2f} / {stretch:.2f}"
            print(f"{title:<18}{documents:>11,}{cost:>11.2f}{ratio:>9.2f}   {goal}")


def import_time() -> float:
    """Return how many ms `import swarm` takes beyond python alone."""

    def start(code: str) -> float:
        begin = perf_counter()
        subprocess.run([sys.executable, "-c", code], check=True)
        return perf_counter() - begin

    start("import swarm")
    pairs = [(start("pass"), start("import swarm")) for _ in range(REPETITIONS)]
    return statistics.median(ours - alone for alone, ours in pairs) * 1e3


def main(quick: bool) -> None:
    """Print the table; `quick` takes seconds instead of a minute."""
    count = 4_000 if quick else 20_000
    print(f"{'operation':<18}{'documents':>11}{'us':>11}{'x raw':>9}   bar / stretch")
    for documents in (10, 100_000 if quick else 1_000_000):
        asyncio.run(measure(documents, count))
    print(f"{'import swarm':<18}{'':>11}{import_time():>8.0f} ms{'':>9}   150 / 110 ms")


if __name__ == "__main__":
    main("--quick" in sys.argv[1:])
