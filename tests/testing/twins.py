"""Looks for false alarms: `uv run python -m tests.testing.twins 100000`.

So many schedules, shared among the repaired twins of all planted bugs, each under the
faults that break its twin. None may fail. The exit code is 1 if one does.
"""

import argparse
import sys

from swarm.testing import explore
from tests.testing.planted import LATE, PROGRAMS, SWARMS

PLANTED = [*PROGRAMS, *LATE, *SWARMS]


def alarms(planted, schedules: int, seed: int) -> tuple[int, str]:
    """Return how many schedules of a twin ran, and how one failed, or ""."""
    done = 0
    while done < schedules:
        late = {"max_stall": planted.max_stall} if planted in PROGRAMS else {}
        report = explore(
            planted.make(True),
            schedules=min(2_000, schedules - done),
            seed=seed,
            faults=planted.faults,
            **late,
        )
        done += report.schedules
        seed += 1
        if report.failure is not None:
            return done, report.failure.explain()
        if report.complete:
            break  # there are no more
    return done, ""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("schedules", type=int, nargs="?", default=100_000)
    parser.add_argument("--seed", type=int, default=1_000)
    chosen = parser.parse_args()
    total, false = 0, 0
    for number, planted in enumerate(PLANTED):
        share = -(-(chosen.schedules - total) // (len(PLANTED) - number))
        done, told = alarms(planted, share, chosen.seed)
        total += done
        false += bool(told)
        print(f"{planted.name:<36} {done:>7,} {told}", flush=True)
    print(f"{len(PLANTED)} twins, {total:,} schedules, {false} false alarms")
    return 1 if false else 0


if __name__ == "__main__":
    sys.exit(main())
