"""Migrations of stored values from each schema version to the next."""

import pytest

from swarm.errors import SchemaVersionError
from swarm.model import Migrations

STEPS = {1: lambda old: {**old, "m": 2}, 2: lambda old: {**old, "k": 3}}


def test_a_value_is_migrated_one_version_at_a_time():
    migrations = Migrations(3, STEPS)
    assert migrations.apply("it", 1, {"n": 1}) == {"n": 1, "m": 2, "k": 3}
    assert migrations.apply("it", 2, {"n": 1}) == {"n": 1, "k": 3}
    assert migrations.apply("it", 3, {"n": 1}) == {"n": 1}


@pytest.mark.parametrize(
    ("stored", "says"), [(4, "reads up to 3"), ("1", "reads up to 3"), (0, "0 to 1")]
)
def test_a_version_that_cannot_be_read_is_refused(stored, says):
    with pytest.raises(SchemaVersionError, match=f"it has schema .*{says}"):
        Migrations(3, STEPS).apply("it", stored, {})


@pytest.mark.parametrize(
    ("version", "steps", "error"),
    [
        ("3", None, TypeError),
        (-1, None, ValueError),
        (3, [dict], TypeError),
        (2, {"1": dict}, TypeError),
        (2, {1: "dict"}, TypeError),
        (4, {1: dict, 3: dict}, ValueError),
        (2, {0: dict}, ValueError),
    ],
)
def test_migrations_that_mean_nothing_are_one_typed_error(version, steps, error):
    with pytest.raises(error):
        Migrations(version, steps)
