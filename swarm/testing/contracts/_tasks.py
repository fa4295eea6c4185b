"""The contract of any kernel for two processes that share tasks.

    class TestMyKernel(TaskContract):
        async def make_kernel(self, limits=None): ...
        async def another(self, kernel): ...        # the same tree, as another process
        async def pass_time(self, kernel, seconds): ...
        clock = ...                                 # set by `make_kernel`

What one process commits, the other sees.
"""

import asyncio
from contextlib import suppress

import pytest

from swarm.errors import InvalidTransition, StaleClaim, StepMismatch, TaskError
from swarm.model import Path, Priority
from swarm.ports import Write
from swarm.testing.contracts._base import ADA, BO
from swarm.testing.contracts._work import (
    AT_ONCE,
    WorkContract,
    WorkingProcess,
    tasks_in,
    waiting_claim,
)
from swarm.work import Claim


class TaskContract(WorkContract):
    """The tests that two processes with tasks on one kernel must pass."""

    # --- tasks come and go ------------------------------------------------------------

    async def test_a_claim_waits_for_a_task_of_the_other_process(self) -> None:
        """J3: and its result is waited for where the task was submitted."""
        async with self.processes() as (one, other):
            waiting = waiting_claim(other, "a.*")
            await self.settle()
            task = await one.tasks().submit("a.b", {"n": 5})
            result = asyncio.ensure_future(task.result())
            claim = await waiting
            assert (claim.payload, claim.attempt) == ({"n": 5}, 1)
            await claim.complete("done")
            assert await result == "done"

    async def test_each_task_is_done_once_by_many_workers(self) -> None:
        """J2, J3."""
        async with self.processes() as pair:
            done: list[str] = []

            async def work(process: WorkingProcess) -> None:
                while True:
                    async with process.tasks(ADA).claim("a") as claim:
                        await asyncio.sleep(0)
                        done.append(claim.task_id)

            workers = [
                asyncio.ensure_future(work(process))
                for process in pair
                for _ in range(3)
            ]
            tasks = [await pair[n % 2].tasks().submit("a", n) for n in range(40)]
            for task in tasks:
                await task.result()
            for worker in workers:
                worker.cancel()
            await asyncio.gather(*workers, return_exceptions=True)
            assert sorted(done) == sorted(task.id for task in tasks)

    async def test_due_tasks_are_claimed_by_priority_and_then_in_order(self) -> None:
        """J10."""
        async with self.processes() as (one, other):
            for name, priority in (("x", 1), ("y", 1), ("z", Priority.HIGH)):
                await one.tasks().submit("a", name, priority=priority)
            await self.settle()
            claims = [await other.tasks(ADA).claim("a") for _ in range(3)]
            assert [claim.payload for claim in claims] == ["z", "x", "y"]

    async def test_a_claim_that_loses_its_task_to_another_process_takes_the_next(
        self,
    ) -> None:
        """J3."""
        async with self.processes() as pair:
            for name in ("x", "y"):
                await pair[0].tasks().submit("a", name)
            await self.settle()
            claims = await asyncio.gather(*(waiting_claim(p, "a") for p in pair))
            assert sorted(str(claim.payload) for claim in claims) == ["x", "y"]

    async def test_a_delayed_task_is_claimed_when_it_is_due_and_not_before(
        self,
    ) -> None:
        """J10."""
        async with self.processes() as (one, other):
            await one.tasks().submit("a", delay=2)
            waiting = waiting_claim(other, "a")
            await self.wait(0.5)
            assert not waiting.done()
            await self.wait(2)
            await waiting

    async def test_a_task_for_an_agent_is_claimed_by_that_agent_only(self) -> None:
        async with self.processes() as (one, other):
            await one.tasks().submit("a", to="ada")
            wrong = waiting_claim(other, "a", BO)
            assert (await waiting_claim(other, "a")).attempt == 1
            assert not wrong.done()
            wrong.cancel()

    async def test_a_later_process_knows_the_tasks_that_there_are(self) -> None:
        async with self.processes() as (one, _):
            await one.tasks().submit("a", 1)
            await one.tasks().submit("a", 2, delay=1)
            third = await self._another()
            process = WorkingProcess(third, self.tail_of(third), self.clock, 3)
            try:
                assert (await waiting_claim(process, "a")).payload == 1
                waiting = waiting_claim(process, "a")
                await self.wait(1.2)
                assert (await waiting).payload == 2
            finally:
                await process.end()

    async def test_a_key_has_one_task_until_that_is_over(self) -> None:
        """J11: however many processes submit at the same time."""
        async with self.processes() as pair:
            submits = [
                process.tasks().submit("a", key="k") for process in pair for _ in "xyz"
            ]
            tasks = await asyncio.gather(*submits)
            assert len({task.id for task in tasks}) == 1
            async with pair[1].tasks(ADA).claim("a"):
                again = await pair[0].tasks().submit("a", key="k")
                assert again.id == tasks[0].id
            newer = await pair[0].tasks().submit("a", key="k")
            assert newer.id != tasks[0].id

    # --- attempts that fail -----------------------------------------------------------

    async def test_a_failed_attempt_is_followed_by_others_up_to_the_limit(self) -> None:
        """J8: then the task has failed once, with the errors of all."""
        async with self.processes() as (one, other):
            task = await one.tasks().submit("a", max_retries=2, backoff=AT_ONCE)
            for attempt in (1, 2, 3):
                claim = await waiting_claim((one, other)[attempt % 2], "a")
                assert claim.attempt == attempt
                await claim.fail(f"error {attempt}")
            with pytest.raises(TaskError) as caught:
                await task.result()
            assert caught.value.status == "failed"
            assert list(caught.value.errors) == ["error 1", "error 2", "error 3"]

    async def test_a_task_that_is_given_back_has_all_its_attempts(self) -> None:
        """J13."""
        async with self.processes() as (one, other):
            await one.tasks().submit("a", max_retries=0)
            for give_back in (Claim.release, lambda claim: claim.snooze(0.5)):
                claim = await waiting_claim(other, "a")
                assert claim.attempt == 1
                await give_back(claim)
                await self.wait(0.6)

    async def test_a_task_is_rescued_from_a_process_that_is_frozen(self) -> None:
        """J4, J6, J7: and the late worker changes nothing."""
        async with self.processes() as (one, other):
            task = await other.tasks().submit("a", timeout=None, backoff=AT_ONCE)
            await self.settle()
            claim = await one.tasks(ADA).claim("a", lease=self.lease)
            one.freeze()
            waiting = waiting_claim(other, "a")
            await self.wait(self.lease + 0.5)
            newer = await waiting
            assert newer.attempt == 2
            assert newer.token > claim.token
            for late in (
                claim.complete(1),
                claim.fail("late"),
                claim.progress(50),
                claim.update({"late": True}),
                claim.release(),
            ):
                with pytest.raises(StaleClaim):
                    await late
            await newer.complete(2)
            assert await task.result() == 2

    async def test_a_claim_that_is_renewed_outlives_its_first_lease(self) -> None:
        """J6: rescue is by missed heartbeat."""
        async with self.processes() as (one, other):
            task = await one.tasks().submit("a", timeout=None)
            claim = await other.tasks(ADA).claim("a", lease=self.lease)
            for _ in range(6):
                await self.wait(self.lease / 4)
            assert claim.is_live
            await claim.complete(1)
            assert (await task.record()).attempt == 1

    async def test_an_attempt_that_takes_too_long_has_failed(self) -> None:
        async with self.processes() as (one, other):
            task = await one.tasks().submit("a", timeout=self.lease, max_retries=0)

            async def work() -> None:
                async with other.tasks(ADA).claim("a", lease=self.lease / 2):
                    await asyncio.get_running_loop().create_future()

            worker = asyncio.ensure_future(work())
            for _ in range(6):
                await self.wait(self.lease / 4)
            with pytest.raises(StaleClaim):
                await worker
            with pytest.raises(TaskError, match="timeout"):
                await task.result()

    # --- what is claimed --------------------------------------------------------------

    async def test_a_task_is_over_once(self) -> None:
        """J1, J5."""
        async with self.processes() as (one, other):
            task = await one.tasks().submit("a")
            claim = await waiting_claim(other, "a")
            await claim.complete("first")
            with pytest.raises(InvalidTransition):
                await claim.complete("second")
            with pytest.raises(InvalidTransition):
                await task.resolve("third")
            assert str(await task.cancel()) == "complete"
            assert await task.result() == "first"

    async def test_a_cancelled_task_ends_its_worker_in_the_other_process(self) -> None:
        """J12: a pending one is cancelled at once."""
        async with self.processes() as (one, other):
            pending = await one.tasks().submit("b")
            assert str(await pending.cancel()) == "cancelled"
            task = await one.tasks().submit("a")

            async def work() -> str:
                async with other.tasks(ADA).claim("a"):
                    await asyncio.get_running_loop().create_future()
                return "left"

            worker = asyncio.ensure_future(work())
            await self.settle()
            await task.cancel("enough")
            assert await worker == "left"
            with pytest.raises(TaskError) as caught:
                await task.result()
            assert caught.value.status == "cancelled"

    async def test_a_write_under_a_claim_is_refused_once_the_claim_is_lost(
        self,
    ) -> None:
        """J4."""
        async with self.processes() as (one, other):
            await one.tasks().submit("a", backoff=AT_ONCE)
            claim = await waiting_claim(one, "a")
            path = Path.of("shared", "x")
            guard = claim.conditions()
            write = Write(path, b"1")
            await one.kernel.commit(ADA, [write], conditions=guard)
            await claim.release()
            await waiting_claim(other, "a")
            write = Write(path, b"2")
            with pytest.raises(StaleClaim):
                await one.kernel.commit(ADA, [write], conditions=guard)
            document = await other.kernel.find(path)
            assert document is not None
            assert document.value == 1

    async def test_progress_and_partial_results_are_seen_everywhere(self) -> None:
        async with self.processes() as (one, other):
            task = await one.tasks().submit("a")
            claim = await waiting_claim(other, "a")
            await claim.progress(40, "reading", eta=12.0)
            await claim.update({"x": 1})
            await claim.update({"y": 2})
            record = await task.record()
            assert record.progress == (40, "reading", 12.0)
            assert record.partial == {"x": 1, "y": 2}
            await claim.complete()

    async def test_a_step_runs_once_whichever_process_works_on_the_task(self) -> None:
        """Its arguments must be the same."""
        async with self.processes() as (one, other):
            await one.tasks().submit("a", backoff=AT_ONCE)
            runs: list[str] = []

            async def costly(name: str) -> str:
                runs.append(name)
                return f"text about {name}"

            claim = await waiting_claim(one, "a")
            first = await claim.step("outline", costly, "bees")
            await claim.fail("later")
            again = await waiting_claim(other, "a")
            assert await again.step("outline", costly, "bees") == first
            assert runs == ["bees"]
            with pytest.raises(StepMismatch):
                await again.step("outline", costly, "wasps")
            await again.complete()

    async def test_a_cancelled_wait_for_a_claim_claims_nothing(self) -> None:
        """G3: the next worker gets the task."""
        async with self.processes() as (one, other):
            first, second = waiting_claim(one, "a"), waiting_claim(other, "a")
            await self.settle()
            submitting = asyncio.ensure_future(one.tasks().submit("a"))
            await asyncio.sleep(0)
            first.cancel()
            with suppress(asyncio.CancelledError):
                await (await first).release()
            await submitting
            assert (await second).attempt == 1

    # --- tasks that belong together ---------------------------------------------------

    async def test_parts_are_gathered_again_after_a_crash(self) -> None:
        """J16: nothing is submitted twice."""
        async with self.processes() as (one, other):
            crashed = asyncio.ensure_future(
                one.tasks().gather("part", [1, 2, 3], key="g")
            )
            await self.settle()
            crashed.cancel()
            await asyncio.gather(crashed, return_exceptions=True)
            results = asyncio.ensure_future(
                other.tasks().gather("part", [1, 2, 3], key="g")
            )
            for _ in range(3):
                claim = await waiting_claim(one, "part")
                number = claim.payload
                assert isinstance(number, int)
                await claim.complete(number * 2)
            assert list(await results) == [2, 4, 6]
            assert len(await one.kernel.read(tasks_in)) == 3

    async def test_a_schedule_submits_one_task_for_each_time(self) -> None:
        async with self.processes() as (one, other):
            for process in (one, other):
                await process.tasks().schedule("tick", "tick", every=2.0)
            await self.settle()
            for _ in range(2):
                await self.wait(2.05)
            assert len(await one.kernel.read(tasks_in)) == 2
