"""The way to the agents that the registry names, in whichever process they live."""

from collections.abc import Callable
from functools import lru_cache
from typing import Any, Final

from swarm.agents import (
    REGISTRY,
    AgentRecord,
    AgentTable,
    Host,
    LocalRef,
    Ref,
    record_in,
    registry_path,
)
from swarm.model import Document
from swarm.ports import Tail, View
from swarm.processes._calls import Calls
from swarm.processes._membership import Membership


class Network:
    """The state that the refs of agents in other processes share.

    Attributes:
        host: The system around them.
        membership: This process among the others.
        calls: The requests that are not answered yet.
    """

    def __init__(
        self,
        host: Host,
        membership: Membership,
        calls: Calls,
        table: AgentTable,
        tail: Tail,
        make: "Callable[[Network, AgentRecord], Ref[Any]]",
    ) -> None:
        """Reach the agents that the registry names, by refs that `make` returns."""
        self._make = make
        self._known: dict[str, tuple[int, AgentRecord]] = {}  # decoded from JSON
        self.host: Host = host
        self.membership: Membership = membership
        self.calls: Calls = calls
        self._table = table
        self._tail = tail

    def document(self, name: str) -> Document | None:
        """Return the document of an agent, as far as is known here."""
        return self._tail.find_now(_path(name))

    def record(self, name: str) -> AgentRecord | None:
        """Return what the registry says of an agent, as far as is known here."""
        document = self.document(name)
        if document is None:
            self._known.pop(name, None)
            return None
        version, record = self._known.get(name, (0, None))
        if record is None or version != document.version:
            record = record_in(document)
            if len(self._known) >= _MANY:
                self._known.clear()
            self._known[name] = document.version, record
        return record

    def get(self, name: str) -> Ref[Any] | None:
        """Return the agent of this name that lives in another process, or None."""
        record = self.record(name)
        if record is None or not self._is_elsewhere(record):
            return None
        return self._make(self, record)

    def records(self) -> list[AgentRecord]:
        """Return what the registry says of the agents in other processes."""
        return list(filter(self._is_elsewhere, self._tail.read_now(_records)))

    def ref(self, record: AgentRecord) -> Ref[Any]:
        """Return a ref of the agent of a record."""
        return self._make(self, record)

    def _is_elsewhere(self, record: AgentRecord) -> bool:
        process = record.process
        if not process or process == self.membership.id:
            return False
        return self.membership.is_alive(process)

    def local(self, name: str) -> Ref[Any] | None:
        """Return the agent of this name if it lives in this process."""
        cell = self._table.cells.get(name)
        return None if cell is None else LocalRef(cell)


_MANY: Final = 4_096
_path: Final = lru_cache(_MANY)(registry_path)


def _records(view: View) -> list[AgentRecord]:
    return [record_in(document) for document in view.documents(REGISTRY)]
