"""Records as people read them in a terminal, and as programs do: an object a line."""

import sys
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final

import orjson
from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

_COLORS: Final = {
    "complete": "green",
    "running": "cyan",
    "busy": "cyan",
    "failed": "red",
    "error": "red",
    "critical": "red",
    "escalated": "magenta",
    "cancelled": "yellow",
    "degraded": "yellow",
    "healthy": "green",
}


def console() -> Console:
    """Return standard output: with colours at a terminal, unless NO_COLOR is set."""
    return Console(highlight=False, soft_wrap=not sys.stdout.isatty())


def print_json(records: Iterable[Any]) -> None:
    """Print an object a line on standard output."""
    for record in records:
        print(orjson.dumps(record, default=str).decode(), flush=True)


def status_text(status: str) -> Text:
    """Return a status in its colour."""
    return Text(status, style=_COLORS.get(status, ""))


def time_of(seconds: float | None) -> str:
    """Return a time of day of this machine."""
    if not seconds:
        return ""
    return datetime.fromtimestamp(seconds, UTC).astimezone().strftime("%H:%M:%S")


def plain(value: Any) -> str:
    """Return a text of users without control characters: a terminal obeys those."""
    text = str(value)
    return "".join(c if c.isprintable() or c == "\n" else "\ufffd" for c in text)


def table(columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> Table:
    """Return a table without lines; texts of users are shown as they are."""
    shown = Table(box=None, pad_edge=False, header_style="bold")
    for name in columns:
        number = name.startswith("#")
        shown.add_column(
            name.lstrip("#"),
            justify="right" if number else "left",
            overflow="fold" if name == columns[-1] else "ellipsis",
            no_wrap=name != columns[-1],
        )
    for row in rows:
        shown.add_row(
            *(each if isinstance(each, Text) else Text(plain(each)) for each in row)
        )
    return shown


# --- pages ----------------------------------------------------------------------------


def overview_shown(
    facts: Mapping[str, Any], agents: Sequence[Mapping[str, Any]]
) -> RenderableType:
    """Return a swarm in numbers, and its busiest agents."""
    health = facts["health"]
    head = Text.assemble(
        (plain(facts["name"]), "bold"),
        f"  {facts['phase']}  revision {facts['revision']}  health ",
        status_text(health["status"]),
    )
    lines: list[RenderableType] = [head]
    lines += [
        Text(f"  {plain(issue)}", style="yellow") for issue in health["issues"][:5]
    ]
    tasks = facts["tasks"]
    lines.append(Text(f"tasks   {_counts(tasks.get('by_status', {}))}"))
    lines.append(Text(f"agents  {_counts(facts['agents']['by_status'])}"))
    lines.append(
        Text(
            f"locks   {facts['locks']['held']} held, {facts['locks']['queued']} waiting"
            f"   dead letters {facts['events']['dead_letters']}"
            f"   failures {facts['failures']['count']}"
        )
    )
    reasons = sorted(
        tasks.get("failure_reasons", {}).items(), key=lambda each: -each[1]
    )
    if reasons:
        lines += [Text(""), table(("#n", "why attempts failed"), _swapped(reasons[:5]))]
    if agents:
        lines += [Text(""), agents_table(agents, most=15)]
    return Group(*lines)


def _swapped(pairs: Iterable[tuple[str, int]]) -> list[tuple[int, str]]:
    return [(number, text) for text, number in pairs]


def _counts(counts: Mapping[str, int]) -> str:
    shown = ", ".join(f"{number} {status}" for status, number in counts.items())
    return shown or "none"


def agents_table(agents: Sequence[Mapping[str, Any]], most: int) -> Table:
    """Return the busiest agents with their load and what they do."""
    busiest = sorted(agents, key=lambda each: -each["load"])[:most]
    return table(
        ("agent", "status", "#load", "#handled", "turn"),
        [
            (
                each["name"],
                status_text(each["status"]),
                each["load"],
                each["handled"],
                each["turn"] or ", ".join(each["waits_for"]) or "",
            )
            for each in busiest
        ],
    )


def tasks_table(tasks: Sequence[Mapping[str, Any]]) -> Table:
    """Return tasks, one a line."""
    return table(
        ("task", "kind", "status", "#attempt", "agent", "error"),
        [
            (
                each["id"],
                each["kind"],
                status_text(each["status"]),
                each.get("attempt", ""),
                each.get("assignee") or "",
                each.get("error") or "",
            )
            for each in tasks
        ],
    )


def task_shown(task: Mapping[str, Any]) -> RenderableType:
    """Return everything about one task."""
    lines: list[RenderableType] = []
    for name, value in task.items():
        if value in (None, [], {}, "") or name == "history":
            continue
        text = value if isinstance(value, str) else orjson.dumps(value, default=str)
        shown = text.decode() if isinstance(text, bytes) else text
        lines.append(Text.assemble((f"{name:16}", "bold"), plain(shown)))
    history = task.get("history") or []
    if history:
        rows = [
            (
                time_of(each.get("at")),
                each.get("step", ""),
                status_text(str(each.get("status", ""))),
                each.get("agent", ""),
                each.get("reason", ""),
            )
            for each in history
        ]
        lines += [Text(""), table(("at", "step", "status", "agent", "reason"), rows)]
    return Group(*lines)


def event_line(event: Mapping[str, Any]) -> Text:
    """Return an event in one line."""
    payload = orjson.dumps(event["payload"], default=str).decode()
    return Text.assemble(
        (f"{event['seq']:>8} ", "dim"),
        f"{time_of(event['at'])} ",
        (f"{event['type']:24} ", "bold"),
        f"{plain(event['source']):16} {payload}",
    )
