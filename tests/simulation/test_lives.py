"""Spawn, stop, restart and close under many schedules, cancellations and crashes."""

import asyncio
from typing import Any

import pytest

from swarm import (
    AgentDied,
    AskTimeout,
    Closed,
    NameTaken,
    NoSuchAgent,
    Ref,
    Swarm,
)
from swarm.agents import Backoff, Restart, RestartGroup, Supervisor
from swarm.agents._registry import plan_departure
from swarm.ports import Plan
from swarm.system._coordinator import Coordinator, Phase
from swarm.testing import Faults, Sim, StuckError, sweep_cancel
from tests.simulation.actors import Clerk, Diary
from tests.simulation.oracle import breaks, holds, nothing_left, quietly, slow

GONE = (AgentDied, NoSuchAgent, Closed, asyncio.CancelledError, NameTaken)
WRONG = (AssertionError, StuckError, ExceptionGroup, AskTimeout)
FAST = Restart("permanent", max=50, backoff=Backoff(0.1, 0.1))


# --- supervision ----------------------------------------------------------------------


async def supervised(sim: Sim) -> None:
    """A team is asked and told while its members fail and crash."""
    diary = Diary()
    async with Swarm() as swarm:
        team = swarm.group("team", strategy="one_for_all", max=50)
        names = ("ada", "bo")
        refs = [
            await team.spawn(Clerk, diary, name=name, restart=FAST) for name in names
        ]

        async def use(ref: Ref[Clerk], name: str) -> None:
            outcome = await quietly(ref.ask(Clerk.job, name))
            assert outcome == name or isinstance(outcome, AgentDied), outcome

        await refs[0].tell(Clerk.fail, "told")
        await asyncio.gather(*(use(r, f"{r.name}{n}") for r in refs for n in (1, 2)))
        await asyncio.sleep(200)
        for ref in refs:  # restarted, and at work again
            outcome = await quietly(ref.ask(Clerk.ping))
            assert outcome == "pong" or isinstance(outcome, AgentDied), outcome
            await asyncio.sleep(200)
            assert ref.status == "idle"
            assert ref._cell.restarts >= 1
        documents = await swarm.state.keys("global.registry.*")
        assert documents == ["global.registry.ada", "global.registry.bo"]
    assert await quietly(refs[0].ask(Clerk.ping)) is not None
    nothing_left(swarm)


def test_a_team_that_fails_is_restarted_and_every_ask_is_decided():
    """Q1, Q2: one_for_all, with a failing tell."""
    holds(supervised, schedules=80)


def test_a_team_that_crashes_anywhere_is_restarted_and_every_ask_is_decided():
    """Q1, Q2: the same with crashes at every loop turn of every turn."""
    holds(supervised, schedules=100, faults=Faults(crash=True, most=3))


@slow
def test_a_team_that_crashes_is_restarted_in_many_schedules():
    """Q1, Q2: the same for longer."""
    faults = Faults(crash=True, jump=True, most=4)
    holds(supervised, schedules=1_500, faults=faults, seed=1)


def test_a_supervisor_that_forgets_a_member_is_found(monkeypatch):
    """One_for_all: those beside it are restarted too."""
    failed = RestartGroup.member_failed

    def alone(self, member, error, delay=None):
        self.strategy = "one_for_one"
        failed(self, member, error, delay)

    monkeypatch.setattr(RestartGroup, "member_failed", alone)
    breaks(supervised, WRONG)


def test_a_restart_that_never_comes_is_found(monkeypatch):
    """The agent stays in error, and its askers wait in vain."""

    async def nothing(self, cell, reason):
        return

    monkeypatch.setattr(Supervisor, "revive", nothing)
    breaks(supervised, (*WRONG, AskTimeout))


async def redelivered(sim: Sim) -> None:
    """Told messages outlive crashes when the agent's Restart says so."""
    diary = Diary()
    async with Swarm() as swarm:
        restart = Restart("permanent", max=50, in_hand="redeliver")
        clerk = await swarm.spawn(Clerk, diary, name="clerk", restart=restart)
        for number in range(3):
            await clerk.tell(Clerk.job, number)
        await asyncio.sleep(300)
        assert await clerk.ask(Clerk.ping) == "pong"
    assert list(dict.fromkeys(diary.ended)) == [0, 1, 2]
    assert len(diary.ended) == 3


