"""Trying again after a conflict: the one loop for every optimistic commit."""

from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

from swarm.errors import ConflictError, Contention
from swarm.model import Backoff
from swarm.ports._clock import Clock
from swarm.ports._entropy import Entropy

R = TypeVar("R")

ATTEMPTS: Final = 64
_BACKOFF: Final = Backoff(0.001, 0.25)


async def retry_conflicts(
    attempt: Callable[[], Awaitable[R]],
    what: object,
    clock: Clock,
    entropy: Entropy,
    *,
    on: type[ConflictError] = ConflictError,
) -> R:
    """Return the result of `attempt()`, called again after each conflict.

    The first retry follows at once, later ones after growing pauses with jitter.

    Args:
        attempt: Reads, decides and commits; it changes nothing when it raises.
        what: What is tried, for the error.
        clock: Where the pauses come from.
        entropy: Where the jitter comes from.
        on: The conflict that is worth another attempt; others are raised.

    Raises:
        Contention: Every one of 64 attempts met a conflict.
        Exception: What `attempt` raised.
    """
    for number in range(ATTEMPTS):
        try:
            return await attempt()
        except on:
            chance = entropy.jitter(0.0, 1.0)
            await clock.sleep(_BACKOFF.delay(number, chance) if number else 0.0)
    raise Contention(f"{what} lost to other writers {ATTEMPTS} times in a row")
