"""Events of tasks, handoffs and the system, one class for each type."""

from typing import Literal, TypeAlias

from swarm.model._event_type import event

Level: TypeAlias = Literal["info", "warning", "error", "critical"]


@event("task.created")
class TaskCreated:
    """A task can be claimed.

    Attributes:
        task_id: The id of the task.
        kind: The kind of work.
    """

    task_id: str
    kind: str = ""


@event("task.assigned")
class TaskAssigned:
    """A worker has claimed a task.

    Attributes:
        task_id: The id of the task.
        agent_id: The name of the agent.
        attempt: The number of the attempt, from 1.
    """

    task_id: str
    agent_id: str
    attempt: int = 1


@event("task.started")
class TaskStarted:
    """Work on a task has begun.

    Attributes:
        task_id: The id of the task.
        agent_id: The name of the agent that works on it.
        attempt: The number of the attempt, from 1.
    """

    task_id: str
    agent_id: str = ""
    attempt: int = 1


@event("task.progress")
class TaskProgress:
    """A worker has reported progress on a task.

    Attributes:
        task_id: The id of the task.
        percent: The part that is done, from 0 to 100.
        message: The step that is being done.
    """

    task_id: str
    percent: float
    message: str = ""


@event("task.completed")
class TaskCompleted:
    """A task is done.

    Attributes:
        task_id: The id of the task.
        agent_id: The name of the agent that did it.
    """

    task_id: str
    agent_id: str = ""


@event("task.failed")
class TaskFailed:
    """A task failed for good.

    Attributes:
        task_id: The id of the task.
        error: The error of the last attempt.
        attempts: The number of attempts.
    """

    task_id: str
    error: str = ""
    attempts: int = 1


@event("task.cancelled")
class TaskCancelled:
    """A task was cancelled.

    Attributes:
        task_id: The id of the task.
        reason: The reason that was given.
    """

    task_id: str
    reason: str = ""


@event("task.requeued")
class TaskRequeued:
    """A task waits for a worker again, after an attempt that did not end it.

    Attributes:
        task_id: The id of the task.
        reason: The error of the attempt; or "snooze", "release" or "reopen".
        attempts: How many attempts count so far.
    """

    task_id: str
    reason: str = ""
    attempts: int = 0


@event("task.escalated")
class TaskEscalated:
    """A task has failed so often that it was escalated.

    Attributes:
        task_id: The id of the task.
        to: The receiver: "manual" (a person), or an address such as "role:expert".
        error: The error of the last attempt.
    """

    task_id: str
    to: str = "manual"
    error: str = ""


@event("handoff.requested")
class HandoffRequested:
    """A worker offers to hand a task on.

    Attributes:
        handoff_id: The id of the handoff.
        task_id: The id of the task.
        sender: The name of the agent that offers it.
        receiver: The address of the receiver.
    """

    handoff_id: str
    task_id: str
    sender: str
    receiver: str


@event("handoff.accepted")
class HandoffAccepted:
    """A handed-on task has a new owner.

    Attributes:
        handoff_id: The id of the handoff.
        task_id: The id of the task.
        receiver: The name of the agent that took it.
    """

    handoff_id: str
    task_id: str
    receiver: str


@event("handoff.rejected")
class HandoffRejected:
    """A handoff was rejected.

    Attributes:
        handoff_id: The id of the handoff.
        task_id: The id of the task.
        reason: The reason that was given.
        outcome: "rejected", "expired" or "withdrawn".
    """

    handoff_id: str
    task_id: str
    reason: str = ""
    outcome: str = "rejected"


@event("handoff.completed")
class HandoffCompleted:
    """The new owner's claim on a handed-on task has ended.

    Attributes:
        handoff_id: The id of the handoff.
        task_id: The id of the task.
        outcome: "completed": the new owner finished the task or handed it on;
            "failed": its claim ended in another way.
    """

    handoff_id: str
    task_id: str
    outcome: str = "completed"


@event("agent.health_changed")
class AgentHealthChanged:
    """The health of an agent has changed.

    Attributes:
        agent_id: The name of the agent.
        status: Its health now: "healthy", "starting", "paused", "stopping" or
            "failed".
        previous: Its health before.
        reason: The error, when it failed.
    """

    agent_id: str
    status: str
    previous: str = ""
    reason: str = ""


@event("system.config_changed")
class SystemConfigChanged:
    """A setting has another value: something below `global.config` was written.

    Attributes:
        name: The name of the setting; "": all of them.
        value: Its value now, as JSON; "": it is absent.
        previous: Its value before, as JSON; "": it was absent.
    """

    name: str
    value: str
    previous: str = ""


@event("system.alert")
class SystemAlert:
    """Something needs attention.

    Attributes:
        level: The severity.
        kind: The kind of problem: "handler-failed", "events-lost", ...
        message: A sentence about it.
        subject: The subscription, agent or path that it is about.
        event_id: The id of the event that was handled, or "".
    """

    level: Level
    kind: str
    message: str
    subject: str = ""
    event_id: str = ""


@event("system.maintenance")
class SystemMaintenance:
    """The system does maintenance.

    Attributes:
        action: The kind: "closing", "keys-forgotten", ...
        message: More about it.
    """

    action: str
    message: str = ""
