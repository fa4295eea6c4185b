"""Rights to positions and dead letters, and reserved events."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from swarm import (
    AccessDenied,
    Agent,
    AgentStopped,
    Event,
    HandoffAccepted,
    LockAcquired,
    NotFound,
    Policy,
    Rule,
    StateUpdated,
    Swarm,
    SystemAlert,
    SystemConfigChanged,
    TaskCompleted,
    event,
)
from tests.support.virtual_loop import virtual


@event("rights.note")
class Note:
    text: str = ""


class Doer(Agent):
    """An agent that uses the bus as itself."""

    async def do(self, act: Callable[[Any], Any]) -> Any:
        return await act(self.swarm.events)


class Stranger(Doer): ...


async def refuse(_: Event[Note]) -> None:
    raise ValueError("no")


def subscribe(name: str | None, group: str | None = None) -> Callable[[Any], Any]:
    return lambda events: events.on(Note, refuse, name=name, group=group, max_retries=0)


def strict() -> Policy:
    return Policy.strict()


@pytest.mark.parametrize("policy", [Policy.default, strict])
def test_a_position_is_the_programs_or_of_a_type_of_agents(policy: Any) -> None:
    """G11, S15: agents of other types may not use the name or its dead letters."""

    @virtual
    async def scenario() -> None:
        async with Swarm(policy=policy()) as swarm:
            events = swarm.events
            one = await swarm.spawn(Doer, name="one", role="pulse")
            other = await swarm.spawn(Stranger, name="other", role="pulse")
            sub = await subscribe("billing")(events)
            await events.publish(Note())
            await asyncio.sleep(1)
            await sub.cancel()
            (letter,) = await events.dead_letters.list()
            before = await swarm.state.get("subscriptions.billing")
            for act in (
                lambda e: e.forget("billing"),
                subscribe("billing"),
                lambda e: e.on(Note, refuse, name="billing", since=0),
                lambda e: e.dead_letters.discard(letter.id),
                lambda e: e.dead_letters.requeue(letter.id),
            ):
                with pytest.raises(AccessDenied):
                    await one.ask(Doer.do, act)
            assert await swarm.state.get("subscriptions.billing") == before
            assert await events.dead_letters.get(letter.id) == letter
            assert "billing" not in swarm._coordinator.bus.named
            await subscribe("billing")(events)  # the program has it again

            await one.ask(Doer.do, subscribe("mine"))
            await events.publish(Note())
            await asyncio.sleep(1)
            await one.stop()  # and what it has subscribed
            (own,) = await events.dead_letters.list("mine")
            assert own.owner == "doer"
            for act in (
                lambda e: e.dead_letters.discard(own.id),
                subscribe("mine"),
                lambda e: e.forget("mine"),
            ):
                with pytest.raises(AccessDenied):
                    await other.ask(Doer.do, act)
                two = await swarm.spawn(Doer, name="two", role="pulse")
                assert await two.ask(Doer.do, act)
                await two.stop()
            assert not await events.forget("mine")

    scenario()


@virtual
async def test_agents_see_their_own_letters_and_others_that_they_may_read() -> None:
    """S15: a dead letter shows only what its subscription may see."""
    async with Swarm(policy=Policy.strict()) as swarm:
        one = await swarm.spawn(Doer, name="one", role="pulse")
        await subscribe("billing")(swarm.events)
        await one.ask(Doer.do, subscribe("mine"))
        await swarm.events.publish(Note())
        await asyncio.sleep(1)
        ids = [letter.id for letter in await swarm.events.dead_letters.list()]
        theirs, own = sorted(ids)
        (seen,) = await one.ask(Doer.do, lambda e: e.dead_letters.list())
        assert seen.id == own
        assert (await one.ask(Doer.do, lambda e: e.dead_letters.get(own))).id == own
        for letter_id in (theirs, "billing:9.9"):
            with pytest.raises(AccessDenied):
                await one.ask(Doer.do, lambda e, i=letter_id: e.dead_letters.get(i))
        with pytest.raises(NotFound):
            await swarm.events.dead_letters.get("billing:9.9")


@virtual
async def test_a_policy_without_such_a_rule_allows_no_names() -> None:
    """S15: access is denied unless a rule allows it; the right to write is enough."""
    policy = Policy([Rule("*", "**", "r"), Rule("clerk", "subscriptions", "rw")])
    async with Swarm(policy=policy) as swarm:
        one = await swarm.spawn(Doer, name="one")
        clerk = await swarm.spawn(Stranger, name="clerk", role="clerk")
        with pytest.raises(AccessDenied, match="no rule lets one"):
            await one.ask(Doer.do, subscribe("mine"))
        assert await swarm.state.keys("subscriptions.**") == []
        sub = await subscribe("billing")(swarm.events)
        await sub.cancel()
        await clerk.ask(Doer.do, subscribe("billing"))
        await clerk.stop()
        sub = await subscribe("billing")(swarm.events)  # it is still the program's
        await sub.cancel()
        assert await swarm.events.forget("billing")


@virtual
async def test_workers_of_one_type_share_a_name() -> None:
    """E16: whichever of them comes first, or is left."""
    async with Swarm() as swarm:
        for first, second in (("one", "two"), ("two", "one"), ("three", "one")):
            a = await swarm.spawn(Doer, name=first)
            b = await swarm.spawn(Doer, name=second)
            for ref in (a, b):
                await ref.ask(Doer.do, subscribe("pool", "pool"))
            await a.stop()
            await b.stop()


FORGED: list[Any] = [
    StateUpdated("secret.x", 1, "forged", 0, None),
    AgentStopped("boss"),
    LockAcquired("x", "1", "boss", "exclusive"),
    SystemConfigChanged("max_agents", "0"),
    TaskCompleted("t-1"),
    HandoffAccepted("h-1", "t-1", "boss"),
]


@event("rights.stopped")
class Derived(AgentStopped):
    pass


@event("lock.expired")
class Namesake:
    resource: str


@pytest.mark.parametrize(
    "payload", [*FORGED, Derived("boss"), Namesake("x")], ids=lambda p: type(p).__name__
)
def test_events_of_the_swarm_itself_cannot_be_published(payload: Any) -> None:
    """G11, S15: not the program either; nothing is committed."""

    @virtual
    async def scenario() -> None:
        async with Swarm() as swarm:
            ref = await swarm.spawn(Doer)
            names = [
                f"{what}.*" for what in ("state", "agent", "lock", "task", "handoff")
            ]
            async with swarm.events.subscribe(names) as sub:
                before = swarm._coordinator.kernel.revision
                for _ in range(2):
                    for options in ({}, {"key": "k"}):
                        with pytest.raises(AccessDenied, match="by the swarm itself"):
                            await swarm.events.publish(payload, **options)
                        with pytest.raises(AccessDenied, match="by the swarm itself"):
                            await ref.ask(
                                Doer.do, lambda e, o=options: e.publish(payload, **o)
                            )
                assert swarm._coordinator.kernel.revision == before
                assert sub.stats.buffered == 0

    scenario()


@virtual
async def test_alerts_can_be_published() -> None:
    """They are not reserved."""
    async with Swarm() as swarm:
        payload = SystemAlert("info", "disk", "full")
        receipt = await swarm.events.publish(payload)
        (told,) = swarm.events.query(SystemAlert)
        assert (told.seq, told.payload) == (receipt.seq, payload)


@virtual
async def test_an_agent_does_not_see_the_subscriptions_of_others() -> None:
    """G11, S15: it is not given it."""
    async with Swarm() as swarm:
        one = await swarm.spawn(Doer, name="one")
        await swarm.events.on(Note, lambda _: None)

        async def own(events: Any) -> list[str]:
            await events.on(Note, lambda _: None)
            return [str(sub.identity) for sub in events.subscriptions()]

        assert await one.ask(Doer.do, own) == ["one"]
        assert len(swarm.events.subscriptions()) == 2


# --- groups ---------------------------------------------------------------------------


@virtual
async def test_sharing_a_position_needs_the_right_to_take_it_over() -> None:
    """S15, E16: to join a group with a name is to take events from the others."""
    async with Swarm() as swarm:
        one = await swarm.spawn(Doer, name="one")
        other = await swarm.spawn(Stranger, name="other")
        await subscribe("billing", "g")(swarm.events)
        for ref in (one, other):
            with pytest.raises(AccessDenied):
                await ref.ask(Doer.do, subscribe("billing", "g"))
            with pytest.raises(AccessDenied):
                await ref.ask(Doer.do, subscribe(None, "g"))
        await one.ask(Doer.do, subscribe("mine", "m"))
        with pytest.raises(AccessDenied):
            await other.ask(Doer.do, subscribe("mine", "m"))
        assert await subscribe("mine", "m")(swarm.events)  # the program may


@virtual
async def test_joining_a_group_needs_the_right_to_see_its_events() -> None:
    """S15: a group gets the events that its first member may see."""
    policy = Policy([Rule("reader", "**", "r"), Rule("blind", "shared", "rw")])
    async with Swarm(policy=policy) as swarm:
        blind = await swarm.spawn(Doer, name="blind", role="blind")
        twin = await swarm.spawn(Doer, name="twin", role="blind")
        reader = await swarm.spawn(Doer, name="reader", role="reader")
        seen: list[str] = []

        def join(group: str, pattern: str = "state.*") -> Callable[[Any], Any]:
            def note(event: Event[Any]) -> None:
                seen.append(event.payload.path)

            return lambda events: events.on(pattern, note, group=group)

        await join("all")(swarm.events)
        await reader.ask(Doer.do, join("all"))
        with pytest.raises(AccessDenied, match="may not see"):
            await blind.ask(Doer.do, join("all"))
        await blind.ask(Doer.do, join("some"))
        await twin.ask(Doer.do, join("some"))
        await reader.ask(Doer.do, join("some"))
        await join("notes", "rights.note")(swarm.events)
        await blind.ask(Doer.do, join("notes", "rights.note"))
        await swarm.state.set("secret", 1)
        await swarm.state.set("shared.x", 1)
        await asyncio.sleep(1)
        assert sorted(seen) == ["secret", "shared.x", "shared.x"]


@virtual
async def test_a_member_that_joins_a_failed_group_begins_it_anew() -> None:
    """G3: it does not join the failed subscription."""
    async with Swarm() as swarm:
        got: list[str] = []

        async def handler(event: Event[Note]) -> None:
            got.append(event.payload.text)

        def begin() -> Any:
            events = swarm.events
            return asyncio.ensure_future(events.on(Note, handler, name="n", group="g"))

        kernel: Any = swarm._coordinator.bus.host.kernel
        commit, gate = kernel.commit, asyncio.Event()

        async def fail(*_: Any, **__: Any) -> Any:
            kernel.commit = commit
            await gate.wait()
            raise OSError("no room")

        kernel.commit = fail
        first = begin()
        await asyncio.sleep(1)
        second, third = begin(), begin()
        cancelled = begin()
        await asyncio.sleep(1)
        cancelled.cancel()
        gate.set()
        with pytest.raises(OSError, match="no room"):
            await first
        members = [await second, await third]
        assert [member.status for member in members] == ["active"] * 2
        await swarm.events.publish(Note("x"))
        await asyncio.sleep(1)
        assert got == ["x"]
