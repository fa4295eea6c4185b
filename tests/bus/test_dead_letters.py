"""Dead letters are documents: committed with their alert, and never lost."""

import asyncio
import json
from typing import Any

import pytest

import swarm as api
from swarm import (
    AccessDenied,
    Backoff,
    Batch,
    BusOptions,
    Closed,
    Event,
    NotFound,
    Policy,
    StateCreated,
    Swarm,
    SwarmConfig,
    SystemAlert,
    correlated,
    event,
)
from swarm.bus import DeadLetter
from swarm.bus._dead_letter import letter_path
from swarm.model import Document, Path
from swarm.state import Rule
from tests.support.virtual_loop import VirtualLoop, turns, virtual

TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


@event("letter.sent")
class Sent:
    number: int
    notes: list[str] = []  # noqa: RUF012  # attrs copies nothing; nobody appends
    blob: bytes = b""


@event("letter.odd")
class Odd:
    thing: Any


def small(**options: Any) -> SwarmConfig:
    return SwarmConfig(events=BusOptions(**options))


async def fail(_: Any) -> None:
    raise ValueError("no")


@virtual
async def test_a_letter_its_alert_and_the_position_are_one_commit() -> None:
    """E10: one letter, under the revision of its alert, acknowledged with it."""
    async with Swarm() as swarm:
        await swarm.events.on(Sent, fail, name="post", on_error="dead-letter")
        receipt = await swarm.events.publish(Sent(1))
        await asyncio.sleep(1)
        (letter,) = await swarm.events.dead_letters.list()
        (alert,) = swarm.events.query(SystemAlert)
        document = await swarm.state.read(letter.path.text)
        position = await swarm.state.read("subscriptions.post")
        assert document is not None
        assert position is not None
        assert document.version == alert.seq == position.version
        assert position.value["seq"] >= receipt.seq
        assert alert.payload.kind == "dead-letter"
        assert (alert.payload.subject, alert.payload.event_id) == (
            "post",
            f"{receipt.seq}.0",
        )


@virtual
async def test_a_dead_letter_holds_the_event_and_the_error() -> None:
    """Q5: the event and the error as data, in JSON, and back."""
    async with Swarm() as swarm:
        await swarm.events.on(
            Sent, fail, name="post", max_retries=2, backoff=Backoff(0.1, 1)
        )
        with correlated("req-1", trace=TRACE):
            receipt = await swarm.events.publish(Sent(7, ["a"], b"\x00\xff"), key="k7")
        await asyncio.sleep(10)
        (letter,) = await swarm.events.dead_letters.list()
        told = json.loads(json.dumps(await swarm.state.get(letter.path.text)))
        assert told["event"]["payload"]["number"] == 7
        assert told["error"]["type"] == "ValueError"
        assert "in fail" in told["error"]["traceback"]
        # As another process would read it:
        path = Path.parse(letter.path.text)
        body = json.dumps(told).encode()
        read = DeadLetter.of(Document(path, body, None, 9, 9, 0, api.OWNER))
        assert read == letter
        ev = read.event
        assert ev.payload == Sent(7, ["a"], b"\x00\xff")
        assert (ev.seq, ev.id, ev.type) == (
            receipt.seq,
            f"{receipt.seq}.0",
            "letter.sent",
        )
        assert (ev.correlation_id, ev.trace, ev.key) == ("req-1", TRACE, "k7")
        assert (ev.source, ev.depth) == (api.OWNER, 0)
        assert letter.attempts == 3
        assert letter.id == f"post:{ev.id}"
        assert str(letter.error) == "ValueError: no"


