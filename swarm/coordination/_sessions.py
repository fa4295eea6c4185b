"""Sessions: the turns and tasks that hold leases, and whose end ends them.

A session is the turn of an agent, or else an asyncio task; child tasks of a turn are
sessions of their own, since one may well wait for what another holds. When a session
ends, the leases it still holds are taken from it (semantics.md, L19), except for a
lease that a task returns, as `asyncio.gather(lock.acquire(), …)` does: such a lease
belongs to no session until it is entered.
"""

# Some of what is private to users is shared by the files of this package.
# ruff: noqa: SLF001

import asyncio
from collections.abc import Callable, Hashable
from typing import Any, Protocol

from swarm.ports import Standing, current_activity, current_task


class Life(Protocol):
    """What coordination has to know of agents; the system tells it."""

    def running_turn(self) -> Hashable | None:
        """Return the turn whose own task is running this, or None."""
        ...

    def standing(self, turn: Hashable) -> Standing | None:
        """Return where a turn is suspended; None: it runs, or is no turn."""
        ...

    def is_leaving(self, turn: Hashable) -> bool:
        """Return whether a turn is to be cancelled, for its asker has left."""
        ...


class NoAgents:
    """A `Life` without agents: every session is a task."""

    def running_turn(self) -> None:
        """Return None."""

    def standing(self, turn: Hashable) -> None:
        """Return None."""

    def is_leaving(self, turn: Hashable) -> bool:  # noqa: ARG002
        """Return False."""
        return False


class Session:
    """One turn or task that holds a lease, has held one, or waits for one.

    Attributes:
        name: Its text in messages.
        party: What it is in the wait-for graph.
        task: The task it is; None for a turn, and for a callback.
        leases: What it holds (`Lease`), by id.
        bodies: The leases under which bodies run in it, if it is a turn or if another
            session holds them.
        is_turn: Whether it is a turn, whose askers wait for it.
        is_expected: Whether others may wait for it though it holds nothing.
    """

    __slots__ = (
        "__weakref__",
        "bodies",
        "is_expected",
        "is_turn",
        "leases",
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
        self.leases: dict[str, Any] = {}
        self.bodies: dict[Any, None] = {}
        self.is_turn: bool = party is not None
        self.is_expected: bool = False

    def is_nobody(self) -> bool:
        """Return whether this has no end: it keeps what an ended one has returned."""
        return self.task is None and not self.is_turn

    def is_running(self) -> bool:
        """Return whether its task waits for nothing."""
        return getattr(self.task, "_fut_waiter", None) is None and not self.is_turn

    def __str__(self) -> str:
        return self.name


class Sessions:
    """The sessions of one swarm.

    Attributes:
        expected: Those for which others may wait though they hold nothing.
        of_turns: The sessions of turns; the system ends them with `end_turn`.
        process: This process, if others share the tree: names of sessions say it.
    """

    __slots__ = (
        "_count",
        "_end",
        "_of_tasks",
        "_turn",
        "expected",
        "of_turns",
        "process",
    )

    def __init__(
        self,
        end: Callable[[Session, object], None],
        turn: Callable[[], Hashable | None],
    ) -> None:
        """Begin with none.

        Args:
            end: Called with each session that ended while it held something, and with
                what it returned.
            turn: Returns the turn whose own task is running, or None.
        """
        self._end = end
        self._turn = turn
        self._of_tasks: dict[asyncio.Task[Any], Session] = {}
        self.of_turns: dict[Hashable, Session] = {}
        self.expected: dict[Session, None] = {}
        self.process: str = ""
        self._count = 0

    def __len__(self) -> int:
        """Return how many there are."""
        return len(self._of_tasks) + len(self.of_turns)

    def current(self) -> Session:
        """Return the session of the code that is running."""
        if current_activity.get() is not None:
            turn = self._turn()
            if turn is not None:
                session = self.of_turns.get(turn)
                if session is None:
                    session = self.of_turns[turn] = Session(
                        self._named(str(turn)), turn
                    )
                return session
        task = current_task()
        if task is None:
            return Session("a callback")  # nothing tells when it ends
        return self._of_tasks.get(task) or self.of_task(task)

    def of_task(self, task: "asyncio.Task[Any]") -> Session:
        """Return the session of a task that runs no turn."""
        session = self._of_tasks.get(task)
        if session is None:
            session = self._of_tasks[task] = Session(
                self._named(_name(task)), task=task
            )
            task.add_done_callback(self._task_ended)
        return session

    def _named(self, name: str) -> str:
        """Return what a session is called: no other session of any process is."""
        if not self.process:
            return name
        self._count += 1
        return f"{name}, {self._count} in process {self.process}"

    def find(self, task: "asyncio.Task[Any]") -> Session | None:
        """Return the session of a task, if it has one already."""
        return self._of_tasks.get(task)

    def expect(self, session: Session) -> None:
        """Note that others may wait for a session."""
        if not session.is_turn and not session.is_nobody():
            session.is_expected = True
            self.expected[session] = None

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
            lease._abandon()
        if session.leases:
            self._end(session, None)


def _name(task: "asyncio.Task[Any]") -> str:
    return f"task '{task.get_name()}'"
