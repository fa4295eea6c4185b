"""The benchmarks: `python benchmarks/run.py [FILE ...] [--quick] [--only TEXT]`.

Every figure is a ratio: our rate over the rate of the plainest asyncio way of the same
job, measured right before it in the same process; the median of several pairs. Only
ratios count: absolute times drift with the machine.

    python benchmarks/run.py agents locks --quick      two files, small
    python benchmarks/run.py --only tell               rows whose name has "tell" in it
    python benchmarks/run.py --against ../old          this checkout beside another

With `--against` each checkout has a process of its own, both run these same files, and
the pairs alternate, so that both see the same machine.
"""

import argparse
import asyncio
import gc
import importlib
import json
import os
import statistics
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from row import Row

HERE = Path(__file__).resolve()
FILES = [
    "agents",
    "events",
    "locks",
    "state",
    "tasks",
    "storage",
    "recovery",
    "startup",
]
SCRIPTS = ("simulation", "linearizability")
QUICK_SCALE, QUICK_PAIRS, PAIRS = 0.2, 3, 7


class Worker:
    """A process that measures the rows of one file with one checkout of swarm."""

    def __init__(self, file: str, checkout: Path) -> None:
        env = {**os.environ, "PYTHONPATH": str(checkout)}
        self.process = subprocess.Popen(
            [sys.executable, str(HERE), "--worker", file],
            env=env,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def measure(self, name: str, scale: float) -> dict[str, Any]:
        """Return the rates of one pair, or the error that prevented it."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        print(json.dumps([name, scale]), file=self.process.stdin, flush=True)
        answer: dict[str, Any] = json.loads(self.process.stdout.readline())
        return answer

    def close(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait()


def work(file: str) -> None:
    """Measure what standard input asks for, until it ends."""
    rows = {row.name: row for row in rows_of(file)}
    for line in sys.stdin:
        name, scale = json.loads(line)
        try:
            answer = asyncio.run(pair(rows[name], scale))
        except Exception as error:  # noqa: BLE001  # a row that fails is shown
            answer = {"error": repr(error)}
        print(json.dumps(answer), flush=True)


async def pair(row: Row, scale: float) -> dict[str, float]:
    total = max(1, int(row.total * scale))
    gc.collect()
    raw = await row.raw(total)
    gc.collect()
    return {"raw": raw, "ours": await row.ours(total)}


def rows_of(file: str) -> Sequence[Row]:
    rows: Sequence[Row] = importlib.import_module(file).ROWS
    return rows


def samples(
    workers: Sequence[Worker], row: Row, scale: float, pairs: int
) -> list[list[dict[str, Any]]]:
    """Return the measurements of each worker; they take turns."""
    for worker in workers:
        worker.measure(row.name, scale / 10)  # warm
    found: list[list[dict[str, Any]]] = [[] for _ in workers]
    for _ in range(pairs):
        for worker, mine in zip(workers, found, strict=True):
            mine.append(worker.measure(row.name, scale))
    return found


def cells(row: Row, measured: list[list[dict[str, Any]]]) -> Iterator[str]:
    ratios: list[float] = []
    for mine in measured:
        errors = [each["error"] for each in mine if "error" in each]
        if errors:
            yield f"{'-':>9}{'':>12}  {errors[0]}"
            continue
        ratios.append(statistics.median(each["ours"] / each["raw"] for each in mine))
        rate = statistics.median(each["ours"] for each in mine)
        yield f"{ratios[-1]:>9.3f}{row.shown(rate):>12}"
    if len(ratios) == 2:
        yield f"{ratios[1] / ratios[0]:>9.2f}"
    if row.goal is not None:
        yield f"{row.goal:>8.2f}"


def table(file: str, checkouts: Sequence[Path], options: argparse.Namespace) -> None:
    """Print a line for every row of a file that was asked for."""
    rows = [
        row
        for row in rows_of(file)
        if options.only in row.name and (row.quick or not options.quick)
    ]
    if not rows:
        return
    title = f"{'x raw':>9}{'each':>12}"
    heads = title if len(checkouts) == 1 else f"{title}{title}{'new/old':>9}"
    print(f"{file:<44}{heads}{'goal':>8}")
    scale, pairs = (QUICK_SCALE, QUICK_PAIRS) if options.quick else (1.0, PAIRS)
    workers = [Worker(file, checkout) for checkout in checkouts]
    try:
        for row in rows:
            measured = samples(workers, row, scale, options.pairs or pairs)
            print(f"{row.name:<44}{''.join(cells(row, measured))}", flush=True)
    finally:
        for worker in workers:
            worker.close()


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("files", nargs="*", choices=[*FILES, *SCRIPTS, []])
    parser.add_argument("--quick", action="store_true", help="small and few")
    parser.add_argument("--only", default="", help="rows with this in their name")
    parser.add_argument("--pairs", type=int, help="how many pairs the median is of")
    parser.add_argument("--against", type=Path, help="another checkout, the old one")
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker is not None:
        work(options.worker)
        return 0
    checkouts = [HERE.parents[1]]
    if options.against is not None:
        checkouts.insert(0, options.against.resolve())
    files = options.files or [*FILES, *SCRIPTS]
    for file in files:
        if file in FILES:
            table(file, checkouts, options)
    failed = 0
    for script in files:
        if script in SCRIPTS and not options.only and options.against is None:
            print(f"--- {script}", flush=True)
            command = [sys.executable, str(HERE.with_name(f"{script}.py"))]
            command += ["--quick"] * options.quick
            failed += subprocess.run(command, check=False).returncode != 0
    return failed


if __name__ == "__main__":
    raise SystemExit(main())
