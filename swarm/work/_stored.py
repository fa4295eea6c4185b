"""Records that are stored as JSON, field by field. Pure."""

from typing import Any, Final, TypeVar

from swarm.errors import SchemaVersionError
from swarm.model import Document, Path, kept_json
from swarm.ports import Write, structuring

T = TypeVar("T")

VERSION: Final = 1
"""The version of the form of these records."""


def stored(path: Path, record: Any) -> Write:
    """Return what writes a record, which is never changed from then on."""
    value = structuring().unstructure(record)
    return Write(path, kept_json({**value, "version": VERSION}), record)


def loaded(document: Document | None, cls: type[T]) -> T | None:
    """Return the record in a document; None without one."""
    if document is None or document.is_deleted:
        return None
    if document.record.__class__ is not cls:
        value = document.value
        version = value.pop("version")
        if version > VERSION:
            raise SchemaVersionError(
                f"{document.path} has schema version {version}; this program reads up "
                f"to {VERSION}"
            )
        document.record = structuring().structure(value, cls)
    record: T = document.record
    return record
