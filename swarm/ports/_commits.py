"""Parts of a commit: the view of a rule, its plan, and conditions."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final, Protocol, TypeAlias

import attrs

from swarm.errors import StaleLease, SwarmError
from swarm.model import Announcement, Document, Path, Sentinel


class View(Protocol):
    """The tree at one revision, as a rule sees it. Reading it never waits."""

    @property
    def revision(self) -> int:
        """The newest revision in it."""
        ...

    @property
    def now(self) -> int:
        """Kernel time in microseconds: never goes back; leases and TTLs are in it."""
        ...

    def find(self, path: Path) -> Document | None:
        """Return the document at `path` or around it, or None.

        The document's own path says where it stands; the rest of `path` is inside.
        """
        ...

    def documents(self, folder: Path) -> Iterable[Document]:
        """Yield the documents below `folder`, in path order."""
        ...

    def below(self, folder: Path) -> list[Document]:
        """Return the documents below `folder` in no order, which is quick for many."""
        ...


@attrs.define
class Write:
    """One document to be written, whole.

    Attributes:
        path: The path of the document; names only, no index.
        body: Its JSON, or None with no `record` either: delete it.
        record: A frozen record of swarm's own with a `to_json()`, in place of JSON; or,
            beside it, the record that the JSON describes.
        expires: The kernel time at which it ends, or None: it stays.
        priority: The weight of the write, for `higher-priority-wins`.
    """

    path: Path
    body: bytes | None = None
    record: Any = None
    expires: int | None = None
    priority: int = 1


@attrs.define
class Plan:
    """The decision of a rule: written as a whole, or not at all.

    Attributes:
        writes: The documents, each at most once.
        events: The payloads to publish with them.
        outcome: The result for the caller.
        is_unbounded: Whether the writes may be more than `Limits` allow in one batch:
            only for a snapshot that is restored.
    """

    writes: Sequence[Write] = ()
    events: Sequence[object] = ()
    outcome: Any = None
    is_unbounded: bool = False


KEEP: Final = Sentinel("KEEP")
"""In a ruling: the record stays as it is."""

Ruling: TypeAlias = tuple[Any, Sequence[Announcement], Any]
"""The decision of the rule of one record: the new record (a frozen one with a
`to_json()`, None: it goes, KEEP: it stays), the events to publish with it, and what
the caller gets. A tuple, for one is made by every grant of a lock."""


@attrs.frozen
class Expect:
    """A condition: the document at `path` has this version (0: it is absent)."""

    path: Path
    version: int


@attrs.frozen
class ExpectFolder:
    """A condition: nothing at or below `folder` has changed since `revision`."""

    folder: Path
    revision: int


_DECODERS: Final[dict[str, Callable[[Document], Any]]] = {}


def decode_holders(folder: str, decode: Callable[[Document], Any]) -> None:
    """Have `holder_record` read the records below `folder` with `decode`."""
    _DECODERS[folder] = decode


def holder_record(document: Document) -> Any:
    """Return the record in a document that a `Holder` condition names, or None.

    A document that comes from a store or a server has no record, only JSON.
    """
    if document.record is not None:
        return document.record
    for folder, decode in _DECODERS.items():
        if document.path.text.startswith(folder):
            return decode(document)
    return None


@attrs.frozen
class Holder:
    """A condition: this lease or claim is a live holder in the record at `path`.

    The record must have `check_holder(id, token, now)`, a pure function that raises
    `StaleLease` or `StaleClaim`; `now` is kernel time in microseconds.

    Attributes:
        path: Where the record stands.
        id: The id of the grant or claim.
        token: Its fencing token.
        error: The error to raise when no record stands at `path`.
    """

    path: Path
    id: str
    token: int
    error: type[SwarmError] = StaleLease


Condition: TypeAlias = Expect | ExpectFolder | Holder
"""A requirement of the step that writes, or nothing is written. Conditions are data,
so that a kernel on a server can check them."""


class Guard(Protocol):
    """Something that must still hold when a write is committed, such as a lease."""

    def conditions(self) -> Sequence[Condition]:
        """Return what to check in the step that writes.

        Raises:
            Exception: It is known already that it does not hold.
        """
        ...
