"""Publish: check an event, wait for full streams, commit it."""

# ruff: noqa: SLF001 - what users do not need of a recipient has an underscore

import copy
from collections.abc import Awaitable, Callable
from typing import Any, Final, cast

import attrs

from swarm.bus._bounded_folder import BoundedFolder
from swarm.bus._bus import Bus
from swarm.bus._calls import Route
from swarm.bus._dead_letter import text_of
from swarm.bus._history import RECEIPTS
from swarm.bus._offsets import SCHEMA
from swarm.bus._records import Receipt
from swarm.bus._runs import with_trace_of
from swarm.errors import ConflictError, InvalidPath, InvalidValue, LimitExceeded
from swarm.model import (
    EVENT_TYPE,
    MICRO,
    OWNER,
    UNKNOWN,
    AgentIdentity,
    Event,
    Path,
    SystemMaintenance,
    event_type,
    is_fixed,
    shape_of,
    shown,
)
from swarm.ports import (
    Condition,
    Expect,
    Guard,
    Proceed,
    PublishCall,
    View,
    Write,
    conditions_of,
    current_activity,
    current_cause,
    current_trace,
    misfit,
    structuring,
)

_new_tuple: Final = tuple.__new__  # a NamedTuple's own `__new__` takes twice the time


@attrs.frozen
class PublishRecord:
    """The document of a publish key: `receipts.<type>.<publisher>.<key>`.

    The commit that publishes the event writes it on condition that it is absent. So
    its version is the sequence number of the event, and two processes cannot both
    publish (E8).

    Attributes:
        type: The dotted type of the event.
    """

    type: str

    def to_json(self) -> dict[str, Any]:
        """Return the document."""
        return {"schema": SCHEMA, "type": self.type}


