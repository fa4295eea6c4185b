"""A summary of a record, without its grant and request objects. Pure."""

from functools import lru_cache

import attrs
import orjson

from swarm.coordination._grants import NEVER
from swarm.model import Document


@attrs.frozen
class RecordSummary:
    """The ends, waiting requests and opening time of a record.

    Attributes:
        ends: When each holder ends, by its id, in kernel time.
        waiting: The ids of the requests in the queue, in order.
        opens_at: From when on it is granted again, in kernel time; 0: now.
    """

    ends: dict[str, int]
    waiting: tuple[str, ...]
    opens_at: int

    def first_end(self) -> tuple[int, str]:
        """Return when the next grant ends, and its id."""
        ends = [(at, id) for id, at in self.ends.items()]  # noqa: A001
        return min(ends, default=(NEVER, ""))

    def has_request_of(self, process: str) -> bool:
        """Return whether a process has a request in the queue."""
        return any(id.startswith(f"{process}-") for id in self.waiting)  # noqa: A001


@lru_cache(maxsize=1)  # two parts of a process ask for one after the other
def summarize(document: Document) -> RecordSummary:
    """Return a summary of a record.

    Making all grants and requests of a record takes ten times as long, and each process
    hears each commit.
    """
    value = orjson.loads(document.json)
    return RecordSummary(
        {each["id"]: each["expires"] for each in value["holders"]},
        tuple(each["id"] for each in value["queue"]),
        value["opens_at"],
    )
