"""TBD."""

from swarm.bus._bus import Bus, Recipient
from swarm.bus._dead_letters import DeadLetter, ErrorInfo, WrittenEvent
from swarm.bus._events import Events
from swarm.bus._failures import DeadLetters
from swarm.bus._functions import PostingRecipient
from swarm.bus._history import Page
from swarm.bus._host import Also, BusHost
from swarm.bus._patterns import EventPattern, Selector, marked, on, select
from swarm.bus._publisher import Publisher
from swarm.bus._reactions import keep_active_agents, record_completed_tasks
from swarm.bus._records import (
    Batch,
    BusOptions,
    Delivery,
    OnError,
    Overflow,
    Receipt,
    SubscriptionStats,
)
from swarm.bus._runs import Attempt
from swarm.bus._streams import EventStream
from swarm.bus._subscription import Subscription, SubscriptionScope

__all__ = [
    "Also",
    "Attempt",
    "Batch",
    "Bus",
    "BusHost",
    "BusOptions",
    "DeadLetter",
    "DeadLetters",
    "Delivery",
    "ErrorInfo",
    "EventPattern",
    "EventStream",
    "Events",
    "OnError",
    "Overflow",
    "Page",
    "PostingRecipient",
    "Publisher",
    "Receipt",
    "Recipient",
    "Selector",
    "Subscription",
    "SubscriptionScope",
    "SubscriptionStats",
    "WrittenEvent",
    "keep_active_agents",
    "marked",
    "on",
    "record_completed_tasks",
    "select",
]