class Publisher:
    """Publishes the events of one swarm."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus
        self._kernel = bus.host.kernel
        self._local = bus.host.kernel.local
        self._crowded = bus.crowded
        self._limit = bus.options.payload_bytes
        self._window = int(bus.options.dedupe_seconds * MICRO)
        self._keys = BoundedFolder(
            bus.host.kernel, RECEIPTS, bus.options.dedupe_keys, _forgotten
        )

    def prepare(self, payload: object) -> tuple[object, int]:
        """Return an event as it may be committed, and its weight in bytes.

        Raises:
            TypeError: The payload is not an event.
            AccessDenied: Only the swarm itself announces events of this type.
            InvalidValue: It is not JSON; or it is mutable and cannot be copied.
            LimitExceeded: It is too large, or too many events led to it.
        """
        weight = self._route(payload).measure(payload)
        if weight > self._limit:
            payload, weight = self._settled(payload, weight)
        if current_activity.get() is not None:
            self._check_depth()
        return payload, weight

    async def publish(
        self,
        identity: AgentIdentity,
        guard: Guard | None,
        payload: object,
        key: str | None,
    ) -> Receipt:
        """Commit an event, whatever it takes; see `Events.publish`."""
        payload, weight = self.prepare(payload)
        path = None if key is None else key_path(identity, payload, key)
        await self._wait_for_room(type(payload))
        conditions = () if guard is None else conditions_of(guard, self._kernel)
        if path is not None and key is not None:
            return await self._once(identity, payload, weight, conditions, path, key)
        commit = await self._kernel.commit(
            identity, conditions=conditions, events=(payload,), weight=weight
        )
        assert commit is not None  # it has an event
        return Receipt(commit.revision, self._due(Event(commit, 0)))

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

        The condition of the commit decides. Looking first saves making room for a
        record that is not written, which might prune the very one that is there.
        """
        now, known = await self._kernel.read(_look, path)
        if known is not None:
            await self._kernel.commit(identity, conditions=conditions)
            return Receipt(known, 0, duplicate=True)
        await self._keys.reserve()
        record = PublishRecord(event_type(payload))
        try:
            commit = await self._kernel.commit(
                identity,
                (Write(path, record=record, expires=now + self._window),),
                conditions=(*conditions, Expect(path, 0)),
                events=(payload,),
                key=key,
                weight=weight,
            )
        except BaseException as error:
            self._keys.give_back()
            if isinstance(error, ConflictError) and error.path == path.text:
                return Receipt(error.current or 0, 0, duplicate=True)
            raise
        assert commit is not None  # it has an event
        return Receipt(commit.revision, self._due(Event(commit, 0)))

    def _due(self, event: Event[Any]) -> int:
        """Return how many recipients of this process a committed event is due to."""
        if self._local is not None:
            return self._bus.due  # counted inside the commit
        return sum(
            recipient.selector.matches(event, recipient.may_read)
            for recipient in self._bus
        )

    def _route(self, payload: object) -> Route:
        if isinstance(payload, type) and EVENT_TYPE in payload.__dict__:
            raise TypeError(f"publish an instance: {payload.__name__}(...)")
        event_type(type(payload))
        return self._bus.route(type(payload))

    def _settled(self, payload: Any, weight: int) -> tuple[Any, int]:
        """Return an isolated payload and its size in bytes (G9).

        A payload with more than text and numbers in its fields, or with others than
        its class says, has to be JSON that the class can be made of again, so that
        every store and process can hold it.
        """
        if weight == UNKNOWN:
            shape = shape_of(type(payload))
            if shape is not None:
                size = shape.weigh(payload, self._bus.host.codec.encode)
                if size <= self._limit:
                    return shape.copied(payload), size
            weight = len(self._written(payload))
        if weight > self._limit:
            raise LimitExceeded(
                f"the payload of an event holds at most {self._limit} bytes "
                f"(BusOptions.payload_bytes); this one of {event_type(payload)} has "
                f"{weight}; store it elsewhere, and publish where"
            )
        return (payload if is_fixed(payload) else _copied(payload)), weight

    def _written(self, payload: Any) -> bytes:
        """Return a payload as JSON that its class can be made of again.

        Raises:
            InvalidValue: JSON cannot hold it, or a field is not what its class says.
            LimitExceeded: It nests too deep, or is too large for any document.
        """
        try:
            told = structuring().unstructure(payload, unstructure_as=type(payload))
            written = self._bus.host.codec.encode(told)
        except RecursionError:
            raise LimitExceeded(
                f"the payload of this {event_type(payload)} nests too deep (Limits."
                "depth)"
            ) from None
        except LimitExceeded as error:
            error.add_note(f"it is the payload of an event, {event_type(payload)}")
            raise
        except Exception as error:
            raise InvalidValue(
                "the payload of an event has to be JSON, for stores and other "
                f"processes; {event_type(payload)}: {text_of(error)}"
            ) from error
        try:
            structuring().structure(told, type(payload))
        except Exception as error:
            raise InvalidValue(
                "the fields of an event have to be what its class says, for stores and "
                f"other processes make it again; {event_type(payload)}: {misfit(error)}"
            ) from error
        return written

    def _check_depth(self) -> None:
        cause = current_cause()
        if cause is not None and cause.depth > self._bus.options.depth:
            raise self._bus.loop_error()

    async def _wait_for_room(self, cls: type[Any]) -> None:
        """Wait at one full stream after the other until all have room."""
        passed: set[Any] = set()
        while self._crowded:
            streams = self._bus.route(cls).blocking
            passed = {stream for stream in passed if stream._room() > 0}
            full = (s for s in streams if s not in passed and s._must_wait())
            stream = next(full, None)
            if stream is None:
                return
            await stream._wait_for_room()
            passed.add(stream)


