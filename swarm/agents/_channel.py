"""What the two ends of a streaming reply share.

The producer is never more than the window ahead of its reader (T2): after filling the
window it waits for credit. Both sides are only ever woken to look again, so a
cancelled reader loses no item (T4).
"""

import asyncio
from collections import deque
from typing import Any


class Channel:
    """The part of a stream that producer and reader share: its buffer and its end.

    Attributes:
        buffer: The items that were produced and not read.
        ended: Whether no more items come.
        reader: The activity and the task that have read last.
        window: How many items may be buffered.
    """

    __slots__ = (
        "_credit",
        "_error",
        "_readers",
        "buffer",
        "ended",
        "reader",
        "window",
    )

    def __init__(self, window: int) -> None:
        """Create an empty channel."""
        self.buffer: deque[Any] = deque()
        self.ended: bool = False
        self.reader: tuple[Any, asyncio.Task[Any] | None] = (None, None)
        self.window: int = window
        self._error: BaseException | None = None
        self._credit: asyncio.Future[None] | None = None
        self._readers: list[asyncio.Future[None]] = []

    def push(self, item: object) -> None:
        """Hand an item over; see `is_full` before the next."""
        self.buffer.append(item)
        if self._readers:
            self._wake_readers()

    def is_full(self) -> bool:
        """Return whether there is no room for another item."""
        return len(self.buffer) >= self.window

    async def room(self, loop: asyncio.AbstractEventLoop) -> None:
        """Wait until there is room for another item."""
        while self.is_full():
            self._credit = loop.create_future()
            try:
                await self._credit
            finally:
                self._credit = None

    def has_credit(self) -> bool:
        """Return whether a producer that waited has been woken and has yet to go on."""
        credit = self._credit
        return credit is not None and credit.done() and not credit.cancelled()

    def take(self) -> Any:
        """Take the oldest item and give credit for one more."""
        item = self.buffer.popleft()
        if self._credit is not None and not self._credit.done():
            self._credit.set_result(None)
        return item

    def finish(self, error: BaseException | None = None) -> None:
        """End the stream after the buffered items; only the first end counts (T5)."""
        if not self.ended:
            self.ended = True
            self._error = error
            self._wake_readers()

    def end(self) -> BaseException:
        """Return what a reader raises at the end of the stream, also the next time."""
        return StopAsyncIteration() if self._error is None else self._error

    def forget(self) -> None:
        """Let go of the error: no reader is left, and its frames refer to this."""
        self._error = None

    def new_reader(self, loop: asyncio.AbstractEventLoop) -> asyncio.Future[None]:
        """Return a future that wakes a reader."""
        reader = loop.create_future()
        self._readers.append(reader)
        return reader

    def _wake_readers(self) -> None:
        readers, self._readers = self._readers, []
        for reader in readers:
            if not reader.done():
                reader.set_result(None)
