"""Messages between processes: JSON objects, each received once, in order.

Every message says which process sent it and carries a number that only grows, so one
that arrives a second time after a lost connection is known.
"""

import asyncio
import logging
from collections.abc import Callable
from typing import Any, Final

import orjson

from swarm.ports import Inboxes

log: Final = logging.getLogger("swarm.processes")

Handler = Callable[[str, dict[str, Any]], object]


class Post:
    """Sends and receives the messages of one process.

    Attributes:
        process: This process.
        handlers: What to call with the sender and each message, by kind.
    """

    def __init__(self, inboxes: Inboxes) -> None:
        """Receive nothing yet."""
        self.process: str = ""
        self.handlers: dict[str, Handler] = {}
        self._inboxes = inboxes
        self._count = 0
        self._seen: dict[str, int] = {}

    async def open(self, process: str) -> None:
        """Send and receive as `process` from now on."""
        self.process = process
        self._seen.clear()
        await self._inboxes.open(process, self._receive)

    async def close(self) -> None:
        """Receive nothing more."""
        await self._inboxes.close()

    def forget(self, process: str) -> None:
        """Forget a process that has gone."""
        self._seen.pop(process, None)

    def send(
        self, process: str, kind: str, message: dict[str, Any]
    ) -> "asyncio.Future[None]":
        """Send a message; the future raises when it cannot be received."""
        self._count += 1
        message["kind"] = kind
        message["from"] = self.process
        message["number"] = self._count
        return self._inboxes.send(process, orjson.dumps(message))

    def mention(self, process: str, kind: str, message: dict[str, Any]) -> None:
        """Send a message whose loss means nothing: its process has gone, or will go."""
        try:
            self.send(process, kind, message).add_done_callback(_seen)
        except Exception as error:  # noqa: BLE001  # the swarm is closing
            log.debug("not sent to process %s: %s", process, error)

    def _receive(self, line: bytes) -> None:
        message = orjson.loads(line)
        sender, number = message["from"], message["number"]
        if self._seen.get(sender, 0) >= number:
            return
        self._seen[sender] = number
        handler = self.handlers.get(message["kind"])
        if handler is None:
            kind = message["kind"]
            log.warning("process %s sent %r, which means nothing here", sender, kind)
            return
        try:
            handler(sender, message)
        except Exception:
            kind = message["kind"]  # and not the values that users send
            log.exception("the %r message of process %s failed", kind, sender)


def _seen(future: "asyncio.Future[None]") -> None:
    if not future.cancelled():
        future.exception()
