"""`swarm.events.dead_letters`: the events that subscriptions gave up."""

from collections.abc import AsyncIterator, Callable
from typing import Literal, Protocol

import attrs

from swarm.bus._failures import Failures
from swarm.bus._host import BusHost
from swarm.bus._letter import LETTERS, DeadLetter, letter_path, letters_path
from swarm.bus._ownership import check_right, owner_of
from swarm.errors import AccessDenied, Closed, ConflictError, NotFound
from swarm.model import AgentIdentity, Document, Path
from swarm.ports import Expect, View, Write


class Requeueing(Protocol):
    """A subscription that can take an event up again."""

    def requeue(self, letter: DeadLetter) -> None:
        """Try the event of a dead letter again, with all attempts before it."""
        ...


class DeadLetters:
    """The dead letters of a swarm, as one identity may see them.

    They are documents at `dead_letters.<subscription>.<event id>`: they outlive their
    subscription, and their number is bounded (`BusOptions.dead_letters`). An agent
    sees those that it may read and those of its own subscriptions; it requeues and
    discards its own, and others where it may write.
    """

    __slots__ = ("_failures", "_find", "_host", "_identity", "_kernel", "_may_read")

    def __init__(
        self,
        host: BusHost,
        failures: Failures,
        find: Callable[[str], Requeueing | None],
        identity: AgentIdentity,
    ) -> None:
        """Look at the kernel's; `find` returns the live subscription of a name."""
        self._host = host
        self._kernel = host.kernel
        self._failures = failures
        self._find = find
        self._identity = identity
        self._may_read = host.reader_of(identity)

    @property
    def forgotten(self) -> int:
        """How many had to go because there were too many, as far as seen here."""
        return self._failures.forgotten

    async def list(self, subscription: str | None = None) -> list[DeadLetter]:
        """Return them, or those of one subscription, oldest first.

        Raises:
            Closed: The swarm is closed.
        """
        folder = LETTERS if subscription is None else letters_path(subscription)
        await self._failures.flush()
        found = await self._kernel.read(_below, folder)
        found.sort(key=lambda document: document.version)
        return [letter for d in found if self._may_see(letter := DeadLetter.of(d))]

    async def count(self, subscription: str | None = None) -> int:
        """Return how many there are, or are of one subscription."""
        return len(await self.list(subscription))

    async def get(self, letter_id: str) -> DeadLetter:
        """Return the one of this id.

        Raises:
            NotFound: There is none, or none any more.
            AccessDenied: It may not be read.
        """
        return (await self._load(letter_id))[0]

    async def __aiter__(self) -> AsyncIterator[DeadLetter]:
        """Yield them, oldest first."""
        for letter in await self.list():
            yield letter

    async def requeue(self, letter_id: str) -> None:
        """Have its subscription try the event again, with all attempts before it.

        The letter of a named subscription stays, marked, until the event is handled
        or given up again; when the subscription is not active, the next one of its
        name takes the event up. A letter of any other goes as the event is taken up.

        Raises:
            NotFound: There is no such dead letter any more, or its event cannot be
                read here (see `DeadLetter.event`).
            Closed: Its subscription had no name and is over; the dead letter stays.
            AccessDenied: It may not be read, or not be written.
        """
        while True:
            letter, version = await self._load(letter_id)
            self._check(letter, "write")
            letter.event  # noqa: B018  # refuse what cannot be read, before any effect
            subscription = self._find(letter.subscription)
            if subscription is None and not letter.is_durable:
                raise Closed(
                    f"subscription '{letter.subscription}' was cancelled and had no "
                    "name to come back under; the dead letter stays"
                )
            if letter.is_requeued:
                return
            marked = attrs.evolve(letter, is_requeued=True)
            write = Write(letter.path, record=marked if letter.is_durable else None)
            try:
                await self._kernel.commit(
                    self._identity, [write], conditions=[Expect(letter.path, version)]
                )
            except ConflictError:
                continue  # it was taken up, or given up again, meanwhile
            if subscription is not None:
                await self._hand_over(subscription, letter, marked)
            return

    async def _hand_over(
        self, subscription: Requeueing, letter: DeadLetter, marked: DeadLetter
    ) -> None:
        """Give an event to its subscription, which may have ended meanwhile."""
        try:
            subscription.requeue(marked)
        except Closed:
            if letter.is_durable:
                return  # the next one of its name takes it up
            write = Write(letter.path, record=letter)
            await self._kernel.commit(self._identity, [write])
            raise

    async def discard(self, letter_id: str) -> bool:
        """Forget a dead letter; return whether it was there.

        Raises:
            AccessDenied: It may not be read, or not be deleted.
        """
        while True:
            try:
                letter, version = await self._load(letter_id)
                self._check(letter, "delete")
                await self._kernel.commit(
                    self._identity,
                    [Write(letter.path)],
                    conditions=[Expect(letter.path, version)],
                )
            except NotFound:
                return False
            except ConflictError:
                continue  # it was marked, or given up again, meanwhile
            return True

    async def _load(self, letter_id: str) -> tuple[DeadLetter, int]:
        path = _path_of(letter_id)
        if path is not None:
            await self._failures.flush()
            document = await self._kernel.find(path)
            letter = None if document is None else DeadLetter.of(document)
            if not (self._may_read is None or self._may_read(path)) and (
                letter is None or not self._is_own(letter)
            ):  # nor is it said whether it is there
                raise AccessDenied(f"{self._identity} may not read {path}")
            if letter is not None and document is not None:
                return letter, document.version
        raise NotFound(f"there is no dead letter {letter_id!r}")

    def _may_see(self, letter: DeadLetter) -> bool:
        may_read = self._may_read
        return may_read is None or may_read(letter.path) or self._is_own(letter)

    def _is_own(self, letter: DeadLetter) -> bool:
        return letter.owner == owner_of(self._identity)

    def _check(self, letter: DeadLetter, action: Literal["write", "delete"]) -> None:
        check_right(self._host, self._identity, letter.path, action, letter.owner)


def _path_of(letter_id: str) -> Path | None:
    """Return where the dead letter of an id stands; None: that is no id."""
    if type(letter_id) is not str:
        raise TypeError(f"a dead letter's id is text, not {letter_id!r}")
    subscription, _, event_id = letter_id.rpartition(":")
    return letter_path(subscription, event_id) if subscription and event_id else None


def _below(view: View, folder: Path) -> "list[Document]":
    return list(view.documents(folder))
