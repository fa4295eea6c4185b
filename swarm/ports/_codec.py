"""The codec: values to bytes and back, with everything refused that is not JSON."""

import enum
import gc
import math
import sys
from collections.abc import Callable, Iterable
from typing import Any, Final

import attrs
import orjson

from swarm.errors import InvalidValue, LimitExceeded
from swarm.model import JSON

HARD_DOCUMENT_BYTES: Final = 16 * 1024 * 1024
_ORJSON_DEPTH: Final = 254  # orjson's own recursion limit, not configurable
_WIDE: Final = 512
"""Objects of one level of a value that are worth a look at their types."""
_OPTIONS: Final = (
    orjson.OPT_APPEND_NEWLINE
    | orjson.OPT_PASSTHROUGH_DATACLASS
    | orjson.OPT_PASSTHROUGH_DATETIME
    | orjson.OPT_PASSTHROUGH_SUBCLASS
)


@attrs.frozen(kw_only=True)
class Limits:
    """Bounds of documents, commits and the log.

    Crossing a bound of a document or commit is a `LimitExceeded` that names it.

    Attributes:
        document_bytes: The size of one document's JSON; at most 16 MiB.
        depth: How deep lists, tuples and dicts may nest; at most 254.
        batch_writes: The number of documents that one commit may write.
        batch_bytes: The number of bytes that one commit may write.
        log_commits: The number of commits that the log keeps.
        log_bytes: The bytes that commits in the log keep in memory, about.
        log_seconds: The age up to which the log keeps a commit.
        held_commits: The number of commits that the log keeps at most while a named
            subscription has yet to handle them.
        held_bytes: The bytes that those keep in memory at most, about.
    """

    document_bytes: int = attrs.field(default=1024 * 1024)
    depth: int = attrs.field(default=64)
    batch_writes: int = attrs.field(default=1_000)
    batch_bytes: int = attrs.field(default=16 * 1024 * 1024)
    log_commits: int = attrs.field(default=4_096)
    log_bytes: int = attrs.field(default=64 * 1024 * 1024)
    log_seconds: float = attrs.field(default=3600.0)
    held_commits: int = attrs.field(default=65_536)
    held_bytes: int = attrs.field(default=256 * 1024 * 1024)

    def __attrs_post_init__(self) -> None:
        """Refuse limits that cannot be kept."""
        for name, most in (
            ("document_bytes", HARD_DOCUMENT_BYTES),
            ("depth", _ORJSON_DEPTH),
            ("batch_writes", None),
            ("batch_bytes", None),
            ("log_commits", None),
            ("log_bytes", None),
            ("log_seconds", None),
            ("held_commits", None),
            ("held_bytes", None),
        ):
            limit = getattr(self, name)
            if not 0 < limit < math.inf or (most is not None and limit > most):
                bound = "above 0 and finite" if most is None else f"from 1 to {most}"
                raise ValueError(f"Limits.{name} must be {bound}, not {limit!r}")


