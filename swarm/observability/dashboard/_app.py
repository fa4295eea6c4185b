"""The routes of a dashboard, behind their guard."""

import getpass
from collections.abc import Mapping
from importlib.resources import files
from typing import TYPE_CHECKING, Any, Final

import orjson
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from swarm.errors import NoSuchAgent, NotFound, SwarmError
from swarm.observability.dashboard._actions import ACTIONS, carry_out, read_order
from swarm.observability.dashboard._guard import RequestGuard, new_keys
from swarm.observability.dashboard._streams import MOST, Streams
from swarm.observability.dashboard._views import VIEWS
from swarm.system import DashboardApp, coordinator_of

if TYPE_CHECKING:
    from collections.abc import Iterable

    from swarm.system import Coordinator, Swarm

_KINDS: Final = {
    ".html": "text/html",
    ".css": "text/css",
    ".js": "text/javascript",
    ".svg": "image/svg+xml",
}
_BODY: Final = 65_536
"""The most bytes in the body of a request."""


def make_app(
    swarm: "Swarm",
    *,
    actions: bool,
    actor: str,
    token: str | None = None,
    hosts: "Iterable[str]" = (),
) -> DashboardApp:
    """Return the dashboard of an open swarm as an ASGI app.

    Args:
        swarm: The swarm.
        actions: Whether the pages may change something.
        actor: Who does what the pages do; "": the user of this process.
        token: The token of the first visit; None: a new one.
        hosts: Names of hosts that it is reached by, besides those of loopback.
    """
    keys = new_keys(token)
    coordinator = coordinator_of(swarm)
    assert coordinator is not None  # the swarm is open
    pages = _Pages(swarm, coordinator, actor=(actor or _user()) if actions else None)
    coordinator.at_close(pages.streams.close)
    routes = pages.routes()
    guard = RequestGuard(Starlette(routes=routes), keys, hosts)
    return DashboardApp(keys.token, guard, tuple(routes), pages.streams.close)


def _user() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError):
        return "unknown"


class _Pages:
    """The answers of the routes."""

    def __init__(
        self, swarm: "Swarm", coordinator: "Coordinator", actor: str | None
    ) -> None:
        self._swarm = swarm
        self._coordinator = coordinator
        self._actor = actor
        self._files = _assets()
        self.streams: Streams = Streams(coordinator.clock)

    def routes(self) -> list[Route]:
        found = [
            Route("/", self.index),
            Route("/assets/{name}", self.asset),
            Route("/api/stream/{view}", self.stream),
            Route("/api/{view}", self.view),
        ]
        if self._actor is not None:
            found.append(Route("/api/actions", self.act, methods=["POST"]))
        return found

    async def index(self, request: Request) -> Response:  # noqa: ARG002  # a route
        return self._file("index.html")

    async def asset(self, request: Request) -> Response:
        return self._file(request.path_params["name"])

    def _file(self, name: str) -> Response:
        if name not in self._files:
            return _error(404, "there is no such file")
        body, kind = self._files[name]
        return Response(body, media_type=kind)

    async def view(self, request: Request) -> Response:
        """Return a view once, with all its sections."""
        found = VIEWS.get(request.path_params["view"])
        if found is None:
            return _error(404, f"the views are {', '.join(VIEWS)}")
        self._coordinator.check_loop()
        shown = found(self._swarm, dict(request.query_params))
        return Response(_json(self._with_rights(shown)), media_type="application/json")

    async def stream(self, request: Request) -> Response:
        """Return a view, and again what changes of it, as server-sent events."""
        found = VIEWS.get(request.path_params["view"])
        if found is None:
            return _error(404, f"the views are {', '.join(VIEWS)}")
        if request.method == "HEAD":
            return Response(media_type="text/event-stream")
        if len(self.streams) >= MOST:
            return _error(503, f"{MOST} pages of this dashboard are open already")
        self._coordinator.check_loop()
        query = dict(request.query_params)
        after = request.headers.get("last-event-id", query.get("after", ""))

        def look(query: Mapping[str, str]) -> Mapping[str, Any]:
            return self._with_rights(found(self._swarm, query))

        return StreamingResponse(
            self.streams.follow(look, query, after), media_type="text/event-stream"
        )

    def _with_rights(self, shown: Mapping[str, Any]) -> Mapping[str, Any]:
        """Add what each page needs: the swarm's name and phase, and what is allowed."""
        phase = self._coordinator.phase.value
        return {
            **shown,
            "swarm": {"name": self._coordinator.name, "phase": phase},
            "actions": [] if self._actor is None else list(ACTIONS),
        }

    async def act(self, request: Request) -> Response:
        """Carry out an order."""
        assert self._actor is not None  # else there is no such route
        body = b""
        async for part in request.stream():
            body += part
            if len(body) > _BODY:
                return _error(413, f"a body has at most {_BODY} bytes")
        try:
            order = read_order(body)
        except ValueError as error:
            return _error(400, str(error))
        try:
            await carry_out(self._swarm, order, self._actor)
        except (NoSuchAgent, NotFound) as error:
            return _error(404, str(error))
        except SwarmError as error:
            return _error(409, str(error))
        return Response(_json({"done": True}), media_type="application/json")


def _json(value: Any) -> bytes:
    return orjson.dumps(value, default=str)


def _error(status: int, text: str) -> Response:
    body = _json({"error": text})
    return Response(body, status_code=status, media_type="application/json")


def _assets() -> dict[str, tuple[bytes, str]]:
    """Return the files of the pages, by name, with their media types."""
    folder = files("swarm.observability.dashboard") / "assets"
    found = {}
    for file in folder.iterdir():
        kind = _KINDS.get(file.name[file.name.rfind(".") :])
        if kind is not None:
            found[file.name] = (file.read_bytes(), kind)
    return found
