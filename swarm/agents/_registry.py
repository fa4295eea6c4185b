"""The registry: the living agents, and the commits about them.

The rules of these commits see the agent as it is when they are committed, not as it was
when the commit was requested: commits that overtake each other must neither leave an
old status behind nor bring back the document of an agent that has gone meanwhile.
"""

from collections import deque
from collections.abc import Callable, Iterator
from typing import Any, Final, Never, Protocol

from swarm.agents._agent import Actor
from swarm.agents._cell import Cell
from swarm.agents._lifecycle import Status, health_of
from swarm.agents._local_ref import LocalRef
from swarm.agents._protocol import served_kinds
from swarm.agents._records import (
    AgentFailure,
    AgentInfo,
    AgentRecord,
    generated_path,
    process_in,
    status_in,
)
from swarm.agents._ref import Ref
from swarm.errors import NameTaken, NoSuchAgent
from swarm.model import (
    AgentHealthChanged,
    AgentRegistered,
    AgentStarted,
    AgentStopped,
    Displayable,
    Document,
    Path,
    check_choice,
    check_text,
    repr_of,
    shown,
    to_datetime,
    type_name,
)
from swarm.ports import Plan, View, Write

_FAILURES: Final = 32


class AgentTable:
    """The engines of the living agents of one swarm, by name, and their failures.

    Attributes:
        cells: The engines, oldest first.
        failures: The last failures that no asker received.
        failure_count: How many there were.
        process: This process, if others share the registry.
    """

    __slots__ = (
        "_is_taken",
        "_numbers",
        "cells",
        "failure_count",
        "failures",
        "process",
    )

    def __init__(self, is_taken: Callable[[Path], bool], process: str = "") -> None:
        """Begin empty.

        Args:
            is_taken: Whether a document stands at a path: generated names avoid it.
            process: This process, if others share the registry: generated names say it.
        """
        self.cells: dict[str, Cell] = {}
        self.failures: deque[AgentFailure] = deque(maxlen=_FAILURES)
        self.failure_count: int = 0
        self.process: str = process
        self._numbers: dict[str, int] = {}
        self._is_taken = is_taken

    def new_path(self, kind: str) -> Path:
        """Return the path of a new agent's document, under a free name."""
        while True:
            number = self._numbers[kind] = self._numbers.get(kind, 0) + 1
            path = generated_path(kind, number, self.process)
            if path.segments[-1] not in self.cells and not self._is_taken(path):
                return path

    def remove(self, cell: Cell) -> None:
        """Let an agent be found no more; harmless when another one has its name."""
        if self.cells.get(cell.name) is cell:
            del self.cells[cell.name]

    def note_failure(self, failure: AgentFailure) -> None:
        """Remember a failure."""
        self.failure_count += 1
        self.failures.append(failure)


class Elsewhere(Protocol):
    """The agents that live in other processes."""

    def get(self, name: str) -> Ref[Any] | None:
        """Return the agent of this name, or None."""
        ...

    def records(self) -> list[AgentRecord]:
        """Return their records."""
        ...

    def ref(self, record: AgentRecord) -> Ref[Any]:
        """Return a ref of the agent of a record."""
        ...


