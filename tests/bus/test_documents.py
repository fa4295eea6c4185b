"""What the bus writes into the tree, as other processes and versions read it."""

import json
from typing import Any

import pytest

from swarm import OWNER, SchemaVersionError, StateCorruption
from swarm.bus._letter import DeadLetter
from swarm.bus._position import Position
from swarm.bus._receipts import receipt, receipt_path
from swarm.model import Document, Path, SystemAlert


def document(value: Any, record: Any = None) -> Document:
    path = Path.parse("subscriptions.x")
    body = None if record is not None else json.dumps(value).encode()
    return Document(path, body, record, 5, 5, 0, OWNER)


@pytest.mark.parametrize(
    "position", [Position((7, -1)), Position((7, 2), (((9, 0), (12, 3)),))]
)
def test_a_position_is_read_as_it_was_written(position: Position) -> None:
    """From its JSON, and from the record itself."""
    assert Position.of(document(position.to_json())) == position
    assert Position.of(document(None, position)) is position


@pytest.mark.parametrize("kind", [Position, DeadLetter])
@pytest.mark.parametrize("value", [None, 5, "x", [], {}, {"schema": 1}])
def test_something_else_is_corruption(kind: Any, value: Any) -> None:
    """Damage is never taken for a record."""
    with pytest.raises(StateCorruption, match="is no"):
        kind.of(document(value))


@pytest.mark.parametrize("kind", [Position, DeadLetter])
def test_a_later_schema_is_refused(kind: Any) -> None:
    """Not guessed at."""
    with pytest.raises(SchemaVersionError, match="has schema 2"):
        kind.of(document({"schema": 2}))


def test_a_receipt_is_shared_by_all_of_a_class() -> None:
    """It costs one record for each type of event, and a document for each key."""
    one = receipt(receipt_path("a"), SystemAlert, 5)
    two = receipt(receipt_path("b"), SystemAlert, 9)
    assert one.record is two.record
    assert one.record.to_json() == {"schema": 1, "type": "system.alert"}
    assert (one.expires, two.path.text) == (5, "receipts.b")
