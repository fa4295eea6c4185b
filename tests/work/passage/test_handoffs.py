"""Handoffs end to end, in this process and a round trip away."""

import asyncio

import pytest

from swarm.errors import (
    AccessDenied,
    Closed,
    ConflictError,
    InvalidTransition,
    LeaseLost,
    NoSuchAgent,
    NotFound,
    StaleClaim,
    StaleLease,
)
from swarm.model import Path
from swarm.ports import Write, correlated
from tests.support.work import Office
from tests.work.passage.desks import ADA, BO, CY, KERNELS, desks, only, quiet

pytestmark = pytest.mark.parametrize("kind", KERNELS)

HANDOFF_EVENTS = (
    "HandoffRequested",
    "HandoffAccepted",
    "HandoffRejected",
    "HandoffCompleted",
)


async def claimed(desk, identity=ADA, **options):
    await desk.tasks().submit("report", {"topic": "bees"}, **options)
    return await desk.tasks(identity).claim("report")


async def test_an_accepted_task_has_a_new_owner_and_the_old_claim_is_stale(kind):
    """O4, O9: it is completed by its new owner, and once."""
    async with desks(kind) as desk:
        claim = await claimed(desk)
        offer = await desk.handoffs(ADA).offer(
            claim, to="bo", completed={"facts": 3}, remaining="write", notes="be brief"
        )
        assert (offer.status, offer.to, offer.trail) == (
            "requested",
            "agent:bo",
            ("ada",),
        )
        received = await desk.handoffs(BO).get(offer.id)
        assert received.completed == {"facts": 3}
        assert (received.remaining, received.notes) == ("write", "be brief")
        assert received.payload == {"topic": "bees"}
        new = await received.accept()
        assert new.offer is received
        assert new.attempt == claim.attempt
        assert new.token > claim.token
        assert await offer.outcome() == "accepted"
        for late in (claim.progress(50), claim.complete("old"), claim.fail("old")):
            with pytest.raises((StaleClaim, InvalidTransition)):
                await late
        await new.complete("done")
        await offer.refresh()
        assert (offer.status, offer.receiver) == ("completed", "bo")
        for late in (new.complete("again"), claim.complete("old")):
            with pytest.raises((StaleClaim, InvalidTransition)):
                await late
        assert await desk.tasks().get(claim.task_id).result() == "done"
        assert [type(e).__name__ for e in desk.told(*HANDOFF_EVENTS)] == [
            "HandoffRequested",
            "HandoffAccepted",
            "HandoffCompleted",
        ]


async def test_what_is_handed_over_is_a_copy(kind):
    """O7."""
    async with desks(kind) as desk:
        claim = await claimed(desk)
        completed = {"facts": [1]}
        offer = await desk.handoffs(ADA).offer(claim, to="bo", completed=completed)
        completed["facts"].append(2)
        offer.completed["facts"].append(3)
        received = await desk.handoffs(BO).get(offer.id)
        assert received.completed == {"facts": [1]}
        received.completed["facts"].append(4)
        received.payload["topic"] = "ants"
        again = await desk.handoffs(BO).get(offer.id)
        assert (again.completed, again.payload) == ({"facts": [1]}, {"topic": "bees"})
        assert (await again.accept()).payload == {"topic": "bees"}


async def test_leaving_the_block_of_a_task_that_was_handed_on_does_nothing(kind):
    async with desks(kind) as desk:
        task = await desk.tasks().submit("report")
        async with desk.tasks(ADA).claim("report") as claim:
            offer = await desk.handoffs(ADA).offer(claim, to="bo")
            new = await (await desk.handoffs(BO).get(offer.id)).accept()
            assert await offer.outcome() == "accepted"
        assert (await task.record()).status == "running"
        await new.complete(1)
        assert await task.result() == 1


