"""A swarm on a store: what survives a restart, what ends with the process."""

import asyncio
import logging
import os
import resource
import threading
from pathlib import Path as Folder

import pytest

from swarm import (
    AccessDenied,
    Agent,
    Closed,
    Hybrid,
    Interceptor,
    InvalidValue,
    NotFound,
    Replicated,
    Restart,
    StaleClaim,
    StorageFailed,
    StorageInUse,
    StorageUnsupported,
    Swarm,
    SwarmConfig,
    SystemAlert,
    TaskError,
    event,
    serves,
)
from swarm.model import Path
from swarm.observability import overview
from swarm.ports import Limits
from swarm.storage import FileJournal, SqliteJournal, open_kernel, read_store
from tests.support.virtual_loop import virtual


@event("stored.thing")
class Thing:
    n: int


class Counter(Agent):
    async def count(self) -> int:
        return await self.state.increment("count")


def storages(folder):
    return {
        "file": f"file:{folder}/files",
        "sqlite": f"sqlite:///{folder}/run.db",
        "hybrid": Hybrid(secondary=folder / "second"),
        "replicated": Replicated(
            [folder / "a", folder / "b", folder / "c.db"], write_quorum=2
        ),
    }


KINDS = ["file", "sqlite", "hybrid", "replicated"]


@pytest.mark.parametrize("kind", KINDS)
async def test_state_and_history_survive_a_restart(tmp_path, kind):
    storage = storages(tmp_path)[kind]
    versions = []
    for n in range(3):
        async with Swarm(storage=storage) as swarm:
            assert await swarm.state.get("n", -1) == n - 1
            versions.append((await swarm.state.set("n", n)).version)
            past = await swarm.state.history("n")
            assert [change.value for change in past] == list(range(n + 1))
            assert (await swarm.state.at(versions[0]).get("n")) == 0
    assert versions == sorted(set(versions))


@pytest.mark.parametrize("kind", KINDS)
async def test_an_agent_finds_its_own_state_again(tmp_path, kind):
    storage = storages(tmp_path)[kind]
    for n in range(1, 4):
        async with Swarm(storage=storage) as swarm:
            ada = await swarm.spawn(Counter, name="ada")
            assert await ada.ask(Counter.count) == n
            assert [ref.name for ref in swarm.agents.find()] == ["ada"]


@pytest.mark.parametrize("kind", KINDS)
async def test_locks_end_with_the_process_and_tokens_go_on(tmp_path, kind):
    storage = storages(tmp_path)[kind]
    async with Swarm(storage=storage) as swarm:
        lease = await swarm.lock("x").acquire(ttl=1_000)
        token = lease.token
    async with Swarm(storage=storage) as swarm:
        again = await swarm.lock("x").acquire(timeout=0)
        assert again.token > token


@pytest.mark.parametrize("kind", KINDS)
async def test_a_lock_that_a_killed_process_held_is_free_again(tmp_path, kind):
    """D15."""
    storage = storages(tmp_path)[kind]
    swarm = await Swarm.open(storage=storage)
    lease = await swarm.lock("x").acquire(ttl=1_000)
    await swarm.flush()
    kernel = swarm._coordinator.kernel
    kept = await kernel.find(Path.of("locks", "x"))
    assert kept is not None
    # What a killed process leaves: the store as it is, and the lock file free.
    await kernel.writer.call(kernel.journal.close)
    async with Swarm("other", storage=storage) as other:
        again = await other.lock("x").acquire(timeout=0)
        assert again.token > lease.token
    await swarm.close()


@pytest.mark.parametrize("kind", KINDS)
async def test_a_named_subscription_goes_on_where_it_was(tmp_path, kind):
    storage = storages(tmp_path)[kind]
    seen = []

    async def handle(ev) -> None:
        seen.append(ev.payload.n)

    for n in range(3):
        async with Swarm(storage=storage) as swarm:
            if n != 1:  # in the second run nobody listens
                await swarm.events.on(
                    Thing, handle, name="billing", delivery="at-least-once"
                )
            await swarm.events.publish(Thing(n))
            while n != 1 and (not seen or seen[-1] != n):
                await asyncio.sleep(0)
    assert seen == [0, 1, 2]


