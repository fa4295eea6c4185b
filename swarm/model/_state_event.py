"""Changes of documents, as events; each is made when it is read."""

import builtins
from collections.abc import Iterator
from typing import Any, Final, TypeVar, cast

from swarm.model._announcements import SystemConfigChanged
from swarm.model._change import ChangeKind, Commit, kind_of, living
from swarm.model._event import Event
from swarm.model._event_type import event
from swarm.model._path import Path
from swarm.model._value import ABSENT, JSON, Document

P_co = TypeVar("P_co", covariant=True)

CONFIG: Final = Path.of("global", "config")
"""The folder of settings: a write there is a `system.config_changed` event."""


@event("state.created")
class StateCreated:
    """A document came to be.

    Attributes:
        path: The path of the document.
        version: Its version: the revision that wrote it.
        value: A private copy of its value.
    """

    path: str
    version: int
    value: JSON


@event("state.updated")
class StateUpdated:
    """A document was written again.

    Attributes:
        path: The path of the document.
        version: Its new version.
        value: A private copy of its value.
        old_version: Its version before.
        old_value: A private copy of its value before.
    """

    path: str
    version: int
    value: JSON
    old_version: int
    old_value: JSON


@event("state.deleted")
class StateDeleted:
    """A document is gone.

    Attributes:
        path: The path of the document.
        old_version: Its last version.
        old_value: A private copy of its last value.
        expired: Whether its time to live ended it.
    """

    path: str
    old_version: int
    old_value: JSON
    expired: bool = False


DOCUMENT_EVENTS: Final = (
    StateCreated,
    StateUpdated,
    StateDeleted,
    SystemConfigChanged,
)
"""Events of documents; delivered only to identities that may read the document."""

_CLASSES: Final[dict[ChangeKind, type[Any]]] = {
    ChangeKind.CREATED: StateCreated,
    ChangeKind.UPDATED: StateUpdated,
    ChangeKind.DELETED: StateDeleted,
    ChangeKind.EXPIRED: StateDeleted,
}


class StateEvent(Event[P_co]):
    """An event that a changed document is. Its payload is made when it is read.

    It keeps the version before, so that it says the same when the log has moved on.
    """

    __slots__ = ("_old",)

    def __init__(self, commit: Commit, index: int, replayed: bool = False) -> None:
        """Show what became of one document of a commit that is in the log."""
        super().__init__(commit, index, replayed)
        self._old: Document | None = living(self.document.previous)

    @property
    def document(self) -> Document:
        """The version that was made."""
        commit = self._commit
        return commit.documents[
            (self._index - len(commit.events)) % len(commit.documents)
        ]

    @property
    def payload_class(self) -> builtins.type[Any]:
        """The class of its payload."""
        return _CLASSES[kind_of(self.document)]

    @property
    def payload(self) -> P_co:
        """The changes, read from the commit each time."""
        return cast(P_co, _payload_of(self.document, self._old))


def _payload_of(document: Document, old: Document | None) -> object:
    path = document.path.text
    kind = kind_of(document)
    if kind is ChangeKind.CREATED:
        return StateCreated(path, document.version, document.value)
    was = 0 if old is None else old.version
    held = None if old is None or old.value is ABSENT else old.value
    if kind is ChangeKind.UPDATED:
        return StateUpdated(path, document.version, document.value, was, held)
    return StateDeleted(path, was, held, expired=kind is ChangeKind.EXPIRED)


class ConfigEvent(StateEvent[P_co]):
    """An event that a document below `global.config` is, beside what all are.

    Its number in the commit comes after those of all documents.
    """

    __slots__ = ()

    @property
    def payload_class(self) -> builtins.type[Any]:
        """The class of its payload."""
        return SystemConfigChanged

    @property
    def payload(self) -> P_co:
        """The changes, read from the commit each time."""
        document = self.document
        path = document.path
        name = "" if path == CONFIG else path.relative_to(CONFIG).text
        told = SystemConfigChanged(name, _text(document), _text(self._old))
        return cast(P_co, told)


def _text(document: Document | None) -> str:
    """Return a document's value as JSON; "" if there is no document."""
    return "" if document is None else document.json.decode()


def document_events(
    commit: Commit, *, replayed: bool = False
) -> Iterator[StateEvent[Any]]:
    """Yield the events that a commit's documents are, in order."""
    first = len(commit.events)
    documents = commit.documents
    for index in range(first, first + len(documents)):
        yield StateEvent(commit, index, replayed)
    for index, document in enumerate(documents, first + len(documents)):
        if document.path.within(CONFIG):
            yield ConfigEvent(commit, index, replayed)
