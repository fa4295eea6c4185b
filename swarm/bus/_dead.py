"""`swarm.events.dead_letters`: the events that subscriptions gave up."""

from collections.abc import AsyncIterator, Callable
from typing import Protocol

import attrs

from swarm.bus._failures import Failures
from swarm.bus._letter import LETTERS, DeadLetter, letter_path, letters_path
from swarm.errors import AccessDenied, Closed, ConflictError, NotFound
from swarm.model import AgentIdentity, Document, Path
from swarm.ports import Expect, Kernel, View, Write


class Requeueing(Protocol):
    """A subscription that can take an event up again."""

    def requeue(self, letter: DeadLetter) -> None:
        """Try the event of a dead letter again, with all attempts before it."""
        ...


class DeadLetters:
    """The dead letters of a swarm, as one identity may see them.

    They are documents at `dead_letters.<subscription>.<event id>`: they outlive their
    subscription, and their number is bounded (`BusOptions.dead_letters`).
    """

    __slots__ = ("_failures", "_find", "_identity", "_kernel", "_may_read")

    def __init__(
        self,
        kernel: Kernel,
        failures: Failures,
        find: Callable[[str], Requeueing | None],
        identity: AgentIdentity,
        may_read: Callable[[Path], bool] | None,
    ) -> None:
        """Look at `kernel`'s; `find` returns the live subscription of a name."""
        self._kernel = kernel
        self._failures = failures
        self._find = find
        self._identity = identity
        self._may_read = may_read

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
        return [DeadLetter.of(d) for d in found if self._is_visible(d)]

    async def count(self, subscription: str | None = None) -> int:
        """Return how many there are, or are of one subscription."""
        return len(await self.list(subscription))

    async def get(self, letter_id: str) -> DeadLetter:
        """Return the one of this id.

        Raises:
            NotFound: There is none, or none any more.
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
            AccessDenied: It may not be read.
        """
        while True:
            letter, version = await self._load(letter_id)
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
            AccessDenied: It may not be read.
        """
        path = _path_of(letter_id)
        if path is None:
            return False
        self._check(path)
        await self._failures.flush()
        commit = await self._kernel.commit(self._identity, [Write(path)])
        return commit is not None

    async def _load(self, letter_id: str) -> tuple[DeadLetter, int]:
        path = _path_of(letter_id)
        if path is not None:
            self._check(path)
            await self._failures.flush()
            document = await self._kernel.find(path)
            if document is not None:
                return DeadLetter.of(document), document.version
        raise NotFound(f"there is no dead letter {letter_id!r}")

    def _is_visible(self, document: Document) -> bool:
        return self._may_read is None or self._may_read(document.path)

    def _check(self, path: Path) -> None:
        if self._may_read is not None and not self._may_read(path):
            raise AccessDenied(f"{self._identity} may not read {path}")


def _path_of(letter_id: str) -> Path | None:
    """Return where the dead letter of an id stands; None: that is no id."""
    if type(letter_id) is not str:
        raise TypeError(f"a dead letter's id is text, not {letter_id!r}")
    subscription, _, event_id = letter_id.rpartition(":")
    return letter_path(subscription, event_id) if subscription and event_id else None


def _below(view: View, folder: Path) -> "list[Document]":
    return list(view.documents(folder))