@pytest.mark.parametrize("kind", KINDS)
async def test_a_task_survives_the_process_that_submitted_it(tmp_path, kind):
    storage = storages(tmp_path)[kind]
    async with Swarm(storage=storage) as swarm:
        task = await swarm.tasks.submit("sum", {"of": [1, 2]}, key="once")
    async with Swarm(storage=storage) as swarm:
        again = await swarm.tasks.submit("sum", {"of": [1, 2]}, key="once")
        assert again.id == task.id
        async with swarm.tasks.claim("sum") as claim:
            await claim.complete(sum(claim.payload["of"]))
        assert await again.result() == 3


async def test_a_second_swarm_on_a_store_is_refused(tmp_path):
    """D16."""
    async with Swarm(storage=tmp_path / "x") as first:
        with pytest.raises(StorageInUse, match="process"):
            await Swarm.open(storage=tmp_path / "x")
        await first.state.set("still", "works")


async def test_a_wrong_storage_is_refused_before_anything_is_opened(tmp_path):
    with pytest.raises(StorageUnsupported, match="memory://"):
        Swarm("x", "postgres://db")
    with pytest.raises(TypeError, match="storage is"):
        Swarm("x", 5)  # type: ignore[arg-type]


class Broken(FileJournal):
    fails = False

    def append(self, entries) -> None:
        if self.fails:
            raise StorageFailed("no space left on device")
        super().append(entries)


@pytest.mark.parametrize("kind", ["file", "sqlite"])
async def test_a_store_that_fails_leaves_the_swarm_readable(
    tmp_path, monkeypatch, kind
):
    """D3: nothing counts any more, health is critical, a restart finds what did."""
    storage = storages(tmp_path)[kind]
    swarm = await Swarm.open(storage=storage)
    await swarm.state.set("kept", 1)
    with monkeypatch.context() as patch:
        for each in (FileJournal, SqliteJournal):
            patch.setattr(each, "append", no_space_left)
        with pytest.raises(StorageFailed, match="no space left"):
            await swarm.state.set("kept", 2)
    with pytest.raises(StorageFailed, match="no space left"):
        await swarm.events.publish(Thing(1))  # also once there is space again
    assert await swarm.state.get("kept") == 2  # seen at once, but not safe
    health = overview(swarm)["health"]
    assert health["status"] == "critical"
    assert "no space left" in health["issues"][0]
    assert "the store has failed" in swarm.explain()
    with pytest.raises(BaseExceptionGroup) as caught:
        await swarm.close()
    assert caught.group_contains(StorageFailed, match="no space left")
    async with Swarm(storage=storage) as again:
        assert await again.state.get("kept") == 1


@pytest.mark.parametrize("kind", ["file", "sqlite", "replicated"])
async def test_a_store_that_fails_while_it_is_opened_can_be_opened_again(
    tmp_path, monkeypatch, kind
):
    storage = storages(tmp_path)[kind]
    async with Swarm(storage=storage) as swarm:
        await swarm.state.set("kept", 1)
    with monkeypatch.context() as patch:
        for each in (FileJournal, SqliteJournal):
            patch.setattr(each, "append", no_space_left)
        with pytest.raises(StorageFailed):
            await Swarm.open(storage=storage)
    async with Swarm(storage=storage) as again:
        assert await again.state.get("kept") == 1


def no_space_left(journal, entries):
    raise StorageFailed("no space left on device")


async def test_opening_that_is_cancelled_leaves_nothing_open(tmp_path, monkeypatch):
    reached = asyncio.Event()

    async def wait_for_ever(coordinator):
        reached.set()
        await asyncio.Event().wait()

    before = asyncio.all_tasks()
    with monkeypatch.context() as patch:
        patch.setattr("swarm.system._work.wake", wait_for_ever)
        opening = asyncio.ensure_future(Swarm.open(storage=tmp_path / "x"))
        await reached.wait()
        opening.cancel()
        with pytest.raises(asyncio.CancelledError):
            await opening
    assert asyncio.all_tasks() == before
    async with Swarm(storage=tmp_path / "x") as swarm:
        await swarm.state.set("kept", 1)


