"""Causes: the activity that a commit is a consequence of."""


class Cause:
    """The common cause of all commits of one activity.

    The turns that one request leads to share it, and it is made at its first use.
    Unless an id was given, its id is that of the first commit under it, so the id
    costs nothing until it is read.

    Attributes:
        trace: A W3C `traceparent`, or None.
        depth: How many events lie between it and what came from outside.
        root: The revision of the first commit under it; 0 before there is one.
    """

    __slots__ = (
        "_causation_id",
        "_correlation_id",
        "depth",
        "root",
        "trace",
    )

    def __init__(
        self,
        correlation_id: str | None = None,
        causation_id: str | None = None,
        trace: str | None = None,
        depth: int = 0,
    ) -> None:
        """Be a new cause; without ids, one that came from outside."""
        self._correlation_id = correlation_id
        self._causation_id = causation_id
        self.trace: str | None = trace
        self.depth: int = depth
        self.root: int = 0

    def pin(self, correlation_id: str) -> None:
        """Have this id, unless there is one already: another process needs it."""
        if self._correlation_id is None and not self.root:
            self._correlation_id = correlation_id

    @property
    def correlation_id(self) -> str:
        """The same for all that one outside request led to."""
        return self._correlation_id or f"c{self.root}"

    @property
    def causation_id(self) -> str:
        """The id of the event or request that led here directly."""
        return self._causation_id or self.correlation_id


class TracedCause(Cause):
    """A cause with a trace of its own; everything else is that of another cause."""

    __slots__ = ("_of",)

    def __init__(self, of: Cause, trace: str | None) -> None:
        """Be the cause `of`, but for its trace."""
        self._of = of
        self.trace = trace
        self.depth = of.depth

    def pin(self, correlation_id: str) -> None:
        """Have this id, unless there is one already: another process needs it."""
        self._of.pin(correlation_id)

    @property
    def root(self) -> int:
        """The revision of the first commit under either; 0 before there is one."""
        return self._of.root

    # For pyright, a property may not stand for an attribute.
    @root.setter
    def root(self, revision: int) -> None:  # pyright: ignore[reportIncompatibleVariableOverride]
        self._of.root = revision

    @property
    def correlation_id(self) -> str:
        """The same for all that one outside request led to."""
        return self._of.correlation_id

    @property
    def causation_id(self) -> str:
        """The id of the event or request that led here directly."""
        return self._of.causation_id


def with_trace(cause: Cause | None, trace: str | None) -> Cause | None:
    """Return a cause that has this trace: the given one if it has it already."""
    if (None if cause is None else cause.trace) == trace:
        return cause
    return Cause(trace=trace) if cause is None else TracedCause(cause, trace)
