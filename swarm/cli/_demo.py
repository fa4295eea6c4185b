"""`swarm demo`: the example `code_audit`, run from wherever it is installed."""

import asyncio
import importlib.util
import os
import sys
from pathlib import Path
from types import ModuleType
from typing import Final, TextIO

from swarm.cli._program import leaves

REPORT: Final = Path("code-audit-report.md")
"""The default file of the report."""

ANALYSTS: Final = 4
"""The default number of analysts, which read side by side."""

_NAME = "swarm_code_audit"
_PLACES = (
    Path(__file__).parent / "code_audit",  # in a wheel
    Path(__file__).parents[2] / "examples" / "code_audit",  # in a checkout
)


def run_demo(
    folder: Path | None,
    report: Path | None,
    analysts: int,
    out: TextIO,
    storage: str | None = None,
    *,
    resume: bool = False,
    watched: bool = False,
) -> int:
    """Audit `folder` and return the exit status; progress and errors go to `out`.

    The report goes to the file `report`; None: to standard output. The work is kept in
    the folder or store `storage`; None: it is kept nowhere. `resume` goes on with what
    is there. If the swarm is watched, it serves a dashboard and stays until an
    interrupt.
    """
    program = _load()
    where = Path(asyncio.__file__).parent if folder is None else folder
    problems: list[str] = []

    def show(text: str) -> None:
        print(text, file=out, flush=True)

    if resume and storage is None:
        show("swarm demo: --resume goes on with the work of a store; add --storage URL")
        return 1
    if report is not None and (problem := _why_not_writable(report)):
        show(f"swarm demo: {problem}")
        return 1
    try:
        auditing = program.audit(
            where,
            report,
            show=show,
            analysts=analysts,
            storage=storage,
            resume=resume,
            watched=watched,
        )
        sentence, text = asyncio.run(auditing)
        if report is None:
            print(text)
            show(sentence)
        else:
            print(sentence)
    except* (program.NothingToAudit, program.AuditThere, OSError, ImportError) as group:
        problems += map(str, leaves(group))
    for problem in problems:
        show(f"swarm demo: {problem}")
    return 1 if problems else 0


def _why_not_writable(report: Path) -> str:
    """Return why the report cannot be written to a file, or ""."""
    if report.is_dir():
        return f"cannot write the report to {report}: it is a folder"
    if not report.parent.is_dir():
        return f"cannot write the report to {report}: there is no {report.parent}"
    if not os.access(report if report.exists() else report.parent, os.W_OK):
        return f"cannot write the report to {report}: permission denied"
    return ""


def _load() -> ModuleType:
    """Import the example as a package of its own, and return its program."""
    place = next((place for place in _PLACES if place.is_dir()), None)
    if place is None:
        raise FileNotFoundError("this installation of swarm came without its demo")
    spec = importlib.util.spec_from_file_location(
        _NAME, place / "__init__.py", submodule_search_locations=[str(place)]
    )
    assert spec is not None
    assert spec.loader is not None
    package = importlib.util.module_from_spec(spec)
    sys.modules[_NAME] = package
    spec.loader.exec_module(package)
    return importlib.import_module(f"{_NAME}.program")
