"""Asking the rules of tasks, and committing what they decide."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from swarm.model import AgentIdentity, Document, Path
from swarm.ports import (
    Kernel,
    LocalKernel,
    Pause,
    Ruling,
    Runtime,
    ShieldedOperation,
)
from swarm.work._handoff_record import handoff_path, scope_of
from swarm.work._handoff_rules import decide_with_handoff
from swarm.work._task_index import TaskIndex
from swarm.work._task_record import HandoffPending, task_path

R = TypeVar("R")

Start = Callable[[Coroutine[Any, Any, Any], str], "asyncio.Task[Any]"]
"""Runs a coroutine in a task of the given name, and owns it."""


class TaskCommitter:
    """Asks rules about single tasks. A task with a handoff changes together with it.

    Attributes:
        kernel: Where the records are.
        local: The kernel's direct form, or None: it is a round trip away.
        pause: The scheduling point of a simulation, or None.
        is_direct: Whether the kernel answers at once, without a scheduling point.
        runtime: What surrounds the swarm.
        index: What this process knows of the tasks.
        start: Runs a coroutine in an owned task.
    """

    def __init__(
        self, kernel: Kernel, runtime: Runtime, index: TaskIndex, start: Start
    ) -> None:
        """Ask the rules of the tasks in `kernel`."""
        self.kernel: Kernel = kernel
        self.local: LocalKernel | None = kernel.local
        self.runtime: Runtime = runtime
        self.pause: Pause | None = runtime.pause
        self.is_direct: bool = self.local is not None and self.pause is None
        self.index: TaskIndex = index
        self.start: Start = start
        self._operations: set[ShieldedOperation[Any]] = set()

    async def apply_one(
        self,
        author: AgentIdentity,
        path: Path,
        rule: Callable[[Document | None, int, R], Ruling],
        request: R,
    ) -> tuple[int, Any]:
        """Ask a rule about the task at a path and commit what it decides."""
        if self.local is not None:
            if self.pause is not None:
                await self.pause()
            return self.apply_now(author, path, rule, request)
        try:
            return await self.kernel.apply_one(author, path, rule, request)
        except HandoffPending as error:
            paths = map(handoff_path, error.handoffs)
            with scope_of([await self.kernel.find(path) for path in paths]):
                commit, outcome = await self.kernel.apply(
                    author, decide_with_handoff, path, rule, request
                )
        return 0 if commit is None else commit.revision, outcome

    def apply_now(
        self,
        author: AgentIdentity,
        path: Path,
        rule: Callable[[Document | None, int, R], Ruling],
        request: R,
    ) -> tuple[int, Any]:
        """Do what `apply_one` does, at once: the kernel must be local."""
        local = self.local
        assert local is not None  # callers have looked
        try:
            return local.apply_one_now(author, path, rule, request)
        except HandoffPending as error:
            with scope_of(map(local.find_now, map(handoff_path, error.handoffs))):
                commit, outcome = local.apply_now(
                    author, decide_with_handoff, path, rule, request
                )
        return 0 if commit is None else commit.revision, outcome

    def path_of(self, task_id: str) -> Path:
        """Return where a task's record stands."""
        known = self.index.records.get(task_id)
        return task_path(task_id) if known is None else known.spec.path

    def shielded(self, committing: Coroutine[Any, Any, R]) -> ShieldedOperation[R]:
        """Begin to commit to a distant kernel; no cancellation of a caller stops it."""
        loop = asyncio.get_running_loop()
        return ShieldedOperation(committing, loop, self._operations)

    async def to_its_end(self, committing: Coroutine[Any, Any, R]) -> R:
        """Return what a coroutine that commits returns; it is never cancelled.

        A caller that is cancelled meanwhile gets its cancellation after the commit.
        """
        if self.local is not None:
            return await committing
        return await self.shielded(committing).end()

    def cancel_commits(self) -> None:
        """Cancel what commits still: nothing waits for it any more."""
        for operation in tuple(self._operations):
            operation.cancel()
