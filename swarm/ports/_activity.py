"""The activity to which running code belongs: a turn, a delivery, or a correlation.

One context variable for all of them, so that a commit finds its cause with one
look, and a turn costs one write of it.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Final

from swarm.model import OWNER, AgentIdentity, Cause


class Activity:
    """Something that runs and is not a turn: a delivery, or a correlated block.

    Attributes:
        cause: What its commits are consequences of; made at need.
        outer: The activity in the middle of which it runs, or None.
    """

    __slots__ = ("cause", "outer")

    def __init__(self, cause: Cause | None, outer: Any = None) -> None:
        """Run because of `cause`."""
        self.cause: Cause | None = cause
        self.outer: Any = outer

    def is_turn(self) -> bool:
        """Return False: it is not a party of the wait-for graph."""
        return False


current_activity: Final[ContextVar[Any]] = ContextVar("swarm_activity", default=None)
"""The turn or `Activity` whose code is running, or None; child tasks inherit it."""

current_identity: Final[ContextVar[AgentIdentity]] = ContextVar(
    "swarm_identity", default=OWNER
)
"""The agent whose handler or child task is running; a turn says its agent itself."""


def current_cause() -> Cause | None:
    """Return what this code's commits are consequences of, made if it has none yet."""
    activity = current_activity.get()
    if activity is None:
        return None
    cause: Cause | None = activity.cause
    if cause is None:
        cause = activity.cause = Cause()
    return cause


def current_trace() -> str | None:
    """Return the W3C `traceparent` of the running turn, handler or block, or None."""
    activity = current_activity.get()
    cause: Cause | None = None if activity is None else activity.cause
    return None if cause is None else cause.trace


@contextmanager
def correlated(
    correlation_id: str | None = None, *, trace: str | None = None
) -> Iterator[None]:
    """Give all that happens inside one correlation id, and a trace context.

    Asks, tells, commits and events inside the block carry it, and so do all their
    consequences. An id that is given is also their causation id; without one, an id
    is made up when it is needed.

    Args:
        correlation_id: The id of the outside request, such as that of an HTTP call.
        trace: Its W3C `traceparent`.

    Raises:
        ValueError: The trace is no `traceparent`.
    """
    if trace is not None and not _is_traceparent(trace):
        raise ValueError(
            f"a W3C traceparent is <2>-<32>-<16>-<2> hex digits, not {trace!r}"
        )
    outer = current_cause()
    depth = 0 if outer is None else outer.depth
    token = current_activity.set(
        Activity(
            Cause(correlation_id, None, trace, depth=depth), current_activity.get()
        )
    )
    try:
        yield
    finally:
        current_activity.reset(token)


def _is_traceparent(text: str) -> bool:
    parts = text.split("-")
    digits = set("0123456789abcdef")
    return (
        [len(part) for part in parts] == [2, 32, 16, 2]
        and all(digits.issuperset(part) for part in parts)
        and set(parts[1]) != {"0"}
        and set(parts[2]) != {"0"}
    )
