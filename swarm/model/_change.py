"""Changes and commits: what the log is made of."""

import datetime
import enum

import attrs

from swarm.model._identity import AgentIdentity
from swarm.model._path import Path
from swarm.model._value import ABSENT, JSON, Document, to_datetime


class ChangeKind(enum.StrEnum):
    """What happened to a document."""

    CREATED = "created"
    UPDATED = "updated"
    DELETED = "deleted"
    EXPIRED = "expired"


@attrs.define(eq=False)
class Edit:
    """One document's part in a commit: the version before, and the one after.

    Attributes:
        old: The version before, or None.
        new: The version after; a deletion is a document that `is_deleted`.
        expired: Whether time, not a writer, took the document away.
    """

    old: Document | None
    new: Document
    expired: bool = False

    @property
    def kind(self) -> ChangeKind:
        """What happened."""
        if self.new.is_deleted:
            return ChangeKind.EXPIRED if self.expired else ChangeKind.DELETED
        return ChangeKind.CREATED if self.old is None else ChangeKind.UPDATED


@attrs.define(eq=False)
class Commit:
    """One entry of the log: everything that happened under one revision.

    Attributes:
        revision: Its number: larger than that of every commit before it.
        at: When, in microseconds since 1970; never decreases.
        author: Who.
        edits: The documents it wrote.
        events: The payloads it published, in order.
        size: How many bytes it keeps alive, near enough for a bound.
    """

    revision: int
    at: int
    author: AgentIdentity
    edits: tuple[Edit, ...]
    events: tuple[object, ...] = ()
    size: int = 0


@attrs.frozen(kw_only=True)
class Change:
    """What happened to one document, as watches and history show it.

    Attributes:
        path: Where.
        kind: What: created, updated, deleted or expired.
        revision: The commit it was part of; also the document's new version.
        old_version: The version before; 0 when there was none.
        old_value: A private copy of the value before, or ABSENT.
        value: A private copy of the value after, or ABSENT.
        at: When, in microseconds since 1970.
        author: Who did it.
    """

    path: str
    kind: ChangeKind
    revision: int
    old_version: int
    old_value: JSON
    value: JSON
    at: int
    author: AgentIdentity

    @property
    def timestamp(self) -> datetime.datetime:
        """When it happened, in UTC."""
        return to_datetime(self.at)

    @property
    def new_version(self) -> int:
        """The document's version after the change: the revision."""
        return self.revision


def to_change(edit: Edit, path: Path | None = None) -> Change:
    """Return what an edit looks like from outside."""
    old = edit.old
    return Change(
        path=str(edit.new.path if path is None else path),
        kind=edit.kind,
        revision=edit.new.version,
        old_version=0 if old is None else old.version,
        old_value=absent_or(old),
        value=edit.new.value,
        at=edit.new.at,
        author=edit.new.author,
    )


def absent_or(document: Document | None) -> JSON:
    """Return the document's value, or ABSENT."""
    return ABSENT if document is None else document.value
