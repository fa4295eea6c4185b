"""Publish keys of late, as the tree keeps them. Pure (E8).

`receipts.<key>` is written by the commit that publishes under the key, on condition
that it is not there. So its version is the sequence number of the event, which is all
that a duplicate is told, and two processes cannot both publish.
"""

from functools import cache
from typing import Any, Final

import attrs

from swarm.bus._documents import SCHEMA
from swarm.errors import InvalidPath
from swarm.model import Path, event_type
from swarm.ports import Write

RECEIPTS: Final = Path.of("receipts")


@attrs.frozen
class Published:
    """What `receipts.<key>` says.

    Attributes:
        type: The dotted type of the event that was published.
    """

    type: str

    def to_json(self) -> dict[str, Any]:
        """Return the document."""
        return {"schema": SCHEMA, "type": self.type}


@cache
def _published(name: str) -> Published:
    return Published(name)


def receipt_path(key: str) -> Path:
    """Return where the receipt of a key stands.

    Raises:
        InvalidPath: The key is not text, or cannot be a name in the tree.
    """
    if type(key) is not str:
        raise InvalidPath(f"a key is text, not {key!r}")
    return RECEIPTS.child(key)


def receipt(path: Path, cls: type[Any], expires: int) -> Write:
    """Return what to write with the event, so that its key is known until `expires`."""
    return Write(path, record=_published(event_type(cls)), expires=expires)
