"""`swarm.trace(task)`: what happened for a task, as text and pictures."""

from typing import Any

from swarm.errors import NotFound
from swarm.model import Displayable
from swarm.observability._panels import Lines, Panel, Part, Picture, to_html
from swarm.observability._sequence import (
    sequence_lines,
    sequence_mermaid,
    sequence_svg,
)
from swarm.observability._trace_facts import trace
from swarm.system import Surface

_NO_ASKS = "asks and tells are left out unless swarm.timeline() was open all the time"
_CUT = "steps that have left the log, or from the middle of a long trace, are left out"


class Trace(Displayable):
    """The steps of one task up to now, in order, as a sequence.

    See `swarm.observability.trace` for the records it is made from.
    """

    def __init__(self, data: dict[str, Any]) -> None:
        """Draw the records that `swarm.observability.trace` has returned."""
        self._data = data

    def __repr__(self) -> str:
        return f"<Trace of task {self._data['task']}, {len(self._data['steps'])} steps>"

    def data(self) -> dict[str, Any]:
        """Return the trace as plain JSON records."""
        return self._data

    @property
    def notes(self) -> list[str]:
        """The gaps in it, in words."""
        notes = [] if self._data["asks_recorded"] else [_NO_ASKS]
        return [*notes, _CUT] if self._data["is_cut"] else notes

    def text(self) -> str:
        """Return a line for each step; a failed step is marked by "!"."""
        head = f"trace of task {self._data['task']} ({self._data['kind']})"
        lines = [f"{head}: {self._data['status']}", *sequence_lines(self._data)]
        return "\n".join([*lines, *(f"({note})" for note in self.notes)])

    def mermaid(self) -> str:
        """Return a Mermaid sequence diagram."""
        return sequence_mermaid(self._data)

    def svg(self) -> str:
        """Return a picture as SVG; at most 80 steps are drawn."""
        return sequence_svg(self._data)[0]

    def html(self) -> str:
        """Return the picture and its steps as HTML, with everything escaped."""
        return to_html(self._panel())

    def _panel(self) -> Panel:
        svg, width, height = sequence_svg(self._data)
        lines = sequence_lines(self._data)
        parts: list[Part] = [Picture(svg, width, height, lines)]
        if self.notes:
            parts.append(Lines([f"({note})" for note in self.notes]))
        title = f"trace of task {self._data['task']} ({self._data['kind']})"
        return Panel(title, self._data["status"], parts)


def trace_of(swarm: Surface, task: Any) -> Trace:
    """Return the trace of a task: its id, handle, claim or record.

    Raises:
        NotFound: There is no such task, or the policy hides it.
    """
    task_id = task if isinstance(task, str) else getattr(task, "task_id", None)
    task_id = task_id or getattr(task, "id", None)
    data = trace(swarm, task_id) if isinstance(task_id, str) else None
    if data is None:
        raise NotFound(f"there is no task {task!r} (any more)")
    return Trace(data)
