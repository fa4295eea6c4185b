"""What a simulation puts in place of production's parts."""

from __future__ import annotations

from typing import Any

from swarm.ports import Runtime
from swarm.ports._runtime import C


class SimRuntime(Runtime):
    """The runtime of a simulated loop: its operations pause, its parts can fail."""

    _kinds: dict[type[Any], type[Any]] | None = None

    def substitute(self, cls: C) -> C:
        """Return the class whose instances ask the injector of faults."""
        if self._kinds is None:
            self._kinds = _faulty_kinds()
        return self._kinds.get(cls, cls)  # type: ignore[return-value]  # subclasses


def _faulty_kinds() -> dict[type[Any], type[Any]]:
    """Return the faulty class for each of swarm's own; imported at need."""
    from swarm.agents._cell import Cell
    from swarm.coordination._desk import Desk
    from swarm.testing._faulty_bus import SUBSCRIPTION_TYPES
    from swarm.testing._faulty_cell import FaultyCell
    from swarm.testing._faulty_desk import FaultyDesk

    return {Cell: FaultyCell, Desk: FaultyDesk, **SUBSCRIPTION_TYPES}
