"""What the records of the bus have in common, as documents of the tree. Pure."""

from collections.abc import Callable
from typing import Any, Final, TypeVar

from swarm.errors import SchemaVersionError, StateCorruption
from swarm.model import Document

R = TypeVar("R")

SCHEMA: Final = 1
"""The version of every record the bus writes."""


def revision_of(document: Document | None) -> int:
    """Return a document's version, 0 when there is none."""
    return 0 if document is None else document.version


def read_record(
    document: Document, kind: type[R], build: Callable[[dict[str, Any]], R]
) -> R:
    """Return the record that a document holds, built from its JSON if need be.

    Raises:
        SchemaVersionError: A later version of swarm wrote it.
        StateCorruption: It is no such record.
    """
    if isinstance(document.record, kind):
        return document.record
    told = document.value
    schema = told.get("schema") if isinstance(told, dict) else None
    if schema != SCHEMA and schema is not None:
        raise SchemaVersionError(
            f"{document.path} has schema {schema}; this is {SCHEMA}"
        )
    try:
        return build(told)
    except (KeyError, TypeError, ValueError) as error:
        raise StateCorruption(
            f"{document.path} is no {kind.__name__}: {error!r}"
        ) from None
