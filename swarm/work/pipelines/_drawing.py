"""Pipelines and their runs as text and as Mermaid flowcharts. Pure."""

from collections.abc import Mapping, Sequence
from typing import Final

from swarm.work.pipelines._graph import StageProgress, StageShape

_COLOURS: Final = {
    "pending": "fill:#eee,stroke:#999",
    "running": "fill:#cfe2ff,stroke:#0d6efd",
    "completed": "fill:#d1e7dd,stroke:#198754",
    "failed": "fill:#f8d7da,stroke:#dc3545",
    "skipped": "fill:#fff,stroke:#999,stroke-dasharray:4",
}

_CODES: Final = {ord(c): f"#{ord(c)};" for c in '#"<>{}[]()|'}
"""The character codes of the characters that are syntax in Mermaid."""


def draw_text(
    title: str,
    stages: Sequence[StageShape],
    progress: Mapping[str, StageProgress] | None = None,
) -> str:
    """Return one line for each stage, after a line with the title."""
    rows: list[tuple[str, ...]] = []
    for stage in stages:
        after = f"after {', '.join(stage.after)}" if stage.after else "first"
        if progress is None:
            rows.append((stage.name, stage.label, after, _options(stage)))
        else:
            each = progress[stage.name]
            rows.append((stage.name, _status(stage, each), _lasted(each), after))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        for row in rows
    ]
    return "\n".join([title, *(f"  {line}".rstrip() for line in lines)])


def draw_mermaid(
    stages: Sequence[StageShape], progress: Mapping[str, StageProgress] | None = None
) -> str:
    """Return a Mermaid flowchart; the stages of a run are coloured by status."""
    place = {stage.name: f"s{number}" for number, stage in enumerate(stages)}
    lines = ["flowchart LR"]
    for stage in stages:
        below = stage.label
        if progress is not None:
            below = _status(stage, progress[stage.name])
        text = f"{stage.name}\n{below}".translate(_CODES).replace("\n", "<br/>")
        box = f'[["{text}"]]' if stage.map else f'["{text}"]'
        lines.append(f"    {place[stage.name]}{box}")
    for stage in stages:
        lines += [f"    {place[name]} --> {place[stage.name]}" for name in stage.after]
    if progress is not None:
        statuses = sorted({each.status for each in progress.values()})
        lines += [f"    classDef {status} {_COLOURS[status]}" for status in statuses]
        lines += [
            f"    class {place[s.name]} {progress[s.name].status}" for s in stages
        ]
    return "\n".join(lines)


def _options(stage: StageShape) -> str:
    options = []
    if stage.map:
        options.append(f"for each item, {stage.concurrency} at a time")
    if stage.agent is not None:
        options.append(f"by agent {stage.agent}")
    if stage.timeout is not None:
        options.append(f"{stage.timeout:g} s each")
    return ", ".join(options)


def _status(stage: StageShape, each: StageProgress) -> str:
    many = f" {each.tasks}/{each.of}" if stage.map and each.of is not None else ""
    return f"{each.status}{many}" + (f": {each.error}" if each.error else "")


def _lasted(each: StageProgress) -> str:
    if not each.started_at or not each.ended_at:
        return ""
    return f"{(each.ended_at - each.started_at).total_seconds():.1f} s"
