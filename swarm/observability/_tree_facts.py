"""Facts about the tree and its log: state, history, events; see `_facts`."""

from collections import Counter
from collections.abc import Iterator
from itertools import islice, takewhile
from typing import Any, Final

import orjson

from swarm.bus import Selector, events_of, select
from swarm.errors import InvalidPath, LimitExceeded
from swarm.model import (
    ABSENT,
    Commit,
    Document,
    Event,
    Path,
    Pattern,
    Segment,
    StateCreated,
    StateDeleted,
    StateUpdated,
    kind_of,
    living,
)
from swarm.observability._diff import diff
from swarm.observability._masking import masked
from swarm.observability._source import TreeSource, bounded, seconds, source_of
from swarm.ports import UnknownEvent, View
from swarm.system import Surface

_BODY: Final = 64 * 1024
"""The most bytes of a document that is decoded for a list."""

_SCANNED: Final = 20_000
"""The most commits of the log that one look reads."""


# --- state ----------------------------------------------------------------------------


def state(
    swarm: Surface, pattern: str = "**", *, limit: int = 200, offset: int = 0
) -> list[dict[str, Any]]:
    """Return the documents whose path matches a pattern, in path order.

    Args:
        swarm: The swarm.
        pattern: As for `swarm.state.scan`: "shared.**", "agents.*.*.status"; a plain
            path means the document there, or the documents below that folder.
        limit: How many at most; never more than 1,000.
        offset: How many to leave out first.

    Returns:
        Records `{"path", "version", "at", "author", "expires_in", "bytes", "value"}`;
        the value is masked, also by the names in its path, and None with
        `"is_large": True` for a document of more than 64 KiB.

    Raises:
        InvalidPath: The pattern is not a pattern.
    """
    source = source_of(swarm)
    return state_in(source, Pattern.parse(pattern), limit, offset)


def state_in(
    source: TreeSource, wanted: Pattern, limit: int = 200, offset: int = 0
) -> list[dict[str, Any]]:
    """Return the records of `state`."""
    chosen: list[Document] = source.read(
        _chosen, source, wanted, max(0, offset), bounded(limit), default=[]
    )
    now = source.now()
    return [document_fact(document, now) for document in chosen]


def _chosen(
    view: View, source: TreeSource, wanted: Pattern, offset: int, limit: int
) -> list[Document]:
    found = (
        document for document in _candidates(view, wanted) if source.sees(document.path)
    )
    return list(islice(found, offset, offset + limit))


def _candidates(view: View, wanted: Pattern) -> Iterator[Document]:
    document = view.find(wanted.fixed) if wanted.fixed.segments else None
    if document is not None:
        yield document
        return
    for below in view.documents(wanted.fixed):
        if wanted.is_literal or wanted.matches(below.path):
            yield below


def document_fact(document: Document, now: int) -> dict[str, Any]:
    """Return a document as `state` shows it."""
    body = document.json
    record = {
        "path": document.path.text,
        "version": document.version,
        "at": seconds(document.at),
        "author": document.author.agent_id,
        "expires_in": (
            None if document.expires is None else seconds(document.expires - now)
        ),
        "bytes": len(body),
        "value": None,
    }
    if len(body) > _BODY:
        return {**record, "is_large": True}
    return {**record, "value": masked_at(document.path, orjson.loads(body))}


def masked_at(path: Path, value: Any) -> Any:
    """Return a value masked by the names in its path as well as by its own keys."""
    name = ".".join(str(segment) for segment in path.segments[-2:])
    return masked(value, name=name)


def folder(swarm: Surface, path: str = "", *, limit: int = 200) -> list[dict[str, Any]]:
    """Return the documents and folders directly below a folder, in order of names.

    Returns:
        Records `{"name", "path", "documents", "is_document"}`; documents: how many
        there are below a folder.
    """
    source = source_of(swarm)
    try:
        place = Path.parse(path) if path else Path((), "")
    except (InvalidPath, LimitExceeded):
        return []
    found: dict[Segment, tuple[int, bool]]
    found = source.read(_below, source, place, default={})
    return [
        {
            "name": str(name),
            "path": place.child(name).text,
            "documents": found[name][0],
            "is_document": found[name][1],
        }
        for name in sorted(found, key=str)[: bounded(limit)]
    ]


def _below(
    view: View, source: TreeSource, place: Path
) -> dict[Segment, tuple[int, bool]]:
    """Return for each name below a folder how many documents there are, or that one."""
    depth = len(place.segments)
    counts: Counter[Segment] = Counter()
    leaves: set[Segment] = set()
    for document in view.below(place):
        segments = document.path.segments
        if source.may_read is None or source.sees(document.path):
            counts[segments[depth]] += 1
            if len(segments) == depth + 1:
                leaves.add(segments[depth])
    return {name: (count, name in leaves) for name, count in counts.items()}


