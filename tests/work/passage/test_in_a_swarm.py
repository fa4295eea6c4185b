"""Handoffs, checkpoints, pipelines and contexts as agents use them."""

import asyncio

import pytest

from swarm import (
    AccessDenied,
    Agent,
    InvalidTransition,
    LimitExceeded,
    NoSuchAgent,
    NotFound,
    Policy,
    Restart,
    Swarm,
    SwarmConfig,
    Task,
    TaskOptions,
)
from swarm.errors import TaskError
from swarm.model import Backoff
from swarm.work import (
    Caller,
    Claim,
    Handoff,
    Handoffs,
    HandoffStatus,
    Pipeline,
    Stage,
    serves,
)
from tests.support.virtual_loop import virtual


class Sender(Agent):
    def __init__(self):
        self.outcomes = []

    async def pass_on(self, to: str, **options) -> str:
        async with self.swarm.tasks.claim("report") as claim:
            offer = await self.handoffs.offer(claim, to=to, **options)
            outcome = await offer.outcome()
            if outcome == "accepted":
                return outcome
            await claim.complete(f"kept: {outcome} {offer.reason}".strip())
            return outcome


class Receiver(Agent):
    def __init__(self, *, answer: str = "accept") -> None:
        self.answer = answer
        self.seen = []

    async def handoff(self, offer: Handoff) -> object:
        self.seen.append(offer.id)
        if self.answer == "reject":
            await offer.reject("too busy")
        elif self.answer == "raise":
            raise ValueError("boom")
        elif self.answer == "ignore":
            pass
        elif self.answer == "fail":
            await offer.accept()
            raise ValueError("boom")
        elif self.answer == "block":
            async with await offer.accept() as claim:
                await claim.complete("in a block")
        elif self.answer == "hang":
            await offer.accept(lease=5)
            await asyncio.sleep(1000)
        else:
            claim = await offer.accept()
            if self.answer == "explicit":
                await claim.complete("explicit")
            return f"{self.name} did: {offer.remaining}"
        return None

    async def count(self) -> int:
        return len(self.seen)


def receiver(answer):
    return lambda: Receiver(answer=answer)


@virtual
async def test_what_the_hook_accepts_is_completed_with_its_result():
    async with Swarm() as swarm:
        sender = await swarm.spawn(Sender, name="ada")
        await swarm.spawn(Receiver, name="bo")
        task = await swarm.tasks.submit("report")
        outcome = await sender.ask(Sender.pass_on, "bo", remaining="the rest")
        assert outcome == "accepted"
        assert await task.result() == "bo did: the rest"
        [offer] = await swarm.handoffs.find(task=task.id)
        assert (offer.status, offer.receiver) == (HandoffStatus.COMPLETED, "bo")


@virtual
async def test_the_hook_may_end_its_claim_itself():
    for answer, expected in (("explicit", "explicit"), ("block", "in a block")):
        async with Swarm() as swarm:
            sender = await swarm.spawn(Sender)
            await swarm.spawn(receiver(answer), name="bo")
            task = await swarm.tasks.submit("report")
            await sender.ask(Sender.pass_on, "bo")
            assert await task.result() == expected


@virtual
async def test_a_rejected_offer_and_one_that_makes_the_hook_fail_stay_with_the_sender():
    for answer, reason in (("reject", "too busy"), ("raise", "ValueError: boom")):
        async with Swarm() as swarm:
            sender = await swarm.spawn(Sender)
            await swarm.spawn(receiver(answer), name="bo")
            task = await swarm.tasks.submit("report")
            assert await sender.ask(Sender.pass_on, "bo") == "rejected"
            assert await task.result() == f"kept: rejected {reason}"


@virtual
async def test_an_offer_that_the_hook_leaves_open_expires():
    async with Swarm() as swarm:
        sender = await swarm.spawn(Sender)
        await swarm.spawn(receiver("ignore"), name="bo")
        task = await swarm.tasks.submit("report")
        assert await sender.ask(Sender.pass_on, "bo", timeout=7.0) == "expired"
        assert await task.result() == "kept: expired expired"


