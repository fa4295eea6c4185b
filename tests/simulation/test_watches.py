"""Watches under many schedules: the log, in order, each commit once (S11, S12)."""

import asyncio

from swarm import Swarm
from swarm.kernel import LogReader
from swarm.kernel._follow import Followers
from swarm.state import Watch
from swarm.testing import Sim, StuckError
from tests.simulation.oracle import breaks, holds, nothing_left, quietly

LAST = "done"


async def take(watch: Watch, rng, seen: list[tuple[int, str, object]]) -> None:
    """Read to the last change; now and then be cancelled in the middle of it."""
    while not seen or seen[-1][1] != LAST:
        waiting = asyncio.ensure_future(anext(watch))
        if rng.random() < 0.3:
            await asyncio.sleep(0)
            waiting.cancel()
        change = await quietly(waiting)
        if isinstance(change, Exception):  # the watch has ended
            return
        if not isinstance(change, BaseException):
            seen.append((change.revision, change.path, change.value))


async def watched(sim: Sim) -> None:
    """Two write, one of them several keys in a commit; three watch."""
    async with Swarm() as swarm:
        state = swarm.state
        early: list[tuple[int, str, object]] = []
        late: list[tuple[int, str, object]] = []

        async def singles() -> None:
            for n in range(3):
                await state.set(f"s.{n}", n)

        async def pairs() -> None:
            for n in range(2):
                await state.set_many({f"p.{n}": n, f"q.{n}": n})

        async def watch_from_the_start() -> None:
            async with state.watch(since=0) as watch:
                await take(watch, sim.rng, early)

        async def watch_and_resume() -> None:
            """Snapshot, then live: no gap and no duplicate at the seam."""
            async with state.transaction() as tx:
                values = {key: await tx.get(key) for key in await tx.keys()}
                start = tx.revision
            if LAST not in values:
                async with state.watch(since=start) as watch:
                    await take(watch, sim.rng, late)
            values.update({path: value for _, path, value in late})
            assert values == {key: await state.get(key) for key in await state.keys()}

        async def write() -> None:
            await asyncio.gather(singles(), pairs())
            await state.set(LAST, True)

        await asyncio.gather(write(), watch_from_the_start(), watch_and_resume())
        log: list[tuple[int, str, object]] = []
        for key in await state.keys():
            log += [
                (change.revision, key, change.value)
                for change in await state.history(key)
            ]
        assert sorted(early) == sorted(log)
        assert [one[0] for one in early] == sorted(one[0] for one in early)
        assert late == early[len(early) - len(late) :]
    nothing_left(swarm)


WRONG = (AssertionError, StuckError, ExceptionGroup)


def test_a_watch_is_the_log_without_gap_or_duplicate():
    """S11: ordered, unique, reliable, atomic, resumable; T4: cancel loses nothing."""
    holds(watched, schedules=70)


def test_a_reader_that_skips_is_found(monkeypatch):
    """S11: what was committed while it slept is gone for it."""
    following = LogReader.next

    async def skips(self):
        parked = not self._due and self._next >= self._until
        commit = await following(self)
        if parked:
            self._due.clear()
        return commit

    monkeypatch.setattr(LogReader, "next", skips)
    breaks(watched, WRONG)


def test_a_reader_that_moves_on_before_it_is_sure_is_found(monkeypatch):
    """T4: a cancelled wait has taken nothing."""
    following = LogReader.next

    async def hasty(self):
        commit = await following(self)
        await asyncio.sleep(0)
        return commit

    monkeypatch.setattr(LogReader, "next", hasty)
    breaks(watched, WRONG)


def test_a_reader_that_repeats_is_found(monkeypatch):
    """S11: each commit once."""
    following, repeated = LogReader.next_nowait, set()

    def repeats(self):
        behind = self._log.end - self._next
        commit = following(self)
        if behind == 3 and self not in repeated:
            repeated.add(self)
            self._next -= 1
        return commit

    monkeypatch.setattr(LogReader, "next_nowait", repeats)
    breaks(watched, (*WRONG, Exception))


def test_a_lost_wake_up_is_found(monkeypatch):
    """G6: one commit wakes every reader that it concerns."""

    def to_one(self, documents):
        number = self.log.end - 1
        for document in documents:
            for reader in list(self.watchers.find(document.path))[:1]:
                reader.take(number)

    monkeypatch.setattr(Followers, "route", to_one)
    breaks(watched, WRONG)


async def closed_while_watching(sim: Sim) -> None:
    swarm = await Swarm.open()

    async def watch() -> str:
        async with swarm.state.watch() as watch:
            async for _ in watch:
                pass
        return "end"

    tasks = [asyncio.create_task(watch()) for _ in range(2)]
    await swarm.state.set("x", 1)
    await sim.checkpoint()
    await swarm.close()
    outcomes = await asyncio.gather(*map(quietly, tasks))
    assert all(one == "end" or "closed" in str(one) for one in outcomes), outcomes
    nothing_left(swarm)


def test_the_end_of_the_swarm_ends_every_watch():
    """G12: nobody is left waiting."""
    holds(closed_while_watching)


def test_a_close_that_wakes_no_watch_is_found(monkeypatch):
    """G12: the check can fail, and it is reported as what it is: stuck."""
    close = LogReader.close
    assert close

    async def silent(self):
        self._loop = None
        self._followers.is_closed = True

    monkeypatch.setattr("swarm.kernel.MemoryKernel.close", silent)
    breaks(closed_while_watching, StuckError)
