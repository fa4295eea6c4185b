"""The registry: who is there."""

from collections import deque
from collections.abc import Iterator
from typing import Any, Final

from swarm.agents._cell import Cell
from swarm.agents._envelope import Envelope
from swarm.agents._lifecycle import Status
from swarm.agents._records import AgentInfo, Failure, generated_path
from swarm.agents._ref import Ref
from swarm.errors import NoSuchAgent
from swarm.model import Path

_FAILURES: Final = 32


class Registry:
    """The agents alive in one swarm, in the order in which they were spawned."""

    def __init__(self) -> None:
        """Begin empty."""
        self._cells: dict[str, Cell] = {}
        self._numbers: dict[str, int] = {}
        self._failures: deque[Failure] = deque(maxlen=_FAILURES)
        self.failure_count: int = 0

    def __len__(self) -> int:
        """Return how many agents there are."""
        return len(self._cells)

    def __iter__(self) -> Iterator[Ref[Any]]:
        """Yield a ref to every agent, oldest first."""
        for cell in tuple(self._cells.values()):
            yield Ref(cell)

    def __contains__(self, name: object) -> bool:
        return name in self._cells

    def __getitem__(self, name: str) -> Ref[Any]:
        """Return the agent of this name.

        Raises:
            NoSuchAgent: There is none.
        """
        return Ref(self._cell(name))

    def get(self, name: str) -> Ref[Any] | None:
        """Return the agent of this name, or None."""
        cell = self._cells.get(name)
        return None if cell is None else Ref(cell)

    def find(
        self,
        *,
        type: str | type | None = None,  # noqa: A002  # the word of DESIGN
        capability: str | None = None,
        role: str | None = None,
        status: Status | str | None = None,
    ) -> list[Ref[Any]]:
        """Return the agents that fit all that is given, the least loaded first.

        Args:
            type: A class (its subclasses fit too) or a type's name.
            capability: Something they say they can do.
            role: Their role.
            status: What they are doing now.
        """
        found: list[Ref[Any]] = []
        for ref, cell in zip(self, tuple(self._cells.values()), strict=True):
            identity = cell.identity
            if isinstance(type, str):
                if identity.type != type:
                    continue
            elif type is not None and not isinstance(cell.agent, type):
                continue
            if (
                (capability is None or capability in cell.capabilities)
                and (role is None or identity.role == role)
                and (status is None or ref.status == status)
            ):
                found.append(ref)
        return sorted(found, key=lambda ref: ref.load)

    def least_loaded(
        self,
        *,
        type: str | type | None = None,  # noqa: A002  # the word of DESIGN
        capability: str | None = None,
        role: str | None = None,
        status: Status | str | None = None,
    ) -> Ref[Any]:
        """Return the agent that `find` would list first.

        Raises:
            NoSuchAgent: None fits.
        """
        found = self.find(type=type, capability=capability, role=role, status=status)
        if not found:
            raise NoSuchAgent("no agent fits what was asked for")
        return found[0]

    def info(self, name: str) -> AgentInfo:
        """Return how the agent of this name is doing.

        Raises:
            NoSuchAgent: There is none.
        """
        return info_of(self._cell(name))

    @property
    def failures(self) -> tuple[Failure, ...]:
        """The last 32 failures that no asker received, oldest first."""
        return tuple(self._failures)

    def _cell(self, name: str) -> Cell:
        cell = self._cells.get(name)
        if cell is None:
            raise NoSuchAgent(f"there is no agent '{name}'")
        return cell

    # --- for the supervisor -----------------------------------------------------------

    def cells(self) -> list[Cell]:
        """Return every agent's engine, oldest first."""
        return list(self._cells.values())

    def find_cell(self, name: str) -> Cell | None:
        """Return the engine of the agent of this name, or None."""
        return self._cells.get(name)

    def new_path(self, kind: str) -> Path:
        """Return where a new agent's document stands, under a free name."""
        while True:
            number = self._numbers[kind] = self._numbers.get(kind, 0) + 1
            path = generated_path(kind, number)
            if path.segments[-1] not in self._cells:
                return path

    def add(self, cell: Cell) -> None:
        """Let an agent be found."""
        self._cells[cell.name] = cell

    def remove(self, cell: Cell) -> None:
        """Let an agent be found no more; harmless when another has its name."""
        if self._cells.get(cell.name) is cell:
            del self._cells[cell.name]

    def note_failure(self, failure: Failure) -> None:
        """Remember a failure."""
        self.failure_count += 1
        self._failures.append(failure)


def info_of(cell: Cell) -> AgentInfo:
    """Return how an agent is doing."""
    ref: Ref[Any] = Ref(cell)
    turns: list[Envelope] = [] if cell.current is None else [cell.current]
    turns.extend(cell.aside or ())
    graph = cell.host.graph
    return AgentInfo(
        identity=cell.identity,
        capabilities=cell.capabilities,
        status=ref.status,
        load=cell.load(),
        handled=cell.handled,
        failures=cell.failures,
        restarts=cell.restarts,
        late=cell.late,
        started_at=cell.started_at,
        heartbeat_age=ref.heartbeat_age,
        turn=None if cell.current is None else cell.current.call.name,
        turn_age=None if cell.current is None else cell.host.now() - cell.began,
        aside=tuple(turn.call.name for turn in cell.aside or ()),
        waits_for=tuple(
            wait.describe_wait() for turn in turns for wait in graph.waits(turn)
        ),
        error=None if cell.error is None else repr(cell.error),
    )
