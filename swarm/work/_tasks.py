"""Tasks, as one identity submits, claims and finds them: `swarm.tasks`."""

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any, Final, Literal, Unpack

import attrs

from swarm.model import (
    JSON,
    MICRO,
    AgentIdentity,
    Displayable,
    canonical,
    check_choice,
    check_name,
    check_seconds,
    check_text,
    check_timeout,
    check_whole,
    shown,
)
from swarm.ports import SubmitCall
from swarm.work._claiming import Claiming
from swarm.work._due import TaskSelector, addresses_of
from swarm.work._gather import (
    Gathered,
    as_list,
    cancel_surplus,
    ends_of,
    gathered,
    in_rounds,
    needed,
)
from swarm.work._schedule_rules import (
    TaskSchedule,
    all_schedules,
    check_cron,
    check_schedule_name,
    plan_schedule,
    plan_unschedule,
    schedule_in,
)
from swarm.work._steps import fingerprint
from swarm.work._submit_rules import (
    GatherOptions,
    HasTask,
    ScheduleOptions,
    Submission,
    SubmitOptions,
    decide_submit,
    decide_submit_once,
    encoded,
    submission_of,
    task_id_of,
)
from swarm.work._task_handle import Caller, Rights, Task, TaskList, info_of
from swarm.work._task_manager import TaskManager
from swarm.work._task_record import TaskStatus, task_path
from swarm.work._task_stats import TaskStats

_SELECTORS: Final = 64
"""Maximum number of kind patterns remembered for claims."""