def test_what_is_in_hand_at_a_crash_is_delivered_again():
    """Q: in order, and what was completed is not done twice."""
    holds(redelivered, schedules=80, faults=Faults(crash=True, most=3))


def test_a_message_lost_at_a_crash_is_found(monkeypatch):
    """The check can fail."""
    monkeypatch.setattr("swarm.agents.Mailbox.put_back", lambda self, letter: None)
    breaks(redelivered, WRONG, faults=Faults(crash=True))


# --- spawn, stop, close ---------------------------------------------------------------


async def races(sim: Sim, sweep: bool = False) -> None:
    """Spawn, replace, stop, kill, ask and close, all at once."""
    diary = Diary()
    swarm = await Swarm.open()

    async def spawn(name: str, **options: Any) -> Ref[Clerk]:
        return await swarm.spawn(Clerk, diary, name=name, **options)

    clerk = await spawn("clerk")
    other = await spawn("other")
    await other.ask(Clerk.ping)
    acts = {
        "spawn": spawn("new"),
        "replace": spawn("clerk", replace=True),
        "stop": other.stop(),
        "ask": clerk.ask(Clerk.job, "a"),
        "ask too": other.ask(Clerk.job, "b"),
        "again": spawn("new"),
        "kill": _kill(clerk),
    }
    tasks = {name: asyncio.create_task(act, name=name) for name, act in acts.items()}
    for _ in range(0 if sweep else sim.rng.choice(range(12))):
        await sim.checkpoint()
    if sweep:
        await asyncio.gather(*tasks.values(), return_exceptions=True)
    closing = asyncio.create_task(swarm.close(), name="close")
    outcomes = {name: await quietly(task) for name, task in tasks.items()}
    for name, outcome in outcomes.items():
        good = outcome is None or isinstance(outcome, str | Ref)
        assert good or isinstance(outcome, GONE), (name, outcome)
    await closing
    assert diary.inside == 0
    nothing_left(swarm)
    assert not any(
        ref.status != "offline" for ref in outcomes.values() if isinstance(ref, Ref)
    )


async def _kill(ref: Ref[Clerk]) -> None:
    await ref.kill()


def test_spawn_stop_kill_ask_and_close_may_race():
    """G12, Q1, Q11: each has one outcome, and nothing is left."""
    holds(races, schedules=100)


def test_spawn_stop_kill_and_ask_may_be_cancelled_anywhere():
    """G3, G12: the sweep."""

    async def program(sim: Sim) -> None:
        await races(sim, sweep=True)

    tasks = ["spawn", "replace", "stop", "ask", "ask too", "again", "kill"]
    report = sweep_cancel(program, tasks=tasks)
    report.check()
    assert report.schedules > 40


@slow
def test_spawn_stop_kill_ask_and_close_may_race_in_many_schedules():
    """G12: the same for longer."""
    holds(races, schedules=3_000, seed=1)


async def aborted(sim: Sim) -> None:
    """The body raises while its agents are at work."""
    diary = Diary()
    tasks = []
    with pytest.raises(ZeroDivisionError):
        async with Swarm() as swarm:
            names = ("ada", "bo")
            refs = [await swarm.spawn(Clerk, diary, name=name) for name in names]
            for ref in refs:
                await ref.tell(Clerk.job, ref.name)
                tasks.append(asyncio.create_task(ref.ask(Clerk.job, "asked")))
            for _ in range(sim.rng.choice(range(5))):
                await sim.checkpoint()
            raise ZeroDivisionError
    for task in tasks:
        outcome = await quietly(task)
        assert outcome == "asked" or isinstance(outcome, Closed), outcome
    assert diary.inside == 0
    nothing_left(swarm)


def test_a_body_that_raises_leaves_nothing():
    """G12: agents are cancelled, askers are told, every task has ended."""
    holds(aborted, schedules=80)


def test_a_close_that_leaves_a_task_is_found(monkeypatch):
    """G12: no task without an owner."""

    async def hasty(self):
        self._end_all()
        self.deadlines.close()
        await self.kernel.close()
        self.phase = Phase.CLOSED

    monkeypatch.setattr(Coordinator, "_finish", hasty)
    breaks(aborted, WRONG)


