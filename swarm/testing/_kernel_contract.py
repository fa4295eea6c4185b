"""What every kernel must do, as a test class to be inherited.

    class TestMyKernel(KernelContract):
        async def make_kernel(self, limits=None): ...
        async def pass_time(self, kernel, seconds): ...

Each test makes its own kernel through `make_kernel` and closes it at the end. The
letters in the docstrings are the invariants of the semantics page.
"""

import asyncio
import threading
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from typing import Any

import attrs
import orjson
import pytest

from swarm.errors import (
    Closed,
    Compacted,
    ConflictError,
    Lagged,
    LimitExceeded,
    PathConflict,
    WrongLoop,
)
from swarm.model import (
    ROOT,
    TIME,
    AgentIdentity,
    ChangeKind,
    Commit,
    Document,
    Path,
    Pattern,
    kind_of,
)
from swarm.ports import Expect, ExpectFolder, Kernel, Limits, Plan, Reader, View, Write

ADA = AgentIdentity("ada", "tester", "s1", "tester")
BO = AgentIdentity("bo", "tester", "s2", "tester")


def put(path: str, value: Any, expires: int | None = None) -> Write:
    """Return the write of a JSON value."""
    return Write(Path.parse(path), orjson.dumps(value), expires=expires)


def drop(path: str) -> Write:
    """Return the write that deletes."""
    return Write(Path.parse(path))


def at(path: str, version: int) -> Expect:
    """Return the condition that the document has this version."""
    return Expect(Path.parse(path), version)


def _everything(view: View) -> dict[str, tuple[Any, int]]:
    return {d.path.text: (d.value, d.version) for d in view.documents(ROOT)}


def _revision(view: View) -> int:
    return view.revision


def _now(view: View) -> int:
    return view.now


async def contents(kernel: Kernel) -> dict[str, tuple[Any, int]]:
    """Return every document's value and version."""
    return await kernel.read(_everything)


async def value_at(kernel: Kernel, path: str) -> Any:
    """Return the value of the document at or around `path`, or None."""
    document = await kernel.find(Path.parse(path))
    return None if document is None else document.value


async def drain(reader: Reader) -> list[Commit]:
    """Return every commit that is due."""
    found = []
    while (commit := reader.next_nowait()) is not None:
        found.append(commit)
    return found


def revisions(commits: list[Commit]) -> list[int]:
    """Return the commits' revisions."""
    return [commit.revision for commit in commits]


@attrs.frozen
class Record:
    """A record of swarm's own, as locks and tasks are."""

    name: str

    def to_json(self) -> dict[str, Any]:
        """Return what is stored."""
        return {"name": self.name}


async def settle() -> None:
    """Let every task that can run, run."""
    for _ in range(10):
        await asyncio.sleep(0)


