"""`@on`: refusals, several decorators, and overrides."""

import asyncio
from typing import Any

import pytest

from swarm import Agent, Event, Swarm, SystemAlert, event, on
from swarm.bus import marked
from tests.support.virtual_loop import virtual


@event("marks.note")
class Note:
    number: int = 0


@event("marks.note.late")
class Late(Note): ...


@event("marks.other")
class Other: ...


class Hearing(Agent):
    def __init__(self) -> None:
        self.heard: list[str] = []

    async def heard_so_far(self) -> list[str]:
        return self.heard


async def heard_by(cls: type[Hearing], *payloads: object) -> list[str]:
    async with Swarm() as swarm:
        ref = await swarm.spawn(cls)
        for payload in payloads:
            await swarm.events.publish(payload)
        await asyncio.sleep(1)
        return await ref.ask(cls.heard_so_far)


def methods() -> dict[str, Any]:
    async def none(self: Any) -> None: ...
    async def two(self: Any, event: Any, more: Any) -> None: ...
    async def keyword(self: Any, event: Any, *, more: Any) -> None: ...
    async def only_keyword(self: Any, *, event: Any) -> None: ...
    def plain(self: Any, event: Any) -> None: ...
    async def stream(self: Any, event: Any) -> Any:
        yield event

    return dict(locals())


@pytest.mark.parametrize("name", list(methods()))
def test_a_method_that_takes_no_event_is_refused_where_it_is_written(name: str) -> None:
    """E15: and not at the first event, when it would end the swarm."""
    words = "async methods" if name in ("plain", "stream") else r"called with \(self, e"
    with pytest.raises(TypeError, match=words):
        on(Note)(methods()[name])


def test_a_method_that_takes_more_if_it_is_given_is_fine() -> None:
    """The event is the only argument."""

    async def more(
        self: Any, event: Any, more: int = 0, *rest: Any, **kw: Any
    ) -> None: ...

    assert on(Note)(more) is more


@virtual
async def test_several_on_decorators_handle_an_event_once() -> None:
    """E3: also if one of them raises; the text says all of them."""

    class Twice(Hearing):
        @on(Note)
        @on("marks.*")
        async def note(self, event: Event[Any]) -> None:
            self.heard.append(f"note {event.type}")

        @on(Other, where=lambda e: 1 / 0 > 0)
        @on(Note, source="nobody")
        @on(Late, source="owner")
        async def picky(self, event: Event[Any]) -> None:
            self.heard.append(f"picky {event.type}")

    assert sorted(await heard_by(Twice, Note(), Late(), Other())) == [
        "note marks.note",
        "note marks.note.late",
        "note marks.other",
        "picky marks.note.late",
    ]
    texts = {method.__name__: selector.text for method, selector in marked(Twice)}
    assert texts == {"note": "marks.*, Note", "picky": "Late, Note, Other"}
    async with Swarm() as swarm:
        await swarm.spawn(Twice)
        await swarm.events.publish(Other())
        await asyncio.sleep(1)
        (alert,) = swarm.events.query(SystemAlert)
        assert alert.payload.kind == "where-failed"


class Base(Hearing):
    @on(Note)
    async def note(self, event: Event[Note]) -> None:
        self.heard.append("base")


class Overridden(Base):
    async def note(self, event: Event[Note]) -> None:
        self.heard.append("sub")
        await super().note(event)


class Again(Overridden):
    async def note(self, event: Event[Note]) -> None:
        self.heard.append("again")


class Marked(Base):
    @on(Other)
    async def note(self, event: Event[Any]) -> None:
        self.heard.append(event.type)


class Silent(Base):
    note = None  # type: ignore[assignment]


class SilentAgain(Silent):
    async def note(self, event: Event[Any]) -> None:  # type: ignore[override]
        self.heard.append("nobody asked")


@pytest.mark.parametrize(
    ("cls", "expected"),
    [
        (Base, ["base"]),
        (Overridden, ["sub", "base"]),
        (Again, ["again"]),
        (Marked, ["marks.other"]),
        (Silent, []),
        (SilentAgain, []),
    ],
)
def test_an_override_gets_the_events_of_its_method(
    cls: type[Hearing], expected: list[str]
) -> None:
    """E3: as with any method; an `@on` of its own, or None, says otherwise."""

    @virtual
    async def scenario() -> None:
        assert await heard_by(cls, Note(), Other()) == expected

    scenario()


@virtual
async def test_an_override_that_takes_no_event_is_refused() -> None:
    """E15: when it is spawned; nothing of it is left."""

    class Wrong(Base):
        async def note(self) -> None:  # type: ignore[override]
            ...

    async with Swarm() as swarm:
        with pytest.raises(TypeError, match=r"called with \(self, event\)"):
            await swarm.spawn(Wrong)
        assert swarm.agents.find() == []
        assert swarm.events.subscriptions() == []