async def test_the_receivers_claim_renews_itself_and_ends_its_block(kind):
    async with desks(kind) as desk:
        claim = await claimed(desk)
        offer = await desk.handoffs(ADA).offer(claim, to="bo")
        async with await offer_of(desk, BO, offer).accept(lease=30) as new:
            for _ in range(8):
                await desk.pass_time(10)
            assert new.is_live
        await offer.refresh()
        assert offer.status == "completed"


def offer_of(desk, identity, offer):
    return _Later(desk.handoffs(identity), offer.id)


class _Later:
    """A handoff that is loaded when it is accepted or rejected."""

    def __init__(self, handoffs, handoff_id):
        self._handoffs, self._id = handoffs, handoff_id

    async def accept(self, **options):
        return await (await self._handoffs.get(self._id)).accept(**options)

    async def reject(self, reason):
        await (await self._handoffs.get(self._id)).reject(reason)


async def test_a_task_says_that_it_waits_for_a_handoff(kind):
    async with desks(kind) as desk:
        claim = await claimed(desk)
        task = desk.tasks().get(claim.task_id)
        offer = await desk.handoffs(ADA).offer(claim, to="bo")
        assert "; it waits for a handoff to agent 'bo'" in await task.explain()
        await offer_of(desk, BO, offer).reject("no")
        assert "handoff" not in await task.explain()
        await desk.handoffs(ADA).offer(claim, to="cy")
        assert "handoff to agent 'cy'" in await task.explain()


async def test_a_rejected_task_stays_with_its_sender(kind):
    """O5."""
    async with desks(kind) as desk:
        claim = await claimed(desk)
        offer = await desk.handoffs(ADA).offer(claim, to="bo")
        waiting = asyncio.ensure_future(offer.outcome())
        await quiet()
        assert not waiting.done()
        await offer_of(desk, BO, offer).reject("too busy")
        assert await waiting == "rejected"
        assert offer.reason == "too busy"
        await claim.complete("mine")


async def test_an_offer_expires_and_its_sender_is_told(kind):
    async with desks(kind) as desk:
        claim = await claimed(desk)
        offer = await desk.handoffs(ADA).offer(claim, to="bo", timeout=5)
        waiting = asyncio.ensure_future(offer.outcome())
        await quiet()
        await desk.pass_time(4.9)
        assert not waiting.done()
        await desk.pass_time(0.2)
        assert await waiting == "expired"
        with pytest.raises(InvalidTransition, match="is expired"):
            await offer_of(desk, BO, offer).accept()
        await claim.complete("mine")


async def test_a_withdrawn_offer_cannot_be_accepted(kind):
    async with desks(kind) as desk:
        claim = await claimed(desk)
        offer = await desk.handoffs(ADA).offer(claim, to="bo")
        await offer.withdraw("found the time")
        assert await offer.outcome() == "withdrawn"
        with pytest.raises(InvalidTransition, match="is withdrawn"):
            await offer_of(desk, BO, offer).accept()
        await desk.handoffs(ADA).offer(claim, to="bo")


async def test_a_second_offer_of_a_task_is_a_conflict(kind):
    """O1."""
    async with desks(kind) as desk:
        claim = await claimed(desk)
        await desk.handoffs(ADA).offer(claim, to="bo")
        with pytest.raises(ConflictError):
            await desk.handoffs(ADA).offer(claim, to="cy")


async def test_an_unknown_receiver_is_refused_at_once(kind):
    """O6."""
    async with desks(kind) as desk:
        claim = await claimed(desk)
        with pytest.raises(NoSuchAgent):
            await desk.handoffs(ADA).offer(claim, to="dora")
        await claim.complete("mine")


async def test_of_two_that_accept_at_the_same_time_one_gets_the_task(kind):
    """O4."""
    async with desks(kind, 2) as (here, there):
        claim = await claimed(here)
        offer = await here.handoffs(ADA).offer(claim, to="capability:review")
        found = await asyncio.gather(
            offer_of(here, BO, offer).accept(),
            offer_of(there, CY, offer).accept(),
            return_exceptions=True,
        )
        claims = [each for each in found if not isinstance(each, Exception)]
        errors = [each for each in found if isinstance(each, Exception)]
        assert len(claims) == 1
        assert isinstance(errors[0], InvalidTransition)
        await claims[0].complete("done")


