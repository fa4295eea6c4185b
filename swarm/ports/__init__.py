"""The interfaces of the core, and small things that every part shares.

- `Kernel`, `LocalKernel`, `Tail`, `View`, `Write`, `Plan`: the contract of a kernel. A
  rule is a pure function `(view, *arguments) -> Plan`; a condition is data: `Expect` (a
  document's version), `ExpectFolder` (nothing below has changed since a revision),
  `Holder` (a lease or claim is the live holder).
- `Runtime`: what a simulation replaces. Every public awaiting operation awaits
  `runtime.pause` in front, if there is one, and then does what production does;
  `runtime.substitute(cls)` gives the class to use. `current_runtime()` finds it.
- `Clock`, `Entropy`, `Codec`, `Journal`, `System`: time, chance, bytes, durability and
  the owner of tasks.
- `Inboxes`: messages between the processes that share a tree.
- `Interceptor`, `Interceptors`: code of the user around asks, tells, turns, events and
  tasks; `interceptors` is None wherever a swarm has none.
- `retry_conflicts`, `LoopBudget`, `one_loop_turn`, `Deadlines`: loops over commits, and
  turns of the event loop.
"""

from swarm.ports._activity import (
    Activity,
    correlated,
    current_activity,
    current_cause,
    current_identity,
    current_trace,
)
from swarm.ports._clock import Clock, LoopClock, Timer
from swarm.ports._codec import HARD_DOCUMENT_BYTES, Codec, Limits
from swarm.ports._commits import (
    KEEP,
    Condition,
    Expect,
    ExpectFolder,
    Guard,
    Holder,
    Plan,
    Ruling,
    View,
    Write,
    decode_holders,
    holder_record,
)
from swarm.ports._deadlines import Deadlines
from swarm.ports._entropy import Entropy
from swarm.ports._frames import (
    Standing,
    chain_of,
    drives,
    frames_of,
    is_cancelled,
    standing,
)
from swarm.ports._guards import check_guard, conditions_of
from swarm.ports._inboxes import Inboxes
from swarm.ports._intercepting import (
    Around,
    InterceptedBlock,
    Interceptors,
    cause_of,
    checked_interceptors,
    run_at_once,
)
from swarm.ports._interceptors import (
    AgentCall,
    AttemptCall,
    HandleCall,
    HandoffCall,
    Interceptor,
    Proceed,
    PublishCall,
    SpawnCall,
    StepCall,
    SubmitCall,
)
from swarm.ports._journal import Entry, Journal, Recovered, RecoveryReport
from swarm.ports._kernel import (
    Kernel,
    LocalKernel,
    Reader,
    Refusing,
    RetentionHold,
    Tail,
)
from swarm.ports._operation import ShieldedOperation
from swarm.ports._payloads import (
    UnknownEvent,
    announcement_to_json,
    payload_from_json,
    payload_to_json,
    unknown_event_class,
)
from swarm.ports._retry import retry_conflicts
from swarm.ports._runtime import Pause, Runtime, current_runtime, install_runtime
from swarm.ports._structure import misfit, structuring, unstructured
from swarm.ports._system import (
    LoopBudget,
    System,
    current_task,
    may_be_eager,
    one_loop_turn,
    task_getter,
)
from swarm.ports._typed_call import TypedCall

__all__ = [
    "HARD_DOCUMENT_BYTES",
    "KEEP",
    "Activity",
    "AgentCall",
    "Around",
    "AttemptCall",
    "Clock",
    "Codec",
    "Condition",
    "Deadlines",
    "Entropy",
    "Entry",
    "Expect",
    "ExpectFolder",
    "Guard",
    "HandleCall",
    "HandoffCall",
    "Holder",
    "Inboxes",
    "InterceptedBlock",
    "Interceptor",
    "Interceptors",
    "Journal",
    "Kernel",
    "Limits",
    "LocalKernel",
    "LoopBudget",
    "LoopClock",
    "Pause",
    "Plan",
    "Proceed",
    "PublishCall",
    "Reader",
    "Recovered",
    "RecoveryReport",
    "Refusing",
    "RetentionHold",
    "Ruling",
    "Runtime",
    "ShieldedOperation",
    "SpawnCall",
    "Standing",
    "StepCall",
    "SubmitCall",
    "System",
    "Tail",
    "Timer",
    "TypedCall",
    "UnknownEvent",
    "View",
    "Write",
    "announcement_to_json",
    "cause_of",
    "chain_of",
    "check_guard",
    "checked_interceptors",
    "conditions_of",
    "correlated",
    "current_activity",
    "current_cause",
    "current_identity",
    "current_runtime",
    "current_task",
    "current_trace",
    "decode_holders",
    "drives",
    "frames_of",
    "holder_record",
    "install_runtime",
    "is_cancelled",
    "may_be_eager",
    "misfit",
    "one_loop_turn",
    "payload_from_json",
    "payload_to_json",
    "retry_conflicts",
    "run_at_once",
    "standing",
    "structuring",
    "task_getter",
    "unknown_event_class",
    "unstructured",
]
