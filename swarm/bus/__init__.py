"""Telling those who asked: publishing, subscriptions, delivery, history, replay."""

from swarm.bus._attempt import Attempt
from swarm.bus._bus import Bus
from swarm.bus._dead import DeadLetters
from swarm.bus._events import Events
from swarm.bus._host import Also, BusHost, made_of
from swarm.bus._letter import DeadLetter
from swarm.bus._mark import marked, on
from swarm.bus._patterns import EventPattern, Selector, select
from swarm.bus._posting import PostingRecipient
from swarm.bus._publisher import Publisher
from swarm.bus._query import Page
from swarm.bus._reactions import keep_active_agents, record_completed_tasks
from swarm.bus._records import (
    Batch,
    BusOptions,
    Delivery,
    OnError,
    Overflow,
    Receipt,
    RetryBackoff,
    SubscriptionStats,
)
from swarm.bus._stream import EventStream
from swarm.bus._subscription import Recipient, Subscription
from swarm.bus._tenure import Tenure
from swarm.bus._written import ErrorInfo, WrittenEvent

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
    "RetryBackoff",
    "Selector",
    "Subscription",
    "SubscriptionStats",
    "Tenure",
    "WrittenEvent",
    "keep_active_agents",
    "made_of",
    "marked",
    "on",
    "record_completed_tasks",
    "select",
]
