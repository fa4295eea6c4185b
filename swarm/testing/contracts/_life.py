"""The kernel contract on time and the end: expiry, loops, closing."""

import asyncio
import threading
from collections.abc import Coroutine
from typing import Any

import pytest

from swarm.errors import (
    Closed,
    ConflictError,
    WrongLoop,
)
from swarm.model import (
    TIME,
    ChangeKind,
    Path,
    kind_of,
)
from swarm.ports import Plan
from swarm.testing.contracts._base import (
    ADA,
    ContractBase,
    at,
    contents,
    drain,
    drop,
    everything,
    kernel_now,
    newest_revision,
    put,
    settle,
    value_at,
)


class LifeContract(ContractBase):
    """The contract of time and of the end."""

    # --- expiry ---------------------------------------------------------------

    async def test_an_expired_document_is_never_read(self) -> None:
        """S17: not by find, not by a rule, not in a folder, not by a condition."""
        async with self.opened() as kernel:
            now = await kernel.read(kernel_now)
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
        """S17: its own revision, one expired change, even without a reader."""
        async with self.opened() as kernel:
            now = await kernel.read(kernel_now)
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
            now = await kernel.read(kernel_now)
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
            now = await kernel.read(kernel_now)
            commit = await kernel.commit(ADA, [put("a", 1, now + 1_000_000)])
            assert commit is not None
            await self.pass_time(kernel, 2)
            assert await contents(kernel) == {}
            view = await kernel.view_at(commit.revision)
            assert everything(view) == {"a": (1, commit.revision)}

    # --- at once, or a round trip away ----------------------------------------

    async def test_a_local_kernel_answers_at_once_and_gives_the_same(self) -> None:
        """G6: what is there to save a coroutine must not be another implementation."""
        async with self.opened() as kernel:
            local = kernel.local
            if local is None:
                return
            path = Path.parse("a")
            made = local.put_now(ADA, path, b"1")
            assert made is not None
            assert await kernel.find(path) is made
            assert local.find_now(path) is made
            commit = local.commit_now(
                ADA, [put("a", 2)], conditions=[at("a", made.version)]
            )
            assert commit is not None
            assert local.read_now(newest_revision) == commit.revision
            with pytest.raises(ConflictError):
                local.commit_now(ADA, conditions=[at("a", made.version)])

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
                    kernel.read(newest_revision),
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
        """G12: idempotent, and no task is left waiting."""
        async with self.opened() as kernel:
            await kernel.commit(ADA, [put("a", 1)])
            start = await kernel.read(newest_revision)
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
                kernel.read(newest_revision),
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
            now = await kernel.read(kernel_now)
            await kernel.commit(ADA, [put("a", 1, now + 1_000_000)])
            reader = await kernel.follow()
            waiting = asyncio.ensure_future(reader.next())
            await settle()
        with pytest.raises(Closed):
            await waiting
        await settle()
        assert asyncio.all_tasks() == before