async def registered(sim: Sim) -> None:
    """Q11: the registry in the tree tells what there is, at every revision."""
    async with Swarm() as swarm:
        seen: list[tuple[str, str]] = []
        entered = asyncio.Event()

        async def watch() -> None:
            async with swarm.state.watch("global.registry.*") as watch:
                entered.set()
                async for change in watch:
                    seen.append((str(change.kind), change.path))

        watcher = asyncio.create_task(watch())
        await entered.wait()

        async def life(name: str) -> None:
            for _ in range(2):
                ref = await swarm.spawn(Clerk, Diary(), name=name)
                documents = await swarm.state.keys("global.registry.*")
                assert f"global.registry.{name}" in documents
                await ref.ask(Clerk.ping)
                await ref.stop()
                documents = await swarm.state.keys("global.registry.*")
                assert f"global.registry.{name}" not in documents

        await asyncio.gather(life("ada"), life("bo"))
    await watcher
    for name in ("ada", "bo"):
        mine = [kind for kind, path in seen if path.endswith(name)]
        kinds = [kind.rpartition(".")[2].lower() for kind in mine]
        assert kinds == ["created", "deleted"] * 2, kinds
    nothing_left(swarm)


def test_the_registry_in_the_tree_follows_every_life():
    """Q11: there when spawn returns, gone when stop returns."""
    holds(registered, schedules=60)


def test_a_departure_that_is_not_committed_is_found(monkeypatch):
    """The check can fail."""
    plan = plan_departure

    def silent(view, cell, table):
        return Plan() if cell.name == "bo" else plan(view, cell, table)

    monkeypatch.setattr("swarm.agents._supervisor.plan_departure", silent)
    breaks(registered, WRONG)


def test_a_departure_that_a_cancellation_stops_half_way_is_found(monkeypatch):
    """G15: a commit in clean-up is made whatever is cancelled meanwhile."""
    start = Coordinator.start

    def plain(self, coroutine, name, *, essential=False, last=False, ended=None):
        return start(self, coroutine, name, essential=False, ended=ended)

    monkeypatch.setattr(Coordinator, "start", plain)
    breaks(departs, WRONG)


async def departs(sim: Sim) -> None:
    """The document of an agent is gone at the end, however it ended."""
    swarm = await Swarm.open()
    names = ("ada", "bo", "cy")
    refs = [await swarm.spawn(Clerk, Diary(), name=name) for name in names]
    for ref in refs[:2]:
        await ref.ask(Clerk.ping)
    stopping = asyncio.create_task(refs[0].stop())
    await sim.checkpoint()
    stopping.cancel()
    refs[1].kill()
    await quietly(stopping)
    await swarm.close()
    log = swarm._coordinator.kernel._log
    commits = [log.entry(number) for number in range(log.first, log.end)]
    documents = [document for commit in commits for document in commit.documents]
    gone = [document.path.text for document in documents if document.is_deleted]
    assert sorted(gone) == [f"global.registry.{name}" for name in names]
    nothing_left(swarm)


async def ghosts(sim: Sim) -> None:
    """Agents are killed while they are announced, or while their status is written."""
    async with Swarm() as swarm:

        async def spawned() -> None:
            await quietly(swarm.spawn(Clerk, Diary(), name="young"))

        async def failing() -> None:
            ref = await swarm.spawn(Clerk, Diary(), name="sick", restart=FAST)
            await quietly(ref.tell(Clerk.fail, "told"))

        async def reaper() -> None:
            for _ in range(sim.rng.choice(range(4, 14))):
                await sim.checkpoint()
            for ref in swarm.agents:
                dying = ref.kill()
                if sim.rng.random() < 0.5:
                    await quietly(swarm.spawn(Clerk, Diary(), name=ref.name))
                await dying

        await asyncio.gather(spawned(), failing(), reaper())
        await asyncio.sleep(10)
        alive = sorted(f"global.registry.{ref.name}" for ref in swarm.agents)
        assert await swarm.state.keys("global.registry.*") == alive
    nothing_left(swarm)


def test_no_document_outlives_its_agent():
    """Q11: a late commit does not bring back what is gone."""
    holds(ghosts, schedules=100)


def test_every_departure_is_committed_whatever_is_cancelled():
    """G15: stop cancelled, kill not awaited, close: each deletes one document."""
    holds(departs, schedules=70)
