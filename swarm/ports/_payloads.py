"""Event payloads as JSON, and back, for stores and other processes."""

from functools import cache, lru_cache
from typing import Any, Final, TypeAlias

import attrs
import orjson

from swarm.model import (
    EVENT_TYPE,
    JSON,
    Announcement,
    class_name,
    event_type,
    find_event_class,
)
from swarm.ports._codec import HARD_DOCUMENT_BYTES, Codec, Limits
from swarm.ports._structure import structuring

Told: TypeAlias = tuple[str, str, JSON]
"""The event type, the class it was defined as, and the fields; None: not JSON. Of a
payload that is no event, two empty texts and the value."""

_CODEC: Final = Codec(Limits(document_bytes=HARD_DOCUMENT_BYTES))

_PLAIN: Final = frozenset((str, int, float, bool, type(None)))


@attrs.frozen
class UnknownEvent:
    """The payload of an event whose class this process has not imported.

    Attributes:
        data: The fields, as JSON.
    """

    data: JSON


@cache
def unknown_event_class(name: str) -> type[UnknownEvent]:
    """Return the class that stands in for an event class which is not imported."""
    made = type(f"Unknown_{name.replace('.', '_')}", (UnknownEvent,), {"__slots__": ()})
    setattr(made, EVENT_TYPE, name)
    return made


def payload_to_json(payload: Any) -> Told:
    """Return what is needed to make the payload again; never raises.

    A payload that JSON cannot hold is told as None.
    """
    cls = payload.__class__
    if EVENT_TYPE not in cls.__dict__:  # rules may commit any object; values stay
        return "", "", payload if cls in _PLAIN else None
    if isinstance(payload, UnknownEvent):
        return event_type(cls), "", payload.data
    of_type, defined, names, _ = _described(cls)
    told: Any = {name: getattr(payload, name) for name in names}
    if not _PLAIN.issuperset(map(type, told.values())):
        try:
            told = structuring().unstructure(payload, unstructure_as=cls)
            told = orjson.loads(_CODEC.encode(told))
        except Exception:  # noqa: BLE001  # any of it may be code of the user
            told = None
    return of_type, defined, told


def announcement_to_json(announced: Announcement) -> Told:
    """Return what `payload_to_json` does for a payload that is not made yet."""
    cls, *given = announced
    if isinstance(cls, type) and EVENT_TYPE in cls.__dict__:
        of_type, defined, names, defaults = _described(cls)
        told = dict(zip(names, given, strict=False))
        if len(told) < len(names):
            told = defaults | told
        if len(told) == len(names) and _PLAIN.issuperset(map(type, told.values())):
            return of_type, defined, told
    return payload_to_json(cls(*given))


@lru_cache(maxsize=1_024)
def _described(
    cls: type[Any],
) -> tuple[str, str, tuple[str, ...], dict[str, JSON]]:
    """Return the event type of a class, where it was defined, its fields, and defaults.

    These are of the fields that need no value, but for what is made anew each time.
    """
    fields = attrs.fields(cls)
    defaults = {f.name: f.default for f in fields if type(f.default) in _PLAIN}
    return event_type(cls), class_name(cls), tuple(f.name for f in fields), defaults


def payload_from_json(name: str, defined: str, told: JSON) -> Any:
    """Return the payload; an `UnknownEvent` if its class is unknown or has changed."""
    if not name:
        return told
    cls = find_event_class(name, defined)
    if cls is not None and told is not None:
        try:
            return structuring().structure(told, cls)
        except Exception:  # noqa: BLE001  # the class has changed since
            return unknown_event_class(name)(told)
    return unknown_event_class(name)(told)
