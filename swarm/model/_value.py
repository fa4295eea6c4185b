"""Values and documents, and the markers for absence."""

import datetime
import hashlib
from collections.abc import Callable
from typing import Any, Final, Generic, TypeAlias, TypeVar, cast, final

import attrs
import orjson

from swarm.model._checks import brief
from swarm.model._identity import AgentIdentity, Priority
from swarm.model._path import Path, Segment

JSON: TypeAlias = Any
"""A JSON value: None, bool, int, float, str, and lists and str-keyed dicts of them."""

T_co = TypeVar("T_co", covariant=True)


@final
class Sentinel:
    """A marker that is not a value."""

    __slots__ = ("_name",)

    def __init__(self, name: str) -> None:
        """Be known as `name`."""
        self._name = name

    def __repr__(self) -> str:
        return self._name

    def __bool__(self) -> bool:
        raise TypeError(f"{self._name} is neither true nor false; compare with `is`")


ABSENT: Final = Sentinel("ABSENT")
"""Nothing stands here. `None` is a value; this is its absence."""

DELETE: Final = Sentinel("DELETE")
"""In a merge: take this key away."""

DOCUMENT_BYTES: Final = 256
"""Bytes that a document keeps in memory besides its body, measured."""

MICRO: Final = 1_000_000
"""Microseconds in a second: records count time in these."""

EPOCH: Final = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)


def to_datetime(at: int) -> datetime.datetime:
    """Return integer microseconds since 1970 as an aware datetime in UTC."""
    return EPOCH + datetime.timedelta(microseconds=at)


def from_datetime(time: datetime.datetime) -> int:
    """Return an aware datetime as integer microseconds since 1970.

    Raises:
        ValueError: It has no time zone.
    """
    if time.tzinfo is None:
        raise ValueError(f"{time} has no time zone; use an aware datetime")
    return (time - EPOCH) // datetime.timedelta(microseconds=1)


def kept_json(value: JSON) -> bytes:
    """Return a value as JSON, in an object of the right size.

    What orjson returns keeps its buffer of 4 KiB occupied for as long as it lives.
    """
    return orjson.dumps(value, option=orjson.OPT_APPEND_NEWLINE)[:-1]


@attrs.define(eq=False)
class Document:
    """One version of one document. Never changed once it is committed.

    Not a frozen attrs class only because every write makes one: assigning through
    `object.__setattr__` would triple what that costs. `previous` alone is cleared
    when the log lets go of the older version.

    Attributes:
        path: The path of the document.
        body: Its canonical JSON, or None while only `record` exists, or on deletion.
        record: A record of swarm's own, written out only when bytes are needed.
        version: The revision of the commit that wrote it.
        created: The revision that made the document (again, after a deletion).
        at: The time of the commit, in microseconds since 1970.
        author: The identity that wrote it.
        priority: The weight of the write, for `higher-priority-wins`.
        expires: Its end, in kernel time (microseconds), or None.
        previous: The version before it, while the log still holds it.
    """

    path: Path
    body: bytes | None
    record: Any
    version: int
    created: int
    at: int
    author: AgentIdentity
    priority: int = Priority.NORMAL
    expires: int | None = None
    previous: "Document | None" = None

    @property
    def is_deleted(self) -> bool:
        """Whether this version says that the document is gone."""
        return self.body is None and self.record is None

    @property
    def json(self) -> bytes:
        """Its canonical JSON; b"" for a deletion."""
        if self.body is None:
            if self.record is None:
                return b""
            self.body = kept_json(self.record.to_json())
        return self.body

    @property
    def value(self) -> JSON:
        """A fresh copy of its value; ABSENT for a deletion."""
        body = self.json
        return orjson.loads(body) if body else ABSENT

    @property
    def size(self) -> int:
        """Approximate number of bytes that the value keeps in memory."""
        if self.record is None:
            return DOCUMENT_BYTES + (0 if self.body is None else len(self.body))
        weight: int = getattr(self.record, "weight", 0)
        return 2 * DOCUMENT_BYTES + weight


class Versioned(Generic[T_co]):
    """A value and where it comes from. Immutable; the value is a private copy."""

    __slots__ = ("_document", "_rest", "_structure", "_value")

    def __init__(
        self,
        document: Document,
        rest: tuple[Segment, ...] = (),
        structure: Callable[[JSON], T_co] | None = None,
    ) -> None:
        """Show what stands at `rest` inside `document`, structured when asked for."""
        self._document = document
        self._rest = rest
        self._structure = structure
        self._value: Any = ABSENT

    @property
    def value(self) -> T_co:
        """The value, decoded once; of a typed key, the typed one."""
        if self._value is ABSENT:
            value = dig(self._document.value, self._rest)
            self._value = value if self._structure is None else self._structure(value)
        return cast(T_co, self._value)

    @property
    def version(self) -> int:
        """The revision that wrote the document; pass it as `expected_version`."""
        return self._document.version

    @property
    def modified_at(self) -> datetime.datetime:
        """When the document was written, in UTC."""
        return to_datetime(self._document.at)

    @property
    def modified_by(self) -> AgentIdentity:
        """The identity that wrote the document."""
        return self._document.author

    @property
    def checksum(self) -> str:
        """SHA-256 of the value's canonical JSON (sorted keys), in hex."""
        return checksum(dig(self._document.value, self._rest))

    def __repr__(self) -> str:
        return (
            f"Versioned({brief(self.value)}, version={self.version}, "
            f"modified_by={str(self.modified_by)!r})"
        )

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, Versioned)
            and self.version == other.version
            and bool(self.value == other.value)
        )

    def __hash__(self) -> int:
        return hash(self.version)


def dig(value: JSON, rest: tuple[Segment, ...]) -> JSON:
    """Return what stands at `rest` inside `value`, or ABSENT."""
    for segment in rest:
        if type(value) is dict and type(segment) is str:
            value = value.get(segment, ABSENT)
        elif type(value) is list and type(segment) is int and segment < len(value):
            value = value[segment]
        else:
            return ABSENT
    return value


def canonical(value: JSON) -> bytes:
    """Return the one encoding of a value: sorted keys; 1, 1.0 and True differ."""
    return orjson.dumps(value, option=orjson.OPT_SORT_KEYS)


def checksum(value: JSON) -> str:
    """Return the SHA-256 of the value's canonical encoding, in hex."""
    return hashlib.sha256(canonical(value)).hexdigest()
