"""Publish events, subscribe to them, and look at those of the past.

An event is an instance of a class that `@event` names. It is committed to the log,
with the documents of the same commit if there are any, so state and events cannot
disagree. The revision of the commit is the event's sequence number, `seq`.

```python
import asyncio

from swarm import Event, Swarm, event


@event("order.placed")
class OrderPlaced:
    order_id: str


async def main() -> None:
    async with Swarm() as swarm:

        async def bill(ev: Event[OrderPlaced]) -> None:
            print("bill", ev.payload.order_id)
            #> bill o-1

        await swarm.events.on(OrderPlaced, bill, name="billing")
        async with swarm.events.subscribe("order.*") as orders:
            receipt = await swarm.events.publish(OrderPlaced("o-1"), key="o-1")
            again = await swarm.events.publish(OrderPlaced("o-1"), key="o-1")
            print(again.duplicate, again.seq == receipt.seq)
            #> True True
            async for ev in orders:
                print(ev.type, ev.payload.order_id, ev.source)
                #> order.placed o-1 owner
                break


asyncio.run(main())
```

## Publishing

- `publish` commits the event. When it returns, the event is in history and due to
  every subscription. It runs no handler, waits for none, and raises no handler's
  exception.
- It waits only for full streams with `overflow="block"`, first come, first served at
  each stream. If the reader of the stream waits for the publisher in turn, the wait
  that closes the cycle raises `DeadlockError`.
- A payload is JSON: text, numbers, booleans, None, `datetime`, and lists, dicts, attrs
  classes, dataclasses and enums of these. Anything else is an `InvalidValue` that names
  the field, on every store. A payload that can change is copied.
- `key=` publishes once: an event of the same type, publisher and key of the last two
  minutes makes it a duplicate. `guard=` publishes only while a lease holds.
- The `state.*`, `agent.*`, `lock.*`, `task.*` and `handoff.*` events of swarm and
  `system.config_changed` are announced by the swarm in the commit that they tell of;
  publishing one raises `AccessDenied`.

## Subscribing

- A pattern is an event class, a dotted pattern (`*` is one word, `**` any number), a
  compiled regex, or a list of these. `source=`, `source_type=`, `correlation_id=` and
  `where=` narrow it. `where` is called soon after the commit, never in it; an
  exception in it means no match.
- An event class is its event type: when a notebook cell defines the class again, the
  subscriptions to the old class get the events of the new one.
- `subscribe` returns an async iterator with a bounded buffer; see `EventStream`.
- `wait_for` returns the first event that matches, and takes a `timeout=`.
- `on` calls a handler. A plain function is called in the loop's next turn, in the
  order of the commits; one that returns something to await fails with a `TypeError`.
  An `async def` runs in a task of the swarm, each run with context variables of its
  own.
- `@on(OrderPlaced)` makes a method of an agent a handler: each event is a turn of the
  agent, and an exception goes to its supervisor.
- `ev.timestamp` is a `datetime`; `ev.at` is the same time as the log counts it, in
  microseconds since 1970.
- `pause`, `resume`, `cancel` and `stats` control and count each subscription. Those
  of an agent end with it, also when it is built anew.

## Deliveries

- `at-most-once` (default): an event is acknowledged before the handler is called; it
  is dropped when `buffer` is full, counted and alerted.
- `at-least-once` (default with `name=`): an event is repeated until the handler has
  returned or its retries are used up.
- `exactly-once`: the handler is called with `(event, tx)`; its writes through `tx`
  and the acknowledgement are one commit.
- Effects outside of the swarm are at least once; `Attempt.key` is their idempotency
  key.
- `ordered=True` handles one event after the other; a retry delays its successors.
  `partition=` keeps order per key; `ordered=False` runs up to `max_in_flight`
  handlers.
- `name=` keeps the position at `subscriptions.<name>`: the next subscription of the
  name goes on there. It is written down 50 ms after an event is handled, or after 64
  events; a crash repeats those in between (`exactly-once` writes it with the
  effects). The log keeps what a name has yet to handle, also across restarts and in
  every process on a server, up to `Limits.held_commits` and `held_bytes`; beyond that
  the name raises `Compacted`. `events.forget(name)` lets go of it.
- `group=` shares the events among several handlers: each goes to exactly one.
- `batch=Batch(50, 0.1)` hands over lists.

## Failures

- `on_error` is `"retry"` with `backoff` up to `max_retries` and then a dead letter,
  `"dead-letter"` at once, or `"ignore"`.
- A dead letter is a document at `dead_letters.<subscription>.<event id>` with the
  event and the error as data. `events.dead_letters` lists, requeues and discards
  them.
- An exception that is not an `Exception`, such as that of `pytest.fail`, ends the
  swarm and comes out of its block; the event is a dead letter all the same.
- Everything dropped, lost or given up is counted, and published as a `system.alert`;
  for a series of losses, each time that their number has doubled.
- An event that more than `BusOptions.depth` (64) events led to ends an event loop:
  `publish` refuses it. Changes of the state that deep reach streams, but no handler:
  for at-least-once they are dead letters, else they are counted.

## History

`query` looks at the newest 4,096 events of the last hour (`BusOptions`), page by page
with `limit` and `after_seq`. `replay` calls a handler with the past and goes on with
the present, without a gap or a duplicate; `since=` begins a subscription there. A
revision that history does not reach any more raises `Compacted`.

## Rights

A policy decides what an identity sees: events of documents, locks, tasks and handoffs
that it may not read are hidden from its streams, handlers and queries. Positions and
dead letters belong to the program or to the type of the agent that subscribed; others
need the right to write them.

## Limits

A payload holds 256 KiB, a stream or handler buffer 256 events, 16,384 events wait for
plain functions, 10,000 publish keys and 1,000 dead letters are kept. All are options
of `BusOptions`, `subscribe` and `on`.
"""

from swarm.bus._bus import Bus, Recipient
from swarm.bus._contracts import Also, BusHost, Subscription, SubscriptionScope
from swarm.bus._dead_letter import DeadLetter, ErrorInfo, WrittenEvent
from swarm.bus._dead_letters import DeadLetters
from swarm.bus._events import Events, keep_active_agents, record_completed_tasks
from swarm.bus._functions import PostingRecipient
from swarm.bus._history import Page, events_of
from swarm.bus._holds import needed_after
from swarm.bus._patterns import EventPattern, Selector, marked, may_see, on, select
from swarm.bus._publisher import Publisher
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
    "events_of",
    "keep_active_agents",
    "marked",
    "may_see",
    "needed_after",
    "on",
    "record_completed_tasks",
    "select",
]
