"""Checkpoints as an agent saves and restores them."""

import builtins
from collections.abc import Callable, Mapping
from copy import deepcopy
from typing import Any, TypeVar

import attrs

from swarm.errors import StaleClaim
from swarm.model import JSON, Migrations, Path, check_text, check_whole, checksum, shown
from swarm.ports import Expect, View
from swarm.work import _checkpoint_rules as rules
from swarm.work._checkpoint_rules import Checkpoint
from swarm.work._claim import Claim
from swarm.work._steps import current_step
from swarm.work._submit_rules import HasTask, encoded, task_id_of
from swarm.work._task_handle import Caller

T = TypeVar("T")


class Checkpoints:
    """The checkpoints of an agent, and of the tasks it works on.

    `await self.checkpoints.save({"step": 3}, "after outline", task=claim)` appends one
    to the task's series; without `task`, to the agent's own series, which is found
    again by the agent's name after a restart. A series keeps its newest 20.

    A save for a task needs the live claim: a stale worker is never the latest. Inside
    a durable step it is committed with the step's result, or not at all; of steps that
    run at the same time, one may save.

    Reading the series of a task that does not exist raises `NotFound`.
    """

    __slots__ = ("_caller", "_migrations")

    def __init__(self, caller: Caller, migrations: Migrations | None = None) -> None:
        """Act for a caller."""
        self._caller = caller
        self._migrations = migrations

    def __repr__(self) -> str:
        return f"<Checkpoints of '{self._caller.identity.agent_id}'>"

    def versioned(
        self,
        version: int,
        migrations: Mapping[int, Callable[[Any], Any]] | None = None,
    ) -> "Checkpoints":
        """Return a handle for states of a schema version; it migrates older ones.

        Args:
            version: The version of the states that are saved, from 1.
            migrations: From each older version, a function to the next one's state;
                a state that was saved without a version has version 0.

        Raises:
            TypeError: The migrations are not a dict of functions by version.
            ValueError: A step between two versions is missing.
        """
        check_whole("a schema version", version, 1)
        return Checkpoints(self._caller, Migrations(version, migrations))

    async def save(
        self,
        state: JSON,
        description: str = "",
        *,
        task: Claim | None = None,
        parent: int | None = None,
        keep: int = rules.KEPT,
    ) -> Checkpoint:
        """Append a checkpoint and return it.

        Args:
            state: What to go on from: a JSON value.
            description: A sentence about it.
            task: The claim of the task it belongs to; None: the agent's own series.
            parent: The number that the newest checkpoint must have; 0: there must be
                none. So two writers find out about each other.
            keep: How many checkpoints the series keeps, the new one included.

        Raises:
            StaleClaim: The claim is not the live one; nothing was written.
            ConflictError: The newest checkpoint is not `parent`.
            InvalidValue: The state is not a JSON value.
            LimitExceeded: The state is too large.
        """
        check_text("a description", description)
        check_whole("keep", keep, 1)
        if parent is not None:
            check_whole("parent", parent, 0)
        _check_claim(task)
        scope = current_step.get()
        if scope is not None and scope.claim is not task:
            scope = None
        manager, me = self._caller.manager, self._caller.identity
        encoded(manager.codec, "the state of a checkpoint", state)
        versions = self._migrations
        new = Checkpoint(
            task=None if task is None else task.task_id,
            agent=me.agent_id,
            description=description,
            state=state,
            hash=checksum(state),
            schema_version=None if versions is None else versions.version,
            step="" if scope is None else scope.name,
        )
        kernel, request = manager.kernel, (self._series(task), new, parent, keep)
        if scope is not None:
            plan = await kernel.read(rules.append, *request)
            scope.writes = (*scope.writes, *plan.writes)
            scope.conditions = (*scope.conditions, Expect(plan.writes[0].path, 0))
            made: Checkpoint = plan.outcome
        else:
            conditions = () if task is None else tuple(task.conditions())
            try:
                _, made = await kernel.apply(
                    me, rules.append, *request, conditions=conditions
                )
            except StaleClaim as error:
                if task is not None:
                    task.lose(str(error))
                raise
        return attrs.evolve(made, state=deepcopy(made.state))

    async def latest(self, task: HasTask | str | None = None) -> Checkpoint | None:
        """Return the newest checkpoint, or None: there is none yet.

        Args:
            task: The task: its id, claim or handle; None: the agent's own series.

        Raises:
            NotFound: There is no such task.
            AccessDenied: The agent may not read the task's checkpoints.
        """
        return await self._read(rules.find, task)

    async def restore(
        self, seq: int | None = None, *, task: HasTask | str | None = None
    ) -> Any:
        """Return a copy of a checkpoint's state, checked and migrated.

        Args:
            seq: The number of the checkpoint; None: the newest whose hash fits.
            task: The task: its id, claim or handle; None: the agent's own series.

        Raises:
            NotFound: There is no such checkpoint, or no such task.
            StateCorruption: The hash does not fit the state.
            SchemaVersionError: No migration leads from its version to this one.
            AccessDenied: The agent may not read the task's checkpoints.
        """
        if seq is not None:
            check_whole("the number of a checkpoint", seq, 1)
        found = await self._read(rules.checkpoints, task)
        checkpoint = rules.restorable(found, self._series(task), seq)
        if self._migrations is None:
            return checkpoint.state
        what, stored = f"checkpoint {checkpoint.seq}", checkpoint.schema_version or 0
        return self._migrations.apply(what, stored, checkpoint.state)

    async def list(
        self, task: HasTask | str | None = None
    ) -> "builtins.list[Checkpoint]":
        """Return the checkpoints of a series, oldest first.

        Raises:
            NotFound: There is no such task.
            AccessDenied: The agent may not read the task's checkpoints.
        """
        return await self._read(rules.checkpoints, task)

    async def prune(self, keep: int = 10, *, task: Claim | None = None) -> int:
        """Remove all but the newest `keep` checkpoints; return how many went.

        The newest valid one stays, and so does one that a handoff in force refers to.

        Raises:
            StaleClaim: The claim is not the live one; nothing was removed.
        """
        check_whole("keep", keep, 1)
        _check_claim(task)
        conditions = () if task is None else tuple(task.conditions())
        task_id = None if task is None else task.task_id
        caller, series = self._caller, self._series(task)
        _, count = await caller.manager.kernel.apply(
            caller.identity, rules.prune, series, keep, task_id, conditions=conditions
        )
        return int(count)

    def _series(self, task: HasTask | str | None) -> Path:
        if task is None:
            return rules.agent_series(self._caller.identity.agent_id)
        return rules.task_series(task_id_of(task))

    async def _read(
        self, look: Callable[[View, Path], T], task: HasTask | str | None
    ) -> T:
        """Return what there is in a series: an agent's own, or one it may read."""
        series, caller = self._series(task), self._caller
        if task is not None:
            caller.check(series, "read")
        found = await caller.manager.kernel.read(look, series)
        if task is not None and not found:
            await caller.find(task_id_of(task))  # refuses a task that does not exist
        return found


def _check_claim(task: object) -> None:
    if task is not None and not isinstance(task, Claim):
        raise TypeError(
            f"a change of a task's checkpoints needs its claim, not {shown(task)}"
        )
