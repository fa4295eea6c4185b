import asyncio
import datetime

import pytest

from swarm.errors import (
    Closed,
    InvalidPath,
    InvalidTransition,
    InvalidValue,
    LimitExceeded,
    NotFound,
    StaleClaim,
    StepMismatch,
    StorageFailed,
    TaskError,
    TaskTimeout,
)
from swarm.model import Backoff, Path, Priority
from swarm.work import idempotency_key
from tests.support.work import ADA, BO, KERNELS, Office, offices, quiet

pytestmark = pytest.mark.parametrize("kind", KERNELS)


async def fail_once(tasks, error="boom", **options):
    claim = await tasks.claim("**")
    await claim.fail(error, **options)


async def test_a_task_is_submitted_claimed_and_completed(kind):
    async with offices(kind) as office:
        tasks = office.tasks()
        task = await tasks.submit("research.topic", {"topic": "bees"})
        async with office.tasks(ADA).claim("research.*") as claim:
            assert claim.task_id == task.id
            assert claim.kind == "research.topic"
            assert claim.payload == {"topic": "bees"}
            assert claim.attempt == 1
            assert claim.token > 0
            assert (await task.record()).assignee == "ada"
            await claim.complete(["facts"])
        assert await task.result() == ["facts"]
        record = await task.record()
        assert record.status == "complete"
        assert [entry.step for entry in record.history] == ["claim", "complete"]


async def test_leaving_the_block_completes_the_task_with_none(kind):
    async with offices(kind) as office:
        tasks = office.tasks()
        task = await tasks.submit("a")
        async with tasks.claim("a"):
            pass
        assert await task.result() is None
        assert office.manager.claims == {}


async def test_an_exception_fails_the_attempt_and_a_retry_follows(kind):
    async with offices(kind) as office:
        tasks = office.tasks()
        task = await tasks.submit("a", max_retries=1, backoff=Backoff(10, 10))
        with pytest.raises(ValueError, match="boom"):
            async with tasks.claim("a"):
                raise ValueError("boom")
        record = await task.record()
        assert record.status == "pending"
        assert 5 <= (record.run_at - record.created_at).total_seconds() <= 10
        assert "retry 1 of 1" in await task.explain()
        await office.pass_time(10)
        await fail_once(tasks, ValueError("again"))
        with pytest.raises(TaskError) as caught:
            await task.result()
        assert caught.value.status == "failed"
        assert caught.value.errors == ("ValueError: boom", "ValueError: again")


async def test_a_failure_that_no_retry_helps_ends_the_task(kind):
    async with offices(kind) as office:
        tasks = office.tasks()
        task = await tasks.submit("a")
        await fail_once(tasks, retry=False)
        assert (await task.record()).status == "failed"


async def test_cancellation_gives_the_task_back_and_the_attempt_does_not_count(kind):
    async with offices(kind) as office:
        tasks = office.tasks()
        task = await tasks.submit("a")
        entered = asyncio.Event()

        async def work():
            async with tasks.claim("a"):
                entered.set()
                await asyncio.sleep(3600)

        worker = asyncio.ensure_future(work())
        await entered.wait()
        worker.cancel()
        with pytest.raises(asyncio.CancelledError):
            await worker
        record = await task.record()
        assert (record.status, record.attempt) == ("pending", 0)
        async with tasks.claim("a") as claim:
            assert claim.attempt == 1


async def test_a_claim_waits_for_a_task(kind):
    async with offices(kind) as office:
        tasks = office.tasks()
        waiting = asyncio.ensure_future(office.tasks(ADA).claim("a")._claimed())
        await quiet()
        assert len(office.manager.queue) == 1
        task = await tasks.submit("a")
        claim = await waiting
        assert claim.task_id == task.id
        assert len(office.manager.queue) == 0