@virtual
async def test_what_the_hook_raises_after_it_accepted_fails_the_attempt():
    async with Swarm() as swarm:
        sender = await swarm.spawn(Sender)
        bo = await swarm.spawn(receiver("fail"), name="bo")
        task = await swarm.tasks.submit("report", max_retries=0)
        await sender.ask(Sender.pass_on, "bo")
        with pytest.raises(TaskError, match="boom"):
            await task.result()
        assert await bo.ask(Receiver.count) == 1  # the agent lives on


@virtual
async def test_the_death_of_the_receiver_leads_back_to_the_queue():
    """O8."""
    async with Swarm() as swarm:
        sender = await swarm.spawn(Sender)
        bo = await swarm.spawn(receiver("hang"), name="bo")
        task = await swarm.tasks.submit("report", backoff=Backoff(0.1, 0.1))
        await sender.ask(Sender.pass_on, "bo")
        await bo.kill()
        async with swarm.tasks.claim("report") as claim:
            assert claim.attempt == 2
            await claim.complete("rescued")
        assert await task.result() == "rescued"
        [offer] = await swarm.handoffs.find()
        assert offer.status == "failed"


@virtual
async def test_one_of_a_group_takes_the_task():
    """O4."""
    async with Swarm() as swarm:
        sender = await swarm.spawn(Sender, capabilities=["review"])
        group = [
            await swarm.spawn(Receiver, name=f"r{n}", capabilities=["review"])
            for n in range(3)
        ]
        task = await swarm.tasks.submit("report")
        await sender.ask(Sender.pass_on, "capability:review", remaining="x")
        assert (await task.result()).endswith(" did: x")
        [offer] = await swarm.handoffs.find()
        assert offer.receiver in {ref.name for ref in group}


@virtual
async def test_a_group_whose_members_decline_has_rejected():
    async with Swarm() as swarm:
        sender = await swarm.spawn(Sender, role="editor")
        for answer in ("reject", "raise"):
            await swarm.spawn(receiver(answer), role="editor")
        task = await swarm.tasks.submit("report")
        assert await sender.ask(Sender.pass_on, "role:editor") == "rejected"
        assert (await task.result()).startswith("kept: rejected")


@virtual
async def test_an_agent_that_comes_later_is_called_for_open_offers():
    async with Swarm() as swarm:
        await swarm.spawn(Sender, name="plain", capabilities=["review"])
        task = await swarm.tasks.submit("report")
        async with swarm.tasks.claim("report") as claim:
            offer = await swarm.handoffs.offer(claim, to="capability:review")
            await swarm.spawn(Receiver, name="late", capabilities=["review"])
            assert await offer.outcome() == "accepted"
        assert await task.result() == "late did: "


@virtual
async def test_an_unknown_receiver_is_refused_at_once():
    """O6."""
    async with Swarm() as swarm:
        sender = await swarm.spawn(Sender, name="ada")
        await swarm.tasks.submit("report", max_retries=0)
        with pytest.raises(NoSuchAgent, match="no living agent other than 'ada'"):
            await sender.ask(Sender.pass_on, "nobody")


@virtual
async def test_the_limit_of_hops_is_an_option():
    """O10."""
    async with Swarm(config=SwarmConfig(tasks=TaskOptions(hops=1))) as swarm:
        await swarm.spawn(receiver("hang"), name="bo")
        await swarm.spawn(Receiver, name="cy")
        await swarm.tasks.submit("report")
        claim = await swarm.tasks.claim("report")
        offer = await swarm.handoffs.offer(claim, to="bo")
        assert await offer.outcome() == "accepted"
        [taken] = swarm.handoffs._manager.tasks.claims.values()
        with pytest.raises(AccessDenied, match="claimed by 'bo'; 'owner' cannot"):
            await swarm.handoffs.offer(taken, to="cy")
        bo = Caller(taken.manager, taken.identity, None)
        handoffs = Handoffs(swarm.handoffs._manager, bo)
        with pytest.raises(LimitExceeded, match=r"limit is 1 \(TaskOptions.hops\)"):
            await handoffs.offer(taken, to="cy")


