"""URLs, hybrid and replicated stores, and snapshots on all of them."""

import asyncio
from pathlib import Path as Folder
from typing import Any

import pytest

from swarm.errors import (
    AccessDenied,
    Closed,
    LimitExceeded,
    NotFound,
    StateCorruption,
    StorageFailed,
    StorageInUse,
    StorageUnsupported,
)
from swarm.kernel import MemoryKernel
from swarm.model import OWNER, AgentIdentity, Path
from swarm.ports import Entropy, Limits, LoopClock
from swarm.state import Policy
from swarm.storage._open import Opened, open_kernel
from swarm.storage._snapshots import Snapshots
from swarm.storage._url import Hybrid, Replicated, find_place
from swarm.testing.contracts._base import ADA, contents, drain, drop, put


def stores(folder: Folder) -> dict[str, Any]:
    """Return a way to name each kind of store."""
    return {
        "file": f"file://{folder}/files",
        "interval": f"file:{folder}/slow?durability=interval&sync=0.5&compress=zstd",
        "process": f"file:{folder}/quick?durability=process",
        "sqlite": f"sqlite:///{folder}/run.db",
        "sqlite-process": f"sqlite:///{folder}/quick.db?durability=process",
        "folder": folder / "plain",
        "database": folder / "plain.db",
        "hybrid": Hybrid(secondary=f"file:{folder}/second", sync_interval=0.5),
        "replicated": Replicated(
            [f"file:{folder}/r1", folder / "r2", f"sqlite:///{folder}/r3.db"],
            write_quorum=2,
        ),
    }


KINDS = sorted(stores(Folder()))


async def opened(storage: Any, **options: Any) -> Opened:
    return await open_kernel(
        storage, "test", LoopClock(), Entropy("seed"), Limits(log_commits=16), **options
    )


def snapshots_of(store: Opened, identity: AgentIdentity = OWNER) -> Snapshots:
    return Snapshots(store.snapshots, identity, Policy.default())


@pytest.mark.parametrize("kind", KINDS)
async def test_every_kind_of_store_keeps_what_was_committed(tmp_path, kind):
    store = await opened(stores(tmp_path)[kind])
    for n in range(20):
        await store.kernel.commit(ADA, [put(f"k{n % 4}", n)])
    before = await contents(store.kernel)
    with pytest.raises(StorageInUse):
        await opened(stores(tmp_path)[kind])
    await store.kernel.close()
    store = await opened(stores(tmp_path)[kind])
    assert await contents(store.kernel) == before
    assert store.report is not None
    assert store.report.epoch == 2
    await store.kernel.close()


@pytest.mark.parametrize("kind", ["memory", *KINDS])
async def test_a_snapshot_is_restored_in_one_commit(tmp_path, kind):
    """D9."""
    storage = {**stores(tmp_path), "memory": "memory://"}[kind]
    store = await opened(storage)
    kernel = store.kernel
    await kernel.commit(ADA, [put("a", 1), put("b.c", [1]), put("locks.x", "held")])
    taken = await snapshots_of(store).create("before")
    await kernel.commit(ADA, [put("a", 2), drop("b.c"), put("new", 3)])
    await kernel.commit(ADA, [put("locks.x", "other"), put("locks.y", "held")])
    revision = kernel.revision
    await snapshots_of(store).restore(taken.id)
    assert {path: value for path, (value, _) in (await contents(kernel)).items()} == {
        "a": 1,
        "b.c": [1],
        "locks.x": "other",
        "locks.y": "held",
    }
    commits = await drain(await kernel.follow(revision))
    assert len(commits) == 1
    assert commits[0].revision > revision
    assert {d.path.text for d in commits[0].documents} == {"a", "b.c", "new"}
    await kernel.close()


async def test_a_restore_may_write_more_than_one_batch(tmp_path):
    store = await opened("memory://")
    for n in range(50):
        await store.kernel.commit(ADA, [put(f"k.{n}.{m}", m) for m in range(50)])
    taken = await snapshots_of(store).create()
    for n in range(50):
        await store.kernel.commit(ADA, [drop(f"k.{n}.{m}") for m in range(50)])
    await snapshots_of(store).restore(taken)
    assert len(await contents(store.kernel)) == 2_500


