"""Looking at history: one page of the events that are meant."""

from collections.abc import Generator
from datetime import datetime
from typing import Any

from swarm.bus._bus import Bus
from swarm.bus._history import page
from swarm.bus._patterns import EventPattern, select
from swarm.bus._subscription import may_see
from swarm.errors import Compacted
from swarm.model import EPOCH, AgentIdentity, Event, check_whole


class Page(list[Event[Any]]):
    """Events that a query found: a list, which may also be awaited.

    Attributes:
        upto: The newest revision that was looked at; pass it on with `offset`.
    """

    upto: int

    def __await__(self) -> Generator[Any, None, "Page"]:
        return self
        yield  # a generator without a step


def query(
    bus: Bus,
    identity: AgentIdentity,
    types: EventPattern | None,
    sources: object,
    *,
    after: datetime | int | None,
    before: datetime | int | None,
    correlation_id: str | None,
    limit: int | None,
    offset: int,
    after_seq: int | Event[Any] | None,
    upto: int | None,
) -> Page:
    """Do what `Events.query` does."""
    bus.host.check()
    check_whole("offset", offset, 0)
    for what, value in (("limit", limit), ("upto", upto)):
        if value is not None:
            check_whole(what, value, 0)
    selector = select(types, source=sources, correlation_id=correlation_id)
    history = bus.history()
    start = _cursor(after_seq)
    if start is not None and start[0] < history.compacted:
        raise Compacted(start[0], history.compacted + 1)
    if offset and upto is not None and start is None and upto < history.moved:
        error = Compacted(history.compacted, history.compacted + 1)
        error.add_note(
            f"since revision {upto} history has let go of events, so that pages by "
            "offset do not fit together (H2); go on with after_seq="
        )
        raise error
    newest = bus.host.tail.revision if upto is None else upto
    may_read = bus.host.reader_of(identity)
    found = Page(
        page(
            history.candidates(selector, start=start, after=_microseconds(after)),
            lambda event: may_see(event, may_read) and selector.fits(event),
            before=_microseconds(before),
            upto=newest,
            offset=offset,
            limit=limit,
        )
    )
    found.upto = newest
    return found


def _cursor(after: int | Event[Any] | None) -> tuple[int, int] | None:
    if after is None:
        return None
    if isinstance(after, Event):
        return after.place
    check_whole("after_seq", after, 0)
    return (after, 1 << 62)


def _microseconds(time: datetime | int | None) -> int | None:
    if time is None:
        return None
    if not isinstance(time, datetime):
        check_whole("a time, unless it is a datetime,", time, 0)
        return time
    if time.tzinfo is None:
        raise ValueError("a time needs a time zone; use an aware datetime")
    delta = time - EPOCH
    return (delta.days * 86_400 + delta.seconds) * 1_000_000 + delta.microseconds
