"""Inboxes: how processes that share a tree send each other messages."""

import asyncio
from collections.abc import Callable
from typing import Protocol


class Inboxes(Protocol):
    """The inboxes of the processes that share a tree. Messages are bytes.

    Messages from one process to another arrive in the order in which they were sent.
    After a lost connection one may arrive twice; none arrives out of order.
    """

    async def open(self, process: str, receive: Callable[[bytes], object]) -> None:
        """Have this process receive: call `receive` with each message in turn."""
        ...

    def send(self, process: str, message: bytes) -> "asyncio.Future[None]":
        """Put a message into the inbox of a process; return its reception there.

        Raises (when awaited):
            MailboxFull: The inbox is full; nothing was sent.
            NotFound: There is no such process; nothing was sent.
            StorageFailed: The way there has failed.
        """
        ...

    async def close(self) -> None:
        """Receive nothing more, and forget what was not received; idempotent."""
        ...
