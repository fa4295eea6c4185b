"""A schedule as a value: what deviates from the stock order, and its blob."""

from __future__ import annotations

import base64
import json
import os
import sys
import zlib
from collections.abc import Sequence
from typing import Any, NamedTuple

import attrs

from swarm.testing._errors import BlobError
from swarm.testing._faults import Fault
from swarm.testing._options import Order, Settings, Threads, is_time, one_of
from swarm.testing._script import FOREVER, Hold, Script

VERSION = 1
_PREFIX = f"swarm{VERSION}."


class Inputs(NamedTuple):
    """What decides a run besides the order of its steps; see `Schedule`."""

    seed: int = 0
    cancels: tuple[tuple[int, int], ...] = ()
    faults: tuple[Fault, ...] = ()


@attrs.frozen(kw_only=True)
class Schedule:
    """Everything that decides how a program runs.

    `deviations` are pairs (decision, task number): where the stock loop would have
    run another task. Task numbers count tasks in order of creation from 1, which is
    the program itself; 0 is the loop's own callbacks, -1 the clock. `cancels` are
    pairs (step, task number). `faults` go wrong at their occasions. `seed`
    feeds `sim.rng` and `random`.
    """

    order: Order = attrs.field(default="tasks", validator=one_of(Order))
    max_stall: float = attrs.field(default=0.0, validator=is_time)
    threads: Threads = attrs.field(default="refuse", validator=one_of(Threads))
    deviations: tuple[tuple[int, int], ...] = ()
    holds: tuple[Hold, ...] = ()
    cancels: tuple[tuple[int, int], ...] = ()
    faults: tuple[Fault, ...] = ()
    seed: int = 0
    python: str = attrs.field(
        factory=lambda: f"{sys.version_info[0]}.{sys.version_info[1]}", eq=False
    )
    hash_seed: str = attrs.field(
        factory=lambda: os.environ.get("PYTHONHASHSEED", "random"), eq=False
    )

    @classmethod
    def taken(
        cls, settings: Settings, choices: Sequence[int], inputs: Inputs
    ) -> Schedule:
        """Return the schedule of a run that made these choices."""
        return cls(
            order=settings.order,
            max_stall=settings.max_stall,
            threads=settings.threads,
            deviations=tuple(enumerate(choices)),
            seed=inputs.seed,
            cancels=inputs.cancels,
            faults=inputs.faults,
        )

    def settings(self, limits: Settings) -> Settings:
        """Return how to run it, within the limits of these settings."""
        return attrs.evolve(
            limits,
            order=self.order,
            max_stall=self.max_stall,
            threads=self.threads,
        )

    @property
    def inputs(self) -> Inputs:
        """What decides the run besides the order of its steps."""
        return Inputs(self.seed, self.cancels, self.faults)

    def policy(self) -> Script:
        """Return a policy that follows this schedule."""
        return Script(dict(self.deviations), self.holds)

    @property
    def blob(self) -> str:
        """The schedule as one short line of text for `replay`."""
        fields = {
            "o": self.order,
            "s": self.max_stall,
            "t": self.threads,
            "d": self.deviations,
            "h": self.holds,
            "c": self.cancels,
            "f": self.faults,
            "e": self.seed,
            "p": self.python,
            "y": self.hash_seed,
        }
        packed = zlib.compress(json.dumps(fields, separators=(",", ":")).encode(), 9)
        return _PREFIX + base64.urlsafe_b64encode(packed).decode().rstrip("=")

    @classmethod
    def from_blob(cls, blob: str) -> Schedule:
        """Read a blob.

        Raises:
            BlobError: the text is damaged or of another format version.
        """
        if not blob.startswith(_PREFIX):
            raise BlobError(f"not a replay blob of format {VERSION}: {blob[:40]!r}")
        body = blob[len(_PREFIX) :]
        try:
            packed = base64.urlsafe_b64decode(body + "=" * (-len(body) % 4))
            fields: dict[str, Any] = json.loads(zlib.decompress(packed))
            return cls(
                order=fields["o"],
                max_stall=fields["s"],
                threads=fields["t"],
                deviations=tuple((d, lane) for d, lane in fields["d"]),
                holds=tuple(Hold(*hold) for hold in fields["h"]),
                cancels=tuple((step, lane) for step, lane in fields["c"]),
                faults=tuple(Fault(*fault) for fault in fields.get("f", ())),
                seed=fields["e"],
                python=fields["p"],
                hash_seed=fields["y"],
            )
        except (ValueError, KeyError, TypeError, zlib.error) as exc:
            raise BlobError(f"damaged replay blob: {blob[:40]!r}") from exc

    def warnings(self) -> list[str]:
        """Say what is different here from where the schedule was found."""
        here = Schedule()
        found = []
        if self.python != here.python:
            found.append(
                f"found on Python {self.python}, this is {here.python}: asyncio itself "
                "may take other steps"
            )
        if self.hash_seed != here.hash_seed:
            found.append(
                f"found under PYTHONHASHSEED={self.hash_seed}, this is "
                f"{here.hash_seed}: sets of strings may have another order"
            )
        return found


def describe_hold(hold: Hold, name: str) -> str:
    """Put a hold into words."""
    if hold.lane == 0:
        name = "the loop"
    if hold.length >= FOREVER:
        return f"`{name}` was slow from decision {hold.at} as long as others could run"
    steps = "step" if hold.length == 1 else "steps"
    return f"`{name}` was slow for {hold.length} {steps} from decision {hold.at}"