@pytest.mark.parametrize(
    ("thing", "as_json"),
    [({1, 2}, [1, 2]), ((1, 2), [1, 2]), ({3: "int key"}, {"3": "int key"})],
    ids=["set", "tuple", "int-key"],
)
def test_a_payload_that_json_changes_is_whole_in_its_own_process(
    thing: Any, as_json: Any
) -> None:
    """Elsewhere the letter shows what JSON makes of it."""

    @virtual
    async def scenario() -> None:
        async with Swarm() as swarm:
            broken = True
            got: list[Any] = []

            async def handle(event: Event[Odd]) -> None:
                if broken:
                    raise ValueError("no")
                got.append(event.payload.thing)

            await swarm.events.on(Odd, handle, name="odd", max_retries=0)
            await swarm.events.publish(Odd(thing))
            await asyncio.sleep(1)
            (letter,) = await swarm.events.dead_letters.list()
            assert letter.event.payload.thing == thing
            told = await swarm.state.get(letter.path.text)
            elsewhere = DeadLetter.of(
                Document(
                    letter.path, json.dumps(told).encode(), None, 9, 9, 0, api.OWNER
                )
            )
            assert letter.payload == elsewhere.payload == {"thing": as_json}
            assert elsewhere.event.payload.thing == as_json
            broken = False
            await swarm.events.dead_letters.requeue(letter.id)
            await asyncio.sleep(1)
            assert got == [thing]
            assert not await swarm.events.dead_letters.list()

    scenario()


@virtual
async def test_a_named_subscription_that_comes_back_gets_its_letters() -> None:
    """E10: requeued while no subscription has the name; kept until it is handled."""
    async with Swarm() as swarm:
        letters = swarm.events.dead_letters
        sub = await swarm.events.on(Sent, fail, name="post", max_retries=0)
        for number in range(3):
            await swarm.events.publish(Sent(number))
        await asyncio.sleep(1)
        await sub.cancel()
        first, second, third = await letters.list("post")
        await letters.requeue(first.id)
        await letters.requeue(first.id)
        await letters.requeue(third.id)
        assert [le.is_requeued for le in await letters.list()] == [False, True, True]
        got: list[int] = []
        marks: list[int] = []

        async def handle(event: Event[Sent]) -> None:
            got.append(event.payload.number)
            marks.append(len(await letters.list()))
            if event.payload.number == 2:
                raise ValueError("again")

        sub = await swarm.events.on(Sent, handle, name="post", max_retries=0)
        await asyncio.sleep(1)
        assert got == [0, 2]
        assert marks == [3, 3], "a letter stays until its event is decided"
        left = await letters.list()
        assert [le.id for le in left] == [second.id, third.id]
        assert left[1].error.message == "again"
        s = sub.stats
        assert (s.received, s.processed, s.dead) == (2, 1, 1)
        await sub.cancel()
        with pytest.raises(NotFound):
            await letters.requeue(first.id)


@pytest.mark.parametrize("delivery", ["at-least-once", "exactly-once"])
def test_requeued_and_crashed_at_every_step(delivery: Any) -> None:
    """E5, E7, E10: a requeued event is handled or still a letter, whenever it ends."""

    async def scenario(k: int) -> bool:
        async with Swarm(seed=1) as swarm:
            letters = swarm.events.dead_letters
            broken = True

            async def effect(event: Event[Sent], tx: Any) -> None:
                await turns(1)
                if broken:
                    raise ValueError("no")
                count = await tx.get("effect", 0)
                await tx.set("effect", count + 1)
                await turns(1)

            async def handle(event: Event[Sent]) -> None:
                await turns(1)
                if broken:
                    raise ValueError("no")
                await swarm.state.increment("effect")
                await turns(1)

            async def begin() -> Any:
                return await swarm.events.on(
                    Sent,
                    effect if delivery == "exactly-once" else handle,
                    delivery=delivery,
                    name="post",
                    max_retries=0,
                )

            sub = await begin()
            await swarm.events.publish(Sent(1))
            await asyncio.sleep(1)
            broken = False
            (letter,) = await letters.list()
            await letters.requeue(letter.id)
            await turns(k)
            done = sub.stats.processed == 1
            await sub.cancel()
            sub = await begin()
            await asyncio.sleep(1)
            assert not await letters.list(), k
            effects = await swarm.state.get("effect", 0)
            assert effects == 1 if delivery == "exactly-once" else effects >= 1, k
            return done

    for k in range(60):
        with asyncio.Runner(loop_factory=VirtualLoop) as runner:
            if runner.run(scenario(k)):
                return
    raise AssertionError("never done")


