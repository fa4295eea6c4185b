"""The code that runs under a claim: it is cancelled when the claim is lost."""

import asyncio
from typing import Any

from swarm.ports import current_task


class ClaimBody:
    """The task whose code runs under a claim.

    Attributes:
        is_lent: Whether the task only waits for that code. A block that the code enters
            takes its place.
    """

    __slots__ = ("_cancelling", "_claim", "_is_struck", "_task", "is_lent")

    def __init__(self, claim: object, task: "asyncio.Task[Any] | None" = None) -> None:
        """Begin in the running task, or in one that is lent.

        Args:
            claim: The claim, which a cancellation names.
            task: The task that is lent.
        """
        self.is_lent: bool = task is not None
        task = current_task() if task is None else task
        assert task is not None  # this is called in a coroutine
        self._task: asyncio.Task[Any] | None = task
        self._claim = claim
        self._cancelling = task.cancelling()
        self._is_struck = False

    def cancel_soon(self) -> None:
        """Cancel the body in the next turn of the loop, unless it has been left.

        Not at once: its task may be the one that made the commit which ended the claim.
        Cancelled while it runs, it could not take that back.
        """
        asyncio.get_running_loop().call_soon(self._cancel)

    def _cancel(self) -> None:
        if self._task is not None and not self._is_struck:
            self._is_struck = True
            self._task.cancel(repr(self._claim))

    def leave(self, error: BaseException | None) -> bool:
        """End; return whether the error is the cancellation that came from here."""
        task, self._task = self._task, None
        if task is None or not self._is_struck:
            return False
        is_last = task.uncancel() <= self._cancelling
        return is_last and isinstance(error, asyncio.CancelledError)