@virtual
async def test_a_lock_goes_along_to_the_turn_that_takes_the_task():
    class Editor(Agent):
        async def handoff(self, offer: Handoff) -> str:
            await offer.accept()
            (lease,) = offer.leases
            await asyncio.sleep(100)  # longer than the lease: it is renewed
            await self.shared.set("page", self.name, guard=lease)
            assert [held.owner for held in self.swarm.locks.held("page")] == ["bo"]
            return "edited"

    async with Swarm() as swarm:
        await swarm.spawn(Editor, name="bo")
        task = await swarm.tasks.submit("report")
        async with swarm.lock("page") as lease, swarm.tasks.claim("report") as claim:
            offer = await swarm.handoffs.offer(claim, to="bo", leases=[lease])
            assert await offer.outcome() == "accepted"
        assert await task.result() == "edited"
        assert swarm.locks.held("page") == ()  # given back at the end of the turn


# --- checkpoints ----------------------------------------------------------------------


class Counter(Agent):
    """Counts, and goes on where it was after a restart."""

    def __init__(self) -> None:
        self.n = 0

    async def started(self) -> None:
        if await self.checkpoints.latest() is not None:
            self.n = await self.checkpoints.restore()

    async def count(self) -> int:
        self.n += 1
        await self.checkpoints.save(self.n, f"counted to {self.n}")
        if self.n == 2:
            raise ValueError("boom")
        return self.n


@virtual
async def test_an_agent_goes_on_from_its_checkpoint_after_a_restart():
    async with Swarm() as swarm:
        ref = await swarm.spawn(Counter, restart=Restart())
        assert await ref.ask(Counter.count) == 1
        await ref.tell(Counter.count)
        assert await ref.ask(Counter.count) == 3


@virtual
async def test_what_each_receiver_of_a_chain_does_has_the_id_of_the_task():
    """O3: a served task, handed on twice, is one correlation to its end."""

    class Writer(Agent):
        @serves("report")
        async def work(self, claim: Claim) -> None:
            await self.shared.set(f"by.{self.name}", 1)
            await (await self.handoffs.offer(claim, to="bo")).outcome()

    class Passer(Agent):
        async def handoff(self, offer: Handoff) -> str | None:
            claim = await offer.accept()
            await self.shared.set(f"by.{self.name}", 1)
            if self.name == "cy":
                return "done"
            passed = await self.handoffs.offer(claim, to="cy")
            await passed.outcome()
            return None

    async with Swarm() as swarm:
        await swarm.spawn(Writer, name="ada")
        for name in ("bo", "cy"):
            await swarm.spawn(Passer, name=name)
        task = await swarm.tasks.submit("report")
        assert await task.result() == "done"
        ids = {
            event.source.agent_id: event.correlation_id
            for event in swarm.events.query("state.created")
            if event.payload.path.startswith("shared.by.")
        }
        assert ids == dict.fromkeys(("ada", "bo", "cy"), task.id)


@virtual
async def test_checkpoints_and_handoffs_go_with_their_task():
    async with Swarm(config=SwarmConfig(tasks=TaskOptions(keep_seconds=5))) as swarm:
        await swarm.spawn(Receiver, name="bo")
        task = await swarm.tasks.submit("report")
        claim = await swarm.tasks.claim("report")
        await swarm.checkpoints.save(1, task=claim)
        offer = await swarm.handoffs.offer(claim, to="bo")
        assert await offer.outcome() == "accepted"
        await task.result()
        await asyncio.sleep(1000)
        with pytest.raises(NotFound):
            await task.record()
        assert await swarm.handoffs.find() == []
        with pytest.raises(NotFound):
            await swarm.checkpoints.list(task.id)
        assert await swarm.state.keys("checkpoints.**") == []