async def test_a_swarm_whose_interceptor_refuses_it_leaves_nothing_open(tmp_path):
    class Refusing(Interceptor):
        def opened(self, swarm):
            raise ValueError("not this one")

    before = asyncio.all_tasks()
    with pytest.raises(ValueError, match="not this one"):
        await Swarm.open(storage=tmp_path / "x", interceptors=[Refusing()])
    assert asyncio.all_tasks() == before
    async with Swarm(storage=tmp_path / "x") as swarm:
        await swarm.state.set("kept", 1)


async def test_a_store_that_cannot_be_closed_well_is_told(tmp_path, monkeypatch):
    def close(journal):
        closed(journal)
        raise StorageFailed("could not write CURRENT")

    closed = FileJournal.close
    swarm = await Swarm.open(storage=Hybrid(secondary=tmp_path / "x"))
    await swarm.state.set("kept", 1)
    monkeypatch.setattr(FileJournal, "close", close)
    with pytest.raises(BaseExceptionGroup) as caught:
        await swarm.close()
    assert caught.group_contains(StorageFailed, match="could not write CURRENT")


async def test_a_hybrid_whose_store_fails_goes_on_in_memory_and_says_so(
    tmp_path, monkeypatch
):
    monkeypatch.setattr("swarm.storage._url.FileJournal", Broken)
    swarm = await Swarm.open(storage=Hybrid(secondary=tmp_path / "x"))
    await swarm.state.set("kept", 1)
    await swarm.flush()
    swarm._coordinator.kernel.journal.fails = True
    await swarm.state.set("kept", 2)
    with pytest.raises(StorageFailed, match="no space left"):
        await swarm.flush()
    assert overview(swarm)["health"]["status"] == "critical"
    await swarm.state.set("kept", 3)
    assert await swarm.state.increment("kept", 1) == 4
    await swarm.state.delete("kept")
    async with swarm.state.transaction() as tx:
        await tx.set("kept", 5)
    await swarm.events.publish(Thing(1))
    assert await swarm.state.get("kept") == 5
    with pytest.raises(BaseExceptionGroup) as caught:
        await swarm.close()
    assert caught.group_contains(StorageFailed, match="no space left")
    async with Swarm(storage=tmp_path / "x") as again:
        assert await again.state.get("kept") == 1


async def test_writers_of_a_hybrid_wait_once_its_store_is_far_behind(
    tmp_path, monkeypatch
):
    gate = threading.Event()

    class Slow(FileJournal):
        def append(self, entries):
            gate.wait()
            super().append(entries)

    monkeypatch.setattr("swarm.storage._url.FileJournal", Slow)
    monkeypatch.setattr("swarm.storage._writer.ROOM", 1_000)
    async with Swarm(storage=Hybrid(secondary=tmp_path / "x")) as swarm:
        kernel = swarm._coordinator.kernel

        async def write():
            for n in range(10_000):
                await swarm.state.set("n", n)

        writing = asyncio.ensure_future(write())
        before = -1
        while before != kernel.revision:  # until nothing moves any more
            before = kernel.revision
            for _ in range(20):
                await asyncio.sleep(0)
        reached = await swarm.state.get("n")
        gate.set()
        await writing
        assert 0 < reached < 2_000
    async with Swarm(storage=tmp_path / "x") as again:
        assert await again.state.get("n") == 9_999


async def test_a_fork_tries_another_continuation(tmp_path):
    async with Swarm(storage=tmp_path / "x") as swarm:
        await swarm.state.set("plan", "draft")
        snapshot = await swarm.snapshots.create("before the choice")
        results = {}
        for choice in ("ants", "bees"):
            async with Swarm("fork", restore=snapshot) as fork:
                assert await fork.state.get("plan") == "draft"
                await fork.state.set("plan", choice)
                results[choice] = await fork.state.get("plan")
        assert results == {"ants": "ants", "bees": "bees"}
        assert await swarm.state.get("plan") == "draft"


