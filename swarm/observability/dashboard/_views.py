"""The pages of a dashboard as records: each view returns its sections.

A section is a JSON value under a name; `_streams` sends a section again when it has
changed. The views never wait, and what they read is `masked`.
"""

from collections.abc import Callable, Mapping
from typing import Any, Final, TypeAlias

from swarm import observability as facts
from swarm.errors import SwarmError
from swarm.observability._source import source_of
from swarm.system import Surface

Query: TypeAlias = Mapping[str, str]
Sections: TypeAlias = dict[str, Any]

_ROWS: Final = 100
"""The most rows of a table."""

_NEW: Final = 100
"""The most events in one message."""


def _overview(swarm: Surface, query: Query) -> Sections:  # noqa: ARG001  # a view
    return facts.overview(swarm)


def _tasks(swarm: Surface, query: Query) -> Sections:
    found = facts.tasks(
        swarm,
        kind=query.get("kind") or None,
        status=query.get("status") or None,
        assignee=query.get("agent") or None,
        error=query.get("error") or None,
        limit=_ROWS + 1,
        offset=_number(query, "offset"),
    )
    counts = facts.overview(swarm)["tasks"]
    return {
        "tasks": found[:_ROWS],
        "more": len(found) > _ROWS,
        "by_status": counts.get("by_status", {}),
        "kinds": sorted(counts.get("by_kind", {}))[:500],
    }


def _task(swarm: Surface, query: Query) -> Sections:
    return {"task": facts.task(swarm, query.get("id", ""))}


def _trace(swarm: Surface, query: Query) -> Sections:
    return {"trace": facts.trace(swarm, query.get("id", ""))}


def _agents(swarm: Surface, query: Query) -> Sections:
    found = facts.agents(
        swarm,
        text=query.get("text", ""),
        status=query.get("status") or None,
        limit=_ROWS + 1,
        offset=_number(query, "offset"),
    )
    counts = facts.overview(swarm)
    return {
        "agents": found[:_ROWS],
        "more": len(found) > _ROWS,
        "counts": counts["agents"],
        "failures": counts["failures"],
    }


def _agent(swarm: Surface, query: Query) -> Sections:
    name = query.get("name", "")
    failures = facts.overview(swarm)["failures"]["newest"]
    return {
        "agent": facts.agent(swarm, name),
        "tasks": facts.tasks(swarm, assignee=name, limit=50),
        "failures": [each for each in failures if each["agent"] == name],
        "events": facts.events(swarm, source=name, limit=50)[::-1],
    }


def _state(swarm: Surface, query: Query) -> Sections:
    path = query.get("path", "")
    return {
        "folder": facts.folder(swarm, path, limit=500),
        "document": next(iter(facts.state(swarm, path, limit=1)), None)
        if path
        else None,
        "history": facts.history(swarm, path, limit=20) if path else [],
    }


def _locks(swarm: Surface, query: Query) -> Sections:  # noqa: ARG001
    return {
        "locks": facts.locks(swarm),
        "semaphores": facts.semaphores(swarm),
        "barriers": facts.barriers(swarm),
        "graph": facts.wait_graph(swarm),
    }


def _pipelines(swarm: Surface, query: Query) -> Sections:
    run_id = query.get("id", "")
    if run_id:
        return {"pipeline": facts.pipeline(swarm, run_id)}
    return {"pipelines": facts.pipelines(swarm)}


def _events(swarm: Surface, query: Query) -> Sections:
    """Return what is new since "after": at most so many, and whether some are left out.

    The first look has the newest events.
    """
    revision = source_of(swarm).tail.revision
    after = _number(query, "after") if query.get("after") else None
    sections: Sections = {"cursor": revision}
    if after is not None and after >= revision:
        return sections
    wanted = {
        "types": query.get("types") or None,
        "source": query.get("source") or None,
        "correlation_id": query.get("correlation") or None,
    }
    is_near = after is not None and revision - after <= _NEW
    found = facts.events(
        swarm,
        after=after if is_near else None,
        limit=5 * _NEW if is_near else _NEW,
        **wanted,
    )
    if after is not None and not is_near:
        sections["skipped"] = bool(len(found) == _NEW and found[0]["seq"] > after)
        found = [each for each in found if each["seq"] > after]
    if found:
        sections["events"] = found
    return sections


def _number(query: Query, name: str) -> int:
    text = query.get(name, "")
    return int(text) if text.isascii() and text.isdigit() and len(text) < 19 else 0


Look: TypeAlias = Callable[[Surface, Query], Sections]
"""A function that returns the sections of a page."""


def _told(view: Look) -> Look:
    """Return a view that says what is wrong with a query."""

    def look(swarm: Surface, query: Query) -> Sections:
        try:
            return {**view(swarm, query), "problem": ""}
        except (SwarmError, ValueError) as error:
            after = str(_number(query, "after")) if query.get("after") else ""
            return {"problem": str(error), "cursor": after}

    return look


VIEWS: Final[Mapping[str, Look]] = {
    "overview": _told(_overview),
    "tasks": _told(_tasks),
    "task": _told(_task),
    "trace": _told(_trace),
    "agents": _told(_agents),
    "agent": _told(_agent),
    "state": _told(_state),
    "locks": _told(_locks),
    "pipelines": _told(_pipelines),
    "events": _told(_events),
}
"""The views by their names in the API."""
