"""Facts about a server: its identity, and what survives its crash. Pure."""

import re
from collections.abc import Mapping
from typing import Final

import attrs

from swarm.errors import StorageFailed, StorageUnsupported, SwarmError

DURABILITIES: Final = {
    "none": "it throws documents away when its memory is full (maxmemory-policy); set "
    "the policy to noeviction",
    "power": "nothing acknowledged is lost in a crash (appendfsync always)",
    "everysec": "a crash loses about the last second (appendfsync everysec)",
    "system": "a power cut loses what the system has not written (appendfsync no)",
    "snapshot": "a crash loses everything since the last RDB snapshot",
    "memory": "a crash of the server loses everything",
    "unknown": "the server does not tell (CONFIG GET is refused)",
}
"""The durabilities a server can have, and what each means."""

OLDEST: Final = (6, 2)
"""The oldest Redis whose commands suffice; every Valkey is newer."""

_REFUSALS: Final = {
    "OOM": "it has no memory left (maxmemory), and nothing was written. Raise "
    "maxmemory, or delete something; reading and deleting go on",
    "NOAUTH": "it asks for a password: redis://:PASSWORD@HOST, or "
    "redis://USER:PASSWORD@HOST",
    "MISCONF": "it cannot write to its disk, and takes no writes until it can",
    "NOPERM": "the user may not do that",
    "MOVED": "it is a node of a cluster, and another one has the slot of this swarm: "
    "name the node that it tells",
    "WRONGTYPE": "another program has written to a key of this swarm; give the swarm "
    "a ?prefix= of its own",
}


_IN_SCRIPT: Final = re.compile(r"ERR Error running script.*?: -?([A-Z]{3,}) ")


def refusal_code(text: str) -> str:
    """Return the code of an error.

    Redis before 7 wraps the error of a command of the script into one of the script.
    """
    wrapped = _IN_SCRIPT.match(text)
    return text.partition(" ")[0] if wrapped is None else wrapped[1]


def explain_refusal(text: str) -> str:
    """Return what a server says, and what it means where that is not plain."""
    meaning = _REFUSALS.get(refusal_code(text))
    return f"the server says: {text}" + (f" ({meaning})" if meaning else "")


@attrs.frozen(kw_only=True)
class ServerInfo:
    """A server as one connection found it.

    Attributes:
        name: Its name: Redis or Valkey.
        run_id: The id of the server process; another after a restart or failover.
        version: Its version, such as "7.0.15".
        is_ready: Whether it takes writes: it is no replica, and has loaded its data.
        durability: A key of `DURABILITIES`.
        connection: The server's id of this connection, or 0: not known.
    """

    name: str
    run_id: str
    version: str
    is_ready: bool
    durability: str
    connection: int

    @property
    def is_too_old(self) -> bool:
        """Whether it lacks commands that are needed, as far as it tells its version."""
        numbers = [int(each) for each in self.version.split(".")[:2] if each.isdigit()]
        return bool(numbers) and tuple(numbers) < OLDEST

    def __str__(self) -> str:
        return (
            f"{self.name} {self.version}, durability {self.durability}: "
            f"{DURABILITIES[self.durability]}"
        )


def unfit(server: ServerInfo, address: str, durability: str) -> SwarmError | None:
    """Return why a server cannot hold a swarm, or None.

    Args:
        server: The server.
        address: Its address, as it is shown.
        durability: The durability that it must have; "": any.
    """
    if server.is_too_old:
        return StorageFailed(
            f"the server at {address} is {server.name} {server.version}; swarm needs "
            f"Redis {OLDEST[0]}.{OLDEST[1]} or newer"
        )
    if not server.is_ready:
        return StorageFailed(
            f"the server at {address} takes no writes: it is a replica, or is still "
            "loading its data"
        )
    if server.durability == "none":
        return StorageUnsupported(f"{address} cannot hold a swarm: this is {server}")
    if durability and server.durability != durability:
        return StorageUnsupported(
            f"{address} was opened with durability={durability}, and this is {server}. "
            "Set `appendonly yes` and `appendfsync always` in redis.conf, or leave "
            "durability= away"
        )
    return None


def read_info(text: str) -> dict[str, str]:
    """Return the fields of a reply to INFO."""
    lines = (line.partition(":") for line in text.splitlines() if ":" in line)
    return {name: value.strip() for name, _, value in lines}


def describe_server(
    info: Mapping[str, str], config: Mapping[str, str] | None, connection: int
) -> ServerInfo:
    """Return what INFO and CONFIG GET say of a server.

    Args:
        info: The fields of INFO.
        config: `appendonly`, `appendfsync`, `save`, `maxmemory` and
            `maxmemory-policy`; None: the server refused.
        connection: The server's id of the connection.
    """
    return ServerInfo(
        name="Valkey" if "valkey_version" in info else "Redis",
        run_id=info.get("run_id", ""),
        version=info.get("valkey_version", info.get("redis_version", "?")),
        is_ready=info.get("role", "master") == "master"
        and info.get("loading", "0") == "0",
        durability=_durability(config),
        connection=connection,
    )


def _durability(config: Mapping[str, str] | None) -> str:
    if config is None or "appendonly" not in config:
        return "unknown"
    is_bounded = config.get("maxmemory", "0") != "0"
    if is_bounded and config.get("maxmemory-policy", "").startswith("allkeys"):
        return "none"
    if config["appendonly"] != "yes":
        return "snapshot" if config.get("save") else "memory"
    named = {"always": "power", "everysec": "everysec", "no": "system"}
    return named.get(config.get("appendfsync", ""), "unknown")
