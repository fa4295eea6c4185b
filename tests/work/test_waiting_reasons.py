"""Counting why tasks are pending asks once for all tasks that are alike."""

from swarm import Swarm
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
        alone = [why(r, now, servers, lambda _: False, brief=True) for r in records]
        assert len(counts) >= 4
        assert counts == {reason: alone.count(reason) for reason in alone}
        assert sum(manager.waiting_reasons(2).values()) == 2


@virtual
async def test_a_task_for_a_person_waits_for_one():
    async with Swarm() as swarm:
        task = await swarm.tasks.submit("human.approve", {"what": "the draft"})
        assert await task.explain() == "it waits for a person, who resolves it"
        assert list(swarm.tasks.stats().waiting) == [await task.explain()]
