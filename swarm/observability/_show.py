"""`await swarm.show()`: a swarm in a notebook, kept up to date until it is idle."""

import sys
from collections.abc import Callable
from typing import Any, Final

from swarm.errors import Closed, DeadlockError
from swarm.model import as_seconds
from swarm.observability._panels import Panel, to_html, to_text
from swarm.observability._source import FactSource, source_of
from swarm.observability._swarm_views import swarm_panel
from swarm.system import Surface, kernel_of_notebook

SHORTEST: Final = 0.25
"""Seconds between two updates: at most four in a second."""


async def show(
    swarm: Surface, *, every: float = SHORTEST, timeout: float | None = None
) -> None:
    """Show a swarm until it is idle; see `Surface.show`."""
    if not as_seconds("every", every) >= SHORTEST:
        raise ValueError(f"every is {SHORTEST} seconds or more, not {every}")
    source = source_of(swarm)
    if source.is_closed:
        raise Closed("a swarm that has ended cannot be shown")
    if source.coordinator.is_caller_inside():
        raise DeadlockError(
            f"code of swarm '{source.coordinator.name}' cannot wait until the swarm is "
            "idle, for it would wait for itself; display the swarm instead"
        )
    clock = source.clock
    end = float("inf")
    if timeout is not None:
        end = clock.monotonic() + as_seconds("timeout", timeout)
    update = _display() if kernel_of_notebook() is not None else _print
    shown = swarm_panel(swarm)
    update(shown)
    while not is_idle(source) and clock.monotonic() < end:
        await clock.sleep(every)
        panel = swarm_panel(swarm)
        if panel != shown and update is not _print:
            update(panel)
        shown = panel
    update(swarm_panel(swarm))


def is_idle(source: FactSource) -> bool:
    """Return whether nothing goes on that this process knows of.

    No agent has a turn or a queued request, no handler of events runs, and no task is
    running, or pending with a worker that serves its kind. A swarm that has ended is
    idle.
    """
    if source.is_closed:
        return True
    coordinator, work = source.coordinator, source.work
    work = coordinator.work if work is None else work
    if any(cell.load() for cell in coordinator.table.cells.values()):
        return False
    if any(recipient.stats.in_flight for recipient in coordinator.bus):
        return False
    if work is None:
        return True
    if next(iter(work.index.running()), None) is not None:
        return False
    waiting = {(record.address, record.spec.kind) for record in work.index.pending()}
    return not any(work.is_served(*each) for each in waiting)


def _print(panel: Panel) -> None:
    sys.stdout.write(f"{to_text(panel)}\n")


def _display() -> Callable[[Panel], None]:
    """Return a function that shows panels in one place of a notebook's output."""
    from IPython import display

    show_in: Any = display.display
    handle: Any = None

    def update(panel: Panel) -> None:
        nonlocal handle
        data = {"text/plain": to_text(panel), "text/html": to_html(panel)}
        if handle is None:
            handle = show_in(data, raw=True, display_id=True)
        else:
            handle.update(data, raw=True)

    return update
