"""The sources of the commands: a running swarm, a store, or a tree on a server."""

import asyncio
import os
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from http import HTTPStatus
from typing import Any, Final, Protocol, cast

import orjson

from swarm.errors import SwarmError
from swarm.kernel import MemoryKernel
from swarm.ports import Clock, Inboxes, Kernel, Limits, Tail, Timer
from swarm.storage import StoredTree, find_path, read_store
from swarm.system import Swarm

_TIMEOUT: Final = 10.0
"""Seconds that a running swarm may take to answer."""


_PAGES: Final = ("http", "https")
_ON_DISK: Final = ("file", "sqlite")
"""Kinds of URLs: of a dashboard, and of a store that is read and left as it is."""


class SourceError(Exception):
    """There is nothing to look at, or it refused."""


class Source(Protocol):
    """Something that can be looked at, and perhaps changed."""

    async def view(self, name: str, query: Mapping[str, str]) -> dict[str, Any]:
        """Return the sections of a page of the dashboard.

        Raises:
            SourceError: It cannot be reached, or the query means nothing.
        """
        ...

    async def act(self, action: str, target: str, reason: str, value: Any) -> None:
        """Change something.

        Raises:
            SourceError: It refused.
        """
        ...


# --- a running swarm ------------------------------------------------------------------


class LiveSource:
    """A swarm that another process runs, through the server of its dashboard."""

    def __init__(self, url: str, token: str) -> None:
        """Talk to the server at a URL of this machine.

        Raises:
            SourceError: The URL is not of this machine.
        """
        host = urllib.parse.urlsplit(url).hostname
        if host not in ("127.0.0.1", "localhost", "::1"):
            raise SourceError(f"{url} is not on this machine; its token stays here")
        self._url = url.rstrip("/")
        self._token = token

    async def view(self, name: str, query: Mapping[str, str]) -> dict[str, Any]:
        """Return the sections of a page; see `Source`."""
        asked = urllib.parse.urlencode(query)
        shown = await asyncio.to_thread(self._send, f"api/{name}?{asked}", None)
        return _checked(shown)

    async def act(self, action: str, target: str, reason: str, value: Any) -> None:
        """Change something; see `Source`."""
        order = {"action": action, "target": target, "reason": reason, "value": value}
        await asyncio.to_thread(self._send, "api/actions", orjson.dumps(order))

    def _send(self, place: str, body: bytes | None) -> dict[str, Any]:
        request = urllib.request.Request(  # of this machine: see above
            f"{self._url}/{place}",
            data=body,
            headers={
                "Authorization": f"Bearer {self._token}",
                "Content-Type": "application/json",
            },
        )
        try:
            with _OPENER.open(request, timeout=_TIMEOUT) as answer:
                found: dict[str, Any] = orjson.loads(answer.read())
                return found
        except urllib.error.HTTPError as error:
            with error:
                said = _refusal(error, body is not None)
            raise SourceError(said) from None
        except (OSError, ValueError) as error:
            raise SourceError(f"{self._url} does not answer: {error}") from None


class _StayHere(urllib.request.HTTPRedirectHandler):
    """Follows no redirect: the token in a request is for this server alone."""

    def redirect_request(self, *_: Any, **__: Any) -> None:
        """Refuse."""


_OPENER: Final = urllib.request.build_opener(
    urllib.request.ProxyHandler({}), _StayHere()
)


def _refusal(error: urllib.error.HTTPError, is_action: bool) -> str:
    if is_action and error.code == HTTPStatus.METHOD_NOT_ALLOWED:
        return "the swarm is read only; swarm.dashboard(actions=True) allows changes"
    try:
        return str(orjson.loads(error.read())["error"])
    except (ValueError, KeyError, TypeError):
        return f"the swarm refused: {error.code} {error.reason}"


def _checked(shown: dict[str, Any]) -> dict[str, Any]:
    if shown.get("problem"):
        raise SourceError(str(shown["problem"]))
    return shown


# --- a swarm of this process ----------------------------------------------------------


class SwarmSource:
    """A swarm that this process has opened, on a store or a server."""

    def __init__(self, swarm: Swarm, *, may_act: bool) -> None:
        """Look at an open swarm; a store is read only."""
        self._swarm = swarm
        self._may_act = may_act

    async def view(self, name: str, query: Mapping[str, str]) -> dict[str, Any]:
        """Return the sections of a page; see `Source`."""
        from swarm.observability.dashboard import VIEWS

        return _checked(dict(VIEWS[name](self._swarm, query)))

    async def act(self, action: str, target: str, reason: str, value: Any) -> None:
        """Change something; see `Source`."""
        from swarm.observability.dashboard import carry_out, order_of

        if not self._may_act:
            raise SourceError("a store is read only; nothing was changed")
        try:
            order = order_of(action, target, reason, value)
            await carry_out(self._swarm, order, "swarm command")
        except (SwarmError, ValueError) as error:
            raise SourceError(str(error)) from None


