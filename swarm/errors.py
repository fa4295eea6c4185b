"""Every exception swarm raises, as one tree under `SwarmError`.

A class's docstring is its default message. Time-outs are also `TimeoutError`,
missing things also `LookupError`, bad values also `ValueError` or `TypeError`, so
code that knows nothing of swarm catches what it expects to catch.
"""

from collections.abc import Mapping, Sequence
from inspect import cleandoc
from typing import Any


def __dir__() -> list[str]:
    """Return the names of the exceptions."""
    return sorted(n for n, each in globals().items() if _is_error(each))


def _is_error(value: object) -> bool:
    return isinstance(value, type) and issubclass(value, SwarmError)


class SwarmError(Exception):
    """Something went wrong in swarm."""

    def __init__(self, message: str | None = None) -> None:
        """Take `message`, or by default the docstring's first line."""
        if message is None:
            message = cleandoc(self.__doc__ or "").partition("\n")[0]
        super().__init__(message)


# --- what a caller handed in --------------------------------------------------


class InvalidPath(SwarmError, ValueError):
    """This text is not a path or pattern."""


class InvalidValue(SwarmError, TypeError, ValueError):
    """Only JSON values can be stored: no NaN, no other types, no cycles."""


class LimitExceeded(SwarmError, ValueError):
    """A stated limit was crossed; nothing was changed."""


class WrongLoop(SwarmError, RuntimeError):
    """A swarm belongs to the event loop that opened it; use swarm.portal()."""


class ConfigMismatch(SwarmError, ValueError):
    """This name is already open with another configuration."""


# --- state --------------------------------------------------------------------


class ConflictError(SwarmError):
    """Another writer was first; read again and decide again."""

    def __init__(
        self,
        path: object = None,
        *,
        expected: int | None = None,
        current: int | None = None,
        value: Any = None,
        author: object = None,
        message: str | None = None,
    ) -> None:
        """Carry both versions and a copy of what stands there now."""
        if message is None and path is not None:
            message = _conflict(path, expected, current, author)
        super().__init__(message)
        self.path: str | None = None if path is None else str(path)
        self.expected = expected
        self.current = current
        self.value = value
        self.author = author


def _conflict(
    path: object, expected: int | None, current: int | None, author: object
) -> str:
    if expected == 0:
        return f"{path} must not exist, but {author} wrote it at version {current}"
    if current == 0:
        return f"{path} does not exist; version {expected} was expected"
    by = f", written by {author}" if author is not None else ""
    return f"{path} is at version {current}{by}; version {expected} was expected"


class PathConflict(SwarmError, ValueError):
    """A path is a document or a folder of documents, never both."""


class AccessDenied(SwarmError, PermissionError):
    """The policy does not allow this."""


class Contention(SwarmError):
    """The update lost every one of its bounded retries to other writers."""


class Compacted(SwarmError, LookupError):
    """The log no longer reaches back that far."""

    def __init__(self, requested: int | None = None, first: int | None = None) -> None:
        """Say what was asked for and the oldest revision that is still there."""
        super().__init__(
            None
            if requested is None
            else f"revision {requested} is gone; the log starts at {first}"
        )
        self.requested = requested
        self.first = first


class Lagged(SwarmError):
    """The reader was too slow and the log moved on; read the state, then resume."""

    def __init__(self, last: int | None = None, first: int | None = None) -> None:
        """Say the last revision delivered and the oldest that is still there.

        Without the latter, everything is: a buffer was too small, not the log.
        """
        text = None
        if last is not None:
            why = "the buffer is full; go on with `since`"
            if first is not None:
                why = f"the log now starts at {first}"
            text = f"fell behind after revision {last}; {why}"
        super().__init__(text)
        self.last = last
        self.first = first


class Lost(Lagged):
    """The log let go of commits that a named subscription had yet to handle.

    Attributes:
        count: How many.
    """

    def __init__(
        self, count: int = 0, last: int | None = None, first: int | None = None
    ) -> None:
        """Say how many are lost, the newest of them, and where the log begins now."""
        super().__init__(last, first)
        self.count: int = count

    def __str__(self) -> str:
        if self.last is None:
            return super().__str__()
        return (
            f"lost {self.count} commits so far, the newest after revision {self.last}: "
            "the log was at its hard limit (Limits.held_commits, held_bytes) and now "
            f"starts at {self.first}"
        )


class SchemaVersionError(SwarmError, ValueError):
    """The stored record has a schema version this program cannot read."""


class ShutdownTimeout(SwarmError, TimeoutError):
    """Code of the swarm ignores its cancellation and was left behind."""


class StorageUnsupported(SwarmError, ValueError):
    """No storage is known for this URL."""


class StateCorruption(SwarmError):
    """Stored data is damaged; the files were left as they are."""


class StorageInUse(SwarmError):
    """Another coordinator has this store open."""


class StorageFailed(SwarmError, OSError):
    """A write to the store failed; the store takes no more until it is reopened."""


class OutcomeUnknown(StorageFailed):
    """The connection was lost, and whether the commit was made is not known."""


