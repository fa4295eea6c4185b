"""What suspended code shows of those who have told nobody that they wait.

The graph is told of every wait for something of swarm's. That tasks wait for each
other, that somebody was cancelled, that a lease was handed on: of that it is told
nothing. It is read, when it matters, from where tasks are suspended.
"""

import asyncio
from collections.abc import Hashable
from typing import Any

from swarm.coordination._handed_on import leases_in
from swarm.coordination._joins import Join, joined
from swarm.coordination._sessions import Session
from swarm.coordination._wait_graph import Obstacle
from swarm.coordination._waiting import Core
from swarm.ports import Standing, current_task, is_cancelled, standing


class CodeInsight:
    """Looks at the tasks and turns that `core` knows. Fulfils `Insight`."""

    __slots__ = ("_core",)

    def __init__(self, core: Core) -> None:
        """Look when asked to."""
        self._core = core

    def implied(self, party: Hashable) -> Obstacle | None:
        """Return what a party waits for of which nothing was noted, if it can be told.

        The tasks that it joins; else the request that a task waits for, of whom
        nobody thought that others could wait for it.
        """
        core = self._core
        place = self._standing(party)
        if place is not None and not is_cancelled(place):
            children = joined(place)
            if children:
                return Join(tuple(core.sessions.of_task(child) for child in children))
        if not isinstance(party, Session) or party.task is None:
            return None
        return core.life.request_of(party.task)

    def is_leaving(self, party: Hashable) -> bool:
        """Return whether a party was cancelled, and has only to hear of it."""
        if not isinstance(party, Session) and self._core.life.is_leaving(party):
            return True
        place = self._standing(party)
        return place is not None and is_cancelled(place)

    def learn(self) -> bool:
        """Look whether leases have been handed on; return whether one was.

        A lease can be given to a task that is to release it, without being entered:
        then the one who asked for it may wait for that. It shows in the variables of
        the other's code.
        """
        current, is_new = current_task(), False
        for task in asyncio.all_tasks():
            if task is current:
                continue
            for lease in leases_in(task.get_coro()):
                if lease.inside is None and not lease.is_shared:
                    lease.is_shared = not self._is_of(lease.session, task)
                    is_new |= lease.is_shared
        if is_new:
            self._core.moves += 1
        return is_new

    def _is_of(self, session: Session, task: "asyncio.Task[Any]") -> bool:
        """Return whether a suspended task runs a session, as far as can be told."""
        if session.task is not None:
            return session.task is task
        life = self._core.life
        if life.running_turn() is session.party:
            return False
        place = life.standing(session.party)
        return place is None or place[1] is task.get_coro()

    def _standing(self, party: Hashable) -> Standing | None:
        if isinstance(party, Session):
            return standing(party.task)
        return self._core.life.standing(party)
