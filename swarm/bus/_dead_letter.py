"""Dead letters: the events that subscriptions gave up, as documents. Pure.

An event and its error are written down so that another process, at another time, can
read them. In its own process the event stays as it is.
"""

import traceback
from datetime import datetime
from typing import Any, Final

import attrs
import orjson

from swarm.bus._offsets import SCHEMA, read_record
from swarm.errors import NotFound
from swarm.model import (
    JSON,
    AgentIdentity,
    Cause,
    Commit,
    Document,
    Event,
    Path,
    RecalledEvent,
    brief,
    class_name,
    find_event_class,
    from_datetime,
    kept_json,
    to_datetime,
    valid_text,
)
from swarm.ports import UnknownEvent, View, payload_from_json, payload_to_json

LETTERS: Final = Path.of("dead_letters")

_TRACEBACK: Final = 16 * 1024  # characters; the end says most
_MESSAGE: Final = 4 * 1024


@attrs.frozen
class ErrorInfo:
    """An error as data (Q5).

    Attributes:
        type: The name of its class, such as "ValueError".
        message: Its text.
        traceback: The traceback as Python prints it; its end if it is long.
    """

    type: str
    message: str
    traceback: str = ""

    def __repr__(self) -> str:
        return f"<ErrorInfo {self.type}: {brief(self.message)}>"

    @classmethod
    def of(cls, error: BaseException) -> "ErrorInfo":
        """Write an error down, whatever its own `__str__` does."""
        lines = valid_text("".join(traceback.format_exception(error)))
        return cls(type(error).__name__, text_of(error), lines[-_TRACEBACK:])

    def __str__(self) -> str:
        return f"{self.type}: {self.message}" if self.message else self.type


def text_of(error: BaseException) -> str:
    """Return the text of an error; its `__str__` may be user code that raises."""
    try:
        return valid_text(str(error)[:_MESSAGE])
    except Exception:  # noqa: BLE001  # the failure is reported without its text
        return "<its text cannot be had: __str__ raised>"


@attrs.frozen(kw_only=True)
class WrittenEvent:
    """An event as a document holds it.

    Attributes:
        seq: Its revision.
        index: Its index in its commit.
        type: Its dotted type.
        defined: Where its class is defined.
        at: When it happened, in microseconds since 1970.
        source: The identity that caused it.
        correlation_id: As of the event; so are the next four.
        body: Its payload as JSON; None when JSON cannot hold it.
        live: The event itself, in its own process.
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
    live: Event[Any] | None = attrs.field(default=None, eq=False, repr=False)

    def __repr__(self) -> str:
        return f"<WrittenEvent {self.id} {self.type} of {self.source}>"

    @classmethod
    def of(cls, event: Event[Any]) -> "WrittenEvent":
        """Write an event down, as far as possible."""
        told = payload_to_json(event.payload)[2]
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
            body=None if told is None else kept_json(told),
            live=event,
        )

    @property
    def id(self) -> str:
        """The event's id."""
        return f"{self.seq}.{self.index}"

    @property
    def timestamp(self) -> datetime:
        """When it happened, in UTC."""
        return to_datetime(self.at)

    def recall(self) -> Event[Any]:
        """Return the event.

        Raises:
            NotFound: Its class was not imported here, or its payload does not fit it.
        """
        live, cls = self.live, find_event_class(self.type, self.defined)
        if live is not None and cls in (None, live.payload_class):
            return live  # else its class was defined again, as notebooks do
        payload = payload_from_json(self.type, self.defined, self.payload)
        if isinstance(payload, UnknownEvent):
            raise NotFound(
                f"event {self.id} cannot be read: {self.defined} of type {self.type!r} "
                "was not imported here, or the payload does not fit it any more"
            )
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
        """Return the part of the document that is the event."""
        told = attrs.asdict(self, filter=lambda field, _: field.name in _PLAIN)
        told["source"] = attrs.asdict(self.source)
        told["payload"] = self.payload
        told["unwritten"] = "" if self.body else "JSON cannot hold it"
        return told

    @property
    def payload(self) -> JSON:
        """The payload as JSON, a fresh copy; None when JSON cannot hold it."""
        return None if self.body is None else orjson.loads(self.body)

    @classmethod
    def from_json(cls, told: dict[str, Any]) -> "WrittenEvent":
        """Read the part of a document that is an event.

        Raises:
            KeyError, TypeError: It is not an event.
        """
        body = None if told["unwritten"] else kept_json(told["payload"])
        source = AgentIdentity(**told["source"])
        return cls(**{name: told[name] for name in _PLAIN}, source=source, body=body)