async def test_claims_that_wait_get_tasks_in_their_order(kind):
    async with offices(kind) as office:
        tasks = office.tasks()
        order = []

        async def work(name):
            async with tasks.claim("a"):
                order.append(name)

        workers = []
        for name in range(4):
            workers.append(asyncio.ensure_future(work(name)))
            await quiet()
        for _ in range(4):
            await tasks.submit("a")
        await asyncio.gather(*workers)
        assert order == [0, 1, 2, 3]


async def test_a_claim_times_out(kind):
    async with offices(kind) as office:
        waiting = asyncio.ensure_future(office.tasks().claim("a", timeout=5)._claimed())
        await quiet()
        await office.pass_time(5.1)
        with pytest.raises(TaskTimeout):
            await waiting
        assert len(office.manager.queue) == 0


async def test_a_delayed_task_wakes_a_claim_when_it_is_due(kind):
    async with offices(kind) as office:
        tasks = office.tasks()
        task = await tasks.submit("a", delay=10)
        waiting = asyncio.ensure_future(tasks.claim("a")._claimed())
        await office.pass_time(9)
        assert not waiting.done()
        assert "not due" in await task.explain()
        await office.pass_time(1.1)
        assert (await waiting).task_id == task.id


async def test_tasks_are_claimed_by_priority_then_due_time_then_order(kind):
    """J10."""
    async with offices(kind) as office:
        tasks = office.tasks()
        for name, options in {
            "low": {"priority": Priority.LOW},
            "late": {"delay": 2},
            "early": {"delay": 1},
            "high": {"priority": Priority.HIGH, "delay": 3},
        }.items():
            await tasks.submit("a", name, **options)
        await office.pass_time(4)
        got = []
        for _ in range(4):
            async with tasks.claim("a") as claim:
                got.append(claim.payload)
        assert got == ["high", "early", "late", "low"]


async def test_a_key_is_unique_while_its_task_is_not_final(kind):
    async with offices(kind) as office:
        tasks = office.tasks()
        first = await tasks.submit("a", 1, key="k")
        again = await tasks.submit("a", 2, key="k")
        assert again.id == first.id
        async with tasks.claim("a"):
            pass
        third = await tasks.submit("a", 3, key="k")
        assert third.id != first.id


async def test_a_key_that_is_taken_once_stays_taken(kind):
    async with offices(kind) as office:
        tasks = office.tasks()
        first = await tasks.submit("a", 1, key="k", once=True)
        async with tasks.claim("a") as claim:
            await claim.complete("done")
        again = await tasks.submit("a", 2, key="k", once=True)
        assert await again.result() == "done"
        assert again.id == first.id


async def test_a_task_for_an_agent_is_claimed_by_no_other(kind):
    async with offices(kind) as office:
        tasks = office.tasks()
        task = await tasks.submit("a", to="bo")
        waiting = asyncio.ensure_future(office.tasks(ADA).claim("a")._claimed())
        await quiet()
        assert not waiting.done()
        claim = await office.tasks(BO).claim("a")
        assert claim.task_id == task.id
        waiting.cancel()


async def test_a_task_for_a_role_or_capability_finds_its_workers(kind):
    async with offices(kind) as office:
        tasks = office.tasks()
        await tasks.submit("a", 1, role="worker")
        await tasks.submit("a", 2, capability="summing")
        ada = office.tasks(ADA, capabilities=lambda: ("summing",))
        got = []
        for _ in range(2):
            async with ada.claim("a") as claim:
                got.append(claim.payload)
        assert got == [1, 2]


async def test_progress_and_partial_results_are_seen(kind):
    async with offices(kind) as office:
        tasks = office.tasks()
        task = await tasks.submit("a")
        async with tasks.claim("a") as claim:
            await claim.progress(40, "reading", eta=12.0)
            await claim.update({"one": 1})
            await claim.update({"two": 2})
            record = await task.record()
            assert tuple(record.progress) == (40, "reading", 12.0)
            assert record.partial == {"one": 1, "two": 2}
            assert claim.partial == {"one": 1, "two": 2}


