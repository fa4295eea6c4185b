"""Facts about pipelines; see `_facts`."""

from itertools import islice
from typing import Any, Final

from swarm.errors import SwarmError
from swarm.model import Path
from swarm.observability._masking import masked, shown_text
from swarm.observability._source import bounded, seconds, source_of
from swarm.system import Surface
from swarm.work import RunView, read_run, read_runs

_PIPELINES: Final = Path.of("pipelines")
_ERROR: Final = 500


def pipelines(swarm: Surface, *, limit: int = 50) -> list[dict[str, Any]]:
    """Return the runs of pipelines, the newest first.

    Returns:
        Records `{"id", "name", "status", "started_at", "requester", "cancelled",
        "stages"}`; status: "running", "completed", "failed" or "cancelled"; stages: in
        the order of their dependencies, `{"name", "label", "status", "after", "map",
        "tasks", "of", "agent", "started_at", "ended_at", "error"}`.
    """
    source = source_of(swarm)
    found: list[RunView] = source.read(
        read_runs, source.sees, None, bounded(limit), default=[]
    )
    return [_run(seen) for seen in found]


def pipeline(swarm: Surface, run_id: str) -> dict[str, Any] | None:
    """Return one run of a pipeline; None: there is no such run.

    Returns:
        The record of `pipelines`, with "given" (the input), an "output" for each
        completed stage, and "task_ids" of each stage, at most 100.
    """
    source = source_of(swarm)
    try:
        if not source.sees(_PIPELINES.child(run_id)):
            return None
        seen = source.read(read_run, run_id, default=None)
    except SwarmError:  # there is none, or the id cannot be a name
        return None
    return None if seen is None else run_fact(seen)


def run_fact(seen: RunView) -> dict[str, Any]:
    """Return a run as `pipeline` shows it."""
    record = _run(seen)
    for stage in record["stages"]:
        progress = seen.progress[stage["name"]]
        records = islice(progress.records.values(), 100)
        stage["task_ids"] = [record.spec.id for record in records]
        if progress.status == "completed":
            stage["output"] = masked(progress.output, name=stage["name"])
    return {**record, "given": masked(seen.record.given)}


def _run(seen: RunView) -> dict[str, Any]:
    record, progress = seen.record, seen.progress
    return {
        "id": record.id,
        "name": record.name,
        "status": seen.status,
        "started_at": seconds(record.started_at),
        "requester": record.requester.agent_id,
        "cancelled": record.cancelled,
        "stages": [
            {
                "name": stage.name,
                "label": stage.label,
                "after": list(stage.after),
                "map": stage.map,
                "agent": stage.agent,
                "status": progress[stage.name].status,
                "tasks": progress[stage.name].tasks,
                "of": progress[stage.name].of,
                "started_at": seconds(progress[stage.name].started_at),
                "ended_at": seconds(progress[stage.name].ended_at),
                "error": shown_text(progress[stage.name].error, _ERROR),
            }
            for stage in record.stages
        ],
    }
