"""The decision whether a dashboard serves one request. Pure."""

import hmac
from collections.abc import Mapping, Sequence
from typing import Final, TypeAlias
from urllib.parse import urlsplit

import attrs

LOOPBACK: Final = frozenset({"127.0.0.1", "localhost", "[::1]"})
"""The host names of a machine's own browser, which no foreign name resolves to."""

_OWN_SITE: Final = ("same-origin", "none")
_READS: Final = ("GET", "HEAD")
_JSON: Final = "application/json"

Headers: TypeAlias = Mapping[str, Sequence[str]]
"""For each lower-case name of a header, all its values."""


@attrs.frozen(repr=False)
class AccessKeys:
    """The secrets of one dashboard, 256 bits each.

    Attributes:
        token: What the URL of the first visit and the header of programs hold.
        session: What the cookie of a browser holds after the first visit.
        cookie: The name of that cookie; each dashboard has its own, for browsers send
            the cookies of one port of a host to all its ports.
    """

    token: str
    session: str
    cookie: str


@attrs.frozen(kw_only=True, repr=False)
class Visit:
    """The parts of a request that the decision needs.

    Attributes:
        method: Its method; "WEBSOCKET" for the handshake of one.
        is_entry: Whether it asks for the page at the root, where a token may stand in
            the URL.
        token: The token in its URL, or "".
        session: The value of the dashboard's cookie, or "".
        headers: Its headers.
    """

    method: str
    is_entry: bool
    token: str
    session: str
    headers: Headers


@attrs.frozen
class Refusal:
    """Why a request is not served.

    Attributes:
        status: 401 or 403.
        reason: The reason in words, for the response.
    """

    status: int
    reason: str


def is_first_visit(visit: Visit, keys: AccessKeys) -> bool:
    """Return whether a browser comes by the URL that the program printed."""
    return (
        visit.method == "GET" and visit.is_entry and _is_same(visit.token, keys.token)
    )


def decide(visit: Visit, keys: AccessKeys, hosts: frozenset[str]) -> Refusal | None:
    """Return why a request is refused, or None: it may go on.

    The same checks hold for each method and each route, known or not:

    - Host is one of `hosts`, so that a foreign name that resolves to this machine
      reads nothing (DNS rebinding).
    - Origin, where it is sent, is this host; Sec-Fetch-Site says that no other site
      made the request. Only a link with the right token may come from elsewhere.
    - The token stands in the URL of the first visit or in the header Authorization,
      or a cookie has what the first visit was given.
    - A request that may change something has a body of JSON, which no form sends; a
      browser has to say its origin.

    Args:
        visit: The request.
        keys: The secrets to compare with, in constant time.
        hosts: Names of hosts in lower case: with a port, that port only.
    """
    host = _only(visit.headers, "host")
    if host is None or not (host in hosts or _without_port(host) in hosts):
        return Refusal(403, "this host name is not allowed here")
    origin = _only(visit.headers, "origin")
    if origin != "" and not _is_origin_of(origin, host):
        return Refusal(403, "requests of other origins are not served")
    is_first = is_first_visit(visit, keys)
    site = _only(visit.headers, "sec-fetch-site")
    if site not in (*_OWN_SITE, "") and not (is_first and _is_navigation(visit)):
        return Refusal(403, "requests of other sites are not served")
    has_token = is_first or _is_same(_bearer(visit.headers), keys.token)
    if not (has_token or _is_same(visit.session, keys.session)):
        return Refusal(401, "open the URL with the token that the program printed")
    if visit.method in _READS:
        return None
    if visit.method == "WEBSOCKET":
        return Refusal(403, "there are no websockets here")
    kind = (_only(visit.headers, "content-type") or "").partition(";")[0].strip()
    if kind != _JSON:
        return Refusal(403, f"a request that changes something is {_JSON}")
    if not has_token and not origin:
        return Refusal(403, "a browser that changes something says its origin")
    return None


def _only(headers: Headers, name: str) -> str | None:
    """Return a header in lower case; "": it is not there; None: it is there twice."""
    values = headers.get(name, ())
    if len(values) > 1:
        return None
    return values[0].lower() if values else ""


def _without_port(host: str) -> str:
    """Return a host name without its port; "" for what is no host name."""
    name, colon, port = host.rpartition(":")
    if not colon or host.endswith("]"):
        return host
    return name if port.isascii() and port.isdigit() else ""


def _is_origin_of(origin: str | None, host: str) -> bool:
    if origin is None:
        return False
    try:
        parts = urlsplit(origin)
    except ValueError:
        return False
    return parts.scheme in ("http", "https") and parts.netloc == host


def _is_navigation(visit: Visit) -> bool:
    """Return whether a person follows a link, in a window of its own."""
    mode = _only(visit.headers, "sec-fetch-mode")
    destination = _only(visit.headers, "sec-fetch-dest")
    return mode == "navigate" and destination == "document"


def _bearer(headers: Headers) -> str:
    values = headers.get("authorization", ())
    scheme, _, token = values[0].partition(" ") if len(values) == 1 else ("", "", "")
    return token.strip() if scheme.lower() == "bearer" else ""


def _is_same(given: str, right: str) -> bool:
    return hmac.compare_digest(given.encode(), right.encode())