async def test_a_stale_claim_has_no_effect_on_any_path(kind):
    async with offices(kind) as office:
        tasks = office.tasks()
        task = await tasks.submit("a", timeout=None)
        claim = await tasks.claim("a", lease=30)
        office.manager.claims.clear()  # the process is frozen: nothing renews
        await office.pass_time(31)
        await office.pass_time(60)
        newer = await office.tasks(ADA).claim("a")
        assert newer.attempt == 2
        for operation in (
            claim.progress(1),
            claim.update({"x": 1}),
            claim.step("s", lambda: 1),
            claim.complete(1),
            claim.fail("x"),
            claim.snooze(1),
            claim.release(),
        ):
            with pytest.raises(StaleClaim):
                await operation
        record = await task.record()
        assert record.assignee == "ada"
        assert record.partial is None


async def test_a_missed_heartbeat_rescues_the_task(kind):
    async with offices(kind) as office:
        tasks = office.tasks()
        task = await tasks.submit("a", timeout=None)
        claim = await tasks.claim("a", lease=30)
        claim.beats_at = 2**62  # nothing renews it
        await office.pass_time(31)
        record = await task.record()
        assert record.status == "pending"
        assert "heartbeat" in record.errors[0]
        assert not claim.is_live


async def test_a_rescue_that_fails_is_tried_again_a_second_later(kind, monkeypatch):
    async with offices(kind) as office:
        tasks, tries = office.tasks(), []
        task = await tasks.submit("a", timeout=None)
        claim = await tasks.claim("a", lease=30)
        claim.beats_at = 2**62  # nothing renews it
        apply_one = office.manager.apply_one

        async def fails(*arguments):
            tries.append(arguments)
            raise StorageFailed("the disk is full")

        monkeypatch.setattr(office.manager, "apply_one", fails)
        await office.pass_time(31)
        await office.pass_time(0.5)
        assert len(tries) == 1
        monkeypatch.setattr(office.manager, "apply_one", apply_one)
        await office.pass_time(0.6)
        assert (await task.record()).status == "pending"


async def test_every_task_is_rescued_by_a_process_that_serves_none_of_their_kinds(kind):
    """J15: not one waits behind another, and none fails for want of a worker here."""
    async with offices(kind, count=2) as (one, two):
        for n in range(300):
            await one.tasks().submit(f"k{n}", timeout=None)
            claim = await one.tasks().claim(f"k{n}", lease=30)
            claim.beats_at, claim.follow = 2**62, lambda *_: None
        one.manager.close()
        await two.pass_time(31)
        await quiet(3_000)
        found = two.tasks().find(limit=1_000)
        assert len(found) == 300
        assert {(r.status, r.attempt) for r in found} == {("pending", 1)}


async def test_a_claim_is_renewed_by_itself(kind):
    async with offices(kind) as office:
        tasks = office.tasks()
        task = await tasks.submit("a", timeout=None)
        claim = await tasks.claim("a", lease=3)
        for _ in range(20):
            await office.pass_time(1)
        assert claim.is_live
        assert (await task.record()).status == "running"


async def test_an_attempt_that_takes_too_long_fails_and_its_body_is_cancelled(kind):
    async with offices(kind) as office:
        tasks = office.tasks()
        task = await tasks.submit("a", timeout=5, max_retries=0)

        async def work():
            async with tasks.claim("a", lease=2):
                await asyncio.get_running_loop().create_future()

        worker = asyncio.ensure_future(work())
        await quiet()
        for _ in range(6):
            await office.pass_time(1)
        with pytest.raises(StaleClaim, match="timeout"):
            await worker
        with pytest.raises(TaskError, match="5 s"):
            await task.result()


async def test_a_deadline_fails_a_pending_task(kind):
    async with offices(kind) as office:
        tasks = office.tasks()
        task = await tasks.submit("a", deadline=5)
        later = datetime.datetime(2100, 1, 1, tzinfo=datetime.UTC)
        other = await tasks.submit("b", deadline=later)
        waiting = asyncio.ensure_future(task.result())
        await office.pass_time(5.1)
        with pytest.raises(TaskError, match="deadline"):
            await waiting
        assert (await other.record()).deadline == later


