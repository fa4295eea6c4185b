"""Handlers of every shape, and handlers that cancel, pause and publish."""

import asyncio
import functools
from collections.abc import Callable
from typing import Any
from unittest.mock import AsyncMock, MagicMock, Mock

import pytest

from swarm import (
    Agent,
    Backoff,
    Batch,
    Closed,
    DeadlockError,
    Event,
    Restart,
    Swarm,
    SystemAlert,
    event,
    on,
)
from tests.support.virtual_loop import VirtualLoop, turns, virtual


@event("hand.over")
class Ping:
    number: int


LOG: list[str] = []


def balanced(sub: Any) -> Any:
    """Return the books of a subscription, which must balance (E17)."""
    s = sub.stats
    assert s.received == s.processed + s.dead + s.dropped + s.in_flight + s.buffered, s
    assert min(s.processed, s.dead, s.dropped, s.in_flight, s.buffered) >= 0, s
    return s


# --- shapes ---------------------------------------------------------------------------


class PlainCallable:
    def __call__(self, _: Any) -> None:
        LOG.append("x")


class AsyncCallable:
    async def __call__(self, _: Any) -> None:
        LOG.append("x")


class Methods:
    def bound(self, _: Any) -> None:
        LOG.append("x")

    async def bound_async(self, _: Any) -> None:
        LOG.append("x")

    @staticmethod
    def static(_: Any) -> None:
        LOG.append("x")

    @classmethod
    async def of_class(cls, _: Any) -> None:
        LOG.append("x")


def second(_: Any, __: Any) -> None:
    LOG.append("x")


async def second_async(_: Any, __: Any) -> None:
    LOG.append("x")


SHAPES: dict[str, Callable[..., Any]] = {
    "callable object": PlainCallable(),
    "async callable object": AsyncCallable(),
    "bound method": Methods().bound,
    "async bound method": Methods().bound_async,
    "static method": Methods.static,
    "async class method": Methods.of_class,
    "partial": functools.partial(second, 1),
    "async partial": functools.partial(second_async, 1),
    "builtin": lambda: None,
    "with a default": lambda e, more=1: LOG.append("x"),
    "with anything": lambda *a, **k: LOG.append("x"),
}


@pytest.mark.parametrize("delivery", ["at-most-once", "at-least-once"])
@pytest.mark.parametrize("shape", SHAPES)
def test_every_shape_of_callable_is_a_handler(shape: str, delivery: Any) -> None:
    """Callables are called with the event; those that are async are awaited."""

    @virtual
    async def scenario() -> None:
        LOG.clear()
        handler = LOG.append if shape == "builtin" else SHAPES[shape]
        async with Swarm() as swarm:
            sub = await swarm.events.on(Ping, handler, delivery=delivery)
            for number in range(2):
                await swarm.events.publish(Ping(number))
            await asyncio.sleep(1)
            assert len(LOG) == 2
            assert balanced(sub).processed == 2

    scenario()


ERRORS: list[BaseException] = [
    ValueError("x"),
    asyncio.CancelledError(),
    GeneratorExit(),
    StopIteration(1),
    StopAsyncIteration(),
    TimeoutError(),
    ExceptionGroup("several", [ValueError("x")]),
]


@pytest.mark.parametrize("how", ["plain", "async", "at-least-once"])
@pytest.mark.parametrize("error", ERRORS, ids=lambda e: type(e).__name__)
def test_an_exception_of_a_handler_is_its_failure(
    error: BaseException, how: str
) -> None:
    """E10, E17: it is that handler's failure, counted and kept; others go on."""

    def plain(_: Any) -> None:
        raise error

    async def later(_: Any) -> None:
        raise error

    @virtual
    async def scenario() -> None:
        async with Swarm() as swarm:
            others: list[int] = []
            await swarm.events.on(Ping, lambda e: others.append(e.payload.number))
            handler = plain if how == "plain" else later
            sub = await swarm.events.on(
                Ping,
                handler,
                delivery="at-least-once" if how == "at-least-once" else None,
                max_retries=1,
                backoff=Backoff(0.1, 1),
            )
            await swarm.events.on(Ping, lambda e: others.append(-e.payload.number))
            for number in (1, 2):
                await swarm.events.publish(Ping(number))
            await asyncio.sleep(10)
            s = balanced(sub)
            assert (s.dead, s.processed, s.in_flight) == (2, 0, 0)
            assert s.errors == (4 if how == "at-least-once" else 2)
            assert sorted(others) == [-2, -1, 1, 2]
            letters = await swarm.events.dead_letters.list()
            assert len(letters) == 2

    scenario()


