"""Who reads a stream, and the publishers that wait for them to.

A publisher that waits for room waits for the reader: an edge of the wait-for graph,
so that two streams whose readers publish to each other are told (`DeadlockError`) and
not left to wait for ever. The edge is drawn only when it is certain who reads. When
several have read, any of them may come back, and no cycle is claimed.

While there is room, whoever is let in may leave it to who stands behind, and nobody is
sure to wait. Once they have gone in and it is full again, those who still stand in line
are looked at anew: the reader may have begun to wait for one of them meanwhile.

When every task has ended that entered or read a stream, and one has read, publishers
wait for it no more: what there is no room for is in the log, for who may still come.
(An agent may read on in another turn. What it subscribed ends with it.)
"""

import asyncio
from collections.abc import Hashable, Iterable
from typing import Any, Protocol, cast

from swarm.bus._host import BusHost
from swarm.bus._turnstile import Turnstile
from swarm.errors import DeadlockError
from swarm.ports import current_activity, current_task


class Crowded(Protocol):
    """The stream, as those who wait for room see it."""

    name: str

    @property
    def pattern(self) -> str:
        """Which events it is for."""
        ...

    def room(self) -> int:
        """Return for how many events there is room."""
        ...

    def look_again(self) -> None:
        """Find out anew whether anybody waits."""
        ...


class Readers:
    """The readers of one stream. An obstacle of the wait-for graph.

    Attributes:
        turnstile: Where publishers wait for them.
    """

    __slots__ = (
        "_activity",
        "_host",
        "_is_certain",
        "_party",
        "_stream",
        "_task",
        "_tasks",
        "_waiting",
        "turnstile",
    )

    def __init__(self, host: BusHost, stream: Crowded) -> None:
        """Know nobody yet."""
        self._host = host
        self._stream = stream
        self._task: asyncio.Task[Any] | None = None
        self._activity: Any = None
        self._party: Hashable | None = None
        self._is_certain = True
        self._tasks: dict[asyncio.Task[Any] | None, None] = {}
        self._waiting: dict[Hashable, list[int]] = {}
        self.turnstile: Turnstile = Turnstile(
            host.loop, stream.room, self._look_at_waits
        )

    def entered(self) -> None:
        """Note who has entered the stream: so far, nobody else will read it."""
        self._task = current_task()
        self._watch(self._host.party(), current_activity.get())

    def left(self) -> None:
        """Note that nobody will read any more."""
        for task in self._tasks:
            if task is not None:
                task.remove_done_callback(self._task_ended)
        self._tasks.clear()

    def reads(self) -> None:
        """Note that the running code reads."""
        task, activity = current_task(), current_activity.get()
        if (
            task is self._task
            and activity is self._activity
            and self._party is not None
        ):
            return
        party = self._host.party(is_awaited=True)
        if self._party is not None and party != self._party and self._is_alive():
            self._is_certain = False
        self._task, self._activity, self._party = task, activity, party
        self._watch(party, activity)

    def _watch(self, party: Hashable, activity: Any) -> None:
        """Notice the end of a task that has entered, or has read.

        A turn is not watched: its agent may read on.
        """
        task = None if party is activity else self._task
        if task not in self._tasks:
            self._tasks[task] = None
            if task is not None:
                task.add_done_callback(self._task_ended)

    def _task_ended(self, task: "asyncio.Task[Any]") -> None:
        self._tasks.pop(task, None)
        if self.are_gone():
            self._stream.look_again()
            self.turnstile.let_in()

    def are_gone(self) -> bool:
        """Return whether everybody has ended who would read on."""
        return not self._tasks and self._party is not None

    def _is_alive(self) -> bool:
        """Return whether the last reader may read again."""
        if self._party is self._activity is not None:  # a turn
            return bool(cast("Any", self._activity).is_turn())
        return self._task is not None and not self._task.done()

    def is_reading(self) -> bool:
        """Return whether the running code is who reads."""
        if self._party is not None and self._party is self._activity:
            return current_activity.get() is self._activity
        return current_task() is self._task

    def took(self) -> None:
        """Note that the running code has taken something out: there is room."""
        self.reads()
        self.turnstile.let_in()

    async def wait(self, ticket: int) -> None:
        """Wait until there is room for who has this ticket.

        Raises:
            DeadlockError: The reader waits, in the end, for who would wait here.
        """
        party, graph = self._host.party(), self._host.waits
        graph.enter(party, self)
        self._waiting.setdefault(party, []).append(ticket)
        try:
            await self.turnstile.wait(ticket)
        finally:
            self._stream.look_again()
            graph.leave(party, self)
            self._waiting[party].remove(ticket)
            if not self._waiting[party]:
                del self._waiting[party]

    def _look_at_waits(self) -> None:
        """Tell one of those in the line if the reader has come to wait for it.

        One, for that may be all it takes; when it has gone, the others are looked at.
        """
        graph = self._host.waits
        reached = graph.reach(self._party, self)
        if not any(party in self._waiting for party in reached):
            return
        for party, tickets in self._waiting.items():
            cycle = graph.find_cycle(party, self) if party in reached else ()
            if cycle:
                self.turnstile.turn_away(tickets[0], DeadlockError(cycle=cycle))
                return

    # --- as an obstacle -------------------------------------------------------------

    def blockers(self) -> Iterable[Hashable]:
        """Return who has to read before there is room, if that is certain."""
        certain = self._party is not None and self._is_certain
        return (self._party,) if certain and self._stream.room() <= 0 else ()

    def describe_wait(self) -> str:
        """Return what is waited for."""
        return (
            f"room in the stream '{self._stream.name}' of {self._stream.pattern}, "
            f"which {self._party} reads"
        )
