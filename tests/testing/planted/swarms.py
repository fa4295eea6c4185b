"""Agents that trust in messages, leases, claims and clocks that can fail."""

import asyncio
import contextlib

from swarm import Agent, AgentDied, LeaseLost, StaleLease, Swarm, WouldBlock
from swarm.agents import Restart

FAST = Restart("permanent", max=50, within=1.0)


class Till(Agent):
    async def pay(self, amount, number=None):
        async with self.shared.transaction() as tx:
            if number is not None and await tx.get(f"paid.{number}"):
                return
            if number is not None:
                await tx.set(f"paid.{number}", True)
            await tx.increment("total", amount)


def paid_twice(repaired):
    """A message seems lost and is sent again; then the first one arrives as well."""

    async def program():
        async with Swarm() as swarm:
            till = await swarm.spawn(Till, name="till")
            number = "n1" if repaired else None
            for _ in range(10):
                if await swarm.state.get("shared.total"):
                    break
                await till.tell(Till.pay, 5, number)
                await asyncio.sleep(10)
            await asyncio.sleep(1000)
            total = await swarm.state.get("shared.total")
            assert total == 5, f"{total} was paid, not 5"

    return program


class Author(Agent):
    """Writes half of a text, hands it on, and puts its name to its half."""

    async def write(self, other, guarded):
        lease = await self.swarm.lock("text").acquire(ttl=20, timeout=500)
        await self.shared.set("text", "half")
        await other.tell(Author.finish)
        guard = lease if guarded else None
        with contextlib.suppress(StaleLease):
            await self.shared.set("text", f"half, by {self.name}", guard=guard)
        with contextlib.suppress(LeaseLost):
            await lease.release()

    async def finish(self):
        text = f"whole, by {self.name}"
        while await self.shared.get("text") != text:
            with contextlib.suppress(LeaseLost):
                async with self.swarm.lock("text").acquire(ttl=20) as lease:
                    await self.shared.set("text", text, guard=lease)


def lease_ends_while_handing_on(repaired):
    """The first one's lease ends while it hands the work on; it writes all the same."""

    async def program():
        async with Swarm() as swarm:
            ada = await swarm.spawn(Author, name="ada")
            bo = await swarm.spawn(Author, name="bo")
            await ada.within(1000).ask(Author.write, bo, repaired)
            await asyncio.sleep(1000)
            text = await swarm.state.get("shared.text")
            assert text == "whole, by bo", text

    return program


class Worker(Agent):
    """Claims a job, does it, and acknowledges it."""

    async def work(self, job, leased):
        claim = self.claim_for_ever if not leased else self.claim_while_alive
        async with claim(job) as mine:
            if mine and not await self.shared.get(f"done.{job}"):
                await asyncio.sleep(0)
                await self.shared.set(f"done.{job}", self.name)

    @contextlib.asynccontextmanager
    async def claim_for_ever(self, job):
        owner = await self.shared.get(f"claims.{job}")
        if owner is None:
            await self.shared.set(f"claims.{job}", self.name)
        yield owner is None

    @contextlib.asynccontextmanager
    async def claim_while_alive(self, job):
        try:
            lease = self.swarm.lock(job).acquire_nowait(ttl=30)
        except WouldBlock:
            yield False
            return
        try:
            yield True
        finally:
            await lease.release()


def claimed_by_the_dead(repaired):
    """A worker crashes between claim and acknowledgement; nobody takes the job up."""

    async def program():
        async with Swarm() as swarm:
            workers = [
                await swarm.spawn(Worker, name=name, restart=FAST)
                for name in ("ada", "bo")
            ]
            for _ in range(6):  # somebody offers what is not done, again and again
                for worker in workers:
                    with contextlib.suppress(AgentDied):
                        await worker.ask(Worker.work, "job", repaired)
                await asyncio.sleep(100)
            assert await swarm.state.get("shared.done.job"), "nobody has done the job"

    return program


def session_by_wall_clock(repaired):
    """A session's age is measured by a clock that can be set."""

    async def program(sim):
        async with Swarm() as swarm:
            state = swarm.state
            if repaired:
                await state.set("session", {"user": "ada"}, ttl=60)
            else:
                await state.set("session", {"ends": sim.clock.wall() + 60})

            async def is_valid():
                session = await state.get("session", default=None)
                if session is None or repaired:
                    return session is not None
                return sim.clock.wall() < session["ends"]

            await asyncio.sleep(30)
            assert await is_valid(), "logged out after 30 of 60 seconds"
            await asyncio.sleep(60)
            assert not await is_valid(), "still logged in after 90 of 60 seconds"

    return program