@pytest.mark.parametrize("kind", ["memory", "file", "sqlite", "replicated"])
async def test_snapshots_are_listed_newest_first_and_pruned(tmp_path, kind):
    storage = {**stores(tmp_path), "memory": "memory://"}[kind]
    store = await opened(storage)
    snapshots = snapshots_of(store)
    for n in range(5):
        await store.kernel.commit(ADA, [put("n", n)])
        await snapshots.create(f"number {n}")
    listed = await snapshots.list(3)
    assert [s.reason for s in listed] == ["number 4", "number 3", "number 2"]
    assert listed[0].event_sequence == store.kernel.revision
    assert listed[0].checksum
    assert await snapshots.prune(2) == 3
    assert [s.reason for s in await snapshots.list()] == ["number 4", "number 3"]
    with pytest.raises(NotFound):
        await snapshots.restore("s0")
    if kind != "memory":
        await store.kernel.close()
        store = await opened(storage)
        assert [s.reason for s in await snapshots_of(store).list()] == [
            "number 4",
            "number 3",
        ]
    await store.kernel.close()


@pytest.mark.parametrize("kind", ["memory", "sqlite"])
async def test_of_two_snapshots_of_one_revision_the_later_is_the_newer(tmp_path, kind):
    store = await opened({**stores(tmp_path), "memory": "memory://"}[kind])
    snapshots = snapshots_of(store)
    await store.kernel.commit(ADA, [put("n", 1)])
    for n in range(8):
        await snapshots.create(f"number {n}")
    reasons = [snapshot.reason for snapshot in await snapshots.list()]
    assert reasons == [f"number {n}" for n in reversed(range(8))]
    await store.kernel.close()


async def test_a_damaged_snapshot_does_not_end_the_schedule(tmp_path):
    store = await opened(tmp_path / "store")
    first = await store.snapshots.create("scheduled")
    for _ in range(3):
        await store.snapshots.create("scheduled")
    (tmp_path / "store" / f"saved-{first.id}").write_bytes(b"damaged")
    assert await store.snapshots.prune(1, "scheduled") == 2
    await store.kernel.close()


async def test_a_store_that_was_a_member_once_lists_its_snapshots(tmp_path):
    storage = Replicated([tmp_path / "a", tmp_path / "b"], write_quorum=2)
    store = await opened(storage)
    taken = await snapshots_of(store).create("kept")
    await store.kernel.close()
    store = await opened(tmp_path / "a")
    assert [s.id for s in await snapshots_of(store).list()] == [taken.id]
    assert await snapshots_of(store).prune(0) == 1
    await store.kernel.close()


async def test_a_large_snapshot_leaves_turns_to_other_tasks():
    store = await opened("memory://")
    for n in range(64):
        await store.kernel.commit(ADA, [put(f"k{n}", "x" * 65_536)])
    turns = 0

    async def count() -> None:
        nonlocal turns
        while True:
            await asyncio.sleep(0)
            turns += 1

    counting = asyncio.ensure_future(count())
    snapshots = snapshots_of(store)
    snapshot = await snapshots.create()
    taken, turns = turns, 0
    await snapshots.restore(snapshot)
    counting.cancel()
    assert taken >= 64  # each block is encoded in a turn of its own
    assert turns >= 64  # and decoded
    await store.kernel.close()


async def test_restoring_undoes_what_is_written_while_it_compares():
    store = await opened("memory://")
    kernel, snapshots = store.kernel, snapshots_of(store)
    await kernel.commit(ADA, [put(f"k.a{n}", n) for n in range(900)])
    snapshot = await snapshots.create()
    before = {path: value for path, (value, _) in (await contents(kernel)).items()}
    is_restored = False

    async def write() -> None:
        n = 0
        while not is_restored:
            n += 1
            await kernel.commit(ADA, [put(f"k.a{n % 900}", "x"), put(f"k.b{n}", n)])
            await kernel.commit(ADA, [drop(f"k.a{7 * n % 900}"), drop(f"k.b{n // 2}")])
            await kernel.commit(ADA, [put("locks.x", n), drop("k.a0")])
            await kernel.commit(ADA, [put("k.a0", n)])
            await asyncio.sleep(0)

    async def restore() -> None:
        nonlocal is_restored
        await snapshots.restore(snapshot)
        is_restored = True
        now = await contents(kernel)
        now.pop("locks.x", None)
        assert {path: value for path, (value, _) in now.items()} == before

    await asyncio.gather(write(), restore())
    await kernel.close()


