"""swarm: coordinate async agents.

Every public name of the everyday API is here; `swarm.testing` has the simulator. A
name is imported from its package when it is first used, so that `import swarm` costs
next to nothing.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from swarm.agents import (
        AgentInfo,
        Backoff,
        Group,
        Ref,
        Restart,
        Status,
        Stream,
        interleave,
    )
    from swarm.bus import (
        Attempt,
        Batch,
        BusOptions,
        DeadLetter,
        DeadLetters,
        ErrorInfo,
        Events,
        EventStream,
        Receipt,
        Recipient,
        Subscription,
        SubscriptionStats,
        WrittenEvent,
        keep_active_agents,
        on,
        record_completed_tasks,
    )
    from swarm.coordination import (
        Arrival,
        BarrierHandle,
        HeldLock,
        HeldPermits,
        Lease,
        Leases,
        Limiter,
        LockHandle,
        OpenBarrier,
        QueuedLock,
        QueuedParty,
        QueuedPermits,
        SemaphoreHandle,
    )
    from swarm.errors import (
        AccessDenied,
        AckTimeout,
        AgentDied,
        AskTimeout,
        BarrierTimeout,
        BrokenBarrier,
        Closed,
        Compacted,
        ConfigMismatch,
        ConflictError,
        Contention,
        DeadlockError,
        DeadlockTimeout,
        GatherError,
        InvalidPath,
        InvalidTransition,
        InvalidValue,
        Lagged,
        LeaseLost,
        LimitExceeded,
        LockTimeout,
        Lost,
        MailboxFull,
        NameTaken,
        NoSuchAgent,
        NotFound,
        OutcomeUnknown,
        PathConflict,
        RemoteCancelled,
        RemoteError,
        SchemaVersionError,
        ShutdownTimeout,
        StaleAck,
        StaleClaim,
        StaleLease,
        StateCorruption,
        StepMismatch,
        StorageFailed,
        StorageInUse,
        StorageUnsupported,
        SwarmError,
        TaskError,
        TaskTimeout,
        WaitTimeout,
        WouldBlock,
        WrongLoop,
    )
    from swarm.model import (
        ABSENT,
        DELETE,
        OWNER,
        AgentHealthChanged,
        AgentIdentity,
        AgentRegistered,
        AgentStarted,
        AgentStopped,
        Change,
        ChangeKind,
        Event,
        HandoffAccepted,
        HandoffCompleted,
        HandoffRejected,
        HandoffRequested,
        LockAcquired,
        LockContention,
        LockExpired,
        LockReleased,
        Priority,
        StateCreated,
        StateDeleted,
        StateUpdated,
        SystemAlert,
        SystemConfigChanged,
        SystemMaintenance,
        TaskAssigned,
        TaskCancelled,
        TaskCompleted,
        TaskCreated,
        TaskEscalated,
        TaskFailed,
        TaskProgress,
        TaskRequeued,
        TaskStarted,
        Versioned,
        event,
    )
    from swarm.ports import (
        AgentCall,
        AttemptCall,
        Clock,
        HandleCall,
        HandoffCall,
        Interceptor,
        Limits,
        Proceed,
        PublishCall,
        SpawnCall,
        StepCall,
        SubmitCall,
        correlated,
    )
    from swarm.state import (
        Candidate,
        Decision,
        Key,
        PastState,
        Policy,
        Rights,
        Rule,
        StateHandle,
        Transaction,
        ValidationResult,
        Watch,
    )
    from swarm.storage import Hybrid, Replicated, Snapshot, Snapshots
    from swarm.system import Agent, Portal, Surface, Swarm, SwarmConfig
    from swarm.work import (
        Checkpoint,
        Checkpoints,
        Claim,
        Context,
        Gathered,
        Handoff,
        Handoffs,
        HandoffStatus,
        Pipeline,
        PipelineRun,
        Pipelines,
        Stage,
        StageProgress,
        Task,
        TaskInfo,
        TaskOptions,
        TaskSchedule,
        TaskStats,
        TaskStatus,
        idempotency_key,
        serves,
    )

    __version__: str

_NAMES: Final = {
    "swarm.agents": "AgentInfo Backoff Group Ref Restart Status Stream interleave",
    "swarm.bus": """
        Attempt Batch BusOptions DeadLetter DeadLetters ErrorInfo EventStream Events
        Receipt Recipient Subscription SubscriptionStats WrittenEvent
        keep_active_agents on record_completed_tasks
    """,
    "swarm.coordination": """
        Arrival BarrierHandle HeldLock HeldPermits Lease Leases Limiter LockHandle
        OpenBarrier QueuedLock QueuedParty QueuedPermits SemaphoreHandle
    """,
    "swarm.errors": """
        AccessDenied AckTimeout AgentDied AskTimeout BarrierTimeout BrokenBarrier
        Closed Compacted ConfigMismatch ConflictError Contention DeadlockError
        DeadlockTimeout GatherError InvalidPath InvalidTransition InvalidValue Lagged
        LeaseLost LimitExceeded LockTimeout Lost MailboxFull NameTaken NoSuchAgent
        NotFound OutcomeUnknown PathConflict RemoteCancelled RemoteError
        SchemaVersionError ShutdownTimeout StaleAck StaleClaim StaleLease
        StateCorruption StepMismatch StorageFailed StorageInUse StorageUnsupported
        SwarmError TaskError TaskTimeout WaitTimeout WouldBlock WrongLoop
    """,
    "swarm.model": """
        ABSENT AgentHealthChanged AgentIdentity AgentRegistered AgentStarted
        AgentStopped Change ChangeKind DELETE Event HandoffAccepted HandoffCompleted
        HandoffRejected HandoffRequested LockAcquired LockContention LockExpired
        LockReleased OWNER Priority StateCreated StateDeleted StateUpdated SystemAlert
        SystemConfigChanged SystemMaintenance TaskAssigned TaskCancelled TaskCompleted
        TaskCreated TaskEscalated TaskFailed TaskProgress TaskRequeued TaskStarted
        Versioned event
    """,
    "swarm.ports": """
        AgentCall AttemptCall Clock HandleCall HandoffCall Interceptor Limits Proceed
        PublishCall SpawnCall StepCall SubmitCall correlated
    """,
    "swarm.state": """
        Candidate Decision Key PastState Policy Rights Rule StateHandle Transaction
        ValidationResult Watch
    """,
    "swarm.storage": "Hybrid Replicated Snapshot Snapshots",
    "swarm.system": "Agent Portal Surface Swarm SwarmConfig",
    "swarm.work": """
        Checkpoint Checkpoints Claim Context Gathered Handoff HandoffStatus Handoffs
        Pipeline PipelineRun Pipelines TaskSchedule Stage StageProgress Task TaskInfo
        TaskOptions TaskStats TaskStatus idempotency_key serves
    """,
}
_PACKAGES: Final = (*(name.removeprefix("swarm.") for name in _NAMES), "testing")
_HOMES: Final = {
    name: package for package, names in _NAMES.items() for name in names.split()
}


def __getattr__(name: str) -> Any:
    """Return a public name or package, imported at its first use."""
    if name in _HOMES:
        value: Any = getattr(import_module(_HOMES[name]), name)
    elif name in _PACKAGES:
        value = import_module(f"swarm.{name}")
    elif name == "__version__":
        value = import_module("importlib.metadata").version("swarm-actors")
    else:
        raise AttributeError(f"module 'swarm' has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """Return the public names."""
    return sorted(__all__)


__all__ = [
    "ABSENT",
    "DELETE",
    "OWNER",
    "AccessDenied",
    "AckTimeout",
    "Agent",
    "AgentCall",
    "AgentDied",
    "AgentHealthChanged",
    "AgentIdentity",
    "AgentInfo",
    "AgentRegistered",
    "AgentStarted",
    "AgentStopped",
    "Arrival",
    "AskTimeout",
    "Attempt",
    "AttemptCall",
    "Backoff",
    "BarrierHandle",
    "BarrierTimeout",
    "Batch",
    "BrokenBarrier",
    "BusOptions",
    "Candidate",
    "Change",
    "ChangeKind",
    "Checkpoint",
    "Checkpoints",
    "Claim",
    "Clock",
    "Closed",
    "Compacted",
    "ConfigMismatch",
    "ConflictError",
    "Contention",
    "Context",
    "DeadLetter",
    "DeadLetters",
    "DeadlockError",
    "DeadlockTimeout",
    "Decision",
    "ErrorInfo",
    "Event",
    "EventStream",
    "Events",
    "GatherError",
    "Gathered",
    "Group",
    "HandleCall",
    "Handoff",
    "HandoffAccepted",
    "HandoffCall",
    "HandoffCompleted",
    "HandoffRejected",
    "HandoffRequested",
    "HandoffStatus",
    "Handoffs",
    "HeldLock",
    "HeldPermits",
    "Hybrid",
    "Interceptor",
    "InvalidPath",
    "InvalidTransition",
    "InvalidValue",
    "Key",
    "Lagged",
    "Lease",
    "LeaseLost",
    "Leases",
    "LimitExceeded",
    "Limiter",
    "Limits",
    "LockAcquired",
    "LockContention",
    "LockExpired",
    "LockHandle",
    "LockReleased",
    "LockTimeout",
    "Lost",
    "MailboxFull",
    "NameTaken",
    "NoSuchAgent",
    "NotFound",
    "OpenBarrier",
    "OutcomeUnknown",
    "PastState",
    "PathConflict",
    "Pipeline",
    "PipelineRun",
    "Pipelines",
    "Policy",
    "Portal",
    "Priority",
    "Proceed",
    "PublishCall",
    "QueuedLock",
    "QueuedParty",
    "QueuedPermits",
    "Receipt",
    "Recipient",
    "Ref",
    "RemoteCancelled",
    "RemoteError",
    "Replicated",
    "Restart",
    "Rights",
    "Rule",
    "SchemaVersionError",
    "SemaphoreHandle",
    "ShutdownTimeout",
    "Snapshot",
    "Snapshots",
    "SpawnCall",
    "Stage",
    "StageProgress",
    "StaleAck",
    "StaleClaim",
    "StaleLease",
    "StateCorruption",
    "StateCreated",
    "StateDeleted",
    "StateHandle",
    "StateUpdated",
    "Status",
    "StepCall",
    "StepMismatch",
    "StorageFailed",
    "StorageInUse",
    "StorageUnsupported",
    "Stream",
    "SubmitCall",
    "Subscription",
    "SubscriptionStats",
    "Surface",
    "Swarm",
    "SwarmConfig",
    "SwarmError",
    "SystemAlert",
    "SystemConfigChanged",
    "SystemMaintenance",
    "Task",
    "TaskAssigned",
    "TaskCancelled",
    "TaskCompleted",
    "TaskCreated",
    "TaskError",
    "TaskEscalated",
    "TaskFailed",
    "TaskInfo",
    "TaskOptions",
    "TaskProgress",
    "TaskRequeued",
    "TaskSchedule",
    "TaskStarted",
    "TaskStats",
    "TaskStatus",
    "TaskTimeout",
    "Transaction",
    "ValidationResult",
    "Versioned",
    "WaitTimeout",
    "Watch",
    "WouldBlock",
    "WrittenEvent",
    "WrongLoop",
    "__version__",
    "correlated",
    "event",
    "idempotency_key",
    "interleave",
    "keep_active_agents",
    "on",
    "record_completed_tasks",
    "serves",
]
