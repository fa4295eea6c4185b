"""The membership of this process: its document, and what the documents of others say.

A process is a document with a time to live, renewed every third of it. When the
document of another process expires, this one commits what follows. When its own has
expired, this process was taken for dead: everything that it held counts as lost before
it joins again, under another id.
"""

import asyncio
import logging
import os
import platform
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Final

from swarm.agents import REGISTRY, process_in
from swarm.errors import Closed, SwarmError
from swarm.model import MICRO, OWNER, TIME, Commit, Document
from swarm.ports import Clock, Kernel, Tail, View, current_runtime
from swarm.processes._process_record import (
    PROCESSES,
    ProcessRecord,
    describe_process,
    process_path,
    processes_in,
)
from swarm.processes._process_rules import (
    plan_cleanup,
    plan_join,
    plan_leave,
    plan_renewal,
)

RENEWALS: Final = 3
"""Number of renewals of a document within its time to live."""

log: Final = logging.getLogger("swarm.processes")


class Membership:
    """This process among those that share a tree.

    Attributes:
        record: The process as its document describes it.
        on_gone: Called with the id of a process that has gone, at once.
        clean_up: Awaited with a function that says of a process whether it has gone:
            what others have to do for the dead.
        on_lost: Called when this process was taken for dead, as soon as it knows.
        give_up: Awaited then: what it held is to leave the tree.
        on_joined: Awaited when it has joined again, as another process.
        on_renewed: Called after each renewal, to look for what the log did not tell
            because a part of it was lost.
    """

    def __init__(self, kernel: Kernel, tail: Tail, clock: Clock, ttl: float) -> None:
        """Be a member of nothing yet; a document lives for `ttl` seconds."""
        self._kernel = kernel
        self._tail = tail
        self._clock = clock
        self._ttl = ttl
        is_simulated = current_runtime().pause is not None
        self.record: ProcessRecord = ProcessRecord(
            "",
            "simulated" if is_simulated else platform.node(),
            0 if is_simulated else os.getpid(),
            clock.wall(),
        )
        self.on_gone: list[Callable[[str], object]] = []
        self.clean_up: Callable[[Callable[[str], bool]], Awaitable[object]] = _nothing
        self.on_lost: list[Callable[[], object]] = []
        self.give_up: Callable[[str], Awaitable[object]] = _nothing
        self.on_joined: Callable[[], Awaitable[object]] = _nothing
        self.on_renewed: list[Callable[[], object]] = [self._look]
        self._seen: set[str] = set()
        self._uncleaned: set[str] = set()
        self._start: Callable[[Coroutine[Any, Any, Any], str], object] | None = None
        self._ignore: Callable[[], None] | None = None
        self._is_lost = False
        self._waking: asyncio.Future[None] | None = None
        self._has_left = False

    @property
    def id(self) -> str:
        """The id of this process; another one once it was taken for dead."""
        return self.record.id

    def is_alive(self, process: str) -> bool:
        """Return whether a process has a document, as far as is known here."""
        return self._tail.find_now(process_path(process)) is not None

    def describe(self, process: str) -> str:
        """Return a process as text: its id, number and machine."""
        return describe_process(self._tail.find_now(process_path(process)), process)

    def processes(self) -> list[str]:
        """Return the ids of the processes that are alive, as far as is known here."""
        return self._tail.read_now(lambda view: list(processes_in(view)))

    # --- joining and leaving ----------------------------------------------------------

    async def join(self) -> None:
        """Write the document of this process; then its id is known."""
        life = int(self._ttl * MICRO)
        _, self.record = await self._kernel.apply(TIME, plan_join, self.record, life)

    def begin(
        self, start: Callable[[Coroutine[Any, Any, Any], str], object]
    ) -> Coroutine[Any, Any, None]:
        """Clean up after dead processes from now on; return what renews the document.

        Args:
            start: Runs a coroutine in a task of the swarm.
        """
        self._start = start
        self._ignore = self._tail.listen(
            self._heard, documents=True, folders={PROCESSES.segments[0]}
        )
        start(self._clean_up_earlier(), "processes that died before")
        return self._live()

    async def leave(self) -> None:
        """Take this process and its agents out of the tree; idempotent.

        What it cannot say ends with its document.
        """
        if self._has_left:
            return
        self._has_left = True
        if self._ignore is not None:
            self._ignore()
        try:
            while (await self._kernel.apply(OWNER, plan_leave, self.id))[1]:
                pass
        except SwarmError as error:
            log.warning(
                "process %s has left; its document stays until it expires: %s",
                self.id,
                error,
            )

    # --- staying ----------------------------------------------------------------------

    async def _live(self) -> None:
        """Renew the document until the end of the swarm."""
        while True:
            await self._pass_time(self._ttl / RENEWALS)
            if self._has_left:
                return
            try:
                if not self._is_lost and not await self._renew():
                    self._lose()
                if self._is_lost:
                    await self._join_again()
                for told in self.on_renewed:
                    told()
            except Closed:
                return
            except SwarmError as error:
                log.warning("process %s cannot be renewed: %s", self.id, error)

    async def _renew(self) -> bool:
        life = int(self._ttl * MICRO)
        _, is_alive = await self._kernel.apply(TIME, plan_renewal, self.record, life)
        return bool(is_alive)

    def _look(self) -> None:
        """Find the processes that have gone unheard, or were not cleaned up after."""
        uncleaned, self._uncleaned = self._uncleaned, set()
        for process in uncleaned:
            self._begin_cleaning(process)
        alive = set(self.processes())
        gone, self._seen = self._seen - alive, alive
        for process in gone - {self.id}:
            self._has_gone(process, is_dead=True)

    def _lose(self) -> None:
        """Count everything that this process held as lost."""
        if self._is_lost:
            return
        self._is_lost = True
        log.warning(
            "process %s was not heard of for %s s and was taken for dead; what it "
            "held is lost",
            self.id,
            self._ttl,
        )
        for told in self.on_lost:
            told()

    async def _join_again(self) -> None:
        """Give everything up, and be a new process."""
        old = self.id
        await self.give_up(old)
        while (await self._kernel.apply(TIME, plan_cleanup, old))[1]:
            pass
        await self.join()
        self._is_lost = False
        await self.on_joined()

    async def _pass_time(self, seconds: float) -> None:
        """Wait, or until this process is known to be taken for dead."""
        waking = asyncio.get_running_loop().create_future()
        timer = self._clock.call_at(
            self._clock.monotonic() + seconds,
            self._wake,
        )
        self._waking = waking
        try:
            await waking
        finally:
            timer.cancel()

    def _wake(self) -> None:
        if self._waking is not None and not self._waking.done():
            self._waking.set_result(None)

    # --- what the documents of others say ---------------------------------------------

    def _heard(self, commit: Commit) -> None:
        for document in commit.documents:
            segments = document.path.segments
            if document.is_deleted and segments[:2] == PROCESSES.segments:
                self._ended(document, is_dead=commit.author == TIME)

    def _ended(self, document: Document, *, is_dead: bool) -> None:
        process = str(document.path.name)
        if process == self.id:
            self._lose()
            self._wake()
            return
        self._has_gone(process, is_dead=is_dead)

    def _has_gone(self, process: str, *, is_dead: bool) -> None:
        self._seen.discard(process)
        for told in self.on_gone:
            told(process)
        if is_dead:
            self._begin_cleaning(process)

    def _begin_cleaning(self, process: str) -> None:
        if self._start is not None:
            self._start(self._clean_up(process), f"process {process} died")

    async def _clean_up(self, process: str) -> None:
        """Commit what follows from the death of a process; others may be quicker."""
        try:
            while (await self._kernel.apply(TIME, plan_cleanup, process))[1]:
                pass
            await self.clean_up(lambda other: other == process)
        except SwarmError as error:
            log.warning("cleaning up after process %s failed: %s", process, error)
            self._uncleaned.add(process)

    async def _clean_up_earlier(self) -> None:
        """Do the same for processes that died while no other was there."""
        for process in self._tail.read_now(_dead_owners):
            await self._clean_up(process)
        try:
            await self.clean_up(lambda process: not self.is_alive(process))
        except SwarmError as error:
            log.warning("cleaning up after dead processes failed: %s", error)


async def _nothing(*_: object) -> None:
    """Do nothing."""


def _dead_owners(view: View) -> list[str]:
    """Return the dead processes that agents in the registry belong to."""
    owners = {process_in(document) for document in view.documents(REGISTRY)}
    return sorted(owners.difference(processes_in(view), ("",)))
