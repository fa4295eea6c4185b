"""Following the log: the replica has what the server has, or is loaded again.

The replica is loaded again in two cases. This process was stopped or cut off for so
long that the log has let go of commits it had not read. Or the server has lost commits
that are here: another server took over, or it lost its data in a crash.
"""

import asyncio
import logging
from contextlib import suppress
from typing import Final

from swarm.errors import Closed, StorageFailed, SwarmError
from swarm.model import MICRO, OWNER, Commit, SystemAlert
from swarm.ports import Clock, Limits, Timer
from swarm.storage.redis._committer import Committer
from swarm.storage.redis._entries import BEFORE
from swarm.storage.redis._loading import (
    check_format,
    entry_revision,
    load,
    newest_revision,
)
from swarm.storage.redis._proposals import Proposal, RecordingView
from swarm.storage.redis._reading_pace import ReadingPace
from swarm.storage.redis._replica import LogGap, Replica
from swarm.storage.redis._script import Keys
from swarm.storage.redis._server import ServerInfo
from swarm.storage.redis._wire import Wire

_BLOCK_MS: Final = 5_000
_PAGE: Final = 1_000
_AGAIN: Final = 0.2
"""Seconds before the log is asked for again, after the server refused."""

log: Final = logging.getLogger("swarm")


