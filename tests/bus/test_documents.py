"""Documents of the bus, as other processes and versions read them."""

import json
from typing import Any

import pytest

from swarm import OWNER, SchemaVersionError, StateCorruption
from swarm.bus._dead_letter import DeadLetter
from swarm.bus._offsets import Position
from swarm.bus._publisher import PublishRecord, key_path
from swarm.model import (
    AgentIdentity,
    Document,
    Path,
    SystemAlert,
    SystemMaintenance,
)


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
    with pytest.raises(StateCorruption, match="is not a"):
        kind.of(document(value))


@pytest.mark.parametrize("kind", [Position, DeadLetter])
def test_a_later_schema_is_refused(kind: Any) -> None:
    """Not guessed at."""
    with pytest.raises(SchemaVersionError, match="has schema 2"):
        kind.of(document({"schema": 2}))


def test_keys_of_different_types_and_publishers_are_different_documents() -> None:
    """E8: a key is known for one event type and one publisher."""
    ada = AgentIdentity("owner", "researcher", "s1", "agent")
    paths = [
        key_path(OWNER, SystemAlert("error", "a", "b"), "k"),
        key_path(ada, SystemAlert("error", "a", "b"), "k"),
        key_path(OWNER, SystemMaintenance("a", "b"), "k"),
    ]
    assert [path.text for path in paths] == [
        'receipts["system.alert"].program.k',
        'receipts["system.alert"].agent:owner.k',
        'receipts["system.maintenance"].program.k',
    ]
    assert PublishRecord("a.b").to_json() == {"schema": 1, "type": "a.b"}
