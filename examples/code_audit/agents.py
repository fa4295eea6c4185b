"""The four kinds of agents. Their public async methods are what others may ask."""

from collections.abc import AsyncIterator
from pathlib import Path

import anyio.to_thread

from swarm import Agent, Ref

from . import analysis
from .findings import Considered, FileReport, Finding, Function, Review
from .report import sections

_SKIPPED = {".git", ".venv", "venv", "node_modules", "__pycache__", ".tox", "build"}
_QUESTIONS = 5
_PARSERS = 2


class Scout(Agent):
    """Finds the files."""

    async def files(self, folder: Path) -> AsyncIterator[Path]:
        """Yield every Python file below `folder`, in order, as others take them."""
        for file in await anyio.to_thread.run_sync(_python_files, folder):
            yield file


class Analyst(Agent):
    """Reads files, one at a time, and remembers what they were like."""

    def __init__(self, folder: Path) -> None:
        """Work on files below `folder`."""
        self.folder = folder

    async def analyse(self, file: Path) -> FileReport:
        """Return what is to be said of one file; parsing happens in a thread.

        However many analysts there are, only a few files are parsed at a time.
        """
        async with self.swarm.semaphore("parsers", capacity=_PARSERS).acquire():
            report = await anyio.to_thread.run_sync(analysis.analyse, self.folder, file)
        await self.state.increment("files")
        await self.state.increment("lines", report.lines)
        return report

    async def explain(self, file: str, function: Function) -> str:
        """Answer the reviewer's question: what makes this function complex?"""
        return await anyio.to_thread.run_sync(
            analysis.describe, self.folder, file, function.line
        )


class Reviewer(Agent):
    """Collects reports, asks about what looks worst, and merges the findings."""

    def __init__(self, folder: Path) -> None:
        """Review the code below `folder`."""
        self.folder = folder
        self.reports: list[FileReport] = []

    async def consider(self, report: FileReport) -> None:
        """Take a report in."""
        self.reports.append(report)
        await self.swarm.events.publish(Considered(report.file, len(self.reports)))

    async def review(self, analysts: list[Ref[Analyst]]) -> Review:
        """Return the merged review, after questions to the analysts."""
        reports = sorted(self.reports, key=lambda report: report.file)
        worst = sorted(
            ((r.file, f) for r in reports for f in r.functions if not r.is_test),
            key=lambda item: (-item[1].complexity, item[0], item[1].line),
        )
        hotspots: list[tuple[str, Function, str]] = []
        for turn, (file, function) in enumerate(worst[:_QUESTIONS]):
            if function.complexity > analysis.COMPLEX:
                analyst = analysts[turn % len(analysts)]
                why = await analyst.ask(Analyst.explain, file, function)
                hotspots.append((file, function, why))
        findings = [finding for report in reports for finding in report.findings]
        findings += untested(reports)
        findings.sort(key=lambda f: (-f.weight, f.kind, f.file, f.line))
        by_size = sorted(reports, key=lambda r: (-r.code_lines, r.file))
        return Review(
            folder=str(self.folder),
            files=len(reports),
            lines=sum(report.lines for report in reports),
            code_lines=sum(report.code_lines for report in reports),
            functions=sum(len(report.functions) for report in reports),
            classes=sum(report.classes for report in reports),
            hotspots=tuple(hotspots),
            findings=tuple(findings),
            largest=tuple((r.file, r.code_lines) for r in by_size[:_QUESTIONS]),
        )


class Writer(Agent):
    """Composes the report, section by section."""

    async def write(self, review: Review) -> AsyncIterator[str]:
        """Yield the report's sections in Markdown."""
        for section in sections(review):
            yield section


def _python_files(folder: Path) -> list[Path]:
    found = (
        file
        for file in folder.rglob("*.py")
        if file.is_file() and _SKIPPED.isdisjoint(file.relative_to(folder).parts)
    )
    return sorted(found)


def untested(reports: list[FileReport]) -> list[Finding]:
    """Return public functions that no test mentions, if there are tests at all."""
    mentioned = {name for r in reports if r.is_test for name in r.mentions}
    if not mentioned:
        return []
    return [
        Finding("untested-looking", r.file, f.line, f"{f.name} is in no test")
        for r in reports
        if not r.is_test
        for f in r.functions
        if f.is_public and f.name not in mentioned
    ]