async def test_a_pending_task_is_cancelled_at_once(kind):
    async with offices(kind) as office:
        task = await office.tasks().submit("a")
        assert await task.cancel("not wanted") == "cancelled"
        with pytest.raises(TaskError) as caught:
            await task.result()
        assert (caught.value.status, caught.value.reason) == ("cancelled", "not wanted")


async def test_the_worker_of_a_cancelled_task_is_cancelled(kind):
    async with offices(kind) as office:
        tasks = office.tasks()
        task = await tasks.submit("a")
        ended = []

        async def work():
            async with tasks.claim("a"):
                try:
                    await asyncio.get_running_loop().create_future()
                except asyncio.CancelledError:
                    ended.append("body")
                    raise
            ended.append("block")

        worker = asyncio.ensure_future(work())
        await quiet()
        assert await task.cancel("enough") == "running"
        await worker
        assert ended == ["body", "block"]
        assert (await task.record()).status == "cancelled"


async def test_a_completion_that_came_first_wins_over_a_cancellation(kind):
    async with offices(kind) as office:
        tasks = office.tasks()
        task = await tasks.submit("a")
        async with tasks.claim("a") as claim:
            await claim.complete(1)
        assert await task.cancel() == "complete"
        assert await task.result() == 1


async def test_cancelling_a_parent_cancels_its_parts(kind):
    async with offices(kind) as office:
        tasks = office.tasks()
        parent = await tasks.submit("a")
        child = await tasks.submit("b", parent=parent)
        grandchild = await tasks.submit("c", parent=child)
        await parent.cancel()
        await quiet(100)
        assert (await child.record()).status == "cancelled"
        assert (await grandchild.record()).status == "cancelled"
        with pytest.raises(InvalidTransition):
            await tasks.submit("b", parent=parent)
        with pytest.raises(NotFound):
            await tasks.submit("b", parent="nothing")


async def test_parts_of_a_cancelled_parent_are_cancelled_after_a_crash(kind):
    async with offices(kind) as office:
        tasks = office.tasks()
        parent = await tasks.submit("a")
        child = await tasks.submit("b", parent=parent)
        await quiet()
        cancelling = asyncio.ensure_future(parent.cancel())
        # The process ends with that commit.
        office.manager.observe(parent.id, lambda _: office.manager.close())
        await asyncio.wait([cancelling])
        later = Office(office.memory, office.clock, kind)
        await quiet(100)
        (found,) = later.tasks().find(kind="b")
        assert (found.id, found.status) == (child.id, "cancelled")
        await later.manager.finish()
        assert later.failures == []


@pytest.mark.parametrize("turns", range(12))
async def test_a_step_that_is_cancelled_runs_its_function_once(kind, turns):
    async with offices(kind) as office:
        await office.tasks().submit("a")
        claim = await office.tasks().claim("a")
        paid = []

        def pay():
            paid.append(1)
            return len(paid)

        step = asyncio.ensure_future(claim.step("pay", pay))
        await quiet(turns)
        step.cancel()
        await asyncio.wait([step])
        assert await claim.step("pay", pay) == 1
        await claim.release()
        claim = await office.tasks().claim("a")
        assert await claim.step("pay", pay) == 1
        assert paid == [1]


async def test_a_stale_claim_met_in_a_step_is_not_that_of_the_step(kind):
    async with offices(kind) as office:
        tasks = office.tasks()
        other = await tasks.submit("a")
        stale = await tasks.claim("a")
        await office.pass_time(1)
        await stale.complete(1)
        task = await tasks.submit("b")
        claim = await tasks.claim("b")
        with pytest.raises(StaleClaim, match=other.id):
            await claim.step("look", stale.progress, 50)
        assert claim.is_live
        await claim.complete(2)
        assert await task.result() == 2