@virtual
async def test_dead_letters_are_bounded_and_pruned_ones_are_counted() -> None:
    """Limits: the oldest go, some at a time, with an alert; the newest stay."""
    async with Swarm(config=small(dead_letters=20)) as swarm:
        await swarm.events.on(Sent, fail)
        for number in range(50):
            await swarm.events.publish(Sent(number))
            await turns(3)
            assert len(await swarm.events.dead_letters.list()) <= 20
        left = await swarm.events.dead_letters.list()
        numbers = [letter.event.payload.number for letter in left]
        assert numbers == list(range(50 - len(left), 50))
        assert len(left) >= 18
        assert swarm.events.dead_letters.forgotten == 50 - len(left)
        alerts = swarm.events.query(SystemAlert)
        kinds = [a.payload.kind for a in alerts]
        assert kinds.count("dead-letters-forgotten") == 50 - len(left)
        assert f"pruned: {50 - len(left)}" in swarm.explain()


@virtual
async def test_a_storm_of_failures_is_bounded() -> None:
    """Limits: more failures in one loop turn than letters can be kept."""
    async with Swarm(config=small(dead_letters=30)) as swarm:
        for _ in range(50):
            await swarm.events.on(Sent, fail_now)
        for number in range(40):
            await swarm.events.publish(Sent(number))
        await asyncio.sleep(1)
        letters = swarm.events.dead_letters
        left = len(await letters.list())
        assert left <= 30
        assert left + letters.forgotten == 2_000
        dead = [s.stats.dead for s in swarm.events.subscriptions()]
        assert dead == [40] * 50
        assert len(swarm._coordinator.bus.failures._waiting) == 0


def fail_now(_: Any) -> None:
    raise ValueError("no")


@virtual
async def test_failing_at_alerts_does_not_feed_itself() -> None:
    """E19: dead letters of alerts make no new alerts."""
    async with Swarm(config=small(dead_letters=3)) as swarm:
        sub = await swarm.events.on(SystemAlert, fail_now)
        await swarm.events.on(Sent, fail_now)
        for number in range(10):
            await swarm.events.publish(Sent(number))
        await asyncio.sleep(100)
        alerts = len(swarm.events.query(SystemAlert))
        assert sub.stats.dead == alerts < 30
        assert len(await swarm.events.dead_letters.list()) <= 3


KEY = 'receipts["letter.sent"].program.k'


@virtual
async def test_dead_letters_and_keys_cannot_be_written_through_the_state() -> None:
    """L21 for letters and receipts: read there, changed by their own part."""
    async with Swarm() as swarm:
        await swarm.events.on(Sent, fail_now)
        await swarm.events.publish(Sent(1), key="k")
        await asyncio.sleep(1)
        (letter,) = await swarm.events.dead_letters.list()
        for path in (letter.path.text, "dead_letters.x", KEY, "receipts"):
            with pytest.raises(AccessDenied):
                await swarm.state.set(path, 1)
        with pytest.raises(AccessDenied):
            await swarm.state.delete(KEY)
        assert await swarm.state.get(KEY) == {
            "schema": 1,
            "type": "letter.sent",
        }


@virtual
async def test_the_books_of_the_bus_are_no_events() -> None:
    """A failing handler of `state.**` does not feed itself."""
    async with Swarm() as swarm:
        sub = await swarm.events.on("state.**", fail, name="all", max_retries=0)
        await swarm.events.publish(Sent(1), key="k")
        await swarm.state.set("a", 1)
        await asyncio.sleep(100)
        assert (sub.stats.received, sub.stats.dead) == (1, 1)
        (letter,) = await swarm.events.dead_letters.list()
        assert letter.event.payload == StateCreated("a", letter.event.seq, 1)
        assert [e.payload.path for e in swarm.events.query("state.*")] == ["a"]


@virtual
async def test_dead_letters_are_hidden_without_the_right_to_read() -> None:
    """S15: dead letters hold values that the policy protects."""
    policy = Policy([Rule("clerk", "open", "r")])
    async with Swarm(policy=policy) as swarm:
        await swarm.events.on(Sent, fail_now)
        await swarm.events.publish(Sent(1))
        await asyncio.sleep(1)
        clerk = await swarm.spawn(api.Agent, name="clerk", role="clerk")
        mine = clerk._cell.host.surfaces(clerk.identity).swarm.events.dead_letters
        (letter,) = await swarm.events.dead_letters.list()
        assert await mine.list() == []
        for act in (mine.get, mine.requeue, mine.discard):
            with pytest.raises(AccessDenied):
                await act(letter.id)
        assert await swarm.events.dead_letters.get(letter.id) == letter


