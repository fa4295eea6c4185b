"""The identity that works with tasks, and what it may do with them."""

from collections.abc import Callable
from typing import Literal, TypeAlias

from swarm.errors import AccessDenied, NotFound
from swarm.model import OWNER, AgentIdentity, Path
from swarm.work._task_manager import TaskManager
from swarm.work._task_record import task_path

Action: TypeAlias = Literal["read", "write"]

Rights: TypeAlias = Callable[[AgentIdentity, Path, Action], object]
"""Raises `AccessDenied` unless an identity may do something at a place."""


class Caller:
    """An identity that works with tasks.

    Attributes:
        manager: The tasks of this process.
        identity: The identity.
    """

    __slots__ = ("_rights", "identity", "manager")

    def __init__(
        self, manager: TaskManager, identity: AgentIdentity, rights: Rights | None
    ) -> None:
        """Act as `identity`; without rights, everything is allowed."""
        self.manager: TaskManager = manager
        self.identity: AgentIdentity = identity
        self._rights = rights

    def check_right(self, task_id: str, action: Action) -> None:
        """Refuse what the policy does not let this identity do with a task.

        Raises:
            AccessDenied: It does not.
        """
        if self._rights is not None and self.identity != OWNER:
            self._rights(self.identity, task_path(task_id), action)

    async def check_ownership(self, task_id: str) -> None:
        """Refuse an identity that neither submitted a task nor may write it.

        Raises:
            AccessDenied: It is one.
            NotFound: There is no such task.
        """
        if self._rights is None or self.identity == OWNER:
            return
        record = await self.manager.find(task_id)
        if record is None:
            raise NotFound(f"there is no task {task_id!r} (any more)")
        if record.spec.requester != self.identity:
            self.check_right(task_id, "write")

    def may_read(self, task_id: str) -> bool:
        """Return whether the identity may read a task."""
        try:
            self.check_right(task_id, "read")
        except AccessDenied:
            return False
        return True
