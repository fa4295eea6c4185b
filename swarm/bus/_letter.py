"""Dead letters as the tree keeps them. Pure."""

from typing import Any, Final

import attrs

from swarm.bus._documents import SCHEMA, read_record
from swarm.bus._written import ErrorInfo, WrittenEvent
from swarm.model import JSON, Document, Event, Path

LETTERS: Final = Path.of("dead_letters")


def letters_path(subscription: str) -> Path:
    """Return the folder of one subscription's dead letters."""
    return LETTERS.child(subscription)


def letter_path(subscription: str, event_id: str) -> Path:
    """Return where the dead letter of one event stands."""
    return LETTERS.child(subscription, event_id)


@attrs.frozen(kw_only=True)
class DeadLetter:
    """An event that a subscription gave up: `dead_letters.<subscription>.<event id>`.

    Attributes:
        subscription: The name of the subscription.
        written: The event as it was written down.
        error: What its handler raised last.
        attempts: How often it was tried; 0: it never came to that.
        at: When it was given up, in microseconds since 1970.
        is_durable: Whether the subscription has a name to come back under.
        is_requeued: Whether it is to be tried again; kept until that is decided.
        owner: Whose it is: the type of the agent that subscribed; "": the program's.
    """

    subscription: str
    written: WrittenEvent
    error: ErrorInfo
    attempts: int
    at: int
    is_durable: bool = False
    is_requeued: bool = False
    owner: str = ""

    @property
    def id(self) -> str:
        """What it is known by: the subscription and the event."""
        return f"{self.subscription}:{self.written.id}"

    @property
    def path(self) -> Path:
        """Where it stands in the tree."""
        return letter_path(self.subscription, self.written.id)

    @property
    def event(self) -> Event[Any]:
        """The event, read from what was written down.

        Raises:
            NotFound: Its class was not imported here, or JSON could not tell its
                payload and another process has it; `payload` and `written` say
                what is known.
            InvalidValue: Its payload does not fit its class any more.
        """
        return self.written.recall()

    @property
    def payload(self) -> JSON:
        """The payload as JSON, a copy; None when JSON cannot tell it."""
        return self.written.payload

    def to_json(self) -> dict[str, Any]:
        """Return the document."""
        return {
            "schema": SCHEMA,
            "subscription": self.subscription,
            "event": self.written.to_json(),
            "error": attrs.asdict(self.error),
            "attempts": self.attempts,
            "at": self.at,
            "durable": self.is_durable,
            "requeued": self.is_requeued,
            "owner": self.owner,
        }

    @classmethod
    def of(cls, document: Document) -> "DeadLetter":
        """Read the document.

        Raises:
            SchemaVersionError: A later version of swarm wrote it.
            StateCorruption: It is no dead letter.
        """
        return read_record(document, cls, cls._built)

    @classmethod
    def _built(cls, told: dict[str, Any]) -> "DeadLetter":
        return cls(
            subscription=told["subscription"],
            written=WrittenEvent.from_json(told["event"]),
            error=ErrorInfo(**told["error"]),
            attempts=told["attempts"],
            at=told["at"],
            is_durable=told["durable"],
            is_requeued=told["requeued"],
            owner=told["owner"],
        )
