"""A named subscription goes on where it stopped, after any restart (H5, H7)."""

import asyncio
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from swarm import Compacted, Event, Limits, Subscription, Swarm, SwarmConfig, event
from tests.support.redis_server import Server, find_server, running

KINDS = ["file", "sqlite", "redis"]
HELD = 300


@event("named.note")
class Note:
    number: int


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server | None]:
    if find_server() is None:
        yield None
        return
    with running(tmp_path_factory.mktemp("redis")) as server:
        yield server


def storage_of(kind: str, folder: Path, server: Server | None) -> str:
    if kind == "redis":
        if server is None:
            pytest.skip("there is no redis-server")
        return f"{server.url}?prefix={folder.name}"
    if kind == "sqlite":
        return f"sqlite:///{folder}/store.db"
    return f"file:{folder}/store?durability=process"


def config(log_commits: int = 16) -> SwarmConfig:
    return SwarmConfig(limits=Limits(log_commits=log_commits, held_commits=HELD))


async def publish(swarm: Swarm, first: int, end: int) -> list[int]:
    return [(await swarm.events.publish(Note(n))).seq for n in range(first, end)]


class Clerk:
    """The handler of a named subscription, and the numbers it saw."""

    def __init__(self) -> None:
        self.seen: list[int] = []

    async def handle(self, event: Event[Note]) -> None:
        self.seen.append(event.payload.number)

    async def begin(self, swarm: Swarm, **options: Any) -> Subscription:
        return await swarm.events.on(Note, self.handle, name="clerk", **options)

    async def until(self, count: int) -> None:
        async with asyncio.timeout(30):
            while len(self.seen) < count:
                await asyncio.sleep(0.001)


@pytest.mark.parametrize("kind", KINDS)
async def test_the_next_opening_goes_on_with_what_the_last_has_not_handled(
    kind: str, tmp_path: Path, server: Server | None
) -> None:
    """H5: however many openings lie between, and with a log that is shorter."""
    storage, clerk = storage_of(kind, tmp_path, server), Clerk()
    async with Swarm("named", storage, config=config()) as swarm:
        subscription = await clerk.begin(swarm)
        await publish(swarm, 0, 5)
        await clerk.until(5)
        await subscription.cancel()
        await publish(swarm, 5, 60)
    for number in range(60, 90, 10):
        async with Swarm("named", storage, config=config()) as swarm:
            assert "the log is kept for it" in swarm.explain()
            await publish(swarm, number, number + 10)
    async with Swarm("named", storage, config=config()) as swarm:
        await clerk.begin(swarm)
        await clerk.until(90)
    assert clerk.seen == list(range(90))


@pytest.mark.parametrize("kind", KINDS)
async def test_beyond_the_bound_of_a_held_log_the_name_is_refused(
    kind: str, tmp_path: Path, server: Server | None
) -> None:
    """H5: `Compacted` says where the log begins, and `since=` begins there."""
    storage, clerk = storage_of(kind, tmp_path, server), Clerk()
    async with Swarm("named", storage, config=config()) as swarm:
        await (await clerk.begin(swarm)).cancel()
    async with Swarm("named", storage, config=config()) as swarm:
        seqs = await publish(swarm, 0, 2 * HELD)
    async with Swarm("named", storage, config=config()) as swarm:
        with pytest.raises(Compacted) as caught:
            await clerk.begin(swarm)
        first = caught.value.first
        assert first is not None
        assert first < seqs[HELD + HELD // 2]
        number = next(n for n, seq in enumerate(seqs) if seq > first) + 20
        await clerk.begin(swarm, since=seqs[number])
        await clerk.until(2 * HELD - number - 1)
    assert clerk.seen == list(range(number + 1, 2 * HELD))


@pytest.mark.parametrize("kind", KINDS)
async def test_a_name_that_is_forgotten_or_holds_nothing_keeps_no_log(
    kind: str, tmp_path: Path, server: Server | None
) -> None:
    """H7: the log is held only for those who acknowledge."""
    storage, clerk = storage_of(kind, tmp_path, server), Clerk()
    async with Swarm("named", storage, config=config()) as swarm:
        await (await clerk.begin(swarm)).cancel()
        await publish(swarm, 0, 50)
        await swarm.events.forget("clerk")
        handler = swarm.events.on(Note, print, name="some", delivery="at-most-once")
        await (await handler).cancel()
        await publish(swarm, 50, 100)
    async with Swarm("named", storage, config=config()) as swarm:
        assert "the log is kept" not in swarm.explain()
        await publish(swarm, 100, 101)
        tail = swarm._coordinator.bus.host.tail
        assert len(tail._log) <= 17  # type: ignore[attr-defined]


WORKER = """
import asyncio, os, signal, sys
from swarm import Swarm
from tests.storage.test_named_subscriptions import Note, config

async def main(storage):
    swarm = await Swarm.open("named", storage, config=config())

    async def handle(event):
        if event.payload.number == 20:
            await asyncio.Event().wait()

    await swarm.events.on(Note, handle, name="clerk")
    for number in range(200):
        await swarm.events.publish(Note(number))
    os.kill(os.getpid(), signal.SIGKILL)

asyncio.run(main(sys.argv[1]))
"""


@pytest.mark.parametrize("kind", [*KINDS, "redis, beside"])
async def test_after_a_kill_every_event_that_was_not_handled_is(
    kind: str, tmp_path: Path, server: Server | None
) -> None:
    """H5, H7: in a process that begins later, or one that was there all the time."""
    storage = storage_of(kind.partition(",")[0], tmp_path, server)
    swarm = None
    if "beside" in kind:
        swarm = await Swarm.open("named", storage, config=config())
    worker = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", WORKER, storage), stderr=subprocess.PIPE
    )
    _, told = await worker.communicate()
    assert worker.returncode == -9, told.decode()
    if swarm is None:
        swarm = await Swarm.open("named", storage, config=config())
    clerk = Clerk()
    try:
        await clerk.begin(swarm)
        await clerk.until(1)
        first = clerk.seen[0]
        assert first <= 20
        await clerk.until(200 - first)
        assert clerk.seen == list(range(first, 200))
    finally:
        await swarm.close()


