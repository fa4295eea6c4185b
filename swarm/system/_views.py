"""The pictures and dashboards of `swarm.observability`, as a program holds them.

That package is a layer above this one, so it is found by its name when it is needed.
"""

from collections.abc import Awaitable, Callable, MutableMapping
from importlib import import_module
from types import TracebackType
from typing import Any, Protocol, Self, TypeAlias

Scope: TypeAlias = MutableMapping[str, Any]
Message: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Message]]
Send: TypeAlias = Callable[[Message], Awaitable[None]]


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
    """The steps of one task, in order."""

    @property
    def notes(self) -> list[str]:
        """The gaps in it, in words."""
        ...


def observability() -> Any:
    """Return the package that draws."""
    return import_module("swarm.observability")


class Dashboard:
    """A dashboard that is being served, until `close` or the end of its swarm.

    Attributes:
        url: Where to open it, with its token. The token gives access to all that the
            dashboard shows.
        port: The port that it listens on, at 127.0.0.1.
        token: The token, for programs: `Authorization: Bearer TOKEN`.
    """

    def __init__(
        self, port: int, token: str, close: Callable[[], Awaitable[None]]
    ) -> None:
        """Stand for the dashboard on a port; `close` ends it and waits for that."""
        self.url: str = f"http://127.0.0.1:{port}/?token={token}"
        self.port: int = port
        self.token: str = token
        self._close = close

    async def close(self) -> None:
        """Serve no longer, and wait until the port is free; idempotent."""
        await self._close()

    def __repr__(self) -> str:
        return f"<Dashboard http://127.0.0.1:{self.port}/>"


class DashboardApp:
    """The dashboard as an ASGI app, to be mounted in an app of the user's.

    Attributes:
        token: What `?token=` of the first visit needs.
        routes: The routes behind the checks, as Starlette has them.
    """

    def __init__(
        self,
        token: str,
        app: Callable[[Scope, Receive, Send], Awaitable[None]],
        routes: tuple[Any, ...],
        close: Callable[[], object],
    ) -> None:
        """Serve by `app`; `close` ends its streams."""
        self.token: str = token
        self.routes: tuple[Any, ...] = routes
        self._app = app
        self._close = close

    def close(self) -> None:
        """End the streams of all pages, so that a server can end; idempotent.

        The end of the swarm does so as well.
        """
        self._close()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        await self._app(scope, receive, send)

    def __repr__(self) -> str:
        return "<DashboardApp>"


def dashboard_package() -> Any:
    """Return the package that serves dashboards.

    Raises:
        ImportError: Starlette or uvicorn is not installed.
    """
    for needed in ("starlette", "uvicorn"):
        try:
            import_module(needed)
        except ImportError:
            raise ImportError(
                f"the dashboard needs {needed}: pip install 'swarm-actors[dashboard]'",
                name=needed,
            ) from None
    return import_module("swarm.observability.dashboard")
