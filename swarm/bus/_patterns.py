"""Which events are meant. Pure; everything but `where` and regexes is linear time."""

import re
from collections.abc import Callable, Iterable
from typing import Any, Final, TypeAlias

import attrs

from swarm.bus._checks import plain_function, text
from swarm.errors import LimitExceeded
from swarm.model import (
    ANY_NUMBER,
    MAX_PATTERN_CHARS,
    ONE,
    AgentIdentity,
    Event,
    event_type,
    match,
)

EventPattern: TypeAlias = (
    type[Any] | str | re.Pattern[str] | Iterable[type[Any] | str | re.Pattern[str]]
)
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
        TypeError: The pattern or source is something else than can be meant.
        ValueError: A dotted pattern has an empty part.
        LimitExceeded: A dotted pattern is too long.
    """
    if where is not None:
        plain_function("where", where)
    if correlation_id is not None:
        text("a correlation id", correlation_id)
    parts: list[object]
    if pattern is None:
        parts = ["**"]
    elif isinstance(pattern, (str, type, re.Pattern)):
        parts = [pattern]
    elif isinstance(pattern, Iterable):
        parts = list(pattern)
    else:
        parts = [pattern]
    if not parts:
        raise ValueError("an empty list of patterns means nothing; None is everything")
    return Selector(
        text=", ".join(_text(part) for part in parts),
        kinds=tuple(_kind(part) for part in parts),
        sources=_names(source),
        source_types=_names(source_type),
        correlation_id=correlation_id,
        where=where,
    )


def _kind(pattern: object) -> Kind:
    if isinstance(pattern, type):
        return lambda cls, _: issubclass(cls, pattern)
    if isinstance(pattern, re.Pattern):
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
    if not any(word in _WILD for word in words):
        return lambda _, name: name == pattern
    segments = tuple(_WILD.get(word, word) for word in words)
    return lambda _, name: match(segments, name.split("."))


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
