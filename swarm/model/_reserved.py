"""Events that only the swarm itself announces: nobody can publish them (G11)."""

from typing import Any, Final

from swarm.model._announcements import AgentHealthChanged
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
)
"""What they say has happened in the commit that they are of. An alert, and the words of
tasks and handoffs, say what somebody thinks or does: those anybody can publish."""

_NAMES: Final = frozenset(map(event_type, RESERVED))


def is_reserved(cls: type[Any]) -> bool:
    """Return whether an event of this class would be taken for one of the swarm's.

    It is one of them, derives from one, or has the name of one.
    """
    return issubclass(cls, RESERVED) or event_type(cls) in _NAMES
