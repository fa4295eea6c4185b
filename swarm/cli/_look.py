"""`swarm top`, `events`, `tasks`, `trace`, `doctor`: look at a swarm, and act on it."""

from collections.abc import Awaitable, Callable
from typing import Any, Final

from rich.console import Group
from rich.live import Live
from rich.text import Text

from swarm.cli._show import (
    console,
    event_line,
    overview_shown,
    plain,
    print_json,
    task_shown,
    tasks_table,
    time_of,
)
from swarm.cli._sources import Source, SourceError, open_source
from swarm.ports import LoopClock

DONE, FAILED, CHECK_FAILED = 0, 1, 4

Look = Callable[[Source], Awaitable[int]]

_PAUSE: Final = 0.5
"""Seconds between two questions for new events."""


async def looking(target: str | None, name: str, look: Look) -> int:
    """Open what is to be looked at, look, and return the exit code."""
    async with open_source(target, name) as source:
        return await look(source)


# --- the swarm ------------------------------------------------------------------------


async def top(source: Source, *, once: bool, as_json: bool, interval: float) -> int:
    """Show the swarm in numbers, again and again."""
    clock = LoopClock()
    if as_json or once:
        while True:
            facts = await source.view("overview", {})
            if as_json:
                print_json([facts])
            else:
                console().print(overview_shown(facts, await _agents(source)))
            if once:
                return DONE
            await clock.sleep(interval)
    with Live(console=console(), auto_refresh=False, screen=True) as live:
        while True:
            facts = await source.view("overview", {})
            note = Text(f"every {interval:g} s; Ctrl-C ends this view", style="dim")
            shown = overview_shown(facts, await _agents(source))
            live.update(Group(shown, Text(""), note), refresh=True)
            await clock.sleep(interval)


async def _agents(source: Source) -> list[dict[str, Any]]:
    """Return the agents, at most 1,000."""
    found: list[dict[str, Any]] = []
    while len(found) < 1_000:
        shown = await source.view("agents", {"offset": str(len(found))})
        found += shown["agents"]
        if not shown["more"]:
            break
    return found


async def check_health(source: Source, *, as_json: bool) -> int:
    """Tell the health of a swarm; return 4 unless it is healthy or unknown."""
    facts = await source.view("overview", {})
    health, failures = facts["health"], facts["failures"]
    is_well = health["status"] in ("healthy", "unknown") and not failures["count"]
    if as_json:
        told = {"name": facts["name"], "well": is_well, **health}
        print_json([{**told, "failures": failures["count"]}])
    else:
        out = console()
        head = f"{facts['name']}: {facts['phase']}, health {health['status']}"
        out.print(Text(plain(head)))
        for issue in health["issues"]:
            out.print(Text(f"  {plain(issue)}"))
        for failure in failures["newest"][:10]:
            said = f"  {time_of(failure['at'])} {failure['agent']}: {failure['error']}"
            out.print(Text(plain(said)))
    return DONE if is_well else CHECK_FAILED


async def show_events(
    source: Source,
    *,
    types: str | None,
    agent: str | None,
    follow: bool,
    limit: int,
    as_json: bool,
) -> int:
    """Show the newest events, and with `follow` those that come."""
    clock, out = LoopClock(), console()
    query = {"types": types or "", "source": agent or ""}
    after = ""
    while True:
        shown = await source.view("events", {**query, "after": after})
        events = shown.get("events", [])
        if not after:
            events = events[-limit:] if limit else []
        if shown.get("skipped"):
            out.print(Text("... events were left out", style="yellow"))
        if as_json:
            print_json(events)
        else:
            for event in events:
                out.print(event_line(event))
        after = str(shown["cursor"])
        if not follow:
            return DONE
        await clock.sleep(_PAUSE)


# --- tasks ----------------------------------------------------------------------------


async def list_tasks(
    source: Source,
    *,
    kind: str | None,
    status: str | None,
    agent: str | None,
    error: str | None,
    limit: int,
    as_json: bool,
) -> int:
    """Show tasks, the newest first."""
    query = {
        "kind": kind or "",
        "status": status or "",
        "agent": agent or "",
        "error": error or "",
    }
    found: list[dict[str, Any]] = []
    while len(found) < limit:
        shown = await source.view("tasks", {**query, "offset": str(len(found))})
        found += shown["tasks"]
        if not shown["more"]:
            break
    if as_json:
        print_json(found[:limit])
    else:
        console().print(tasks_table(found[:limit]))
    return DONE


async def _task(source: Source, task_id: str) -> dict[str, Any]:
    found: dict[str, Any] | None = (await source.view("task", {"id": task_id}))["task"]
    if found is None:
        raise SourceError(f"there is no task '{task_id}'")
    return found


async def show_task(source: Source, task_id: str, *, as_json: bool) -> int:
    """Show all that is known of a task."""
    found = await _task(source, task_id)
    if as_json:
        print_json([found])
    else:
        console().print(task_shown(found))
    return DONE


async def act_on_task(
    action: str, task_id: str, reason: str, source: Source, *, value: Any = None
) -> int:
    """Retry, cancel or resolve a task."""
    await source.act(action, task_id, reason, value)
    console().print(Text(f"{action}: {task_id}"))
    return DONE


async def show_trace(source: Source, task_id: str, *, as_json: bool) -> int:
    """Show what happened for a task, in order."""
    from swarm.observability import Trace

    found = (await source.view("trace", {"id": task_id}))["trace"]
    if found is None:
        raise SourceError(f"there is no task '{task_id}'")
    if as_json:
        print_json(found["steps"])
    else:
        console().print(Text(plain(Trace(found).text())))
    return DONE
