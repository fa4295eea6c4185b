"""Agents that do the stages of pipelines, as turns."""

import asyncio
from collections.abc import Sequence
from typing import Any

from swarm.agents import Cell, Ref
from swarm.errors import NoSuchAgent
from swarm.system._coordinator import Coordinator
from swarm.work import Stage


class StageAgents:
    """Finds agents for stages, the least loaded first. Fulfils `work.StageRunner`.

    A stage whose function is no method is called here.
    """

    def __init__(self, coordinator: Coordinator) -> None:
        """Find the agents of a swarm."""
        self._registry = coordinator.registry
        self._table = coordinator.table
        self._news: list[asyncio.Future[None]] = []

    async def until_possible(self, stage: Stage) -> None:
        """Wait until there is an agent that can do the stage."""
        while stage.is_method and self._find(stage) is None:
            news = asyncio.get_running_loop().create_future()
            self._news.append(news)
            try:
                await news
            finally:
                if news in self._news:
                    self._news.remove(news)

    async def run(
        self, stage: Stage, args: Sequence[Any], kwargs: dict[str, Any]
    ) -> Any:
        """Ask an agent, or call the function.

        Raises:
            NoSuchAgent: There is no agent that can do the stage.
            Exception: What the method or the function raised.
        """
        if not stage.is_method:
            return await stage.function(*args, **kwargs)
        ref = self._find(stage)
        if ref is None:
            raise NoSuchAgent(f"there is no living agent for {stage!r}")
        return await ref.within(None).ask(stage.function, *args, **kwargs)

    # --- for the coordinator ----------------------------------------------------------

    def attach(self, cell: Cell) -> None:  # noqa: ARG002  # one signature for all
        """Have those that wait for an agent look again."""
        news, self._news = self._news, []
        for each in news:
            if not each.done():
                each.set_result(None)

    def detach(self, cell: Cell) -> None:  # one signature for all
        """Do nothing: an agent that is gone is not found."""

    def end(self) -> None:
        """Do nothing: the tasks that wait are cancelled by their owner."""

    def _find(self, stage: Stage) -> Ref[Any] | None:
        shape = stage.shape
        for ref in self._registry.find(capability=shape.capability, role=shape.role):
            cell = self._table.cells.get(ref.name)
            if (
                cell is not None
                and cell.accepting
                and shape.agent in (None, cell.name)
                and _has(type(cell.agent), stage.function)
            ):
                return ref
        return None


def _has(cls: type, function: Any) -> bool:
    """Return whether a function is a method of a class or of one of its bases."""
    name = function.__name__
    return any(base.__dict__.get(name) is function for base in cls.__mro__)