async def test_a_snapshot_that_is_damaged_at_its_beginning_is_listed_as_damaged(
    tmp_path,
):
    store = await opened(tmp_path / "store")
    snapshots = snapshots_of(store)
    await store.kernel.commit(ADA, [put("a", 1)])
    taken = [await snapshots.create(f"number {n}") for n in range(2)]
    path = tmp_path / "store" / f"saved-{taken[0].id}"
    data = bytearray(path.read_bytes())
    data[60] ^= 1
    path.write_bytes(data)
    whole, damaged = await snapshots.list()
    assert (whole, whole.damage) == (taken[1], "")
    assert str(path) in damaged.damage
    assert damaged.event_sequence == taken[0].event_sequence
    assert damaged.timestamp == taken[0].timestamp
    with pytest.raises(StateCorruption, match="damaged at byte"):
        await snapshots.restore(damaged)
    await store.kernel.close()


async def test_a_listed_snapshot_is_restored_while_its_swarm_is_open(tmp_path):
    store = await opened(tmp_path / "store")
    await store.kernel.commit(ADA, [put("a", 1)])
    await snapshots_of(store).create()
    (listed,) = await snapshots_of(store).list()
    fork = await opened("memory://", restore=listed)
    assert (await contents(fork.kernel))["a"][0] == 1
    await snapshots_of(store).prune(0)
    with pytest.raises(NotFound, match=listed.id):
        await opened("memory://", restore=listed)
    await store.kernel.close()
    with pytest.raises(Closed, match="listed by a swarm that is closed"):
        await opened("memory://", restore=listed)


async def test_the_reason_of_a_snapshot_is_bounded():
    store = await opened("memory://")
    await snapshots_of(store).create("x" * 4_096)
    with pytest.raises(LimitExceeded, match="at most 4,096 characters, not 4,097"):
        await snapshots_of(store).create("x" * 4_097)


@pytest.mark.parametrize("kind", ["memory", "file", "sqlite"])
async def test_a_fork_goes_on_from_the_same_past_with_revisions_of_its_own(
    tmp_path, kind
):
    first = await opened(f"file:{tmp_path}/first")
    for n in range(30):
        await first.kernel.commit(ADA, [put("n", n)], events=[])
    taken = await snapshots_of(first).create()
    await first.kernel.commit(ADA, [put("n", "later")])
    storage = {"memory": "memory://", **stores(tmp_path)}[kind]
    fork = await opened(storage, restore=taken)
    assert (await contents(fork.kernel))["n"][0] == 29
    past = await drain(await fork.kernel.follow(fork.kernel.compacted))
    values = [c.documents[0].value for c in past if c.documents]
    assert values == list(range(30))[-len(values) :]
    assert len(values) >= 15
    commit = await fork.kernel.commit(ADA, [put("n", "forked")])
    assert commit is not None
    assert commit.revision > first.kernel.revision
    assert (await contents(first.kernel))["n"][0] == "later"
    await fork.kernel.close()
    if kind != "memory":
        again = await opened(storage)
        assert (await contents(again.kernel))["n"][0] == "forked"
        await again.kernel.close()
        with pytest.raises(ValueError, match="restore= begins a new store"):
            await opened(storage, restore=taken)
    await first.kernel.close()


async def test_a_damaged_snapshot_changes_nothing(tmp_path):
    store = await opened(f"file:{tmp_path}/store")
    await store.kernel.commit(ADA, [put("a", 1)])
    taken = await snapshots_of(store).create()
    await store.kernel.commit(ADA, [put("a", 2)])
    path = tmp_path / "store" / f"saved-{taken.id}"
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    with pytest.raises(StateCorruption):
        await snapshots_of(store).restore(taken.id)
    assert (await contents(store.kernel))["a"][0] == 2
    await store.kernel.close()


