"""Events: what happened, said once, in the commit that made it happen."""

import datetime
from collections.abc import Callable
from typing import Any, Final, Generic, TypeVar, dataclass_transform

import attrs

from swarm.model._identity import AgentIdentity
from swarm.model._value import to_datetime

P_co = TypeVar("P_co", covariant=True)
C = TypeVar("C", bound=type[Any])

EVENT_TYPE: Final = "__swarm_event__"


@dataclass_transform(frozen_default=True, field_specifiers=(attrs.field,))
def event(name: str) -> Callable[[C], C]:
    """Make a class an event type called `name`, a frozen attrs class.

    Args:
        name: The dotted type, such as "order.placed".

    Raises:
        ValueError: The name is not dotted lower-case words.
    """
    words = name.split(".")
    if name != name.lower() or not all(word.isidentifier() for word in words):
        raise ValueError(f"an event type is dotted lower-case words, not {name!r}")

    def make(cls: C) -> C:
        made = attrs.frozen(cls)
        setattr(made, EVENT_TYPE, name)
        return made

    return make


def event_type(payload: object) -> str:
    """Return the dotted type of an event's payload or class.

    Raises:
        TypeError: The class was not made by `@event`.
    """
    cls = payload if isinstance(payload, type) else type(payload)
    name = cls.__dict__.get(EVENT_TYPE)
    if name is None:
        raise TypeError(f'{cls.__name__} is no event; decorate it: @event("some.name")')
    return str(name)


@attrs.frozen(kw_only=True)
class Event(Generic[P_co]):
    """One event as subscribers and history see it.

    Attributes:
        id: Unique for ever.
        seq: The revision of its commit; grows, never repeats for another commit.
        type: Its dotted type.
        source: Who caused it.
        at: When, in microseconds since 1970; never decreases with `seq`.
        payload: What was published.
        correlation_id: The same for all that one outside request led to.
        causation_id: The id of the event or call this one is a consequence of.
        trace: A W3C `traceparent`, when the program traces.
    """

    id: str
    seq: int
    type: str
    source: AgentIdentity
    at: int
    payload: P_co
    correlation_id: str | None = None
    causation_id: str | None = None
    trace: str | None = None

    @property
    def timestamp(self) -> datetime.datetime:
        """When it happened, in UTC."""
        return to_datetime(self.at)