class KernelContract:
    """The tests that any implementation of `swarm.ports.Kernel` must pass."""

    async def make_kernel(self, limits: Limits | None = None) -> Kernel:
        """Return a new, empty, open kernel with these limits."""
        raise NotImplementedError

    async def pass_time(self, kernel: Kernel, seconds: float) -> None:
        """Let the kernel's time pass, and whatever it does at that time happen."""
        raise NotImplementedError

    @asynccontextmanager
    async def opened(self, **limits: Any) -> AsyncIterator[Kernel]:
        """Give a kernel with these limits, and close it at the end."""
        kernel = await self.make_kernel(Limits(**limits) if limits else None)
        try:
            yield kernel
        finally:
            await kernel.close()

    # --- revisions ------------------------------------------------------------

    async def test_revisions_grow_strictly_over_every_kind_of_commit(self) -> None:
        """G2, S3: one counter orders puts, batches, rules, events and deletions."""
        async with self.opened() as kernel:
            seen = []
            reader = await kernel.follow()
            await kernel.put(ADA, Path.parse("a"), b"1")
            await kernel.commit(ADA, [put("b", 1), put("c", 1)])
            await kernel.commit(ADA, events=["said"])
            await kernel.apply(ADA, lambda _view: Plan([put("a", 2)]))
            await kernel.commit(ADA, [drop("a")])
            await kernel.put(ADA, Path.parse("a"), b"3")
            seen = revisions(await drain(reader))
            assert seen == sorted(set(seen))
            assert len(seen) == 6
            assert await kernel.read(_revision) == seen[-1]

    async def test_a_document_made_again_gets_a_new_version(self) -> None:
        """S3: an expectation from before a deletion never holds again (no ABA)."""
        async with self.opened() as kernel:
            first = await kernel.commit(ADA, [put("a", 1)])
            assert first is not None
            await kernel.commit(ADA, [drop("a")])
            await kernel.commit(ADA, [put("a", 1)])
            with pytest.raises(ConflictError):
                await kernel.commit(
                    ADA, [put("a", 2)], conditions=[at("a", first.revision)]
                )
            document = await kernel.find(Path.parse("a"))
            assert document is not None
            assert document.created == document.version > first.revision

    async def test_what_failed_uses_up_no_revision_that_anybody_sees(self) -> None:
        """S4: a refused commit leaves no trace in the log."""
        async with self.opened() as kernel:
            await kernel.commit(ADA, [put("a", 1)])
            reader = await kernel.follow()
            before = await kernel.read(_revision)
            with pytest.raises(ConflictError):
                await kernel.commit(
                    ADA, [put("a", 2)], conditions=[at("a", 0)], events=["no"]
                )
            assert reader.next_nowait() is None
            assert await kernel.read(_revision) == before

    # --- conditions -----------------------------------------------------------

    async def test_a_condition_holds_only_for_the_version_that_stands(self) -> None:
        """S2: 0 means absent, everything else is compared exactly."""
        async with self.opened() as kernel:
            made = await kernel.commit(ADA, [put("a", 1)], conditions=[at("a", 0)])
            assert made is not None
            version = made.documents[0].version
            for wrong in {0, version - 1, version + 1}:
                with pytest.raises(ConflictError):
                    await kernel.commit(ADA, [put("a", 2)], conditions=[at("a", wrong)])
            await kernel.commit(ADA, [put("a", 2)], conditions=[at("a", version)])
            assert await value_at(kernel, "a") == 2

    async def test_a_conflict_says_both_versions_the_writer_and_the_value(self) -> None:
        """S4: the error lets the caller decide again."""
        async with self.opened() as kernel:
            made = await kernel.commit(BO, [put("a", {"x": 1})])
            assert made is not None
            with pytest.raises(ConflictError) as caught:
                await kernel.commit(ADA, [put("a", 2)], conditions=[at("a", 0)])
            error = caught.value
            assert (error.path, error.expected) == ("a", 0)
            assert error.current == made.revision
            assert error.value == {"x": 1}
            assert error.author == BO
            with pytest.raises(ConflictError) as caught:
                await kernel.commit(ADA, [put("z", 2)], conditions=[at("z", 7)])
            assert (caught.value.expected, caught.value.current) == (7, 0)

    async def test_one_of_many_with_the_same_expectation_wins(self) -> None:
        """S2: exactly one concurrent compare-and-set succeeds."""
        async with self.opened() as kernel:
            outcomes = await asyncio.gather(
                *(
                    kernel.commit(ADA, [put("a", n)], conditions=[at("a", 0)])
                    for n in range(8)
                ),
                return_exceptions=True,
            )
            assert sum(isinstance(o, Commit) for o in outcomes) == 1
            assert sum(isinstance(o, ConflictError) for o in outcomes) == 7

    async def test_one_failed_condition_stops_every_write_and_event(self) -> None:
        """S4, S5: all or nothing."""
        async with self.opened() as kernel:
            await kernel.commit(ADA, [put("a", 1), put("b", 1)])
            before = await contents(kernel)
            reader = await kernel.follow()
            with pytest.raises(ConflictError):
                await kernel.commit(
                    ADA,
                    [put("a", 2), drop("b"), put("c.d", 3)],
                    conditions=[at("a", before["a"][1]), at("b", 0)],
                    events=["never"],
                )
            assert await contents(kernel) == before
            assert reader.next_nowait() is None

    async def test_a_condition_may_speak_of_what_is_not_written(self) -> None:
        """S5: reads are validated as well as writes."""
        async with self.opened() as kernel:
            await kernel.commit(ADA, [put("a", 1)])
            with pytest.raises(ConflictError):
                await kernel.commit(ADA, [put("b", 1)], conditions=[at("a", 0)])
            assert await value_at(kernel, "b") is None

    async def test_a_folder_condition_sees_additions_changes_and_deletions(
        self,
    ) -> None:
        """S5: what is below a folder is all there is, or nothing is written."""
        async with self.opened() as kernel:

            async def below() -> ExpectFolder:
                folder = Path.parse("f")
                found = await kernel.read(lambda view: list(view.documents(folder)))
                return ExpectFolder(
                    folder, tuple((d.path.text, d.version) for d in found)
                )

            for change in (put("f.a", 1), put("f.b.c", 1), put("f.a", 2), drop("f.a")):
                seen = await below()
                await kernel.commit(ADA, [change])
                with pytest.raises(ConflictError):
                    await kernel.commit(ADA, [put("x", 1)], conditions=[seen])
            await kernel.commit(ADA, [put("x", 1)], conditions=[await below()])
            assert await value_at(kernel, "x") == 1

    async def test_conditions_without_writes_are_still_checked(self) -> None:
        """S2: a commit may be a mere check, and is no commit then."""
        async with self.opened() as kernel:
            assert await kernel.commit(ADA, conditions=[at("a", 0)]) is None
            with pytest.raises(ConflictError):
                await kernel.commit(ADA, conditions=[at("a", 5)])

    # --- batches and paths ----------------------------------------------------

    async def test_a_batch_has_one_revision_and_one_author(self) -> None:
        """S11: what was committed together is seen together."""
        async with self.opened() as kernel:
            commit = await kernel.commit(BO, [put("a", 1), put("b.c", 2)], events=["e"])
            assert commit is not None
            assert {d.path.text for d in commit.documents} == {"a", "b.c"}
            assert {d.version for d in commit.documents} == {commit.revision}
            assert commit.author == BO
            assert {d.author for d in commit.documents} == {BO}
            assert list(commit.events) == ["e"]

    async def test_a_deletion_makes_room_in_its_own_batch(self) -> None:
        """A folder may become a document, and a document a folder, in one commit."""
        async with self.opened() as kernel:
            await kernel.commit(ADA, [put("a.b", 1), put("a.c.d", 1)])
            await kernel.commit(ADA, [put("a", 9), drop("a.b"), drop("a.c.d")])
            assert {p: v for p, (v, _) in (await contents(kernel)).items()} == {"a": 9}
            await kernel.commit(ADA, [put("a.b", 1), drop("a")])
            assert {p: v for p, (v, _) in (await contents(kernel)).items()} == {
                "a.b": 1
            }

    async def test_a_path_is_a_document_or_a_folder_never_both(self) -> None:
        """Setting `a` while `a.b` exists, or the other way, changes nothing."""
        async with self.opened() as kernel:
            await kernel.commit(ADA, [put("a.b", 1), put("d", 1)])
            before = await contents(kernel)
            reader = await kernel.follow()
            for bad in ("a", "d.e", "d.e.f"):
                with pytest.raises(PathConflict):
                    await kernel.commit(ADA, [put("z", 1), drop("a.b"), put("d.e", 1)])
                with pytest.raises(PathConflict):
                    await kernel.commit(
                        ADA, [put("new.one", 1), put("d", 5), put(bad, 2)]
                    )
                assert await contents(kernel) == before
            assert reader.next_nowait() is None

    async def test_two_writes_of_one_batch_cannot_stand_in_each_other(self) -> None:
        """PathConflict also within a batch, with no effect."""
        async with self.opened() as kernel:
            for writes in ([put("a", 1), put("a.b", 1)], [put("a.b", 1), put("a", 1)]):
                with pytest.raises(PathConflict):
                    await kernel.commit(ADA, writes)
            assert await contents(kernel) == {}

    async def test_a_batch_writes_each_document_once(self) -> None:
        """Which of two writes should win cannot be told, so it is refused."""
        async with self.opened() as kernel:
            with pytest.raises(ValueError, match="once"):
                await kernel.commit(ADA, [put("a", 1), put("a", 2)])
            assert await contents(kernel) == {}

    async def test_an_index_names_no_document(self) -> None:
        """Indexes are places inside documents."""
        async with self.opened() as kernel:
            for bad in ("a[0]", "[0]", "a[0].b"):
                with pytest.raises(PathConflict):
                    await kernel.commit(ADA, [put(bad, 1)])
                with pytest.raises(PathConflict):
                    await kernel.put(ADA, Path.parse(bad), b"1")
            assert await contents(kernel) == {}

    async def test_batches_are_limited(self) -> None:
        """Section 8: by number and by bytes; the error names the limit."""
        async with self.opened(batch_writes=3, batch_bytes=100) as kernel:
            with pytest.raises(LimitExceeded, match="batch_writes"):
                await kernel.commit(ADA, [put(f"a{n}", n) for n in range(4)])
            with pytest.raises(LimitExceeded, match="batch_bytes"):
                await kernel.commit(ADA, [put("a", "x" * 60), put("b", "x" * 60)])
            with pytest.raises(LimitExceeded, match="batch_bytes"):
                await kernel.commit(ADA, [put("a", "x" * 120)])
            assert await contents(kernel) == {}
            await kernel.commit(ADA, [put(f"a{n}", n) for n in range(3)])

    # --- what is no commit ----------------------------------------------------

    async def test_deleting_what_is_absent_is_no_commit(self) -> None:
        """S7: no revision, no history, no event."""
        async with self.opened() as kernel:
            await kernel.commit(ADA, [put("a", 1)])
            before = await kernel.read(_revision)
            reader = await kernel.follow()
            assert await kernel.commit(ADA, [drop("b")]) is None
            assert await kernel.commit(ADA, [drop("b"), drop("c.d")]) is None
            assert await kernel.commit(ADA) is None
            plan = Plan([drop("b")], outcome="done")
            assert await kernel.apply(ADA, lambda _view: plan) == (None, "done")
            assert await kernel.read(_revision) == before
            assert reader.next_nowait() is None

    async def test_deleting_what_is_there_is_a_commit(self) -> None:
        """S7: revision and history, and the document is gone."""
        async with self.opened() as kernel:
            await kernel.commit(ADA, [put("a.b", 1)])
            commit = await kernel.commit(BO, [drop("a.b"), drop("x")])
            assert commit is not None
            [grave] = commit.documents
            assert grave.is_deleted
            assert grave.author == BO
            assert kind_of(grave) is ChangeKind.DELETED
            assert await kernel.find(Path.parse("a.b")) is None
            await kernel.commit(ADA, [put("a", "room again")])

    async def test_events_alone_are_a_commit(self) -> None:
        """E1: an event has a revision, and needs no document."""
        async with self.opened() as kernel:
            reader = await kernel.follow()
            commit = await kernel.commit(ADA, events=["one", "two"])
            assert commit is not None
            assert commit.documents == ()
            assert list(commit.events) == ["one", "two"]
            assert [list(c.events) for c in await drain(reader)] == [["one", "two"]]
            assert await kernel.read(_revision) == commit.revision

    async def test_an_equal_value_is_a_new_version(self) -> None:
        """S7: every write bumps the version."""
        async with self.opened() as kernel:
            one = await kernel.commit(ADA, [put("a", 1)])
            two = await kernel.commit(ADA, [put("a", 1)])
            assert one is not None
            assert two is not None
            assert two.documents[0].version > one.documents[0].version
            assert two.documents[0].created == one.documents[0].created

    # --- rules ----------------------------------------------------------------

    async def test_a_rule_decides_and_commits_in_one_step(self) -> None:
        """What it saw is still so when it is written: no update is lost."""

        def count(view: View, path: Path) -> Plan:
            document = view.find(path)
            number = 1 if document is None else document.value + 1
            return Plan([put(path.text, number)], [f"now {number}"], number)

        async with self.opened() as kernel:
            reader = await kernel.follow()
            path = Path.parse("count")
            results = await asyncio.gather(
                *(kernel.apply(ADA, count, path) for _ in range(10))
            )
            assert sorted(outcome for _, outcome in results) == list(range(1, 11))
            assert await value_at(kernel, "count") == 10
            said = [event for c in await drain(reader) for event in c.events]
            assert said == [f"now {n}" for n in range(1, 11)]

    async def test_a_rule_that_raises_changes_nothing(self) -> None:
        """G3: it has had no effect, and the kernel goes on."""

        def broken(_view: View) -> Plan:
            raise ZeroDivisionError("a fault in the rule")

        async with self.opened() as kernel:
            await kernel.commit(ADA, [put("a", 1)])
            before = await contents(kernel)
            reader = await kernel.follow()
            with pytest.raises(ZeroDivisionError):
                await kernel.apply(ADA, broken)
            with pytest.raises(PathConflict):
                await kernel.apply(ADA, lambda _v: Plan([put("z", 1), put("a.b", 1)]))
            assert await contents(kernel) == before
            assert reader.next_nowait() is None
            await kernel.put(ADA, Path.parse("a"), b"2")

    async def test_a_rule_that_plans_nothing_commits_nothing(self) -> None:
        """S7: a mere question is no commit."""
        async with self.opened() as kernel:
            assert await kernel.apply(ADA, lambda _v: Plan(outcome=7)) == (None, 7)

    async def test_a_record_is_stored_as_its_json(self) -> None:
        """Records of swarm's own read like any document."""
        async with self.opened() as kernel:
            write = Write(Path.parse("locks.x"), record=Record("ada"))
            await kernel.commit(ADA, [write])
            assert await value_at(kernel, "locks.x") == {"name": "ada"}
            await kernel.commit(ADA, [drop("locks.x")])
            assert await kernel.find(Path.parse("locks.x")) is None

    # --- reading --------------------------------------------------------------

    async def test_put_and_find_agree(self) -> None:
        """S1: read your writes; find also gives the document around a place."""
        async with self.opened() as kernel:
            assert await kernel.find(Path.parse("a.b")) is None
            made = await kernel.put(ADA, Path.parse("a.b"), b'{"x":[1]}')
            assert made is not None
            for place in ("a.b", "a.b.x", "a.b.x[0]", "a.b.no.such"):
                document = await kernel.find(Path.parse(place))
                assert document is not None
                assert document.path.text == "a.b"
                assert document.version == made.version
            assert await kernel.find(Path.parse("a")) is None
            assert await kernel.find(Path.parse("a.bb")) is None

    async def test_put_inside_a_document_writes_nothing(self) -> None:
        """The caller has to patch the document, so it is told and nothing is done."""
        async with self.opened() as kernel:
            await kernel.put(ADA, Path.parse("a"), b"{}")
            reader = await kernel.follow()
            assert await kernel.put(ADA, Path.parse("a.b"), b"1") is None
            assert reader.next_nowait() is None

    async def test_put_over_a_folder_is_a_path_conflict(self) -> None:
        """A path is a document or a folder, never both."""
        async with self.opened() as kernel:
            await kernel.put(ADA, Path.parse("a.b"), b"1")
            before = await contents(kernel)
            with pytest.raises(PathConflict):
                await kernel.put(ADA, Path.parse("a"), b"1")
            assert await contents(kernel) == before

    async def test_documents_come_in_path_order(self) -> None:
        """Segment by segment, not by their texts."""
        async with self.opened() as kernel:
            names = ["b", "a.b", 'a["x.y"]', "a.a.z", "a-", "a.c"]
            await kernel.commit(ADA, [put(name, 1) for name in names])
            found = [d.path for d in await kernel.read(lambda v: [*v.documents(ROOT)])]
            assert found == sorted(Path.parse(name) for name in names)
            below = await kernel.read(lambda v: [*v.documents(Path.parse("a"))])
            assert [d.path.text for d in below] == [
                "a.a.z",
                "a.b",
                "a.c",
                'a["x.y"]',
            ]
            assert await kernel.read(lambda v: [*v.documents(Path.parse("b"))]) == []

    async def test_select_gives_documents_and_places_inside_them(self) -> None:
        """A place matches where the pattern reaches into a document."""
        async with self.opened() as kernel:
            await kernel.commit(
                ADA, [put("t.a", {"s": 1, "l": [{"s": 2}]}), put("t.b.c", {"s": 3})]
            )

            async def places(pattern: str) -> list[str]:
                chosen = Pattern.parse(pattern)
                found = await kernel.read(lambda view: [*view.select(chosen)])
                return [path.text for path, _ in found]

            assert await places("t.**") == ["t.a", "t.b.c"]
            assert await places("t.*.s") == ["t.a.s"]
            assert await places("**.s") == ["t.a.l[0].s", "t.a.s", "t.b.c.s"]
            assert await places("t.a.l[0].*") == ["t.a.l[0].s"]
            assert await places("t") == []

    # --- the past -------------------------------------------------------------

    async def test_the_past_stays_as_it_was(self) -> None:
        """S10: every retained revision can be read, deleted and remade ones too."""
        async with self.opened() as kernel:
            states = {await kernel.read(_revision): await contents(kernel)}
            for writes in (
                [put("a", 1)],
                [put("b.c", 1), put("b.d", 1)],
                [put("a", 2), drop("b.c")],
                [drop("a")],
                [put("a", 3)],
                [drop("b.d"), put("b", 4)],
                [drop("a"), drop("b")],
                [put("b.c", 5)],
            ):
                await kernel.commit(ADA, writes)
                states[await kernel.read(_revision)] = await contents(kernel)
            for revision, state in states.items():
                view = await kernel.view_at(revision)
                assert view.revision == revision
                assert _everything(view) == state
                for path in ("a", "b", "b.c", "b.d", "b.c.x"):
                    document = view.find(Path.parse(path))
                    around = [p for p in state if path == p or path.startswith(p + ".")]
                    assert (document is None) == (not around)
                    if document is not None:
                        assert state[around[0]] == (document.value, document.version)
                selected = [
                    (p.text, d.value) for p, d in view.select(Pattern.parse("**"))
                ]
                assert selected == [(p, value) for p, (value, _) in state.items()]

    async def test_a_revision_to_come_cannot_be_read(self) -> None:
        """Neither viewed nor followed."""
        async with self.opened() as kernel:
            later = await kernel.read(_revision) + 1
            with pytest.raises(ValueError, match="still to come"):
                await kernel.view_at(later)
            with pytest.raises(ValueError, match="still to come"):
                await kernel.follow(later)

    async def test_what_the_log_let_go_of_is_compacted(self) -> None:
        """S10: an error that says from where on, never a silent gap."""
        async with self.opened(log_commits=3) as kernel:
            made: list[int] = []
            states = []
            old = None
            for n in range(8):
                commit = await kernel.commit(ADA, [put("a", n)])
                assert commit is not None
                made.append(commit.revision)
                states.append(await contents(kernel))
                if n == 5:
                    old = await kernel.view_at(commit.revision)
            for revision in made[:4]:
                with pytest.raises(Compacted) as caught:
                    await kernel.view_at(revision)
                assert caught.value.requested == revision
                assert caught.value.first is not None
                assert caught.value.first > revision
                with pytest.raises(Compacted):
                    await kernel.follow(revision)
            for revision, state in list(zip(made, states, strict=True))[4:]:
                assert _everything(await kernel.view_at(revision)) == state
            assert revisions(await drain(await kernel.follow(made[4]))) == made[5:]
            assert old is not None
            assert old.find(Path.parse("a")) is not None
            for n in range(3):
                await kernel.commit(ADA, [put("b", n)])
            with pytest.raises(Compacted):
                old.find(Path.parse("a"))
            with pytest.raises(Compacted):
                list(old.documents(ROOT))
            with pytest.raises(Compacted):
                list(old.select(Pattern.parse("**")))

    async def test_versions_are_the_retained_ones_newest_first(self) -> None:
        """S10: deletions included, contiguous, no more than asked for."""
        async with self.opened(log_commits=5) as kernel:
            path = Path.parse("a")
            assert await kernel.versions(path, 10) == []
            made = []
            for write in (put("a", 1), put("a", 2), drop("a"), put("a", 3)):
                commit = await kernel.commit(ADA, [write])
                assert commit is not None
                made.append(commit.revision)
            newest = await kernel.versions(path, 10)
            assert [d.version for d in newest] == made[::-1]
            assert [d.is_deleted for d in newest] == [False, True, False, False]
            assert [d.version for d in await kernel.versions(path, 2)] == made[:1:-1]
            for n in range(5):
                await kernel.commit(ADA, [put("b", n)])
            assert [d.value for d in await kernel.versions(path, 10)][:1] == [3]
            await kernel.commit(ADA, [drop("a")])
            for n in range(6):
                await kernel.commit(ADA, [put("b", n)])
            assert await kernel.versions(path, 10) == []

    # --- following ------------------------------------------------------------

    async def test_a_reader_sees_every_commit_once_in_order(self) -> None:
        """S11: ordered, unique, without a gap, atomic."""
        async with self.opened() as kernel:
            reader = await kernel.follow()
            made: list[int] = []
            got: list[Commit] = []

            async def read(count: int) -> None:
                while len(got) < count:
                    commit = await reader.next()
                    got.append(commit)

            task = asyncio.ensure_future(read(30))
            for n in range(30):
                commit = await kernel.commit(ADA, [put("a", n), put("b", n)])
                assert commit is not None
                made.append(commit.revision)
                if n % 7 == 0:
                    await settle()
            await task
            assert revisions(got) == made
            assert reader.position == made[-1]
            assert all(len(c.documents) == 2 for c in got)
            assert reader.next_nowait() is None

    async def test_following_joins_the_past_and_the_present(self) -> None:
        """S11: from any retained revision on, no gap and no duplicate at the joint."""
        async with self.opened() as kernel:
            start = await kernel.read(_revision)
            for n in range(6):
                await kernel.commit(ADA, [put("a", n)])
            whole = revisions(await drain(await kernel.follow(start)))
            assert len(whole) == 6
            for i, since in enumerate([start, *whole]):
                reader = await kernel.follow(since)
                assert reader.position == since
                assert revisions(await drain(reader)) == whole[i:]
            joined = await kernel.follow(whole[2])
            await kernel.commit(ADA, [put("a", "live")])
            seen = await drain(joined)
            assert revisions(seen)[:3] == whole[3:]
            assert seen[-1].documents[0].value == "live"

    async def test_a_snapshot_and_its_changes_make_the_present(self) -> None:
        """S11: view at R, plus everything after R, is what stands now."""
        async with self.opened() as kernel:
            for n in range(4):
                await kernel.commit(ADA, [put(f"k{n}", n)])
            revision = await kernel.read(_revision)
            view = await kernel.view_at(revision)
            reader = await kernel.follow(revision)
            await kernel.commit(ADA, [drop("k0"), put("k1", "new")])
            await kernel.commit(ADA, [put("k9", 9)])
            state = _everything(view)
            for commit in await drain(reader):
                for document in commit.documents:
                    state.pop(document.path.text, None)
                    if not document.is_deleted:
                        state[document.path.text] = (document.value, document.version)
            assert state == await contents(kernel)

    async def test_previous_values_are_carried_by_the_log(self) -> None:
        """S11: the correct value before, for every change."""
        async with self.opened() as kernel:
            reader = await kernel.follow()
            for write in (put("a", 1), put("a", 2), drop("a"), put("a", 3)):
                await kernel.commit(ADA, [write])

            def before(document: Document) -> Any:
                old = document.previous
                return None if old is None or old.is_deleted else old.value

            documents = [d for c in await drain(reader) for d in c.documents]
            assert [before(d) for d in documents] == [None, 1, 2, None]
            kinds = [kind_of(d).value for d in documents]
            assert kinds == ["created", "updated", "deleted", "created"]

    async def test_a_reader_that_falls_behind_lags_and_holds_nobody_up(self) -> None:
        """S12: the committer never waits; the reader is told, and can go on."""
        async with self.opened(log_commits=4) as kernel:
            reader = await kernel.follow()
            first = await kernel.commit(ADA, [put("a", 0)])
            assert first is not None
            assert (await reader.next()).revision == first.revision
            for n in range(10):
                await kernel.commit(ADA, [put("a", n)])
            with pytest.raises(Lagged):
                await reader.next()
            with pytest.raises(Lagged) as caught:
                reader.next_nowait()
            assert caught.value.last == first.revision
            now = await kernel.read(_revision)
            again = await kernel.follow(now)
            await kernel.commit(ADA, [put("a", "on")])
            assert (await again.next()).documents[0].value == "on"

    async def test_cancelling_a_reader_loses_nothing(self) -> None:
        """S11, G4: neither before nor after the commit it waits for."""
        async with self.opened() as kernel:
            reader = await kernel.follow()
            other = await kernel.follow()
            other_task = asyncio.ensure_future(other.next())
            for turns in range(4):
                task = asyncio.ensure_future(reader.next())
                await settle()
                await kernel.commit(ADA, [put("a", turns)])
                for _ in range(turns):
                    await asyncio.sleep(0)
                got: list[Commit] = []
                if not task.cancel():
                    got.append(task.result())
                else:
                    with pytest.raises(asyncio.CancelledError):
                        await task
                got += await drain(reader)
                assert [c.documents[0].value for c in got] == [turns]
            assert (await other_task).documents[0].value == 0

    async def test_closing_a_reader_ends_it_alone(self) -> None:
        """G12: whoever waits gets Closed, others read on; idempotent."""
        async with self.opened() as kernel:
            one, two = await kernel.follow(), await kernel.follow()
            waits = [asyncio.ensure_future(one.next()) for _ in range(2)]
            live = asyncio.ensure_future(two.next())
            await settle()
            one.close()
            one.close()
            await settle()
            for wait in waits:
                with pytest.raises(Closed):
                    await wait
            commit = await kernel.commit(ADA, [put("a", 1)])
            assert commit is not None
            assert (await live).revision == commit.revision
            with pytest.raises(Closed):
                await one.next()
            with pytest.raises(Closed):
                one.next_nowait()

    async def test_two_tasks_may_share_a_reader(self) -> None:
        """Each commit goes to one of them, none is lost."""
        async with self.opened() as kernel:
            reader = await kernel.follow()
            tasks = [asyncio.ensure_future(reader.next()) for _ in range(3)]
            await settle()
            for n in range(3):
                await kernel.commit(ADA, [put("a", n)])
            got = await asyncio.gather(*tasks)
            assert sorted(c.documents[0].value for c in got) == [0, 1, 2]

    # --- expiry ---------------------------------------------------------------

    async def test_an_expired_document_is_never_read(self) -> None:
        """S17: not by find, not by a rule, not in a folder, not by a condition."""
        async with self.opened() as kernel:
            now = await kernel.read(_now)
            commit = await kernel.commit(ADA, [put("a.b", 1, now + 1_000_000)])
            assert commit is not None
            await self.pass_time(kernel, 0.5)
            assert await value_at(kernel, "a.b") == 1
            await self.pass_time(kernel, 0.75)
            assert await kernel.find(Path.parse("a.b")) is None
            assert await contents(kernel) == {}
            with pytest.raises(ConflictError):
                await kernel.commit(ADA, conditions=[at("a.b", commit.revision)])
            await kernel.put(ADA, Path.parse("a"), b"1")

    async def test_expiry_is_one_commit_on_time(self) -> None:
        """S17: its own revision, one expired change, even if nobody looks."""
        async with self.opened() as kernel:
            now = await kernel.read(_now)
            await kernel.commit(
                ADA, [put("b", 1, now + 2_000_000), put("a", 1, now + 1_000_000)]
            )
            reader = await kernel.follow()
            waiting = asyncio.ensure_future(reader.next())
            await settle()
            await self.pass_time(kernel, 1.5)
            first = await waiting
            await self.pass_time(kernel, 5)
            rest = await drain(reader)
            ended = [d for c in [first, *rest] for d in c.documents]
            assert [d.path.text for d in ended] == ["a", "b"]
            assert [kind_of(d) for d in ended] == [ChangeKind.EXPIRED] * 2
            assert {c.author for c in [first, *rest]} == {TIME}
            assert first.revision < rest[0].revision
            assert ended[0].previous is not None
            assert ended[0].previous.value == 1

    async def test_a_newer_version_has_its_own_end_or_none(self) -> None:
        """S17: an old time to live does not take a newer version away."""
        async with self.opened() as kernel:
            now = await kernel.read(_now)
            soon = now + 1_000_000
            await kernel.commit(
                ADA, [put("a", 1, soon), put("b", 1, soon), put("c", 1, soon)]
            )
            await kernel.commit(ADA, [put("a", 2), put("b", 2, now + 5_000_000)])
            await kernel.commit(ADA, [drop("c")])
            await kernel.commit(ADA, [put("c", 2)])
            await self.pass_time(kernel, 2)
            assert {p: v for p, (v, _) in (await contents(kernel)).items()} == {
                "a": 2,
                "b": 2,
                "c": 2,
            }
            await self.pass_time(kernel, 4)
            assert set(await contents(kernel)) == {"a", "c"}

    async def test_the_past_shows_what_has_expired_since(self) -> None:
        """S10, S17: an earlier revision is read as it was."""
        async with self.opened() as kernel:
            now = await kernel.read(_now)
            commit = await kernel.commit(ADA, [put("a", 1, now + 1_000_000)])
            assert commit is not None
            await self.pass_time(kernel, 2)
            assert await contents(kernel) == {}
            view = await kernel.view_at(commit.revision)
            assert _everything(view) == {"a": (1, commit.revision)}

    # --- loops and the end ----------------------------------------------------

    async def test_another_event_loop_is_refused(self) -> None:
        """The tree belongs to one loop; the error says where the door is."""
        async with self.opened() as kernel:
            reader = await kernel.follow()
            path = Path.parse("a")

            async def try_all() -> list[object]:
                tries: list[Coroutine[Any, Any, object]] = [
                    kernel.find(path),
                    kernel.put(ADA, path, b"1"),
                    kernel.read(_revision),
                    kernel.apply(ADA, lambda _view: Plan([put("a", 1)])),
                    kernel.commit(ADA, [put("a", 1)]),
                    kernel.view_at(0),
                    kernel.versions(path, 1),
                    kernel.follow(),
                    reader.next(),
                ]
                return [
                    (await asyncio.gather(each, return_exceptions=True))[0]
                    for each in tries
                ]

            outcomes: list[object] = []
            thread = threading.Thread(
                target=lambda: outcomes.extend(asyncio.run(try_all()))
            )
            thread.start()
            await asyncio.to_thread(thread.join, 30)
            assert [type(outcome) for outcome in outcomes] == [WrongLoop] * 9
            assert await contents(kernel) == {}

    async def test_closing_refuses_everything_and_wakes_every_reader(self) -> None:
        """G12: idempotent, and nobody is left waiting."""
        async with self.opened() as kernel:
            await kernel.commit(ADA, [put("a", 1)])
            start = await kernel.read(_revision)
            behind, idle = await kernel.follow(start), await kernel.follow()
            waits = [asyncio.ensure_future(idle.next()) for _ in range(2)]
            await settle()
            await kernel.commit(ADA, [put("a", 2)])
            await settle()
            got = [wait for wait in waits if wait.done()]
            assert len(got) == 1
            await kernel.close()
            await kernel.close()
            await settle()
            [left] = [wait for wait in waits if wait not in got]
            with pytest.raises(Closed):
                await left
            # What was committed before the end can still be read out.
            assert (await behind.next()).documents[0].value == 2
            for reader in (behind, idle):
                with pytest.raises(Closed):
                    await reader.next()
                with pytest.raises(Closed):
                    reader.next_nowait()
            path = Path.parse("a")
            for attempt in (
                kernel.find(path),
                kernel.put(ADA, path, b"1"),
                kernel.read(_revision),
                kernel.apply(ADA, lambda _view: Plan()),
                kernel.commit(ADA),
                kernel.view_at(start),
                kernel.versions(path, 1),
                kernel.follow(),
            ):
                with pytest.raises(Closed):
                    await attempt

    async def test_closing_leaves_no_task(self) -> None:
        """G12, G13: after the end only the test's own task is left."""
        before = asyncio.all_tasks()
        async with self.opened() as kernel:
            now = await kernel.read(_now)
            await kernel.commit(ADA, [put("a", 1, now + 1_000_000)])
            reader = await kernel.follow()
            waiting = asyncio.ensure_future(reader.next())
            await settle()
        with pytest.raises(Closed):
            await waiting
        await settle()
        assert asyncio.all_tasks() == before
