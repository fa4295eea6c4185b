"""The contract of any kernel for the passage of tasks between two processes.

    class TestMyKernel(PassageContract):
        async def make_kernel(self, limits=None): ...
        async def another(self, kernel): ...        # the same tree, as another process
        async def pass_time(self, kernel, seconds): ...
        clock = ...                                 # set by `make_kernel`

Handoffs, checkpoints and pipelines of one process, as the other one sees them.
"""

import asyncio
from collections.abc import Coroutine
from typing import Any

import pytest

from swarm.errors import (
    ConflictError,
    InvalidTransition,
    NoSuchAgent,
    StaleClaim,
    StaleLease,
    TaskError,
)
from swarm.model import AgentIdentity, Path
from swarm.ports import Write, correlated
from swarm.testing.contracts._base import ADA, BO
from swarm.testing.contracts._work import (
    AT_ONCE,
    CY,
    WorkContract,
    WorkingProcess,
    waiting_claim,
)
from swarm.work import Claim, Handoff, Pipeline, Stage

REFUSED = (StaleClaim, InvalidTransition)


async def claimed(process: WorkingProcess, **options: Any) -> Claim:
    """Submit a task, and claim it for ADA."""
    await process.tasks().submit("report", {"topic": "bees"}, **options)
    return await process.tasks(ADA).claim("report")


async def received(
    process: WorkingProcess, who: AgentIdentity, offer: Handoff
) -> Handoff:
    """Return an offer as another agent in another process gets it."""
    return await process.handoffs(who).get(offer.id)


async def double(number: int) -> int:
    """Return twice the number."""
    return 2 * number


async def total(numbers: list[int]) -> int:
    """Return the sum."""
    return sum(numbers)


