"""The codec: values to bytes and back, with everything refused that is not JSON."""

import enum
import math
from collections.abc import Callable
from typing import Any, Final

import attrs
import orjson

from swarm.errors import InvalidValue, LimitExceeded
from swarm.model import JSON

HARD_DOCUMENT_BYTES: Final = 16 * 1024 * 1024
_ORJSON_DEPTH: Final = 254  # orjson's own recursion limit, not configurable
_SMALL: Final = 1_024
_OPTIONS: Final = (
    orjson.OPT_PASSTHROUGH_DATACLASS
    | orjson.OPT_PASSTHROUGH_DATETIME
    | orjson.OPT_PASSTHROUGH_SUBCLASS
)


@attrs.frozen(kw_only=True)
class Limits:
    """What may be how large. Crossing one is a `LimitExceeded` that names it.

    Attributes:
        document_bytes: One document's JSON; 16 MiB is the most that can be set.
        depth: How deep lists and dicts may nest; 254 is the most.
        batch_writes: How many documents one commit may write.
        batch_bytes: How many bytes one commit may write.
        log_commits: How many commits the log keeps.
        log_bytes: How many bytes of old and new documents the log keeps, about.
        log_seconds: For how long the log keeps a commit.
        held_commits: How many commits it keeps at most while a named subscription
            has yet to handle them.
        held_bytes: How many bytes they hold at most, about.
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
        """Refuse limits that mean nothing."""
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
    64 bits by itself. What it lets through silently is caught here: NaN and the
    infinities, which it writes as null, and nesting beyond our depth. It writes
    tuples as arrays, enum members as their values and UUIDs as text; what comes
    back is what was written.
    """

    def __init__(self, limits: Limits) -> None:
        """Encode within `limits`."""
        self._limits = limits
        self._bytes = limits.document_bytes
        self._padding = _ORJSON_DEPTH - limits.depth
        self._shallow = 2 * limits.depth  # bytes that cannot nest too deep
        self._was_large = False
        self._hole: list[Any] = [None]
        self._nest = self._hole
        for _ in range(self._padding - 1):
            self._nest = [self._nest]

    def encode(self, value: JSON) -> bytes:
        """Return the value as JSON.

        Raises:
            InvalidValue: It is not a JSON value; says what and where.
            LimitExceeded: It is too large or too deep; names the limit.
        """
        try:
            if self._was_large:
                body = self._encode_nested(value)
            else:
                body = orjson.dumps(value, _refuse, _OPTIONS)
        except TypeError as error:  # orjson.JSONEncodeError is a TypeError
            raise self._explain(value, error) from None
        size = len(body)
        if size > self._bytes:
            raise LimitExceeded(
                f"a document holds at most {self._bytes} bytes "
                f"(Limits.document_bytes); this one has {size}"
            )
        if size > self._shallow and not self._was_large:
            self._check_depth(value, body)
        self._was_large = size > _SMALL and self._padding > 0
        if body.rfind(b"null") >= 0 and not _is_finite(value):
            raise self._explain(value, TypeError("a number is not finite"))
        return body

    def _encode_nested(self, value: JSON) -> bytes:
        """Encode the value so deep inside lists that orjson's limit is ours.

        A walk that measures the depth would cost several times the encoding. For a
        large value this is cheaper than counting brackets, too, and the last value's
        size is the best guess of the next one's.
        """
        self._hole[0] = value
        try:
            body = orjson.dumps(self._nest, _refuse, _OPTIONS)
        finally:
            self._hole[0] = None
        return body[self._padding : -self._padding]

    def _check_depth(self, value: JSON, body: bytes) -> None:
        """Refuse a value that nests too deep; most have too few brackets for it."""
        depth = self._limits.depth
        if self._padding and (
            len(body) > _SMALL or body.count(b"[") + body.count(b"{") > depth
        ):
            try:
                self._encode_nested(value)
            except TypeError:
                raise self._too_deep() from None

    def _too_deep(self) -> LimitExceeded:
        return LimitExceeded(
            f"a value nests at most {self._limits.depth} deep (Limits.depth)"
        )

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


_CYCLE: Final = "the value contains itself"


def _refuse(value: object) -> None:
    raise TypeError(type(value).__name__)


def _is_finite(value: object) -> bool:
    """Return whether every float in an acyclic value is a number JSON can hold."""
    folders: list[Any] = [(value,)]
    for folder in folders:
        for item in folder.values() if type(folder) is dict else folder:
            kind = type(item)
            if kind is float:
                if item - item != 0.0:
                    return False
            elif kind is dict or kind is list or kind is tuple:
                folders.append(item)
            elif kind not in _PLAIN and isinstance(item, enum.Enum):
                folders.append((item.value,))
    return True


def _is_not_finite(value: object) -> str | None:
    if type(value) is float and value - value != 0.0:
        return f"{value} is not a number JSON can hold"
    return None


_PLAIN: Final = (str, int, float, bool, type(None), list, tuple, dict)


def _what_is_wrong(value: object) -> str | None:
    kind = type(value)
    if kind.__module__ == "uuid":
        return None
    if kind not in _PLAIN:
        return f"{kind.__name__} is not a JSON type"
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
