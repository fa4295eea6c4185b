"""Panels, and how a panel is drawn as text and as HTML. Pure.

HTML stays within what JupyterLab's sanitizer lets through: tables, `details`, inline
style, pictures as `data:` URLs. There is no script, no style sheet, no network. No
text colour is set but on badges, so that it reads on a dark page and on a light one.
"""

from collections.abc import Iterable, Sequence
from html import escape
from typing import Any, Final, TypeAlias
from urllib.parse import quote

import attrs

from swarm.observability._masking import clipped

HTML_BYTES: Final = 56_000
"""The most bytes of HTML of one panel, about; rows beyond are left out."""

_CELL: Final = 160
"""The most characters of a cell that are shown."""

_WIDTH: Final = 44
"""The most characters in a column of a text table."""


@attrs.frozen
class Badge:
    """A status, with a colour by its meaning."""

    text: str


@attrs.frozen
class Fields:
    """Names and values, one line of each."""

    pairs: Sequence[tuple[str, Any]]


@attrs.frozen
class Table:
    """Rows under headers; `more` rows are left out."""

    headers: Sequence[str]
    rows: Sequence[Sequence[Any]]
    more: int = 0
    title: str = ""


@attrs.frozen
class Lines:
    """Lines of text, as they are."""

    lines: Sequence[str]
    title: str = ""


@attrs.frozen
class Picture:
    """A picture as SVG, with the text that stands for it."""

    svg: str
    width: int
    height: int
    text: Sequence[str] = ()


@attrs.frozen
class Fold:
    """Parts that are folded away in HTML."""

    title: str
    parts: Sequence["Part"]
    is_open: bool = False


Part: TypeAlias = Fields | Table | Lines | Picture | Fold


@attrs.frozen
class Panel:
    """One thing to be shown: a title, a status and parts."""

    title: str
    badge: str = ""
    parts: Sequence[Part] = ()


COLOURS: Final = {
    "green": "#1a7f37",
    "red": "#cf222e",
    "blue": "#0969da",
    "grey": "#6e7781",
    "orange": "#bc4c00",
    "purple": "#8250df",
}

_MEANINGS: Final = {
    "green": "complete completed open healthy idle accepted active created valid ok",
    "red": "failed fail error critical lost broken died expired expire invalid",
    "blue": "running busy requested initializing updated",
    "orange": "escalated escalate retry degraded draining ending paused rejected",
    "purple": "cancelled skipped deleted",
}
_COLOUR_OF: Final = {
    word: colour for colour, words in _MEANINGS.items() for word in words.split()
}


def colour_of(status: str) -> str:
    """Return the colour of a status, as hex digits; grey when it means nothing."""
    return COLOURS[_COLOUR_OF.get(status, "grey")]


# --- text -----------------------------------------------------------------------------


def to_text(panel: Panel) -> str:
    """Return a panel as text that reads well by itself."""
    title = _plain(panel.title)
    head = f"{title} [{_plain(panel.badge)}]" if panel.badge else title
    return "\n".join([head, *_indented(panel.parts)])


def _indented(parts: Iterable[Part]) -> list[str]:
    return [f"  {line}".rstrip() for part in parts for line in _text_of(part)]


def _text_of(part: Part) -> list[str]:
    if isinstance(part, Fields):
        return [f"{name}: {_cell(value)}" for name, value in part.pairs]
    if isinstance(part, Lines):
        lines = list(map(_plain, part.lines))
        return [f"{part.title}:", *_deeper(lines)] if part.title else lines
    if isinstance(part, Picture):
        return list(map(_plain, part.text))
    if isinstance(part, Fold):
        return [f"{_plain(part.title)}:", *_indented(part.parts)]
    return _text_table(part)


def _text_table(table: Table) -> list[str]:
    rows = [tuple(map(str.upper, table.headers))]
    rows += [tuple(clipped(_cell(each), _WIDTH) for each in row) for row in table.rows]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        for row in rows
    ]
    if table.more:
        lines.append(f"… {table.more} more")
    if table.title:
        return [f"{table.title}:", *_deeper(lines)]
    return lines


def _deeper(lines: Iterable[str]) -> list[str]:
    return [f"  {line}" for line in lines]


def _cell(value: Any) -> str:
    if isinstance(value, Badge):
        return value.text
    if value is None or value is True or value is False:
        return {None: "", True: "yes", False: "no"}[value]
    if isinstance(value, float):
        return f"{value:.3g}"
    text = value if isinstance(value, str) else str(value)
    return clipped(_plain(" ".join(text.split())), _CELL)


