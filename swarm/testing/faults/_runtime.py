"""The runtime of a simulation: scheduling points, chance, and parts that can fail."""

# pyright: reportIncompatibleVariableOverride=false
from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

from swarm.ports import Pause, Runtime
from swarm.ports._runtime import C


class SimRuntime(Runtime):
    """The runtime of a simulated loop.

    Args:
        pause: A scheduling point.
        seed: The seed of swarms that were given none.
        wall_time: The virtual wall clock, in seconds since 1970.
        on_chance: Called when a swarm takes the seed.
    """

    _substitutes: dict[type[Any], type[Any]] | None = None

    def __init__(
        self,
        pause: Pause,
        seed: int,
        wall_time: Callable[[], float],
        on_chance: Callable[[], None],
    ) -> None:
        self._on_chance = on_chance
        super().__init__(pause=pause, entropy_seed=seed, wall_time=wall_time)

    @property
    def entropy_seed(self) -> int | None:
        """The seed of swarms that were given none."""
        self._on_chance()
        return self._seed

    @entropy_seed.setter
    def entropy_seed(self, seed: int | None) -> None:
        self._seed = seed

    def substitute(self, cls: C) -> C:
        """Return the subclass that asks the injector of faults, or `cls` itself."""
        if self._substitutes is None:
            self._substitutes = _substitutes()
        return cast("C", self._substitutes.get(cls, cls))


def _substitutes() -> dict[type[Any], type[Any]]:
    """Return the subclass for each class; imported only for programs with a swarm."""
    from swarm.agents._cell import Cell
    from swarm.coordination._lease_manager import LeaseManager
    from swarm.testing.faults._agents import FaultyCell, FaultyLeaseManager
    from swarm.testing.faults._events import SUBSCRIPTION_TYPES

    return {Cell: FaultyCell, LeaseManager: FaultyLeaseManager, **SUBSCRIPTION_TYPES}