async def test_a_claim_that_a_closed_swarm_has_given_back_says_that_it_is_closed(kind):
    async with offices(kind) as office:
        await office.tasks().submit("a")
        claim = await office.tasks().claim("a")
        await office.manager.finish()
        for use in (claim.progress, claim.update, claim.complete):
            with pytest.raises(Closed):
                await use({} if use == claim.update else 1)
        with pytest.raises(Closed):
            await claim.step("a", len, [])


async def test_snooze_and_release_do_not_count_the_attempt(kind):
    async with offices(kind) as office:
        tasks = office.tasks()
        task = await tasks.submit("a", max_retries=0)
        for _ in range(3):
            await (await tasks.claim("a")).release()
        await (await tasks.claim("a")).snooze(60)
        assert "snoozed" in await task.explain()
        await office.pass_time(61)
        claim = await tasks.claim("a")
        assert claim.attempt == 1


async def test_an_escalated_task_is_retried_or_resolved_by_hand(kind):
    async with offices(kind) as office:
        tasks = office.tasks()
        task = await tasks.submit("a", max_retries=0, escalate_to="manual")
        await fail_once(tasks)
        with pytest.raises(TaskError) as caught:
            await task.result()
        assert caught.value.status == "escalated"
        await task.retry()
        await fail_once(tasks)
        await task.resolve({"by": "hand"})
        assert await task.result() == {"by": "hand"}
        with pytest.raises(InvalidTransition):
            await task.retry()
        with pytest.raises(InvalidTransition):
            await task.resolve(1)


async def test_a_task_is_escalated_to_another_role_once(kind):
    async with offices(kind) as office:
        tasks = office.tasks()
        task = await tasks.submit("a", max_retries=0, escalate_to="role:worker")
        await fail_once(tasks, "first")
        assert (await task.record()).address == "role:worker"
        await fail_once(office.tasks(ADA), "second")
        with pytest.raises(TaskError) as caught:
            await task.result()
        assert caught.value.errors == ("first", "second")
        assert caught.value.status == "failed"


async def test_a_step_runs_once_per_task(kind):
    async with offices(kind) as office:
        tasks = office.tasks()
        await tasks.submit("a", backoff=Backoff(0, 0))
        runs = []

        async def write(topic):
            runs.append((topic, idempotency_key()))
            return topic.upper()

        with pytest.raises(ValueError):
            async with tasks.claim("a") as claim:
                assert await claim.step("outline", write, "bees") == "BEES"
                assert await claim.step("outline", write, "bees") == "BEES"
                raise ValueError
        async with office.tasks(ADA).claim("a") as claim:
            assert await claim.step("outline", write, "bees") == "BEES"
            with pytest.raises(StepMismatch):
                await claim.step("outline", write, "wasps")
        assert runs == [("bees", f"{claim.task_id}:outline")]
        with pytest.raises(RuntimeError):
            idempotency_key()


async def test_arguments_of_a_step_that_nest_too_deep_are_refused(kind):
    async with offices(kind) as office:
        tasks = office.tasks()
        await tasks.submit("a")
        deep = ()
        for _ in range(300):
            deep = (deep,)
        async with tasks.claim("a") as claim:
            with pytest.raises(LimitExceeded):
                await claim.step("outline", len, deep)
            with pytest.raises(LimitExceeded):
                await claim.step("outline", dict, key=[deep])
            assert await claim.step("outline", len, ((),)) == 1


async def test_steps_run_at_the_same_time(kind):
    async with offices(kind) as office:
        tasks = office.tasks()
        await tasks.submit("a")
        runs = []

        async def slow(name):
            runs.append(name)
            await quiet()
            return name

        async with tasks.claim("a") as claim:
            got = await asyncio.gather(
                claim.step("x", slow, "x"), claim.step("y", slow, "y")
            )
        assert got == ["x", "y"]
        assert runs == ["x", "y"]


