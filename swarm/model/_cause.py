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

    @property
    def correlation_id(self) -> str:
        """The same for all that one outside request led to."""
        return self._correlation_id or f"c{self.root}"

    @property
    def causation_id(self) -> str:
        """The id of the event or request that led here directly."""
        return self._causation_id or self.correlation_id
