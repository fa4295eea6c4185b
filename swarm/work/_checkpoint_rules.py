"""The rules of checkpoints: numbering, retention and validity. Pure.

A series is the folder `checkpoints.<task id>`, or `checkpoints.agent:<name>` for what
an agent keeps of itself. Each checkpoint is a document of its own in it and is named
by its number.
"""

import datetime
from collections.abc import Collection, Sequence
from typing import Final

import attrs

from swarm.errors import ConflictError, NotFound, StateCorruption
from swarm.model import (
    JSON,
    Displayable,
    Document,
    Path,
    checksum,
    kept_json,
    to_datetime,
)
from swarm.ports import Plan, View, Write
from swarm.work._handoff_rules import referenced
from swarm.work._stored import VERSION
from swarm.work._task_record import TaskRecord

KEPT: Final = 20
"""Default number of checkpoints that a series keeps."""

_FOLDER: Final = Path.of("checkpoints")


def task_series(task_id: str) -> Path:
    """Return the folder of a task's checkpoints."""
    return _FOLDER.child(task_id)


def agent_series(name: str) -> Path:
    """Return the folder of an agent's own checkpoints."""
    return _FOLDER.child(f"agent:{name}")


@attrs.frozen(kw_only=True, repr=False)
class Checkpoint(Displayable):
    """A state that work can go on from. Immutable; `state` is a private copy.

    Attributes:
        seq: Its number in the series, from 1; a later one is larger.
        task: The task it belongs to; None in an agent's own series.
        agent: The name of the agent that saved it.
        description: The sentence it was saved with.
        state: The saved value.
        parent: The number of the checkpoint before it; 0 for the first.
        schema_version: The version of the state's schema, or None.
        step: The durable step it stands for, or "".
        hash: SHA-256 of the state's canonical JSON, in hex.
    """

    seq: int = 0
    task: str | None = None
    agent: str
    description: str = ""
    state: JSON
    parent: int = 0
    schema_version: int | None = None
    step: str = ""
    hash: str
    _at: int = 0

    @property
    def at(self) -> datetime.datetime:
        """When it was saved, in UTC."""
        return to_datetime(self._at)

    @property
    def is_valid(self) -> bool:
        """Whether the state is what was saved, by its hash."""
        return checksum(self.state) == self.hash

    def __str__(self) -> str:
        what = f": {self.description}" if self.description else ""
        when = self.at.isoformat(timespec="seconds")
        return f"checkpoint {self.seq} by {self.agent} at {when}{what}"

    def __repr__(self) -> str:
        of = f"task {self.task}" if self.task is not None else f"agent '{self.agent}'"
        return f"<Checkpoint {self.seq} of {of}, {self.description!r}>"


# --- reading ------------------------------------------------------------------------


def sequence(view: View, series: Path) -> list[int]:
    """Return the numbers of a series' checkpoints, oldest first."""
    return sorted(int(document.path.name) for document in view.documents(series))


def checkpoints(view: View, series: Path) -> list[Checkpoint]:
    """Return the checkpoints of a series, oldest first."""
    found = [_decode(document) for document in view.documents(series)]
    return sorted(found, key=lambda checkpoint: checkpoint.seq)


def find(view: View, series: Path, seq: int | None = None) -> Checkpoint | None:
    """Return one checkpoint, the newest by default; None when there is none.

    The newest is the one with the largest number, whatever the clock said (C1).
    """
    if seq is None:
        seq = (sequence(view, series) or [0])[-1]
    document = view.find(series.child(str(seq)))
    return None if document is None else _decode(document)


def restorable(
    found: Sequence[Checkpoint], series: Path, seq: int | None
) -> Checkpoint:
    """Return the checkpoint with this number, or the newest valid one for None."""
    candidates = [each for each in reversed(found) if seq in (None, each.seq)]
    if not candidates:
        which = "no checkpoint" if seq is None else f"no checkpoint {seq}"
        raise NotFound(f"{series} has {which}")
    for checkpoint in candidates:
        if checkpoint.is_valid:
            return checkpoint
    raise StateCorruption(
        f"{series.child(str(candidates[0].seq))}: the hash does not fit the state"
    )


def _decode(document: Document) -> Checkpoint:
    value = document.value
    value.pop("version", None)
    return Checkpoint(**value)


# --- changing -----------------------------------------------------------------------


def append(
    view: View,
    series: Path,
    new: Checkpoint,
    parent: int | None = None,
    keep: int = KEPT,
) -> Plan:
    """Plan the next checkpoint of a series, and the end of the oldest ones (C1, C7).

    The first write is the checkpoint; it is the outcome as well.
    """
    numbers = sequence(view, series)
    newest = numbers[-1] if numbers else 0
    if parent is not None and parent != newest:
        raise ConflictError(
            series.child(str(newest)) if newest else series,
            expected=parent,
            current=newest,
            message=(
                f"{series} is at checkpoint {newest}, not {parent}: another writer has "
                "saved meanwhile"
            ),
        )
    made = attrs.evolve(new, seq=newest + 1, parent=newest, at=view.now)
    value = {
        field.alias: getattr(made, field.name) for field in attrs.fields(Checkpoint)
    }
    path = series.child(str(made.seq))
    writes = [Write(path, kept_json({**value, "version": VERSION}))]
    stay = referenced(view, new.task)
    writes += _removals(series, [*numbers, made.seq], keep, stay)
    return Plan(writes, (), made)


def prune(view: View, series: Path, keep: int, task_id: str | None = None) -> Plan:
    """Plan the end of all but the newest `keep` checkpoints (C7).

    The newest valid one stays, and so do those that a handoff in force refers to. The
    outcome is the number of checkpoints removed.
    """
    found = checkpoints(view, series)
    valid = [checkpoint.seq for checkpoint in found if checkpoint.is_valid]
    stay = {*referenced(view, task_id), *valid[-1:]}
    doomed = _removals(series, [checkpoint.seq for checkpoint in found], keep, stay)
    return Plan(doomed, (), len(doomed))


def leftovers(view: View, task: TaskRecord) -> list[Write]:
    """Return the deletions of a task's checkpoints, for the commit that removes it."""
    return [Write(d.path) for d in view.documents(task.spec.folder_in(_FOLDER))]


def _removals(
    series: Path, numbers: Sequence[int], keep: int, stay: Collection[int]
) -> list[Write]:
    """Return the deletions of those beyond the newest `keep` that need not stay."""
    return [Write(series.child(str(n))) for n in numbers[:-keep] if n not in stay]