async def test_a_running_step_that_is_asked_for_again_is_refused(kind):
    """By its own function, through another step, and by concurrent code."""
    async with offices(kind) as office:
        tasks = office.tasks()
        await tasks.submit("a")
        async with tasks.claim("a") as claim:

            async def own():
                await claim.step("own", own)

            async def inner():
                await claim.step("outer", outer)

            async def outer():
                await claim.step("inner", inner)

            for name, function in (("own", own), ("outer", outer)):
                with pytest.raises(InvalidTransition, match=f"step '{name}' of task"):
                    await claim.step(name, function)
            first = asyncio.ensure_future(claim.step("slow", quiet))
            await asyncio.sleep(0)
            with pytest.raises(InvalidTransition, match="step 'slow' of task"):
                await claim.step("slow", quiet)
            await first
            assert await claim.step("own", len, "abc") == 3


async def test_a_step_whose_runner_was_cancelled_is_run_again(kind):
    async with offices(kind) as office:
        tasks = office.tasks()
        await tasks.submit("a")
        async with tasks.claim("a") as claim:
            waiting = asyncio.get_running_loop().create_future
            first = asyncio.ensure_future(claim.step("x", waiting))
            await quiet()
            first.cancel()
            with pytest.raises(asyncio.CancelledError):
                await first
            assert await claim.step("x", len, "ab") == 2


async def test_a_step_that_fails_has_recorded_nothing(kind):
    async with offices(kind) as office:
        tasks = office.tasks()
        await tasks.submit("a")
        async with tasks.claim("a") as claim:
            with pytest.raises(ZeroDivisionError):
                await claim.step("x", lambda: 1 / 0)
            with pytest.raises(InvalidValue):
                await claim.step("x", object)
            assert await claim.step("x", lambda: 7) == 7


async def test_a_watch_shows_every_change_until_the_end(kind):
    async with offices(kind) as office:
        tasks = office.tasks()
        task = await tasks.submit("a")
        seen = []

        async def watch():
            async for change in task.watch():
                seen.append((str(change.status), change.progress))

        watching = asyncio.ensure_future(watch())
        await quiet()
        async with tasks.claim("a") as claim:
            await claim.progress(50)
            await quiet()
        await watching
        statuses = [status for status, _ in seen]
        assert statuses == ["pending", "running", "running", "complete"]
        assert office.manager._observers == {}


async def test_find_and_stats_show_the_tasks(kind):
    async with offices(kind) as office:
        tasks = office.tasks()
        await tasks.submit("a.x", 1)
        await tasks.submit("a.y", 2)
        await tasks.submit("b", 3)
        async with tasks.claim("a.x"):
            assert [info.payload for info in tasks.find(status="running")] == [1]
        assert [info.payload for info in tasks.find(kind="a.*")] == [2, 1]
        assert [info.payload for info in tasks.find(limit=1)] == [3]
        stats = tasks.stats()
        assert stats.by_status["complete"] == 1
        assert stats.by_kind["b"] == {"pending": 1}
        assert stats.ready == 2
        assert stats.waiting == {"nobody serves this kind": 2}


async def test_a_guard_lets_only_the_live_claim_write(kind):
    async with offices(kind) as office:
        tasks = office.tasks()
        await tasks.submit("a")
        claim = await tasks.claim("a")
        await office.kernel.commit(ADA, conditions=claim.conditions())
        await claim.release()
        with pytest.raises(StaleClaim):
            claim.conditions()


async def test_a_claim_ends_once(kind):
    async with offices(kind) as office:
        tasks = office.tasks()
        await tasks.submit("a")
        claim = await tasks.claim("a")
        await claim.complete(1)
        with pytest.raises(InvalidTransition):
            await claim.complete(2)


async def test_result_times_out_and_leaves_the_task_alone(kind):
    async with offices(kind) as office:
        task = await office.tasks().submit("a")
        waiting = asyncio.ensure_future(task.result(timeout=5))
        await quiet()
        await office.pass_time(5.1)
        with pytest.raises(TaskTimeout):
            await waiting
        assert (await task.record()).status == "pending"
        assert office.manager._observers == {}