@virtual
async def test_a_letter_of_an_anonymous_subscription_that_is_over() -> None:
    """Closed says so, and the letter stays; another id is no way to it."""
    async with Swarm() as swarm:
        letters = swarm.events.dead_letters
        sub = await swarm.events.on(Sent, fail_now)
        await swarm.events.publish(Sent(1))
        await asyncio.sleep(1)
        await sub.cancel()
        other = await swarm.events.on(Sent, fail_now)
        assert other.name != sub.name
        (letter,) = await letters.list()
        with pytest.raises(Closed, match="had no name"):
            await letters.requeue(letter.id)
        assert [le.id async for le in letters] == [letter.id]
        assert await letters.count(other.name) == 0
        for bad in ("", "x", ":", "a:", ":1.0", "no:such.1"):
            with pytest.raises(NotFound):
                await letters.get(bad)
            assert not await letters.discard(bad)
        with pytest.raises(TypeError):
            await letters.get(1)  # type: ignore[arg-type]


@virtual
async def test_one_of_a_batch_becomes_a_letter() -> None:
    """E11, E10: a failed item alone is given up; the others are handled."""
    async with Swarm() as swarm:

        async def handle(events: list[Event[Sent]]) -> list[Any]:
            return [ValueError("odd") if e.payload.number % 2 else None for e in events]

        sub = await swarm.events.on(
            Sent, handle, name="post", batch=Batch(4, 1), max_retries=0
        )
        for number in range(4):
            await swarm.events.publish(Sent(number))
        await asyncio.sleep(100)
        numbers = [
            le.event.payload.number for le in await swarm.events.dead_letters.list()
        ]
        assert numbers == [1, 3]
        assert (sub.stats.processed, sub.stats.dead) == (2, 2)
        await sub.cancel()
        position = await swarm.state.get("subscriptions.post")
        assert position["done"] == []


@virtual
async def test_an_error_that_cannot_be_told() -> None:
    """G1: an error whose __str__ raises is told all the same."""

    class WorseError(Exception):
        def __str__(self) -> str:
            raise RuntimeError("not even this")

    def handle(_: Any) -> None:
        raise WorseError

    async with Swarm() as swarm:
        await swarm.events.on(Sent, handle)
        await swarm.events.publish(Sent(1))
        await asyncio.sleep(1)
        (letter,) = await swarm.events.dead_letters.list()
        assert letter.error.type == "WorseError"
        assert "cannot be had" in letter.error.message
        assert len(swarm.events.query(SystemAlert)) == 1


def test_paths() -> None:
    """Names with dots and colons are one name each."""
    path = letter_path("a.b:c", "3.0")
    assert path.segments == ("dead_letters", "a.b:c", "3.0")


def test_a_subscription_ends_while_its_letter_is_requeued() -> None:
    """Nothing is lost: the letter is there, or the next of its name has the event."""

    class PausingLoop(VirtualLoop):
        async def pause(self) -> None:
            await asyncio.sleep(0)

    async def scenario(k: int, name: str | None) -> None:
        async with Swarm() as swarm:
            letters = swarm.events.dead_letters
            seen: list[int] = []

            async def handle(event: Event[Sent]) -> None:
                seen.append(event.payload.number)
                raise ValueError("no")

            async def begin() -> Any:
                return await swarm.events.on(
                    Sent, handle, delivery="at-least-once", max_retries=0, name=name
                )

            sub = await begin()
            await swarm.events.publish(Sent(1))
            await asyncio.sleep(1)
            (letter,) = await letters.list()
            requeueing = asyncio.create_task(letters.requeue(letter.id))
            await turns(k)
            await sub.cancel()
            (outcome,) = await asyncio.gather(requeueing, return_exceptions=True)
            assert outcome is None or isinstance(outcome, Closed)
            if name is None:
                await asyncio.sleep(1)
                left = await letters.list()
                assert len(left) == 1 or (seen == [1] and sub.stats.dropped == 1)
                return
            if not (await letters.list())[0].is_requeued:
                assert seen == [1, 1], "it was decided before it ended"
                return
            await begin()
            await asyncio.sleep(1)
            assert seen[-1] == 1
            assert len(seen) >= 2
            assert len(await letters.list()) == 1

    for name in (None, "post"):
        for k in range(12):
            with asyncio.Runner(loop_factory=PausingLoop) as runner:
                runner.run(scenario(k, name))
