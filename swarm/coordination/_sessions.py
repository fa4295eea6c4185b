"""Sessions: whose death ends a grant, and who can be stuck.

A session is the turn of an agent, or else an asyncio task; child tasks of a turn are
sessions of their own, since one may well wait for what another holds. When a session
ends, what it still holds is taken from it (semantics.md, L19); but for a lease that a
task returns, as that of `asyncio.wait_for(lock.acquire(), 5)` does on Python 3.11, and
those of `asyncio.gather` always do. Such a lease belongs to nobody until it is entered.
"""

import asyncio
from collections.abc import Callable, Hashable, Sequence
from typing import Any, Protocol

from swarm.coordination._wait_graph import Obstacle
from swarm.ports import Standing, current_task


class Life(Protocol):
    """What coordination has to know of agents; the system tells it."""

    def running_turn(self) -> Hashable | None:
        """Return the turn whose own task is running this, or None."""
        ...

    def turns_of(self, agent_id: str) -> Sequence[Hashable] | None:
        """Return the turns of an agent that run, or None when there is no such agent.

        One turn means that the agent can do nothing before it ends.
        """
        ...

    def standing(self, turn: Hashable) -> Standing | None:
        """Return where a turn is suspended; None: it runs, or is no turn."""
        ...

    def is_leaving(self, turn: Hashable) -> bool:
        """Return whether a turn is to be cancelled, for who asked for it has left."""
        ...

    def request_of(self, task: "asyncio.Task[Any]") -> "Obstacle | None":
        """Return the request to an agent that a task waits for, or None."""
        ...


class NoAgents:
    """A `Life` without agents: every session is a task."""

    def running_turn(self) -> None:
        """Return None."""

    def turns_of(self, agent_id: str) -> None:
        """Return None."""

    def standing(self, turn: Hashable) -> None:
        """Return None."""

    def is_leaving(self, turn: Hashable) -> bool:  # noqa: ARG002
        """Return False."""
        return False

    def request_of(self, task: "asyncio.Task[Any]") -> None:
        """Return None."""


class Holding(Hashable, Protocol):
    """What a session holds."""

    @property
    def id(self) -> str:
        """Its id."""
        ...

    def orphan(self, reason: str) -> None:
        """Be taken away: the session has ended."""
        ...

    def abandon(self) -> None:
        """Know that the body that ran under it is over."""
        ...


class Session:
    """One turn or task that holds something, has held it, or waits for it.

    Attributes:
        name: What people call it.
        party: What it is in the wait-for graph.
        task: The task it is; None for a turn, and for a callback.
        leases: What it holds, by id.
        bodies: The leases under which bodies run in it, if it is a turn or if others
            hold them.
        is_turn: Whether it is a turn, whose askers wait for it.
        meeting: The barrier at which it is expected; "": several, or elsewhere.
    """

    __slots__ = (
        "__weakref__",
        "bodies",
        "is_turn",
        "leases",
        "meeting",
        "name",
        "party",
        "task",
    )

    def __init__(
        self,
        name: str,
        party: Hashable | None = None,
        task: asyncio.Task[Any] | None = None,
    ) -> None:
        """Begin, holding nothing; a turn is the party that it is for its askers."""
        self.name: str = name
        self.task: asyncio.Task[Any] | None = task
        self.party: Hashable = self if party is None else party
        self.leases: dict[str, Holding] = {}
        self.bodies: dict[Holding, None] = {}
        self.is_turn: bool = party is not None
        self.meeting: str | None = None

    def expect_at(self, meeting: str) -> None:
        """Note that it is expected at this barrier; "": elsewhere."""
        if self.meeting != meeting:
            self.meeting = meeting if self.meeting is None else ""

    def is_unawaited(self, meeting: str | None = None) -> bool:
        """Return whether nobody can wait for it, but at this barrier.

        Then it is in no cycle, whatever it waits for.
        """
        if self.leases or self.bodies or self.is_turn:
            return False
        return self.meeting is None or self.meeting == meeting

    def is_nobody(self) -> bool:
        """Return whether this has no end: it keeps what an ended one has returned."""
        return self.task is None and not self.is_turn

    def __str__(self) -> str:
        return self.name


class Sessions:
    """Those of one swarm.

    Attributes:
        expected: Those for whom others may wait though they hold nothing.
        of_turns: The sessions of turns; the system ends them with `end_turn`.
    """

    __slots__ = ("_end", "_of_tasks", "_turn", "expected", "of_turns")

    def __init__(
        self,
        end: Callable[[Session, object], None],
        turn: Callable[[], Hashable | None],
    ) -> None:
        """Begin with none.

        Args:
            end: Called with each that ended while it held something, and with what
                it returned.
            turn: Returns the turn whose own task is running, or None.
        """
        self._end = end
        self._turn = turn
        self._of_tasks: dict[asyncio.Task[Any], Session] = {}
        self.of_turns: dict[Hashable, Session] = {}
        self.expected: dict[Session, None] = {}

    def __len__(self) -> int:
        """Return how many there are."""
        return len(self._of_tasks) + len(self.of_turns)

    def current(self) -> Session:
        """Return the session of the code that is running."""
        turn = self._turn()
        if turn is not None:
            session = self.of_turns.get(turn)
            if session is None:
                session = self.of_turns[turn] = Session(str(turn), turn)
            return session
        task = current_task()
        if task is None:
            return Session("a callback")  # has no end anybody could notice
        return self._of_tasks.get(task) or self.of_task(task)

    def of_task(self, task: "asyncio.Task[Any]") -> Session:
        """Return the session of a task that runs no turn."""
        session = self._of_tasks.get(task)
        if session is None:
            name = f"task '{task.get_name()}'"
            session = self._of_tasks[task] = Session(name, task=task)
            task.add_done_callback(self._task_ended)
        return session

    def expect(self, session: Session, meeting: str = "") -> None:
        """Note that others may wait for a session: at this barrier; "": elsewhere."""
        session.expect_at(meeting)
        if not session.is_turn and not session.is_nobody():
            self.expected[session] = None

    def find(self) -> Session | None:
        """Return the session of the code that is running, if it has one already."""
        task = current_task()
        return None if task is None else self._of_tasks.get(task)

    def _task_ended(self, task: asyncio.Task[Any]) -> None:
        session = self._of_tasks.pop(task)
        self.expected.pop(session, None)
        if session.leases:
            is_lost = task.cancelled() or task.exception() is not None
            self._end(session, None if is_lost else task.result())

    def end_turn(self, turn: Hashable) -> None:
        """Note that a turn has ended."""
        session = self.of_turns.pop(turn, None)
        if session is None:
            return
        for lease in tuple(session.bodies):
            lease.abandon()
        if session.leases:
            self._end(session, None)