def history(swarm: Surface, path: str, *, limit: int = 20) -> list[dict[str, Any]]:
    """Return the newest changes of one document that the log still holds.

    Returns:
        Records, the newest first, `{"revision", "kind", "at", "author", "old_version",
        "version", "value", "diff"}`; kind: "created", "updated", "deleted" or
        "expired"; value: None after a deletion; diff: as `diff` returns it. Empty when
        there is no such document, or the path is no path.
    """
    source = source_of(swarm)
    try:
        place = Path.parse(path)
    except (InvalidPath, LimitExceeded):
        return []
    document = source.find(place)
    if document is None and source.sees(place):
        document = _last_version(source, place)
    found: list[dict[str, Any]] = []
    while document is not None and len(found) < bounded(limit):
        found.append(_version(document))
        document = document.previous
    return found


def _last_version(source: TreeSource, place: Path) -> Document | None:
    """Return the newest version of a document that is gone, if the log holds it."""
    for commit in reversed(source.newest_commits(_SCANNED)):
        for document in commit.documents:
            if document.path == place:
                return document
    return None


def _version(document: Document) -> dict[str, Any]:
    old = living(document.previous)
    was = ABSENT if old is None else masked_at(old.path, old.value)
    value = document.value
    now = ABSENT if value is ABSENT else masked_at(document.path, value)
    is_first = document.created == document.version
    return {
        "revision": document.version,
        "kind": str(kind_of(document)),
        "at": seconds(document.at),
        "author": document.author.agent_id,
        "old_version": 0 if old is None else old.version,
        "version": 0 if document.is_deleted else document.version,
        "value": None if now is ABSENT else now,
        "diff": diff(was, now) if old is not None or is_first else [],
    }


# --- events ---------------------------------------------------------------------------


def events(
    swarm: Surface,
    *,
    after: int | None = None,
    types: str | None = None,
    source: str | None = None,
    correlation_id: str | None = None,
    limit: int = 100,
) -> list[dict[str, Any]]:
    """Return events of the log, oldest first.

    Args:
        swarm: The swarm.
        after: Only events of later revisions, the oldest of them; None: the newest
            events. A revision that the log does not reach any more counts as the
            oldest that it does.
        types: A dotted pattern of event types, such as "task.*". None: every published
            event; changes of documents are events too, and come with "state.*" or
            "**".
        source: Only events of the agent of this name.
        correlation_id: Only events with this correlation id.
        limit: How many at most; never more than 1,000. All events of one revision come
            together, or none of them, unless the limit is smaller.

    Returns:
        Records `{"id", "seq", "type", "source", "at", "correlation_id",
        "causation_id", "key", "payload"}`; the payload is masked.

    Raises:
        ValueError: The pattern means nothing.
    """
    found_in = source_of(swarm)
    selector = select(types, source=source, correlation_id=correlation_id)
    has_changes = types is not None and _wants_changes(selector)
    most = bounded(limit)
    if after is None:
        return newest_events(found_in, selector, most, has_changes=has_changes)
    found = (
        event
        for commit in islice(found_in.commits(after), _SCANNED)
        for event in _fitting(found_in, selector, commit, has_changes=has_changes)
    )
    return [event_fact(event) for event in islice(found, most)]


def newest_events(
    source: TreeSource, selector: Selector, limit: int, *, has_changes: bool = False
) -> list[dict[str, Any]]:
    """Return the newest events of the log that fit, oldest first.

    No more of the log is read than necessary.
    """
    count = max(256, 2 * limit)
    while True:
        commits = source.newest_commits(count)
        found: list[Event[Any]] = []
        for commit in reversed(commits):
            fitting = _fitting(source, selector, commit, has_changes=has_changes)
            found += reversed([*fitting])
            if len(found) >= limit:
                break
        if len(found) >= limit or len(commits) < count or count >= _SCANNED:
            return [event_fact(event) for event in reversed(found[:limit])]
        count *= 4


def _fitting(
    source: TreeSource, selector: Selector, commit: Commit, *, has_changes: bool
) -> Iterator[Event[Any]]:
    """Yield the events of a commit that fit: published ones, and changes if wanted."""
    published = len(commit.events)
    if not published and not has_changes:
        return
    events = events_of(commit)
    if not has_changes:
        events = takewhile(lambda event: event.index < published, events)
    for event in events:
        if selector.matches(event, source.may_read):
            yield event


def _wants_changes(selector: Selector) -> bool:
    return any(map(selector.fits_class, (StateCreated, StateUpdated, StateDeleted)))


def event_fact(event: Event[Any], *, brief: bool = False) -> dict[str, Any]:
    """Return an event as `events` shows it; brief: as much as fits into a line."""
    return {
        "id": event.id,
        "seq": event.seq,
        "type": event.type,
        "source": event.source.agent_id,
        "at": seconds(event.at),
        "correlation_id": event.correlation_id,
        "causation_id": event.causation_id,
        "key": event.key,
        "payload": _payload(event, brief=brief),
    }


def _payload(event: Event[Any], *, brief: bool) -> Any:
    payload: Any = event.payload
    if isinstance(payload, UnknownEvent):
        payload = payload.data
    return masked(payload, text=200, items=8, depth=3) if brief else masked(payload)
