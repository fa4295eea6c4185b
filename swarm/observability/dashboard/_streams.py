"""Server-sent events: a page gets what it shows again whenever that has changed."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any, Final, TypeAlias

import anyio
import orjson

from swarm.observability.dashboard._pace import Pace
from swarm.ports import Clock

View: TypeAlias = Callable[[Mapping[str, str]], Mapping[str, Any]]
"""Returns the sections of a page; a section is a JSON value."""

MOST: Final = 16
"""The most pages that may be open."""

_LIFE: Final = 60.0
"""Seconds after which a stream ends and its page opens another: a server that the
dashboard is mounted in ends only when its connections do."""

_QUIET: Final = 15.0
"""Seconds after which a line is sent although nothing has changed."""


class Streams:
    """The streams of one dashboard. While there is none, nothing is computed."""

    def __init__(self, clock: Clock) -> None:
        """Have no stream yet."""
        self._clock = clock
        self._pace = Pace()
        self._closing = asyncio.Event()
        self._open = 0

    def __len__(self) -> int:
        """Return how many streams there are."""
        return self._open

    def close(self) -> None:
        """End all streams; new ones end at once."""
        self._closing.set()

    async def follow(
        self, view: View, query: Mapping[str, str], after: str
    ) -> AsyncIterator[bytes]:
        """Yield the sections of a view that have changed, as server-sent events.

        Each stream begins with all sections. A view of a sequence, such as events,
        has a section "cursor": it is the id of the message, and the view gets it back
        as "after", so that a page that comes again misses nothing and sees nothing
        twice.

        Args:
            view: What to show.
            query: What the page asks for.
            after: The id of the last message that the page has, or "".
        """
        self._open += 1
        try:
            async for message in self._messages(view, query, after):
                yield message
        finally:
            self._open -= 1

    async def _messages(
        self, view: View, query: Mapping[str, str], after: str
    ) -> AsyncIterator[bytes]:
        now = self._clock.monotonic
        begun = said = now()
        sent: dict[str, bytes] = {}
        yield b"retry: 1000\n\n"
        while not self._closing.is_set() and now() - begun < _LIFE:
            looked = now()
            found = view({**query, "after": after} if after else query)
            changed = _changes(sent, found)
            self._pace.looked(looked, now())
            after = str(found.get("cursor", ""))
            if changed:
                said = now()
                yield _message(changed, after)
            elif now() - said > _QUIET:
                said = now()
                yield b": nothing new\n\n"
            await self._turn(looked)

    async def _turn(self, looked: float) -> None:
        """Wait until this stream may look again, or the streams are closed."""
        now = self._clock.monotonic
        while (
            not self._closing.is_set() and (left := self._pace.wait(now(), looked)) > 0
        ):
            with anyio.move_on_after(left):
                await self._closing.wait()


def _changes(sent: dict[str, bytes], found: Mapping[str, Any]) -> list[bytes]:
    """Return the sections that are not as they were sent, each as `"name":value`."""
    changed = []
    for name, value in found.items():
        body = orjson.dumps(value, default=str)
        if sent.get(name) != body:
            sent[name] = body
            changed.append(orjson.dumps(name) + b":" + body)
    return changed


def _message(changed: list[bytes], cursor: str) -> bytes:
    id_ = f"id: {cursor}\n".encode() if cursor else b""
    return id_ + b"data: {" + b",".join(changed) + b"}\n\n"
