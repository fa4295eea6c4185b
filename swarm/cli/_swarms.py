"""`swarm top`, `events`, `trace` and `tasks`: look at a swarm, and act on its tasks."""

import asyncio
import os
from collections.abc import Awaitable, Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Annotated, Any, Final, Literal, TypeAlias

import orjson
from cyclopts import App, Parameter
from cyclopts.validators import Number
from rich.console import Group
from rich.live import Live
from rich.text import Text

from swarm.cli._options import (
    AtLeastOne,
    Flag,
    Json,
    Name,
    Reason,
    Seconds,
    Target,
    TaskId,
)
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

DONE, CHECK_FAILED = 0, 4

_PAUSE: Final = 0.5
"""Seconds between two questions for new events."""


def looking(
    target: str | None, name: str, see: Callable[[Source], Awaitable[int]]
) -> int:
    """Open what a command's options name, look at it, and return the exit code.

    Without an option, the variable SWARM_TARGET names the swarm.
    """

    async def look() -> int:
        chosen = target or os.environ.get("SWARM_TARGET") or None
        async with open_source(chosen, name) as source:
            return await see(source)

    return asyncio.run(look())


# --- the swarm ------------------------------------------------------------------------


def top(
    *,
    swarm: Target = None,
    name: Name = "default",
    once: Annotated[bool, Flag] = False,
    interval: Seconds = 1.0,
    json: Json = False,
) -> int:
    """Show a swarm in numbers, its busiest agents, and why attempts failed.

    Parameters
    ----------
    once
        Show it once, and end.
    interval
        Seconds between two looks.
    """
    note = Text(f"every {interval:g} s; Ctrl-C ends this view", style="dim")

    async def see(source: Source) -> int:
        clock = LoopClock()
        with _screen(is_live=not (json or once)) as live:
            while True:
                facts = await source.view("overview", {})
                if json:
                    print_json([facts])
                else:
                    shown = overview_shown(facts, await _agents(source))
                    if live is None:
                        console().print(shown)
                    else:
                        live.update(Group(shown, Text(""), note), refresh=True)
                if once:
                    return DONE
                await clock.sleep(interval)

    return looking(swarm, name, see)


def _screen(*, is_live: bool) -> AbstractContextManager[Live | None]:
    """Take the whole terminal if it is for a live view."""
    if is_live:
        return Live(console=console(), auto_refresh=False, screen=True)
    return nullcontext()


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


def events(
    *,
    swarm: Target = None,
    name: Name = "default",
    types: str | None = None,
    agent: str | None = None,
    follow: Annotated[bool, Parameter(name=["--follow", "-f"], negative="")] = False,
    limit: Annotated[int, Parameter(validator=Number(gte=0, lte=100))] = 20,
    json: Json = False,
) -> int:
    """Show the newest events of a swarm, and with --follow those that come.

    Parameters
    ----------
    types
        A pattern of types, as `task.*`; `state.*` shows changes of documents.
    agent
        Only events of this agent.
    follow
        Go on until interrupted.
    limit
        How many of the newest, at most 100.
    """

    async def see(source: Source) -> int:
        clock, out = LoopClock(), console()
        query = {"types": types or "", "source": agent or ""}
        after = ""
        while True:
            shown = await source.view("events", {**query, "after": after})
            found = shown.get("events", [])
            if not after:
                found = found[-limit:] if limit else []
            if shown.get("skipped"):
                out.print(Text("... events were left out", style="yellow"))
            if json:
                print_json(found)
            else:
                for event in found:
                    out.print(event_line(event))
            after = str(shown["cursor"])
            if not follow:
                return DONE
            await clock.sleep(_PAUSE)

    return looking(swarm, name, see)


def trace(
    task: TaskId,
    /,
    *,
    swarm: Target = None,
    name: Name = "default",
    json: Json = False,
) -> int:
    """Show what happened for a task, in order."""

    async def see(source: Source) -> int:
        from swarm.observability import Trace

        found = await _found(source, "trace", task)
        if json:
            print_json(found["steps"])
        else:
            console().print(Text(plain(Trace(found).text())))
        return DONE

    return looking(swarm, name, see)


async def _found(source: Source, view: str, task_id: str) -> dict[str, Any]:
    """Return the section of a view that is about a task."""
    found: dict[str, Any] | None = (await source.view(view, {"id": task_id}))[view]
    if found is None:
        raise SourceError(f"there is no task '{task_id}'")
    return found


# --- tasks ----------------------------------------------------------------------------

Status: TypeAlias = Literal[
    "pending", "running", "complete", "failed", "cancelled", "escalated"
]

tasks: App = App(name="tasks", help="List, show, retry, cancel or resolve tasks.")


@tasks.default
@tasks.command(name="list")
def list_tasks(
    *,
    swarm: Target = None,
    name: Name = "default",
    kind: str | None = None,
    status: Status | None = None,
    agent: str | None = None,
    error: Annotated[
        str | None, Parameter(help="What the error of an attempt begins with.")
    ] = None,
    limit: AtLeastOne = 20,
    json: Json = False,
) -> int:
    """List tasks, the newest first.

    Parameters
    ----------
    kind
        A kind, or a pattern of kinds, as `research.*`.
    status
        A status.
    agent
        Only tasks that this agent works on.
    limit
        How many.
    """
    wanted = {"kind": kind, "status": status, "agent": agent, "error": error}
    query = {key: value or "" for key, value in wanted.items()}

    async def see(source: Source) -> int:
        found: list[dict[str, Any]] = []
        while len(found) < limit:
            shown = await source.view("tasks", {**query, "offset": str(len(found))})
            found += shown["tasks"]
            if not shown["more"]:
                break
        if json:
            print_json(found[:limit])
        else:
            console().print(tasks_table(found[:limit]))
        return DONE

    return looking(swarm, name, see)


@tasks.command(name="show")
def show_task(
    task: TaskId,
    /,
    *,
    swarm: Target = None,
    name: Name = "default",
    json: Json = False,
) -> int:
    """Show a task: payload, attempts, steps, handoffs and audit trail."""

    async def see(source: Source) -> int:
        found = await _found(source, "task", task)
        if json:
            print_json([found])
        else:
            console().print(task_shown(found))
        return DONE

    return looking(swarm, name, see)


@tasks.command(name="retry")
def retry_task(
    task: TaskId, /, *, reason: Reason, swarm: Target = None, name: Name = "default"
) -> int:
    """Try an escalated task again."""
    return _act("retry", task, reason, swarm, name)


@tasks.command(name="cancel")
def cancel_task(
    task: TaskId, /, *, reason: Reason, swarm: Target = None, name: Name = "default"
) -> int:
    """Cancel a task."""
    return _act("cancel", task, reason, swarm, name)


@tasks.command(name="resolve")
def resolve_task(
    task: TaskId,
    result: Annotated[str, Parameter(help="Its result, as JSON.")],
    /,
    *,
    reason: Reason,
    swarm: Target = None,
    name: Name = "default",
) -> int:
    """Complete an escalated task, or one that a person does, by hand."""
    try:
        value = orjson.loads(result)
    except orjson.JSONDecodeError as error:
        raise ValueError(f"the result is no JSON: {error}") from None
    return _act("resolve", task, reason, swarm, name, value)


def _act(
    action: str,
    task: str,
    reason: str,
    swarm: str | None,
    name: str,
    value: Any = None,
) -> int:
    async def see(source: Source) -> int:
        await source.act(action, task, reason, value)
        console().print(Text(f"{action}: {task}"))
        return DONE

    return looking(swarm, name, see)