class TestFailed(BaseException):
    """An exception as that of `pytest.fail`: not an `Exception`."""

    __test__ = False


@pytest.mark.parametrize("how", ["plain", "async", "at-least-once"])
def test_an_exception_that_is_no_exception_ends_the_swarm(how: str) -> None:
    """It does not vanish: it comes out of the block, and the event is kept."""

    def plain(_: Any) -> None:
        raise TestFailed("told")

    async def later(_: Any) -> None:
        raise TestFailed("told")

    @virtual
    async def scenario() -> None:
        with pytest.raises(BaseExceptionGroup) as caught:
            async with Swarm() as swarm:
                sub = await swarm.events.on(
                    Ping,
                    plain if how == "plain" else later,
                    delivery="at-least-once" if how == "at-least-once" else None,
                    max_retries=0,
                )
                await swarm.events.publish(Ping(1))
                await asyncio.sleep(10)
        assert caught.value.subgroup(TestFailed) is not None
        assert balanced(sub).dead == 1

    scenario()


@pytest.mark.parametrize("how", ["plain", "async", "at-least-once"])
def test_system_exit_of_a_handler_ends_the_program(how: str) -> None:
    """SystemExit goes through; the books balance and the others have their events."""
    kept: list[Any] = []
    others: list[int] = []

    def plain(event: Event[Ping]) -> None:
        if event.payload.number == 0:
            raise SystemExit(3)

    async def later(event: Event[Ping]) -> None:
        plain(event)

    async def scenario() -> None:
        swarm = await Swarm.open()
        kept.append(swarm)
        sub = await swarm.events.on(
            Ping,
            plain if how == "plain" else later,
            delivery="at-least-once" if how == "at-least-once" else None,
        )
        other = await swarm.events.on(Ping, lambda e: others.append(e.payload.number))
        kept.extend((sub, other))
        for number in range(3):
            await swarm.events.publish(Ping(number))
        try:
            await asyncio.sleep(1)
        finally:
            await swarm.close()

    with (
        pytest.raises(SystemExit),
        asyncio.Runner(loop_factory=VirtualLoop) as runner,
    ):
        runner.run(scenario())
    assert others == [0, 1, 2]
    for sub in kept[1:]:
        s = balanced(sub)
        assert (s.received, s.in_flight) == (3, 0)
    assert kept[1].stats.errors == 1


# --- what they do ---------------------------------------------------------------------


@pytest.mark.parametrize("name", [None, "mine"])
@pytest.mark.parametrize("wait", [False, True])
@pytest.mark.parametrize("delivery", ["at-most-once", "at-least-once", "exactly-once"])
def test_a_handler_cancels_its_own_subscription(
    delivery: Any, wait: bool, name: str | None
) -> None:
    """E12, E13: the current run finishes, and none follows."""

    @virtual
    async def scenario() -> None:
        async with Swarm() as swarm:
            seen: list[int] = []

            async def handle(event: Event[Ping], *_: Any) -> None:
                seen.append(event.payload.number)
                settled = sub.cancel()
                if wait:
                    await settled
                await asyncio.sleep(0)

            async def effect(event: Event[Ping], tx: Any) -> None:
                await handle(event)
                await tx.set("seen", event.payload.number)

            handler: Any = effect if delivery == "exactly-once" else handle
            sub = await swarm.events.on(Ping, handler, delivery=delivery, name=name)
            for number in range(3):
                await swarm.events.publish(Ping(number))
            await asyncio.sleep(5)
            s = balanced(sub)
            assert seen == [0]
            assert (s.processed, s.dropped, sub.status) == (1, 2, "cancelled")
            if delivery == "exactly-once":
                assert await swarm.state.get("seen") == 0
            if name is not None:
                sub = await swarm.events.on(Ping, handler, delivery=delivery, name=name)
                await asyncio.sleep(5)
                assert seen == [0, 1], "the next one goes on where it stopped"

    scenario()