class Registry(Displayable):
    """The living agents of one swarm, in the order in which they were spawned.

    Where processes share the tree, the agents of this process come first, and those of
    others follow, as far as their arrival is known here.
    """

    def __init__(
        self, table: AgentTable, closed_error: Callable[[], Exception | None]
    ) -> None:
        """Show the agents of a table, until `closed_error()` returns an error."""
        self._table = table
        self._closed_error = closed_error
        self.elsewhere: Elsewhere | None = None

    def __len__(self) -> int:
        """Return how many agents there are."""
        return len(self._table.cells) + len(self.others())

    def __iter__(self) -> Iterator[Ref[Any]]:
        """Yield a ref to every agent, oldest first."""
        for cell in tuple(self._table.cells.values()):
            yield LocalRef(cell)
        if self.elsewhere is not None:
            yield from map(self.elsewhere.ref, self.others())

    def __contains__(self, agent: object) -> bool:
        """Return whether an agent lives here, by its name or a ref to it."""
        if isinstance(agent, Ref):
            return self.get(agent.name) == agent
        if agent in self._table.cells:
            return True
        return isinstance(agent, str) and self._elsewhere(agent) is not None

    def others(self) -> list[AgentRecord]:
        """Return the records of the agents that live in other processes."""
        return [] if self.elsewhere is None else self.elsewhere.records()

    def _elsewhere(self, name: str) -> Ref[Any] | None:
        return None if self.elsewhere is None else self.elsewhere.get(name)

    def __getitem__(self, name: str) -> Ref[Any]:
        """Return the agent of this name.

        Raises:
            NoSuchAgent: No living agent has this name.
            Closed: The swarm is closed.
        """
        ref = self.get(name)
        if ref is None:
            raise NoSuchAgent(f"there is no agent '{name}'")
        return ref

    def get(self, name: str) -> Ref[Any] | None:
        """Return the agent of this name, or None.

        Raises:
            TypeError: The name is not text.
            Closed: The swarm is closed.
        """
        check_text("the name of an agent", name)
        self._check_open()
        cell = self._table.cells.get(name)
        return self._elsewhere(name) if cell is None else LocalRef(cell)

    def _check_open(self) -> None:
        closed = self._closed_error()
        if closed is not None:
            raise closed

    def __repr__(self) -> str:
        # The agents of this process only: a repr works in any thread and on any loop.
        here = len(self._table.cells)
        noun = "agent" if here == 1 else "agents"
        where = "" if self.elsewhere is None else " in this process"
        return f"<Registry of {here} {noun}{where}>"

    def find(
        self,
        *unnamed: Never,
        type: str | type | None = None,  # noqa: A002  # the word of DESIGN
        capability: str | None = None,
        role: str | None = None,
        status: Status | str | None = None,
    ) -> list[Ref[Any]]:
        """Return the agents that have all the given properties, least loaded first.

        Args:
            *unnamed: Nothing; every property is given by its name.
            type: A class of agents (its subclasses fit too) or a type's name.
            capability: One of their capabilities.
            role: Their role.
            status: What they are doing now.

        Raises:
            TypeError: The type is neither a class of agents nor text; or the
                capability or role is not text.
            ValueError: There is no such status; or the text is no name of a type.
            Closed: The swarm is closed.
        """
        if unnamed:
            raise TypeError(
                "agents.find takes keywords: find(capability=...), find(type=...), "
                "find(role=...) or find(status=...)"
            )
        if status is not None:
            check_choice("a status", status, tuple(Status))
        for word, value in (("a capability", capability), ("a role", role)):
            if value is not None:
                check_text(word, value)
        _check_type(type)
        self._check_open()
        found: list[Ref[Any]] = []
        for cell in self._table.cells.values():
            ref: Ref[Any] = LocalRef(cell)
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
        if self.elsewhere is not None:
            found += [
                self.elsewhere.ref(record)
                for record in self.others()
                if _is_of_type(record, type)
                and (capability is None or capability in record.capabilities)
                and (role is None or record.identity.role == role)
                and (status is None or record.status == status)
            ]
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
            NoSuchAgent: No agent has these properties.
            Closed: The swarm is closed.
        """
        found = self.find(type=type, capability=capability, role=role, status=status)
        if not found:
            raise NoSuchAgent("no living agent has the requested properties")
        return found[0]

    def info(self, name: str) -> AgentInfo:
        """Return how the agent of this name is doing.

        Raises:
            NoSuchAgent: No living agent of this process has this name.
            Closed: The swarm is closed.
        """
        self._check_open()
        return info_of(self._cell(name))

    @property
    def failure_count(self) -> int:
        """Number of failures that no asker received."""
        return self._table.failure_count

    @property
    def failures(self) -> tuple[AgentFailure, ...]:
        """The last 32 failures that no asker received, oldest first."""
        return tuple(self._table.failures)

    def _cell(self, name: str) -> Cell:
        cell = self._table.cells.get(name)
        if cell is None:
            raise NoSuchAgent(f"there is no agent '{name}'")
        return cell


def _check_type(wanted: object) -> None:
    """Refuse what is neither a class of agents nor a type's name."""
    if isinstance(wanted, str) and wanted != wanted.lower():
        raise ValueError(
            f"{shown(wanted)} is no name of a type: a class DreamWeaver has the type "
            '"dream_weaver"; pass the class itself, type=DreamWeaver'
        )
    is_class = isinstance(wanted, type) and issubclass(wanted, Actor)
    if not (wanted is None or isinstance(wanted, str) or is_class):
        raise TypeError(
            "agents.find takes type= as a class of agents, or as a type's name; "
            f"{shown(wanted)} is neither"
        )


