"""Transactions under many schedules: as if one after the other (S5, S6)."""

import asyncio
from typing import Any

from swarm import ConflictError, Swarm
from swarm.kernel import MemoryKernel
from swarm.ports import Expect, ExpectFolder
from swarm.state import Transaction
from swarm.state._transaction import Footprint
from swarm.testing import ILLEGAL, History, Model, Sim
from tests.simulation.oracle import breaks, holds, linearizable, slow

KEYS = ("x", "y", "z")


def step(state: tuple[Any, ...], operation: Any) -> Any:
    """A transaction: reads that all saw one state, then writes."""
    if operation.result == "conflict":
        return state
    values = dict(zip(KEYS, state, strict=True))
    for key, seen in operation.result:
        if values[key] != seen:
            return ILLEGAL
    values.update(operation.args)
    return tuple(values[key] for key in KEYS)


SERIAL = Model(step, initial=(None, None, None))


async def mixed(sim: Sim) -> None:
    """Several clients read some keys and write others, each in a transaction."""
    history = History()
    async with Swarm() as swarm:

        async def client(who: int, plan: list[tuple[list[str], list[str]]]) -> None:
            for number, (reads, writes) in enumerate(plan):
                wanted = tuple((key, f"{who}.{number}") for key in writes)
                call = history.invoke(who, "transaction", *wanted)
                seen = []
                try:
                    async with swarm.state.transaction() as tx:
                        for key in reads:
                            seen.append((key, await tx.get(key)))
                        for key, value in wanted:
                            await tx.set(key, value)
                except ConflictError:
                    history.ok(call, "conflict")
                else:
                    history.ok(call, tuple(seen))

        rng, n = sim.rng, [0, 1, 2]
        plans = [
            [
                (
                    rng.sample(KEYS, rng.choice([1, 2])),
                    rng.sample(KEYS, rng.choice(n)),
                )
                for _ in range(2)
            ]
            for _ in range(3)
        ]
        await asyncio.gather(*(client(who, plan) for who, plan in enumerate(plans)))
        final = await swarm.state.get_many(KEYS)
    whole = history.invoke("end", "transaction")
    history.ok(whole, tuple((key, final.get(key)) for key in KEYS))
    linearizable(history, SERIAL)


def test_transactions_are_strictly_serializable():
    """S5: any mix of reads and writes fits one order that respects real time."""
    holds(mixed, schedules=80)


@slow
def test_transactions_are_strictly_serializable_in_many_schedules():
    """S5: the same for longer."""
    for seed in range(4):
        holds(mixed, schedules=1_500, seed=seed)


def test_transactions_without_the_version_check_are_found(monkeypatch):
    """S5: the check can fail."""
    monkeypatch.setattr(MemoryKernel, "_check", lambda self, conditions: None)
    breaks(mixed)


async def lost_update() -> None:
    async with Swarm() as swarm:

        async def add(tx: Transaction) -> None:
            await tx.set("n", (await tx.get("n") or 0) + 1)

        await asyncio.gather(*(swarm.state.transact(add) for _ in range(3)))
        assert await swarm.state.get("n") == 3


async def write_skew() -> None:
    async with Swarm() as swarm:
        await swarm.state.set_many({"on.ada": 1, "on.bo": 1})

        async def leave(who: str) -> None:
            async def off(tx: Transaction) -> None:
                if await tx.get("on.ada") + await tx.get("on.bo") > 1:
                    await tx.set(f"on.{who}", 0)

            await swarm.state.transact(off)

        await asyncio.gather(leave("ada"), leave("bo"))
        on = await swarm.state.get("on")
        assert on["ada"] + on["bo"] == 1


async def phantom() -> None:
    async with Swarm() as swarm:

        async def claim(who: str) -> None:
            async def first(tx: Transaction) -> None:
                if not await tx.keys("claims.*"):
                    await tx.set(f"claims.{who}", who)

            await swarm.state.transact(first)

        await asyncio.gather(*(claim(who) for who in ("ada", "bo", "cy")))
        assert len(await swarm.state.keys("claims.*")) == 1


async def torn_read(sim: Sim) -> None:
    async with Swarm() as swarm:
        await swarm.state.set_many({"a": 0, "b": 0})

        async def write() -> None:
            for n in (1, 2):
                async with swarm.state.transaction() as tx:
                    await tx.set("a", n)
                    await tx.set("b", n)

        async def read() -> None:
            async with swarm.state.transaction() as tx:
                one = await tx.get("a")
                await sim.checkpoint()
                assert await tx.get("b") == one
            both = await swarm.state.get_many(["a", "b"])
            assert both["a"] == both["b"]
            pairs = [value async for _, value in swarm.state.scan("*")]
            assert pairs[0] == pairs[1]

        await asyncio.gather(write(), read(), read())


def test_no_update_is_lost():
    """S5: read, compute, write."""
    holds(lost_update)


def test_no_two_transactions_skew_each_other():
    """S5: each reads what the other writes."""
    holds(write_skew)


def test_no_phantom_appears_in_a_folder_that_was_listed():
    """S5: what was looked through must not have grown."""
    holds(phantom)


def test_no_read_is_torn():
    """S5, S11: all reads of one attempt come from one snapshot."""
    holds(torn_read)


def test_a_lost_update_is_found(monkeypatch):
    """S5: writes that do not check what they replace."""
    monkeypatch.setattr(MemoryKernel, "_check", lambda self, conditions: None)
    breaks(lost_update)


def test_write_skew_is_found(monkeypatch):
    """S5: plain snapshot isolation checks the write set only."""

    def of_writes(self, written):
        paths = list(written)
        for path in paths:
            self.find(path)
        return [Expect(path, self._seen[path.text].version) for path in paths]

    monkeypatch.setattr(Footprint, "conditions", of_writes)
    breaks(write_skew)


def test_a_phantom_is_found(monkeypatch):
    """S5: versions of documents say nothing of those that were not there."""
    check = MemoryKernel._check

    def of_documents(self, conditions):
        check(self, [c for c in conditions if not isinstance(c, ExpectFolder)])

    monkeypatch.setattr(MemoryKernel, "_check", of_documents)
    breaks(phantom)


def test_a_torn_read_is_found(monkeypatch):
    """S5: a transaction that reads the tree as it is, not as it was."""

    async def live(self, revision=None):
        await self._pause()
        return self._view

    monkeypatch.setattr(MemoryKernel, "view_at", live)
    breaks(torn_read)


def test_a_commit_in_two_halves_is_found(monkeypatch):
    """S11: other readers see all of a commit, or nothing of it."""

    async def halves(self, author, writes=(), *, conditions=(), events=(), **_):
        await self._pause()
        for condition in conditions:
            self._check([condition])
        commit = None
        for write in writes:
            commit = self._write(author, [write], events)
            await self._pause()
        return commit

    monkeypatch.setattr(MemoryKernel, "commit", halves)
    breaks(torn_read)
