"""The one way to wait (semantics.md, 2.0).

A waiter is an object for each call. The rules decide about it; the process that
commits a decision tells the waiter, and another process sees the commit in the log. Its
time-out is an alarm that asks the rule, and acts only on a waiter that still waits.
The waiting code has only its own cancellation to handle: in the queue, the request is
taken out, and those behind it are looked at again; already granted, the grant is
passed on.

Futures of asyncio are used directly: an event of anyio costs ten times as much.
"""

# Some of what is private to users is shared by the files of this package.

import asyncio
import math
from abc import abstractmethod
from collections.abc import Hashable, Iterable
from typing import Any

from swarm.coordination._core import Alarm, Core
from swarm.coordination._sessions import Session
from swarm.errors import DeadlockError
from swarm.model import Path


class Waiter:
    """One call that waits. An obstacle of the wait-for graph.

    Attributes:
        id: The id of its request.
        path: The record that it waits for.
        session: The session that waits.
        since: Since when, in monotonic seconds.
        is_decided: Whether it has its result or its error.
        has_left: Whether it was cancelled and withdraws; a grant is passed on.
        error: What it fails with once its time-out is through, or None.
    """

    _alarm: Alarm | None = None
    is_decided: bool = False
    has_left: bool = False
    error: Any = None

    def __init__(
        self,
        core: Core,
        id: str,  # noqa: A002
        path: Path,
        session: Session,
    ) -> None:
        """Wait for a record."""
        self._core = core
        self.id: str = id
        self.path: Path = path
        self.session: Session = session
        self.since: float = core.now()
        self._future: asyncio.Future[Any] = core.loop.create_future()
        core.waiters[id] = self

    # --- what it waits for says ---------------------------------------------------

    @abstractmethod
    def time_out(self) -> object:
        """Fail if the rule says that it still waits."""

    @abstractmethod
    def withdraw(self) -> object:
        """Take a request that gives up out of the record."""

    @abstractmethod
    def pass_on(self, result: Any) -> None:
        """Give back a result that came when the waiter was cancelled."""

    @abstractmethod
    def blockers(self) -> Iterable[Hashable]:
        """Return the parties that must move before it can; once decided, it can."""

    @abstractmethod
    def describe_wait(self) -> str:
        """Return what is waited for, since when, and which parties hold it up."""

    # --- one way to wait ----------------------------------------------------------

    @property
    def party(self) -> Hashable:
        """The party that waits, in the wait-for graph."""
        return self.session.party

    def is_over(self) -> bool:
        """Return whether it is decided, or was cancelled and has to hear of it."""
        return self.is_decided or self._future.done()

    def succeed(self, result: Any) -> bool:
        """Give it what it waits for; False: it was cancelled in this very loop turn.

        Then the caller has to `pass_on` the result.
        """
        self.is_decided = True
        self._core.graph.leave(self.session.party, self)
        if self._future.done():
            return False
        self._future.set_result(result)
        return True

    def fail(self, error: Exception) -> None:
        """End its wait in vain."""
        self.is_decided = True
        if not self._future.done():
            self._future.set_exception(error)

    def discard(self) -> None:
        """Forget it: it was not needed after all."""
        self.is_decided = True
        self._core.waiters.pop(self.id, None)
        if self._future.done() and not self._future.cancelled():
            self._future.exception()  # seen

    def abandon(self) -> None:
        """Give back what it waits for, or what it has got: its caller has gone."""
        if not self.is_decided:
            self.discard()
            self.withdraw()
        elif self._future.exception() is None:
            self.pass_on(self._future.result())

    def give_up(self, error: Exception) -> None:
        """End its wait in vain, if it still waits."""
        if not self.is_decided:
            self.withdraw()
            self.fail(error)

    def _ring(self) -> None:
        """Be too late, if the rule says so."""
        self.time_out()

    async def wait(
        self,
        timeout: float | None,
        error: type[DeadlockError] = DeadlockError,
    ) -> Any:
        """Wait until it is decided; see the top of this module.

        Args:
            timeout: Seconds, or None: for ever.
            error: What is raised when the wait would close a cycle.

        Raises:
            DeadlockError: a party that it would wait for waits for it.
            Exception: what it was failed with.
        """
        core, future, party = self._core, self._future, self.session.party
        graph = core.graph
        try:
            cycle = graph.find_cycle(party, self)
            if cycle:
                raise error(cycle=cycle)  # noqa: TRY301
            graph.note(party, self)
            if timeout is not None and timeout < math.inf:
                core.set_alarm(self, timeout)
            return await future
        except BaseException:
            if not self.is_decided:
                self.is_decided = self.has_left = True
                self.withdraw()
            elif (
                future.done() and not future.cancelled() and future.exception() is None
            ):
                self.pass_on(future.result())
            graph.leave(party, self)
            raise
        finally:
            core.waiters.pop(self.id, None)
            self._alarm = None
