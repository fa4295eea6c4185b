"""Committing: decide on the replica, ask the server, decide again after a conflict."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from typing import Any, Final

from swarm.errors import Contention, OutcomeUnknown, StorageFailed
from swarm.model import MICRO, AgentIdentity, Commit
from swarm.ports import Clock, Entropy, Limits, current_activity, current_cause
from swarm.storage.redis._entries import pack_commit
from swarm.storage.redis._loading import newest_revision
from swarm.storage.redis._proposals import (
    Proposal,
    RecordingView,
    made_documents,
)
from swarm.storage.redis._replica import LogGap, Replica, number_commit
from swarm.storage.redis._script import (
    COMMIT,
    CONFLICT,
    DONE,
    KEPT,
    TAKEN,
    Keys,
    pack,
)
from swarm.storage.redis._wire import Wire

_LONGEST: Final = 10.0
"""Seconds of conflicts after which a commit fails."""

_LEAST: Final = 10
"""Attempts before that, however long each takes: a server may have been stopped."""

_TURN: Final = 3
"""Attempts after which a commit that met conflicts asks for the turn."""

_AHEAD: Final = 50_000
"""Microseconds by which a rule's time may be ahead of the server's: it would end the
leases of others early."""

_BEHIND: Final = 1_000_000
"""Microseconds by which a rule's time may be behind: commits wait for each other on
their way. What the rule looked at has not changed, so nothing is granted twice."""

_MISSED: Final = 64
"""Maximum number of log entries in a reply that this process has not read yet."""

_PAUSE: Final = 0.002
"""Seconds, at most, before a commit that has to wait for its turn is tried again."""

_LATEST: Final = KEPT // 2
"""Microseconds after which the server refuses an operation as too old."""

_MANY: Final = 32
"""Number of outcomes that this process lets the server forget at a time."""

_LOOK: Final = 256
"""Number of operations after which `Committer.on_many` is called."""

_OFTEN: Final = 60.0
"""Seconds after which the server is told to keep the outcomes for longer."""

_UNSEEN: Final = (
    "the commit was made, as revision {}, but this process cannot read the log, so it "
    "does not know the state that it led to ({})"
)

Decide = Callable[..., Proposal]
"""Decides on a view that notes what is looked at, and on further arguments."""


class Committer:
    """Makes the commits of one process.

    Attributes:
        count: How many commits were sent, those in vain too.
        on_divergence: Called when the server has lost commits that are here.
        on_many: Called now and then, when many commits were sent.
    """

    def __init__(
        self,
        wire: Wire,
        keys: Keys,
        replica: Replica,
        clock: Clock,
        entropy: Entropy,
        limits: Limits,
    ) -> None:
        """Commit through `wire` what rules decide on `replica`."""
        self.on_divergence: Callable[[], Awaitable[None]]
        self.on_many: Callable[[], object]
        self._wire = wire
        self._keys = keys
        self._replica = replica
        self._clock = clock
        self._entropy = entropy
        self._limits = limits
        self._script = ""
        self._origin = entropy.identifier("op-")
        self._origin_bytes = b""
        self._operations = ""
        # What one process decides again goes one after the other: many tasks that want
        # one lock would conflict with each other, each as often as there are others.
        self._retries = asyncio.Lock()
        self._acknowledged: list[int] = []
        self._kept_at = -_OFTEN
        self.count: int = 0

    async def open(self) -> None:
        """Teach the server the script, and learn its time."""
        script = await self._wire.send("SCRIPT", "LOAD", COMMIT)
        self._script = script.decode()
        sent = self._clock.monotonic()
        seconds, micros = await self._wire.send("TIME")
        server = int(seconds) * MICRO + int(micros)
        self._replica.saw_time(sent, self._clock.monotonic(), server)
        # Swarms of one seed draw the same ids; the server tells them apart.
        client = await self._wire.send("CLIENT", "ID")
        self._origin = f"{self._origin}-{server}-{client}"
        self._origin_bytes = self._origin.encode()
        self._operations = f"{self._keys.operations}{self._origin}"

    async def decide(
        self, author: AgentIdentity, decide: Decide, *arguments: Any
    ) -> tuple[Commit | None, Any]:
        """Call `decide(view, *arguments)` and commit, again after each conflict.

        Raises:
            Contention: It met conflicts for ten seconds, in ten attempts or more.
            OutcomeUnknown: The connection was lost for too long.
            Exception: What `decide` raised on the newest state.
        """
        found = await self._attempt(author, decide, arguments, 0)
        if found is not None:
            return found
        end = self._clock.monotonic() + _LONGEST
        async with self._retries:
            attempt = 1
            while self._clock.monotonic() < end or attempt < _LEAST:
                found = await self._attempt(author, decide, arguments, attempt)
                if found is not None:
                    return found
                attempt += 1
        raise Contention(f"a commit lost to other processes {attempt} times in a row")

    async def _attempt(
        self,
        author: AgentIdentity,
        decide: Decide,
        arguments: tuple[Any, ...],
        attempt: int,
    ) -> tuple[Commit | None, Any] | None:
        """Decide and commit once; return None after a conflict, once that is known."""
        replica = self._replica
        view = RecordingView(replica)
        try:
            proposal = decide(view, *arguments)
            made = made_documents(proposal, author, replica, self._limits)
        except Exception:
            if await self._is_newest(view.revision):
                raise
            return None
        events, announced = proposal.events, proposal.announced
        if not (made or events or announced or view.versions or view.folders):
            return None, proposal.outcome
        commit: Commit | None = None
        if made or events or announced:
            cause, key = None, proposal.key
            if current_activity.get() is not None:
                cause = current_cause()
            told = tuple(events)
            commit = Commit(0, 0, author, made, told, 0, cause, key, announced)
        # A reply that is alone on its way brings what was committed meanwhile. With
        # others on their way, each would bring the same.
        most = 0 if replica.sent and not attempt else _MISSED
        status, revision, before = await self.send(proposal, commit, attempt, most)
        if status == DONE:
            if commit is None:
                return None, proposal.outcome
            cause = commit.cause
            if cause is not None and not cause.root:
                cause.root = revision
            if before == replica.revision:
                replica.take(commit)
            else:
                try:
                    await replica.reach(revision)
                except StorageFailed as error:
                    raise OutcomeUnknown(_UNSEEN.format(revision, error)) from error
            return commit, proposal.outcome
        if status == CONFLICT:
            if revision <= view.revision:  # all that it has was looked at
                await self.on_divergence()
            await replica.reach(revision)
        elif status == TAKEN:
            await self._clock.sleep(self._entropy.jitter(0.0, _PAUSE))
        return None

    async def _is_newest(self, revision: int) -> bool:
        """Return whether nothing came after a revision; if so, have the replica get it.

        The replica may have got it already, while the server was asked.
        """
        newest = await newest_revision(self._wire.send, self._keys)
        if newest <= revision:
            return True
        await self._replica.reach(newest)
        return False

    async def send(
        self, proposal: Proposal, commit: Commit | None, attempt: int = 0, most: int = 0
    ) -> tuple[int, int, int]:
        """Ask the server to commit, and take what it has that is not here.

        Args:
            proposal: What the commit depends on.
            commit: What to write; None: only check. It gets the server's revision.
            attempt: How many attempts have met conflicts.
            most: How many log entries the reply may bring.

        Returns:
            The status, the newest revision, and the one before a commit.
        """
        view, replica, keys = proposal.view, self._replica, self._keys
        window = (0, proposal.at + _LATEST)
        if view.has_time:
            window = (proposal.at - _AHEAD, proposal.at + _BEHIND)
        self.count = number = self.count + 1
        if not number % _LOOK:
            self.on_many()
        sent = self._clock.monotonic()
        is_first = sent - self._kept_at >= _OFTEN
        acknowledged: Sequence[int] = ()
        if len(self._acknowledged) >= _MANY:
            acknowledged, self._acknowledged = self._acknowledged, []
        parts = pack(
            view.versions,
            view.folders,
            window,
            pack_commit(commit),
            acknowledged,
            origin=self._origin,
            number=number,
            floor=replica.revision,
            most=most,
            length=self._limits.held_commits,
            is_asking=attempt >= _TURN,
            is_first=is_first,
        )
        places = 4, keys.documents, keys.versions, keys.log, self._operations
        changes = commit is not None
        operation = b"%b-%d" % (self._origin_bytes, number)
        if commit is not None:
            replica.sent[operation] = commit
        send, server_before = self._wire.send, self._wire.server
        try:
            reply = await send(
                "EVALSHA", self._script, *places, *parts, changes=changes
            )
        except StorageFailed as error:
            if "NOSCRIPT" not in str(error):
                raise
            reply = await send("EVAL", COMMIT, *places, *parts, changes=changes)
        finally:
            replica.sent.pop(operation, None)
        server = int(reply[3])
        replica.saw_time(sent, self._clock.monotonic(), server)
        status, revision = int(reply[0]), int(reply[1])
        if len(reply) > 4 and reply[4]:
            news = replica.news
            with suppress(LogGap):  # the follower meets it, and loads the tree again
                replica.take_entries(reply[4])
            # After a conflict the next reply brings what is newer still.
            if replica.news > news and status != CONFLICT:
                replica.hurry()
        if status == DONE and commit is not None:
            if is_first:
                self._kept_at = sent
            self._acknowledged.append(number)
            number_commit(commit, revision)
            return status, revision, int(reply[2])
        self._acknowledged += acknowledged  # only a commit has the server forget them
        # Sent once only, it was refused, however far the server's clock has jumped.
        is_unsure = self._wire.server is not server_before
        if commit is not None and is_unsure and server - proposal.at > KEPT:
            raise OutcomeUnknown(
                "the server no longer knows whether a commit that was sent "
                f"{(server - proposal.at) // MICRO} seconds ago was made; read the "
                "state before you try again"
            )
        return status, revision, 0
