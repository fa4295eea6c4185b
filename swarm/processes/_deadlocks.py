"""Deadlocks over several processes: found in the tree, confirmed, and broken once.

The records of locks and semaphores show a cycle to every process. The process of the
newest request in it is the one that breaks it. Before, it asks the others whether their
sessions hold and wait as the records say: a lease may have been handed to another task,
which the records do not tell. So there is no false alarm (L15).
"""

import asyncio
from itertools import count
from typing import Any, Final

from swarm.agents import Host
from swarm.coordination import Coordination, CycleLink, victim_of
from swarm.processes._post import Post
from swarm.processes._process_record import process_of

_AGAIN: Final = 1.0
"""The longest pause in seconds before the others are asked again."""


class Deadlocks:
    """Breaks the cycles of waits whose newest request is one of this process."""

    def __init__(self, host: Host, coordination: Coordination, post: Post) -> None:
        """Watch from now on."""
        self._host = host
        self._coordination = coordination
        self._post = post
        self._ids = count(1)
        self._asked: dict[int, asyncio.Future[str | None]] = {}
        post.handlers["confirm"] = self._confirm
        post.handlers["confirmed"] = self._confirmed
        coordination.watch_cycles(self._found)

    def _found(self, cycle: tuple[CycleLink, ...]) -> None:
        if self._host.closed_error() is None:
            self._host.start(self._break(cycle), "deadlock over processes")

    async def _break(self, cycle: tuple[CycleLink, ...]) -> None:
        """Fail the newest request once every process has confirmed the cycle.

        A process that has just asked may not know its own request yet, so the others
        are asked again for as long as the cycle is there.
        """
        victim, pause = victim_of(cycle), 0.01
        at = cycle.index(victim)
        links = (*cycle[at:], *cycle[:at])
        while self._coordination.is_cycle(cycle):
            lines = [await self._line(link) for link in links]
            told = tuple(line for line in lines if line is not None)
            if len(told) == len(links):
                self._coordination.refuse(victim.request, told)
                return
            await self._host.clock.sleep(pause)
            pause = min(2 * pause, _AGAIN)

    async def _line(self, link: CycleLink) -> str | None:
        """Return what a session waits for, as its own process tells it."""
        process = process_of(link.request)
        if process == self._post.process:
            return self._coordination.describe_link(link.grant, link.request)
        id = next(self._ids)  # noqa: A001
        answer = self._asked[id] = self._host.loop.create_future()
        timer = self._host.clock.call_at(
            self._host.now() + _AGAIN, lambda: _give_up(answer)
        )
        message = {"id": id, "grant": link.grant, "request": link.request}
        try:
            self._post.mention(process, "confirm", message)
            told: str | None = await answer
            return told
        finally:
            timer.cancel()
            del self._asked[id]

    def _confirm(self, sender: str, message: dict[str, Any]) -> None:
        line = self._coordination.describe_link(message["grant"], message["request"])
        self._post.mention(sender, "confirmed", {"id": message["id"], "line": line})

    def _confirmed(self, _: str, message: dict[str, Any]) -> None:
        answer = self._asked.get(message["id"])
        if answer is not None and not answer.done():
            answer.set_result(message["line"])


def _give_up(answer: "asyncio.Future[str | None]") -> None:
    if not answer.done():
        answer.set_result(None)
