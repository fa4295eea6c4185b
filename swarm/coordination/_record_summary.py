"""What of a record is read without making its grants and requests. Pure."""

from typing import Final

import attrs
import orjson

from swarm.coordination._grants import NEVER
from swarm.model import Document

_HOLDERS: Final = b'"holders":['
_QUEUE: Final = b'],"queue":['
_OPENS: Final = b'],"opens_at":'
"""The marks between the parts of a record, in the order of `LeaseState.to_json`."""


@attrs.frozen
class RecordSummary:
    """What of a record is read without making its grants and requests.

    Attributes:
        ends: When each holder ends, by its id, in kernel time.
        queue: The JSON of the queue.
        opens_at: From when on it is granted again, in kernel time; 0: now.
    """

    ends: dict[str, int]
    queue: bytes
    opens_at: int

    def first_end(self) -> tuple[int, str]:
        """Return when the next grant ends, and its id."""
        ends = [(at, id) for id, at in self.ends.items()]  # noqa: A001
        return min(ends, default=(NEVER, ""))

    def is_waiting(self, id: str) -> bool:  # noqa: A002
        """Return whether a request is in the queue."""
        return b'"id":"%b"' % id.encode() in self.queue

    def has_request_of(self, process: str) -> bool:
        """Return whether a process has a request in the queue."""
        return b'"id":"%b-' % process.encode() in self.queue


def summarize(document: Document) -> RecordSummary:
    """Return a summary of a record.

    Inside JSON texts a quote has a backslash in front, so the marks are found at the
    keys alone.
    """
    body = document.json
    begin, queue, end = map(body.index, (_HOLDERS, _QUEUE, _OPENS))
    held = orjson.loads(body[begin + len(_HOLDERS) - 1 : queue + 1])
    return RecordSummary(
        {each["id"]: each["expires"] for each in held},
        body[queue + len(_QUEUE) : end],
        int(body[end + len(_OPENS) : body.index(b"}", end)]),
    )
