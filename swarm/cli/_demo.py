"""`swarm demo`: the example `code_audit`, run from wherever it is installed."""

import asyncio
import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import TextIO

_NAME = "swarm_code_audit"
_PLACES = (
    Path(__file__).parent / "code_audit",  # in a wheel
    Path(__file__).parents[2] / "examples" / "code_audit",  # in a checkout
)


def run_demo(folder: Path | None, report: Path, analysts: int, out: TextIO) -> int:
    """Audit `folder` and return the exit status; progress and errors go to `out`."""
    program = _load()
    where = Path(asyncio.__file__).parent if folder is None else folder
    problems: list[BaseException] = []

    def show(text: str) -> None:
        print(text, file=out, flush=True)

    try:
        print(asyncio.run(program.audit(where, report, show=show, analysts=analysts)))
    except* (program.NothingToAudit, OSError) as group:
        problems += _leaves(group)
    for problem in problems:
        show(f"swarm demo: {problem}")
    return 1 if problems else 0


def _leaves(group: BaseExceptionGroup[BaseException]) -> Iterator[BaseException]:
    for error in group.exceptions:
        if isinstance(error, BaseExceptionGroup):
            yield from _leaves(error)
        else:
            yield error


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