_PLAIN: Final = frozenset(
    field.name
    for field in attrs.fields(WrittenEvent)
    if field.name not in ("source", "body", "live")
)


@attrs.frozen(kw_only=True)
class DeadLetter:
    """An event that a subscription gave up: `dead_letters.<subscription>.<event id>`.

    Attributes:
        subscription: The name of the subscription.
        written: The event as it was written down.
        error: The last error of its handler.
        attempts: The number of its runs; 0: none began.
        at: When it was given up, in UTC.
        is_durable: Whether the subscription has a name of its own.
        is_requeued: Whether the event is to be tried again, until that is decided.
        owner: The type of the agent that subscribed; "": the program.
    """

    subscription: str
    written: WrittenEvent
    error: ErrorInfo
    attempts: int
    at: datetime
    is_durable: bool = False
    is_requeued: bool = False
    owner: str = ""

    def __repr__(self) -> str:
        runs = "run" if self.attempts == 1 else "runs"
        return (
            f"<DeadLetter {self.id} {self.written.type}, {self.attempts} {runs}: "
            f"{self.error.type} {brief(self.error.message)}>"
        )

    @property
    def id(self) -> str:
        """The subscription and the event, as text."""
        return f"{self.subscription}:{self.written.id}"

    @property
    def path(self) -> Path:
        """The path of its document."""
        return letter_path(self.subscription, self.written.id)

    @property
    def event(self) -> Event[Any]:
        """The event, read from the document.

        Raises:
            NotFound: Its class was not imported here, or its payload does not fit it
                any more. `payload` and `written` say what is known.
        """
        return self.written.recall()

    @property
    def payload(self) -> JSON:
        """The payload as JSON, a copy; None when JSON cannot hold it."""
        return self.written.payload

    def to_json(self) -> dict[str, Any]:
        """Return the document."""
        return {
            "schema": SCHEMA,
            "subscription": self.subscription,
            "event": self.written.to_json(),
            "error": attrs.asdict(self.error),
            "attempts": self.attempts,
            "at": from_datetime(self.at),
            "durable": self.is_durable,
            "requeued": self.is_requeued,
            "owner": self.owner,
        }

    @classmethod
    def of(cls, document: Document) -> "DeadLetter":
        """Read the document.

        Raises:
            SchemaVersionError: A later version of swarm wrote it.
            StateCorruption: It is not a dead letter.
        """
        return read_record(document, cls, cls._built)

    @classmethod
    def _built(cls, told: dict[str, Any]) -> "DeadLetter":
        return cls(
            subscription=told["subscription"],
            written=WrittenEvent.from_json(told["event"]),
            error=ErrorInfo(**told["error"]),
            attempts=told["attempts"],
            at=to_datetime(told["at"]),
            is_durable=told["durable"],
            is_requeued=told["requeued"],
            owner=told["owner"],
        )


def letters_path(subscription: str) -> Path:
    """Return the folder of one subscription's dead letters."""
    return LETTERS.child(subscription)


def letter_path(subscription: str, event_id: str) -> Path:
    """Return the path of the dead letter of one event."""
    return LETTERS.child(subscription, event_id)


def path_of(letter_id: str) -> Path | None:
    """Return the path of the dead letter of an id; None: the text is not an id."""
    if type(letter_id) is not str:
        raise TypeError(f"a dead letter's id is text, not {letter_id!r}")
    subscription, _, event_id = letter_id.rpartition(":")
    return letter_path(subscription, event_id) if subscription and event_id else None


def oldest_first(view: View, folder: Path) -> list[Document]:
    """Return the documents below a folder in the order of their versions."""
    return sorted(view.documents(folder), key=lambda document: document.version)
