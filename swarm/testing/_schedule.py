"""A schedule as a value: its deviations from the stock order, and its blob."""

from __future__ import annotations

import base64
import json
import os
import sys
import zlib
from typing import Any, Final, NamedTuple

import attrs

from swarm.testing._errors import BlobError
from swarm.testing._options import (
    Order,
    Settings,
    Unhandled,
    is_time,
    one_of,
)
from swarm.testing._policies import CALLBACK
from swarm.testing._sandbox import Threads
from swarm.testing._script import FOREVER, Deviation, Hold, Script
from swarm.testing.faults._plan import Fault

VERSION: Final = 2
MAX_BLOB: Final = 4_000  # characters
_PREFIX: Final = f"swarm{VERSION}."


class Inputs(NamedTuple):
    """The inputs of a run besides the order of its steps; see `Schedule`."""

    seed: int = 0
    cancels: tuple[tuple[int, int], ...] = ()
    faults: tuple[Fault, ...] = ()


@attrs.frozen(kw_only=True)
class Schedule:
    """Everything that decides how a program runs.

    Task numbers count tasks in order of creation from 1, which is the program itself;
    0 is the loop's own callbacks, -1 the clock. `deviations` and `holds` say where
    the stock order is left. `cancels` are pairs (step, task number). `faults` go wrong
    at their occasions. `seed` feeds `sim.rng` and `random`.
    """

    order: Order = attrs.field(default="tasks", validator=one_of(Order))
    max_stall: float = attrs.field(default=0.0, validator=is_time)
    threads: Threads = attrs.field(default="refuse", validator=one_of(Threads))
    unhandled: Unhandled = attrs.field(default="fail", validator=one_of(Unhandled))
    deviations: tuple[Deviation, ...] = ()
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
    missing: int = attrs.field(default=0, eq=False)
    """The number of last deviations that did not fit into the blob."""

    @classmethod
    def of(
        cls,
        settings: Settings,
        inputs: Inputs,
        deviations: tuple[Deviation, ...],
        holds: tuple[Hold, ...] = (),
    ) -> Schedule:
        """Return the schedule of a run with these settings."""
        return cls(
            order=settings.order,
            max_stall=settings.max_stall or 0.0,
            threads=settings.threads,
            unhandled=settings.unhandled,
            deviations=deviations,
            holds=holds,
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
            unhandled=self.unhandled,
        )

    @property
    def inputs(self) -> Inputs:
        """The inputs of the run besides the order of its steps."""
        return Inputs(self.seed, self.cancels, self.faults)

    def policy(self) -> Script:
        """Return a policy that follows this schedule."""
        return Script(self.deviations, self.holds)

    @property
    def blob(self) -> str:
        """The schedule as one line of text for `replay`, at most `MAX_BLOB` long.

        Of a schedule with too many deviations the blob holds the first ones.
        """
        kept = len(self.deviations)
        text = self._text(kept)
        while len(text) > MAX_BLOB and kept:
            kept = min(kept * MAX_BLOB // len(text), kept - 1)
            text = self._text(kept)
        return text

    def _text(self, kept: int) -> str:
        fields = {
            "o": self.order,
            "s": self.max_stall,
            "t": self.threads,
            "u": self.unhandled,
            "d": self.deviations[:kept],
            "h": self.holds,
            "c": self.cancels,
            "f": self.faults,
            "e": self.seed,
            "p": self.python,
            "y": self.hash_seed,
            "m": self.missing + len(self.deviations) - kept,
        }
        packed = zlib.compress(json.dumps(fields, separators=(",", ":")).encode(), 9)
        return _PREFIX + base64.urlsafe_b64encode(packed).decode().rstrip("=")

    @classmethod
    def from_blob(cls, blob: str) -> Schedule:
        """Read a blob.

        Raises:
            BlobError: The text is damaged or of another format version.
            TypeError: It is no text.
        """
        if not isinstance(blob, str):
            raise TypeError(
                f"a replay blob is text, as failures print it, not {blob!r}"
            )
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
                unhandled=fields["u"],
                deviations=tuple(Deviation(*made) for made in fields["d"]),
                holds=tuple(Hold(*hold) for hold in fields["h"]),
                cancels=tuple((step, lane) for step, lane in fields["c"]),
                faults=tuple(Fault(*fault) for fault in fields["f"]),
                seed=fields["e"],
                python=fields["p"],
                hash_seed=fields["y"],
                missing=fields["m"],
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
        if self.missing:
            found.append(
                f"the last {self.missing} deviations did not fit into the blob; the "
                "search with the same arguments finds the whole schedule again"
            )
        return found


def describe_hold(hold: Hold, name: str) -> str:
    """Put a hold into words."""
    subject = "callbacks were" if hold.lane == CALLBACK else f"`{name}` was"
    steps = f"from its step {hold.step}" if hold.lane != CALLBACK else "once"
    if hold.length >= FOREVER:
        return f"{subject} slow {steps}, as long as others could run"
    turns = "turn" if hold.length == 1 else "turns"
    return f"{subject} slow for {hold.length} {turns} {steps}"
