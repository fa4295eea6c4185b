"""The four kinds of agents. Their public async methods are what others may ask."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread

from swarm import Agent, Claim, Handoff, serves

from . import analysis
from .findings import (
    Considered,
    FileReport,
    Finding,
    Function,
    Review,
    as_json,
    as_report,
)
from .report import sections

_SKIPPED = {".git", ".venv", "venv", "node_modules", "__pycache__", ".tox", "build"}
_QUESTIONS = 5
_PARSERS = 2
_STUMBLES = 4
"""A clumsy analyst fails at every such file that it takes up."""


class Scout(Agent):
    """Finds the files."""

    async def files(self, folder: Path) -> AsyncIterator[Path]:
        """Yield every Python file below `folder`, in order, as others take them."""
        for file in await anyio.to_thread.run_sync(_python_files, folder):
            yield file


class Analyst(Agent):
    """Takes files as tasks, one at a time, and hands what it found to the reviewer."""

    def __init__(self, folder: Path, is_clumsy: bool = False, pace: float = 0) -> None:
        """Work on files below `folder`, each for at least `pace` seconds.

        A clumsy analyst fails now and then.
        """
        self.folder = folder
        self.is_clumsy = is_clumsy
        self.pace = pace
        self.taken = 0

    @serves("audit.file", lease=5)
    async def read(self, claim: Claim) -> dict[str, Any]:
        """Parse a file, at most once for each task, and hand the task on."""
        self.taken += 1
        if self.pace:  # a person watches
            await claim.progress(30, "opening the file")
            await anyio.sleep(self.pace)
        if self.is_clumsy and claim.attempt == 1 and self.taken % _STUMBLES == 0:
            raise ConnectionError(f"{self.name} spilled its coffee")
        file: str = claim.payload["file"]
        report: dict[str, Any] = await claim.step("parse", self.parse, file)
        handoff = await self.handoffs.offer(
            claim,
            to="role:reviewer",
            completed={"report": report},
            remaining="judge what was found",
        )
        await handoff.outcome()
        return report  # counts only if the reviewer did not take the task

    async def parse(self, file: str) -> dict[str, Any]:
        """Return what is to be said of one file; parsing happens in a thread.

        However many analysts there are, only a few files are parsed at a time.
        """
        async with self.swarm.semaphore("parsers", capacity=_PARSERS).acquire():
            report = await anyio.to_thread.run_sync(
                analysis.analyse, self.folder, self.folder / file
            )
        await self.state.increment("files")
        await self.state.increment("lines", report.lines)
        return as_json(report)

    async def explain(self, file: str, function: Function) -> str:
        """Answer the reviewer's question: what makes this function complex?"""
        return await anyio.to_thread.run_sync(
            analysis.describe, self.folder, file, function.line
        )


class Reviewer(Agent):
    """Takes over tasks whose file was parsed, and merges the findings."""

    def __init__(self, folder: Path) -> None:
        """Review the code below `folder`."""
        self.folder = folder
        self.considered = 0

    async def started(self) -> None:
        """Go on counting where the reviewer before this one was."""
        latest = await self.checkpoints.latest()
        if latest is not None:
            self.considered = latest.state["considered"]

    async def handoff(self, offer: Handoff) -> dict[str, Any]:
        """Take a report in; it becomes the result of its task."""
        await offer.accept()
        self.considered += 1
        report = offer.completed["report"]
        await self.checkpoints.save({"considered": self.considered}, report["file"])
        await self.swarm.events.publish(Considered(report["file"], self.considered))
        return dict(report)

    async def review(self, task_ids: list[str]) -> Review:
        """Return the merged review, after questions to the analysts."""
        results = [await self.swarm.tasks.get(task).result() for task in task_ids]
        reports = sorted(map(as_report, results), key=lambda report: report.file)
        worst = sorted(
            ((r.file, f) for r in reports for f in r.functions if not r.is_test),
            key=lambda item: (-item[1].complexity, item[0], item[1].line),
        )
        analysts = self.swarm.agents.find(type=Analyst)
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
    """Composes the report."""

    async def write(self, review: Review) -> dict[str, Any]:
        """Return the report in Markdown, with the figures that sum it up."""
        return {
            "text": "\n".join(sections(review)),
            "summary": f"{review.files} files, {review.code_lines} lines of code, "
            f"{len(review.findings)} findings",
        }


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