async def test_the_task_returns_to_the_queue_when_its_receiver_is_silent(kind):
    """O8: and the handoff has failed in the same commit."""
    async with desks(kind, 2) as (here, there):
        claim = await claimed(here)
        offer = await here.handoffs(ADA).offer(claim, to="bo")
        dead = await offer_of(there, BO, offer).accept(lease=5)
        dead.lose("silent")
        there.office.manager.close()
        await here.pass_time(6)
        await here.pass_time(1)
        await offer.refresh()
        assert offer.status == "failed"
        async with here.tasks(CY).claim("report") as again:
            assert again.attempt == 2


async def test_an_offer_goes_with_the_claim_that_made_it(kind):
    """O8: the sender's death while the offer is pending."""
    async with desks(kind) as desk:
        claim = await claimed(desk)
        offer = await desk.handoffs(ADA).offer(claim, to="bo")
        await claim.release("going home")
        assert await offer.outcome() == "withdrawn"
        with pytest.raises(InvalidTransition, match="is withdrawn"):
            await offer_of(desk, BO, offer).accept()


async def test_a_stale_claim_offers_nothing(kind):
    """O2."""
    async with desks(kind) as desk:
        claim = await claimed(desk)
        await claim.complete("done")
        with pytest.raises((StaleClaim, InvalidTransition)):
            await desk.handoffs(ADA).offer(claim, to="bo")


async def test_all_of_a_handoff_has_one_correlation_id(kind):
    """O3."""
    async with desks(kind) as desk:
        with correlated("order-7"):
            claim = await claimed(desk)
            offer = await desk.handoffs(ADA).offer(claim, to="bo")
        assert offer.correlation_id == "order-7"
        new = await offer_of(desk, BO, offer).accept()
        await new.complete("done")
        ids = {
            commit.cause.correlation_id
            for commit in desk.commits
            if any(type(e).__name__ in HANDOFF_EVENTS for e in commit.events)
        }
        assert ids == {"order-7"}


async def test_a_rejected_offer_of_the_receiver_changes_no_correlation_id(kind):
    """O3: the handoff that led to the claim ends under the id it began with."""
    async with desks(kind) as desk:
        with correlated("order-7"):
            first = await desk.handoffs(ADA).offer(await claimed(desk), to="bo")
        new = await offer_of(desk, BO, first).accept()
        second = await desk.handoffs(BO).offer(new, to="cy")
        await offer_of(desk, CY, second).reject("no")
        await new.complete("done")
        ids = [
            commit.cause.correlation_id
            for commit in desk.commits
            for event in commit.events
            if getattr(event, "handoff_id", None) == first.id
        ]
        assert ids == ["order-7"] * 3


async def test_a_process_without_handoffs_keeps_the_correlation_id(kind):
    """O3, O8: it rescues the task, and has never looked at a handoff."""
    async with desks(kind) as desk:
        with correlated("order-7"):
            claim = await claimed(desk)
            offer = await desk.handoffs(ADA).offer(claim, to="bo")
        await offer_of(desk, BO, offer).accept(lease=5)
        desk.office.manager.freeze()  # and its handoffs with it
        other = Office(desk.office.memory, desk.office.clock, kind)
        await desk.pass_time(6)
        await quiet(100)
        ids = [
            commit.cause.correlation_id
            for commit in desk.commits
            for event in commit.events
            if type(event).__name__ in HANDOFF_EVENTS
        ]
        assert ids == ["order-7"] * 3
        await other.manager.finish()


