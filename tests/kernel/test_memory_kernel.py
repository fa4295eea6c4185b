import asyncio
import gc
import tracemalloc
import weakref

import attrs
import pytest

from swarm.errors import Compacted
from swarm.kernel import MemoryKernel
from swarm.model import Cause, Commit, Document, Path, event
from swarm.ports import (
    Activity,
    Codec,
    Kernel,
    Limits,
    Plan,
    Runtime,
    current_activity,
    install_runtime,
)
from swarm.testing import DistantKernel
from swarm.testing.contracts import KernelContract
from swarm.testing.contracts._base import ADA, contents, drop, put
from tests.support.clock import FakeClock


class TestMemoryKernel(KernelContract):
    async def make_kernel(self, limits: Limits | None = None) -> Kernel:
        self.clock = FakeClock()
        return MemoryKernel(self.clock, limits)

    async def pass_time(self, kernel: Kernel, seconds: float) -> None:
        self.clock.advance(seconds)


class TestDistantKernel(KernelContract):
    """A kernel that is a round trip away keeps the same contract."""

    async def make_kernel(self, limits: Limits | None = None) -> Kernel:
        self.clock = FakeClock()
        return DistantKernel(MemoryKernel(self.clock, limits))

    async def pass_time(self, kernel: Kernel, seconds: float) -> None:
        self.clock.advance(seconds)
        await asyncio.sleep(0)


async def test_quiescence_leaves_no_residue():
    """G13: timers, expiries, tombstones and folders go with their cause."""
    clock = FakeClock()
    kernel = MemoryKernel(clock, Limits(log_commits=1))
    reader = await kernel.follow()
    for n in range(200):
        await kernel.commit(ADA, [put(f"a.b{n}.c", n, kernel.now() + 10_000_000)])
    waiting = [asyncio.ensure_future(reader.next()) for _ in range(3)]
    await asyncio.sleep(0)
    for task in waiting:
        task.cancel()
    await asyncio.gather(*waiting, return_exceptions=True)
    for n in range(200):
        await kernel.commit(ADA, [drop(f"a.b{n}.c")])
    await kernel.put(ADA, Path.parse("last"), b"1")
    assert len(kernel._expiries.heap) <= 64
    assert clock.pending == 0
    assert kernel._versions.tombstones == {}
    assert kernel._followers.waiters == {}
    assert kernel._tree._root == {"last": "last"}
    assert len(kernel._log) == 1
    await kernel.close()


@event("noted")
class Noted:
    n: int


async def test_a_commit_of_one_document_is_made_when_it_is_read():
    """Its document, events and cause are what they would be with a listener."""
    kernel = MemoryKernel(FakeClock())
    heard: list[Document] = []
    commits: list[Commit] = []
    kernel.listen(commits.append, documents=True, folders=("a",), each=heard.append)
    path = Path.parse("a.b")
    token = current_activity.set(Activity(Cause("origin")))
    try:
        revision, _ = kernel.apply_one_now(ADA, path, _note, 1)
    finally:
        current_activity.reset(token)
    assert [document.version for document in heard] == [revision]
    assert type(kernel._log.entries()[0]) is tuple
    _, _, [commit] = kernel.retained_now()
    read = kernel.follow_now(0).next_nowait()
    for each in (commit, read):
        assert each.revision == revision
        assert each.documents == (heard[0],)
        assert each.events == (Noted(1),)
        assert each.cause.correlation_id == "origin"
    assert read.cause.root == revision
    assert commits == []
    stop = kernel.listen(lambda _: None, documents=False, folders=("a",))
    kernel.apply_one_now(ADA, path, _note, 2)
    stop()
    assert [commit.events for commit in commits] == [(Noted(2),)]
    assert len(heard) == 1


def _note(document, now, n):
    return Note(n), ((Noted, n),), None


@attrs.frozen
class Note:
    n: int

    def to_json(self):
        return {"n": self.n}


async def test_a_version_that_left_the_log_is_freed():
    """Nothing grows without bound: old versions go with their commits."""
    kernel = MemoryKernel(FakeClock(), Limits(log_commits=2))
    path = Path.parse("a")
    await kernel.put(ADA, path, b"1")
    [document] = await kernel.versions(path, 1)
    gone = weakref.ref(document)
    del document
    for _ in range(4):
        await kernel.put(ADA, path, b"2")
    gc.collect()
    assert gone() is None


async def test_a_jump_of_the_wall_clock_ends_nothing_early_and_nothing_late():
    """G8: time to live is monotonic; `at` never goes back."""
    clock = FakeClock()
    kernel = MemoryKernel(clock)
    await kernel.commit(ADA, [put("a", 1, kernel.now() + 10_000_000)])
    clock.jump_wall(86_400)
    later = await kernel.commit(ADA, [put("b", 1)])
    assert set(await contents(kernel)) == {"a", "b"}
    clock.jump_wall(-2 * 86_400)
    last = await kernel.commit(ADA, [put("b", 2)])
    assert last.at >= later.at
    clock.advance(11)
    assert set(await contents(kernel)) == {"b"}


