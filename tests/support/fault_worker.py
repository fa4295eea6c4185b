"""One process of a fault run: it uses everything, and writes down what it was told.

Each line of its record is JSON: [nanoseconds, kind, ...]. The monotonic clock is one
for all processes of a machine, so the records of several processes can be merged.
"""

import asyncio
import json
import os
import random
import sys
import time

from swarm import (
    Agent,
    Handoff,
    Limits,
    Swarm,
    SwarmConfig,
    SwarmError,
    event,
    serves,
)
from swarm.errors import OutcomeUnknown, StorageFailed


@event("fault.note")
class Note:
    id: str


class Record:
    """A file of lines, each written at once: a kill loses none."""

    def __init__(self, path: str) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)

    def add(self, kind: str, *words: object) -> None:
        line = json.dumps([time.monotonic_ns(), kind, *words]) + "\n"
        os.write(self._file, line.encode())


class Relay(Agent):
    """Hands on each task that it gets."""

    @serves("relay", lease=2)
    async def relay(self, claim) -> str | None:
        handoff = await self.handoffs.offer(
            claim, to="capability:finish", remaining="finish", timeout=5
        )
        return None if await handoff.outcome() == "accepted" else "alone"


class Finisher(Agent):
    async def handoff(self, offer: Handoff) -> str:
        await offer.accept()
        return "finished"


CONFIG = SwarmConfig(process_ttl=2.0, limits=Limits(log_commits=50_000))
"""The log holds a long run: a process that starts reads no more of it than this."""


async def listen(swarm: Swarm) -> None:
    """Count, exactly once, each event that is published."""

    async def handle(ev, tx) -> None:
        path = f"shared.audit.{ev.payload.id.replace('.', '-')}"
        await tx.set(path, await tx.get(path, 0) + 1)

    await swarm.events.on(
        Note, handle, name="audit", delivery="exactly-once", max_retries=1_000
    )


class Work:
    """The activities of one process, each a loop until the end."""

    def __init__(self, swarm: Swarm, me: str, record: Record, end: str) -> None:
        self.swarm = swarm
        self.me = me
        self.record = record
        self.end = end
        self.count = 0
        self.chance = random.Random(me)

    def unique(self) -> str:
        self.count += 1
        return f"{self.me}.{self.count}"

    async def loop(self, step, pause: float) -> None:
        while not os.path.exists(self.end):  # noqa: ASYNC240  # quick enough
            try:
                await step()
            except (SwarmError, TimeoutError) as error:
                self.record.add("error", step.__name__, repr(error)[:200])
            await asyncio.sleep(pause * self.chance.random())

    async def call(self, op: str, arguments: list, doing) -> None:
        """Record one operation on a register: its answer, its refusal, or neither."""
        id = self.unique()
        self.record.add("invoke", id, op, arguments)
        try:
            answer = await doing
        except OutcomeUnknown:
            raise
        except StorageFailed:
            self.record.add("fail", id)
            raise
        self.record.add("ok", id, answer if op != "put" else None)

    async def registers(self) -> None:
        key = f"r{self.chance.randrange(3)}"
        state, path = self.swarm.state, f"shared.{key}"
        what = self.chance.random()
        if what < 0.4:
            await self.call("get", [key], state.get(path))
        elif what < 0.8:
            new = self.unique()
            await self.call("put", [key, new], state.set(path, new))
        else:
            old, new = await state.get(path), self.unique()
            if old is not None:
                cas = state.compare_and_set(path, old, new)
                await self.call("cas", [key, old, new], cas)

    async def guarded(self) -> None:
        lock = self.swarm.lock("guarded")
        async with lock.acquire(ttl=1, timeout=10) as lease:
            n = await self.swarm.state.get("shared.guarded.n", 0)
            value = {"n": n + 1, "token": lease.token, "by": self.unique()}
            await self.swarm.state.set("shared.guarded", value, guard=lease)
            self.record.add("guarded", value)

    async def permits(self) -> None:
        semaphore = self.swarm.semaphore("permits", capacity=2)
        async with semaphore.acquire(ttl=1, timeout=10):
            await asyncio.sleep(0.01)
            self.record.add("permit")

    async def meet(self) -> None:
        arrival = await self.swarm.barrier("meet", parties=3).wait(timeout=3)
        self.record.add("met", arrival.generation, arrival.index)

    async def submit(self) -> None:
        kind = "relay" if self.chance.random() < 0.2 else "plain"
        task = await self.swarm.tasks.submit(kind, {"by": self.me}, max_retries=100)
        self.record.add("submitted", task.id)

    async def take(self) -> None:
        async with self.swarm.tasks.claim("plain", lease=1, timeout=2) as claim:
            await claim.complete(self.me)
            self.record.add("completed", claim.task_id)

    async def publish(self) -> None:
        id = self.unique()
        await self.swarm.events.publish(Note(id))
        self.record.add("published", id)

    async def begin(self) -> None:
        await self.swarm.spawn(Relay)
        await self.swarm.spawn(Finisher, capabilities=["finish"])
        if self.me.startswith("p1."):
            await listen(self.swarm)

    async def run(self) -> None:
        self.record.add("up")
        async with asyncio.TaskGroup() as group:
            for step, pause in (
                (self.registers, 0.03),
                (self.registers, 0.03),
                (self.guarded, 0.05),
                (self.permits, 0.05),
                (self.meet, 0.2),
                (self.submit, 0.15),
                (self.take, 0.02),
                (self.publish, 0.1),
            ):
                group.create_task(self.loop(step, pause))


async def main(url: str, name: str, me: str, end: str, record: str) -> None:
    while True:
        swarm = Swarm(name, url, config=CONFIG, on_failure="log")
        try:
            async with swarm:
                work = Work(swarm, me, Record(record), end)
                await work.begin()
                await work.run()
        except StorageFailed:  # the server is away, or the connection was cut
            await asyncio.sleep(0.2)
        else:
            return


if __name__ == "__main__":
    url, name, me, end, record = sys.argv[1:]
    asyncio.run(main(url, name, me, end, record))