class PassageContract(WorkContract):
    """The tests that handoffs, checkpoints and pipelines on one kernel must pass."""

    lease: float = 1.5

    # --- handoffs ---------------------------------------------------------------------

    async def test_a_handoff_moves_the_task_and_its_token_to_the_other_process(
        self,
    ) -> None:
        """O4, O7: the claim of its sender is stale from then on."""
        async with self.processes() as (one, other):
            claim = await claimed(one)
            offer = await one.handoffs(ADA).offer(
                claim, to="bo", completed={"facts": 3}, remaining="the rest"
            )
            await self.settle()
            theirs = await received(other, BO, offer)
            assert (theirs.payload, theirs.completed) == (
                {"topic": "bees"},
                {"facts": 3},
            )
            taken = await theirs.accept()
            assert await offer.outcome() == "accepted"
            assert taken.token > claim.token
            late: list[Coroutine[Any, Any, None]]
            late = [claim.complete("mine"), claim.update({"a": 1}), claim.fail("mine")]
            for each in late:
                with pytest.raises(REFUSED):
                    await each
            await taken.complete("ours")
            await offer.refresh()
            assert (offer.status, offer.receiver) == ("completed", "bo")
            record = await other.tasks().get(claim.task_id).record()
            assert record.result == "ours"

    async def test_of_two_that_accept_at_the_same_time_one_gets_the_task(self) -> None:
        """O4."""
        async with self.processes() as (one, other):
            claim = await claimed(one)
            offer = await one.handoffs(ADA).offer(claim, to="capability:review")
            await self.settle()
            both = [await received(one, BO, offer), await received(other, CY, offer)]
            found = await asyncio.gather(
                *[each.accept() for each in both], return_exceptions=True
            )
            claims = [each for each in found if isinstance(each, Claim)]
            errors = [each for each in found if isinstance(each, InvalidTransition)]
            assert (len(claims), len(errors)) == (1, 1)
            await claims[0].complete("done")

    async def test_a_rejected_task_stays_with_its_sender(self) -> None:
        """O5: the sender's process hears of it, and may offer the task again."""
        async with self.processes() as (one, other):
            claim = await claimed(one)
            offer = await one.handoffs(ADA).offer(claim, to="bo")
            with pytest.raises(ConflictError):  # O1
                await one.handoffs(ADA).offer(claim, to="cy")
            outcome = asyncio.ensure_future(offer.outcome())
            await self.settle()
            assert not outcome.done()
            await (await received(other, BO, offer)).reject("too busy")
            assert await outcome == "rejected"
            assert offer.reason == "too busy"
            second = await one.handoffs(ADA).offer(claim, to="cy")
            await second.withdraw("found the time")
            await self.settle()
            with pytest.raises(InvalidTransition, match="is withdrawn"):
                await (await received(other, CY, second)).accept()
            await claim.complete("mine")

    async def test_an_offer_expires_in_every_process(self) -> None:
        """O5: also when the process of its sender does nothing more."""
        async with self.processes() as (one, other):
            claim = await claimed(one, timeout=None)
            offer = await one.handoffs(ADA).offer(claim, to="bo", timeout=0.5)
            await self.settle()
            theirs = await received(other, BO, offer)
            outcome = asyncio.ensure_future(theirs.outcome())
            one.freeze()
            await self.wait(0.7)
            assert await outcome == "expired"
            with pytest.raises(InvalidTransition, match="is expired"):
                await theirs.accept()

    async def test_an_agent_that_is_not_there_is_refused_at_once(self) -> None:
        """O6."""
        async with self.processes() as (one, _):
            claim = await claimed(one)
            with pytest.raises(NoSuchAgent):
                await one.handoffs(ADA).offer(claim, to="dora")
            await claim.complete()

    async def test_the_leases_that_are_named_go_along_in_the_same_commit(self) -> None:
        """O4: the lock is held all the while; its old token guards nothing more."""
        async with self.processes() as (one, other):
            claim = await claimed(one)
            lease = await one.locks.lock(ADA, "report.pdf").acquire()
            offer = await one.handoffs(ADA).offer(claim, to="bo", leases=[lease])
            old = lease.conditions()
            await self.settle()
            theirs = await received(other, BO, offer)
            taken = await theirs.accept()
            (moved,) = theirs.leases
            assert moved.token > lease.token
            write = [Write(Path.of("shared", "x"), b"1")]
            with pytest.raises(StaleLease):
                await one.kernel.commit(ADA, write, conditions=old)
            await other.kernel.commit(BO, write, conditions=moved.conditions())
            await taken.complete()
            await moved.release()

    async def test_the_task_of_a_silent_receiver_returns_to_the_queue(self) -> None:
        """O8: and its handoff has failed in the same commit."""
        async with self.processes() as (one, other):
            claim = await claimed(one, timeout=None, backoff=AT_ONCE)
            offer = await one.handoffs(ADA).offer(claim, to="bo")
            await self.settle()
            await (await received(other, BO, offer)).accept(lease=self.lease)
            other.freeze()
            waiting = waiting_claim(one, "report", CY)
            await self.wait(self.lease + 0.5)
            again = await waiting
            await offer.refresh()
            assert (offer.status, again.attempt) == ("failed", 2)
            await again.complete()

    async def test_an_offer_goes_with_the_claim_that_made_it(self) -> None:
        """O8: the sender dies while its offer is open."""
        async with self.processes() as (one, other):
            await one.tasks().submit("report", timeout=None, backoff=AT_ONCE)
            claim = await one.tasks(ADA).claim("report", lease=self.lease)
            offer = await one.handoffs(ADA).offer(claim, to="bo", timeout=3600)
            await self.settle()
            theirs = await received(other, BO, offer)
            one.freeze()
            waiting = waiting_claim(other, "report", CY)
            await self.wait(self.lease + 0.5)
            again = await waiting
            assert await theirs.outcome() == "withdrawn"
            await again.complete()

    async def test_a_handoff_has_one_correlation_id_in_both_processes(self) -> None:
        """O3."""
        async with self.processes() as (one, other):
            commits: list[Any] = []
            self.tail_of(one.kernel).listen(commits.append, documents=True)
            with correlated("order-7"):
                claim = await claimed(one)
                offer = await one.handoffs(ADA).offer(claim, to="bo")
            await self.settle()
            taken = await (await received(other, BO, offer)).accept()
            await taken.complete()
            await self.settle()
            ids = [
                commit.cause.correlation_id
                for commit in commits
                for event in commit.events
                if getattr(event, "handoff_id", None) == offer.id
            ]
            assert ids == ["order-7"] * 3

    async def test_a_cancelled_acceptance_never_keeps_the_task(self) -> None:
        """G3: the task is claimed by a live claim or by none."""
        async with self.processes() as (one, other):
            for turns in (0, 1, 3, 6):
                claim = await claimed(one, backoff=AT_ONCE)
                offer = await one.handoffs(ADA).offer(claim, to="bo")
                await self.settle()
                theirs = await received(other, BO, offer)
                accepting = asyncio.ensure_future(theirs.accept())
                for _ in range(turns):
                    await asyncio.sleep(0)
                accepting.cancel()
                await asyncio.gather(accepting, return_exceptions=True)
                await self.settle()
                await offer.refresh()
                while accepting.cancelled() and offer.status == "accepted":
                    await self.settle()  # a store takes its time to give the task back
                    await offer.refresh()
                record = await one.manager.find(claim.task_id)
                assert record is not None
                if not accepting.cancelled():
                    await accepting.result().complete()
                elif offer.status == "requested":
                    await claim.complete()
                else:
                    assert (offer.status, record.claim) == ("failed", None)
                    await one.tasks().get(claim.task_id).cancel()

    # --- checkpoints ------------------------------------------------------------------

    async def test_a_checkpoint_of_a_stale_worker_is_refused(self) -> None:
        """C2: and the next worker goes on from the newest one."""
        async with self.processes() as (one, other):
            await one.tasks().submit("a", backoff=AT_ONCE)
            claim = await one.tasks(ADA).claim("a")
            saved = await one.checkpoints(ADA).save({"n": 1}, "first", task=claim)
            await claim.release()
            newer = await other.tasks(BO).claim("a")
            with pytest.raises(REFUSED):
                await one.checkpoints(ADA).save({"n": 2}, "late", task=claim)
            found = await other.checkpoints(BO).latest(task=newer)
            assert found is not None
            assert (found.seq, found.state) == (saved.seq, {"n": 1})
            assert await other.checkpoints(BO).restore(task=newer) == {"n": 1}
            await newer.complete()

    async def test_two_writers_of_one_series_get_different_numbers(self) -> None:
        """C1, C6: and one that names the parent finds out about the other."""
        async with self.processes() as (one, other):
            both = one.checkpoints(ADA), other.checkpoints(ADA)
            made = await asyncio.gather(
                *[each.save(n) for n in range(4) for each in both]
            )
            assert sorted(each.seq for each in made) == list(range(1, 9))
            newest = await both[1].latest()
            assert newest is not None
            assert newest.seq == 8
            await both[0].save("mine", parent=8)
            with pytest.raises(ConflictError):
                await both[1].save("theirs", parent=8)
            assert await both[1].prune(keep=2) == 7
            assert [each.seq for each in await both[0].list()] == [8, 9]

    async def test_a_checkpoint_commits_with_its_step_or_not_at_all(self) -> None:
        """C5: the next worker finds both, and runs the step no more."""
        async with self.processes() as (one, other):
            await one.tasks().submit("a", backoff=AT_ONCE)
            claim = await one.tasks(ADA).claim("a")

            async def part(process: WorkingProcess, held: Claim, n: int) -> int:
                await process.checkpoints(ADA).save(n, task=held)
                if n == 2:
                    raise ValueError("boom")
                return n

            assert await claim.step("one", lambda: part(one, claim, 1)) == 1
            with pytest.raises(ValueError, match="boom"):
                await claim.step("two", lambda: part(one, claim, 2))
            await claim.release()
            newer = await other.tasks(BO).claim("a")
            found = await other.checkpoints(BO).list(task=newer)
            assert [(each.state, each.step) for each in found] == [(1, "one")]
            assert await newer.step("one", lambda: part(other, newer, 2)) == 1
            await newer.complete()

    # --- pipelines --------------------------------------------------------------------

    async def test_two_processes_share_the_stages_of_a_run(self) -> None:
        """P1, P4: the output is the same wherever it is read."""
        async with self.processes() as (one, other):
            stages = [Stage("double", double, map=True, concurrency=3)]
            flow = Pipeline("sums", [*stages, Stage("total", total)])
            other.pipelines().register(flow)
            runs = await asyncio.gather(
                *[p.pipelines().start(flow, [1, 2, 3, 4], id="r") for p in (one, other)]
            )
            assert [await run.result() for run in runs] == [20, 20]
            seen = await other.pipelines().get("r")
            assert seen.stage("double").output == [2, 4, 6, 8]
            records = one.manager.index.records.values()
            assert len(records) == 5
            assert all(len(record.history) == 2 for record in records)  # claimed once

    async def test_a_run_goes_on_in_another_process(self) -> None:
        """P7: what is completed stays; the stage of the dead process runs again."""
        async with self.processes() as (one, other):
            calls: list[str] = []
            stuck = asyncio.Event()

            async def first(value: int) -> int:
                calls.append("first")
                return value + 1

            async def second(value: int) -> int:
                calls.append("second")
                if len(calls) == 2:
                    stuck.set()
                    await asyncio.Event().wait()
                return value + 1

            flow = Pipeline(
                "steps",
                [
                    Stage("first", first),
                    Stage("second", second, timeout=self.lease, backoff=AT_ONCE),
                ],
            )
            await one.pipelines().start(flow, 1, id="r")
            await stuck.wait()
            one.freeze()
            await self.settle()
            run = await other.pipelines().resume("r", flow)
            assert run.stage("first").output == 2
            await self.wait(self.lease + 0.5)
            assert await run.result() == 3
            assert calls == ["first", "second", "second"]

    async def test_a_run_that_is_cancelled_elsewhere_begins_nothing_more(self) -> None:
        """P8, P6."""
        async with self.processes() as (one, other):
            begun: list[str] = []
            free = asyncio.Event()

            async def wait(value: int) -> int:
                begun.append("wait")
                await free.wait()
                return value

            async def after(value: int) -> int:
                begun.append("after")
                return value

            flow = Pipeline("steps", [Stage("wait", wait), Stage("after", after)])
            run = await one.pipelines().start(flow, 1, id="r")
            waiting = asyncio.ensure_future(run.result())
            while not begun:
                await self.settle()
            await other.pipelines().cancel("r", "not needed")
            await self.settle()
            free.set()
            with pytest.raises(TaskError, match="was cancelled: not needed"):
                await waiting
            seen = await other.pipelines().get("r")
            with pytest.raises(InvalidTransition, match="has no output"):
                _ = seen.stage("after").output
            assert begun == ["wait"]
            with pytest.raises(InvalidTransition, match="was cancelled"):
                await other.pipelines().resume("r", flow)

    async def test_a_failed_run_is_resumed_by_another_process(self) -> None:
        """P7: only what failed runs again."""
        async with self.processes() as (one, other):
            calls: list[int] = []

            async def item(number: int) -> int:
                calls.append(number)
                if len(calls) == 2:
                    raise ValueError("boom")
                return number

            stage = Stage("item", item, map=True, concurrency=1, max_retries=0)
            flow = Pipeline("items", [stage])
            run = await one.pipelines().start(flow, [7, 8, 9], id="r")
            with pytest.raises(
                TaskError, match="stage 'item' failed: ValueError: boom"
            ):
                await run.result()
            again = await other.pipelines().resume("r", flow)
            assert await again.result() == [7, 8, 9]
            assert calls == [7, 8, 8, 9]