class Codec:
    """Encodes values once on their way in; decoding is `orjson.loads`.

    orjson refuses cycles, unknown types, keys that are not text and integers beyond
    64 bits by itself. The codec refuses what orjson lets through: NaN and infinity,
    which it writes as null, and nesting beyond the limit. Nested tuples are the reason
    to look at the depth first: orjson does not count them, and its buffer overflows.
    Tuples and subclasses of list come back as lists, enum members as their values and
    UUIDs as text.
    """

    def __init__(self, limits: Limits) -> None:
        """Encode within `limits`."""
        self._bytes = limits.document_bytes
        self._depth = limits.depth

    def encode(self, value: JSON) -> bytes:
        """Return the value as JSON.

        Raises:
            InvalidValue: The value is not JSON; says what and where.
            LimitExceeded: The value is too large or too deep; names the limit.
        """
        inside = _inside(value)
        if inside:
            inside = _inside(*inside)
            if inside or self._depth == 1:  # it is not flat
                self._bound_depth(value, inside)
        try:
            # The slice takes the newline off, and makes an object of the right size:
            # what orjson returns keeps its buffer of 4 KiB occupied.
            body = orjson.dumps(value, _as_list, _OPTIONS)[:-1]
        except TypeError as error:  # orjson.JSONEncodeError is a TypeError
            raise self._explain(value, error) from None
        if len(body) > self._bytes:
            raise self._too_large(len(body))
        if body.rfind(b"null") >= 0 and not _is_finite(value):
            raise self._explain(value, TypeError("a number is not finite"))
        return body

    def _bound_depth(self, value: JSON, level: list[Any]) -> None:
        """Refuse a value that nests too deep; `level` is what lies two steps inside.

        The garbage collector's view is the fastest: it takes no Python step for each
        item. It also leads from an enum member into its class and on. Then, and when
        the depth is near the limit, the value is measured exactly.
        """
        depth = 2
        while level or depth > self._depth:
            if depth >= self._depth:
                self._check_depth(value)
                return
            if len(level) > _WIDE:
                if not _PLAIN.issuperset(map(type, level)):
                    self._check_depth(value)
                    return
                if len(level) > self._bytes:  # each takes a byte or more
                    raise self._endless(value, self._too_large(len(level)))
            level = _inside(*level)
            depth += 1

    def _check_depth(self, value: JSON) -> None:
        """Refuse a value whose lists, tuples and dicts nest beyond the limit."""
        level = _containers((value,))
        depth = 0
        while level:
            depth += 1
            if depth > self._depth:
                raise self._endless(value, self._too_deep())
            if len(level) > self._bytes:
                raise self._endless(value, self._too_large(len(level)))
            level = [
                inner
                for outer in level
                for inner in _containers(
                    outer.values() if isinstance(outer, dict) else outer
                )
            ]

    def _endless(self, value: JSON, error: LimitExceeded) -> Exception:
        """Return the error of a value beyond a limit, which may contain itself."""
        return self._explain(value, TypeError()) if _is_cyclic(value) else error

    def _too_large(self, size: int) -> LimitExceeded:
        return LimitExceeded(
            f"a document holds at most {self._bytes} bytes (Limits.document_bytes); "
            f"this one has {size} or more"
        )

    def _too_deep(self) -> LimitExceeded:
        return LimitExceeded(f"a value nests at most {self._depth} deep (Limits.depth)")

    def _explain(self, value: JSON, error: TypeError) -> Exception:
        found = _find(value, _what_is_wrong, ())
        if found is None:
            is_depth = "recursion" in str(error).lower()
            return (
                self._too_deep()
                if is_depth
                else InvalidValue(f"not a JSON value: {error}")
            )
        where, why = found
        place = "".join(f"[{step!r}]" for step in where)
        if why == _CYCLE and not _is_cyclic(value):
            return self._too_deep()
        return InvalidValue(
            f"not a JSON value: {f'at {place}, ' if place else ''}{why}"
        )


_PLAIN: Final = frozenset((str, int, float, bool, type(None), list, tuple, dict))
_CYCLE: Final = "the value contains itself"


def _look_inside(*objects: object) -> list[Any]:
    """Return what lies in dicts, lists, tuples and enum members, one step inside."""
    found: list[Any] = []
    for each in objects:
        if isinstance(each, dict):
            found += each
            found += each.values()
        elif isinstance(each, (list, tuple)):
            found += each
        elif isinstance(each, enum.Enum):
            found.append(each.value)
    return found


# Before Python 3.12.6 the collector's view of the module `_asyncio` corrupts memory
# (CPython issue 122695), and a value that is not JSON can lead there.
_inside: Final[Callable[..., list[Any]]] = (
    _look_inside if (3, 12) <= sys.version_info < (3, 12, 6) else gc.get_referents
)