async def test_a_task_that_is_worked_on_goes_back_to_how_a_snapshot_has_it():
    async with Swarm() as swarm:
        task = await swarm.tasks.submit("job", {"n": 1})
        snapshot = await swarm.snapshots.create()
        later = await swarm.tasks.submit("later", {})
        with pytest.raises(StaleClaim):
            async with swarm.tasks.claim("job") as claim:
                await swarm.snapshots.restore(snapshot)
                assert (await task.record()).status == "pending"
                await claim.complete("lost")
        with pytest.raises(NotFound):
            await later.record()
        async with swarm.tasks.claim("job") as claim:
            await claim.complete("done")
        assert await task.result() == "done"


@pytest.mark.parametrize("storage", ["memory://", "sqlite:///{}/run.db"])
async def test_restoring_leaves_named_subscriptions_and_dead_letters_alone(
    tmp_path, storage
):
    async def note(event):
        if event.payload.n == 2:
            raise ValueError("two")

    async def done(subscription, processed, dead):
        async with asyncio.timeout(10):
            while (
                subscription.stats.processed < processed
                or subscription.stats.dead < dead
            ):
                await asyncio.sleep(0)

    async with Swarm(storage=storage.format(tmp_path)) as swarm:
        early = await swarm.events.on(Thing, note, name="early", max_retries=0)
        await swarm.events.publish(Thing(1))
        await done(early, 1, 0)
        snapshot = await swarm.snapshots.create()
        late = await swarm.events.on(Thing, note, name="late", max_retries=0)
        await swarm.events.publish(Thing(2))
        await done(early, 1, 1)
        await done(late, 0, 1)
        await swarm.snapshots.restore(snapshot)
        await swarm.events.publish(Thing(3))
        await done(early, 2, 1)
        await done(late, 1, 1)
        await swarm.events.publish(Thing(4))
        await done(early, 3, 1)
        await done(late, 2, 1)
        letters = await swarm.events.dead_letters.list()
        assert {letter.subscription for letter in letters} == {"early", "late"}


@pytest.mark.parametrize("wrong", ["s1", 5, {"id": "s1"}])
async def test_a_swarm_does_not_begin_with_a_thing_that_is_no_snapshot(wrong):
    with pytest.raises(TypeError, match="restore= takes a Snapshot"):
        Swarm("fork", restore=wrong)
    async with Swarm() as swarm:
        with pytest.raises((TypeError, NotFound), match=r"snapshot"):
            await swarm.snapshots.restore(wrong)


async def test_agents_need_the_right_to_everything_for_snapshots(tmp_path):
    class Curious(Agent):
        async def look(self) -> str:
            snapshot = await self.swarm.snapshots.create()
            try:
                await self.swarm.snapshots.restore(snapshot)
            except AccessDenied as error:
                return str(error)
            return "restored"

    async with Swarm() as swarm:
        ada = await swarm.spawn(Curious)
        assert "write everything" in await ada.ask(Curious.look)


async def test_opening_memory_by_name_gives_a_plain_kernel():
    from swarm.ports import Entropy, Limits, LoopClock

    opened = await open_kernel("memory://", "x", LoopClock(), Entropy(1), Limits())
    assert opened.report is None


@virtual
async def test_snapshots_are_taken_on_schedule_and_pruned():
    config = SwarmConfig(snapshot_every=60, snapshot_keep=3)
    async with Swarm(config=config) as swarm:
        await swarm.snapshots.create("by hand")
        for n in range(5):
            await swarm.state.set("n", n)
            await asyncio.sleep(60)
        listed = await swarm.snapshots.list()
        assert [s.reason for s in listed] == ["scheduled"] * 3 + ["by hand"]
        await swarm.snapshots.restore(listed[2])
        assert await swarm.state.get("n") == 2


@pytest.mark.parametrize("seconds", [0, -1, float("inf")])
def test_a_schedule_that_cannot_be_is_refused(seconds):
    with pytest.raises(ValueError, match="snapshot_every"):
        SwarmConfig(snapshot_every=seconds)
    with pytest.raises(ValueError, match="snapshot_keep"):
        SwarmConfig(snapshot_keep=0)


