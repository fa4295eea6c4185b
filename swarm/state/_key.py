"""Typed keys: a path, and what kind of value stands there."""

from collections.abc import Callable, Mapping
from copy import deepcopy
from typing import Any, Final, Generic, TypeVar, cast

from swarm.errors import InvalidValue
from swarm.model import ABSENT, JSON, Migrations, Path, shown
from swarm.ports import misfit, structuring

T = TypeVar("T")

SCHEMA_VERSION: Final = "schema_version"
_PLAIN: Final = (str, int, bool, float, list, dict, type(None))

Migration = Callable[[dict[str, Any]], dict[str, Any]]
"""From an object of one schema version to one of the next."""


class Key(Generic[T]):
    """A path whose value has a type: `TITLE = Key("plan.title", str, default="")`.

    `state.get(TITLE)` is a `str` for type checkers and is checked when it is read and
    written. Plain JSON types are taken as they are; attrs classes, dataclasses,
    enums, datetimes and the like are structured by cattrs.

    A key with a `version` stores it as `schema_version` in the object, and reads
    older objects through `migrations`, one step from each version to the next. An
    object that was stored without a version has version 0.
    """

    __slots__ = ("_default", "_migrations", "_type", "path")

    def __init__(
        self,
        path: str,
        kind: type[T],
        *,
        default: T | Any = ABSENT,
        version: int | None = None,
        migrations: Mapping[int, Migration] | None = None,
    ) -> None:
        """Mean the value of type `kind` at `path`.

        Raises:
            InvalidPath: The path cannot be read.
            TypeError: The kind is a text, or the version is not a whole number.
            ValueError: There are migrations but no version, or a step is missing.
        """
        Path.parse(path)
        if isinstance(kind, str):
            raise TypeError(
                f"a key takes a type, as in Key({path!r}, int), not {kind!r}"
            )
        self.path: str = path
        self._type = kind
        self._default = default
        if version is None and migrations:
            raise ValueError("a key with migrations has a version")
        self._migrations = None if version is None else Migrations(version, migrations)

    @property
    def has_default(self) -> bool:
        """Whether there is a default for when nothing stands there."""
        return self._default is not ABSENT

    @property
    def default(self) -> T:
        """The value that `get` returns when there is no document: a copy each time."""
        return cast(T, deepcopy(self._default))

    def __repr__(self) -> str:
        return f"Key({self.path!r}, {getattr(self._type, '__name__', self._type)})"

    def structure(self, value: JSON) -> T:
        """Return a stored value as the key's type.

        Raises:
            InvalidValue: It is not of that type.
            SchemaVersionError: It was written by a newer program, or no migration
                leads from its version to this one.
        """
        if self._migrations is not None:
            if type(value) is not dict:
                raise InvalidValue(f"{self.path} holds no object")
            stored = value.pop(SCHEMA_VERSION, 0)
            value = self._migrations.apply(self.path, stored, value)
        return cast(T, _convert(value, self._type, self.path, structure=True))

    def unstructure(self, value: T) -> JSON:
        """Return a value of the key's type as it is stored.

        Raises:
            InvalidValue: It is not of that type.
        """
        plain = _convert(value, self._type, self.path, structure=False)
        if self._migrations is None:
            return plain
        if type(plain) is not dict:
            raise InvalidValue(f"{self.path} has a schema version, so it holds objects")
        return {**plain, SCHEMA_VERSION: self._migrations.version}


def _convert(value: Any, kind: Any, path: str, *, structure: bool) -> Any:
    """Turn a value into `kind` (structure) or back (unstructure), or refuse it."""
    if kind is Any:
        return value
    if kind in _PLAIN:
        if kind is float and type(value) is int:
            return float(value)
        if type(value) is not kind:
            raise InvalidValue(_mismatch(path, kind, value))
        return value
    converter = structuring()
    try:
        if structure:
            return converter.structure(value, kind)
        plain = converter.unstructure(value, unstructure_as=kind)
        converter.structure(plain, kind)
    except Exception as error:
        why = f"{_mismatch(path, kind, value)}: {misfit(error)}"
        raise InvalidValue(why) from error
    return plain


def _mismatch(path: str, kind: Any, value: Any) -> str:
    wanted = getattr(kind, "__name__", kind)
    return f"{path} holds {wanted}; {shown(value)} is {type(value).__name__}"