class LogFollower:
    """Keeps the replica up to the log of the server.

    Attributes:
        first_view: The oldest revision whose tree is known here.
        suspect: Set while another server answers than before, until it is known
            whether that server has everything.
    """

    def __init__(
        self,
        wire: Wire,
        reading: Wire,
        keys: Keys,
        replica: Replica,
        committer: Committer,
        clock: Clock,
        limits: Limits,
    ) -> None:
        """Follow through `reading`, and ask through `wire`."""
        self.first_view: int = 0
        self.suspect: asyncio.Task[None] | None = None
        self._wire = wire
        self._reading = reading
        self._keys = keys
        self._replica = replica
        self._committer = committer
        self._clock = clock
        self._limits = limits
        self._lock = asyncio.Lock()
        self._loop = asyncio.get_running_loop()
        self._task: asyncio.Task[None] | None = None
        self._resting: asyncio.Future[None] | None = None
        self._rests_until = 0.0
        self._alarm: Timer
        self._pace = ReadingPace()
        replica.on_wait = self._read_soon
        wire.on_reconnect = self._reconnected
        committer.on_divergence = self.recover

    async def open(self) -> None:
        """Load the tree, and follow the log from there.

        Raises:
            SchemaVersionError: A later version of swarm writes the tree.
        """
        await check_format(self._wire.send, self._keys)
        loaded = await load(self._wire.send, self._keys, self._limits)
        self._replica.restore_now(
            loaded.documents.values(),
            (),
            loaded.commits,
            compacted=loaded.compacted,
            needed=loaded.needed,
        )
        self._replica.resume_at(loaded.revision)
        self.first_view = loaded.known_from()
        self._task = self._loop.create_task(self._follow(), name="redis log")

    async def close(self) -> None:
        """Follow no more."""
        for task in (self._task, self.suspect):
            if task is not None:
                task.cancel()
                with suppress(asyncio.CancelledError):
                    await task

    async def fresh(self) -> None:
        """Wait until the replica has everything committed before this call."""
        while True:
            await self.settled()
            newest = await newest_revision(self._wire.send, self._keys)
            if self.suspect is None:
                await self._replica.reach(newest)
                return

    async def settled(self) -> None:
        """Wait until it is known whether a new server has everything."""
        while self.suspect is not None:
            await asyncio.wait((self.suspect,))

    # --- the log ----------------------------------------------------------------------

    async def _follow(self) -> None:
        """Apply each entry of the log to the replica, in order, until the end."""
        try:
            while True:
                try:
                    await self._read_on()
                except StorageFailed as error:
                    log.warning("the log cannot be read: %s", error)
                    self._replica.fail_waiting(error)
                    await self._clock.sleep(_AGAIN)
        except Exception as error:  # noqa: BLE001  # raised in every task that waits
            log.critical("the log cannot be followed any more: %s", error)
            self._replica.fail(error)
        except asyncio.CancelledError:
            self._replica.fail(Closed("the log is not followed any more"))
            raise

    async def _read_on(self) -> None:
        replica = self._replica
        last = f"{replica.revision}-0"
        found = await self._reading.send(
            *("XREAD", "COUNT", _PAGE, "BLOCK", _BLOCK_MS),
            *("STREAMS", self._keys.log, last),
        )
        entries = found[0][1] if found else ()
        lag = replica.now() - entry_revision(entries[0][0]) if entries else 0
        try:
            replica.take_entries(entries)
        except LogGap as gap:
            await (self.recover() if gap.is_lost else self._reload(str(gap)))
            return
        seconds = self._pace.rest(
            is_empty=not found,
            news=replica.news,
            sent=self._committer.count,
            lag=lag / MICRO,
            longest=replica.longest_rest(),
        )
        if seconds and not replica.is_awaited:
            await self._rest(seconds)

    async def _rest(self, seconds: float) -> None:
        """Wait before the log is read on, but for `Replica.on_wait`.

        Commits of this process are in the replica from their replies, which also bring
        what other processes have committed in between; then reading goes on.
        """
        self._resting = self._loop.create_future()
        self._set_alarm(seconds)
        try:
            await self._resting
        finally:
            self._alarm.cancel()

    def _set_alarm(self, seconds: float) -> None:
        self._rests_until = self._clock.monotonic() + seconds
        self._alarm = self._clock.call_at(self._rests_until, self._read_soon)

    def _read_soon(self, seconds: float = 0.0) -> None:
        """Rest for so long at most from now on."""
        resting = self._resting
        if resting is None or resting.done():
            return
        if not seconds:
            resting.set_result(None)
        elif self._clock.monotonic() + seconds < self._rests_until:
            self._alarm.cancel()
            self._set_alarm(seconds)

    async def _reload(self, why: str) -> None:
        """Load the tree again, unless the replica has caught up meanwhile."""
        async with self._lock:
            await self._load_again(why)

    async def _load_again(self, why: str) -> None:
        replica = self._replica
        before = replica.revision
        loaded = await load(self._wire.send, self._keys, self._limits)
        if replica.revision != before or loaded.revision <= before:
            return
        log.error(
            "this process has missed commits (%s, and %d was the newest here); "
            "the tree was loaded again",
            why,
            before,
        )
        replica.reload(loaded)
        self.first_view = loaded.known_from()

    # --- another server ---------------------------------------------------------------

    def _reconnected(self, old: ServerInfo, new: ServerInfo) -> None:
        if old.run_id != new.run_id and self.suspect is None:
            self.suspect = self._loop.create_task(self._settle(), name="redis server")

    async def _settle(self) -> None:
        """Find out whether a new server has everything, however often it fails."""
        try:
            while True:
                try:
                    await self.recover()
                except SwarmError as error:
                    log.warning("the new server cannot be checked yet: %s", error)
                    await self._clock.sleep(_AGAIN)
                else:
                    return
        finally:
            self.suspect = None

    async def recover(self) -> None:
        """Load the tree again if the server has lost commits that are here.

        A commit tells of it first. Its revision is higher than all that this process
        has seen, so no version or token is given out twice.
        """
        async with self._lock:
            last = self._replica.revision
            if await self._has(last):
                return
            message = f"the server has lost commits up to revision {last}"
            log.critical("%s; what they wrote is undone here", message)
            alert = SystemAlert("critical", "commits-lost", message, self._keys.log)
            proposal = Proposal(RecordingView(self._replica), self._replica.now())
            await self._committer.send(proposal, Commit(0, 0, OWNER, (), (alert,)))
            await self._load_again(message)

    async def _has(self, revision: int) -> bool:
        """Return whether the server has a commit, as far as it tells."""
        newest = await newest_revision(self._wire.send, self._keys)
        if newest <= revision:
            return newest == revision
        key, number = self._keys.log, f"{revision}-0"
        if not revision or await self._wire.send("XRANGE", key, number, number):
            return True
        oldest = await self._wire.send("XRANGE", key, "-", "+", "COUNT", 1)
        # If the log has only let go of it, what is left goes on after it, or later.
        return bool(oldest) and int(oldest[0][1][BEFORE]) >= revision
