"""`swarm tasks`: list, show, retry, cancel and resolve tasks."""

from functools import partial
from typing import Annotated, Literal, TypeAlias

from cyclopts import App, Parameter

from swarm.cli import _look as look
from swarm.cli._options import AtLeastOne, Json, Name, Target, looking

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
    swarm
        Which swarm: see `swarm --help`.
    name
        The name of a swarm on a Redis server.
    kind
        A kind, or a pattern of kinds, as `research.*`.
    status
        A status.
    agent
        Only tasks that this agent works on.
    limit
        How many.
    json
        One object a line.
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
    task: str,
    /,
    *,
    swarm: Target = None,
    name: Name = "default",
    json: Json = False,
) -> int:
    """Show a task: payload, attempts, steps, handoffs and audit trail.

    Parameters
    ----------
    task
        Its id.
    swarm
        Which swarm: see `swarm --help`.
    name
        The name of a swarm on a Redis server.
    json
        One object a line.
    """
    return looking(
        swarm, name, lambda source: look.show_task(source, task, as_json=json)
    )


@tasks.command(name="retry")
def retry_task(
    task: str,
    /,
    *,
    reason: str,
    swarm: Target = None,
    name: Name = "default",
) -> int:
    """Try an escalated task again.

    Parameters
    ----------
    task
        Its id.
    reason
        Why; it is kept with the event.
    swarm
        Which swarm: see `swarm --help`.
    name
        The name of a swarm on a Redis server.
    """
    see = partial(look.act_on_task, action="retry", task_id=task, reason=reason)
    return looking(swarm, name, see)


@tasks.command(name="cancel")
def cancel_task(
    task: str,
    /,
    *,
    reason: str,
    swarm: Target = None,
    name: Name = "default",
) -> int:
    """Cancel a task.

    Parameters
    ----------
    task
        Its id.
    reason
        Why; it is kept with the event.
    swarm
        Which swarm: see `swarm --help`.
    name
        The name of a swarm on a Redis server.
    """
    see = partial(look.act_on_task, action="cancel", task_id=task, reason=reason)
    return looking(swarm, name, see)


@tasks.command(name="resolve")
def resolve_task(
    task: str,
    result: str,
    /,
    *,
    reason: str,
    swarm: Target = None,
    name: Name = "default",
) -> int:
    """Complete an escalated task, or one that a person does, by hand.

    Parameters
    ----------
    task
        Its id.
    result
        Its result, as JSON.
    reason
        Why; it is kept with the event.
    swarm
        Which swarm: see `swarm --help`.
    name
        The name of a swarm on a Redis server.
    """
    see = partial(
        look.act_on_task,
        action="resolve",
        task_id=task,
        reason=reason,
        value=result,
    )
    return looking(swarm, name, see)
