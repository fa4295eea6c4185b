"""The whole bus against a model: every delivery kind, slow and failing handlers."""

import asyncio
from collections import Counter
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
)

from swarm import (
    Backoff,
    Batch,
    Event,
    Lagged,
    Limits,
    Swarm,
    SwarmConfig,
    event,
)
from tests.support.virtual_loop import VirtualLoop, turns

CONFIG = SwarmConfig(limits=Limits(log_commits=600))

KINDS = (
    "plain",
    "async",
    "at-least-once",
    "exactly-once",
    "unordered",
    "partitioned",
    "batched",
    "group",
    "ignoring",
    "named",
    "block",
    "drop-oldest",
    "drop-newest",
    "latest",
    "error",
)
STREAMS = ("block", "drop-oldest", "drop-newest", "latest", "error")
DURABLE = ("named", "exactly-once")


@event("script.run")
class Script:
    """A script for each handler."""

    number: int
    fail: int = 0
    slow: int = 0
    then: str = ""


class Reader:
    """One subscription and the events it saw."""

    def __init__(self, kind: str, swarm: Swarm, machine: Any) -> None:
        self.kind = kind
        self.swarm = swarm
        self.machine = machine
        self.due: list[int] = []
        self.seen: list[int] = []
        self.finished: list[int] = []
        self.running: list[int] = []
        self.tries: Counter[int] = Counter()
        self.first = 0
        self.sub: Any = None
        self.others: list[Any] = []
        self.is_over = False
        self.task: Any = None

    def is_due(self) -> bool:
        """Whether an event that is published now is due to it."""
        if self.kind == "error":  # what it misses in between it reads from the log
            return not self.is_over
        return bool(self.sub.status != "cancelled")

    def one(self, event: Event[Script]) -> None:
        script = event.payload
        assert script.number >= self.first, "E3: nothing from before"
        self.seen.append(script.number)
        self.tries[script.number] += 1
        if script.then == "cancel" and self.kind in ("async", "plain"):
            self.sub.cancel()
        elif script.then == "subscribe":
            self.machine.late.append(script.number)
        if self.tries[script.number] <= script.fail:
            raise ValueError(f"{script.number} failed")

    def plain(self, event: Event[Script]) -> None:
        self.one(event)
        self.finished.append(event.payload.number)

    async def slow(self, event: Event[Script]) -> None:
        number = event.payload.number
        if self.kind != "unordered" and self.kind != "group":
            key = number % 3 if self.kind == "partitioned" else 0
            busy = [n % 3 if self.kind == "partitioned" else 0 for n in self.running]
            assert key not in busy, "E9: serial"
        self.running.append(number)
        try:
            self.one(event)
            if event.payload.slow:
                await asyncio.sleep(event.payload.slow)
            self.finished.append(number)
        finally:
            self.running.remove(number)

    async def effect(self, event: Event[Script], tx: Any) -> None:
        number = event.payload.number
        place = f"effects.{self.sub_name}.n{number}"
        await tx.set(place, (await tx.get(place, 0)) + 1)
        await self.slow(event)

    async def many(self, events: list[Event[Script]]) -> None:
        assert 1 <= len(events) <= 3
        for each in events:
            self.one(each)
        self.finished.extend(each.payload.number for each in events)

    async def read(self, ready: asyncio.Event) -> None:
        """Read a stream until it is cancelled; go on after a `Lagged`."""
        since = None
        while True:
            subscribe = self.swarm.events.subscribe
            stream = subscribe(Script, buffer=3, overflow=self.kind, since=since)  # type: ignore[call-overload]
            async with stream as self.sub:
                ready.set()
                try:
                    async for event in stream:
                        self.seen.append(event.payload.number)
                        self.finished.append(event.payload.number)
                        await asyncio.sleep(event.payload.slow)
                except Lagged as lagged:
                    since = lagged.last
                    if self.is_over:
                        return
                else:
                    return

    async def crash(self) -> None:
        """End the workers behind the subscription's back, as a dying process does."""
        tasks = [task for m in self.sub._members for task in m.tasks]
        self.sub._status = "cancelled"
        self.swarm._coordinator.bus.remove(self.sub)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self.start(self.sub_name)

    async def start(self, name: str) -> None:
        self.sub_name = name
        on = self.swarm.events.on
        backoff = Backoff(1, 4)
        if self.kind in STREAMS:
            ready = asyncio.Event()
            self.task = asyncio.ensure_future(self.read(ready))
            await ready.wait()
        elif self.kind == "named":
            self.sub = await on(Script, self.slow, name=name, backoff=backoff, buffer=4)
        elif self.kind == "plain":
            self.sub = await on(Script, self.plain)
        elif self.kind == "ignoring":
            self.sub = await on("script.*", self.plain, on_error="ignore")
        elif self.kind == "async":
            self.sub = await on(Script, self.slow, buffer=1_000)
        elif self.kind == "exactly-once":
            self.sub = await on(
                Script,
                self.effect,
                delivery="exactly-once",
                name=name,
                backoff=backoff,
                buffer=4,
            )
        elif self.kind == "batched":
            self.sub = await on(
                Script,
                self.many,
                delivery="at-least-once",
                batch=Batch(3, 2),
                backoff=backoff,
            )
        else:
            options: dict[str, Any] = {"backoff": backoff, "buffer": 4}
            if self.kind == "unordered":
                options["ordered"] = False
            if self.kind == "partitioned":
                options["partition"] = lambda e: e.payload.number % 3
            if self.kind == "group":
                options["group"] = name
            self.sub = await on(Script, self.slow, delivery="at-least-once", **options)
            if self.kind == "group":
                other = await on(Script, self.slow, delivery="at-least-once", **options)
                self.others.append(other)