def _is_of_type(record: AgentRecord, wanted: str | type | None) -> bool:
    """Return whether an agent in another process is of a type, told by its name."""
    kind = record.identity.type
    if wanted is None or isinstance(wanted, str):
        return wanted is None or wanted == kind
    classes = [wanted]
    for cls in classes:
        if type_name(cls) == kind:
            return True
        classes += cls.__subclasses__()
    return False


def info_of(cell: Cell) -> AgentInfo:
    """Return how an agent is doing."""
    ref: Ref[Any] = LocalRef(cell)
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
        started_at=to_datetime(cell.started_at),
        heartbeat_age=ref.heartbeat_age,
        turn=None if cell.current is None else cell.current.call.name,
        turn_age=None if cell.current is None else cell.host.now() - cell.began,
        aside=tuple(
            turn.call.name for turn in (cell.beside.running if cell.beside else ())
        ),
        waits_for=tuple(
            wait.describe_wait() for turn in cell.turns() for wait in graph.waits(turn)
        ),
        error=None if cell.error is None else repr_of(cell.error),
    )


# --- the commits about an agent -------------------------------------------------------


def plan_arrival(view: View, cell: Cell) -> Plan:
    """Announce an agent.

    Raises:
        NameTaken: An agent of this name lives in another process.
    """
    document = view.find(cell.path)
    if cell.status is Status.OFFLINE:
        return Plan()
    if document is not None and _is_elsewhere(document, cell):
        raise NameTaken(
            f"an agent called '{cell.name}' lives in another process, "
            f"{process_in(document)}: spawn it without a name or with singleton=True; "
            "if that process has died, its agents leave within SwarmConfig.process_ttl"
        )
    name, kind, role = cell.name, cell.identity.type, cell.identity.role
    return Plan(
        (Write(cell.path, record=_record(cell)),),
        (AgentRegistered(name, kind, role, cell.capabilities), AgentStarted(name)),
    )


def _is_elsewhere(document: Document | None, cell: Cell) -> bool:
    """Return whether an agent's document is gone, or is of one in another process."""
    if document is None or not cell.host.origin:
        return document is None
    return process_in(document) != cell.host.origin


def plan_status(view: View, cell: Cell) -> Plan:
    """Write down an agent's status, if that still stands."""
    document = view.find(cell.path)
    if _is_elsewhere(document, cell) or cell.status is Status.OFFLINE:
        return Plan()
    assert document is not None
    was, now = health_of(status_in(document)), health_of(cell.status)
    events: tuple[object, ...] = ()
    if was != now:
        reason = repr_of(cell.error) if now == "failed" else ""
        events = (AgentHealthChanged(cell.name, now, was, reason),)
    return Plan((Write(cell.path, record=_record(cell)),), events)


def plan_departure(view: View, cell: Cell, table: AgentTable) -> Plan:
    """Remove an agent's document, unless its successor has it, and announce its end."""
    if _is_elsewhere(view.find(cell.path), cell):
        return Plan()  # its arrival had yet to be committed, and will not be
    successor = table.cells.get(cell.name)
    is_kept = successor is not None and successor.registered
    writes = () if is_kept else (Write(cell.path),)
    return Plan(writes, (AgentStopped(cell.name, cell.reason),))


def _record(cell: Cell) -> AgentRecord:
    identity, capabilities = cell.identity, cell.capabilities
    process = cell.host.origin
    serves = served_kinds(cell.agent.__class__) if process else ()
    return AgentRecord(
        identity, capabilities, cell.started_at, cell.status, process, serves
    )
