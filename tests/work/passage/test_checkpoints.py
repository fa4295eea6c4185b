"""Checkpoints end to end, in this process and a round trip away."""

from datetime import timedelta

import pytest

from swarm.errors import (
    AccessDenied,
    ConflictError,
    InvalidValue,
    LimitExceeded,
    NotFound,
    SchemaVersionError,
    StaleClaim,
    StateCorruption,
)
from swarm.model import EPOCH, OWNER, Path
from tests.work.passage.desks import ADA, BO, KERNELS, desks, only

pytestmark = pytest.mark.parametrize("kind", KERNELS)


async def claimed(desk, identity=ADA, **options):
    await desk.tasks().submit("report", **options)
    return await desk.tasks(identity).claim("report")


async def test_the_next_worker_goes_on_from_the_latest_checkpoint(kind):
    async with desks(kind) as desk:
        claim = await claimed(desk)
        first = await desk.checkpoints(ADA).save({"n": 1}, "begun", task=claim)
        second = await desk.checkpoints(ADA).save({"n": 2}, "half done", task=claim)
        assert (first.seq, second.seq, second.parent) == (1, 2, 1)
        await claim.release()
        again = await desk.tasks(BO).claim("report")
        latest = await desk.checkpoints(BO).latest(task=again)
        assert (latest.state, latest.description) == ({"n": 2}, "half done")
        assert latest.agent == "ada"
        third = await desk.checkpoints(BO).save({"n": 3}, task=again)
        assert third.seq == 3
        listed = await desk.checkpoints(BO).list(task=claim.task_id)
        assert [c.seq for c in listed] == [1, 2, 3]


async def test_a_stale_worker_never_becomes_the_latest(kind):
    """C2."""
    async with desks(kind, 2) as (here, there):
        claim = await claimed(here)
        await here.checkpoints(ADA).save("mine", task=claim)
        here.office.manager.close()  # this process is frozen past its lease
        await there.pass_time(31)
        await there.pass_time(10)
        again = await there.tasks(BO).claim("report")
        await there.checkpoints(BO).save("yours", task=again)
        claim._over = None  # it has heard of nothing
        with pytest.raises(StaleClaim):
            await here.checkpoints(ADA).save("late", task=claim)
        with pytest.raises(StaleClaim):
            await here.checkpoints(ADA).prune(1, task=claim)
        latest = await there.checkpoints(BO).latest(task=again)
        assert latest.state == "yours"


async def test_an_agent_finds_its_own_series_again(kind):
    async with desks(kind) as desk:
        before = desk.checkpoints(ADA)
        assert await before.latest() is None
        await before.save({"step": 3}, "after outline")
        after = desk.checkpoints(ADA)  # of a new instance of the same name
        assert (await after.latest()).state == {"step": 3}
        assert await after.restore() == {"step": 3}
        assert await desk.checkpoints(BO).latest() is None


async def test_a_second_writer_of_one_series_is_detected(kind):
    """C6."""
    async with desks(kind, 2) as (here, there):
        mine, other = here.checkpoints(ADA), there.checkpoints(ADA)
        first = await mine.save(1, parent=0)
        await other.save(2, parent=first.seq)
        with pytest.raises(ConflictError):
            await mine.save(3, parent=first.seq)


async def test_a_checkpoint_commits_with_the_step_it_stands_for(kind):
    """C5: both are there, or neither is."""
    async with desks(kind) as desk:
        claim = await claimed(desk)
        mine = desk.checkpoints(ADA)

        async def outline(fails):
            await mine.save({"fails": fails}, "after outline", task=claim)
            assert await mine.latest(task=claim) is None
            if fails:
                raise ValueError("boom")
            return "text"

        with pytest.raises(ValueError, match="boom"):
            await claim.step("outline", outline, True)
        assert await mine.latest(task=claim) is None
        before = len(desk.commits)
        assert await claim.step("outline", outline, False) == "text"
        assert len(desk.commits) == before + 1
        latest = await mine.latest(task=claim)
        assert (latest.seq, latest.step) == (1, "outline")
        assert await claim.step("outline", outline, False) == "text"
        assert len(await mine.list(task=claim)) == 1


async def test_what_is_restored_is_a_copy(kind):
    """C3, C4."""
    async with desks(kind) as desk:
        mine = desk.checkpoints(ADA)
        state = {"list": [1]}
        saved = await mine.save(state)
        state["list"].append(2)
        restored = await mine.restore()
        restored["list"].append(3)
        assert saved.state == {"list": [1]}
        assert await mine.restore(1) == {"list": [1]}
        with pytest.raises(NotFound):
            await mine.restore(2)


async def test_a_damaged_checkpoint_is_not_restored(kind):
    """C3."""
    async with desks(kind) as desk:
        mine = desk.checkpoints(ADA)
        await mine.save("one")
        await mine.save("two")
        path = Path.of("checkpoints", "agent:ada", "2")
        body = (await desk.kernel.find(path)).json.replace(b'"two"', b'"2"')
        await desk.kernel.put(OWNER, path, body)
        with pytest.raises(StateCorruption):
            await mine.restore(2)
        assert await mine.restore() == "one"


