"""Chance: the one door to it."""

import random

from swarm.ports._runtime import current_runtime


class Entropy:
    """Ids and jitter out of one seed; without a seed, out of the machine's chance.

    A swarm that was given no seed takes that of the runtime, so that a replayed
    schedule of the simulator replays the ids as well.
    """

    def __init__(self, seed: int | str | None = None) -> None:
        """Start from `seed`; equal seeds give equal sequences."""
        if seed is None:
            seed = current_runtime().entropy_seed
        self._random = random.Random(seed)

    def identifier(self, prefix: str = "") -> str:
        """Return an id of 80 random bits in hex, after `prefix` and a dash."""
        bits = f"{self._random.getrandbits(80):020x}"
        return f"{prefix}-{bits}" if prefix else bits

    def jitter(self, low: float, high: float) -> float:
        """Return a number between `low` and `high`."""
        return self._random.uniform(low, high)
