"""Panels of state, changes and events."""

import datetime
from collections.abc import Sequence
from typing import Any, Final

import orjson

from swarm.bus import Events, Page, select
from swarm.model import ABSENT, MICRO, Change, ChangeList, Event, Path, Pattern
from swarm.observability._diff import Diff, diff
from swarm.observability._masking import clipped
from swarm.observability._panels import Badge, Fields, Fold, Lines, Panel, Part, Table
from swarm.observability._source import TreeSource, tail_of
from swarm.observability._tree_facts import (
    event_fact,
    masked_at,
    newest_events,
    state_in,
)
from swarm.state import StateHandle

_DOCUMENTS: Final = 60
_VALUE: Final = 120


def clock_time(at: float | None) -> str:
    """Return a time, in seconds since 1970, as text: "14:03:21.250", in UTC."""
    if at is None:
        return ""
    moment = datetime.datetime.fromtimestamp(at, datetime.UTC)
    return f"{moment:%H:%M:%S}.{moment.microsecond // 1000:03}"


def as_json(value: Any, length: int = _VALUE) -> str:
    """Return a masked value as one line of JSON."""
    return clipped(orjson.dumps(value, default=repr).decode(), length)


# --- state ----------------------------------------------------------------------------


def state_panel(handle: StateHandle) -> Panel:
    """Return the documents of a handle: values, versions and authors, by folder."""
    access, store = handle._access, handle._store  # noqa: SLF001  # draws swarm's own
    source = TreeSource(tail_of(store.kernel), store.clock, access.may_read)
    segments = Pattern.parse("**").segments
    pattern = Pattern.of(*access.root.segments, *segments)
    found = state_in(source, pattern, _DOCUMENTS + 1)
    title = f"state {handle.path!r}" if handle.path else "state"
    if not found:
        return Panel(title, "", [Lines(["nothing stands here"])])
    more = len(found) > _DOCUMENTS
    folders: dict[str, list[dict[str, Any]]] = {}
    for each in found[:_DOCUMENTS]:
        path = Path.parse(each["path"]).segments
        depth = min(len(access.root.segments) + 1, len(path) - 1)
        folders.setdefault(Path.of(*path[:depth]).text, []).append(each)
    parts: list[Part] = [
        Fold(f"{name or 'root'} ({len(rows)})", [state_table(rows, name)], is_open=True)
        for name, rows in folders.items()
    ]
    if more:
        parts.append(Lines(["… there are more; swarm.state.scan() yields them"]))
    return Panel(title, "", parts)


def state_table(found: Sequence[dict[str, Any]], folder: str = "") -> Table:
    """Return documents as a table."""
    rows = [
        (
            each["path"].removeprefix(folder).lstrip("."),
            "(large)" if each.get("is_large") else as_json(each["value"]),
            each["version"],
            each["author"],
            clock_time(each["at"]),
        )
        for each in found
    ]
    return Table(("path", "value", "version", "author", "at"), rows)


# --- changes --------------------------------------------------------------------------


def diff_table(differences: Sequence[dict[str, Any]]) -> Table:
    """Return the differences of two values as a table."""
    rows = [
        (
            Badge(_WORDS[each["op"]]),
            each["path"] or "(all)",
            as_json(each["old"]) if "old" in each else "",
            as_json(each["new"]) if "new" in each else "",
        )
        for each in differences
        if each["op"] != "more"
    ]
    more = int(len(rows) < len(differences))
    return Table(("", "path", "before", "after"), rows, more)


def diff_panel(differences: Diff) -> Panel:
    """Return the differences of two values."""
    return Panel(f"differences: {len(differences)}", "", [diff_table(differences)])


_WORDS: Final = {"add": "created", "remove": "deleted", "change": "updated"}


def _difference(change: Change) -> list[dict[str, Any]]:
    path = Path.parse(change.path) if change.path else Path((), "")
    values = [
        value if value is ABSENT else masked_at(path, value)
        for value in (change.old_value, change.value)
    ]
    return diff(*values)


def change_panel(change: Change) -> Panel:
    """Return one change with its differences."""
    title = f"{change.path}, version {change.old_version} to {change.new_version}"
    by = f"by {change.author} at {clock_time(change.at / MICRO)}, revision "
    told = Lines([f"{by}{change.revision}"])
    return Panel(title, change.kind.value, [told, diff_table(_difference(change))])


def changes_panel(changes: ChangeList) -> Panel:
    """Return the changes of a place, each with its differences."""
    parts: list[Part] = []
    for change in changes[-20:]:
        head = (
            f"revision {change.revision}: {change.path} {change.kind} by "
            f"{change.author} at {clock_time(change.at / MICRO)}"
        )
        parts.append(Fold(head, [diff_table(_difference(change))], is_open=True))
    if len(changes) > 20:
        parts.insert(0, Lines([f"… {len(changes) - 20} earlier"]))
    return Panel(f"changes: {len(changes)}", "", parts)


# --- events ---------------------------------------------------------------------------


def event_table(found: Sequence[dict[str, Any]], more: int = 0) -> Table:
    """Return events as a table."""
    rows = [
        (
            each["id"],
            clock_time(each["at"]),
            each["type"],
            each["source"],
            as_json(each["payload"]),
        )
        for each in found
    ]
    return Table(("id", "at", "type", "source", "payload"), rows, more)


def event_panel(event: Event[Any]) -> Panel:
    """Return one event."""
    seen = event_fact(event)
    pairs: list[tuple[str, Any]] = [
        ("source", seen["source"]),
        ("at", clock_time(seen["at"])),
        ("correlation", seen["correlation_id"]),
        ("caused by", seen["causation_id"]),
        ("payload", as_json(seen["payload"], 2_000)),
    ]
    pairs = [(name, value) for name, value in pairs if value]
    return Panel(f"event {seen['id']} {seen['type']}", "", [Fields(pairs)])


def bus_panel(events: Events) -> Panel:
    """Return the newest events, and the subscriptions."""
    bus, identity = events._bus, events._identity  # noqa: SLF001  # draws swarm's own
    host = bus.host
    source = TreeSource(host.tail, host.clock, host.reader_of(identity))
    parts: list[Part] = []
    rows = [
        (each.name, each.pattern, each.identity.agent_id, Badge(each.status))
        for each in events.subscriptions()[:20]
    ]
    if rows:
        parts.append(Table(("subscription", "of", "by", "status"), rows))
    found = newest_events(source, select(), 20)
    parts.append(event_table(found) if found else Lines(["nothing was published"]))
    return Panel("newest events", "", parts)


def events_panel(page: Page) -> Panel:
    """Return a list of events; of a long one, the newest 50."""
    shown = [event_fact(event, brief=True) for event in page[-50:]]
    table = event_table(shown, len(page) - len(shown))
    return Panel(f"events: {len(page)}", "", [table] if page else [])