class Publishing:
    """The part of `swarm.events` that publishes, as one identity."""

    __slots__ = ("_bus", "_host", "_identity", "_pause", "_publisher")

    def __init__(self, publisher: Publisher, bus: Bus, identity: AgentIdentity) -> None:
        self._publisher = publisher
        self._bus = bus
        self._host = bus.host
        self._identity = identity
        self._pause = bus.host.runtime.pause

    async def publish(
        self,
        payload: object,
        *,
        key: str | None = None,
        guard: Guard | None = None,
    ) -> Receipt:
        """Commit an event: then it is in history, and due to every subscription.

        `publish` never waits for handlers, runs none, and raises nothing of theirs. It
        waits only while a stream with `overflow="block"` is full, first come, first
        served. Cancelling the wait publishes nothing.

        Args:
            payload: An instance of an `@event` class, of JSON values. It is copied if
                it can change.
            key: Publish only if this publisher has published no event of this type and
                key of late (`BusOptions.dedupe_seconds`). The key is a name in the
                tree, at `receipts.<type>.<publisher>.<key>`.
            guard: Publish only while this lease, or other guard, holds at the commit.

        Raises:
            TypeError: The payload is not an event.
            InvalidValue: JSON cannot hold the payload, a field is of another type
                than its class says, or the payload cannot be copied.
            AccessDenied: Only the swarm itself announces this event: one of the state,
                of agents, locks, tasks, handoffs or the configuration.
            StaleLease: The guard is a lease that does not hold any more.
            LimitExceeded: The payload is larger than `BusOptions.payload_bytes`, or
                more than `BusOptions.depth` events led to this one.
            DeadlockError: The reader of a full stream waits for this code.
            InvalidPath: The key cannot be a name in the tree.
            Closed: The swarm is closed.
            WrongLoop: Called from another event loop.
        """
        if not self._host.is_direct:
            interceptors = self._host.interceptors
            if interceptors is not None and interceptors.publish is not None:
                return await self._intercepted(
                    interceptors.publish, guard, payload, key
                )
            if self._pause is not None:
                await self._pause()
        publisher, bus = self._publisher, self._bus
        local = publisher._local
        if key is None and guard is None and local is not None:
            # The fast path, written out: a commit that waits for nothing.
            route = bus.routes.get(payload.__class__) or publisher._route(payload)
            if not (bus.crowded and route.blocking):
                weight = route.measure(payload)
                if weight > publisher._limit:
                    payload, weight = publisher._settled(payload, weight)
                if current_activity.get() is not None:
                    publisher._check_depth()
                commit = local.commit_now(
                    self._identity, events=(payload,), weight=weight
                )
                assert commit is not None  # it has an event
                return _new_tuple(Receipt, (commit.revision, bus.due, False))
        return await publisher.publish(self._identity, guard, payload, key)

    async def _intercepted(
        self,
        around: Callable[[PublishCall, Proceed[PublishCall]], Awaitable[Any]],
        guard: Guard | None,
        payload: object,
        key: str | None,
    ) -> Receipt:
        """Publish with interceptors around."""
        trace = current_trace()

        async def proceed(call: PublishCall) -> Receipt:
            async def publish() -> Receipt:
                if self._pause is not None:
                    await self._pause()
                return await self._publisher.publish(
                    self._identity, guard, call.payload, call.key
                )

            activity = current_activity.get()
            is_turn = activity is not None and activity.is_turn()
            if is_turn or call.trace == trace:
                return await publish()
            return cast(Receipt, await with_trace_of(call.trace, publish))

        call = PublishCall(
            publisher=self._identity, payload=payload, key=key, trace=trace
        )
        return cast(Receipt, await around(call, proceed))


def key_path(identity: AgentIdentity, payload: object, key: str) -> Path:
    """Return the path of the record of a publish key.

    Keys of different event types, and of different publishers, are different keys.

    Raises:
        InvalidPath: The key is not text, or cannot be a name in the tree.
    """
    if type(key) is not str:
        raise InvalidPath(f"a key is text, not {shown(key)}")
    publisher = "program" if identity == OWNER else f"agent:{identity.agent_id}"
    return RECEIPTS.child(event_type(payload), publisher, key)


def _copied(payload: Any) -> Any:
    """Return a deep copy.

    Raises:
        InvalidValue: The payload cannot be copied.
    """
    try:
        made = copy.deepcopy(payload)
    except Exception as error:
        raise InvalidValue(
            f"a mutable payload is copied when it is published; this "
            f"{event_type(payload)} cannot be copied: {text_of(error)}"
        ) from error
    if type(made) is not type(payload):
        raise InvalidValue(f"a copy of this {event_type(payload)} is no such event")
    return made


def _forgotten(count: int) -> tuple[SystemMaintenance]:
    text = f"{count} publish keys, the oldest, were pruned (BusOptions.dedupe_keys)"
    return (SystemMaintenance("keys-forgotten", text),)


def _look(view: View, path: Path) -> tuple[int, int | None]:
    """Return kernel time, and the version of a publish record if it exists."""
    document = view.find(path)
    return view.now, None if document is None else document.version