async def test_without_a_cause_the_handoff_is_the_correlation_id(kind):
    async with desks(kind) as desk:
        offer = await desk.handoffs(ADA).offer(await claimed(desk), to="bo")
        assert offer.correlation_id == offer.id
        await offer_of(desk, BO, offer).reject("no")
        ids = {
            commit.cause.correlation_id
            for commit in desk.commits
            if any(type(e).__name__ in HANDOFF_EVENTS for e in commit.events)
        }
        assert ids == {offer.id}


async def test_the_receiver_sees_only_what_it_may_read(kind):
    async with desks(kind) as desk:
        claim = await claimed(desk)
        cp = await desk.checkpoints(ADA).save({"n": 1}, task=claim)
        completed = {"shared.facts": 1, "agents.worker.ada.notes": 2, "plan": 3}
        offer = await desk.handoffs(ADA).offer(
            claim, to="bo", completed=completed, checkpoint=cp
        )
        assert offer.checkpoint.state == {"n": 1}

        def may_read(path):
            return path.within(Path.of("shared")) or path.within(Path.of("handoffs"))

        seen = await desk.handoffs(BO, rights=only(may_read)).get(offer.id)
        assert seen.completed == {"shared.facts": 1, "plan": 3}
        assert seen.checkpoint is None
        assert seen.payload is None

        with pytest.raises(AccessDenied):
            await desk.handoffs(CY, rights=only(lambda _: False)).get(offer.id)


async def test_the_leases_that_are_named_go_along_in_the_same_commit(kind):
    """O4: the lock is held all the while, and the old token guards nothing more."""
    async with desks(kind, 2) as (here, there):
        claim = await claimed(here)
        async with here.locks.lock(ADA, "report.pdf") as lease:
            offer = await here.handoffs(ADA).offer(claim, to="bo", leases=[lease])
            old = lease.conditions()
            other = there.locks.lock(CY, "report.pdf")
            waiting = asyncio.ensure_future(_acquire(other))
            await quiet()
            received = await there.handoffs(BO).get(offer.id)
            new = await received.accept()
            (moved,) = received.leases
            assert moved.token > lease.token
            assert await offer.outcome() == "accepted"
            await quiet()
            assert not lease.is_live  # and the body under it goes on
            with pytest.raises(StaleLease):
                await here.kernel.commit(
                    ADA,
                    [Write(Path.of("shared", "x"), b"1")],
                    conditions=old,
                )
        await quiet()
        assert not waiting.done()
        await there.kernel.commit(
            BO, [Write(Path.of("shared", "x"), b"2")], conditions=moved.conditions()
        )
        await new.complete("done")
        await moved.release()
        assert (await waiting).token > moved.token


async def _acquire(lock):
    return await lock.acquire(timeout=50)


async def test_a_lease_that_is_lost_does_not_go_along(kind):
    async with desks(kind) as desk:
        claim = await claimed(desk)
        lease = await desk.locks.lock(ADA, "report.pdf").acquire()
        offer = await desk.handoffs(ADA).offer(claim, to="bo", leases=[lease])
        await lease.release()
        with pytest.raises(StaleLease):
            await offer_of(desk, BO, offer).accept()
        with pytest.raises(LeaseLost):
            await desk.handoffs(ADA).offer(claim, to="bo", leases=[lease])
        await claim.complete("mine")  # nothing has changed


async def test_permits_do_not_go_along(kind):
    async with desks(kind) as desk:
        claim = await claimed(desk)
        permit = await desk.locks.semaphore(ADA, "llm", 2).acquire()
        with pytest.raises(TypeError, match="leases of locks"):
            await desk.handoffs(ADA).offer(claim, to="bo", leases=[permit])
        await permit.release()


