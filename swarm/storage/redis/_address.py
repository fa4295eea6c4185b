"""Addresses: a server at one place, or where sentinels say that it is.

redis-py reads the address and makes the connection: authentication, TLS, sockets.
"""

from typing import Any, Final
from urllib.parse import parse_qsl, urlsplit

from redis.asyncio import ConnectionPool
from redis.asyncio.retry import Retry
from redis.asyncio.sentinel import MasterNotFoundError, Sentinel
from redis.backoff import NoBackoff

CONNECT: Final = 5.0
"""Seconds in which a connection has to be made."""

_ASK: Final = 1.0
"""Seconds in which a sentinel has to answer before the next one is asked."""

_SENTINEL: Final = "redis+sentinel"


class Address:
    """An address, at which each new connection may find another server."""

    def __init__(self, url: str) -> None:
        """Read an address.

        Args:
            url: As redis-py takes it, or
                redis+sentinel://USER:PASSWORD@HOST:PORT,HOST:PORT/SERVICE/DB with the
                hosts of sentinels, and the password of the server.

        Raises:
            TypeError: It has an option that redis-py does not know.
            ValueError: It is no address.
        """
        self._sentinels: list[tuple[str, int]] = []
        self._service = ""
        if urlsplit(url).scheme == _SENTINEL:
            url = self._read_sentinels(url)
        pool = ConnectionPool.from_url(url)
        self._make: Any = pool.connection_class
        self._options: dict[str, Any] = pool.connection_kwargs
        self._options["protocol"] = 2  # whatever the address says
        self._options.setdefault("socket_connect_timeout", CONNECT)
        try:
            self._make(**self._options)
        except TypeError:
            names = ", ".join(name for name, _ in parse_qsl(urlsplit(url).query))
            raise TypeError(f"redis-py knows not all of the options {names}") from None

    def _read_sentinels(self, url: str) -> str:
        """Note the sentinels and the service; return the rest of the address."""
        parts = urlsplit(url)
        user, at, hosts = parts.netloc.rpartition("@")
        for each in hosts.split(","):
            place = urlsplit(f"//{each}")
            if not place.hostname:
                raise ValueError("a host of a sentinel is missing")
            self._sentinels.append((place.hostname, place.port or 26379))
        self._service, _, database = parts.path.strip("/").partition("/")
        if not self._service:
            raise ValueError(f"name the service: {_SENTINEL}://HOST,HOST/SERVICE/DB")
        if database and not database.isdecimal():
            raise ValueError(f"the database is a number, not {database!r}")
        return f"redis://{user}{at}localhost/{database}?{parts.query}"

    async def connection(self) -> Any:
        """Return a connection to the server, which is yet to be made.

        Raises:
            RedisError: No sentinel knows the server.
        """
        if not self._sentinels:
            return self._make(**self._options)
        options = {
            "socket_connect_timeout": _ASK,
            "socket_timeout": _ASK,
            "retry": Retry(NoBackoff(), 0),
        }
        asked: Any = Sentinel(  # type: ignore[no-untyped-call]
            self._sentinels, sentinel_kwargs=options
        )
        try:
            host, port = await asked.discover_master(self._service)
        except MasterNotFoundError as error:  # its text has the whole clients
            raise MasterNotFoundError(
                f"no sentinel there knows a server of {self._service!r} that is up"
            ) from error
        finally:
            for each in asked.sentinels:
                await each.aclose()
        return self._make(**{**self._options, "host": host, "port": port})
