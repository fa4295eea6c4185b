"""The dashboard as a program holds it; `swarm.observability.dashboard` serves it."""

from collections.abc import Awaitable, Callable, MutableMapping
from importlib import import_module
from typing import Any, Final, TypeAlias

Scope: TypeAlias = MutableMapping[str, Any]
Message: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Message]]
Send: TypeAlias = Callable[[Message], Awaitable[None]]

_HOME: Final = "swarm.observability.dashboard"
"""A layer above this one, so it is imported by name, when it is first needed."""


class Dashboard:
    """A dashboard that is being served, until `close` or the end of its swarm.

    Attributes:
        url: Where to open it, with its token. The token lets anybody in.
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
    return import_module(_HOME)
