"""Tasks, as one identity works with them: `swarm.tasks`."""

from collections.abc import Callable
from typing import Final

from swarm.model import (
    AgentIdentity,
    as_seconds,
    check_choice,
    check_seconds,
    check_text,
    check_whole,
)
from swarm.work._caller import Rights
from swarm.work._claim import Claim
from swarm.work._claiming import Claiming
from swarm.work._submitting import id_of
from swarm.work._task_handle import Task, TaskList, info_of
from swarm.work._task_index import TaskSelector, addresses_of
from swarm.work._task_manager import TaskManager
from swarm.work._task_record import TaskStatus
from swarm.work._task_stats import TaskStats
from swarm.work._task_submitter import TaskSubmitter

_SELECTORS: Final = 64
"""How many patterns of kinds are remembered for claims."""


class Tasks(TaskSubmitter):
    """The tasks of a swarm, as one identity submits, claims and looks for them.

    Attributes:
        manager: The tasks of this process.
        identity: The identity that acts.
    """

    __slots__ = ("_capabilities", "_selectors")

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
        super().__init__(manager, identity, rights)
        self._capabilities = capabilities
        self._selectors: dict[str, tuple[tuple[str, ...], TaskSelector]] = {}

    def __repr__(self) -> str:
        return f"<Tasks of '{self.identity.agent_id}'>"

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
        in which they began to wait. Cancelling the wait claims nothing.

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
        if timeout is not None and not as_seconds("timeout", timeout) >= 0:
            raise ValueError(f"timeout is 0 seconds or more, not {timeout}")
        selector = self.selector(kind)
        return Claiming(self.manager, self.identity, selector, lease, timeout)

    def selector(self, kind: str) -> TaskSelector:
        """Return which tasks this identity takes of a kind, or a pattern of kinds.

        Raises:
            InvalidPath: The kind is no pattern.
        """
        identity = self.identity
        capabilities = () if self._capabilities is None else self._capabilities()
        known = self._selectors.get(kind)
        if known is not None and known[0] == capabilities:
            return known[1]
        if len(self._selectors) >= _SELECTORS:
            self._selectors.clear()
        selector = TaskSelector(kind, addresses_of(identity, capabilities))
        self._selectors[kind] = capabilities, selector
        return selector

    # --- looking ----------------------------------------------------------------------

    def get(self, task_id: str) -> Task:
        """Return a handle on a task by its id, whether or not there is one."""
        check_text("task_id", task_id)
        record = self.manager.index.records.get(task_id)
        return Task(self._caller, task_id, "" if record is None else record.spec.kind)

    def find(
        self,
        *,
        kind: str | None = None,
        status: TaskStatus | str | None = None,
        requester: str | None = None,
        assignee: str | None = None,
        parent: "Task | Claim | str | None" = None,
        limit: int = 100,
    ) -> TaskList:
        """Return the tasks that fit all that is given, the newest first.

        They are as this process knows them from the log. What the policy does not let
        this identity read is left out.

        Args:
            kind: A kind, or a pattern of kinds.
            status: Their status.
            requester: The name of the agent that submitted them.
            assignee: The name of the agent that works on them.
            parent: The task that they are parts of.
            limit: How many at most.

        Raises:
            InvalidPath: The kind is no pattern.
            ValueError: There is no such status.
        """
        check_whole("limit", limit, 0)
        if status is not None:
            check_choice("status", status, tuple(TaskStatus))
        wanted = None if status is None else TaskStatus(status)
        selector = None if kind is None else TaskSelector(kind, ())
        index = self.manager.index
        if parent is not None:
            records = index.children(id_of(parent) or "")
        else:
            records = list(index.records.values())
        found = TaskList()
        for record in reversed(records):
            if len(found) >= limit:
                break
            spec, claim = record.spec, record.claim
            if (
                (wanted is None or record.status is wanted)
                and (selector is None or selector.takes(spec.kind))
                and (requester is None or spec.requester.agent_id == requester)
                and (assignee is None or (claim and claim.agent == assignee))
                and self._caller.may_read(spec.id)
            ):
                found.append(info_of(record))
        return found

    def stats(self) -> TaskStats:
        """Return counts and durations of all tasks, as this process knows them."""
        manager = self.manager
        waiting = dict(manager.waiting_reasons())
        return manager.index.totals.shown(manager.index.ready_count, waiting)
