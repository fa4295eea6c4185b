"""Which events a subscription gets and may see, and `@on` for methods. Pure.

Matching takes linear time, but for `where` and for regular expressions of the user.
"""

import inspect
import re
from collections.abc import Callable, Coroutine, Iterable, Sequence
from typing import Any, Final, TypeAlias, TypeVar, get_origin, overload
from weakref import WeakKeyDictionary

import attrs

from swarm.bus._records import check_plain_function
from swarm.errors import LimitExceeded
from swarm.model import (
    ANY_NUMBER,
    EVENT_TYPE,
    MAX_PATTERN_CHARS,
    ONE,
    AgentIdentity,
    Event,
    HandoffAccepted,
    HandoffCompleted,
    HandoffRejected,
    HandoffRequested,
    LockAcquired,
    LockContention,
    LockExpired,
    LockReleased,
    Path,
    StateEvent,
    TaskAssigned,
    TaskCancelled,
    TaskCompleted,
    TaskCreated,
    TaskFailed,
    TaskProgress,
    TaskStarted,
    check_text,
    class_name,
    event_classes,
    event_type,
    match,
)

OtherPattern: TypeAlias = (
    str | re.Pattern[str] | Iterable[type[Any] | str | re.Pattern[str]]
)
"""A pattern that tells a type checker nothing about the payload. Overloads that also
took a class here would be ambiguous to mypy, and give `Any`."""

EventPattern: TypeAlias = type[Any] | OtherPattern
"""A class (its subclasses too), a dotted pattern, a compiled regex, or several."""

Where: TypeAlias = Callable[[Event[Any]], bool]
MayRead: TypeAlias = Callable[[Path], bool]
Kind: TypeAlias = Callable[[type[Any], str], bool]

_WILD: Final = {"*": ONE, "**": ANY_NUMBER}

_MARK: Final = "__swarm_on__"
_MARKED: Final[
    WeakKeyDictionary[type, tuple[tuple[Callable[..., Any], "Selector"], ...]]
] = WeakKeyDictionary()

A = TypeVar("A")
P = TypeVar("P")
R = TypeVar("R")


