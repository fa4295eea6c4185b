"""Submitting tasks: one, one for each of many inputs, or one at each time."""

import datetime
import inspect
from collections.abc import Awaitable, Callable, Iterable, Mapping
from functools import partial
from typing import Any, Final, Literal

import attrs

from swarm.errors import GatherError
from swarm.model import (
    JSON,
    AgentIdentity,
    Backoff,
    Displayable,
    Path,
    Priority,
    canonical,
    check_seconds,
    check_text,
)
from swarm.ports import SubmitCall
from swarm.work._caller import Caller, Rights
from swarm.work._claim import Claim
from swarm.work._gather import Fan, Gathered, as_list, needed
from swarm.work._schedule_rules import (
    TaskSchedule,
    check_cron,
    plan_schedule,
    plan_unschedule,
    schedule_path,
)
from swarm.work._steps import fingerprint
from swarm.work._submit_rules import (
    Submission,
    decide_submit,
    decide_submit_once,
)
from swarm.work._submitting import (
    checked_deadline,
    checked_delay,
    id_of,
    specify,
)
from swarm.work._task_handle import Task
from swarm.work._task_manager import TaskManager
from swarm.work._task_record import MICRO


class TaskSubmitter(Displayable):
    """What an identity submits.

    Attributes:
        manager: The tasks of this process.
        identity: The identity that acts.
    """

    __slots__ = ("_caller", "identity", "manager")

    def __init__(
        self, manager: TaskManager, identity: AgentIdentity, rights: Rights | None
    ) -> None:
        """Act as `identity`; without rights, everything is allowed."""
        self.manager: TaskManager = manager
        self.identity: AgentIdentity = identity
        self._caller = Caller(manager, identity, rights)

    async def submit(
        self,
        kind: str,
        payload: JSON = None,
        *,
        key: str | None = None,
        once: bool = False,
        priority: Priority | int = Priority.NORMAL,
        delay: float = 0,
        deadline: datetime.datetime | float | None = None,
        timeout: float | None = 300,
        max_retries: int = 3,
        backoff: Backoff | None = None,
        parent: "Task | Claim | str | None" = None,
        to: str | None = None,
        capability: str | None = None,
        role: str | None = None,
        escalate_to: str | None = None,
        schema_version: str = "1.0.0",
        metadata: Mapping[str, JSON] | None = None,
    ) -> Task:
        """Submit a task and return a handle on it.

        Args:
            kind: What kind of work it is: dotted words, such as "research.topic".
            payload: What is to be worked on: a JSON value. Store large artefacts
                elsewhere, and pass a reference.
            key: A unique key. While a task that is not final has it, that task is
                returned, and nothing is submitted.
            once: Whether the key stays taken after the task's end, as long as its
                record is kept.
            priority: How urgent it is; higher goes first.
            delay: Seconds before which it may not be claimed.
            deadline: When it fails unless it is complete: an aware datetime, or
                seconds from now.
            timeout: Seconds that one attempt may take; None: as long as it lives.
            max_retries: How many attempts may fail and be followed by another one.
            backoff: The pauses between them: a `Backoff`, by default from 0.1 s,
                twice as long each time, to 60 s.
            parent: The task that it is a part of, which must not be over. A parent
                that is cancelled takes its parts along.
            to: The name of the agent that it is for.
            capability: A capability that its worker must have.
            role: The role that its worker must have.
            escalate_to: What follows when it has failed for good: None (its status is
                failed), "manual" (a person resolves or retries it), or
                "agent:NAME", "capability:NAME" or "role:NAME" (those try it next).
            schema_version: The version of the form of its payload.
            metadata: More about it: a dict of JSON values.

        Raises:
            InvalidValue: The payload or the metadata is not JSON.
            LimitExceeded: The payload is too large for a document.
            InvalidPath: The kind is not dotted words, or the key cannot be a name.
            InvalidTransition: The parent is over.
            NotFound: There is no such parent.
            TypeError: An argument is not of its type.
            ValueError: An argument means nothing.
        """
        manager = self.manager
        if manager.closed is not None:
            raise manager.closed
        interceptors = manager.interceptors
        if interceptors is not None and not isinstance(self, PassedTasks):
            around = interceptors.submit
            if around is not None:
                given = {
                    "key": key,
                    "once": once,
                    "priority": priority,
                    "delay": delay,
                    "deadline": deadline,
                    "timeout": timeout,
                    "max_retries": max_retries,
                    "backoff": backoff,
                    "parent": parent,
                    "to": to,
                    "capability": capability,
                    "role": role,
                    "escalate_to": escalate_to,
                    "schema_version": schema_version,
                }
                submitted = SubmitCall(
                    submitter=self.identity,
                    kind=kind,
                    payload=payload,
                    metadata=metadata,
                    options={k: v for k, v in given.items() if v != _DEFAULTS[k]},
                )
                submit = PassedTasks(self).submit
                task: Task = await around(submitted, partial(_submit_on, submit))
                return task
        task_id = manager.new_id("task")
        path = Path(("global", "tasks", task_id), f"global.tasks.{task_id}")
        spec = specify(
            manager.codec,
            self.identity,
            task_id,
            kind,
            payload,
            key,
            None if parent is None else id_of(parent),
            path,
            priority,
            timeout,
            max_retries,
            backoff,
            to,
            capability,
            role,
            escalate_to,
            schema_version,
            metadata,
        )
        submission = Submission(spec)
        if delay != 0 or deadline is not None:
            times = (None, None) if deadline is None else checked_deadline(deadline)
            submission = Submission(spec, checked_delay(delay), *times)
        local = manager.local
        if key is None and parent is None and local is not None:
            if manager.pause is not None:
                await manager.pause()
            outcome = local.apply_one_now(
                self.identity, path, decide_submit, submission
            )[1]
            if outcome is not None:
                return Task(self._caller, task_id, kind)
        found = await self._commit(submission, once)
        while found is None:  # another process, of the same seed, was there before
            task_id = manager.new_id("task")
            spec = attrs.evolve(spec, id=task_id, path=None)
            found = await self._commit(submission._replace(spec=spec), once)
        return Task(self._caller, *found)

    async def _commit(
        self, submission: Submission, once: bool
    ) -> tuple[str, str] | None:
        """Commit a task; return the id and kind of it, or of the one with its key.

        None: its id is taken.
        """
        manager, spec = self.manager, submission.spec
        if spec.key is not None or spec.parent is not None:
            _, found = await manager.kernel.apply(
                self.identity, decide_submit_once, submission, once
            )
            task: tuple[str, str] | None = found
            return task
        _, outcome = await manager.kernel.apply_one(
            self.identity, spec.path, decide_submit, submission
        )
        return None if outcome is None else (spec.id, spec.kind)

    async def gather(
        self,
        kind: str,
        inputs: Iterable[JSON],
        *,
        need: Literal["all", "first"] | int = "all",
        key: str | None = None,
        parent: "Task | Claim | str | None" = None,
        **options: Any,
    ) -> Gathered:
        """Submit a task for each input, and return their results in order.

        With a key or a parent, each task has a key of its own that stays taken: who
        gathers again after a crash waits for the tasks that are there already.
        Cancelling the wait leaves the tasks alone.

        Args:
            kind: The kind of the tasks.
            inputs: Their payloads.
            need: How many results: "all", "first" or a number. What is not needed any
                more is cancelled. When all are, a failure ends no other task.
            key: What the keys of the tasks begin with.
            parent: The task that they are parts of.
            **options: The other options of `submit`, for each task.

        Returns:
            A list of the results, with `indexes` and `errors`.

        Raises:
            GatherError: There are too few results; it has those that there are.
            ValueError: The need is not a number of inputs.
            Exception: What `submit` raises.
        """
        payloads = as_list(inputs)
        count = needed(need, len(payloads))
        if key is None and parent is not None:
            key = f"{id_of(parent)}/{kind}"
        tasks = []
        for index, payload in enumerate(payloads):
            own = None
            if key is not None:
                self.manager.codec.encode(payload)  # says what is wrong with it
                own = f"{key}/{index}/{fingerprint(canonical(payload))[:12]}"
            tasks.append(
                await self.submit(
                    kind, payload, key=own, once=True, parent=parent, **options
                )
            )
        fan = Fan(self.manager, tasks, count)
        try:
            gathered = await fan.wait()
        except GatherError:
            if count < len(tasks):
                await fan.cancel_rest()
            raise
        if count < len(tasks):
            await fan.cancel_rest()
        return gathered

    async def schedule(
        self,
        name: str,
        kind: str,
        payload: JSON = None,
        *,
        cron: str | None = None,
        every: float | None = None,
        zone: str = "UTC",
        **options: Any,
    ) -> TaskSchedule:
        """Submit a task again and again, once for each time.

        A schedule is kept in the tree, for all processes. Declared again on the same
        terms, it goes on; on others, it begins anew. When no process was there at some
        times, only the last of them gets a task; `missed` counts the others. A task is
        submitted also while the one before it still runs. A task's metadata say its
        `schedule` and `due`.

        Args:
            name: The schedule's name.
            kind: The kind of the tasks.
            payload: Their payload.
            cron: When, as a cron expression: "0 7 * * *".
            every: Or the seconds between two tasks; the first comes after as many.
            zone: The time zone of the cron expression.
            **options: Others of `submit`: priority, timeout, max_retries, backoff, to,
                capability, role, escalate_to, schema_version, metadata.

        Raises:
            ValueError: There is not one of `cron` and `every`, or it means nothing.
            Exception: What `submit` raises.
        """
        if (cron is None) == (every is None):
            raise ValueError("a schedule has one of `cron` and `every`")
        if every is not None:
            check_seconds("every", every)
        else:
            check_cron(cron, zone)
        check_text("name", name)
        schedule_path(name)
        template = specify(
            self.manager.codec, self.identity, "", kind, payload, **options
        )
        schedule = TaskSchedule(
            name=name,
            template=template,
            cron=cron,
            every=None if every is None else int(every * MICRO),
            zone=zone,
            next_at=0,
        )
        _, kept = await self.manager.kernel.apply(
            self.identity, plan_schedule, schedule
        )
        found: TaskSchedule = kept
        return found

    async def unschedule(self, name: str) -> bool:
        """Remove a schedule; return whether there was one."""
        check_text("name", name)
        _, found = await self.manager.kernel.apply(self.identity, plan_unschedule, name)
        return bool(found)


class PassedTasks(TaskSubmitter):
    """Tasks whose submits no interceptor sees: interceptors have run."""

    __slots__ = ()

    def __init__(self, tasks: TaskSubmitter) -> None:
        """Act as `tasks` does."""
        super().__init__(tasks.manager, tasks.identity, None)
        self._caller = tasks._caller  # noqa: SLF001  # of the same class


async def _submit_on(submit: Callable[..., Awaitable[Task]], call: SubmitCall) -> Task:
    options = call.options
    return await submit(call.kind, call.payload, metadata=call.metadata, **options)


_DEFAULTS: Final = {
    name: parameter.default
    for name, parameter in inspect.signature(TaskSubmitter.submit).parameters.items()
}
