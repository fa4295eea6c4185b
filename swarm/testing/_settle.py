"""The end of a run: tasks that are left are cancelled and run to their end."""

# ruff: noqa: SLF001
from __future__ import annotations

import asyncio
from typing import Any, cast

from swarm.testing._errors import StepLimitError, StuckError
from swarm.testing._loop import SimLoop

TEARDOWN_STEPS = 10_000


def settle(loop: SimLoop) -> None:
    """Cancel the tasks that are left, in order of creation, and run them to their end.

    Failures there are added to `complaints`, as are tasks that failed and that nothing
    awaited. Raises nothing but `KeyboardInterrupt` and `SystemExit`.
    """
    loop.note_forgotten()
    loop.monitors.clear()
    loop.interventions = []
    loop.tracer = None
    loop.faults.disarm()
    loop.restore_order()
    loop.max_steps = loop.steps + TEARDOWN_STEPS
    loop.max_time = None
    left = sorted(asyncio.all_tasks(loop), key=loop.lane_of)
    try:
        if left:
            for task in left:
                task.cancel()
            loop.run_until_complete(asyncio.gather(*left, return_exceptions=True))
        if loop._asyncgens:  # type: ignore[attr-defined]
            loop.run_until_complete(loop.shutdown_asyncgens())
    except (StuckError, StepLimitError) as exc:
        loop.complaints.append({"message": f"teardown: {exc}", "exception": exc})
    for task in left:
        if not task.done():
            cast("Any", task)._log_destroy_pending = False
        elif not task.cancelled() and (error := task.exception()) is not None:
            message = f"task {task.get_name()} failed when it was cancelled at the end"
            loop.complaints.append({"message": message, "exception": error})
