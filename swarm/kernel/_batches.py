"""The writes of one commit: their bounds and their order. Pure."""

from collections.abc import Sequence

from swarm.errors import LimitExceeded
from swarm.ports import Limits, Write


def in_order(writes: Sequence[Write], limits: Limits | None) -> Sequence[Write]:
    """Return the writes with deletions first, because these make room.

    Args:
        writes: In any order.
        limits: Bounds of their number and bytes; None: unbounded.

    Raises:
        LimitExceeded: There are too many, or too large ones.
        ValueError: Two of them write one document.
    """
    if len(writes) == 1:  # fast path
        body = writes[0].body
        if body is None or limits is None or len(body) <= limits.batch_bytes:
            return writes
    if limits is not None:
        _check_bounds(writes, limits)
    if len({write.path.text for write in writes}) < len(writes):
        raise ValueError("one commit writes each document at most once")
    return sorted(writes, key=_puts_something)


def _check_bounds(writes: Sequence[Write], limits: Limits) -> None:
    if len(writes) > limits.batch_writes:
        raise LimitExceeded(
            f"one commit writes at most {limits.batch_writes} documents "
            f"(Limits.batch_writes); this one has {len(writes)}"
        )
    size = sum(len(write.body) for write in writes if write.body is not None)
    if size > limits.batch_bytes:
        raise LimitExceeded(
            f"one commit writes at most {limits.batch_bytes} bytes "
            f"(Limits.batch_bytes); this one has {size}"
        )


def _puts_something(write: Write) -> bool:
    return write.body is not None or write.record is not None
