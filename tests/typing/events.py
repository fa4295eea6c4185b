"""What mypy --strict and pyright infer for events; checked by both, never run.

Each `type: ignore` proves to both that the error is there: an unused one is itself an
error (`warn_unused_ignores`, `reportUnnecessaryTypeIgnoreComment`).
"""

# pyright: strict, reportUnnecessaryTypeIgnoreComment=true

import re
from typing import Any, assert_type

from swarm import (
    Agent,
    AgentStarted,
    AgentStopped,
    Event,
    EventStream,
    Ref,
    Swarm,
    TaskFailed,
    event,
    on,
)


@event("order.placed")
class OrderPlaced:
    order_id: str


@event("order.placed.big")
class BigOrder(OrderPlaced):
    total: int = 0


class Billing(Agent):
    @on(OrderPlaced)
    async def placed(self, event: Event[OrderPlaced]) -> str:
        return event.payload.order_id

    @on(BigOrder)  # what takes an order takes a big one
    async def big(self, event: Event[OrderPlaced]) -> None: ...

    @on(OrderPlaced, where=lambda e: e.payload.order_id == "x")
    async def some(self, event: Event[OrderPlaced]) -> None: ...

    @on(OrderPlaced, where=lambda e: e.payload.total == 1)  # type: ignore[attr-defined]  # no total
    async def wrong_where(self, event: Event[OrderPlaced]) -> None: ...

    @on([AgentStarted, AgentStopped])
    async def agents(self, event: Event[AgentStarted | AgentStopped]) -> None: ...

    @on("order.*", where=lambda e: e.seq > 1)
    @on(re.compile("x"))
    async def anything(self, event: Event[Any]) -> None: ...

    @on(OrderPlaced)
    @on(TaskFailed)
    async def both(self, event: Event[OrderPlaced | TaskFailed]) -> None: ...

    @on(TaskFailed)  # type: ignore[arg-type]  # another class
    async def wrong(self, event: Event[OrderPlaced]) -> None: ...

    @on(BigOrder)
    @on(OrderPlaced)  # type: ignore[arg-type]  # not every order is big
    async def narrow(self, event: Event[BigOrder]) -> None: ...

    @on(TaskFailed)  # type: ignore[arg-type]  # takes no event
    async def none(self) -> None: ...

    @on("task.*")  # type: ignore[arg-type]  # takes two
    async def two(self, event: Event[Any], more: str) -> None: ...

    @on(TaskFailed)  # type: ignore[arg-type]  # is not async
    def plain(self, event: Event[TaskFailed]) -> None: ...


async def check(swarm: Swarm, ref: Ref[Billing], ev: Event[OrderPlaced]) -> None:
    assert_type(await ref.ask(Billing.placed, ev), str)
    events = swarm.events
    assert_type(events.subscribe(OrderPlaced), EventStream[OrderPlaced])
    filtered = events.subscribe(
        OrderPlaced, where=lambda e: e.payload.order_id == "x", source="ada"
    )
    assert_type(filtered, EventStream[OrderPlaced])
    assert_type(events.subscribe("order.*"), EventStream[Any])
    assert_type(await events.wait_for(OrderPlaced), Event[OrderPlaced])
    assert_type(await events.wait_for("order.*", timeout=5), Event[Any])
    assert_type(events.subscribe([OrderPlaced, "task.*"]), EventStream[Any])
    assert_type(events.subscribe(where=lambda e: e.seq > 1), EventStream[Any])
    async with filtered as stream:
        async for each in stream:
            assert_type(each, Event[OrderPlaced])
            assert_type(each.payload.order_id, str)
        assert_type(await anext(stream), Event[OrderPlaced])
