"""`swarm.trace(task)`: what happened for a task, as text and pictures."""

from collections.abc import Mapping, Sequence
from typing import Any, Final, TypeAlias

from swarm.errors import NotFound
from swarm.model import Displayable
from swarm.observability._graph_svg import marker_for, svg_of, svg_text
from swarm.observability._masking import clipped
from swarm.observability._panels import (
    COLOURS,
    Lines,
    Panel,
    Part,
    Picture,
    to_html,
)
from swarm.observability._trace_facts import trace
from swarm.system import Surface

Step: TypeAlias = Mapping[str, Any]
"""A step of a trace, as `trace` returns it."""

_LANE: Final = 150
_ROW: Final = 24
_LEFT: Final = 70
_TOP: Final = 44
_DRAWN: Final = 80
"""The most steps in a picture."""

_GREY: Final = COLOURS["grey"]
_FAINT: Final = f" fill='{_GREY}'"

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
        lines = [f"{head}: {self._data['status']}", *_lines(self._data)]
        return "\n".join([*lines, *(f"({note})" for note in self.notes)])

    def mermaid(self) -> str:
        """Return a Mermaid sequence diagram."""
        return _diagram(self._data)

    def svg(self) -> str:
        """Return a picture as SVG; at most 80 steps are drawn."""
        return _svg(self._data)[0]

    def html(self) -> str:
        """Return the picture and its steps as HTML, with everything escaped."""
        return to_html(self._panel())

    def _panel(self) -> Panel:
        svg, width, height = _svg(self._data)
        lines = _lines(self._data)
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


# --- drawn as text, Mermaid and SVG ---------------------------------------------------


def _lines(seen: Mapping[str, Any]) -> list[str]:
    """Return a line of text for each step of a trace."""
    steps: Sequence[Step] = seen["steps"]
    if not steps:
        return []
    begun = steps[0]["at"]
    whom = [_whom(step) for step in steps]
    width = min(34, max(map(len, whom)))
    return [
        f"{step['at'] - begun:9.3f} s  {pair.ljust(width)}  {_mark(step)}{step['text']}"
        for step, pair in zip(steps, whom, strict=True)
    ]


def _whom(step: Step) -> str:
    return step["from"] if step["to"] is None else f"{step['from']} -> {step['to']}"


def _mark(step: Step) -> str:
    return "! " if step["failed"] else ""


# --- Mermaid --------------------------------------------------------------------------

_CODES: Final = {ord(c): f"#{ord(c)};" for c in '#;"<>{}[]()|&'}


def _diagram(seen: Mapping[str, Any]) -> str:
    """Return a trace as a Mermaid sequence diagram; a failed step has a cross."""
    place = {lane: f"p{number}" for number, lane in enumerate(seen["lanes"])}
    lines = ["sequenceDiagram"]
    for lane, name in place.items():
        lines.append(f"    participant {name} as {_mermaid(lane)}")
    for step in seen["steps"]:
        source, text = place[step["from"]], _mermaid(step["text"]) or "-"
        if step["to"] is None:
            lines.append(f"    Note over {source}: {text}")
        else:
            arrow = _arrow(step)
            lines.append(f"    {source}{arrow}{place[step['to']]}: {text}")
    return "\n".join(lines)


def _arrow(step: Step) -> str:
    is_back = step["op"] == "answer"
    if step["failed"]:
        return "--x" if is_back else "-x"
    return "-->>" if is_back else "->>"


def _mermaid(text: str) -> str:
    """Write the characters of Mermaid's syntax as codes, and all on one line."""
    return " ".join(text.split()).translate(_CODES)


# --- SVG ------------------------------------------------------------------------------


def _svg(seen: Mapping[str, Any]) -> tuple[str, int, int]:
    """Return a trace as SVG, with its width and height; at most 80 steps are drawn."""
    lanes, steps = seen["lanes"], seen["steps"]
    rows = list(steps[:_DRAWN])
    width = _LEFT + max(1, len(lanes)) * _LANE
    height = _TOP + (len(rows) + 1) * _ROW
    at = {lane: _LEFT + _LANE // 2 + n * _LANE for n, lane in enumerate(lanes)}
    drawn = [_head(lane, x, height) for lane, x in at.items()]
    begun = rows[0]["at"] if rows else 0.0
    for number, step in enumerate(rows):
        y = _TOP + number * _ROW + _ROW // 2
        drawn.append(svg_text(4, y + 4, f"{step['at'] - begun:.3f} s", more=_FAINT))
        drawn += _drawn(step, at, y)
    if len(steps) > len(rows):
        more = f"… {len(steps) - len(rows)} more steps"
        drawn.append(svg_text(_LEFT, height - 8, more, more=_FAINT))
    return svg_of(drawn, width, height), width, height


def _head(lane: str, x: int, height: int) -> str:
    line = (
        f"<line x1='{x}' y1='{_TOP - 6}' x2='{x}' y2='{height - 4}' "
        f"stroke='{_GREY}' stroke-dasharray='3 3' stroke-width='0.7'/>"
    )
    box = (
        f"<rect x='{x - 62}' y='8' width='124' height='24' rx='4' fill='#f6f8fa' "
        f"stroke='{_GREY}'/>"
    )
    name = svg_text(
        x, 24, clipped(lane, 20), anchor="middle", more=" font-weight='600'"
    )
    return f"{line}{box}{name}"


def _drawn(step: Step, at: Mapping[str, int], y: int) -> list[str]:
    colour = COLOURS["red"] if step["failed"] else "#24292f"
    x1 = at[step["from"]]
    if step["to"] is None or step["to"] == step["from"]:
        text = _cut(step["text"], 1)
        dot = f"<circle cx='{x1}' cy='{y}' r='3' fill='{colour}'/>"
        return [dot, svg_text(x1 + 8, y + 4, text, more=f" fill='{colour}'")]
    x2 = at[step["to"]]
    end = x2 - 2 if x2 > x1 else x2 + 2
    dashed = " stroke-dasharray='5 3'" if step["op"] == "answer" else ""
    line = (
        f"<line x1='{x1}' y1='{y + 5}' x2='{end}' y2='{y + 5}' stroke='{colour}' "
        f"stroke-width='1.3'{dashed} {marker_for(colour)}/>"
    )
    text = _cut(step["text"], max(1, abs(x2 - x1) // _LANE))
    middle = (x1 + x2) / 2
    ground = " paint-order='stroke' stroke='#ffffff' stroke-width='3'"
    label = svg_text(
        middle, y + 1, text, anchor="middle", more=f" fill='{colour}'{ground}"
    )
    return [line, label]


def _cut(text: str, lanes: int) -> str:
    return clipped(text, lanes * _LANE // 6 - 2)
