"""Changes and commits: what the log is made of."""

import datetime
import enum
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import attrs

from swarm.model._cause import Cause
from swarm.model._checks import brief
from swarm.model._displayable import Displayable
from swarm.model._identity import TIME, AgentIdentity
from swarm.model._path import Segment
from swarm.model._value import (
    ABSENT,
    JSON,
    Document,
    canonical,
    dig,
    to_datetime,
)


class ChangeKind(enum.StrEnum):
    """The kinds of change of a document."""

    CREATED = "created"
    UPDATED = "updated"
    DELETED = "deleted"
    EXPIRED = "expired"


Announcement: TypeAlias = tuple[Callable[..., object], *tuple[Any, ...]]
"""An event that is not made yet: the payload's class or function, and its arguments.
Few events of locks and tasks are ever read, and a payload costs more than the
commit's own entry in the log, so it is made on the first read."""


@attrs.define(eq=False)
class Commit:
    """One entry of the log: everything that happened under one revision.

    Attributes:
        revision: Its number: larger than that of every commit before it.
        at: The time, in microseconds since 1970; never decreases.
        author: The identity that made the commit.
        documents: The versions it made; the one before each is its `previous`.
        size: The bytes that the log keeps in memory for it, about.
        cause: The activity that it is a consequence of; None: it came from outside.
        key: The key its event was published under, or None.
        announced: The events that are not made yet; none once `events` was read.
    """

    revision: int
    at: int
    author: AgentIdentity
    documents: tuple[Document, ...]
    _events: tuple[object, ...] = ()
    size: int = 0
    cause: Cause | None = None
    key: str | None = None
    announced: Sequence[Announcement] = ()

    @property
    def has_events(self) -> bool:
        """Whether it published something, known without making the payloads."""
        return bool(self.announced or self._events)

    @property
    def event_count(self) -> int:
        """Number of published payloads, known without making them."""
        return len(self.announced or self._events)

    @property
    def events(self) -> tuple[object, ...]:
        """The payloads it published, in order."""
        if self.announced:
            self._events = tuple([make(*given) for make, *given in self.announced])
            self.announced = ()
        return self._events


@attrs.frozen(kw_only=True)
class Change(Displayable):
    """A change of one document, as watches and history show it.

    Attributes:
        path: The place that has changed.
        kind: Created, updated, deleted or expired.
        revision: The revision of the commit.
        old_version: The version before; 0: absent.
        new_version: The version after; 0: absent.
        old_value: A private copy of the value before, or ABSENT.
        value: A private copy of the value after, or ABSENT.
        at: The time, in microseconds since 1970.
        author: The identity that made the commit.
    """

    path: str
    kind: ChangeKind
    revision: int
    old_version: int
    new_version: int
    old_value: JSON = attrs.field(repr=brief)
    value: JSON = attrs.field(repr=brief)
    at: int
    author: AgentIdentity

    @property
    def timestamp(self) -> datetime.datetime:
        """When it happened, in UTC."""
        return to_datetime(self.at)


class ChangeList(list[Change], Displayable):
    """Changes of one place, oldest first: a list, which a notebook shows as diffs."""

    __slots__ = ()


def living(document: Document | None) -> Document | None:
    """Return the document, or None if it is a deletion."""
    return None if document is None or document.is_deleted else document


def kind_of(document: Document) -> ChangeKind:
    """Return the kind of change that made this version."""
    if document.is_deleted:
        return ChangeKind.EXPIRED if document.author == TIME else ChangeKind.DELETED
    if document.created == document.version:
        return ChangeKind.CREATED
    return ChangeKind.UPDATED


def to_change(document: Document) -> Change:
    """Return the change that made this version."""
    old = living(document.previous)
    return Change(
        path=document.path.text,
        kind=kind_of(document),
        revision=document.version,
        old_version=0 if old is None else old.version,
        new_version=0 if document.is_deleted else document.version,
        old_value=ABSENT if old is None else old.value,
        value=document.value,
        at=document.at,
        author=document.author,
    )


def narrow(change: Change, path: str, rest: tuple[Segment, ...]) -> Change | None:
    """Return the change of one place inside a document, or None: it has not changed."""
    old, new = dig(change.old_value, rest), dig(change.value, rest)
    if old is new or (
        old is not ABSENT and new is not ABSENT and canonical(old) == canonical(new)
    ):
        return None
    if old is ABSENT:
        kind = ChangeKind.CREATED
    elif new is ABSENT:
        expired = change.kind is ChangeKind.EXPIRED
        kind = ChangeKind.EXPIRED if expired else ChangeKind.DELETED
    else:
        kind = ChangeKind.UPDATED
    return attrs.evolve(
        change,
        path=path,
        kind=kind,
        old_value=old,
        value=new,
        old_version=0 if old is ABSENT else change.old_version,
        new_version=0 if new is ABSENT else change.revision,
    )
