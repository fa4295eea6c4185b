"""Pictures of a swarm as a program holds them; `swarm.observability` draws them."""

from importlib import import_module
from types import TracebackType
from typing import Any, Protocol, Self


class Drawing(Protocol):
    """A picture of the past of a task, or of the agents."""

    def data(self) -> dict[str, Any]:
        """Return the plain JSON records that are drawn."""
        ...

    def text(self) -> str:
        """Return it as text."""
        ...

    def mermaid(self) -> str:
        """Return it as a Mermaid diagram."""
        ...

    def svg(self) -> str:
        """Return it as SVG."""
        ...

    def html(self) -> str:
        """Return it as HTML that a notebook can show; everything is escaped."""
        ...


class TimelineDrawing(Drawing, Protocol):
    """A picture that grows while it is open: `with swarm.timeline() as timeline:`."""

    def stop(self) -> None:
        """Record no more; idempotent."""
        ...

    def __enter__(self) -> Self: ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None: ...


class TraceDrawing(Drawing, Protocol):
    """What happened for one task, in order."""

    @property
    def notes(self) -> list[str]:
        """The gaps in it, in words."""
        ...


def observability() -> Any:
    """Return the package that draws, which is above this layer: found by its name."""
    return import_module("swarm.observability")
