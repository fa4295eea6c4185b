"""The rules of each operation on the state: a view in, a plan out. Pure."""

from collections.abc import Iterable

import attrs
import orjson

from swarm.errors import (
    ConflictError,
    InvalidValue,
    LimitExceeded,
    NotFound,
    PathConflict,
)
from swarm.kernel import conflict
from swarm.model import (
    ABSENT,
    JSON,
    AgentIdentity,
    Document,
    Path,
    Priority,
    canonical,
    dig,
    shown,
)
from swarm.ports import Codec, Plan, View, Write
from swarm.state._draft import Draft
from swarm.state._inside import put_inside, take_inside
from swarm.state._look import rest_of
from swarm.state._merge import deep_merge, merge_patch
from swarm.state._resolvers import Candidate, Resolver

MAX_INTEGER = 2**63 - 1


@attrs.define(kw_only=True)
class SetRequest:
    """The arguments of `set`, with everything its rule needs.

    Attributes:
        path: The place.
        value: The value, not yet encoded.
        codec: The codec of the store.
        author: The identity that writes.
        expected: The version that must stand there (0: absent), or None: any.
        merge: Whether to merge it into the value there; or "rfc7396".
        if_changed: Write only when the value differs.
        ttl: The time to live in microseconds, or None.
        resolver: Resolves the conflict when another value stands there.
        priority: The weight of the write.
    """

    path: Path
    value: JSON
    codec: Codec
    author: AgentIdentity
    expected: int | None = None
    merge: bool | str = False
    if_changed: bool = False
    ttl: int | None = None
    resolver: Resolver | None = None
    priority: int = Priority.NORMAL


def plan_set(view: View, request: SetRequest) -> Plan:
    """Decide what `set` writes; the outcome is the document that stays as it is."""
    path = request.path
    document = view.find(path)
    rest = rest_of(path, document) if document is not None else ()
    must_read = rest or request.merge or request.if_changed or request.resolver
    whole: JSON = ABSENT
    if document is not None:
        whole = document.value if must_read else None  # there, but not looked at
    current = dig(whole, rest)
    value = request.value
    if _is_conflict(request, document, current):
        if request.resolver is None:
            if document is not None:
                current = dig(document.value, rest)
            raise _refusal(request, document, current)
        value = _plain(request.codec, _resolved(request, view, document, current))
        if _is_same(current, value):
            return Plan(outcome=document)
    if request.merge:
        value = _merged(request.merge, current, value)
    body = request.codec.encode(value)
    if request.if_changed and _is_same(current, value):
        return Plan(outcome=document)
    expires = None
    if request.ttl is not None:
        expires = view.now + request.ttl
    elif document is not None and (rest or request.merge):
        expires = document.expires
    if document is None:
        target = path
    else:
        target = document.path
        if rest:
            body = request.codec.encode(put_inside(whole, rest, value, path))
    return Plan([Write(target, body, None, expires, request.priority)])


def plan_update(
    view: View, path: Path, value: JSON, version: int, codec: Codec
) -> Plan:
    """Decide what `update` writes: the value, if this version still stands there.

    Raises:
        ConflictError: Another version stands there, or none.
    """
    document = view.find(path)
    if (0 if document is None else document.version) != version:
        raise conflict(path, version, document)
    if document is None:
        return Plan((Write(path, codec.encode(value)),))
    rest = rest_of(path, document)
    if rest:
        value = put_inside(document.value, rest, value, path)
    body = codec.encode(value)
    return Plan((Write(document.path, body, None, document.expires),))


def plan_delete(
    view: View, path: Path, expected: int | None, recursive: bool, codec: Codec
) -> Plan:
    """Decide what `delete` takes away; the outcome is how many places."""
    document = view.find(path)
    if document is None:
        below = view.below(path)
        if below and not recursive:
            raise PathConflict(
                f"{path} is a folder of {len(below)} documents; "
                "delete(..., recursive=True) takes them all"
            )
        if below and expected is not None:
            raise PathConflict(
                f"{path} is a folder, and only documents have a version; "
                "delete it without expected_version"
            )
        if expected:
            raise conflict(path, expected, None)
        return Plan([Write(d.path) for d in below], outcome=len(below))
    rest = rest_of(path, document)
    value = document.value
    is_there = dig(value, rest) is not ABSENT
    version = document.version if is_there else 0
    if expected is not None and expected != version:
        raise conflict(path, expected, document)
    if not is_there:
        return Plan(outcome=0)
    if not rest:
        return Plan([Write(document.path)], outcome=1)
    take_inside(value, rest)
    body = codec.encode(value)
    return Plan([Write(document.path, body, None, document.expires)], outcome=1)


