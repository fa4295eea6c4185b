"""Publishing: what is asked of an event before it is committed."""

import copy
from itertools import count
from typing import Any, Final

from swarm.bus._bus import Bus
from swarm.bus._core import Pacing
from swarm.bus._pace import Pace
from swarm.bus._receipts import RECEIPTS, receipt, receipt_path
from swarm.bus._records import Receipt
from swarm.bus._route import Route
from swarm.bus._shelf import Shelf
from swarm.bus._written import text_of
from swarm.errors import ConflictError, InvalidValue, LimitExceeded
from swarm.model import (
    EVENT_TYPE,
    AgentIdentity,
    Path,
    SystemMaintenance,
    event_type,
    is_fixed,
    weigh,
)
from swarm.ports import (
    Condition,
    Expect,
    Guard,
    View,
    conditions_of,
    current_activity,
    current_cause,
)

_new_tuple: Final = tuple.__new__  # a NamedTuple's own `__new__` takes twice the time


class Publisher:
    """The way of events into a swarm's log."""

    def __init__(self, bus: Bus) -> None:
        """Publish on `bus`."""
        self._bus = bus
        self._kernel = bus.host.kernel
        self._local = bus.host.kernel.local
        self._crowded = bus.crowded
        self._tickets = count(1)
        self._limit = bus.options.payload_bytes
        self._window = int(bus.options.dedupe_seconds * 1_000_000)
        self._receipts = Shelf(
            bus.host.kernel, RECEIPTS, bus.options.dedupe_keys, _forgotten
        )

    def publish_now(self, identity: AgentIdentity, payload: object) -> Receipt | None:
        """Commit an event if that takes no waiting; None: nothing was done.

        Raises:
            TypeError: It is no event.
            InvalidValue: It holds what can change, and cannot be copied.
            LimitExceeded: It is too large, or too many events led to it.
        """
        local, bus = self._local, self._bus
        route = bus.routes.get(payload.__class__) or self._route(payload)
        weight = route.measure(payload)
        if weight > self._limit:
            payload, weight = self._settled(payload)
        if local is None or (self._crowded and route.pacing):
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
        weight = self._route(payload).measure(payload)
        if weight > self._limit:
            payload, weight = self._settled(payload)
        path = None if key is None else receipt_path(key)
        if current_activity.get() is not None:
            self._check_depth()
        await self._wait_for_room(type(payload))
        conditions = () if guard is None else conditions_of(guard, self._kernel)
        if path is not None and key is not None:
            return await self._once(identity, payload, weight, conditions, path, key)
        commit = await self._kernel.commit(
            identity, conditions=conditions, events=(payload,), weight=weight
        )
        assert commit is not None  # it has an event
        return Receipt(commit.revision, bus.due)

    async def _once(
        self,
        identity: AgentIdentity,
        payload: object,
        weight: int,
        conditions: tuple[Condition, ...],
        path: Path,
        key: str,
    ) -> Receipt:
        """Publish unless an event of this key was published of late (E8).

        What decides is the condition of the commit. Looking first saves making room
        for a receipt that is not to come, which might even be the one that is there.
        """
        now, known = await self._kernel.read(_look, path)
        if known is not None:
            await self._kernel.commit(identity, conditions=conditions)
            return Receipt(known, 0, duplicate=True)
        await self._receipts.reserve()
        try:
            commit = await self._kernel.commit(
                identity,
                (receipt(path, type(payload), now + self._window),),
                conditions=(*conditions, Expect(path, 0)),
                events=(payload,),
                key=key,
                weight=weight,
            )
        except BaseException as error:
            self._receipts.give_back()
            if isinstance(error, ConflictError) and error.path == path.text:
                return Receipt(error.current or 0, 0, duplicate=True)
            raise
        assert commit is not None  # it has an event
        return Receipt(commit.revision, self._bus.due)

    def _route(self, payload: object) -> Route:
        if isinstance(payload, type) and EVENT_TYPE in payload.__dict__:
            raise TypeError(f"publish an instance: {payload.__name__}(...)")
        event_type(type(payload))
        return self._bus.route(type(payload))

    def _settled(self, payload: Any) -> tuple[Any, int]:
        """Return a payload that nobody else can change, and its size, about (G9)."""
        weight = weigh(payload, self._limit)
        if weight > self._limit:
            raise LimitExceeded(
                f"the payload of an event holds at most {self._limit} bytes "
                f"(BusOptions.payload_bytes); this one of {event_type(payload)} has "
                "more; store it elsewhere, and publish where"
            )
        return (payload if is_fixed(payload) else _copied(payload)), weight

    def _check_depth(self) -> None:
        cause = current_cause()
        if cause is not None and cause.depth > self._bus.options.depth:
            raise LimitExceeded(
                f"more than {self._bus.options.depth} events led to this one, one to "
                "the next (BusOptions.depth): handlers seem to publish in a circle"
            )

    async def _wait_for_room(self, cls: type[Any]) -> None:
        """Wait until whatever has to be waited for has room."""
        if self._crowded:
            ticket = next(self._tickets)
            while full := self._full(cls, ticket):
                for each in full:
                    if isinstance(each, Pace):  # its turns begin now, with the others'
                        each.watch()
                await full[0].wait_for_room(ticket)

    def _full(self, cls: type[Any], ticket: int) -> list[Pacing]:
        pacing = self._bus.route(cls).pacing
        return [each for each in pacing if each.is_full(ticket)]


def _copied(payload: Any) -> Any:
    """Return a deep copy.

    Raises:
        InvalidValue: There cannot be one.
    """
    try:
        made = copy.deepcopy(payload)
    except Exception as error:
        raise InvalidValue(
            f"an event holds what nobody else can change, so a copy is published; this "
            f"{event_type(payload)} cannot be copied: {text_of(error)}"
        ) from error
    if type(made) is not type(payload):
        raise InvalidValue(f"a copy of this {event_type(payload)} is no such event")
    return made


def _forgotten(count: int) -> tuple[SystemMaintenance]:
    text = f"{count} publish keys, the oldest, had to go (BusOptions.dedupe_keys)"
    return (SystemMaintenance("keys-forgotten", text),)


def _look(view: View, path: Path) -> tuple[int, int | None]:
    """Return kernel time, and the version of a receipt if there is one."""
    document = view.find(path)
    return view.now, None if document is None else document.version
