"""The kernel contract on writing: revisions, conditions, batches, rules."""

import asyncio

import pytest

from swarm.errors import (
    ConflictError,
    LimitExceeded,
    PathConflict,
    StaleClaim,
    StaleLease,
)
from swarm.model import (
    ROOT,
    ChangeKind,
    Commit,
    Path,
    kind_of,
)
from swarm.ports import ExpectFolder, Holder, Plan, View, Write
from swarm.testing.contracts._base import (
    ADA,
    BO,
    ContractBase,
    HeldRecord,
    Record,
    at,
    contents,
    drain,
    drop,
    kernel_now,
    newest_revision,
    put,
    revisions,
    value_at,
)


class CommitContract(ContractBase):
    """The contract of writing."""

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
            assert await kernel.read(newest_revision) == seen[-1]

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
            before = await kernel.read(newest_revision)
            with pytest.raises(ConflictError):
                await kernel.commit(
                    ADA, [put("a", 2)], conditions=[at("a", 0)], events=["no"]
                )
            assert reader.next_nowait() is None
            assert await kernel.read(newest_revision) == before

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
                return ExpectFolder(Path.parse("f"), await kernel.read(newest_revision))

            for change in (put("f.a", 1), put("f.b.c", 1), put("f.a", 2), drop("f.a")):
                seen = await below()
                await kernel.commit(ADA, [change])
                with pytest.raises(ConflictError):
                    await kernel.commit(ADA, [put("x", 1)], conditions=[seen])
            await kernel.commit(ADA, [put("x", 1)], conditions=[await below()])
            assert await value_at(kernel, "x") == 1

    async def test_a_folder_condition_looks_at_and_below_the_folder_only(self) -> None:
        """S5: changes of its siblings, and events, do not break it."""
        async with self.opened() as kernel:
            await kernel.commit(ADA, [put("f.a", 1), put("g", 1)])
            seen = ExpectFolder(Path.parse("f"), await kernel.read(newest_revision))
            await kernel.commit(ADA, [put("ff", 1), drop("g")], events=["said"])
            await kernel.commit(ADA, [put("x", 1)], conditions=[seen])
            await kernel.commit(ADA, [drop("f.a")])
            await kernel.commit(ADA, [put("f", "a document now")])
            with pytest.raises(ConflictError):
                await kernel.commit(ADA, [put("x", 2)], conditions=[seen])
            everything = ExpectFolder(ROOT, await kernel.read(newest_revision))
            await kernel.commit(ADA, [put("y", 1)], conditions=[everything])
            with pytest.raises(ConflictError):
                await kernel.commit(ADA, [put("y", 2)], conditions=[everything])
            assert await value_at(kernel, "x") == 1

    async def test_a_folder_condition_from_before_the_log_does_not_hold(self) -> None:
        """S5: a change that the log has let go of cannot be ruled out."""
        async with self.opened(log_commits=4) as kernel:
            await kernel.commit(ADA, [put("f.a", 1)])
            seen = ExpectFolder(Path.parse("f"), await kernel.read(newest_revision))
            for n in range(20):
                await kernel.commit(ADA, [put("g", n)])
            with pytest.raises(ConflictError):
                await kernel.commit(ADA, [put("x", 1)], conditions=[seen])

    async def test_a_holder_condition_asks_the_record_at_the_commit(self) -> None:
        """S16: only the live holder's write is made; no record, no holder."""
        async with self.opened() as kernel:
            path = Path.parse("locks.a")
            mine = Holder(path, "grant-1", 7)
            with pytest.raises(StaleLease):
                await kernel.commit(ADA, [put("x", 0)], conditions=[mine])
            claim = Holder(path, "grant-1", 7, StaleClaim)
            with pytest.raises(StaleClaim):
                await kernel.commit(ADA, [put("x", 0)], conditions=[claim])
            now = await kernel.read(kernel_now)
            held = HeldRecord("grant-1", 7, now + 1_000_000)
            await kernel.commit(ADA, [Write(path, record=held)])
            await kernel.commit(ADA, [put("x", 1)], conditions=[mine])
            for other in (Holder(path, "grant-2", 7), Holder(path, "grant-1", 8)):
                with pytest.raises(StaleLease):
                    await kernel.commit(ADA, [put("x", 0)], conditions=[other])
            await self.pass_time(kernel, 2)
            with pytest.raises(StaleLease):
                await kernel.commit(ADA, [put("x", 0)], conditions=[mine])
            await kernel.commit(ADA, [drop("locks.a")])
            with pytest.raises(StaleLease):
                await kernel.commit(ADA, [put("x", 0)], conditions=[mine])
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
            before = await kernel.read(newest_revision)
            reader = await kernel.follow()
            assert await kernel.commit(ADA, [drop("b")]) is None
            assert await kernel.commit(ADA, [drop("b"), drop("c.d")]) is None
            assert await kernel.commit(ADA) is None
            plan = Plan([drop("b")], outcome="done")
            assert await kernel.apply(ADA, lambda _view: plan) == (None, "done")
            assert await kernel.read(newest_revision) == before
            assert reader.next_nowait() is None

    async def test_deleting_what_is_there_is_a_commit(self) -> None:
        """S7: revision and history, and the document is gone."""
        async with self.opened() as kernel:
            await kernel.commit(ADA, [put("a.b", 1)])
            commit = await kernel.commit(BO, [drop("a.b"), drop("x")])
            assert commit is not None
            [tombstone] = commit.documents
            assert tombstone.is_deleted
            assert tombstone.author == BO
            assert kind_of(tombstone) is ChangeKind.DELETED
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
            assert await kernel.read(newest_revision) == commit.revision

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
        """A commit writes only if its reads still hold: no update is lost."""

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
