"""Graphs as SVG: boxes in columns, joined by arrows. Pure.

Used for pipelines and for the wait-for graph. The longest path to a node decides its
column; nothing is optimised beyond that, so small graphs read well and large ones are
cut by their callers.
"""

from collections.abc import Mapping, Sequence
from html import escape
from typing import Final

import attrs

from swarm.observability._masking import clipped

_BOX: Final = (170, 40)
_GAP: Final = (60, 16)
_MARGIN: Final = 10
_FONT: Final = "font-family='sans-serif' font-size='11'"


@attrs.frozen
class GraphNode:
    """A box: a title, a line below it, and the colour of its border."""

    id: str
    title: str
    below: str = ""
    colour: str = "#6e7781"


@attrs.frozen
class GraphEdge:
    """An arrow from one node to another."""

    source: str
    target: str
    colour: str = "#6e7781"


def graph_svg(
    nodes: Sequence[GraphNode], edges: Sequence[GraphEdge]
) -> tuple[str, int, int]:
    """Return a graph as SVG, with its width and height."""
    column = _columns([node.id for node in nodes], edges)
    rows: dict[int, int] = {}
    place: dict[str, tuple[int, int]] = {}
    for node in nodes:
        at = column[node.id]
        row = rows.get(at, 0)
        rows[at] = row + 1
        place[node.id] = (
            _MARGIN + at * (_BOX[0] + _GAP[0]),
            _MARGIN + row * (_BOX[1] + _GAP[1]),
        )
    width = 2 * _MARGIN + (max(rows, default=0) + 1) * (_BOX[0] + _GAP[0]) - _GAP[0]
    height = 2 * _MARGIN + max(rows.values(), default=1) * (_BOX[1] + _GAP[1]) - _GAP[1]
    drawn = [_arrow(edge, place) for edge in edges]
    drawn += [_box(node, *place[node.id]) for node in nodes]
    return svg_of(drawn, width, height), width, height


def svg_of(drawn: Sequence[str], width: int, height: int) -> str:
    """Return an SVG picture on a white ground, with the markers of arrows."""
    return (
        f"<svg xmlns='http://www.w3.org/2000/svg' width='{width}' height='{height}' "
        f"viewBox='0 0 {width} {height}'>"
        f"<defs>{_marker('a', '#57606a')}{_marker('r', '#cf222e')}</defs>"
        f"<rect width='{width}' height='{height}' fill='#ffffff'/>"
        f"<g {_FONT} fill='#24292f'>{''.join(drawn)}</g></svg>"
    )


def marker_for(colour: str) -> str:
    """Return the attribute that ends a line of this colour by an arrow."""
    return f"marker-end='url(#{'r' if colour == '#cf222e' else 'a'})'"


def _marker(name: str, colour: str) -> str:
    return (
        f"<marker id='{name}' viewBox='0 0 8 8' refX='7' refY='4' markerWidth='7' "
        f"markerHeight='7' orient='auto'><path d='M0 0L8 4L0 8z' fill='{colour}'/>"
        "</marker>"
    )


def svg_text(
    x: float, y: float, text: str, *, anchor: str = "start", more: str = ""
) -> str:
    """Return a text element; the text is escaped."""
    where = f"x='{x:g}' y='{y:g}'"
    middle = "" if anchor == "start" else f" text-anchor='{anchor}'"
    return f"<text {where}{middle}{more}>{svg_escape(text)}</text>"


def svg_escape(text: str) -> str:
    """Return text as it may stand in SVG: escaped, without control characters."""
    return escape("".join(c for c in text if c.isprintable() or c == " "))


def _columns(ids: Sequence[str], edges: Sequence[GraphEdge]) -> dict[str, int]:
    """Return the column of each node: one more than any before it; cycles are cut."""
    before: dict[str, list[str]] = {node: [] for node in ids}
    for edge in edges:
        before[edge.target].append(edge.source)
    column: dict[str, int] = {}

    def place(node: str, path: Mapping[str, None]) -> int:
        known = column.get(node)
        if known is not None:
            return known
        deeper = {**path, node: None}
        above = [place(each, deeper) for each in before[node] if each not in deeper]
        column[node] = max(above, default=-1) + 1
        return column[node]

    for node in ids:
        place(node, {})
    return column


def _box(node: GraphNode, x: int, y: int) -> str:
    width, height = _BOX
    rect = (
        f"<rect x='{x}' y='{y}' width='{width}' height='{height}' rx='5' "
        f"fill='#ffffff' stroke='{node.colour}' stroke-width='2'/>"
    )
    bold = " font-weight='600'"
    first = svg_text(x + 8, y + 16, clipped(node.title, 25), more=bold)
    second = svg_text(x + 8, y + 32, clipped(node.below, 25)) if node.below else ""
    return f"{rect}{first}{second}"


def _arrow(edge: GraphEdge, place: Mapping[str, tuple[int, int]]) -> str:
    (x1, y1), (x2, y2) = place[edge.source], place[edge.target]
    width, height = _BOX
    x1, y1, y2 = x1 + width, y1 + height // 2, y2 + height // 2
    if x2 <= x1:  # back, or within one column: around the right side
        x2 += width
        bend = max(x1, x2) + 30
        path = f"M{x1} {y1}C{bend} {y1} {bend} {y2} {x2 + 2} {y2}"
    else:
        middle = (x1 + x2) // 2
        path = f"M{x1} {y1}C{middle} {y1} {middle} {y2} {x2 - 2} {y2}"
    return (
        f"<path d='{path}' fill='none' stroke='{edge.colour}' "
        f"stroke-width='1.5' {marker_for(edge.colour)}/>"
    )
