"""The dead letters of a swarm, which users list, requeue and discard."""

from collections.abc import AsyncIterator, Callable
from typing import Any, Literal

import attrs

from swarm.bus._contracts import BusHost, check_right, owner_of
from swarm.bus._dead_letter import (
    LETTERS,
    DeadLetter,
    letters_path,
    oldest_first,
    path_of,
)
from swarm.bus._failures import FailureSink
from swarm.errors import AccessDenied, Closed, ConflictError, NotFound
from swarm.model import AgentIdentity
from swarm.ports import Expect, Write


class DeadLetters:
    """The dead letters of a swarm, as one identity may see them.

    They are documents at `dead_letters.<subscription>.<event id>`: they outlive their
    subscription, and their number is bounded (`BusOptions.dead_letters`). An agent
    sees those that it may read and those of its own type; it requeues and discards its
    own, and others where it may write.
    """

    __slots__ = ("_failures", "_find", "_host", "_identity", "_kernel", "_may_read")

    def __init__(
        self,
        host: BusHost,
        failures: FailureSink,
        find: Callable[[str], Any],
        identity: AgentIdentity,
    ) -> None:
        self._host = host
        self._kernel = host.kernel
        self._failures = failures
        self._find = find
        self._identity = identity
        self._may_read = host.reader_of(identity)

    def __repr__(self) -> str:
        return f"<DeadLetters: {self._failures.written} so far>"

    @property
    def forgotten(self) -> int:
        """The number of dead letters that this process has pruned for their limit."""
        return self._failures.forgotten

    async def list(self, subscription: str | None = None) -> list[DeadLetter]:
        """Return all of them, or those of one subscription, oldest first.

        Raises:
            Closed: The swarm is closed.
        """
        folder = LETTERS if subscription is None else letters_path(subscription)
        await self._failures.flush()
        found = await self._kernel.read(oldest_first, folder)
        return [letter for d in found if self._may_see(letter := DeadLetter.of(d))]

    async def count(self, subscription: str | None = None) -> int:
        """Return how many there are, or are of one subscription."""
        return len(await self.list(subscription))

    async def get(self, letter_id: str) -> DeadLetter:
        """Return the dead letter of an id.

        Raises:
            NotFound: It does not exist, or not any more.
            AccessDenied: The policy does not let this identity read it.
        """
        return (await self._load(letter_id))[0]

    async def __aiter__(self) -> AsyncIterator[DeadLetter]:
        """Yield them, oldest first."""
        for letter in await self.list():
            yield letter

    async def requeue(self, letter_id: str) -> None:
        """Have the subscription try the event again, with all attempts before it.

        The letter of a named subscription stays, marked, until the event is handled or
        given up again. While the subscription is not active, the letter waits for the
        next one of its name. Other letters end when the event is taken in.

        Raises:
            NotFound: The letter does not exist any more, or its event cannot be read
                here (see `DeadLetter.event`).
            Closed: The subscription had no name and is cancelled; the letter stays.
            AccessDenied: The policy does not let this identity read or write it.
        """
        while True:
            letter, version = await self._load(letter_id)
            self._check(letter, "write")
            letter.event  # noqa: B018  # an unreadable event is refused here
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
                continue  # it was taken in, or given up again, meanwhile
            if subscription is not None:
                await self._hand_over(subscription, letter, marked)
            return

    async def _hand_over(
        self, subscription: Any, letter: DeadLetter, marked: DeadLetter
    ) -> None:
        """Give a letter to its subscription; write it again if that has ended."""
        try:
            subscription.requeue(marked)
        except Closed:
            if letter.is_durable:
                return  # the next subscription of the name takes it up
            write = Write(letter.path, record=letter)
            await self._kernel.commit(self._identity, [write])
            raise

    async def discard(self, letter_id: str) -> bool:
        """Delete a dead letter; return whether it existed.

        Raises:
            AccessDenied: The policy does not let this identity read or delete it.
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
        path = path_of(letter_id)
        if path is not None:
            await self._failures.flush()
            document = await self._kernel.find(path)
            letter = None if document is None else DeadLetter.of(document)
            if not (self._may_read is None or self._may_read(path)) and (
                letter is None or not self._is_own(letter)
            ):  # the error does not tell whether the letter exists
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