async def test_closing_wakes_every_waiter(kind):
    async with offices(kind) as office:
        tasks = office.tasks()
        task = await tasks.submit("a", to="nobody")
        result = asyncio.ensure_future(task.result())
        claim = asyncio.ensure_future(tasks.claim("a")._claimed())
        await quiet()
        office.manager.close()
        with pytest.raises(Closed):
            await result
        with pytest.raises(Closed):
            await claim
        with pytest.raises(Closed):
            await tasks.submit("a")


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ({"kind": 3}, TypeError),
        ({"kind": ""}, InvalidPath),
        ({"kind": "a.*"}, InvalidPath),
        ({"payload": object()}, InvalidValue),
        ({"payload": "x" * 2**21}, LimitExceeded),
        ({"key": 3}, TypeError),
        ({"key": ""}, InvalidPath),
        ({"priority": "HIGH"}, TypeError),
        ({"priority": 10_000}, ValueError),
        ({"priority": True}, TypeError),
        ({"priority": None}, TypeError),
        ({"once": 1}, TypeError),
        ({"urgency": 1}, TypeError),
        ({"delay": -1}, ValueError),
        ({"delay": "soon"}, TypeError),
        ({"deadline": datetime.datetime(2100, 1, 1)}, ValueError),  # noqa: DTZ001
        ({"deadline": 0}, ValueError),
        ({"timeout": 0}, ValueError),
        ({"timeout": "1"}, TypeError),
        ({"max_retries": -1}, ValueError),
        ({"max_retries": 1.5}, TypeError),
        ({"backoff": 3}, TypeError),
        ({"parent": 3}, TypeError),
        ({"to": "a", "role": "b"}, ValueError),
        ({"to": ""}, ValueError),
        ({"to": 3}, TypeError),
        ({"escalate_to": "somebody"}, ValueError),
        ({"schema_version": 3}, TypeError),
        ({"metadata": [1]}, TypeError),
        ({"metadata": {"a": object()}}, InvalidValue),
    ],
)
async def test_a_bad_argument_is_one_typed_error_and_submits_nothing(
    kind, arguments, error
):
    async with offices(kind) as office:
        with pytest.raises(error):
            await office.tasks().submit(**{"kind": "a", **arguments})
        found = await office.kernel.read(
            lambda view: list(view.documents(Path.parse("global")))
        )
        assert found == []


async def test_a_search_with_a_filter_of_another_type_is_refused(kind):
    async with offices(kind) as office:
        for wrong in ({"kind": 3}, {"parent": 3}):
            with pytest.raises(TypeError):
                office.tasks().find(**wrong)


async def test_a_task_and_its_claim_are_shown_in_one_line(kind):
    async with offices(kind) as office:
        tasks = office.tasks()
        task = await tasks.submit("a.b")
        claim = await tasks.claim("a.b")
        shown = f"{task.id} (a.b)"
        assert repr(await task.record()) == f"<TaskInfo {shown}, running, attempt 1>"
        assert repr(claim) == f"<Claim of task {shown}, attempt 1, live>"


async def test_tasks_of_a_closed_swarm_are_not_found(kind):
    async with offices(kind) as office:
        tasks = office.tasks()
        await tasks.submit("a")
        office.manager.close()
        with pytest.raises(Closed):
            tasks.find()


async def test_a_claim_that_is_never_awaited_is_warned_of(kind):
    async with offices(kind) as office:
        with pytest.warns(RuntimeWarning, match=r"claim\('a'\) was never awaited"):
            office.tasks().claim("a")
        assert len(office.manager.queue) == 0


async def test_a_failed_task_is_not_tried_again_by_hand(kind):
    async with offices(kind) as office:
        tasks = office.tasks()
        task = await tasks.submit("a", max_retries=0)
        await (await tasks.claim("a")).fail("no")
        with pytest.raises(InvalidTransition, match="is final: submit another task"):
            await task.retry()
        with pytest.raises(InvalidTransition, match="is final"):
            await task.resolve(1)
        assert (await task.record()).status == "failed"
