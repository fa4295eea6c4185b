"""Errors and events written down, to be read in another process or at another time.

Pure. An event whose payload cannot be told in JSON is kept as it is, beside a note that
says why: it is whole in the process it happened in, and known by name in every other.
"""

import traceback
from typing import Any, Final

import attrs
import orjson

from swarm.errors import InvalidValue, NotFound
from swarm.model import (
    JSON,
    AgentIdentity,
    Cause,
    Commit,
    Event,
    RecalledEvent,
    class_name,
    find_event_class,
)
from swarm.ports import Codec, structuring

_TRACEBACK: Final = 16 * 1024  # characters; the end says most
_MESSAGE: Final = 4 * 1024


@attrs.frozen
class ErrorInfo:
    """An error as data: what is left of it when nobody can raise it any more (Q5).

    Attributes:
        type: The name of its class, such as "ValueError".
        message: What it said.
        traceback: Where it came from, as Python prints it; the end of it if it is long.
    """

    type: str
    message: str
    traceback: str = ""

    @classmethod
    def of(cls, error: BaseException) -> "ErrorInfo":
        """Write an error down, whatever its own `__str__` does."""
        lines = "".join(traceback.format_exception(error))
        return cls(type(error).__name__, text_of(error), lines[-_TRACEBACK:])

    def __str__(self) -> str:
        return f"{self.type}: {self.message}" if self.message else self.type


def text_of(error: BaseException) -> str:
    """Return what an error says; user code may have written its `__str__`."""
    try:
        return str(error)[:_MESSAGE]
    except Exception:  # noqa: BLE001  # it must not stand in the way of being told
        return "<its text cannot be had: __str__ raised>"


@attrs.frozen(kw_only=True)
class WrittenEvent:
    """An event as a document holds it.

    Attributes:
        seq: Its revision.
        index: Its number in its commit.
        type: Its dotted type.
        defined: Where its class is defined.
        at: When it happened, in microseconds since 1970.
        source: Who caused it.
        correlation_id: As of the event; so are the next four.
        body: Its payload as JSON, or None when JSON cannot tell it.
        unwritten: Why it cannot; "" when it can.
        live: The event itself, where it could not be written down, in its own process.
    """

    seq: int
    index: int
    type: str
    defined: str
    at: int
    source: AgentIdentity
    correlation_id: str
    causation_id: str | None
    depth: int
    trace: str | None
    key: str | None
    body: bytes | None
    unwritten: str = ""
    live: Event[Any] | None = attrs.field(default=None, eq=False, repr=False)

    @classmethod
    def of(cls, event: Event[Any], codec: Codec) -> "WrittenEvent":
        """Write an event down, as far as that can be."""
        body, why = _encoded(event, codec)
        return cls(
            seq=event.seq,
            index=event.index,
            type=event.type,
            defined=class_name(event.payload_class),
            at=event.at,
            source=event.source,
            correlation_id=event.correlation_id,
            causation_id=event.causation_id,
            depth=event.depth,
            trace=event.trace,
            key=event.key,
            body=body,
            unwritten=why,
            live=None if body is not None else event,
        )

    @property
    def id(self) -> str:
        """The event's id."""
        return f"{self.seq}.{self.index}"

    def recall(self) -> Event[Any]:
        """Return the event.

        Raises:
            NotFound: This process knows no such type of event, or the payload could
                not be written down and another process has it.
            InvalidValue: The payload does not fit the type any more.
        """
        if self.live is not None:
            return self.live
        if self.body is None:
            raise NotFound(
                f"the payload of event {self.id} ({self.type}) is not there: "
                f"{self.unwritten}"
            )
        cls = find_event_class(self.type, self.defined)
        if cls is None:
            raise NotFound(
                f"nothing imported here is the event type {self.type!r} of "
                f"{self.defined}"
            )
        try:
            payload = structuring().structure(orjson.loads(self.body), cls)
        except Exception as error:
            raise InvalidValue(
                f"event {self.id} does not fit {self.type!r} any more: {error}"
            ) from error
        cause = None
        if self.causation_id is not None:
            cause = Cause(
                self.correlation_id, self.causation_id, self.trace, self.depth
            )
        commit = Commit(
            self.seq, self.at, self.source, (), (payload,), cause=cause, key=self.key
        )
        return RecalledEvent(commit, self.index)

    def to_json(self) -> dict[str, Any]:
        """Return it as a document holds it."""
        told = attrs.asdict(self, filter=lambda field, _: field.name in _PLAIN)
        told["source"] = attrs.asdict(self.source)
        told["payload"] = self.payload
        return told

    @property
    def payload(self) -> JSON:
        """The payload as JSON, a fresh copy; None when JSON cannot tell it."""
        return None if self.body is None else orjson.loads(self.body)

    @classmethod
    def from_json(cls, told: dict[str, Any]) -> "WrittenEvent":
        """Read it.

        Raises:
            KeyError, TypeError: It is none.
        """
        body = None if told["unwritten"] else orjson.dumps(told["payload"])
        source = AgentIdentity(**told["source"])
        return cls(**{name: told[name] for name in _PLAIN}, source=source, body=body)


_PLAIN: Final = frozenset(
    field.name
    for field in attrs.fields(WrittenEvent)
    if field.name not in ("source", "body", "live")
)


def _encoded(event: Event[Any], codec: Codec) -> tuple[bytes | None, str]:
    """Return a payload as JSON, or why that does not tell all of it."""
    payload, cls = event.payload, event.payload_class
    try:
        body = codec.encode(structuring().unstructure(payload, unstructure_as=cls))
        again = structuring().structure(orjson.loads(body), cls)
        is_same = bool(again == payload)
    except Exception as error:  # noqa: BLE001  # any of it may be code of the user
        return None, f"it cannot be written as JSON: {text_of(error)}"
    if not is_same:
        return None, "JSON does not tell all of it"
    return body, ""
