"""Publishing: what is asked of an event before it is committed."""

from typing import Any, Final

from swarm.bus._bus import Bus
from swarm.bus._receipts import RECEIPTS, receipt, receipt_path
from swarm.bus._records import Receipt
from swarm.bus._route import Route
from swarm.bus._shelf import Shelf
from swarm.bus._subscription import one_loop_turn
from swarm.errors import ConflictError, LimitExceeded
from swarm.model import EVENT_TYPE, AgentIdentity, event_type
from swarm.ports import (
    Condition,
    Expect,
    Guard,
    View,
    Write,
    current_activity,
    current_cause,
)

_BACKLOG: Final = 256
"""Events due to plain functions, before a publisher lets them run."""

_new_tuple: Final = tuple.__new__  # a NamedTuple's own `__new__` takes twice the time


class Publisher:
    """The way of events into a swarm's log."""

    def __init__(self, bus: Bus) -> None:
        """Publish on `bus`."""
        self._bus = bus
        self._kernel = bus.host.kernel
        self._local = bus.host.kernel.local
        self._pending = bus.inline.pending
        self._crowded = bus.crowded
        self._limit = bus.options.payload_bytes
        self._window = int(bus.options.dedupe_seconds * 1_000_000)
        self._receipts = Shelf(bus.host.kernel, RECEIPTS, bus.options.dedupe_keys)

    def publish_now(self, identity: AgentIdentity, payload: object) -> Receipt | None:
        """Commit an event if that takes no waiting; None: nothing was done.

        Raises:
            TypeError: It is no event.
            LimitExceeded: It is too large, or too many events led to it.
        """
        local, bus = self._local, self._bus
        weight = 0
        route = bus.routes.get(payload.__class__) or self._route(payload)
        if route.measure is not None:
            weight = self._weigh(route, payload)
        if (
            local is None
            or len(self._pending) > _BACKLOG
            or (self._crowded and route.pacing)
        ):
            return None
        if current_activity.get() is not None:
            self._check_depth()
        commit = local.commit_now(identity, events=(payload,), weight=weight)
        assert commit is not None  # it has an event
        return _new_tuple(Receipt, (commit.revision, bus.due, False))

    async def publish(
        self,
        identity: AgentIdentity,
        payload: object,
        key: str | None,
        guard: Guard | None,
    ) -> Receipt:
        """Commit an event, whatever it takes; see `Events.publish`."""
        bus = self._bus
        route = self._route(payload)
        weight = 0 if route.measure is None else self._weigh(route, payload)
        path = None if key is None else receipt_path(key)
        if current_activity.get() is not None:
            self._check_depth()
        await self._wait_for_room(type(payload))
        conditions: list[Condition] = []
        if guard is not None:
            conditions += guard.conditions()
        if path is None:
            commit = await self._commit(identity, payload, weight, (), conditions, None)
            return Receipt(commit, bus.due)
        conditions.append(Expect(path, 0))
        until = await self._kernel.read(_now) + self._window
        await self._receipts.reserve()
        write = receipt(path, type(payload), until)
        try:
            seq = await self._commit(
                identity, payload, weight, (write,), conditions, key
            )
        except BaseException as error:
            self._receipts.give_back()
            if isinstance(error, ConflictError) and error.path == path.text:
                return Receipt(error.current or 0, 0, duplicate=True)
            raise
        return Receipt(seq, bus.due)

    async def _commit(
        self,
        identity: AgentIdentity,
        payload: object,
        weight: int,
        writes: tuple[Write, ...],
        conditions: list[Condition],
        key: str | None,
    ) -> int:
        commit = await self._kernel.commit(
            identity,
            writes,
            conditions=conditions,
            events=(payload,),
            key=key,
            weight=weight,
        )
        assert commit is not None  # it has an event
        return commit.revision

    def _route(self, payload: object) -> Route:
        if isinstance(payload, type) and EVENT_TYPE in payload.__dict__:
            raise TypeError(f"publish an instance: {payload.__name__}(...)")
        event_type(type(payload))
        return self._bus.route(type(payload))

    def _weigh(self, route: Route, payload: Any) -> int:
        """Return how large a payload is, about, unless that is too much."""
        assert route.measure is not None  # who calls has looked
        weight = route.measure(payload, self._limit)
        if weight > self._limit:
            raise LimitExceeded(
                f"the payload of an event holds at most {self._limit} bytes "
                f"(BusOptions.payload_bytes); this one of {event_type(payload)} has "
                "more; store it elsewhere, and publish where"
            )
        return weight

    def _check_depth(self) -> None:
        cause = current_cause()
        if cause is not None and cause.depth > self._bus.options.depth:
            raise LimitExceeded(
                f"more than {self._bus.options.depth} events led to this one, one to "
                "the next (BusOptions.depth): handlers seem to publish in a circle"
            )

    async def _wait_for_room(self, cls: type[Any]) -> None:
        """Wait until every stream that publishers wait for has room."""
        bus = self._bus
        while True:
            pacing = bus.route(cls).pacing
            full = next((stream for stream in pacing if stream.is_full()), None)
            if full is not None:
                await full.wait_for_room()
            elif len(bus.inline.pending) > _BACKLOG:
                await one_loop_turn()
                return
            else:
                return


def _now(view: View) -> int:
    return view.now