# --- pipelines ------------------------------------------------------------------------


class Researcher(Agent):
    async def research(self, topic: str) -> list[str]:
        return [f"{topic} fly", f"{topic} sting"]


class Writer(Agent):
    async def write(self, facts: list[str]) -> str:
        return " and ".join(facts)


class BadWriter(Writer):
    async def write(self, facts: list[str]) -> str:
        raise ValueError(f"{self.name} cannot write")


FLOW = Pipeline(
    "content",
    [
        Stage("research", Researcher.research),
        Stage("write", Writer.write, agent="bo", after=["research"], max_retries=0),
    ],
)


@virtual
async def test_stages_are_asked_of_agents():
    async with Swarm() as swarm:
        await swarm.spawn(Researcher)
        await swarm.spawn(BadWriter, name="cy")
        await swarm.spawn(Writer, name="bo")
        run = await swarm.pipelines.start(FLOW, "bees", id="content-1")
        assert await run.result() == "bees fly and bees sting"
        assert run.stage("research").output == ["bees fly", "bees sting"]


@virtual
async def test_a_stage_waits_for_an_agent_that_can_do_it():
    async with Swarm() as swarm:
        run = await swarm.pipelines.start(FLOW, "bees", id="content-1")
        await asyncio.sleep(100)
        await run.refresh()
        assert [s.status for s in run.stages.values()] == ["pending", "pending"]
        await swarm.spawn(Researcher)
        await swarm.spawn(Writer, name="bo")
        assert await run.result() == "bees fly and bees sting"


@virtual
async def test_a_failed_run_goes_on_with_another_agent():
    async with Swarm() as swarm:
        await swarm.spawn(Researcher)
        await swarm.spawn(BadWriter, name="bo")
        run = await swarm.pipelines.start(FLOW, "bees", id="content-1")
        with pytest.raises(TaskError, match=r"stage 'write' failed.*bo cannot write"):
            await run.result()
        await swarm.spawn(Writer, name="bo", replace=True)
        again = await swarm.pipelines.resume("content-1")
        assert await again.result() == "bees fly and bees sting"


@virtual
async def test_an_agent_starts_a_pipeline_and_waits_for_it():
    class Editor(Agent):
        async def publish(self, topic: str) -> str:
            run = await self.swarm.pipelines.start(FLOW, topic)
            return await run.result()

    async with Swarm() as swarm:
        await swarm.spawn(Researcher)
        await swarm.spawn(Writer, name="bo")
        editor = await swarm.spawn(Editor)
        assert await editor.ask(Editor.publish, "ants") == "ants fly and ants sting"


# --- context --------------------------------------------------------------------------


class Reader(Agent):
    async def read(self, task_id: str, limit: int = 8000) -> str:
        return str(await self.context(task_id, limit=limit))


async def make_context(swarm):
    await swarm.spawn(Receiver, name="bo", capabilities=["review"])
    task = await swarm.tasks.submit("report.daily", {"topic": "bees"})
    other = await swarm.tasks.submit("report.other", {"topic": "ants"})
    claim = await swarm.tasks.claim("report.daily")
    busy = await swarm.tasks.claim("report.other")
    await busy.progress(40, "reading")
    await claim.step("outline", lambda: "three chapters")
    await claim.progress(10, "outlined")
    await swarm.checkpoints.save({"chapter": 1}, "first chapter", task=claim)
    return task, other


