"""Chance: the one door to it."""

import asyncio
import random


class Entropy:
    """Ids and jitter out of one seed; without a seed, out of the machine's chance.

    Under simulation the loop carries `entropy_seed`, and a swarm that was given no
    seed takes that one, so that a replayed schedule replays the ids as well.
    """

    def __init__(self, seed: int | str | None = None) -> None:
        """Start from `seed`; equal seeds give equal sequences."""
        if seed is None:
            seed = _seed_of_running_loop()
        self._random = random.Random(seed)

    def identifier(self, prefix: str = "") -> str:
        """Return an id of 80 random bits in hex, after `prefix` and a dash."""
        bits = f"{self._random.getrandbits(80):020x}"
        return f"{prefix}-{bits}" if prefix else bits

    def jitter(self, low: float, high: float) -> float:
        """Return a number between `low` and `high`."""
        return self._random.uniform(low, high)


def _seed_of_running_loop() -> int | None:
    try:
        loop = asyncio.get_running_loop()
    except RuntimeError:
        return None
    seed: int | None = getattr(loop, "entropy_seed", None)
    return seed
