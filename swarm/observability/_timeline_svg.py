"""A timeline drawn as text, Mermaid and SVG. Pure."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from swarm.observability._graph_svg import svg_of, svg_text
from swarm.observability._panels import COLOURS

_BAR: Final = 60
_AGENTS: Final = 50
_INTERVALS: Final = 200
"""How many intervals of one agent are drawn."""

_NAME: Final = 130
_WIDTH: Final = 640
_ROW: Final = 22
_TOP: Final = 30
_FILL: Final = {"busy": COLOURS["blue"], "waiting": "#f0b429"}


def timeline_bars(seen: Mapping[str, Any]) -> list[str]:
    """Return a line of text for each agent, with a bar."""
    agents = seen["agents"][:_AGENTS]
    width = min(20, max((len(each["name"]) for each in agents), default=0))
    lines = []
    for each in agents:
        name = each["name"][:width].ljust(width)
        sums = f"busy {each['busy']:.3g} s, waiting {each['waiting']:.3g} s"
        lines.append(f"{name}  {_bar(seen, each['intervals'])}  {sums}")
    if len(seen["agents"]) > len(agents):
        lines.append(f"… {len(seen['agents']) - len(agents)} more")
    return lines


def _bar(seen: Mapping[str, Any], intervals: Sequence[Mapping[str, Any]]) -> str:
    total = max(seen["to"] - seen["from"], 1e-9)
    cells = ["·"] * _BAR
    for state, mark in (("busy", "█"), ("waiting", "░")):
        for each in intervals:
            if each["state"] == state:
                first = int((each["from"] - seen["from"]) / total * _BAR)
                last = int((each["to"] - seen["from"]) / total * _BAR)
                for cell in range(max(0, first), min(_BAR, max(last, first + 1))):
                    cells[cell] = mark
    return "".join(cells)


_CODES: Final = {ord(c): " " for c in "#;:,\n"}


def timeline_mermaid(seen: Mapping[str, Any]) -> str:
    """Return a Mermaid Gantt chart, in milliseconds; waits are marked "active"."""
    lines = ["gantt", "    dateFormat x", "    axisFormat %S.%L s"]
    for each in seen["agents"][:_AGENTS]:
        lines.append(f"    section {each['name'].translate(_CODES)}")
        for interval in each["intervals"][:_INTERVALS]:
            begin = round((interval["from"] - seen["from"]) * 1000)
            end = max(begin + 1, round((interval["to"] - seen["from"]) * 1000))
            mark = "active, " if interval["state"] == "waiting" else ""
            what = interval["what"].translate(_CODES)
            lines.append(f"    {what} :{mark}{begin}, {end}")
    return "\n".join(lines)


def timeline_svg(seen: Mapping[str, Any]) -> tuple[str, int, int]:
    """Return a timeline as SVG, with its width and height."""
    agents = seen["agents"][:_AGENTS]
    total = max(seen["to"] - seen["from"], 1e-9)
    width, height = _NAME + _WIDTH + 10, _TOP + _ROW * len(agents) + 24
    drawn = [_legend()]
    for number, each in enumerate(agents):
        y = _TOP + number * _ROW
        name = each["name"] if len(each["name"]) <= 20 else f"{each['name'][:19]}…"
        drawn.append(svg_text(_NAME - 8, y + 13, name, anchor="end"))
        ground = f"<rect x='{_NAME}' y='{y}' width='{_WIDTH}' height='{_ROW - 6}'"
        drawn.append(f"{ground} fill='#eaeef2'/>")
        for state in ("busy", "waiting"):
            drawn += [
                _rect(interval, seen["from"], total, y)
                for interval in each["intervals"][-_INTERVALS:]
                if interval["state"] == state
            ]
    axis = _TOP + _ROW * len(agents) + 14
    drawn.append(svg_text(_NAME, axis, "0 s"))
    drawn.append(svg_text(_NAME + _WIDTH, axis, f"{total:.3g} s", anchor="end"))
    return svg_of(drawn, width, height), width, height


def _rect(interval: Mapping[str, Any], begun: float, total: float, y: int) -> str:
    x = _NAME + (interval["from"] - begun) / total * _WIDTH
    width = max(1.0, (interval["to"] - interval["from"]) / total * _WIDTH)
    fill = _FILL[interval["state"]]
    return (
        f"<rect x='{x:.1f}' y='{y}' width='{width:.1f}' height='{_ROW - 6}' "
        f"fill='{fill}'/>"
    )


def _legend() -> str:
    pieces = []
    for number, (word, fill) in enumerate({**_FILL, "idle": "#eaeef2"}.items()):
        x = _NAME + number * 80
        pieces.append(f"<rect x='{x}' y='8' width='12' height='12' fill='{fill}'/>")
        pieces.append(svg_text(x + 17, 18, word))
    return "".join(pieces)
