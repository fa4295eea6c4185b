"""The plan: a pipeline of three stages, and who does what.

Each file is a task, taken by one of the analysts, of which one fails now and then. What
an analyst has parsed it hands on to the reviewer. The first stage waits for all files,
the second merges the findings, the third writes the report. Kept in a store, the run
can be killed at any moment and gone on with: nothing that was finished is done again.
"""

from collections.abc import Callable
from pathlib import Path
from urllib.parse import quote

import anyio

from swarm import (
    Backoff,
    NotFound,
    Pipeline,
    PipelineRun,
    Stage,
    Swarm,
    SwarmConfig,
    TaskInfo,
    TaskOptions,
)

from .agents import Analyst, Reviewer, Scout, Writer
from .findings import Considered

Show = Callable[[str], object]

_RUN = "audit"

_CONFIG = SwarmConfig(tasks=TaskOptions(keep=1_000_000))
"""The report of each file is kept with its task until the reviewer merges them."""


class NothingToAudit(Exception):
    """The folder is not there, or holds no Python files."""


class AuditThere(Exception):
    """The store holds an audit, and the new one is not to go on with it."""


async def audit(
    folder: Path,
    report: Path | None,
    *,
    show: Show,
    analysts: int = 4,
    storage: Path | str | None = None,
    resume: bool = False,
    watched: bool = False,
) -> tuple[str, str]:
    """Audit `folder`; return a sentence about it, and the report.

    The report is written to the file `report` as well, unless that is None. The
    work is kept in `storage`: a folder, or the URL of a store; None: nowhere. With
    `resume`, what is there already goes on.
    If it is watched, a dashboard is served, the analysts take their time, and the swarm
    stays until it is cancelled.

    Raises:
        NothingToAudit: There is no such folder, or no Python file in it.
        AuditThere: `storage` holds an audit already, and `resume` is false.
        ImportError: It is to be watched, and the dashboard is not installed.
    """
    if not await anyio.Path(folder).is_dir():
        raise NothingToAudit(f"{folder} is not a folder")
    folder = Path(await anyio.Path(folder).resolve())
    url = "memory://" if storage is None else str(storage)
    if "://" not in url and not url.startswith("file:"):
        # What is written survives the end of the process, not that of the machine.
        url = f"file:{quote(url)}?durability=process"
    async with Swarm("audit", url, config=_CONFIG) as swarm:
        if not resume and await is_there(swarm):
            raise AuditThere(f"{storage} holds an audit; --resume goes on with it")
        if watched:
            await swarm.dashboard(actions=True, tell=show)
        pace = 3 if watched else 0
        sentence, text = await audit_in(
            swarm, folder, report, show=show, analysts=analysts, pace=pace
        )
        if watched:
            show(f"{sentence}; Ctrl-C ends the swarm and its dashboard")
            await anyio.sleep_forever()
    return sentence, text


async def audit_in(
    swarm: Swarm,
    folder: Path,
    report: Path | None,
    *,
    show: Show,
    analysts: int,
    pace: float = 0,
) -> tuple[str, str]:
    """Audit `folder` with the agents of an open swarm; return as `audit` does."""
    scout = await swarm.spawn(Scout)
    files = [file async for file in scout.stream(Scout.files, folder)]
    if not files:
        raise NothingToAudit(f"there are no Python files in {folder}")
    show(f"{len(files)} files for {analysts} analysts")
    names = [file.relative_to(folder).as_posix() for file in files]

    # One reviewer over all processes: on a server it outlives a process that is killed.
    await swarm.spawn(
        Reviewer, folder, name="reviewer", role="reviewer", singleton=True
    )
    await swarm.spawn(Writer)
    for number in range(analysts):
        await swarm.spawn(Analyst, folder, number == 0, pace)

    async with anyio.create_task_group() as group:
        group.start_soon(follow, swarm, len(names), show)
        run = await start(swarm, names, show)
        written = await run.result()
        group.cancel_scope.cancel()

    # One writer at a time; one that lost its lease could not sign the report.
    async with swarm.lock(f"report {report}").acquire(ttl=60) as lease:
        text = str(written["text"])
        if report is not None:
            await anyio.Path(report).write_text(text, encoding="utf-8")
        signed = {"file": str(report), "token": lease.token}
        await swarm.state.set("shared.audit.report", signed, guard=lease)
    where = "" if report is None else f"; the report is in {report}"
    return f"{written['summary']}{where}", text


async def is_there(swarm: Swarm) -> bool:
    """Return whether the store of a swarm holds an audit, finished or not."""
    try:
        await swarm.pipelines.get(_RUN)
    except NotFound:
        return False
    return True


async def start(swarm: Swarm, files: list[str], show: Show) -> PipelineRun:
    """Begin the audit of these files, or go on with the one that is there."""

    async def read(files: list[str]) -> list[str]:
        """Have every file read; return the ids of their tasks."""
        await swarm.tasks.gather(
            "audit.file",
            [{"file": file} for file in files],
            key="audit",
            max_retries=5,
            backoff=Backoff(0.05, 1),
        )
        records = tasks_of(swarm, files)
        again = sum(len(record.errors) for record in records)
        show(f"reviewed {len(files)} of {len(files)}; {again} attempts had failed")
        return [record.id for record in records]

    flow = Pipeline(
        "audit",
        [
            Stage("read", read),
            Stage("review", Reviewer.review),
            Stage("write", Writer.write),
        ],
    )
    try:
        return await swarm.pipelines.resume(_RUN, flow)
    except NotFound:
        return await swarm.pipelines.start(flow, files, id=_RUN)


def tasks_of(swarm: Swarm, files: list[str]) -> list[TaskInfo]:
    """Return the task of each file.

    Raises:
        LookupError: Some were removed, with their reports.
    """
    found = swarm.tasks.find(kind="audit.file", limit=len(files))
    if len(found) < len(files):
        raise LookupError(
            f"{len(files) - len(found)} reports were removed before all were there; "
            f"a swarm that audits {len(files)} files keeps as many tasks "
            "(TaskOptions.keep)"
        )
    return found


async def follow(swarm: Swarm, total: int, show: Show) -> None:
    """Show the progress that the reviewer announces."""
    async with swarm.events.subscribe(Considered) as events:
        async for event in events:
            count = event.payload.count
            if count < total and count * 10 // total > (count - 1) * 10 // total:
                show(f"reviewed {count} of {total}")
