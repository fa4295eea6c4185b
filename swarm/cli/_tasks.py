"""`swarm tasks`: list, show, retry, cancel and resolve tasks."""

from functools import partial
from typing import Annotated, Literal, TypeAlias

from cyclopts import App, Parameter

from swarm.cli import _look as look
from swarm.cli._options import (
    AtLeastOne,
    Json,
    Name,
    Reason,
    Target,
    TaskId,
    looking,
    parsed,
)

Status: TypeAlias = Literal[
    "pending", "running", "complete", "failed", "cancelled", "escalated"
]

tasks: App = App(name="tasks", help="List, show, retry, cancel or resolve tasks.")


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
    see = partial(
        look.list_tasks,
        kind=kind,
        status=status,
        agent=agent,
        error=error,
        limit=limit,
        as_json=json,
    )
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
    return looking(
        swarm, name, lambda source: look.show_task(source, task, as_json=json)
    )


@tasks.command(name="retry")
def retry_task(
    task: TaskId, /, *, reason: Reason, swarm: Target = None, name: Name = "default"
) -> int:
    """Try an escalated task again."""
    return looking(swarm, name, partial(look.act_on_task, "retry", task, reason))


@tasks.command(name="cancel")
def cancel_task(
    task: TaskId, /, *, reason: Reason, swarm: Target = None, name: Name = "default"
) -> int:
    """Cancel a task."""
    return looking(swarm, name, partial(look.act_on_task, "cancel", task, reason))


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
    value = parsed("the result", result)
    return looking(
        swarm, name, partial(look.act_on_task, "resolve", task, reason, value=value)
    )
