"""Events that only the swarm itself announces; publishing them is refused (G11)."""

from typing import Any, Final

from swarm.model._announcements import (
    AgentHealthChanged,
    HandoffAccepted,
    HandoffCompleted,
    HandoffRejected,
    HandoffRequested,
    TaskAssigned,
    TaskCancelled,
    TaskCompleted,
    TaskCreated,
    TaskEscalated,
    TaskFailed,
    TaskProgress,
    TaskRequeued,
    TaskStarted,
)
from swarm.model._event_type import event_type
from swarm.model._state_event import DOCUMENT_EVENTS
from swarm.model._system_events import (
    AgentRegistered,
    AgentStarted,
    AgentStopped,
    LockAcquired,
    LockContention,
    LockExpired,
    LockReleased,
)

RESERVED: Final = (
    *DOCUMENT_EVENTS,
    AgentRegistered,
    AgentStarted,
    AgentStopped,
    AgentHealthChanged,
    LockAcquired,
    LockReleased,
    LockExpired,
    LockContention,
    TaskCreated,
    TaskAssigned,
    TaskStarted,
    TaskProgress,
    TaskCompleted,
    TaskFailed,
    TaskCancelled,
    TaskRequeued,
    TaskEscalated,
    HandoffRequested,
    HandoffAccepted,
    HandoffRejected,
    HandoffCompleted,
)
"""Each of these states a fact of the commit that it is part of. Alerts are statements
of programs and agents, so these can publish them."""

_NAMES: Final = frozenset(map(event_type, RESERVED))


def is_reserved(cls: type[Any]) -> bool:
    """Return whether an event of this class would be taken for one of the swarm's.

    It is one of them, derives from one, or has the name of one.
    """
    return issubclass(cls, RESERVED) or event_type(cls) in _NAMES
