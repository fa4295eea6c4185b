"""The checks in front of a dashboard, and the headers of all its responses."""

import hashlib
import html
import secrets  # noqa: TID251  # Entropy may be seeded: a seeded token can be guessed
from collections.abc import Iterable
from http.cookies import CookieError, SimpleCookie
from typing import Final
from urllib.parse import parse_qs

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from swarm.observability.dashboard._security import (
    LOOPBACK,
    AccessKeys,
    Refusal,
    Visit,
    decide,
    is_first_visit,
)

POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
    "require-trusted-types-for 'script'; trusted-types 'none'"
)
"""Nothing but the dashboard's own files, no inline script, and no HTML from strings."""

_HEADERS: Final = tuple(
    (name.encode(), value.encode())
    for name, value in (
        ("content-security-policy", POLICY),
        ("x-content-type-options", "nosniff"),
        ("x-frame-options", "DENY"),
        ("referrer-policy", "no-referrer"),
        ("cross-origin-opener-policy", "same-origin"),
        ("cross-origin-resource-policy", "same-origin"),
        ("cache-control", "no-store"),
    )
)

_WELCOME: Final = (
    "<!doctype html><html lang=en><meta charset=utf-8>"
    '<meta http-equiv=refresh content="0; url={root}/"><title>swarm</title>'
    '<link rel=icon href="{root}/assets/icon.svg">'
    '<p><a href="{root}/">Go on to the dashboard</a></p></html>'
)
"""Goes on by itself, and not by a redirect: a redirect of a link on another site would
be a request of that site, without the cookie."""


def new_keys(token: str | None = None) -> AccessKeys:
    """Return the secrets of one dashboard; the token may be given.

    Raises:
        ValueError: The token is shorter than 22 characters, so it could be guessed,
            or has characters that no header can hold.
    """
    if token is not None and not (token.isascii() and token.isprintable()):
        raise ValueError("the token of a dashboard is printable ASCII")
    if token is not None and len(token) < 22:  # 128 bits in the alphabet of base64
        raise ValueError(
            "the token of a dashboard has 22 characters or more; "
            "secrets.token_urlsafe() makes one"
        )
    token = secrets.token_urlsafe(32) if token is None else token
    name = hashlib.sha256(token.encode()).hexdigest()[:8]
    return AccessKeys(
        token=token, session=secrets.token_urlsafe(32), cookie=f"swarm_{name}"
    )


_WEEK: Final = 7 * 24 * 3600
"""Seconds that a cookie lives: else those of past dashboards would pile up."""


class RequestGuard:
    """An app behind the checks of `decide`; see there what is refused."""

    def __init__(
        self, app: ASGIApp, keys: AccessKeys, hosts: Iterable[str] = ()
    ) -> None:
        """Stand before `app`.

        Args:
            app: What serves the requests that may go on.
            keys: The secrets of the dashboard.
            hosts: Names of hosts that it is reached by, besides those of loopback.

        Raises:
            TypeError: `hosts` is one text, not several.
            ValueError: A host is no name of a host.
        """
        if isinstance(hosts, str):
            raise TypeError(f"hosts is a list: hosts=[{hosts!r}]")
        names = [host.lower() for host in hosts]
        for name in names:
            if not name or "/" in name or name.split() != [name]:
                raise ValueError(f"a host is a name, as example.org:8443, not {name!r}")
        self._app = app
        self._keys = keys
        self._hosts: frozenset[str] = LOOPBACK.union(names)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request, or refuse it."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        visit = self._visit(scope)
        refusal = decide(visit, self._keys, self._hosts)
        if scope["type"] == "websocket":
            await receive()
            await send({"type": "websocket.close", "code": 1008})
        elif refusal is not None:
            await _refuse(send, refusal, is_head=visit.method == "HEAD")
        elif is_first_visit(visit, self._keys):
            root = html.escape(scope.get("root_path", ""))
            page = _WELCOME.format(root=root).encode()
            await _respond(send, 200, b"text/html", page, self._cookie(scope))
        else:
            await self._app(scope, receive, _with_headers(send))

    def _visit(self, scope: Scope) -> Visit:
        headers: dict[str, list[str]] = {}
        for name, value in scope["headers"]:
            headers.setdefault(name.decode("latin-1").lower(), []).append(
                value.decode("latin-1")
            )
        query = parse_qs(scope.get("query_string", b"").decode("latin-1"))
        root = scope.get("root_path", "")
        path = scope["path"]
        inner = path[len(root) :] if root and path.startswith(root) else path
        return Visit(
            method=scope.get("method", "WEBSOCKET"),
            is_entry=inner in ("", "/"),
            token=query.get("token", [""])[0],
            session=_cookie_in(headers.get("cookie", ()), self._keys.cookie),
            headers=headers,
        )

    def _cookie(self, scope: Scope) -> list[tuple[bytes, bytes]]:
        keys, root = self._keys, scope.get("root_path", "")
        secure = "; Secure" if scope.get("scheme") == "https" else ""
        cookie = (
            f"{keys.cookie}={keys.session}; Path={root or '/'}; "
            f"Max-Age={_WEEK}; HttpOnly; SameSite=Strict{secure}"
        )
        return [(b"set-cookie", cookie.encode())]


def _cookie_in(lines: Iterable[str], name: str) -> str:
    for line in lines:
        cookies: SimpleCookie = SimpleCookie()
        try:
            cookies.load(line)
        except CookieError:
            continue
        if name in cookies:
            return cookies[name].value
    return ""


def _with_headers(send: Send) -> Send:
    async def send_with_headers(message: Message) -> None:
        if message["type"] == "http.response.start":
            message = {**message, "headers": [*message.get("headers", ()), *_HEADERS]}
        await send(message)

    return send_with_headers


async def _refuse(send: Send, refusal: Refusal, *, is_head: bool) -> None:
    extra = [(b"www-authenticate", b"Bearer")] if refusal.status == 401 else []
    body = b"" if is_head else f"{refusal.reason}\n".encode()
    await _respond(send, refusal.status, b"text/plain", body, extra)


async def _respond(
    send: Send,
    status: int,
    kind: bytes,
    body: bytes,
    extra: Iterable[tuple[bytes, bytes]],
) -> None:
    headers = [
        (b"content-type", kind + b"; charset=utf-8"),
        (b"content-length", str(len(body)).encode()),
        *extra,
    ]
    guarded = _with_headers(send)
    await guarded({"type": "http.response.start", "status": status, "headers": headers})
    await guarded({"type": "http.response.body", "body": body})