async def test_closing_takes_the_timer_back():
    clock = FakeClock()
    kernel = MemoryKernel(clock)
    await kernel.commit(ADA, [put("a", 1, kernel.now() + 10_000_000)])
    assert clock.pending == 1
    await kernel.close()
    assert clock.pending == 0


async def test_a_kernel_goes_on_after_the_revision_it_was_given():
    """S3, S18: a restart never reuses a number."""
    kernel = MemoryKernel(FakeClock(), revision=41)
    commit = await kernel.commit(ADA, [put("a", 1)])
    assert commit.revision == kernel.revision == 42
    view = await kernel.view_at(41)
    assert view.find(Path.parse("a")) is None


async def test_every_operation_awaits_the_scheduling_point_of_the_runtime():
    points = []

    async def scheduling_point():
        points.append(1)

    install_runtime(asyncio.get_running_loop(), Runtime(pause=scheduling_point))
    kernel = MemoryKernel(FakeClock())
    await kernel.put(ADA, Path.parse("a"), b"1")
    await kernel.find(Path.parse("a"))
    await kernel.read(lambda view: view.revision)
    await kernel.commit(ADA, [put("b", 1)])
    await kernel.apply(ADA, lambda view: pytest.fail("not asked") if 0 else _nothing())
    assert len(points) == 5


def _nothing():
    from swarm.ports import Plan

    return Plan()


class Held:
    """A part of the log that somebody needs."""

    def __init__(self, after):
        self.after = after
        self.lost = []

    def on_pressure(self):
        pass

    def on_truncate(self, commits):
        self.lost += [commit.revision for commit in commits]


async def test_what_is_held_stays_up_to_the_hard_limit():
    """H7: a hold outlasts the log's bounds; beyond the hard ones it is told."""
    kernel = MemoryKernel(FakeClock(), Limits(log_commits=2, held_commits=4))
    hold = Held(0)
    kernel.hold(hold)
    for n in range(4):
        await kernel.commit(ADA, [put("a", n)])
    assert (kernel.compacted, hold.lost) == (0, [])
    await kernel.commit(ADA, [put("a", "more")])
    assert (kernel.compacted, hold.lost) == (1, [1])
    with pytest.raises(Compacted):
        kernel.hold(Held(0))
    kernel.release(hold)
    await kernel.commit(ADA, [put("a", "yet more")])
    assert kernel.compacted == 4
    assert hold.lost == [1]


async def test_large_events_count_by_their_weight():
    """Limits.log_bytes bounds what events hold, too."""
    kernel = MemoryKernel(FakeClock(), Limits(log_bytes=10_000))
    for n in range(10):
        await kernel.commit(ADA, events=[f"said {n}"], weight=4_000)
        await kernel.commit(ADA, [put("a", n)], events=["done"], weight=4_000)
    assert kernel.revision - kernel.compacted == 2


async def test_the_log_counts_bodies_that_were_replaced_or_deleted():
    """300 documents of 1 MB, replaced by small ones, were not counted at all."""
    kernel = MemoryKernel(FakeClock(), Limits(log_bytes=1_000_000))
    for n in range(40):
        await kernel.commit(ADA, [put(f"d{n}", "x" * 100_000)])
    for n in range(20):
        await kernel.commit(ADA, [put(f"d{n}", "small")])
        await kernel.commit(ADA, [drop(f"d{20 + n}")])
    log = kernel._log
    bodies = {
        id(document.previous.body): len(document.previous.body)
        for number in range(log.first, log.end)
        for document in log.entry(number).documents
        if document.previous is not None and document.previous.body is not None
    }
    held = sum(bodies.values())
    assert 500_000 < held <= log._size <= 1_000_000


async def test_the_log_counts_about_what_it_keeps_in_memory():
    """Tiny documents as well: a thirtieth was counted."""
    kernel = MemoryKernel(FakeClock(), Limits(log_commits=4_096))
    path, codec = Path.parse("a"), Codec(Limits())
    await kernel.put(ADA, path, codec.encode({"n": 0}))
    tracemalloc.start()
    for n in range(4_000):
        await kernel.put(ADA, path, codec.encode({"n": n}))
    held, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert kernel._log._size / 2.5 < held < kernel._log._size * 1.25


async def test_the_listener_named_by_a_caller_hears_none_of_its_commits():
    """Not even one of several documents; the other listeners hear of it."""
    kernel = MemoryKernel(FakeClock())
    heard: list[str] = []

    def own(_: Commit) -> None:
        heard.append("own")

    def other(_: Commit) -> None:
        heard.append("other")

    for listener in (own, other):
        kernel.listen(listener, documents=True, folders=("a", "b"))
    for paths in (("a.x",), ("a.y", "b.y")):
        kernel.apply_now(
            ADA, lambda _, at: Plan([put(path, 1) for path in at]), paths, unheard=own
        )
    assert heard == ["other", "other"]
    await kernel.close()
