"""What mypy --strict and pyright infer for agents; checked by both, never run.

Each `type: ignore` proves to both that the error is there: an unused one is itself an
error (`warn_unused_ignores`, `reportUnnecessaryTypeIgnoreComment`).
"""

# pyright: strict, reportUnnecessaryTypeIgnoreComment=true

from collections.abc import AsyncIterator
from typing import Any, Generic, TypeVar, assert_type

from swarm import (
    Agent,
    Group,
    Lease,
    Ref,
    Restart,
    StateHandle,
    Stream,
    Surface,
    Swarm,
    interleave,
)


class Researcher(Agent):
    def __init__(self, model: str = "small") -> None:
        self.model = model

    async def research(self, topic: str, *, depth: int = 1) -> list[str]:
        return [topic] * depth

    async def tokens(self, topic: str) -> AsyncIterator[str]:
        yield topic

    @interleave
    async def status(self) -> int:
        return 1


class Senior(Researcher):
    async def lead(self) -> bool:
        return True


T = TypeVar("T")


class Box(Agent, Generic[T]):
    def __init__(self, value: T) -> None:
        self.value = value

    async def get(self) -> T:
        return self.value

    async def put(self, value: T) -> None:
        self.value = value


async def generic_agents(swarm: Swarm) -> None:
    """For pyright the method is spelled with the agent's type, or by the proxy."""
    ref = await swarm.spawn(Box[int], 5)
    assert_type(ref, Ref[Box[int]])
    assert_type(await swarm.spawn(Box, "a"), Ref[Box[str]])
    assert_type(await ref.ask(Box[int].get), int)
    assert_type(await ref.proxy.get(), int)
    await ref.ask(Box[int].put, "a")  # type: ignore[arg-type]


class Writer(Agent):
    async def write(self) -> str:
        return ""


async def asks(ada: Ref[Researcher], bo: Ref[Senior]) -> None:
    assert_type(await ada.ask(Researcher.research, "bees", depth=2), list[str])
    assert_type(await ada.within(30).ask(Researcher.research, "bees"), list[str])
    assert_type(await ada.ask(Researcher.status), int)
    assert_type(ada.stream(Researcher.tokens, "ants"), Stream[str])
    async for token in ada.stream(Researcher.tokens, "ants"):
        assert_type(token, str)
    assert_type(ada.proxy, Researcher)
    assert_type(await ada.proxy.research("bees"), list[str])
    await ada.tell(Researcher.research, "wasps")
    await ada.tell(Researcher.tokens, "wasps")
    ada.tell_nowait(Researcher.research, "ants", depth=1)
    assert_type(await bo.ask(Researcher.research, "bees"), list[str])
    base: Ref[Researcher] = bo
    assert_type(await base.ask(Researcher.status), int)


async def spawns(swarm: Swarm, group: Group) -> None:
    assert_type(await swarm.spawn(Researcher), Ref[Researcher])
    assert_type(await swarm.spawn(Researcher, "large", name="ada"), Ref[Researcher])
    assert_type(await swarm.spawn(lambda: Writer(), restart=Restart()), Ref[Writer])
    assert_type(await group.spawn(Researcher, "large"), Ref[Researcher])


async def errors(swarm: Swarm, ada: Ref[Researcher]) -> None:
    # a wrong argument
    await ada.ask(Researcher.research, 1)  # type: ignore[arg-type]
    await ada.tell(Researcher.research, 1)  # type: ignore[arg-type]
    ada.tell_nowait(Researcher.research, 1)  # type: ignore[arg-type]
    ada.stream(Researcher.tokens, 1)  # type: ignore[arg-type]
    # a missing one
    await ada.ask(Researcher.research)  # type: ignore[call-arg]
    # a wrong keyword
    await ada.ask(Researcher.research, "bees", width=1)  # type: ignore[call-arg]
    # a method of another agent
    await ada.ask(Writer.write)  # type: ignore[arg-type]
    await ada.ask(Senior.lead)  # type: ignore[arg-type]
    # the wrong verb
    ada.stream(Researcher.research, "bees")  # type: ignore[arg-type]
    # a wrong argument of the factory, and no agent at all
    await swarm.spawn(Researcher, 1)  # type: ignore[arg-type]
    await swarm.spawn(Researcher, model="x")  # type: ignore[arg-type]
    await swarm.spawn(dict)  # type: ignore[type-var]


class Keeper(Agent):
    async def keep(self) -> None:
        assert_type(self.state, StateHandle)
        assert_type(self.shared, StateHandle)
        assert_type(await self.state.increment("kept"), int)
        assert_type(self.swarm, Surface)
        async with self.swarm.lock("x") as lease:
            assert_type(lease, Lease)
        other = await self.swarm.spawn(Researcher, "large")
        assert_type(other, Ref[Researcher])


async def the_portal(swarm: Swarm, ada: Ref[Researcher]) -> None:
    portal = swarm.portal()
    assert_type(portal.call(swarm.state.revision), int)
    assert_type(portal.call(ada.ask, Researcher.research, "bees"), list[str])
    portal.call_sync(ada.tell_nowait, Researcher.research, "bees")
    assert_type(portal.call_sync(swarm.agents.get, "ada"), Ref[Any] | None)
    portal.call_sync(swarm.agents.get, 1)  # type: ignore[arg-type]