# --- life ---------------------------------------------------------------------


class Closed(SwarmError):
    """This is closed."""


class NotFound(SwarmError, LookupError):
    """Nothing stands there."""


class WaitTimeout(SwarmError, TimeoutError):
    """The awaited condition did not hold in time."""


class NoSuchAgent(SwarmError, LookupError):
    """There is no agent of this name."""


class AgentDied(SwarmError):
    """The agent ended before it answered."""


class RemoteCancelled(SwarmError):
    """The turn was cancelled from inside before it answered; the agent lives on."""


class RemoteError(SwarmError):
    """An agent in another process raised what this process does not know.

    Attributes:
        type: The name of the class: "shop.errors.OutOfStock".
    """

    def __init__(self, message: str | None = None, *, type: str = "") -> None:  # noqa: A002
        """Say which class it was."""
        super().__init__(message)
        self.type: str = type


class NameTaken(SwarmError, ValueError):
    """An agent of this name is already running; pass replace=True to replace it."""


class AskTimeout(SwarmError, TimeoutError):
    """No answer came in time.

    Attributes:
        started: Whether the agent had begun to work on the request.
    """

    def __init__(self, message: str | None = None, *, started: bool = False) -> None:
        """Say whether the turn had begun."""
        super().__init__(message)
        self.started: bool = started


class MailboxFull(SwarmError):
    """The agent's mailbox is full; `await tell(...)` waits for room."""


class DeadlockError(SwarmError):
    """Waiting here would close a cycle of parties that wait for each other.

    Attributes:
        cycle: One line for each party of the cycle, saying what it waits for.
    """

    def __init__(
        self, message: str | None = None, *, cycle: Sequence[object] = ()
    ) -> None:
        """Spell the cycle out."""
        if message is None and cycle:
            steps = "\n  ".join(str(step) for step in cycle)
            message = f"waiting here would never end:\n  {steps}"
        super().__init__(message)
        self.cycle: tuple[object, ...] = tuple(cycle)


class InvalidTransition(SwarmError, ValueError):
    """This cannot follow what has already happened."""


# --- coordination -------------------------------------------------------------


class WouldBlock(SwarmError):
    """This cannot be had without waiting."""


class LockTimeout(SwarmError, TimeoutError):
    """It was not granted in time; nothing is held."""


class DeadlockTimeout(DeadlockError, LockTimeout):
    """Waiting here, for however long, would close a cycle; nothing is held."""


class LeaseLost(SwarmError):
    """The lease is gone: expired, released or taken away."""


class StaleLease(LeaseLost):
    """The guard is not the live holder any more; nothing was written."""


class StaleClaim(SwarmError):
    """The claim is not the live one any more; nothing was written."""


class StepMismatch(SwarmError, ValueError):
    """A durable step was recorded with other arguments."""


class TaskTimeout(SwarmError, TimeoutError):
    """No task came, or the task did not end, in time."""


class TaskError(SwarmError):
    """The task ended without a result.

    Attributes:
        task_id: The task.
        status: "failed", "cancelled" or "escalated".
        errors: The errors of its attempts, oldest first.
        reason: The last error, or why it was cancelled.
    """

    def __init__(
        self,
        message: str | None = None,
        *,
        task_id: str = "",
        status: str = "failed",
        errors: Sequence[str] = (),
        reason: str = "",
    ) -> None:
        """Say how the task ended, and all that went wrong."""
        if message is None:
            message = f"task {task_id} is {status}"
            if reason:
                message = f"{message}: {reason}"
        super().__init__(message)
        self.task_id: str = task_id
        self.status: str = status
        self.errors: tuple[str, ...] = tuple(errors)
        self.reason: str = reason


class GatherError(SwarmError):
    """Too few of the gathered tasks ended with a result.

    Attributes:
        results: The results that there are, by the place of their input.
        errors: The errors of the others that have ended, likewise.
    """

    def __init__(
        self,
        message: str | None = None,
        *,
        results: Mapping[int, Any] | None = None,
        errors: Mapping[int, "TaskError"] | None = None,
    ) -> None:
        """Keep what was finished, and why the others were not."""
        super().__init__(message)
        self.results: dict[int, Any] = dict(results or {})
        self.errors: dict[int, TaskError] = dict(errors or {})


class StaleAck(SwarmError):
    """The event was given to another attempt meanwhile; this one counts no more."""


class AckTimeout(SwarmError, TimeoutError):
    """The handler gave no sign in time; the event is handed over again."""


class BrokenBarrier(SwarmError):
    """The barrier broke before everybody had arrived.

    Attributes:
        generation: Which generation of it broke, for all who were in it.
        reason: Why.
    """

    def __init__(
        self, message: str | None = None, *, generation: int = 0, reason: str = ""
    ) -> None:
        """Say why it broke."""
        super().__init__(message)
        self.generation: int = generation
        self.reason: str = reason


class BarrierTimeout(BrokenBarrier, TimeoutError):
    """The others did not arrive in time; the barrier broke for all."""