@virtual
async def test_a_handler_cancels_all_others() -> None:
    """E12: none of them is called again, not even with the event in hand."""
    async with Swarm() as swarm:
        got: list[int] = []

        def kill(_: Any) -> None:
            for other in swarm.events.subscriptions():
                other.cancel()

        def number(n: int) -> Any:
            return lambda _: got.append(n)

        subs = [await swarm.events.on(Ping, number(n)) for n in range(3)]
        killer = await swarm.events.on(Ping, kill)
        subs += [await swarm.events.on(Ping, number(n)) for n in range(3, 6)]
        subs.append(await swarm.events.on(Ping, second_async_of_one))
        for n in (1, 2):
            await swarm.events.publish(Ping(n))
        await asyncio.sleep(5)
        assert got == [0, 1, 2]
        assert [balanced(s).processed for s in subs] == [1, 1, 1, 0, 0, 0, 0]
        assert [s.stats.dropped for s in subs] == [1, 1, 1, 2, 2, 2, 2]
        assert balanced(killer).processed == 1
        assert len(swarm._coordinator.bus.routes) == 0


async def second_async_of_one(_: Any) -> None:
    await asyncio.sleep(1)


@virtual
async def test_a_handler_that_publishes_to_itself_ends() -> None:
    """E19: the depth limit is a failure with a dead letter."""
    async with Swarm() as swarm:
        count = 0

        async def again(event: Event[Ping]) -> None:
            nonlocal count
            count += 1
            await swarm.events.publish(Ping(event.payload.number + 1))

        sub = await swarm.events.on(Ping, again)
        await swarm.events.publish(Ping(0))
        await asyncio.sleep(10)
        assert count == 65
        assert balanced(sub).dead == 1
        (letter,) = await swarm.events.dead_letters.list()
        assert letter.error.type == "LimitExceeded"


@virtual
async def test_a_handler_pauses_its_own_subscription() -> None:
    """E12: waiting for quiet inside the only handler does not wait for itself."""
    async with Swarm() as swarm:
        got: list[int] = []

        async def handle(event: Event[Ping]) -> None:
            got.append(event.payload.number)
            if event.payload.number == 1:
                await sub.pause()

        sub = await swarm.events.on(Ping, handle, delivery="at-least-once")
        for number in range(4):
            await swarm.events.publish(Ping(number))
        await asyncio.sleep(5)
        assert got == [0, 1]
        assert balanced(sub).buffered == 2
        sub.resume()
        await asyncio.sleep(1)
        assert got == [0, 1, 2, 3]


@virtual
async def test_members_leave_in_their_handlers() -> None:
    """E13, E16: each event goes to exactly one member, also when members leave."""
    async with Swarm() as swarm:
        got: list[int] = []
        members: list[Any] = []

        async def handle(event: Event[Ping]) -> None:
            got.append(event.payload.number)
            if len(members) > 1:
                await members.pop().cancel()
            await asyncio.sleep(0.1)

        for _ in range(3):
            members.append(
                await swarm.events.on(Ping, handle, group="g", delivery="at-least-once")
            )
        left = members[-1]
        for number in range(6):
            await swarm.events.publish(Ping(number))
        await asyncio.sleep(20)
        assert sorted(set(got)) == list(range(6))
        assert balanced(members[0]).processed == 6
        with pytest.raises(Closed):
            left.pause()
        left.cancel()
        assert (left.status, members[0].status) == ("cancelled", "active")


