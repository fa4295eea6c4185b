"""The plan: the work of each agent, in order."""

from collections.abc import Callable
from pathlib import Path

import anyio

from swarm import Ref, Swarm

from .agents import Analyst, Reviewer, Scout, Writer
from .findings import Considered

Show = Callable[[str], object]


class NothingToAudit(Exception):
    """The folder is not there, or holds no Python files."""


async def audit(
    folder: Path, report: Path | None, *, show: Show, analysts: int = 4
) -> tuple[str, str]:
    """Audit `folder`; return a sentence about it, and the report.

    The report is written to the file `report` as well, unless that is None.

    Raises:
        NothingToAudit: There is no such folder, or no Python file in it.
    """
    if not await anyio.Path(folder).is_dir():
        raise NothingToAudit(f"{folder} is not a folder")
    folder = Path(await anyio.Path(folder).resolve())
    async with Swarm() as swarm:
        scout = await swarm.spawn(Scout)
        readers = [await swarm.spawn(Analyst, folder) for _ in range(analysts)]
        reviewer = await swarm.spawn(Reviewer, folder)
        writer = await swarm.spawn(Writer)

        files = [file async for file in scout.stream(Scout.files, folder)]
        if not files:
            raise NothingToAudit(f"there are no Python files in {folder}")
        show(f"{len(files)} files for {len(readers)} analysts")

        async with anyio.create_task_group() as group:
            group.start_soon(follow, swarm, len(files), show)
            await read_all(swarm, readers, reviewer, files, show)

        review = await reviewer.within(300).ask(Reviewer.review, readers)
        # One writer at a time; one that lost its lease could not sign the report.
        async with swarm.lock(f"report {report}").acquire(ttl=60) as lease:
            sections = [text async for text in writer.stream(Writer.write, review)]
            text = "\n".join(sections)
            if report is not None:
                await anyio.Path(report).write_text(text, encoding="utf-8")
            signed = {"file": str(report), "token": lease.token}
            await swarm.state.set("shared.audit.report", signed, guard=lease)
    where = "" if report is None else f"; the report is in {report}"
    sentence = (
        f"{review.files} files, {review.code_lines} lines of code, "
        f"{len(review.findings)} findings{where}"
    )
    return sentence, text


async def read_all(
    swarm: Swarm,
    readers: list[Ref[Analyst]],
    reviewer: Ref[Reviewer],
    files: list[Path],
    show: Show,
) -> None:
    """Let every analyst read what the others have not, and tell the reviewer.

    None of them is done before all are: they meet at a barrier.
    """
    due = iter(files)
    finish = swarm.barrier("all read", parties=len(readers))

    async def work(analyst: Ref[Analyst]) -> None:
        for file in due:
            found = await analyst.within(300).ask(Analyst.analyse, file)
            await reviewer.tell(Reviewer.consider, found)
        arrival = await finish.wait(timeout=300)
        if arrival.is_leader:
            show("every file is read")

    async with anyio.create_task_group() as group:
        for analyst in readers:
            group.start_soon(work, analyst)


async def follow(swarm: Swarm, total: int, show: Show) -> None:
    """Show the progress that the reviewer announces, until all is reviewed."""
    async with swarm.events.subscribe(Considered, since=0) as events:
        async for event in events:
            count = event.payload.count
            if count * 10 // total > (count - 1) * 10 // total:
                show(f"reviewed {count} of {total}")
            if count >= total:
                return
