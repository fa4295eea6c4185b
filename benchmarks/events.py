"""A committed publish against a queue for each subscriber.

In bursts of 64, and alone: others run after each event.
"""

import asyncio
from collections.abc import Awaitable, Callable

from row import Job, Row, timed

from swarm import Agent, Event, Swarm, event, on

Publish = Callable[["Tick"], Awaitable[object]]


@event("bench.tick")
class Tick:
    number: int


async def send(publish: Publish, total: int, burst: int) -> None:
    for number in range(total):
        await publish(Tick(number))
        if number % burst == burst - 1:
            await asyncio.sleep(0)


def raw(subscribers: int, burst: int) -> Job:
    """Put every event into a queue of each subscriber; each has a task."""

    async def job(total: int) -> float:
        queues: list[asyncio.Queue[Tick]] = [
            asyncio.Queue() for _ in range(subscribers)
        ]

        async def consume(queue: asyncio.Queue[Tick]) -> None:
            for _ in range(total):
                await queue.get()

        tasks = [asyncio.create_task(consume(queue)) for queue in queues]
        await asyncio.sleep(0)

        async def work() -> None:
            for number in range(total):
                payload = Tick(number)
                for queue in queues:
                    queue.put_nowait(payload)
                if number % burst == burst - 1:
                    await asyncio.sleep(0)
            await asyncio.gather(*tasks)

        return await timed(work(), total)

    return job


class Counter:
    """Knows when every subscriber has seen every event."""

    def __init__(self, left: int) -> None:
        self.left = left
        self.done = asyncio.Event()

    def note(self) -> None:
        self.left -= 1
        if not self.left:
            self.done.set()


def plain(subscribers: int, burst: int) -> Job:
    async def job(total: int) -> float:
        async with Swarm() as swarm:
            counter = Counter(total)

            def last(_: Event[Tick]) -> None:
                counter.note()

            def other(_: Event[Tick]) -> None: ...

            for _ in range(subscribers - 1):
                await swarm.events.on(Tick, other)
            await swarm.events.on(Tick, last)

            async def work() -> None:
                await send(swarm.events.publish, total, burst)
                await counter.done.wait()

            return await timed(work(), total)

    return job


def handlers(subscribers: int, burst: int) -> Job:
    async def job(total: int) -> float:
        async with Swarm() as swarm:
            counter = Counter(total * subscribers)

            async def handler(_: Event[Tick]) -> None:
                counter.note()

            for _ in range(subscribers):
                await swarm.events.on(Tick, handler)

            async def work() -> None:
                await send(swarm.events.publish, total, burst)
                await counter.done.wait()

            return await timed(work(), total)

    return job


def streams(subscribers: int, burst: int) -> Job:
    async def job(total: int) -> float:
        async with Swarm() as swarm:

            async def consume(ready: asyncio.Event) -> None:
                left = total
                async with swarm.events.subscribe(Tick) as stream:
                    ready.set()
                    async for _ in stream:
                        left -= 1
                        if not left:
                            return

            tasks = []
            for _ in range(subscribers):
                ready = asyncio.Event()
                tasks.append(asyncio.create_task(consume(ready)))
                await ready.wait()

            async def work() -> None:
                await send(swarm.events.publish, total, burst)
                await asyncio.gather(*tasks)

            return await timed(work(), total)

    return job


class Listener(Agent):
    def __init__(self, counter: Counter) -> None:
        self.counter = counter

    @on(Tick)
    async def tick(self, _: Event[Tick]) -> None:
        self.counter.note()


def agents(subscribers: int, burst: int) -> Job:
    async def job(total: int) -> float:
        async with Swarm() as swarm:
            counter = Counter(total * subscribers)
            for _ in range(subscribers):
                await swarm.spawn(Listener, counter)

            async def work() -> None:
                await send(swarm.events.publish, total, burst)
                await counter.done.wait()

            return await timed(work(), total)

    return job


async def nobody(total: int) -> float:
    async with Swarm() as swarm:
        return await timed(send(swarm.events.publish, total, 64), total)


async def sets(total: int) -> float:
    async with Swarm() as swarm:

        async def work() -> None:
            for number in range(total):
                await swarm.state.set("shared.n", number)
                if number % 64 == 0:
                    await asyncio.sleep(0)

        return await timed(work(), total)


KINDS: tuple[tuple[str, Callable[[int, int], Job], tuple[float, ...]], ...] = (
    ("plain function", plain, (0.5, 2, 10, 20)),
    ("async handler", handlers, (0.3, 0.9, 0.9, 0.9)),
    ("stream", streams, (0.5, 0.9, 1.0, 1.0)),
    ("agent", agents, (0.4, 0.8, 0.8, 0.8)),
)
TOTALS = {1: 20_000, 10: 8_000, 100: 1_600, 1_000: 200}


def row(kind: str, make: Callable[[int, int], Job], many: int, goal: float) -> Row:
    name = f"publish to {many:,} {kind}{'s' if many > 1 else ''}"
    return Row(name, make(many, 64), raw(many, 64), TOTALS[many], goal)


ROWS = [
    *(
        row(kind, make, many, goal)
        for kind, make, goals in KINDS
        for many, goal in zip(TOTALS, goals, strict=True)
    ),
    *(
        Row(
            f"publish to 10 {kind}s, one at a time",
            make(10, 1),
            raw(10, 1),
            TOTALS[10],
            goals[1],
        )
        for kind, make, goals in KINDS
    ),
    Row("publish to nobody, over state.set", nobody, sets, 20_000, 0.8),
]