def _plain(text: str) -> str:
    """Return a line without control characters, which a terminal would obey."""
    return text if text.isprintable() else "".join(map(_visible, text))


def _visible(character: str) -> str:
    return character if character.isprintable() else "\ufffd"


# --- HTML -----------------------------------------------------------------------------

_BORDER: Final = "1px solid #8886"
_TD: Final = f"text-align:left;padding:2px 10px 2px 2px;border-top:{_BORDER}"
_TH: Final = "text-align:left;padding:2px 10px 2px 2px;font-weight:600"


def to_html(panel: Panel, most: int = HTML_BYTES) -> str:
    """Return a panel as HTML of at most `most` bytes, about. Everything is escaped."""
    out = _Html(most)
    badge = f" {_badge(panel.badge)}" if panel.badge else ""
    out.add(
        '<div style="font-size:13px;line-height:1.45">'
        f"<div><b>{_escaped(panel.title)}</b>{badge}</div>"
    )
    for part in panel.parts:
        out.part(part)
    out.add("</div>")
    return "".join(out.pieces)


class _Html:
    """HTML that is being written, within a budget."""

    def __init__(self, most: int) -> None:
        self.pieces: list[str] = []
        self.left = most

    def add(self, html: str) -> None:
        self.pieces.append(html)
        self.left -= len(html.encode())

    def has_room(self, html: str) -> bool:
        return len(html.encode()) + 1_000 < self.left

    def part(self, part: Part) -> None:
        if self.left < 2_000:
            self.add("<div>…</div>")
        elif isinstance(part, Fields):
            self.fields(part)
        elif isinstance(part, Table):
            self.table(part)
        elif isinstance(part, Lines):
            self.lines(part)
        elif isinstance(part, Picture):
            self.picture(part)
        else:
            is_open = " open" if part.is_open else ""
            self.add(f"<details{is_open}><summary>{_escaped(part.title)}</summary>")
            for each in part.parts:
                self.part(each)
            self.add("</details>")

    def fields(self, fields: Fields) -> None:
        self.add('<table style="border-collapse:collapse;margin:4px 0px">')
        for name, value in fields.pairs:
            row = (
                f'<tr><th scope="row" style="{_TH}">{escape(name)}</th>'
                f'<td style="{_TD}">{_html_cell(value)}</td></tr>'
            )
            if self.has_room(row):
                self.add(row)
        self.add("</table>")

    def table(self, table: Table) -> None:
        if table.title:
            self.add(f'<div style="margin-top:6px"><b>{escape(table.title)}</b></div>')
        self.add('<table style="border-collapse:collapse;margin:4px 0px"><thead><tr>')
        for name in table.headers:
            self.add(f'<th scope="col" style="{_TH}">{escape(name)}</th>')
        self.add("</tr></thead><tbody>")
        shown = 0
        for row in table.rows:
            html = "".join(f'<td style="{_TD}">{_html_cell(each)}</td>' for each in row)
            if not self.has_room(html):
                break
            self.add(f"<tr>{html}</tr>")
            shown += 1
        more = table.more + len(table.rows) - shown
        if more:
            span = len(table.headers)
            self.add(f'<tr><td colspan="{span}" style="{_TD}">… {more} more</td></tr>')
        self.add("</tbody></table>")

    def lines(self, lines: Lines) -> None:
        if lines.title:
            self.add(f'<div style="margin-top:6px"><b>{escape(lines.title)}</b></div>')
        self.add('<pre style="margin:2px 0px;white-space:pre-wrap">')
        for line in lines.lines:
            html = f"{_escaped(line)}\n"
            if not self.has_room(html):
                self.add("…\n")
                break
            self.add(html)
        self.add("</pre>")

    def picture(self, picture: Picture) -> None:
        source = quote(picture.svg, safe=" =:/'(),;@!*+$-_.~")
        html = (
            f'<img alt="{_escaped(" / ".join(picture.text)[:300])}" '
            f'width="{picture.width}" height="{picture.height}" '
            f'style="max-width:100%" src="data:image/svg+xml;utf8,{source}">'
        )
        if self.has_room(html):
            self.add(html)
        else:
            self.lines(Lines(picture.text))


def _badge(text: str) -> str:
    return (
        f'<span style="background-color:{colour_of(text)};color:#ffffff;'
        f'padding:0px 6px;border-radius:8px">{escape(text)}</span>'
    )


def _escaped(text: str) -> str:
    return escape(_plain(text))


def _html_cell(value: Any) -> str:
    return _badge(value.text) if isinstance(value, Badge) else escape(_cell(value))