# --- against a model ------------------------------------------------------------------


class Model:
    """One swarm on a store, opened again and again, and what its name has to get."""

    def __init__(self, storage: str) -> None:
        self.storage = storage
        self.swarm: Swarm
        self.clerk = Clerk()
        self.subscription: Subscription | None = None
        self.number = 0
        self.due: list[int] = []
        self.behind = 0
        self.is_known = False

    async def step(self, name: str, count: int) -> None:
        if name == "publish":
            await publish(self.swarm, self.number, self.number + count)
            self.due += range(self.number, self.number + count)
            self.number += count
            self.behind += count
        elif name == "noise":
            for number in range(count):
                await self.swarm.state.set("shared.noise", number)
            self.behind += count
        elif name == "subscribe" and self.subscription is None:
            await self.subscribe()
        elif name == "cancel" and self.subscription is not None:
            await self.subscription.cancel()
            self.subscription = None
        elif name == "reopen":
            await self.swarm.close()
            self.subscription = None
            await self.open()
        elif name == "forget" and self.subscription is None:
            assert await self.swarm.events.forget("clerk") == self.is_known
            self.is_known = False
        if self.subscription is not None:
            await self.check()

    async def open(self) -> None:
        self.swarm = await Swarm.open("named", self.storage, config=config())
        self.behind += 5  # what opening and closing commit themselves, and more

    async def subscribe(self) -> None:
        if not self.is_known:
            self.due = []
        try:
            self.subscription = await self.clerk.begin(self.swarm)
        except Compacted:
            assert self.is_known
            assert self.behind > HELD * 3 // 4, "the log had room for all of it"
            await self.swarm.events.forget("clerk")
            self.due = []
            self.subscription = await self.clerk.begin(self.swarm)
        self.is_known = True

    async def check(self) -> None:
        """All that is due has come, once and in order; then the position moves on."""
        await self.clerk.until(len(self.due))
        assert self.clerk.seen == self.due
        self.clerk.seen.clear()
        self.due.clear()
        self.behind = 0


COUNTS = st.integers(1, 60)
STEPS = st.lists(
    st.one_of(
        st.tuples(st.sampled_from(["publish", "noise"]), COUNTS),
        st.tuples(
            st.sampled_from(["subscribe", "cancel", "reopen", "reopen", "forget"]),
            st.just(1),
        ),
    ),
    min_size=5,
    max_size=30,
)


@pytest.mark.parametrize("kind", KINDS)
def test_what_a_name_gets_agrees_with_a_model(
    kind: str, tmp_path: Path, server: Server | None
) -> None:
    """H5, H7: all of it, once, in order; or `Compacted`, and only beyond the bound."""

    async def run(steps: list[tuple[str, int]]) -> None:
        with tempfile.TemporaryDirectory(dir=tmp_path) as folder:
            model = Model(storage_of(kind, Path(folder), server))
            await model.open()
            try:
                for step in steps:
                    await model.step(*step)
            finally:
                await model.swarm.close()

    @settings(max_examples=15, suppress_health_check=list(HealthCheck), deadline=None)
    @given(STEPS)
    def program(steps: list[tuple[str, int]]) -> None:
        asyncio.run(run(steps))

    program()
