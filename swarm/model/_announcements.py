"""What tasks, handoffs and the system announce, one class for each kind of event."""

from typing import Literal, TypeAlias

from swarm.model._event_type import event

Level: TypeAlias = Literal["info", "warning", "error", "critical"]


@event("task.created")
class TaskCreated:
    """A task can be claimed.

    Attributes:
        task_id: Which.
        kind: What kind of work it is.
    """

    task_id: str
    kind: str = ""


@event("task.assigned")
class TaskAssigned:
    """A task has somebody to do it.

    Attributes:
        task_id: Which.
        agent_id: Who.
        attempt: Which attempt it is, from 1.
    """

    task_id: str
    agent_id: str
    attempt: int = 1


@event("task.started")
class TaskStarted:
    """Work on a task has begun.

    Attributes:
        task_id: Which.
        agent_id: Who works.
        attempt: Which attempt it is, from 1.
    """

    task_id: str
    agent_id: str = ""
    attempt: int = 1


@event("task.progress")
class TaskProgress:
    """A task has come further.

    Attributes:
        task_id: Which.
        percent: How far, from 0 to 100.
        message: What is being done.
    """

    task_id: str
    percent: float
    message: str = ""


@event("task.completed")
class TaskCompleted:
    """A task is done.

    Attributes:
        task_id: Which.
        agent_id: Who did it.
    """

    task_id: str
    agent_id: str = ""


@event("task.failed")
class TaskFailed:
    """A task failed for good.

    Attributes:
        task_id: Which.
        error: With what.
        attempts: After how many attempts.
    """

    task_id: str
    error: str = ""
    attempts: int = 1


@event("task.cancelled")
class TaskCancelled:
    """A task is not wanted any more.

    Attributes:
        task_id: Which.
        reason: Why.
    """

    task_id: str
    reason: str = ""


@event("task.requeued")
class TaskRequeued:
    """A task waits for a worker again, after an attempt that did not end it.

    Attributes:
        task_id: Which.
        reason: The error of the attempt; or "snooze", "release" or "reopen".
        attempts: How many attempts count so far.
    """

    task_id: str
    reason: str = ""
    attempts: int = 0


@event("task.escalated")
class TaskEscalated:
    """A task has failed so often that somebody else is to do it.

    Attributes:
        task_id: Which.
        to: To whom: "manual" (a person), or an address such as "role:expert".
        error: The error of the last attempt.
    """

    task_id: str
    to: str = "manual"
    error: str = ""


@event("handoff.requested")
class HandoffRequested:
    """Somebody wants to hand a task on.

    Attributes:
        handoff_id: Which handoff.
        task_id: Of which task.
        sender: From whom.
        receiver: To whom.
    """

    handoff_id: str
    task_id: str
    sender: str
    receiver: str


@event("handoff.accepted")
class HandoffAccepted:
    """A handed-on task has a new owner.

    Attributes:
        handoff_id: Which handoff.
        task_id: Of which task.
        receiver: Who took it.
    """

    handoff_id: str
    task_id: str
    receiver: str


@event("handoff.rejected")
class HandoffRejected:
    """A task was not taken over.

    Attributes:
        handoff_id: Which handoff.
        task_id: Of which task.
        reason: Why not.
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
        handoff_id: Which handoff.
        task_id: Of which task.
        outcome: "completed": the new owner finished the task or handed it on;
            "failed": its claim ended in another way.
    """

    handoff_id: str
    task_id: str
    outcome: str = "completed"


@event("agent.health_changed")
class AgentHealthChanged:
    """An agent fares better or worse than before.

    Attributes:
        agent_id: Who.
        status: How it fares now: "healthy", "starting", "paused", "stopping" or
            "failed".
        previous: How it fared before.
        reason: Why, when it failed.
    """

    agent_id: str
    status: str
    previous: str = ""
    reason: str = ""


@event("system.config_changed")
class SystemConfigChanged:
    """A setting has another value: something below `global.config` was written.

    Attributes:
        name: Which setting; "": all of them.
        value: What it is now, as JSON; "": it is gone.
        previous: What it was, as JSON; "": it was not there.
    """

    name: str
    value: str
    previous: str = ""


@event("system.alert")
class SystemAlert:
    """Somebody should look at this.

    Attributes:
        level: How bad it is.
        kind: What kind of trouble: "handler-failed", "events-lost", ...
        message: What happened, in a sentence.
        subject: What it is about: a subscription, an agent, a path.
        event_id: The event it happened with, or "".
    """

    level: Level
    kind: str
    message: str
    subject: str = ""
    event_id: str = ""


@event("system.maintenance")
class SystemMaintenance:
    """The system does, or has done, something to itself.

    Attributes:
        action: What: "closing", "keys-forgotten", ...
        message: More about it.
    """

    action: str
    message: str = ""