async def test_snapshots_need_the_right_to_everything(tmp_path):
    store = await opened("memory://")
    agent = AgentIdentity("ada", "tester", "s1", "tester")
    reader = Snapshots(store.snapshots, agent, Policy.strict())
    with pytest.raises(AccessDenied, match="read everything"):
        await reader.create()
    writer = Snapshots(store.snapshots, agent, Policy.default())
    taken = await writer.create()
    with pytest.raises(AccessDenied, match="write everything"):
        await writer.restore(taken)
    with pytest.raises(AccessDenied, match="write everything"):
        await writer.prune(0)


@pytest.mark.parametrize(
    ("storage", "message"),
    [
        ("memory://x", "takes nothing more"),
        ("postgres://x", "storage is memory://"),
        ("run.db", "storage is memory://"),
        ("file:", "file:FOLDER"),
        ("file://host/x", "file:FOLDER"),
        ("file:x?durability=none", "power, process or interval"),
        ("file:x?speed=9", "unknown option 'speed'"),
        ("file:x?durability", "power, process or interval, not ''"),
        ("file:x?durability=power&durability=process", "an option twice"),
        ("file:data#1", "write '#' as %23"),
        ("file:a%00b", "leave out what is NUL"),
        ("sqlite:///:memory:", "in memory is 'memory://'"),
        ("file:x?sync=1", "goes with durability=interval"),
        ("file:x?durability=interval&sync=soon", "number of seconds"),
        ("file:x?durability=interval&sync=0", "above 0"),
        ("file:x?compress=rar", "zlib or zstd"),
        ("sqlite://x.db", "sqlite:///relative.db"),
        ("sqlite:///x.db?durability=interval", "power or process"),
    ],
)
def test_a_wrong_url_says_what_is_right(storage, message):
    with pytest.raises(ValueError, match=message):
        find_place(storage)


def test_combinations_that_cannot_be_are_refused():
    with pytest.raises(ValueError, match="primary of Hybrid"):
        Hybrid("file:x", secondary="file:y")
    with pytest.raises(ValueError, match="a store on disk"):
        find_place(Hybrid(secondary="memory://"))
    with pytest.raises(ValueError, match="stores on disk"):
        find_place(Replicated(["memory://"], write_quorum=1))
    with pytest.raises(ValueError, match="twice"):
        Replicated(["file:x", "file:x"], write_quorum=1)
    with pytest.raises(TypeError, match="list of stores"):
        Replicated("file:x", write_quorum=1)
    with pytest.raises(ValueError, match="at least one store"):
        Replicated([], write_quorum=1)
    with pytest.raises(ValueError, match="from 1 to 2, not 3"):
        Replicated(["file:x", "file:y"], write_quorum=3)
    with pytest.raises(TypeError, match="write_quorum is a whole number"):
        Replicated(["file:x", "file:y"], write_quorum=True)
    with pytest.raises(ValueError, match="resolve is one of last-write-wins"):
        Replicated(["file:x", "file:y"], write_quorum=1, resolve="newest")
    with pytest.raises(TypeError, match="storage is"):
        find_place(7)


async def test_memory_needs_no_store():
    store = await opened("memory://")
    assert type(store.kernel) is MemoryKernel
    assert store.report is None
    assert await store.kernel.find(Path.parse("x")) is None


@pytest.mark.parametrize(
    ("url", "error"),
    [
        ("redis://:hunter2@127.0.0.1:1", StorageFailed),
        ("redis://ada:hunt@er2@127.0.0.1:1", StorageFailed),
        ("redis://127.0.0.1:1?password=hunter2", StorageFailed),
        ("reddis://:hunter2@127.0.0.1", StorageUnsupported),
        ("redis://:hunter2@127.0.0.1?durability=none", StorageUnsupported),
    ],
)
async def test_no_error_shows_the_password_of_a_url(url, error):
    pytest.importorskip("redis")
    with pytest.raises(error, match=r"\*\*\*") as caught:
        await opened(url)
    assert "er2" not in str(caught.value)
