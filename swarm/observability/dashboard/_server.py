"""Serving a dashboard from the swarm's own event loop, until the swarm ends."""

import asyncio
import contextlib
import socket
from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

import uvicorn

from swarm.observability.dashboard._app import make_app
from swarm.observability.dashboard._runtime_file import RuntimeFile
from swarm.system import Dashboard, coordinator_of

if TYPE_CHECKING:
    from swarm.system import DashboardApp, Swarm

_HOST: Final = "127.0.0.1"
_LEAVE: Final = 1
"""Seconds that the requests in hand have at the end."""


def serve(swarm: "Swarm", port: int, *, actions: bool, actor: str) -> Dashboard:
    """Serve the dashboard of an open swarm on a port of loopback; 0: a free one.

    Raises:
        ValueError: The port is no number from 0 to 65,535.
        OSError: The port is taken.
    """
    if type(port) is not int or not 0 <= port <= 65_535:
        raise ValueError(f"a port is a whole number from 0 to 65535, not {port!r}")
    coordinator = coordinator_of(swarm)
    assert coordinator is not None  # the swarm is open
    app = make_app(swarm, actions=actions, actor=actor)
    listener = _listen(port)
    port = listener.getsockname()[1]
    server = DashboardServer(app)
    file = RuntimeFile(swarm.name, port, app.token)
    file.write()

    def ended() -> None:
        listener.close()
        file.remove()

    task = coordinator.start(
        server.serve(sockets=[listener]),
        f"dashboard of swarm {swarm.name}",
        essential=True,  # `stop` ends it, within `_LEAVE` seconds
        ended=ended,
    )

    async def close() -> None:
        server.stop()
        if not task.done():
            await asyncio.wait([task])

    coordinator.at_close(server.stop)
    return Dashboard(port, app.token, close)


def _listen(port: int) -> socket.socket:
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((_HOST, port))
        listener.listen()  # from now on a visit waits, and is not refused
    except OSError as error:
        listener.close()
        raise OSError(
            error.errno, f"the dashboard cannot have port {port}: {error.strerror}"
        ) from None
    listener.setblocking(False)
    return listener


class DashboardServer(uvicorn.Server):
    """Uvicorn in a loop that is not its own: signals stay the program's."""

    def __init__(self, app: "DashboardApp") -> None:
        super().__init__(
            uvicorn.Config(
                app,
                http="h11",
                ws="none",
                lifespan="off",
                log_config=None,
                access_log=False,
                server_header=False,
                date_header=False,
                proxy_headers=False,
                timeout_graceful_shutdown=_LEAVE,
            )
        )
        self._app = app
        self._stopped = asyncio.Event()

    def stop(self) -> None:
        self._app.close()  # else the server waits for the streams
        self._stopped.set()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    async def main_loop(self) -> None:
        """Wait for the end; a cancellation, by a loop that ends, brings it as well."""
        with contextlib.suppress(asyncio.CancelledError):
            await self._stopped.wait()