def plan_touch(view: View, path: Path, ttl: int | None) -> Plan:
    """Decide what `touch` writes: the document as it is, with another end."""
    document = view.find(path)
    if document is None or dig(document.value, rest_of(path, document)) is ABSENT:
        raise NotFound(f"no document stands at {path}")
    expires = None if ttl is None else view.now + ttl
    write = Write(document.path, document.json, None, expires, document.priority)
    return Plan([write])


def plan_increment(view: View, path: Path, delta: int, codec: Codec) -> Plan:
    """Decide what `increment` writes; the outcome is the new number (S20)."""
    document = view.find(path)
    rest = rest_of(path, document) if document is not None else ()
    whole = ABSENT if document is None else document.value
    current = dig(whole, rest)
    number = counted(path, current, delta)
    target = path if document is None else document.path
    body = codec.encode(put_inside(whole, rest, number, path))
    expires = None if document is None else document.expires
    return Plan([Write(target, body, None, expires)], outcome=number)


def counted(path: object, current: JSON, delta: int) -> int:
    """Return `current` (0 where nothing stands) plus `delta`.

    Raises:
        InvalidValue: One of them is not an integer.
        LimitExceeded: The sum is beyond ±(2^63-1).
    """
    number = 0 if current is ABSENT else current
    if type(number) is not int:
        raise InvalidValue(
            f"increment() needs an integer at {path}, where {shown(number)} stands"
        )
    if type(delta) is not int:
        raise InvalidValue(f"increment() adds an integer, not {shown(delta)}")
    number += delta
    if abs(number) > MAX_INTEGER:
        raise LimitExceeded(f"{path} would leave the range of ±(2^63-1)")
    return number


def plan_compare_and_set(
    view: View, path: Path, old: JSON, new: JSON, codec: Codec
) -> Plan:
    """Decide what `compare_and_set` writes; the outcome is whether it did."""
    document = view.find(path)
    rest = rest_of(path, document) if document is not None else ()
    whole = ABSENT if document is None else document.value
    current = dig(whole, rest)
    if not _is_same(current, old):
        return Plan(outcome=False)
    target = path if document is None else document.path
    body = codec.encode(put_inside(whole, rest, new, path))
    expires = None if document is None else document.expires
    return Plan([Write(target, body, None, expires)], outcome=True)


def plan_many(
    view: View,
    puts: Iterable[tuple[Path, JSON]],
    deletions: Iterable[Path],
    codec: Codec,
) -> Plan:
    """Decide what `set_many` or `delete_many` writes; the outcome counts deletions."""
    draft = Draft(view, codec)
    for path, value in puts:
        draft.set(path, value)
    count = sum(draft.delete(path) for path in deletions)
    return Plan(draft.writes(), outcome=count)


def _is_same(one: JSON, other: JSON) -> bool:
    """Compare as JSON does: 1, 1.0 and True are three things; so is absence."""
    if one is ABSENT or other is ABSENT:
        return one is other
    return canonical(one) == canonical(other)


def _plain(codec: Codec, value: JSON) -> JSON:
    """Return a private copy, of JSON types only."""
    return orjson.loads(codec.encode(value))


def _is_conflict(request: SetRequest, document: Document | None, current: JSON) -> bool:
    expected = request.expected
    if expected is None:
        return request.resolver is not None and current is not ABSENT
    if expected == 0:
        return current is not ABSENT
    return document is None or document.version != expected


def _refusal(
    request: SetRequest, document: Document | None, current: JSON
) -> ConflictError:
    return ConflictError(
        request.path,
        expected=request.expected,
        current=0 if document is None else document.version,
        value=None if current is ABSENT else current,
        author=None if document is None else document.author,
    )


def _resolved(
    request: SetRequest, view: View, document: Document | None, current: JSON
) -> JSON:
    assert request.resolver is not None
    mine = Candidate(
        _plain(request.codec, request.value),
        view.revision + 1,
        request.priority,
        str(request.author),
    )
    if document is None or current is ABSENT:
        return mine.value
    theirs = Candidate(
        current, document.version, document.priority, str(document.author)
    )
    value = request.resolver((theirs, mine))
    if hasattr(value, "__await__"):
        value.close()
        raise TypeError("a resolver returns a value; this one returned a coroutine")
    return value


def _merged(kind: bool | str, current: JSON, value: JSON) -> JSON:
    merge = merge_patch if kind == "rfc7396" else deep_merge
    try:
        return merge(current, value)
    except RecursionError:
        raise InvalidValue(
            "not a JSON value: it contains itself, or nests too deep"
        ) from None
