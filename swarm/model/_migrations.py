"""Migrations: from each schema version of a value to the next one. Pure."""

from collections.abc import Callable, Mapping
from typing import Any

from swarm.errors import SchemaVersionError
from swarm.model._checks import check_whole, shown


class Migrations:
    """A schema version, and how older values become values of it, step by step.

    Attributes:
        version: The newest version, that of values which are stored now.
    """

    __slots__ = ("_steps", "version")

    def __init__(
        self, version: int, steps: Mapping[int, Callable[[Any], Any]] | None = None
    ) -> None:
        """Lead to `version`; each step leads from the version that it stands under.

        Raises:
            TypeError: The version is not a whole number, or the steps are not a dict of
                functions by version.
            ValueError: A version is below 0, or a step between two versions is missing.
        """
        check_whole("a schema version", version, 0)
        if not isinstance(steps, Mapping | None):
            raise TypeError(f"migrations is a dict, not {shown(steps)}")
        self.version: int = version
        self._steps = dict(steps or {})
        for older, step in self._steps.items():
            check_whole("the version that a migration leads from", older, 0)
            if not callable(step):
                raise TypeError(f"a migration is a function, not {shown(step)}")
        given = sorted(self._steps)
        if given and given != list(range(given[0], version)):
            raise ValueError(
                "migrations lead from each version to the next, up to the newest"
            )

    def apply(self, what: str, stored: object, value: Any) -> Any:
        """Return a value of the version `stored` as one of the newest version.

        Raises:
            SchemaVersionError: A newer program stored the value, or no migration leads
                from its version. The message begins with `what`.
        """
        if type(stored) is not int or stored > self.version:
            raise SchemaVersionError(
                f"{what} has schema version {stored}; "
                f"this program reads up to {self.version}"
            )
        for older in range(stored, self.version):
            if older not in self._steps:
                raise SchemaVersionError(
                    f"{what} has schema version {stored}, and no migration leads from "
                    f"{older} to {older + 1}"
                )
            value = self._steps[older](value)
        return value