@virtual
async def test_a_name_resumed_with_other_options() -> None:
    """E3, E5: nothing is skipped or repeated."""
    async with Swarm() as swarm:
        got: list[int] = []

        async def handle(subject: Any, *_: Any) -> None:
            events = subject if isinstance(subject, list) else [subject]
            got.extend(each.payload.number for each in events)

        async def effect(event: Any, tx: Any) -> None:
            await handle(event)

        published = 0
        for options in (
            {"ordered": False},
            {"delivery": "at-most-once"},
            {"delivery": "exactly-once"},
            {"batch": Batch(3, 1)},
            {"partition": lambda e: e.payload.number},
            {"group": "g"},
            {"delivery": "at-least-once", "on_error": "ignore"},
            {"where": lambda e: True},
        ):
            exactly = options.get("delivery") == "exactly-once"
            handler: Any = effect if exactly else handle
            sub = await swarm.events.on(Ping, handler, name="x", **options)  # type: ignore[arg-type]
            for _ in range(3):
                await swarm.events.publish(Ping(published))
                published += 1
            await asyncio.sleep(3)
            assert balanced(sub).in_flight == 0
            await sub.cancel()
            await swarm.events.publish(Ping(published))
            published += 1
        await swarm.events.on("other.thing", handle, name="x")
        await asyncio.sleep(1)
        assert sorted(got) == list(range(published - 1))


@virtual
async def test_a_handler_that_awaits_the_end_of_its_swarm_is_refused() -> None:
    """A handler or agent that closes its swarm is told, at once."""
    raised: list[BaseException] = []

    class Closer(Agent):
        async def close(self) -> None:
            await swarm.close()

    async def close(_: Any) -> None:
        try:
            await swarm.close()
        except DeadlockError as error:
            raised.append(error)

    async with Swarm() as swarm:
        await swarm.events.on(Ping, close)
        closer = await swarm.spawn(Closer)
        await swarm.events.publish(Ping(1))
        await asyncio.sleep(1)
        with pytest.raises(DeadlockError, match="cannot wait for its end"):
            await closer.ask(Closer.close)
        assert len(raised) == 1


def test_closing_in_the_middle_of_everything() -> None:
    """G12, E17: at every step, finished or cut short; no task left, books balanced."""

    async def scenario(k: int) -> None:
        swarm = await Swarm.open()

        async def slow(_: Any) -> None:
            await asyncio.sleep(1)

        async def effect(event: Event[Ping], tx: Any) -> None:
            await tx.set("a", event.payload.number)
            await asyncio.sleep(1)

        async def bad(_: Any) -> None:
            raise ValueError("x")

        events = swarm.events
        subs: list[Any] = [
            await events.on(Ping, slow),
            await events.on(Ping, effect, delivery="exactly-once", name="effect"),
            await events.on(Ping, bad, name="bad"),
            await events.on(Ping, slow, delivery="at-least-once", ordered=False),
            await events.on(Ping, lambda _: None),
            await events.on(Ping, bad),
        ]
        stream = events.subscribe(Ping, buffer=2)
        await stream.__aenter__()

        async def publish() -> None:
            try:
                for number in range(50):
                    await events.publish(Ping(number), key=f"k{number}")
            except Closed:
                pass

        publisher = asyncio.create_task(publish())
        await turns(k)
        closing = asyncio.create_task(swarm.close())
        if k % 2:
            await turns(k % 7)
            closing.cancel()
        await asyncio.gather(closing, return_exceptions=True)
        await swarm.close()
        await publisher
        for sub in subs:
            assert balanced(sub).in_flight == 0
        balanced(stream)
        left = asyncio.all_tasks() - {asyncio.current_task()}
        assert not left

    for k in range(30):
        with asyncio.Runner(loop_factory=VirtualLoop) as runner:
            runner.run(scenario(k))


# --- agents ---------------------------------------------------------------------------


class Mortal(Agent):
    def __init__(self, seen: list[int]) -> None:
        self.seen = seen

    @on(Ping)
    async def ping(self, event: Event[Ping]) -> None:
        self.seen.append(event.payload.number)
        await asyncio.sleep(1)
        if event.payload.number == 2 and self.seen.count(2) == 1:
            raise ValueError("this one killed me")


async def _six(swarm: Swarm) -> Any:
    (heard,) = [s for s in swarm.events.subscriptions() if s.name.endswith(".ping")]
    for number in range(6):
        await swarm.events.publish(Ping(number))
    return heard


