"""Panels of everything that can be displayed, and which panel an object has."""

from collections.abc import Callable
from typing import Any, Final

from swarm.agents import Actor, AgentInfo, Ref, Registry
from swarm.bus import Events, Page
from swarm.coordination import (
    BarrierHandle,
    Barriers,
    Lease,
    LockHandle,
    Locks,
    SemaphoreHandle,
    Semaphores,
)
from swarm.model import Change, ChangeList, Displayable, Event
from swarm.observability import _coordination_views as coordination
from swarm.observability import _swarm_views as agents
from swarm.observability import _tree_views as tree
from swarm.observability import _work_views as work
from swarm.observability._diff import Diff
from swarm.observability._panels import Lines, Panel, to_html, to_text
from swarm.state import StateHandle
from swarm.system import Surface
from swarm.work import (
    Checkpoint,
    Handoff,
    Pipeline,
    PipelineRun,
    Pipelines,
    Task,
    TaskInfo,
    TaskList,
    Tasks,
)

View = Callable[[Any], Panel]

_VIEWS: Final[dict[type, View]] = {
    Surface: agents.swarm_panel,
    Ref: agents.ref_panel,
    Actor: agents.actor_panel,
    AgentInfo: agents.info_panel,
    Registry: agents.registry_panel,
    Task: work.task_panel,
    TaskInfo: work.task_info_panel,
    TaskList: work.task_list_panel,
    Tasks: work.tasks_panel,
    Pipeline: work.pipeline_panel,
    PipelineRun: work.run_panel,
    Pipelines: work.pipelines_panel,
    Checkpoint: work.checkpoint_panel,
    Handoff: work.handoff_panel,
    LockHandle: coordination.lock_panel,
    Locks: coordination.locks_panel,
    SemaphoreHandle: coordination.semaphore_panel,
    Semaphores: coordination.semaphores_panel,
    BarrierHandle: coordination.barrier_panel,
    Barriers: coordination.barriers_panel,
    Lease: coordination.lease_panel,
    StateHandle: tree.state_panel,
    Change: tree.change_panel,
    ChangeList: tree.changes_panel,
    Diff: tree.diff_panel,
    Event: tree.event_panel,
    Events: tree.bus_panel,
    Page: tree.events_panel,
}


def panel_of(shown: object) -> Panel:
    """Return the panel of an object.

    Raises:
        LookupError: No panel is known for objects of its class.
    """
    own = getattr(shown, "_panel", None)
    if own is not None:
        panel: Panel = own()
        return panel
    for cls in type(shown).__mro__:
        view = _VIEWS.get(cls)
        if view is not None:
            return view(shown)
        if cls.__module__.startswith("swarm.testing"):
            return _report_panel(shown)
    raise LookupError(f"there is no panel for {type(shown).__name__}")


def mimebundle(shown: Displayable) -> dict[str, str]:
    """Return an object as `text/plain` and `text/html`; never raises.

    An object that cannot be drawn, because the swarm is in another event loop for
    one, is shown by its `repr`.
    """
    try:
        panel = panel_of(shown)
        return {"text/plain": to_text(panel), "text/html": to_html(panel)}
    except Exception:  # noqa: BLE001  # a picture must not break the cell it is in
        return {"text/plain": repr(shown)}


def _report_panel(report: Any) -> Panel:
    """Return a result of `swarm.testing`, which only its own users load."""
    failure = report if hasattr(report, "explain") else None
    failure = getattr(report, "failure", failure)
    error = getattr(report, "error", None) if failure is None else failure.error
    badge = "ok" if error is None else "failed"
    told = str(report) if "__str__" in vars(type(report)) else ""
    title = f"{type(report).__name__.lower()} of a simulation"
    parts: list[Any] = []
    if told:
        parts.append(Lines([told]))
    goals = getattr(report, "goals", None)
    if goals:
        met = [f"{'met' if goals[name] else 'never met'}: {name}" for name in goals]
        parts.append(Lines(met, title="goals"))
    if failure is not None:
        parts.append(Lines(failure.explain().splitlines()))
    elif error is not None:
        parts.append(Lines([f"{type(error).__name__}: {error}"]))
    trace = getattr(report, "trace", "") if failure is None else ""
    if trace:
        parts.append(Lines(trace.splitlines()))
    return Panel(title, badge, parts)
