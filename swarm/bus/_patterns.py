"""Which events are meant. Pure; everything but `where` and regexes is linear time."""

import re
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final, TypeAlias, get_origin

import attrs

from swarm.bus._checks import plain_function
from swarm.errors import LimitExceeded
from swarm.model import (
    ANY_NUMBER,
    EVENT_TYPE,
    MAX_PATTERN_CHARS,
    ONE,
    AgentIdentity,
    Event,
    check_text,
    event_classes,
    event_type,
    match,
)

OtherPattern: TypeAlias = (
    str | re.Pattern[str] | Iterable[type[Any] | str | re.Pattern[str]]
)
"""What says nothing of the class of an event to a type checker. Overloads that also
took a class here would be ambiguous to mypy, and give `Any`."""

EventPattern: TypeAlias = type[Any] | OtherPattern
"""A class (its subclasses too), a dotted pattern, a compiled regex, or several."""

Where: TypeAlias = Callable[[Event[Any]], bool]
Kind: TypeAlias = Callable[[type[Any], str], bool]

_WILD: Final = {"*": ONE, "**": ANY_NUMBER}


@attrs.frozen(kw_only=True, eq=False)
class Selector:
    """A pattern, resolved.

    Attributes:
        text: How people may know it.
        kinds: Tests of a payload's class and dotted type; any will do.
        sources: Names of agents, or None for everybody's.
        source_types: Types of agents, or None.
        correlation_id: An id, or None.
        where: A test by the user, or None.
        upto: The newest revision that is meant, or None.
    """

    text: str
    kinds: tuple[Kind, ...]
    sources: frozenset[str] | None = None
    source_types: frozenset[str] | None = None
    correlation_id: str | None = None
    where: Where | None = None
    upto: int | None = None

    @property
    def is_static(self) -> bool:
        """Whether the class of an event alone decides."""
        return (
            self.sources is None
            and self.source_types is None
            and self.correlation_id is None
            and self.where is None
            and self.upto is None
        )

    def means_the_same(self, other: "Selector") -> bool:
        """Return whether two selectors are of the same words; functions by identity."""
        return (
            self.text == other.text
            and self.sources == other.sources
            and self.source_types == other.source_types
            and self.correlation_id == other.correlation_id
            and self.where is other.where
        )

    def fits_class(self, cls: type[Any]) -> bool:
        """Return whether events of this class can be meant."""
        name = event_type(cls)
        return any(kind(cls, name) for kind in self.kinds)

    def fits(self, event: Event[Any]) -> bool:
        """Return whether an event whose class fits is meant.

        Raises:
            Exception: What `where` raised.
        """
        source = event.source
        if self.sources is not None and source.agent_id not in self.sources:
            return False
        if self.source_types is not None and source.type not in self.source_types:
            return False
        if self.correlation_id not in (None, event.correlation_id):
            return False
        if self.upto is not None and event.seq > self.upto:
            return False
        return self.where is None or bool(self.where(event))


def select(
    pattern: EventPattern | None = None,
    *,
    source: object = None,
    source_type: str | Iterable[str] | None = None,
    correlation_id: str | None = None,
    where: Where | None = None,
) -> Selector:
    """Resolve what `subscribe` and its sisters take.

    Raises:
        TypeError: The pattern or source is something else than can be meant: a class
            that is no event, and from which none derives that was imported.
        ValueError: A dotted pattern has an empty part, or a word that is no event's.
        LimitExceeded: A dotted pattern is too long.
    """
    if where is not None:
        plain_function("where", where)
    if correlation_id is not None:
        check_text("a correlation id", correlation_id)
    parts: list[object]
    if pattern is None:
        parts = ["**"]
    elif isinstance(pattern, (str, bytes, type, re.Pattern)) or get_origin(pattern):
        parts = [pattern]
    elif isinstance(pattern, Iterable):
        parts = list(pattern)
    else:
        parts = [pattern]
    if not parts:
        raise ValueError("an empty list of patterns means nothing; None is everything")
    kinds = tuple(_kind(part) for part in parts)
    return Selector(
        text=", ".join(_text(part) for part in parts),
        kinds=kinds,
        sources=_names(source),
        source_types=_names(source_type),
        correlation_id=correlation_id,
        where=where,
    )


def any_of(selectors: Sequence[Selector]) -> Selector:
    """Return what means every event that one of these means, once."""
    if len(selectors) == 1:
        return selectors[0]

    def where(event: Event[Any]) -> bool:
        """Ask each of them; what one raises counts only when no other fits."""
        failure: Exception | None = None
        for selector in selectors:
            try:
                if selector.fits_class(event.payload_class) and selector.fits(event):
                    return True
            except Exception as error:  # noqa: BLE001  # raised below
                failure = error
        if failure is not None:
            raise failure
        return False

    return Selector(
        text=", ".join(selector.text for selector in selectors),
        kinds=tuple(kind for selector in selectors for kind in selector.kinds),
        where=None if all(s.is_static for s in selectors) else where,
    )


def _kind(pattern: object) -> Kind:
    if isinstance(pattern, type) and get_origin(pattern) is None:
        return _class_kind(pattern)
    if isinstance(pattern, re.Pattern):
        if not isinstance(pattern.pattern, str):
            raise TypeError(f"a regex is searched in text, not in bytes: {pattern!r}")
        return lambda _, name: pattern.search(name) is not None
    if not isinstance(pattern, str):
        raise TypeError(
            "a pattern is an event class, a dotted pattern, a compiled regex or a list "
            f"of them, not {pattern!r}"
        )
    if len(pattern) > MAX_PATTERN_CHARS:
        raise LimitExceeded(
            f"a pattern is at most {MAX_PATTERN_CHARS} characters long; "
            f"this one has {len(pattern)}"
        )
    words = pattern.split(".")
    if not all(word in _WILD or word.isidentifier() for word in words):
        raise ValueError(f"an event pattern is dotted words, * and **, not {pattern!r}")
    if pattern != pattern.lower():
        raise ValueError(f"event types are lower-case; {pattern!r} can never match")
    if not any(word in _WILD for word in words):
        return lambda _, name: name == pattern
    segments = tuple(_WILD.get(word, word) for word in words)
    return lambda _, name: match(segments, name.split("."))


def _class_kind(pattern: type[Any]) -> Kind:
    """Return the test for a class: an event class, or one that such derive from.

    Raises:
        TypeError: It is neither, so that it would never match.
    """
    if EVENT_TYPE not in pattern.__dict__:
        if getattr(pattern, "_is_protocol", False):
            raise TypeError(f"{pattern.__name__} is a protocol; name the events")
        if not any(issubclass(cls, pattern) for cls in event_classes()):
            raise TypeError(
                f"{pattern.__name__} is no event and no event derives from it; "
                'decorate it: @event("some.name")'
            )
    return lambda cls, _: issubclass(cls, pattern)


def _text(pattern: object) -> str:
    if isinstance(pattern, type):
        return pattern.__name__
    return pattern.pattern if isinstance(pattern, re.Pattern) else str(pattern)


def _names(source: object) -> frozenset[str] | None:
    """Return the names that a name, identity, ref, or several of them stand for."""
    if source is None:
        return None
    if isinstance(source, str):
        return frozenset((source,))
    identity = getattr(source, "identity", source)
    if isinstance(identity, AgentIdentity):
        return frozenset((identity.agent_id,))
    if isinstance(source, Iterable):
        several = [_names(each) for each in source]
        return frozenset[str]().union(*(each for each in several if each is not None))
    raise TypeError(f"a source is an agent's name, identity or ref, not {source!r}")
