"""The report, in Markdown."""

from collections.abc import Iterator
from itertools import groupby

from .findings import Finding, Review

_SHOWN = 10


def sections(review: Review) -> Iterator[str]:
    """Yield the sections of the report."""
    yield f"# Code audit of `{review.folder}`\n"
    yield _summary(review)
    yield _largest(review)
    yield _hotspots(review)
    yield from _findings(review)


def _summary(review: Review) -> str:
    return (
        "## Summary\n\n"
        f"- {review.files} files, {review.lines} lines, {review.code_lines} of code\n"
        f"- {review.functions} functions, {review.classes} classes\n"
        f"- {len(review.findings)} findings\n"
    )


def _largest(review: Review) -> str:
    rows = "\n".join(f"| `{file}` | {lines} |" for file, lines in review.largest)
    return f"## Largest files\n\n| file | lines of code |\n|---|---|\n{rows}\n"


def _hotspots(review: Review) -> str:
    if not review.hotspots:
        return "## Most complex functions\n\nNone is complex.\n"
    rows = "\n".join(
        f"| `{function.name}` | `{file}:{function.line}` | {function.complexity} "
        f"| {function.lines} | {why} |"
        for file, function, why in review.hotspots
    )
    head = (
        "| function | where | complexity | lines | because of |\n|---|---|---|---|---|"
    )
    return f"## Most complex functions\n\n{head}\n{rows}\n"


def _findings(review: Review) -> Iterator[str]:
    def kind(finding: Finding) -> tuple[int, str]:
        return -finding.weight, finding.kind

    for (_, name), group in groupby(sorted(review.findings, key=kind), kind):
        found = list(group)
        lines = [f"- `{f.file}:{f.line}` {f.text}" for f in found[:_SHOWN]]
        if len(found) > _SHOWN:
            lines.append(f"- and {len(found) - _SHOWN} more")
        title = f"## {name.capitalize()} ({len(found)})"
        yield "\n".join([title, "", *lines, ""])