@virtual
async def test_an_exception_of_an_on_method_reaches_the_supervisor() -> None:
    """Nothing is swallowed: unsupervised, it ends the swarm."""
    with pytest.raises(ExceptionGroup) as caught:
        async with Swarm() as swarm:
            await swarm.spawn(Mortal, [])
            await _six(swarm)
            await asyncio.sleep(50)
    (error,) = caught.value.exceptions
    assert str(error) == "this one killed me"
    assert "Mortal.ping" in error.__notes__[0]


@pytest.mark.parametrize("in_hand", ["fail", "redeliver"])
def test_a_restarted_agent_goes_on_with_its_events(in_hand: Any) -> None:
    """Queued events stay queued; the current one is treated as declared."""

    @virtual
    async def scenario() -> None:
        seen: list[int] = []
        async with Swarm() as swarm:
            restart = Restart("permanent", max=2, in_hand=in_hand)
            await swarm.spawn(Mortal, seen, restart=restart)
            heard = await _six(swarm)
            await asyncio.sleep(50)
            again = [2] if in_hand == "redeliver" else []
            assert seen == [0, 1, 2, *again, 3, 4, 5]
            assert balanced(heard).processed == 6

    scenario()


@pytest.mark.parametrize("end", ["kill", "fail"])
def test_an_agent_dies_with_events_in_its_mailbox(end: str) -> None:
    """Nothing is lost silently: each is counted as dropped, with an alert."""

    @virtual
    async def scenario() -> None:
        seen: list[int] = []
        alerts: list[SystemAlert] = []
        async with Swarm() as swarm:
            await swarm.events.on(SystemAlert, lambda e: alerts.append(e.payload))
            restart = Restart("temporary")
            mortal = await swarm.spawn(Mortal, seen, name="mortal", restart=restart)
            heard = await _six(swarm)
            if end == "kill":
                await asyncio.sleep(0.5)
                await mortal.kill()
            await asyncio.sleep(50)
            s = balanced(heard)
            in_hand = 1 if end == "kill" else 0
            assert s.processed == len(seen) - in_hand
            assert s.dropped == 6 - s.processed == len(alerts)
            assert {a.kind for a in alerts} == {"events-lost"}
            assert {a.subject for a in alerts} == {"mortal.ping"}
            lost = {a.event_id for a in alerts}
            assert len(lost) == len(alerts)
            receipt = await swarm.events.publish(Ping(9))
            assert receipt.delivered_to == 0

    scenario()


# --- functions that are not what they seem --------------------------------------------


@pytest.mark.parametrize("kind", [Mock, MagicMock, AsyncMock])
def test_a_mock_is_a_handler(kind: Any) -> None:
    """E2: it has any attribute one asks for, and is called with the events."""

    @virtual
    async def scenario() -> None:
        async with Swarm() as swarm:
            handler = kind(return_value=None)
            await swarm.events.on(Ping, handler)
            await swarm.events.publish(Ping(1))
            await asyncio.sleep(1)
            assert handler.call_args[0][0].payload.number == 1

    scenario()


class Incomparable:
    """A partition key that can be found only while it is the only one."""

    def __hash__(self) -> int:
        return 1

    def __eq__(self, other: object) -> bool:
        raise ValueError("not to be compared")


@pytest.mark.parametrize("name", [None, "named"])
@virtual
async def test_partitions_that_cannot_be_compared_are_failures(
    name: str | None,
) -> None:
    """E2, E17: publishing never raises because of one, and the books balance."""
    async with Swarm() as swarm:
        got: list[int] = []

        async def handle(event: Event[Ping]) -> None:
            got.append(event.payload.number)

        sub = await swarm.events.on(
            Ping,
            handle,
            delivery="at-least-once",
            partition=lambda e: Incomparable(),
            name=name,
        )
        for number in range(3):
            await swarm.events.publish(Ping(number))
        await asyncio.sleep(1)
        s = sub.stats
        assert (s.received, s.processed, s.dead, s.errors) == (3, 1, 2, 2)
        assert (s.buffered, s.in_flight) == (0, 0)
        letters = await swarm.events.dead_letters.list()
        assert {letter.error.type for letter in letters} == {"ValueError"}
        await swarm.events.publish(Ping(3))
        await asyncio.sleep(1)
        assert got == [0, 3]
