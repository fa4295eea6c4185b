"""Names of spans, attributes and metrics: all that swarm gives OpenTelemetry.

Attributes follow the semantic conventions for messaging and RPC where these fit; all
others begin with "swarm.".
"""

from typing import Final

SCOPE: Final = "swarm"
"""The instrumentation scope of tracer and meter."""

TRACEPARENT: Final = "traceparent"
"""The key in a task's metadata under which its submitter's span travels."""

# --- span names: an operation and its target, as "ask Researcher.research" ------------

ASK: Final = "ask"
TELL: Final = "tell"
TURN: Final = "turn"
PUBLISH: Final = "publish"
HANDLE: Final = "handle"
SUBMIT: Final = "submit"
ATTEMPT: Final = "attempt"
STEP: Final = "step"
HANDOFF: Final = "handoff"

# --- attributes of the conventions ----------------------------------------------------

ERROR_TYPE: Final = "error.type"
EXCEPTION_TYPE: Final = "exception.type"
EXCEPTION_MESSAGE: Final = "exception.message"
EXCEPTION_STACKTRACE: Final = "exception.stacktrace"
RPC_SYSTEM: Final = "rpc.system"
RPC_SERVICE: Final = "rpc.service"
RPC_METHOD: Final = "rpc.method"
MESSAGING_SYSTEM: Final = "messaging.system"
OPERATION_NAME: Final = "messaging.operation.name"
OPERATION_TYPE: Final = "messaging.operation.type"
DESTINATION: Final = "messaging.destination.name"
CONSUMER_GROUP: Final = "messaging.consumer.group.name"
MESSAGE_ID: Final = "messaging.message.id"
CONVERSATION_ID: Final = "messaging.message.conversation_id"
BATCH_COUNT: Final = "messaging.batch.message_count"

# --- attributes of swarm --------------------------------------------------------------

SWARM: Final = "swarm.name"
AGENT: Final = "swarm.agent.name"
AGENT_TYPE: Final = "swarm.agent.type"
AGENT_STATUS: Final = "swarm.agent.status"
METHOD: Final = "swarm.method"
CALL_KIND: Final = "swarm.call.kind"
TASK_ID: Final = "swarm.task.id"
TASK_KIND: Final = "swarm.task.kind"
TASK_STATUS: Final = "swarm.task.status"
TASK_ATTEMPT: Final = "swarm.task.attempt"
STEP_NAME: Final = "swarm.step.name"
HANDOFF_TO: Final = "swarm.handoff.to"
HANDLER_ATTEMPT: Final = "swarm.handler.attempt"
OPERATION: Final = "swarm.operation"
OUTCOME: Final = "swarm.outcome"
"""The end of an operation: "ok", "error" or "cancelled"."""

# --- metrics --------------------------------------------------------------------------

DURATION: Final = "swarm.operation.duration"
AGENTS: Final = "swarm.agents"
MAILBOX: Final = "swarm.agents.mailbox"
TASKS: Final = "swarm.tasks"
TASKS_READY: Final = "swarm.tasks.ready"
TASK_TIME_MEAN: Final = "swarm.task.status.time.mean"
TASK_TIME_P95: Final = "swarm.task.status.time.p95"
LOCKS_HELD: Final = "swarm.locks.held"
LOCKS_WAITING: Final = "swarm.locks.waiting"
LOCK_WAIT: Final = "swarm.locks.longest_wait"
COMMITS: Final = "swarm.commits"
DEAD_LETTERS: Final = "swarm.dead_letters"
LOOP_LAG: Final = "swarm.loop.lag"