async def test_a_member_that_fails_is_announced_and_healed(tmp_path, monkeypatch):
    monkeypatch.setattr("swarm.storage._url.FileJournal", Broken)
    storage = Replicated([tmp_path / "a", tmp_path / "b.db"], write_quorum=1)
    with pytest.raises(Closed, match="no swarm"):
        await storage.sync()
    swarm = await Swarm.open(storage=storage)
    async with swarm.events.subscribe(SystemAlert) as alerts:
        journal = swarm._coordinator.kernel.journal
        member = journal._member(str(tmp_path / "a")).journal
        member.fails = True
        await swarm.state.set("n", 1)
        alert = await anext(aiter(alerts))
        assert "no space left" in alert.payload.message
        member.fails = False
        await swarm.state.set("n", 2)
        assert await storage.sync() == [str(tmp_path / "a")]
        await swarm.state.set("n", 3)
    await swarm.close()
    for place in (tmp_path / "a", tmp_path / "b.db"):
        assert read_store(place).value("n") == 3


def held_by_the_process() -> tuple[int, int]:
    """Return resident bytes and open descriptors."""
    pages = int(Folder("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize(), len(os.listdir("/proc/self/fd"))


async def write_many(storage, folder, operations):
    """Write, and check now and then that nothing has grown since the first tenth."""
    config = SwarmConfig(limits=Limits(log_commits=1_000, held_commits=1_000))
    async with Swarm(storage=storage, config=config) as swarm:
        kernel = swarm._coordinator.kernel
        kernel.journal._long = 1_000_000
        bytes_before = descriptors_before = 0
        for n in range(operations):
            await swarm.state.set(f"shared.k{n % 1_000}", f"{n}" * 10)
            if n % (operations // 20) == 0 and n >= operations // 10:
                await swarm.flush()
                resident, descriptors = held_by_the_process()
                if not bytes_before:
                    bytes_before, descriptors_before = resident, descriptors
                assert resident < 1.1 * bytes_before + 30_000_000
                assert descriptors <= descriptors_before + 2
                files = [path for path in folder.rglob("*") if path.is_file()]
                assert len(files) <= 6
                assert sum(path.stat().st_size for path in files) < 40_000_000


@pytest.mark.parametrize("kind", ["files", "run.db"])
async def test_files_memory_and_descriptors_stay_bounded(tmp_path, kind):
    """D19."""
    storage = Hybrid(secondary=tmp_path / "s" / kind)
    await write_many(storage, tmp_path, operations=20_000)


@pytest.mark.slow
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("kind", ["files", "run.db"])
async def test_ten_million_operations_leave_everything_bounded(tmp_path, kind):
    """D19."""
    storage = Hybrid(secondary=tmp_path / "s" / kind)
    await write_many(storage, tmp_path, operations=10_000_000)


@pytest.mark.parametrize("kind", ["file", "sqlite"])
async def test_text_that_is_no_unicode_leaves_the_store_in_order(
    tmp_path, caplog, kind
):
    """An error about a file name may hold a lone surrogate (PEP 383)."""
    text = "no file \udcff"
    # The traceback that is logged holds it too, and pytest-xdist cannot report that.
    caplog.set_level(logging.CRITICAL + 1, "swarm")

    class Reader(Agent):
        @serves("read")
        async def read(self) -> None:
            raise FileNotFoundError(text)

    async def fail(event) -> None:
        raise FileNotFoundError(text)

    async with Swarm("s", storages(tmp_path)[kind]) as swarm:
        with pytest.raises(InvalidValue, match="a capability is not valid Unicode"):
            await swarm.spawn(Reader, capabilities=[text])
        with pytest.raises(InvalidValue, match="a role is not valid Unicode"):
            await swarm.spawn(Reader, role=text)
        lease = await swarm.lock("a").acquire()
        with pytest.raises(InvalidValue, match="the reason is not valid Unicode"):
            await swarm.locks.force_release(lease.id, reason=text)
        await swarm.events.on("task.failed", fail, name="failing")
        await swarm.spawn(Reader, name="ada", restart=Restart(max=9))
        with pytest.raises(TaskError, match=r"no file \\udcff"):
            await (await swarm.tasks.submit("read", max_retries=0)).result(5)
        await swarm.state.set("still", "here")
        while not (letters := await swarm.events.dead_letters.list()):
            await asyncio.sleep(0)
        assert letters[0].error.message == r"no file \udcff"