async def test_handoffs_are_found_by_task_and_status(kind):
    async with desks(kind) as desk:
        claim = await claimed(desk)
        first = await desk.handoffs(ADA).offer(claim, to="bo")
        await offer_of(desk, BO, first).reject("no")
        await desk.pass_time(1)
        second = await desk.handoffs(ADA).offer(claim, to="cy")
        handoffs = desk.handoffs(ADA)
        assert [h.id for h in await handoffs.find(task=claim)] == [second.id, first.id]
        assert [h.id for h in await handoffs.find(status="rejected")] == [first.id]
        assert await handoffs.find(task="t-9") == []
        assert await handoffs.find(limit=1) != []


async def test_bad_arguments_are_one_typed_error(kind):
    async with desks(kind) as desk:
        claim = await claimed(desk)
        handoffs = desk.handoffs(ADA)
        with pytest.raises(TypeError, match="by its claim"):
            await handoffs.offer("t-1", to="bo")
        with pytest.raises(ValueError, match="timeout is from"):
            await handoffs.offer(claim, to="bo", timeout=0)
        with pytest.raises(TypeError, match="notes is text"):
            await handoffs.offer(claim, to="bo", notes=3)
        with pytest.raises(NotFound, match="no checkpoint 4"):
            await handoffs.offer(claim, to="bo", checkpoint=4)
        with pytest.raises(TypeError, match="leases is a list"):
            await handoffs.offer(claim, to="bo", leases=3)
        with pytest.raises(TypeError, match="id of a handoff is text"):
            await handoffs.get(3)
        with pytest.raises(NotFound, match="no handoff h-9"):
            await handoffs.get("h-9")
        offer = await handoffs.offer(claim, to="bo")
        with pytest.raises(ValueError, match="lease is from"):
            await offer.accept(lease=-1)


async def test_the_wait_for_an_outcome_ends_with_the_swarm(kind):
    async with desks(kind) as desk:
        offer = await desk.handoffs(ADA).offer(await claimed(desk), to="bo")
        waiting = asyncio.ensure_future(offer.outcome())
        await quiet()
        desk.office.manager.close()
        desk.close()
        with pytest.raises(Closed):
            await waiting


async def test_a_cancelled_wait_leaves_nothing_behind(kind):
    async with desks(kind) as desk:
        offer = await desk.handoffs(ADA).offer(await claimed(desk), to="bo")
        for turns in range(8):
            waiting = asyncio.ensure_future(offer.outcome())
            await quiet(turns)
            waiting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await waiting
            assert desk.handoff_manager.news._waiting == {}
        await offer_of(desk, BO, offer).reject("no")
        assert await offer.outcome() == "rejected"


async def test_a_cancelled_acceptance_never_keeps_the_task(kind):
    """G3: whatever the moment, the task is claimed by a live claim or by none."""
    for turns in range(10):
        async with desks(kind) as desk:
            claim = await claimed(desk)
            offer = await desk.handoffs(ADA).offer(claim, to="bo")
            received = await desk.handoffs(BO).get(offer.id)
            accepting = asyncio.ensure_future(received.accept())
            await quiet(turns)
            accepting.cancel()
            await asyncio.gather(accepting, return_exceptions=True)
            await quiet(40)
            await offer.refresh()
            if accepting.cancelled():
                assert offer.status in ("requested", "failed")
                record = await desk.tasks(ADA).manager.find(claim.task_id)
                assert (record.claim is not None) == (offer.status == "requested")
            else:
                assert accepting.result().is_live


async def test_offers_of_another_process_expire_and_are_seen_here(kind):
    async with desks(kind, 2) as (here, there):
        offered = []
        there.handoff_manager.on_change = offered.append
        offer = await here.handoffs(ADA).offer(await claimed(here), to="bo", timeout=5)
        await quiet()
        assert [record.id for record in offered] == [offer.id]
        assert [r.id for r in there.handoff_manager.open_offers()] == [offer.id]
        here.office.manager.close()  # nothing of this process will expire it
        await there.pass_time(6)
        assert (await there.handoffs(ADA).get(offer.id)).status == "expired"
        assert there.handoff_manager.open_offers() == []