class Tasks(Displayable):
    """The tasks of a swarm, as one identity submits, claims and looks for them.

    Attributes:
        manager: The tasks of this process.
        identity: The identity that acts.
    """

    __slots__ = (
        "_caller",
        "_capabilities",
        "_selectors",
        "identity",
        "manager",
    )

    def __init__(
        self,
        manager: TaskManager,
        identity: AgentIdentity,
        *,
        rights: Rights | None = None,
        capabilities: Callable[[], tuple[str, ...]] | None = None,
    ) -> None:
        """Act as `identity`.

        Args:
            manager: The tasks of this process.
            identity: The identity that acts.
            rights: Refuses what a policy does not allow; None: everything is allowed.
            capabilities: Returns what the identity says it can do.
        """
        self.manager: TaskManager = manager
        self.identity: AgentIdentity = identity
        self._caller = Caller(manager, identity, rights)
        self._capabilities = capabilities
        self._selectors: dict[tuple[str, tuple[str, ...]], TaskSelector] = {}

    def __repr__(self) -> str:
        return f"<Tasks of '{self.identity.agent_id}'>"

    # --- submitting -------------------------------------------------------------------

    async def submit(
        self,
        kind: str,
        payload: JSON = None,
        **options: Unpack[SubmitOptions],
    ) -> Task:
        """Submit a task and return a handle on it.

        Args:
            kind: What kind of work it is: dotted words, such as "research.topic".
            payload: What is to be worked on: a JSON value. Store large artefacts
                elsewhere, and pass a reference.
            **options: What follows, each of it by name.
            key: A unique key. While a task that is not final has it, that task is
                returned, and nothing is submitted; it must be of the same kind.
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
            ConfigMismatch: A task of another kind has the key.
            TypeError: An argument is not of its type.
            ValueError: An argument means nothing.
        """
        interceptors = self.manager.interceptors
        if interceptors is None or interceptors.submit is None:
            return await self._submit(kind, payload, options)
        metadata = options.pop("metadata", None)
        call = SubmitCall(
            submitter=self.identity,
            kind=kind,
            payload=payload,
            metadata=metadata,
            options=options,
        )

        async def proceed(call: SubmitCall) -> Task:
            terms = {**call.options, "metadata": call.metadata}
            return await self._submit(call.kind, call.payload, terms)

        intercepted: Task = await interceptors.submit(call, proceed)
        return intercepted

    async def _submit(
        self, kind: str, payload: JSON, options: Mapping[str, Any]
    ) -> Task:
        manager = self.manager
        if manager.closed is not None:
            raise manager.closed
        once = options.get("once", False)
        if once.__class__ is not bool:
            raise TypeError(f"once is True or False, not {shown(once)}")
        task_id = manager.new_id("task")
        codec, me = manager.codec, self.identity
        submission = submission_of(codec, me, task_id, kind, payload, options)
        local = manager.local
        if local is not None and manager.is_direct and not options:
            # `_commit`, with a coroutine less.
            path = submission[0].path
            _, made = local.apply_one_now(me, path, decide_submit, submission)
            if made is not None:
                return Task(self._caller, task_id, kind)
        found = await self._commit(submission, once)
        while found is None:  # another process, of the same seed, was there before
            task_id = manager.new_id("task")
            spec = attrs.evolve(submission[0], id=task_id, path=task_path(task_id))
            found = await self._commit((spec, *submission[1:]), once)
        return Task(self._caller, *found)

    async def _commit(
        self, submission: Submission, once: bool
    ) -> tuple[str, str] | None:
        """Commit a task; return the id and kind of it, or of the one with its key.

        None: its id is taken.
        """
        manager, spec = self.manager, submission[0]
        if spec.key is not None or spec.parent is not None:
            _, found = await manager.kernel.apply(
                self.identity, decide_submit_once, submission, once
            )
            task: tuple[str, str] | None = found
            return task
        _, outcome = await manager.apply_one(
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
        parent: HasTask | str | None = None,
        **options: Unpack[GatherOptions],
    ) -> Gathered:
        """Submit a task for each input, and return their results in order.

        With a key or a parent, each task has a key of its own that stays taken while
        its record is kept (`TaskOptions.keep`): who gathers again after a crash waits
        for the tasks that are there already.
        Cancelling the wait leaves the tasks alone. Gather no more tasks at once than
        final ones are kept: one that is removed before its end is noticed is missed.

        Args:
            kind: The kind of the tasks.
            inputs: Their payloads.
            need: How many results: "all", "first" or a number. What is not needed any
                more is cancelled, unless it is another agent's. When all are needed, a
                failure ends no other task.
            key: What the keys of the tasks begin with.
            parent: The task that they are parts of.
            **options: The other options of `submit`, for each task; not `once`.

        Returns:
            A list of the results, with `indexes` and `errors`.

        Raises:
            GatherError: There are too few results; it has those that there are.
            NotFound: A task was removed before its end was noticed.
            ValueError: The need is not a number of inputs.
            Exception: What `submit` raises.
        """
        payloads = as_list(inputs)
        count = needed(need, len(payloads))
        wrong = options.keys() - GatherOptions.__optional_keys__
        if wrong:
            raise TypeError(
                f"gather() got an unexpected keyword argument {min(wrong)!r}"
            )
        if key is not None:
            check_name("key", key)
        submission_of(self.manager.codec, self.identity, "", kind, None, options)
        for payload in payloads:  # one that is wrong leaves no tasks behind
            encoded(self.manager.codec, "the payload of a task", payload)
        if key is None and parent is not None:
            key = f"{task_id_of(parent)}/{kind}"
        submits = []
        for index, payload in enumerate(payloads):
            own = None
            if key is not None:
                own = f"{key}/{index}/{fingerprint(canonical(payload))[:12]}"
            submit = partial(
                self.submit,
                kind,
                payload,
                key=own,
                once=True,
                parent=parent,
                **options,
            )
            submits.append(submit)
        tasks = await in_rounds(submits)
        ended = await ends_of(self.manager, tasks, count)
        surplus = [task for index, task in enumerate(tasks) if index not in ended]
        await in_rounds([partial(cancel_surplus, task) for task in surplus])
        return gathered(ended, count, len(tasks))

    async def schedule(
        self,
        name: str,
        kind: str,
        payload: JSON = None,
        *,
        cron: str | None = None,
        every: float | None = None,
        zone: str = "UTC",
        **options: Unpack[ScheduleOptions],
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
            ValueError: There is not one of `cron` and `every`, or it means nothing,
                or there is a `zone` without `cron`.
            Exception: What `submit` raises.
        """
        if (cron is None) == (every is None):
            raise ValueError("a schedule has one of `cron` and `every`")
        if every is not None:
            check_seconds("every", every)
            every = int(every * MICRO) / MICRO  # as it is stored, to compare terms
            if zone != "UTC":
                raise ValueError(f"zone={zone!r} goes with `cron`, not with `every`")
        else:
            check_cron(cron, zone)
        check_schedule_name(name)
        wrong = options.keys() - ScheduleOptions.__optional_keys__
        if wrong:
            raise TypeError(f"a schedule has no option {min(wrong)!r}")
        template = submission_of(
            self.manager.codec, self.identity, "", kind, payload, options
        )[0]
        schedule = TaskSchedule(
            name=name, template=template, cron=cron, every=every, zone=zone
        )
        _, kept = await self.manager.kernel.apply(
            self.identity, plan_schedule, schedule
        )
        found: TaskSchedule = kept
        return found

    async def schedules(self) -> list[TaskSchedule]:
        """Return the schedules that this identity may read, by name."""
        documents = await self.manager.kernel.read(all_schedules)
        may_see = self._caller.may_see
        found = [schedule_in(each) for each in documents if may_see(each.path)]
        return sorted(filter(None, found), key=lambda schedule: schedule.name)

    async def unschedule(self, name: str) -> bool:
        """Remove a schedule; return whether there was one."""
        check_text("name", name)
        _, found = await self.manager.kernel.apply(self.identity, plan_unschedule, name)
        return bool(found)

    # --- working ----------------------------------------------------------------------

    def claim(
        self,
        kind: str,
        *,
        lease: float = 30.0,
        timeout: float | None = None,
    ) -> Claiming:
        """Claim the next task of a kind: `async with` it, or `await` it.

        It waits until there is a task that is due, that this identity may take by its
        address, and that nobody else works on. Those that wait get tasks in the order
        in which they began to wait; one that loses its task to another process waits
        anew. Cancelling the wait claims nothing.

        The claim is renewed by itself as long as this process lives. `Claim` says what
        leaving the block does.

        Args:
            kind: A kind, or a pattern of kinds: "research.*", "**".
            lease: Seconds after which the task is rescued when this process dies.
            timeout: Seconds to wait for a task; None: for ever.

        Raises:
            TaskTimeout: No task came in time.
            InvalidPath: The kind is no pattern.
            ValueError: The lease or the timeout means nothing.
            Closed: The swarm is closed.
        """
        if lease != 30.0:
            check_seconds("lease", lease)
        if timeout is not None:
            check_timeout(timeout)
        selector = self.selector(kind)
        return Claiming(self.manager, self.identity, selector, lease, timeout)

    def selector(self, kind: str) -> TaskSelector:
        """Return which tasks this identity takes of a kind, or a pattern of kinds.

        Raises:
            InvalidPath: The kind is no pattern.
        """
        if type(kind) is not str:
            check_text("a kind", kind)
        capabilities = () if self._capabilities is None else self._capabilities()
        selector = self._selectors.get((kind, capabilities))
        if selector is None:
            if len(self._selectors) >= _SELECTORS:
                self._selectors.clear()
            me = self.identity
            addresses = addresses_of(me.agent_id, me.role, capabilities)
            selector = TaskSelector(kind, addresses)
            self._selectors[kind, capabilities] = selector
        return selector

    # --- looking ----------------------------------------------------------------------

    def get(self, task_id: str) -> Task:
        """Return a handle on a task by its id.

        Nothing is looked for: the methods of the handle raise `NotFound` when there is
        no such task.

        Raises:
            InvalidPath: The id is empty or too long.
        """
        check_text("task_id", task_id)
        task_path(task_id)
        record = self.manager.index.records.get(task_id)
        return Task(self._caller, task_id, "" if record is None else record.spec.kind)

    def find(
        self,
        *,
        kind: str | None = None,
        status: TaskStatus | str | None = None,
        parent: HasTask | str | None = None,
        limit: int | None = 100,
    ) -> TaskList:
        """Return the records of the tasks that fit all that is given, the newest first.

        They are as this process knows them from the log: `tasks.get(info.id)` is a
        handle on one. What the policy does not let this identity read is left out.

        Args:
            kind: A kind, or a pattern of kinds.
            status: Their status.
            parent: The task that they are parts of.
            limit: How many at most; None: all.

        Raises:
            InvalidPath: The kind is no pattern.
            ValueError: There is no such status.
            Closed: The swarm is closed.
        """
        if self.manager.closed is not None:
            raise self.manager.closed
        if limit is not None:
            check_whole("limit", limit, 0)
        if status is not None:
            check_choice("status", status, tuple(TaskStatus))
        wanted = None if status is None else TaskStatus(status)
        selector = None
        if kind is not None:
            check_text("a kind", kind)
            selector = TaskSelector(kind, ())
        index = self.manager.index
        if parent is not None:
            records = index.children(task_id_of(parent))
        else:
            records = list(index.records.values())
        found = TaskList()
        for record in reversed(records):
            if len(found) == limit:
                break
            spec = record.spec
            if (
                (wanted is None or record.status is wanted)
                and (selector is None or selector.takes(spec.kind))
                and self._caller.may_read(spec.id)
            ):
                found.append(info_of(record))
        return found

    def stats(self) -> TaskStats:
        """Return counts and durations of all tasks, as this process knows them."""
        manager = self.manager
        waiting = dict(manager.waiting_reasons())
        return manager.index.stats(waiting)
