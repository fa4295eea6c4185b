"""The journalled kernel: the kernel contract, restarts, and failures of the store."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path as Folder
from typing import Any

import attrs
import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from swarm import event
from swarm.errors import Closed, Compacted, StateCorruption, StorageFailed
from swarm.model import ROOT, AgentIdentity, Commit, Document, Path
from swarm.ports import Entry, Journal, Kernel, Limits, LoopClock, UnknownEvent
from swarm.storage._file import FileJournal
from swarm.storage._kernel import JournalledKernel
from swarm.storage._records import (
    apply_to,
    decode_commit,
    decode_document,
    decode_entries,
    encode_commit,
    encode_document,
    newest_documents,
)
from swarm.storage._sqlite import SqliteJournal
from swarm.testing.contracts import KernelContract
from swarm.testing.contracts._base import ADA, BO, contents, drain, drop, put
from tests.support.clock import FakeClock

JOURNALS = {
    "file": lambda folder: FileJournal(folder / "store"),
    "sqlite": lambda folder: SqliteJournal(folder / "store.db"),
}


@event("storage.happened")
class Happened:
    what: str
    how: list[int] = attrs.field(factory=list)


class StoredKernelContract(KernelContract):
    """The kernel contract on a store in a fresh folder."""

    journal = "file"

    @pytest.fixture(autouse=True)
    def _folder(self, tmp_path: Folder) -> None:
        self.folder = tmp_path
        self.stores = 0

    async def make_kernel(self, limits: Limits | None = None) -> Kernel:
        self.clock = FakeClock()
        self.stores += 1
        journal = JOURNALS[self.journal](self.folder / str(self.stores))
        kernel = JournalledKernel(journal, self.clock, limits)
        await kernel.open()
        return kernel

    async def pass_time(self, kernel: Kernel, seconds: float) -> None:
        self.clock.advance(seconds)


class TestFileKernel(StoredKernelContract):
    journal = "file"


class TestSqliteKernel(StoredKernelContract):
    journal = "sqlite"


@asynccontextmanager
async def opened(
    journal: Journal, limits: Limits | None = None, **options: Any
) -> AsyncIterator[JournalledKernel]:
    """Open a kernel on a journal, and close it at the end."""
    kernel = JournalledKernel(journal, LoopClock(), limits, **options)
    await kernel.open()
    try:
        yield kernel
    finally:
        await kernel.close()


@pytest.fixture(params=JOURNALS)
def make(request: pytest.FixtureRequest, tmp_path: Folder) -> Any:
    return lambda: JOURNALS[request.param](tmp_path)


async def test_a_restart_keeps_documents_versions_authors_and_history(make):
    async with opened(make()) as kernel:
        first = await kernel.put(ADA, Path.parse("a.b"), b"1")
        await kernel.put(BO, Path.parse("a.b"), b"2")
        await kernel.commit(ADA, [put("c", {"x": [1, 2.0, None]}), put("gone", 1)])
        await kernel.commit(ADA, [drop("gone")], events=[Happened("it", [1, 2])])
        before = await contents(kernel)
        revision = kernel.revision
    async with opened(make()) as kernel:
        assert await contents(kernel) == before
        assert kernel.revision > revision
        document = await kernel.find(Path.parse("a.b"))
        assert document is not None
        assert document.author == BO
        versions = await kernel.versions(Path.parse("a.b"), 9)
        assert [v.value for v in versions] == [2, 1]
        assert first is not None
        past = await kernel.view_at(first.version)
        assert past.find(Path.parse("a.b")).value == 1
        commits = await drain(await kernel.follow(0))
        assert commits[-1].events == (Happened("it", [1, 2]),)
        assert [d.path.text for d in commits[-1].documents] == ["gone"]


async def test_revisions_are_never_used_twice(make):
    """D13."""
    seen: set[int] = set()
    for _ in range(3):
        async with opened(make()) as kernel:
            for n in range(5):
                document = await kernel.put(ADA, Path.parse("x"), b"%d" % n)
                assert document is not None
                assert document.version not in seen
                seen.add(document.version)
    assert len(seen) == 15


async def test_a_checkpoint_keeps_history_within_the_log(make):
    journal = make()
    async with opened(journal, Limits(log_commits=8)) as kernel:
        for n in range(40):
            await kernel.put(ADA, Path.parse(f"k{n % 3}"), b"%d" % n)
        await kernel.commit(ADA, [drop("k0")])
        kernel._shorten()
        await kernel.flush()
        for n in range(3):
            await kernel.put(ADA, Path.parse("k1"), b"%d" % (100 + n))
        before = await contents(kernel)
        compacted = kernel.compacted
        revisions = [c.revision for c in await drain(await kernel.follow(compacted))]
        past = [await history(kernel, revision) for revision in revisions]
    async with opened(make(), Limits(log_commits=8)) as kernel:
        assert await contents(kernel) == before
        assert kernel.compacted == compacted
        assert [
            c.revision for c in await drain(await kernel.follow(compacted))
        ] == revisions
        assert [await history(kernel, revision) for revision in revisions] == past
        with pytest.raises(Compacted):
            await kernel.view_at(compacted - 1)


async def history(kernel: Kernel, revision: int) -> dict[str, Any]:
    view = await kernel.view_at(revision)
    return {d.path.text: d.value for d in view.documents(ROOT)}


async def test_documents_that_ended_while_the_store_was_closed_are_gone(make):
    clock = FakeClock()
    kernel = JournalledKernel(make(), clock)
    await kernel.open()
    await kernel.commit(ADA, [put("soon", 1, kernel.now() + 1_000_000)])
    await kernel.commit(ADA, [put("later", 2, kernel.now() + 90_000_000)])
    await kernel.close()
    later = FakeClock()
    later.advance(5)
    kernel = JournalledKernel(make(), later)
    await kernel.open()
    assert set(await contents(kernel)) == {"later"}
    await kernel.close()


async def test_an_event_whose_class_is_unknown_arrives_as_its_json(make, monkeypatch):
    async with opened(make()) as kernel:
        await kernel.commit(ADA, events=[Happened("x", [3])])
    monkeypatch.setattr("swarm.ports._payloads.find_event_class", lambda *_: None)
    async with opened(make()) as kernel:
        (commit,) = await drain(await kernel.follow(0))
        (payload,) = commit.events
        assert isinstance(payload, UnknownEvent)
        assert payload.data == {"what": "x", "how": [3]}


async def test_many_writers_share_a_batch(tmp_path):
    class Counting(FileJournal):
        batches = 0

        def append(self, entries: Any) -> None:
            Counting.batches += 1
            super().append(entries)

    async with opened(Counting(tmp_path)) as kernel:

        async def write(n: int) -> None:
            for m in range(5):
                await kernel.put(ADA, Path.parse(f"k{n}"), b"%d" % m)

        await asyncio.gather(*(write(n) for n in range(64)))
        assert kernel.writer.durable == kernel.revision
    assert Counting.batches < 160  # of 320 commits


class Broken(FileJournal):
    """Fails at every append from a moment on."""

    fails = False

    def append(self, entries: Any) -> None:
        if self.fails:
            raise StorageFailed("no space left on device")
        super().append(entries)


async def test_a_failed_write_reaches_all_that_wait_and_stops_the_store(tmp_path):
    journal = Broken(tmp_path)
    told: list[Exception] = []
    async with opened(journal) as kernel:
        kernel.on_failure = told.append
        await kernel.put(ADA, Path.parse("kept"), b"1")
        journal.fails = True
        results = await asyncio.gather(
            *(kernel.put(ADA, Path.parse(f"k{n}"), b"1") for n in range(9)),
            return_exceptions=True,
        )
        assert {type(result) for result in results} == {StorageFailed}
        with pytest.raises(StorageFailed, match="no space left"):
            await kernel.commit(ADA, [put("more", 1)])
        with pytest.raises(StorageFailed, match="no space left"):
            await kernel.flush()
        assert (await kernel.find(Path.parse("kept"))).value == 1  # still readable
        assert len(told) == 1
    async with opened(FileJournal(tmp_path)) as kernel:
        assert set(await contents(kernel)) == {"kept"}


async def test_writers_wait_for_room_when_the_disk_is_slow(tmp_path, monkeypatch):
    import threading

    monkeypatch.setattr("swarm.storage._writer.ROOM", 10)
    gate = threading.Event()

    class Slow(FileJournal):
        def append(self, entries: Any) -> None:
            gate.wait()
            super().append(entries)

    async with opened(Slow(tmp_path)) as kernel:
        tasks = [
            asyncio.ensure_future(kernel.put(ADA, Path.parse(f"k{n}"), b"1"))
            for n in range(50)
        ]
        for _ in range(10):
            await asyncio.sleep(0)
        assert kernel.writer.newest == kernel.revision
        assert sum(1 for n in range(50) if f"k{n}" in kernel._by_text) <= 12
        tasks[-1].cancel()
        gate.set()
        results = await asyncio.gather(*tasks, return_exceptions=True)
        assert sum(isinstance(result, Document) for result in results) == 49


async def test_a_thousand_callers_of_one_batch_leave_turns_to_other_tasks(tmp_path):
    turn = 0
    woken: Counter[int] = Counter()

    async with opened(FileJournal(tmp_path)) as kernel:

        async def caller(n: int) -> None:
            await kernel.put(ADA, Path.parse(f"k{n}"), b"1")
            woken[turn] += 1

        callers = [asyncio.ensure_future(caller(n)) for n in range(1_000)]
        while not all(each.done() for each in callers):
            await asyncio.sleep(0)
            turn += 1
    assert woken.total() == 1_000
    assert max(woken.values()) <= 128


async def test_after_the_end_everything_is_refused(make):
    async with opened(make()) as kernel:
        pass
    with pytest.raises(Closed):
        await kernel.put(ADA, Path.parse("x"), b"1")
    with pytest.raises(Closed):
        await kernel.flush()
    await kernel.close()


async def test_a_secondary_store_is_not_waited_for(tmp_path):
    async with opened(FileJournal(tmp_path), waits=False) as kernel:
        assert kernel.local is kernel
        kernel.local.put_now(ADA, Path.parse("x"), b"1")
        await kernel.flush()
        assert kernel.writer.durable == kernel.revision
    async with opened(FileJournal(tmp_path)) as kernel:
        assert set(await contents(kernel)) == {"x"}


async def test_interval_syncs_once_in_a_while(tmp_path):
    synced = asyncio.Event()
    loop = asyncio.get_running_loop()

    class Noting(FileJournal):
        def sync(self) -> None:
            super().sync()
            loop.call_soon_threadsafe(synced.set)

    journal = Noting(tmp_path, "interval")
    async with opened(journal, sync_every=0.01) as kernel:
        await kernel.put(ADA, Path.parse("x"), b"1")
        assert journal._durable == 0
        async with asyncio.timeout(5):
            await synced.wait()
        assert journal._durable == kernel.revision


KEYS = st.sampled_from(["a", "b", "c.d"])
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("put"), KEYS, st.integers(0, 99)),
        st.tuples(st.just("drop"), KEYS, st.none()),
        st.tuples(st.just("shorten"), st.none(), st.none()),
        st.tuples(st.just("restart"), st.none(), st.none()),
    ),
    max_size=40,
)


@settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(steps=STEPS, kind=st.sampled_from(sorted(JOURNALS)))
def test_a_store_gives_what_memory_gives_over_restarts_and_checkpoints(
    tmp_path_factory, steps, kind
):
    folder = tmp_path_factory.mktemp("store")

    async def program() -> None:
        want: dict[str, Any] = {}
        log: list[tuple[str, Any]] = []
        clock = LoopClock()
        limits = Limits(log_commits=5)
        kernel = JournalledKernel(JOURNALS[kind](folder), clock, limits)
        await kernel.open()
        for what, key, value in steps:
            if what == "put":
                await kernel.commit(ADA, [put(key, value)])
                want[key] = value
                log.append((key, value))
            elif what == "drop":
                if await kernel.commit(ADA, [drop(key)]) is not None:
                    log.append((key, None))
                want.pop(key, None)
            elif what == "shorten":
                kernel._shorten()
            else:
                await kernel.close()
                kernel = JournalledKernel(JOURNALS[kind](folder), clock, limits)
                await kernel.open()
            got = {path: value for path, (value, _) in (await contents(kernel)).items()}
            assert got == want
            seen = [
                (d.path.text, None if d.is_deleted else d.value)
                for commit in await drain(await kernel.follow(kernel.compacted))
                for d in commit.documents
            ]
            assert seen == log[len(log) - len(seen) :]
            assert len(seen) >= min(len(log), 5)
        await kernel.close()

    asyncio.run(program())


def test_records_of_every_kind_round_trip():
    from swarm.model import Cause, Commit

    author = AgentIdentity("a", "b", "c", "d")
    document = Document(
        Path.parse("p.q"),
        orjson.dumps({"1": [True, 1.0, 2**63]}),
        None,
        7,
        3,
        99,
        author,
        2,
        5,
    )
    cause = Cause("c1", "e2", "00-trace", 4)
    commit = Commit(7, 99, author, (document,), (Happened("x"),), 10, cause, "key")
    line = encode_commit(commit)
    again = decode_commit(line)
    assert encode_commit(again) == line
    assert again.events == commit.events
    assert again.documents[0].json == document.json
    assert Entry(7, line).revision == again.revision


def test_the_short_way_of_encoding_says_what_the_long_one_says(monkeypatch):
    from swarm.model import Cause, Commit

    author = AgentIdentity('a"d', "b", "c", "d")
    for body, expires, key in ((b'{"x":[1,null]}', None, None), (None, 5, 'k"')):
        document = Document(
            Path.parse('p["q.r"]'), body, None, 7, 3, 99, author, 2, expires
        )
        short = decode_commit(
            encode_commit(Commit(7, 99, author, (document,), key=key))
        )
        cause = Cause("c1", "e2")
        long = decode_commit(
            encode_commit(Commit(7, 99, author, (document,), cause=cause, key=key))
        )
        for again in (short, long):
            (read,) = again.documents
            assert (read.path, read.json, read.expires) == (
                document.path,
                document.json,
                document.expires,
            )
            assert (read.created, read.priority, again.key) == (3, 2, key)


def test_lines_that_are_not_one_commit_each_are_refused() -> None:
    document = Document(Path.parse("a.b"), b"1", None, 7, 7, 7, ADA)
    good = encode_commit(Commit(7, 7, ADA, (document,)))
    (read,) = decode_entries([good])
    assert isinstance(read, Document)
    assert (read.path, read.value, read.version) == (document.path, 1, 7)
    for bad in (b"nonsense", good + b"," + good, b"", b'{"k":null}', b"[]", good[:-1]):
        with pytest.raises(StateCorruption):
            decode_entries([good, bad])
    for bad in (b"nonsense", good + b"," + good, b"", b"[]", b'{"d":[[]]}', good[:-1]):
        with pytest.raises(StateCorruption):
            newest_documents([good, bad], set())


@pytest.mark.parametrize("make", [lambda line: b"", lambda line: line + b"\n" + line])
def test_a_line_that_is_not_one_document_is_refused(make) -> None:
    line = encode_document(Document(Path.parse("a.b"), b"1", None, 7, 7, 7, ADA))
    assert decode_document(line).value == 1
    with pytest.raises(StateCorruption, match="not one document"):
        decode_document(make(line))


NAMES = st.text("ab],[\"\\'k:ü ", min_size=1, max_size=6)


@given(
    st.lists(
        st.tuples(
            st.tuples(NAMES, NAMES, NAMES, NAMES),
            st.lists(NAMES, min_size=1, max_size=2),
            st.sampled_from(
                [None, b"null", b'"]]}"', b'{"a":[1],"k":null,"d":[["x",1]]}']
            ),
            st.booleans(),
        ),
        max_size=8,
    )
)
def test_the_newest_documents_are_those_that_decoding_every_line_leaves(told):
    want: dict[str, Document] = {}
    lines = []
    for n, (names, segments, body, is_pair) in enumerate(told, 1):
        author = AgentIdentity(*names)
        made = [Document(Path.of(*segments), body, None, n, n, n, author)]
        if is_pair:
            made.append(Document(Path.of("b", "c"), b"[2]", None, n, n, n, author))
        lines.append(encode_commit(Commit(n, n, author, tuple(made))))
        apply_to(want, decode_commit(lines[-1]))
    seen: set[str] = set()
    found = newest_documents(lines[3:], seen) + newest_documents(lines[:3], seen)
    standing = [document for document in found if not document.is_deleted]
    assert set(map(encode_document, standing)) == set(
        map(encode_document, want.values())
    )
    assert len(found) == len(seen)


async def test_a_journal_longer_than_the_log_opens_whatever_its_paths_are(tmp_path):
    journal, limits = FileJournal(tmp_path), Limits(log_commits=5)
    async with opened(journal, limits, waits=False) as kernel:
        for n in range(700):  # new paths, and then the same ones again
            await kernel.commit(ADA, [put(f"a.k{n}", n)])
        kernel._shorten()
        await kernel.flush()
        for n in range(700):
            await kernel.commit(ADA, [drop(f"a.k{n}") if n % 3 else put("b.c", n)])
        await kernel.commit(ADA, [drop("b.c")])  # a document becomes a folder
        for n in range(10):
            await kernel.commit(ADA, [put(f"b.c.d{n}", n)])
        want = await contents(kernel)
    async with opened(journal, limits) as kernel:
        assert await contents(kernel) == want
        assert len(want) == 244
