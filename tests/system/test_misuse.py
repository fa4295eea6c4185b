"""Slightly wrong uses: each is one error that names the thing and what to do."""

import asyncio
import gc
import warnings
from typing import Any

import pytest

from swarm import Agent, InvalidTransition, Swarm, event, on
from tests.support.virtual_loop import virtual


@event("misuse.ping")
class MisusePing:
    number: int


class DreamReader(Agent):
    @staticmethod
    async def static(number: int) -> int:
        return number

    @classmethod
    async def of_class(cls, number: int) -> int:
        return number

    async def tick(self) -> None:
        pass

    async def begin(self, what: Any) -> None:
        self.every(1, what)

    async def close(self) -> None:
        await self.swarm.close()  # type: ignore[attr-defined]  # the point of the test

    async def assign(self) -> None:
        self.state = {}  # type: ignore[misc, assignment]  # the point of the test


@virtual
async def test_a_method_without_an_agent_is_no_target_of_an_ask() -> None:
    async with Swarm() as swarm:
        ref: Any = await swarm.spawn(DreamReader, name="ada")
        for method, kind in (
            (DreamReader.static, "staticmethod"),
            (DreamReader.of_class, "classmethod"),
        ):
            with pytest.raises(TypeError) as caught:
                await ref.ask(method, 1)
            assert str(caught.value) == (
                f"DreamReader.{method.__name__} is a {kind}; an agent is asked for its "
                f"methods: `async def {method.__name__}(self, ...)`"
            )
            with pytest.raises(AttributeError, match=f"is a {kind}"):
                await getattr(ref.proxy, method.__name__)(1)


@virtual
async def test_a_timer_takes_the_method_and_not_its_name() -> None:
    async with Swarm() as swarm:
        ref = await swarm.spawn(DreamReader, name="ada")
        for wrong in ("tick", DreamReader().tick):
            with pytest.raises(TypeError, match=r"self\.every\(60, DreamReader\.tick"):
                await ref.ask(DreamReader.begin, wrong)


@virtual
async def test_what_the_swarm_gives_an_agent_cannot_be_assigned() -> None:
    async with Swarm() as swarm:
        ref = await swarm.spawn(DreamReader, name="ada")
        with pytest.raises(TypeError, match="`state` is given by the swarm"):
            await ref.ask(DreamReader.assign)


@virtual
async def test_a_text_that_names_no_type_of_agents_is_refused() -> None:
    """A class of agents is another type in the registry: `dream_reader`."""
    async with Swarm() as swarm:
        ref = await swarm.spawn(DreamReader, name="ada")
        with pytest.raises(ValueError, match=r"'DreamReader' is no name of a type"):
            swarm.agents.find(type="DreamReader")
        assert swarm.agents.find(type="dream_reader") == [ref]
        assert swarm.agents.find(type=DreamReader) == [ref]
        assert swarm.agents.find(type="other") == []


def test_a_method_is_marked_with_the_event_it_is_for() -> None:
    async def pinged(self: Any, event: Any) -> None:
        pass

    with pytest.raises(
        TypeError, match=r"write @on\(EventClass\) or .* above .*pinged"
    ):
        on(pinged)  # type: ignore[call-overload]  # the point of the test


@virtual
async def test_a_watch_and_a_stream_that_were_not_entered_raise_the_same() -> None:
    async with Swarm() as swarm:
        for made in (swarm.state.watch("a"), swarm.events.subscribe(MisusePing)):
            with pytest.raises(InvalidTransition, match="async with"):
                await anext(made)
        watch = swarm.state.watch("a")
        async with watch:
            with pytest.raises(InvalidTransition, match="entered already"):
                await watch.__aenter__()


@pytest.mark.parametrize("is_closed", [True, False])
def test_a_swarm_that_is_dropped_unclosed_gives_a_resource_warning(
    is_closed: bool,
) -> None:
    async def main() -> None:
        swarm = await Swarm.open("dropped")
        if is_closed:
            await swarm.close()

    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        asyncio.run(main())
        gc.collect()
    texts = [str(w.message) for w in seen if w.category is ResourceWarning]
    assert len(texts) == (0 if is_closed else 1)
    assert all("unclosed <Swarm 'dropped' open" in text for text in texts)


@virtual
async def test_a_claim_is_entered_with_async_with() -> None:
    async with Swarm() as swarm:
        await swarm.tasks.submit("misuse.work", {})
        claiming: Any = swarm.tasks.claim("misuse.*")
        assert repr(claiming) == "<claim of tasks 'misuse.*'>"
        with pytest.raises(TypeError, match="async with tasks"), claiming:
            pass
        async with claiming as claim:
            assert claim.kind == "misuse.work"


@virtual
async def test_an_agent_is_in_the_registry_by_its_name_and_its_ref() -> None:
    """What iteration gives is in what it iterates over."""
    async with Swarm() as swarm:
        old = await swarm.spawn(DreamReader, name="ada")
        assert all(ref in swarm.agents for ref in swarm.agents)
        assert "ada" in swarm.agents
        assert 5 not in swarm.agents
        new = await swarm.spawn(DreamReader, name="ada", replace=True)
        assert new in swarm.agents
        assert old not in swarm.agents


@virtual
async def test_an_agent_is_told_how_it_ends_the_swarm() -> None:
    async with Swarm() as swarm:
        ref = await swarm.spawn(DreamReader, name="ada")
        with pytest.raises(AttributeError, match=r"`await self\.swarm\.end\(\)`"):
            await ref.ask(DreamReader.close)