async def test_old_states_are_migrated(kind):
    """C8."""
    async with desks(kind) as desk:
        old = desk.checkpoints(ADA).versioned(1)
        await old.save({"title": "bees"})
        new = desk.checkpoints(ADA).versioned(2, {1: lambda s: {"name": s["title"]}})
        assert await new.restore() == {"name": "bees"}
        with pytest.raises(SchemaVersionError):
            await desk.checkpoints(ADA).versioned(2).restore()
        with pytest.raises(ValueError, match="from each version to the next"):
            desk.checkpoints(ADA).versioned(3, {1: dict})
        await desk.checkpoints(BO).save({"n": 1})  # without a version: version 0
        bo = desk.checkpoints(BO).versioned(1, {0: lambda s: {**s, "m": 2}})
        assert await bo.restore() == {"n": 1, "m": 2}


async def test_a_series_keeps_its_newest(kind):
    """C7."""
    async with desks(kind) as desk:
        mine = desk.checkpoints(ADA)
        for n in range(5):
            await mine.save(n, keep=3)
        assert [c.seq for c in await mine.list()] == [3, 4, 5]
        assert await mine.prune(1) == 2
        assert [c.seq for c in await mine.list()] == [5]
        assert (await mine.save(9)).seq == 6


async def test_a_checkpoint_that_is_handed_on_is_kept(kind):
    """C7: until the handoff is over."""
    async with desks(kind) as desk:
        claim = await claimed(desk)
        mine = desk.checkpoints(ADA)
        first = await mine.save("one", task=claim)
        await mine.save("two", task=claim)
        offer = await desk.handoffs(ADA).offer(claim, to="bo", checkpoint=first)
        await mine.prune(1, task=claim)
        assert [c.seq for c in await mine.list(task=claim)] == [1, 2]
        seen = await desk.handoffs(BO).get(offer.id)
        assert seen.checkpoint.state == "one"
        await offer.withdraw()
        await mine.prune(1, task=claim)
        assert [c.seq for c in await mine.list(task=claim)] == [2]


async def test_others_read_a_task_s_checkpoints_only_by_right(kind):
    async with desks(kind) as desk:
        claim = await claimed(desk)
        await desk.checkpoints(ADA).save("one", task=claim)
        blind = desk.checkpoints(BO, rights=only(lambda _: False))
        for reading in (
            blind.latest(task=claim),
            blind.restore(task=claim),
            blind.list(task=claim),
        ):
            with pytest.raises(AccessDenied):
                await reading
        await blind.save("own")
        assert await blind.restore() == "own"


async def test_the_series_of_an_unknown_task_is_not_found(kind):
    async with desks(kind) as desk:
        mine = desk.checkpoints(ADA)
        for reading in (mine.latest("t-9"), mine.restore(task="t-9"), mine.list("t-9")):
            with pytest.raises(NotFound, match="no task 't-9'"):
                await reading
        claim = await claimed(desk)
        assert await mine.latest(claim) is None
        assert await mine.list(claim) == []


async def test_the_time_of_a_checkpoint_is_an_aware_datetime(kind):
    async with desks(kind) as desk:
        claim = await claimed(desk)
        saved = await desk.checkpoints(ADA).save({"n": [0] * 99}, "begun", task=claim)
        assert saved.at.utcoffset() == timedelta(0)
        assert (await desk.checkpoints(ADA).latest(claim)).at == saved.at
        path = Path.of("checkpoints", claim.task_id, "1")
        stored = (await desk.kernel.find(path)).value
        assert stored["at"] == (saved.at - EPOCH) // timedelta(microseconds=1)
        assert repr(saved) == f"<Checkpoint 1 of task {claim.task_id}, 'begun'>"


async def test_bad_arguments_are_one_typed_error(kind):
    async with desks(kind) as desk:
        mine = desk.checkpoints(ADA)
        with pytest.raises(InvalidValue):
            await mine.save(object())
        with pytest.raises(LimitExceeded):
            await mine.save("x" * 2_000_000)
        with pytest.raises(TypeError, match="description is text"):
            await mine.save(1, 2)
        with pytest.raises(TypeError, match="needs its claim"):
            await mine.save(1, task="t-1")
        with pytest.raises(TypeError, match="needs its claim"):
            await mine.prune(task="t-1")
        with pytest.raises(ValueError, match="keep is 1 or more"):
            await mine.save(1, keep=0)
        with pytest.raises(ValueError, match="parent is 0 or more"):
            await mine.save(1, parent=-1)
        with pytest.raises(TypeError, match="its id, claim or handle"):
            await mine.latest(task=7)
        with pytest.raises(ValueError, match="1 or more"):
            await mine.restore(0)
