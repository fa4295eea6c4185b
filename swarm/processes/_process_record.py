"""The document of a process, and what others derive from it. Pure."""

from collections.abc import Iterator
from functools import lru_cache
from typing import Any, Final

import attrs

from swarm.model import Document, Path, to_datetime
from swarm.ports import View

PROCESSES: Final = Path.of("global", "processes")
"""The folder of their documents."""


_WIDTH: Final = 4
_CYCLE: Final = 36**_WIDTH
"""Microseconds of the time that an id tells apart."""


@lru_cache(4_096)
def process_path(process: str) -> Path:
    """Return where the document of a process stands."""
    return PROCESSES.child(process)


def process_of(id: str) -> str:  # noqa: A002
    """Return the process that made an id of a request, grant or arrival."""
    return id.rpartition("-")[0]


@attrs.frozen
class ProcessRecord:
    """The record `global.processes.<id>`. The document expires unless it is renewed.

    Attributes:
        id: Its id, which no other process of this swarm ever has.
        host: The name of its machine.
        pid: Its number there.
        started_at: When it opened the swarm, in microseconds since 1970.
    """

    id: str
    host: str
    pid: int
    started_at: int

    def to_json(self) -> dict[str, Any]:
        """Return the document."""
        return {
            "id": self.id,
            "host": self.host,
            "pid": self.pid,
            "started_at": to_datetime(self.started_at).isoformat(),
        }

    def __str__(self) -> str:
        return f"{self.id} (pid {self.pid} on {self.host})"


def new_process_id(revision: int, now: int) -> str:
    """Return an id for a process that joins after a revision; no two share one.

    The commit of the join has a higher revision, and holds only if no other process
    has joined or left since, so no later process can see the same revision. One that
    does, because the server has lost commits, sees it at another time.
    """
    return f"p{_base36(revision)}{_base36(now % _CYCLE):0>{_WIDTH}}"


def processes_in(view: View) -> Iterator[str]:
    """Yield the ids of the processes that are alive."""
    for document in view.documents(PROCESSES):
        yield str(document.path.name)


def describe_process(document: Document | None, process: str) -> str:
    """Return a process as text, as its document tells it."""
    if document is None:
        return process
    record: Any = document.record
    if isinstance(record, ProcessRecord):
        return str(record)
    told = document.value
    return f"{process} (pid {told['pid']} on {told['host']})"


def _base36(number: int) -> str:
    digits = ""
    while number:
        number, digit = divmod(number, 36)
        digits = "0123456789abcdefghijklmnopqrstuvwxyz"[digit] + digits
    return digits or "0"