@attrs.frozen(kw_only=True, eq=False)
class Selector:
    """A resolved pattern: which events a subscription gets.

    Attributes:
        text: The pattern as text.
        kinds: Tests of a payload's class and dotted type, of which one has to hold.
        sources: Names of agents; None: all.
        source_types: Types of agents; None: all.
        correlation_id: A correlation id; None: all.
        where: A test of the user; None: all.
        upto: The newest revision; None: all.
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
        """Return whether two selectors are equal; functions by identity."""
        return (
            self.text == other.text
            and self.sources == other.sources
            and self.source_types == other.source_types
            and self.correlation_id == other.correlation_id
            and self.where is other.where
        )

    def fits_class(self, cls: type[Any]) -> bool:
        """Return whether events of a class can match."""
        name = event_type(cls)
        return any(kind(cls, name) for kind in self.kinds)

    def fits(self, event: Event[Any]) -> bool:
        """Return whether an event whose class fits matches, all but `where`."""
        source = event.source
        if self.sources is not None and source.agent_id not in self.sources:
            return False
        if self.source_types is not None and source.type not in self.source_types:
            return False
        if self.correlation_id not in (None, event.correlation_id):
            return False
        return self.upto is None or event.seq <= self.upto

    def matches(self, event: Event[Any], may_read: MayRead | None = None) -> bool:
        """Return whether an event matches, all but `where`, and may be seen (S15)."""
        return (
            self.fits_class(event.payload_class)
            and self.fits(event)
            and may_see(event, may_read)
        )

    def asks(self, event: Event[Any]) -> bool:
        """Return what `where` says of an event.

        Raises:
            Exception: `where` raised.
        """
        return self.where is None or bool(self.where(event))


def select(
    pattern: EventPattern | None = None,
    *,
    source: object = None,
    source_type: str | Iterable[str] | None = None,
    correlation_id: str | None = None,
    where: Where | None = None,
) -> Selector:
    """Resolve a pattern and its filters.

    Raises:
        TypeError: The pattern or source has a wrong type; or a class is no event, and
            no imported event derives from it.
        ValueError: A dotted pattern has an empty part, or a word no event type has.
        LimitExceeded: A dotted pattern is too long.
    """
    if where is not None:
        check_plain_function("where", where)
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
    """Return a selector of every event that one of several matches, once."""
    if len(selectors) == 1:
        return selectors[0]

    def where(event: Event[Any]) -> bool:
        """Ask each selector; an exception counts only when no other one matches."""
        failure: Exception | None = None
        for selector in selectors:
            try:
                if selector.matches(event) and selector.asks(event):
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
    """Return the test for a class: an event class, or a base class of events.

    An event class is its event type. So a subscription to a class that a notebook cell
    has defined again matches the new class, and the subclasses of both.

    Raises:
        TypeError: The class is neither, so that it would never match.
    """
    name = pattern.__dict__.get(EVENT_TYPE)
    if name is not None:
        return lambda cls, own: (
            own == name
            or any(base.__dict__.get(EVENT_TYPE) == name for base in cls.__mro__)
        )
    if getattr(pattern, "_is_protocol", False):
        raise TypeError(f"{pattern.__name__} is a protocol; name the events")
    if not any(issubclass(cls, pattern) for cls in event_classes()):
        raise TypeError(
            f"{pattern.__name__} is no event and no event derives from it; "
            'decorate it: @event("some.name")'
        )
    defined = class_name(pattern)
    return lambda cls, _: (
        issubclass(cls, pattern)
        or any(class_name(base) == defined for base in cls.__mro__)
    )


def _text(pattern: object) -> str:
    if isinstance(pattern, type):
        return pattern.__name__
    return pattern.pattern if isinstance(pattern, re.Pattern) else str(pattern)


def _names(source: object) -> frozenset[str] | None:
    """Return the names of agents given as names, identities, refs, or several."""
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


# --- what a policy shows ----------------------------------------------------------

_LOCK: Final = (Path.of("locks"), "resource")
_TASK: Final = (Path.of("global", "tasks"), "task_id")
_HANDOFF: Final = (Path.of("handoffs"), "handoff_id")

ABOUT: Final[dict[type[Any], tuple[Path, str]]] = {
    **dict.fromkeys((LockAcquired, LockReleased, LockExpired, LockContention), _LOCK),
    **dict.fromkeys(
        (
            TaskCreated,
            TaskAssigned,
            TaskStarted,
            TaskProgress,
            TaskCompleted,
            TaskFailed,
            TaskCancelled,
        ),
        _TASK,
    ),
    **dict.fromkeys(
        (HandoffRequested, HandoffAccepted, HandoffRejected, HandoffCompleted), _HANDOFF
    ),
}
"""The folder and the field that say which document an event tells about."""


def may_see(event: Event[Any], may_read: MayRead | None) -> bool:
    """Return whether a policy shows an event to an identity (S15).

    Args:
        event: The event.
        may_read: Whether the identity may read a path; None: it may read all.
    """
    if may_read is None:
        return True
    if isinstance(event, StateEvent):
        return may_read(event.document.path)
    about = ABOUT.get(event.payload_class)
    if about is None:
        return True
    folder, field = about
    return may_read(folder.child(str(getattr(event.payload, field))))


# --- `@on`: methods of agents -----------------------------------------------------

Method: TypeAlias = Callable[[A, Event[P]], Coroutine[Any, Any, R]]
"""A method that takes an event. The result of `on` takes an event of any class, so that
a method for several classes can have an `@on` for each of them."""


@overload
def on(
    pattern: type[P],
    *,
    source: object = None,
    source_type: str | None = None,
    where: Callable[[Event[P]], bool] | None = None,
) -> Callable[[Method[A, P, R]], Method[A, Any, R]]: ...
@overload
def on(
    pattern: OtherPattern,
    *,
    source: object = None,
    source_type: str | None = None,
    where: Where | None = None,
) -> Callable[[Method[A, Any, R]], Method[A, Any, R]]: ...
def on(
    pattern: EventPattern,
    *,
    source: object = None,
    source_type: str | None = None,
    where: Any = None,
) -> Any:
    """Call an agent's method with each matching event, as a turn of the agent.

    The agent subscribes before it is announced and unsubscribes when it stops. An event
    goes into the mailbox like a `tell`. When the mailbox is full, and as many requests
    wait for room in it, the event is dropped, counted and alerted. An exception of the
    method goes to the supervisor.

    A method with several `@on` gets each event once. A subclass that overrides the
    method inherits its events, unless the override has an `@on` of its own; setting
    the name to None ends them.

    Args:
        pattern: An event class, dotted pattern, compiled regex, or several.
        source: Only events of these agents: names, identities or refs.
        source_type: Only events of agents of this type.
        where: Only events for which it returns true; called after the commit.

    Raises:
        TypeError: The method is not async or does not take one event; or the pattern
            has a wrong type.
    """
    if inspect.isfunction(pattern):
        raise TypeError(
            f"write @on(EventClass) or @on('a.pattern') above {pattern.__qualname__}: "
            "@on takes the event"
        )
    selector = select(pattern, source=source, source_type=source_type, where=where)

    def mark(method: Any) -> Any:
        _check(method)
        setattr(method, _MARK, (*getattr(method, _MARK, ()), selector))
        return method

    return mark


def _check(method: Any) -> None:
    """Refuse a method that cannot be called with an event, as a turn."""
    if not inspect.iscoroutinefunction(method):
        raise TypeError(f"@on is for async methods; {method!r} is not one")
    signature = inspect.signature(method)
    try:
        signature.bind("the agent", "an event")
    except TypeError:
        raise TypeError(
            f"a method with @on is called with (self, event); {method.__qualname__} "
            f"takes {signature}"
        ) from None


def marked(cls: type) -> tuple[tuple[Callable[..., Any], Selector], ...]:
    """Return the methods of a class that get events, each with its selector.

    Raises:
        TypeError: An override of such a method cannot be called with an event.
    """
    found = _MARKED.get(cls)
    if found is None:
        found = _MARKED[cls] = tuple(_find(cls))
    return found


def _find(cls: type) -> Iterable[tuple[Callable[..., Any], Selector]]:
    for name in dir(cls):
        method = inspect.getattr_static(cls, name)
        if method is None:  # a subclass has switched its events off
            continue
        selectors = _marks(cls, name)
        if selectors:
            _check(method)
            yield method, any_of(selectors)


def _marks(cls: type, name: str) -> tuple[Selector, ...]:
    """Return the selectors of a method, or else those of the method it overrides."""
    for base in cls.__mro__:
        method = base.__dict__.get(name)
        if method is None and name in base.__dict__:
            break
        marks: tuple[Selector, ...] = getattr(method, _MARK, ())
        if inspect.isfunction(method) and marks:
            return marks
    return ()