def _as_list(value: object) -> list[Any]:
    """Return a list of a class of its own, such as that of `gather`, as a list."""
    if isinstance(value, list):
        return list(value)
    raise TypeError(type(value).__name__)


def _containers(items: Iterable[Any]) -> list[Any]:
    """Return the items that hold others, an enum member standing for its value."""
    found = []
    for item in items:
        each = item.value if isinstance(item, enum.Enum) else item
        if isinstance(each, (dict, list, tuple)):
            found.append(each)
    return found


def _is_finite(value: object) -> bool:
    """Return whether every float in a value is a number JSON can hold."""
    level: list[Any] = [value]
    for _ in range(_ORJSON_DEPTH):
        for item in level:
            if item.__class__ is float and item - item != 0.0:
                return _is_finite_walk(value)  # it may be a class attribute
        level = _inside(*level)
        if not level:
            return True
        if len(level) > _WIDE and not _PLAIN.issuperset(map(type, level)):
            break
    return _is_finite_walk(value)


def _is_finite_walk(value: object) -> bool:
    """Return the same, looking at nothing but the value and at enum members' values."""
    folders: list[Any] = [(value,)]
    for folder in folders:
        for item in folder.values() if type(folder) is dict else folder:
            kind = type(item)
            if kind is float:
                if item - item != 0.0:
                    return False
            elif kind is dict or kind is tuple or isinstance(item, list):
                folders.append(item)
            elif kind not in _PLAIN and isinstance(item, enum.Enum):
                folders.append((item.value,))
    return True


def _is_not_finite(value: object) -> str | None:
    if type(value) is float and value - value != 0.0:
        return f"{value} is not a number JSON can hold"
    return None


def _what_is_wrong(value: object) -> str | None:
    kind = type(value)
    if kind.__module__ == "uuid":
        return None
    if kind not in _PLAIN and not isinstance(value, list):
        name = kind.__name__
        if hasattr(kind, "__dataclass_fields__") or hasattr(kind, "__attrs_attrs__"):
            return f"{name} is not a JSON type; a typed key takes it: Key(path, {name})"
        return f"{name} is not a JSON type"
    if kind is int and not -(2**63) <= value < 2**64:  # type: ignore[operator]
        return "the integer does not fit into 64 bits"
    if kind is str:
        try:
            value.encode()  # type: ignore[attr-defined]
        except UnicodeEncodeError:
            return "the text is not valid Unicode"
    if kind is dict:
        for key in value:  # type: ignore[attr-defined]
            if type(key) is not str:
                return f"the key {key!r} is not text"
    return _is_not_finite(value)


def _find(
    value: object, test: Callable[[object], str | None], where: tuple[object, ...]
) -> tuple[tuple[object, ...], str] | None:
    """Return the first place where `test` finds fault, and what it says."""
    if isinstance(value, enum.Enum):
        value = value.value
    why = test(value)
    if why is not None:
        return where, why
    if len(where) > _ORJSON_DEPTH:
        return where[:1], _CYCLE
    if isinstance(value, dict):
        steps = value.items()
    elif isinstance(value, (list, tuple)):
        steps = enumerate(value)  # type: ignore[assignment]
    else:
        return None
    for step, item in steps:
        found = _find(item, test, (*where, step))
        if found is not None:
            return found
    return None


def _is_cyclic(value: object) -> bool:
    """Return whether the value contains itself, however deep it is."""
    above: set[int] = set()
    done: set[int] = set()
    steps: list[tuple[object, bool]] = [(value, False)]
    while steps:
        folder, is_behind = steps.pop()
        if is_behind:
            above.discard(id(folder))
            done.add(id(folder))
        elif id(folder) in above:
            return True
        elif isinstance(folder, (dict, list, tuple)) and id(folder) not in done:
            above.add(id(folder))
            inner = folder.values() if isinstance(folder, dict) else folder
            steps.append((folder, True))
            steps += [(item, False) for item in inner]
    return False
