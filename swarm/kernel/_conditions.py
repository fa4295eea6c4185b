"""The conditions of a commit, checked in the step that writes. Pure."""

from collections.abc import Callable, Sequence
from typing import Any

from swarm.errors import ConflictError
from swarm.kernel._log import Log
from swarm.model import ABSENT, Document, Path, Segment, dig
from swarm.ports import Condition, Expect, ExpectFolder, Holder, holder_record


def check_conditions(
    conditions: Sequence[Condition],
    by_text: dict[str, Document],
    log: Log,
    now: Callable[[], int],
) -> None:
    """Refuse a commit unless all of its conditions hold.

    Args:
        conditions: What must hold.
        by_text: The newest version of every document.
        log: The newest commits.
        now: Tells kernel time.

    Raises:
        ConflictError: A document or folder has changed.
        Exception: What the record of a `Holder` raised.
    """
    folders: dict[int, set[tuple[Segment, ...]]] = {}
    for condition in conditions:
        if isinstance(condition, Expect):
            document = by_text.get(condition.path.text)
            current = 0 if document is None else document.version
            if current != condition.version:
                raise conflict(condition.path, condition.version, document)
        elif isinstance(condition, ExpectFolder):
            segments = condition.folder.segments
            folders.setdefault(condition.revision, set()).add(segments)
        else:
            check_holder(condition, by_text.get(condition.path.text), now())
    for revision, names in folders.items():
        _check_folders(revision, names, log)


def check_holder(condition: Holder, document: Document | None, now: int) -> None:
    """Refuse a write whose lease or claim is not a live holder.

    Raises:
        StaleLease: It is not; or `StaleClaim`, as the condition says.
    """
    record: Any = None if document is None else holder_record(document)
    if record is None:
        raise condition.error(
            f"nothing is held at {condition.path} any more; nothing was written"
        )
    record.check_holder(condition.id, condition.token, now)


def _check_folders(revision: int, names: set[tuple[Segment, ...]], log: Log) -> None:
    """Look for changes of these folders in the commits after a revision."""
    if revision < log.compacted:
        raise ConflictError(
            message=f"the log has let go of changes since revision {revision}, so "
            f"{_name(next(iter(names)))} may have changed (Limits.log_commits)"
        )
    for number in range(log.after(revision), log.end):
        for document in log.entry(number).documents:
            segments = document.path.segments
            for n in range(len(segments) + 1):
                if segments[:n] in names:
                    raise ConflictError(
                        message=f"{document.path} has changed since revision "
                        f"{revision}, and all of {_name(segments[:n])} was read then"
                    )


def _name(segments: tuple[Segment, ...]) -> str:
    return Path.of(*segments).text or "the root"


def conflict(path: Path, expected: int, document: Document | None) -> ConflictError:
    """Return the error that says what stands at `path` in place of `expected`."""
    value = None
    if document is not None:
        value = dig(document.value, path.segments[len(document.path.segments) :])
    return ConflictError(
        path,
        expected=expected,
        current=0 if document is None else document.version,
        value=None if value is ABSENT else value,
        author=None if document is None else document.author,
    )
