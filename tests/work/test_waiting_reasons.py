"""Counting why tasks are pending asks once for all tasks that are alike."""

import re

from swarm import Backoff, Swarm
from swarm.system import coordinator_of
from swarm.work._health import count_reasons, why
from tests.support.virtual_loop import virtual


@virtual
async def test_the_counts_are_those_of_asking_about_each_task():
    async with Swarm() as swarm:
        for number in range(6):
            await swarm.tasks.submit(f"kind.{number % 2}", delay=number % 3)
        await swarm.tasks.submit("kind.0", to="nobody")
        async with swarm.tasks.claim("kind.*") as claim:
            await claim.fail(ValueError("x"))
        async with swarm.tasks.claim("kind.*") as claim:
            await claim.snooze(60)
        manager = coordinator_of(swarm).work
        records, now = list(manager.index.pending()), manager.now()
        servers = manager.all_servers()
        counts = count_reasons(records, now, servers, lambda _: False)
        alone = [why(r, now, servers, lambda _: False).brief for r in records]
        assert len(counts) >= 4
        assert counts == {reason: alone.count(reason) for reason in alone}
        assert sum(manager.waiting_reasons(2).values()) == 2


@virtual
async def test_a_pending_task_says_why_it_is_pending():
    async with Swarm() as swarm:
        late = await swarm.tasks.submit("late", delay=12)
        assert await late.explain() == "not due: due in 12.0 s"
        tried = await swarm.tasks.submit("tried", backoff=Backoff(12, 12))
        assert await tried.explain() == "nobody serves 'tried'"
        for number in (1, 2):
            async with swarm.tasks.claim("tried") as claim:
                await claim.fail(ValueError("x"))
            told = await tried.explain()
            assert re.fullmatch(rf"retry {number} of 3 in \d+\.\d s", told)
        async with swarm.tasks.claim("tried") as claim:
            await claim.snooze(60)
        assert await tried.explain() == "snoozed: due in 60.0 s"
        other = await swarm.tasks.submit("tried", to="nobody")
        assert await other.explain() == "agent 'nobody' is not alive"


@virtual
async def test_a_task_for_a_person_waits_for_one():
    async with Swarm() as swarm:
        task = await swarm.tasks.submit("human.approve", {"what": "the draft"})
        assert await task.explain() == "it waits for a person, who resolves it"
        assert list(swarm.tasks.stats().waiting) == [await task.explain()]
