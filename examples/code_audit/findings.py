"""The records that the agents exchange, frozen so that no receiver changes them."""

from typing import Any

import attrs
from cattrs.preconf.orjson import make_converter

from swarm import event

_CONVERTER = make_converter()


@attrs.frozen
class Finding:
    """Something a reader of the code should know."""

    kind: str
    file: str
    line: int
    text: str
    weight: int = 1


@attrs.frozen
class Function:
    """One function or method, measured."""

    name: str
    line: int
    lines: int
    complexity: int
    is_public: bool
    has_docstring: bool


@attrs.frozen
class FileReport:
    """The report of an analyst on one file."""

    file: str
    lines: int
    code_lines: int
    functions: tuple[Function, ...]
    classes: int
    findings: tuple[Finding, ...]
    mentions: frozenset[str]
    is_test: bool


@attrs.frozen
class Review:
    """The reviewer's summary of all reports."""

    folder: str
    files: int
    lines: int
    code_lines: int
    functions: int
    classes: int
    hotspots: tuple[tuple[str, Function, str], ...]
    findings: tuple[Finding, ...]
    largest: tuple[tuple[str, int], ...]


@event("audit.considered")
class Considered:
    """The reviewer has taken a file's report in, the `count`-th one."""

    file: str
    count: int


def as_json(report: FileReport) -> dict[str, Any]:
    """Return a report as a JSON value, as tasks and handoffs hold it."""
    found: dict[str, Any] = _CONVERTER.unstructure(report)
    return found


def as_report(value: dict[str, Any]) -> FileReport:
    """Return the report that `as_json` described."""
    return _CONVERTER.structure(value, FileReport)