class BusMachine(RuleBasedStateMachine):
    """E1 to E17: every event is in exactly one place, and ends."""

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner(loop_factory=VirtualLoop)
        self.run = self.runner.run
        self.swarm: Swarm = self.run(Swarm.open(seed=1, config=CONFIG))
        self.readers: list[Reader] = []
        self.number = 0
        self.late: list[int] = []

    @precondition(lambda self: len(self.readers) < 4)
    @rule(kind=st.sampled_from(KINDS))
    def subscribe(self, kind: str) -> None:
        reader = Reader(kind, self.swarm, self)
        reader.first = self.number + 1
        self.run(reader.start(f"r{len(self.readers)}"))
        self.readers.append(reader)

    @rule(
        count=st.integers(1, 8),
        fail=st.sampled_from((0, 0, 0, 1, 9)),
        slow=st.sampled_from((0, 0, 1, 5)),
        then=st.sampled_from(("", "", "", "cancel", "subscribe")),
    )
    def publish(self, count: int, fail: int, slow: int, then: str) -> None:
        async def act() -> None:
            for _ in range(count):
                self.number += 1
                script = Script(self.number, fail, slow, then)
                due = [r for r in self.readers if r.is_due()]
                if not self.swarm._coordinator.bus.crowded:  # E2: it waits for nobody
                    publishing = self.swarm.events.publish(script)
                    with pytest.raises(StopIteration) as stop:
                        publishing.send(None)
                    receipt = stop.value.value
                else:
                    receipt = await self.swarm.events.publish(script)
                    due = [r for r in self.readers if r.is_due()]
                late = sum(r.kind == "error" for r in due)
                assert len(due) - late <= receipt.delivered_to <= len(due)
                for reader in due:
                    reader.due.append(self.number)
                self.check()

        self.run(act())

    @rule(count=st.integers(1, 5))
    def let_run(self, count: int) -> None:
        async def act() -> None:
            for _ in range(count):
                await turns(1)
                self.check()

        self.run(act())

    @rule(seconds=st.sampled_from((0.5, 3, 20)))
    def pass_time(self, seconds: float) -> None:
        self.run(asyncio.sleep(seconds))

    @precondition(lambda self: self.readers)
    @rule(data=st.data(), wait=st.booleans())
    def pause(self, data: Any, wait: bool) -> None:
        reader = data.draw(st.sampled_from(self.readers))
        if reader.sub.status == "cancelled" or reader.kind in ("group", *STREAMS):
            return

        async def act() -> None:
            settled = reader.sub.pause()
            if wait:
                await settled
            if not wait:
                return
            seen = len(reader.seen)
            await asyncio.sleep(30)
            assert len(reader.seen) == seen, "E12: nothing starts"

        self.run(act())

    @precondition(lambda self: self.readers)
    @rule(data=st.data())
    def resume(self, data: Any) -> None:
        reader = data.draw(st.sampled_from(self.readers))
        if reader.sub.status == "paused":

            async def act() -> None:
                reader.sub.resume()

            self.run(act())

    @precondition(lambda self: self.readers)
    @rule(data=st.data())
    def cancel(self, data: Any) -> None:
        reader = data.draw(st.sampled_from(self.readers))

        async def act() -> None:
            reader.is_over = True
            await reader.sub.cancel()
            for other in reader.others:
                await other.cancel()
            if reader.task is not None:
                await reader.task
                return
            seen = len(reader.seen)
            assert not reader.running, "E12: none runs"
            await asyncio.sleep(30)
            assert len(reader.seen) == seen, "E12: none starts"
            assert reader.sub.stats.buffered == reader.sub.stats.in_flight == 0

        self.run(act())

    @precondition(lambda self: any(r.kind in DURABLE for r in self.readers))
    @rule(data=st.data(), count=st.integers(0, 9))
    def crash(self, data: Any, count: int) -> None:
        durable = [r for r in self.readers if r.kind in DURABLE]
        reader = data.draw(st.sampled_from(durable))
        if reader.sub.status == "cancelled":
            return

        async def act() -> None:
            await turns(count)
            await reader.crash()

        self.run(act())

    @rule()
    def requeue(self) -> None:
        letters = self.run(self.swarm.events.dead_letters.list())
        alive = {r.sub.name: r for r in self.readers if r.sub.status != "cancelled"}
        for letter in letters[:2]:
            if letter.subscription in alive:
                alive[letter.subscription].tries[letter.event.payload.number] = 10
                before = alive[letter.subscription].sub.stats

                async def act(letter: Any = letter) -> None:
                    await self.swarm.events.dead_letters.requeue(letter.id)

                self.run(act())
                after = alive[letter.subscription].sub.stats
                if after.errors == before.errors:  # else another event died meanwhile
                    assert after.dead == max(before.dead - 1, 0)

    @invariant()
    def books_balance(self) -> None:
        async def act() -> None:
            self.check()

        self.run(act())

    def check(self) -> None:
        self.swarm._coordinator.bus.history.refresh()
        for reader in self.readers:
            s = reader.sub.stats
            total = s.processed + s.dead + s.dropped + s.in_flight + s.buffered
            assert s.received == total, f"E17: {reader.kind} {s}"
            assert min(s.processed, s.dead, s.dropped, s.in_flight, s.buffered) >= 0, s
            if reader.kind in STREAMS:
                assert len(reader.seen) == len(set(reader.seen)), "E4, H4"
                assert reader.seen == sorted(reader.seen), "E9"
            if reader.kind in ("plain", "async", "ignoring"):
                twice = [n for n, k in Counter(reader.seen).items() if k > 1]
                requeued = [n for n in twice if reader.tries[n] > 9]
                assert twice == requeued, "E4: handed over once"

    def teardown(self) -> None:
        try:
            self.run(self.finish())
        finally:
            self.run(self.swarm.close())
            self.runner.close()

    async def finish(self) -> None:
        for reader in self.readers:
            if reader.sub.status == "paused":
                reader.sub.resume()
        await asyncio.sleep(10_000)
        self.check()
        dead = {
            (letter.subscription, letter.event.payload.number)
            for letter in await self.swarm.events.dead_letters.list()
        }
        for reader in self.readers:
            s = reader.sub.stats
            if not reader.is_due():
                continue
            assert s.buffered == s.in_flight == 0, f"{reader.kind} {s}"
            if reader.kind in ("block", "error"):
                assert reader.seen == reader.due, f"E18: {reader.kind}"
            elif reader.kind in STREAMS:
                assert set(reader.seen) <= set(reader.due)
                assert len(reader.due) - len(reader.seen) == s.dropped, "E17"
                if reader.due and reader.kind != "drop-newest":
                    assert reader.seen[-1] == reader.due[-1]
                continue
            for number in reader.due:
                done = number in reader.finished or reader.kind == "ignoring"
                assert done or (reader.sub.name, number) in dead, (
                    f"E5: {reader.kind} {number} {s}"
                )
            firsts = list(dict.fromkeys(reader.seen))
            if reader.kind in ("plain", "async", *DURABLE, "at-least-once"):
                assert firsts == sorted(firsts), "E9: in order"
            if reader.kind == "exactly-once":
                for number in reader.due:
                    path = f"effects.{reader.sub_name}.n{number}"
                    effects = await self.swarm.state.get(path, 0)
                    good = (reader.sub.name, number) not in dead
                    assert effects == int(good), f"E7: {number} {effects}"


BusMachine.TestCase.settings = settings(
    max_examples=60, stateful_step_count=30, deadline=None
)
TestBus = BusMachine.TestCase
