"""The rules of checkpoints: numbering, retention and validity. Pure.

A series is the folder `checkpoints.<task id>`, or `checkpoints.agent:<name>` for what
an agent keeps of itself. Each checkpoint is a document of its own in it and is named
by its number.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, Final

import attrs
import orjson

from swarm.errors import ConflictError, NotFound, SchemaVersionError, StateCorruption
from swarm.model import JSON, Document, Path, checksum, to_datetime
from swarm.ports import Plan, View, Write

KEPT: Final = 20
"""How many checkpoints a series keeps unless told otherwise."""

_FOLDER: Final = Path.of("checkpoints")


def task_series(task_id: str) -> Path:
    """Return the folder of a task's checkpoints.

    Raises:
        InvalidPath: The id cannot be a name in the tree.
    """
    return _FOLDER.child(task_id)


def agent_series(name: str) -> Path:
    """Return the folder of an agent's own checkpoints.

    Raises:
        InvalidPath: The name cannot be a name in the tree.
    """
    return _FOLDER.child(f"agent:{name}")


@attrs.frozen(kw_only=True)
class Checkpoint:
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
        at: When it was saved, in microseconds since 1970.
    """

    seq: int
    task: str | None
    agent: str
    description: str
    state: JSON
    parent: int
    schema_version: int | None
    step: str
    hash: str
    at: int

    @property
    def is_valid(self) -> bool:
        """Whether the state is what was saved, by its hash."""
        return checksum(self.state) == self.hash

    def __str__(self) -> str:
        what = f": {self.description}" if self.description else ""
        when = to_datetime(self.at).isoformat(timespec="seconds")
        return f"checkpoint {self.seq} by {self.agent} at {when}{what}"


@attrs.frozen(kw_only=True)
class Append:
    """A request to append one checkpoint to a series.

    Attributes:
        series: The folder.
        task: The task the series belongs to, or None.
        agent: The name of the agent that saves.
        description: A sentence about it.
        state: The state as JSON.
        hash: SHA-256 of the state's canonical JSON.
        parent: The number that the newest checkpoint must have (0: there must be
            none), or None: any.
        schema_version: The version of the state's schema, or None.
        step: The durable step it stands for, or "".
        keep: How many checkpoints the series keeps.
    """

    series: Path
    task: str | None = None
    agent: str
    description: str = ""
    state: bytes
    hash: str
    parent: int | None = None
    schema_version: int | None = None
    step: str = ""
    keep: int = KEPT


def append(
    view: View,
    request: Append,
    referenced: Collection[int] = (),
) -> Plan:
    """Plan the next checkpoint of a series, and the end of the oldest ones (C1, C7).

    The outcome is the new checkpoint's number.

    Args:
        view: The tree.
        request: The checkpoint to append.
        referenced: Numbers that an open handoff refers to; they stay.

    Raises:
        ConflictError: `parent` is not the newest checkpoint (C6).
    """
    numbers = sequence(view, request.series)
    newest = numbers[-1] if numbers else 0
    if request.parent is not None and request.parent != newest:
        raise ConflictError(
            request.series.child(str(newest)) if newest else request.series,
            expected=request.parent,
            current=newest,
            message=(
                f"{request.series} is at checkpoint {newest}, not {request.parent}: "
                "another writer has saved meanwhile"
            ),
        )
    seq = newest + 1
    body = orjson.dumps(
        {
            "seq": seq,
            "task": request.task,
            "agent": request.agent,
            "description": request.description,
            "state": orjson.Fragment(request.state),
            "parent": newest,
            "schema_version": request.schema_version,
            "step": request.step,
            "hash": request.hash,
            "at": view.now,
        }
    )
    doomed = surplus([*numbers, seq], request.keep, referenced)
    writes = [Write(request.series.child(str(seq)), body)]
    writes += [Write(request.series.child(str(old))) for old in doomed]
    return Plan(writes, (), seq)


