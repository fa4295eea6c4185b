"""The words: frozen records that every other part speaks in."""

from swarm.model._change import Change, ChangeKind, Commit, Edit, to_change
from swarm.model._event import Event, event, event_type
from swarm.model._identity import (
    OWNER,
    OWNER_ROLE,
    AgentIdentity,
    Priority,
    type_name,
)
from swarm.model._path import (
    ANY_NUMBER,
    MAX_PATH_BYTES,
    MAX_PATTERN_CHARS,
    ONE,
    Path,
    Pattern,
    PatternSegment,
    Segment,
    match,
    sort_key,
)
from swarm.model._system_events import (
    AgentRegistered,
    AgentStarted,
    AgentStopped,
)
from swarm.model._value import (
    ABSENT,
    DELETE,
    JSON,
    Document,
    Sentinel,
    Versioned,
    canonical,
    checksum,
    dig,
    to_datetime,
)

__all__ = [
    "ABSENT",
    "ANY_NUMBER",
    "DELETE",
    "JSON",
    "MAX_PATH_BYTES",
    "MAX_PATTERN_CHARS",
    "ONE",
    "OWNER",
    "OWNER_ROLE",
    "AgentIdentity",
    "AgentRegistered",
    "AgentStarted",
    "AgentStopped",
    "Change",
    "ChangeKind",
    "Commit",
    "Document",
    "Edit",
    "Event",
    "Path",
    "Pattern",
    "PatternSegment",
    "Priority",
    "Segment",
    "Sentinel",
    "Versioned",
    "canonical",
    "checksum",
    "dig",
    "event",
    "event_type",
    "match",
    "sort_key",
    "to_change",
    "to_datetime",
    "type_name",
]