class _NoTimer:
    def cancel(self) -> None:
        """Do nothing: nothing is to come."""


class StoppedClock:
    """A clock that stands still, so that nothing of a store that is shown comes due."""

    def __init__(self, wall: int) -> None:
        """Stand at `wall`, in microseconds since 1970."""
        self._wall = wall

    def wall(self) -> int:
        """Return the one time."""
        return self._wall

    def monotonic(self) -> float:
        """Return 0 seconds."""
        return 0.0

    def call_at(self, when: float, callback: Callable[[], object]) -> Timer:
        """Never call back."""
        del when, callback
        return _NoTimer()

    async def sleep(self, seconds: float) -> None:
        """Wait until cancelled."""
        del seconds
        await asyncio.get_running_loop().create_future()


class StoredServer:
    """A store, read once, as a tree in memory. Fulfils `storage.TreeServer`."""

    def __init__(self, tree: StoredTree) -> None:
        """Serve what was read."""
        self._tree = tree

    async def connect(
        self, name: str, clock: Clock, limits: Limits
    ) -> tuple[Kernel, Tail, Inboxes]:  # fmt: skip
        """Return the tree; there are no other processes."""
        del name
        tree = self._tree
        kernel = MemoryKernel(clock, limits)
        kernel.restore_now(
            list(tree.documents().values()),
            list(tree.documents(tree.compacted).values()),
            tree.commits,
            compacted=tree.compacted,
        )
        kernel.resume_at(tree.report.revision)
        return kernel, kernel, cast(Inboxes, None)


# --- finding it -----------------------------------------------------------------------


@asynccontextmanager
async def open_source(target: str | None, name: str) -> AsyncIterator[Source]:
    """Open what a command is to look at.

    Args:
        target: The name or process id of a running swarm, the URL of its dashboard
            with the token, the path of a store, or a Redis URL. None: the only
            swarm that runs.
        name: The name of the swarm on a server.

    Raises:
        SourceError: There is none, or there are several.
        SwarmError: The store or the server cannot be read.
    """
    kind = target.partition("://")[0] if target is not None and "://" in target else ""
    if target is not None and kind and kind not in (*_PAGES, *_ON_DISK, "memory"):
        async with Swarm(name, target) as swarm:
            await _check_used(swarm)
            yield SwarmSource(swarm, may_act=True)
    elif kind not in _PAGES and (stored := _stored(target)) is not None:
        async with stored as swarm:
            yield SwarmSource(swarm, may_act=False)
    elif target is not None and kind in _PAGES:
        parts = urllib.parse.urlsplit(target)
        token = urllib.parse.parse_qs(parts.query).get("token", [""])[0]
        base = urllib.parse.urlunsplit((parts.scheme, parts.netloc, parts.path, "", ""))
        yield LiveSource(base, token)
    else:
        found = _running(target)
        yield LiveSource(found.url, found.token)


async def _check_used(swarm: Swarm) -> None:
    """Refuse a tree with no document but that of this process: its name is mistyped.

    Raises:
        SourceError: The tree holds nothing.
    """
    if len(await swarm.state.keys(limit=2)) <= 1:
        raise SourceError(
            f"there is no swarm {swarm.name!r} on this server: it has no process and "
            "no document; --name says which one"
        )


def _stored(target: str | None) -> Swarm | None:
    """Return a swarm on a copy of the store at a path; None: the target is a name.

    Raises:
        SourceError: There is no such path.
    """
    if target is None:
        return None
    path = find_path(target)
    if not path.exists():
        if ":" in target or os.sep in target:
            raise SourceError(f"there is no store at {path}")
        return None
    tree = read_store(path)
    clock = StoppedClock(tree.commits[-1].at if tree.commits else 0)
    return Swarm(path.stem, StoredServer(tree), clock=clock)


def _running(target: str | None) -> Any:
    """Return the running swarm of a name or process id; None: the only one."""
    from swarm.observability.dashboard import running_swarms

    swarms = running_swarms()
    fitting = [each for each in swarms if target in (None, each.name, str(each.pid))]
    if len(fitting) == 1:
        return fitting[0]
    if not fitting:
        which = "no swarm" if target is None else f"no swarm '{target}'"
        raise SourceError(
            f"{which} is running here with a dashboard; `await swarm.dashboard()` "
            "starts one, and --swarm takes a store or a Redis URL as well"
        )
    names = ", ".join(f"{each.name} ({each.pid})" for each in fitting)
    raise SourceError(f"several swarms are running: {names}; choose one by --swarm")