def prune(
    view: View, series: Path, keep: int, referenced: Collection[int] = ()
) -> Plan:
    """Plan the end of all but the newest `keep` checkpoints (C7).

    The newest valid one stays, and so do those that an open handoff refers to. The
    outcome is the number of checkpoints removed.
    """
    found = checkpoints(view, series)
    numbers = [checkpoint.seq for checkpoint in found]
    stay = set(referenced)
    valid = next((c.seq for c in reversed(found) if c.is_valid), None)
    if valid is not None:
        stay.add(valid)
    doomed = surplus(numbers, keep, stay)
    return Plan([Write(series.child(str(seq))) for seq in doomed], (), len(doomed))


def leftovers(view: View, task_id: str) -> list[Write]:
    """Return the deletions of a task's checkpoints, for the commit that removes it."""
    return [Write(found.path) for found in view.documents(task_series(task_id))]


def surplus(
    numbers: Sequence[int], keep: int, referenced: Collection[int]
) -> list[int]:
    """Return the numbers beyond the newest `keep` that nothing refers to."""
    return [seq for seq in sorted(numbers)[:-keep] if seq not in referenced]


# --- reading ----------------------------------------------------------------------


def sequence(view: View, series: Path) -> list[int]:
    """Return the numbers of a series' checkpoints, oldest first."""
    return sorted(int(document.path.name) for document in view.documents(series))


def checkpoints(view: View, series: Path) -> list[Checkpoint]:
    """Return the checkpoints of a series, oldest first."""
    return sorted(map(decode, view.documents(series)), key=_seq_of)


def find(view: View, series: Path, seq: int | None = None) -> Checkpoint | None:
    """Return one checkpoint, the newest by default; None when there is none.

    The newest is the one with the largest number, whatever the clock said (C1).
    """
    if seq is None:
        numbers = sequence(view, series)
        if not numbers:
            return None
        seq = numbers[-1]
    document = view.find(series.child(str(seq)))
    return None if document is None else decode(document)


def restorable(
    found: Iterable[Checkpoint], series: Path, seq: int | None
) -> Checkpoint:
    """Return the checkpoint with this number, or the newest valid one for None.

    Raises:
        NotFound: There is none.
        StateCorruption: Its hash does not fit; or, for None, the hash of none fits.
    """
    candidates = sorted(found, key=_seq_of, reverse=True)
    if seq is not None:
        candidates = [each for each in candidates if each.seq == seq]
    if not candidates:
        which = "no checkpoint" if seq is None else f"no checkpoint {seq}"
        raise NotFound(f"{series} has {which}")
    for checkpoint in candidates:
        if checkpoint.is_valid:
            return checkpoint
    raise StateCorruption(
        f"{series.child(str(candidates[0].seq))}: the hash does not fit the state"
    )


def decode(document: Document) -> Checkpoint:
    """Return the checkpoint that a document holds.

    Raises:
        StateCorruption: It holds something else.
    """
    try:
        return from_json(document.json)
    except TypeError as error:
        raise StateCorruption(f"{document.path} holds no checkpoint: {error}") from None


def from_json(body: bytes) -> Checkpoint:
    """Return the checkpoint that a document's JSON describes."""
    return Checkpoint(**orjson.loads(body))


def migrate(
    checkpoint: Checkpoint, version: int, migrations: Mapping[int, Any]
) -> JSON:
    """Return the checkpoint's state, brought to a schema version step by step (C8).

    Raises:
        SchemaVersionError: It is newer, has no version, or a step is missing.
    """
    stored = checkpoint.schema_version
    if stored is None or stored > version:
        raise SchemaVersionError(
            f"checkpoint {checkpoint.seq} has schema version {stored}; this program "
            f"reads up to {version}"
        )
    state = checkpoint.state
    for step in range(stored, version):
        if step not in migrations:
            raise SchemaVersionError(
                f"checkpoint {checkpoint.seq} has schema version {stored}, and no "
                f"migration leads from {step} to {step + 1}"
            )
        state = migrations[step](state)
    return state


def _seq_of(checkpoint: Checkpoint) -> int:
    return checkpoint.seq