@virtual
async def test_the_place_of_an_agent_tells_its_status_work_and_resources():
    """The schema: `agents.<type>.<session>`; what it uses, the agent says itself."""

    class Counter(Agent):
        @serves("count", concurrency=2)
        async def count(self, claim: Claim) -> None:
            await self.state.set("resources", {"tokens_used": 7})
            await claim.progress(40, "counting", eta=12.0)
            await asyncio.sleep(10)

    async with Swarm() as swarm:
        await swarm.spawn(Counter, name="ada")
        tasks = [await swarm.tasks.submit("count") for _ in range(2)]
        await asyncio.sleep(3)
        told = await swarm.state.get("agents.counter.ada")
        assert told["status"] == "busy"
        assert told["current_task"]["id"] == tasks[0].id
        assert [task["id"] for task in told["task_queue"]] == [tasks[1].id]
        assert told["progress"]["current"] == 40
        assert told["progress"]["message"] == "counting"
        assert told["errors"] == {"count": 0, "last": None}
        assert told["resources"] == {"tokens_used": 7}


@virtual
async def test_a_context_tells_what_is_done_who_works_on_what_and_what_to_update():
    async with Swarm() as swarm:
        task, other = await make_context(swarm)
        reader = await swarm.spawn(Reader, name="ada")
        text = await reader.ask(Reader.read, task.id)
        for part in (
            f"{task.id} (report.daily), running, attempt 1",
            'payload: {"topic":"bees"}',
            "progress: 10 % outlined",
            "step outline: three chapters",
            "first chapter: {",
            f"owner: report.other {other.id}, 40 % reading",
            "bo: receiver, can review",
            "below agents.reader.ada",
        ):
            assert part in text


@virtual
async def test_a_task_is_named_by_its_handle_wherever_its_id_is_taken():
    """DESIGN 5: `await self.context(task)`."""

    class Holder(Agent):
        async def read(self, task: Task) -> str:
            return str(await self.context(task))

    async with Swarm() as swarm:
        task, _ = await make_context(swarm)
        holder = await swarm.spawn(Holder)
        assert task.id in await holder.ask(Holder.read, task)
        latest = await swarm.checkpoints.latest(task)
        assert latest is not None
        assert latest.description == "first chapter"
        assert await swarm.handoffs.find(task=task) == []


@virtual
async def test_a_context_is_bounded():
    async with Swarm() as swarm:
        task, _ = await make_context(swarm)
        for n in range(60):
            await swarm.tasks.submit("report.other", {"n": n})
            await swarm.tasks.claim("report.other")
        reader = await swarm.spawn(Reader)
        for limit in (500, 2000, 8000):
            text = await reader.ask(Reader.read, task.id, limit)
            assert len(text) <= limit
            assert "more)" in text
        with pytest.raises(ValueError, match="limit is 500 or more"):
            await reader.ask(Reader.read, task.id, 10)


@virtual
async def test_a_context_holds_only_what_the_agent_may_read():
    policy = Policy(
        [
            ("reader", "global.tasks.*", "r"),
            ("blind", "shared", "rw"),
        ]
    )
    async with Swarm(policy=policy) as swarm:
        task, _ = await make_context(swarm)
        reader = await swarm.spawn(Reader, name="ada", role="reader")
        text = await reader.ask(Reader.read, task.id)
        assert "step outline" in text
        assert "first chapter" not in text
        assert "can review" not in text
        blind = await swarm.spawn(Reader, name="cy", role="blind")
        with pytest.raises(AccessDenied):
            await blind.ask(Reader.read, task.id)


@virtual
async def test_a_context_of_no_task_is_not_found():
    async with Swarm() as swarm:
        with pytest.raises(NotFound):
            await swarm.context("t-9")


@virtual
async def test_a_handoff_is_decided_once_by_whoever_is_faster():
    async with Swarm() as swarm:
        bo = await swarm.spawn(receiver("ignore"), name="bo")
        await swarm.tasks.submit("report")
        async with swarm.tasks.claim("report") as claim:
            offer = await swarm.handoffs.offer(claim, to="bo")
            await offer.withdraw()
            with pytest.raises(InvalidTransition):
                await offer.withdraw()
        assert await bo.ask(Receiver.count) in (0, 1)
