"""The kernel contract on reading: the present, the past, and what comes."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from swarm.errors import (
    Closed,
    Compacted,
    Lagged,
    PathConflict,
)
from swarm.model import (
    ROOT,
    Commit,
    Document,
    Path,
    Pattern,
    kind_of,
)
from swarm.testing.contracts._base import (
    ADA,
    ContractBase,
    contents,
    drain,
    drop,
    everything,
    newest_revision,
    put,
    revisions,
    settle,
)


class LogContract(ContractBase):
    """The contract of reading."""

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

    async def test_the_documents_below_are_the_same_without_an_order(self) -> None:
        """`below` is `documents`, quicker."""
        async with self.opened() as kernel:
            await kernel.commit(ADA, [put("t.b.c", 1), put("t.a", 1), put("u", 1)])
            for folder in (ROOT, Path.parse("t"), Path.parse("t.b"), Path.parse("u")):
                view = await kernel.read(
                    lambda v, at=folder: (v.below(at), list(v.documents(at)))
                )
                assert sorted(d.path for d in view[0]) == [d.path for d in view[1]]

    # --- the past -------------------------------------------------------------

    async def test_the_past_stays_as_it_was(self) -> None:
        """S10: every retained revision can be read, deleted and remade ones too."""
        async with self.opened() as kernel:
            states = {await kernel.read(newest_revision): await contents(kernel)}
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
                states[await kernel.read(newest_revision)] = await contents(kernel)
            for revision, state in states.items():
                view = await kernel.view_at(revision)
                assert view.revision == revision
                assert everything(view) == state
                for path in ("a", "b", "b.c", "b.d", "b.c.x"):
                    document = view.find(Path.parse(path))
                    around = [p for p in state if path == p or path.startswith(p + ".")]
                    assert (document is None) == (not around)
                    if document is not None:
                        assert state[around[0]] == (document.value, document.version)
                assert {d.path.text for d in view.below(ROOT)} == set(state)

    async def test_a_revision_to_come_cannot_be_read(self) -> None:
        """Neither viewed nor followed."""
        async with self.opened() as kernel:
            later = await kernel.read(newest_revision) + 1
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
                assert everything(await kernel.view_at(revision)) == state
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
                old.below(ROOT)

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
            start = await kernel.read(newest_revision)
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
            revision = await kernel.read(newest_revision)
            view = await kernel.view_at(revision)
            reader = await kernel.follow(revision)
            await kernel.commit(ADA, [drop("k0"), put("k1", "new")])
            await kernel.commit(ADA, [put("k9", 9)])
            state = everything(view)
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
            now = await kernel.read(newest_revision)
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
        """G12: its waiting tasks get Closed, other readers read on; idempotent."""
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

    async def test_listeners_hear_of_each_commit_in_order(self) -> None:
        """E1, G2: several of them; those without documents hear of events only."""
        async with self.opened() as kernel:
            tail = self.tail_of(kernel)
            heard: dict[str, list[int]] = {"events": [], "all": [], "gone": []}

            def hears(name: str, *, documents: bool) -> Callable[[], None]:
                def hear(commit: Commit) -> None:
                    heard[name].append(commit.revision)

                return tail.listen(hear, documents=documents)

            only: list[int] = []
            tail.listen(
                lambda commit: only.append(commit.revision),
                documents=True,
                folders=("b", "c"),
            )
            hears("events", documents=False)
            remove = hears("gone", documents=True)
            hears("all", documents=True)
            first = await kernel.commit(ADA, [put("a", 1)])
            remove()
            remove()
            second = await kernel.commit(ADA, [put("b", 1)], events=["both"])
            third = await kernel.commit(ADA, events=["said"])
            await kernel.read(newest_revision)
            assert first is not None
            assert second is not None
            assert third is not None
            numbers = revisions([first, second, third])
            assert heard["all"] == numbers
            assert heard["events"] == numbers[1:]
            assert heard["gone"] == numbers[:1]
            assert only == numbers[1:2]
            both = await kernel.commit(ADA, [put("b", 2), put("c.d", 2), put("e", 1)])
            await kernel.read(newest_revision)
            assert both is not None
            assert only == [numbers[1], both.revision]  # once for each commit
            assert tail.revision == both.revision

    async def test_a_reader_of_a_pattern_gets_the_commits_that_concern_it(self) -> None:
        """S11: backlog and news, below a literal, inside a document, each once."""
        async with self.opened() as kernel:
            start = await kernel.read(newest_revision)
            await kernel.commit(ADA, [put("a.b", 1)])
            await kernel.commit(ADA, [put("x", 1)])
            literal = await kernel.follow(start, Pattern.parse("a"))
            inside = await kernel.follow(start, Pattern.parse("*.k"))
            waiting = asyncio.ensure_future(inside.next())
            await settle()
            await kernel.commit(ADA, [put("a.c.d", 2), put("a.b", 2)])
            await kernel.commit(ADA, events=["said"])
            await kernel.commit(ADA, [put("y", {"k": 1}), put("x", 2)])
            await kernel.commit(ADA, [drop("a.b")])
            values = [
                sorted(d.path.text for d in commit.documents)
                for commit in await drain(literal)
            ]
            assert values == [["a.b"], ["a.b", "a.c.d"], ["a.b"]]
            assert (await waiting).documents[0].path.text == "x"
            [commit] = await drain(inside)
            assert sorted(d.path.text for d in commit.documents) == ["x", "y"]
            newest = await kernel.read(newest_revision)
            assert literal.position == inside.position == newest
            inside.close()
            with pytest.raises(Closed):
                await inside.next()
            await kernel.commit(ADA, [drop("a.c.d"), put("a", "now a document")])
            [commit] = await drain(await kernel.follow(newest, Pattern.parse("a.b")))
            assert "a" in {document.path.text for document in commit.documents}

    async def test_a_reader_of_a_pattern_does_not_lag_behind_other_commits(
        self,
    ) -> None:
        """S11: it lags only when a commit that concerns it has left the log."""
        async with self.opened(log_commits=4) as kernel:
            reader = await kernel.follow(None, Pattern.parse("a.*"))
            for n in range(50):
                await kernel.commit(ADA, [put("b", n)])
            assert reader.next_nowait() is None
            assert reader.position == await kernel.read(newest_revision)
            made = await kernel.commit(ADA, [put("a.x", 1)])
            assert made is not None
            assert (await reader.next()).revision == made.revision
            await kernel.commit(ADA, [put("a.x", 2)])
            for n in range(50):
                await kernel.commit(ADA, [put("b", n)])
            for _ in range(2):
                with pytest.raises(Lagged) as caught:
                    reader.next_nowait()
                assert caught.value.last == made.revision

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
