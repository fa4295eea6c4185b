"""What happens to failures that no asker receives."""

import asyncio
import logging

import pytest
from hypothesis import given
from hypothesis import strategies as st

from swarm import Agent, AgentDied, Backoff, ConfigMismatch, Ref, Restart, Swarm
from swarm.agents._lifecycle import RestartDecision, admit, affected, decide
from tests.support.actors import Worker
from tests.support.virtual_loop import turns, virtual

FAST = Backoff(0.1, 0.1)


@pytest.fixture(autouse=True)
def quiet(caplog):
    """Failures are logged; the tests read them elsewhere."""
    caplog.set_level(logging.CRITICAL, "swarm")


class Fragile(Agent):
    """Counts its lives in a list all its lives share."""

    def __init__(self, lives: list[str], label: str = "x") -> None:
        self.lives = lives
        self.label = label
        self.handled = 0
        lives.append(label)

    async def work(self) -> int:
        self.handled += 1
        return self.handled

    async def fail(self, error: type[Exception] = ValueError) -> None:
        raise error("tell")

    async def fail_once(self, tried: list[int]) -> str:
        tried.append(1)
        if len(tried) == 1:
            raise ValueError("first try")
        return "done"

    async def slow(self) -> str:
        await asyncio.sleep(1)
        return "slow"


@virtual
async def test_an_unsupervised_failure_ends_the_block():
    """DESIGN 5: the body is cancelled, the error is in the group."""
    reached = False
    with pytest.raises(ExceptionGroup) as caught:
        async with Swarm() as swarm:
            ref = await swarm.spawn(Fragile, [])
            await ref.tell(Fragile.fail)
            await asyncio.sleep(100)
            reached = True
    assert not reached
    (error,) = caught.value.exceptions
    assert isinstance(error, ValueError)
    assert "in Fragile.fail of agent 'fragile-1'" in error.__notes__


@virtual
async def test_a_failed_agent_is_built_anew_and_keeps_its_mailbox():
    """Supervision: new fields, same ref, queued messages survive."""
    async with Swarm() as swarm:
        lives: list[str] = []
        restart = Restart(backoff=FAST)
        ref = await swarm.spawn(Fragile, lives, name="ada", restart=restart)
        assert await ref.ask(Fragile.work) == 1
        await ref.tell(Fragile.fail)
        asks = [asyncio.ensure_future(ref.ask(Fragile.work)) for _ in range(3)]
        await turns(3)
        assert ref.status == "error"
        assert (await swarm.state.get("global.registry.ada"))["status"] == "error"
        assert await asyncio.gather(*asks) == [1, 2, 3]
        assert lives == ["x", "x"]
        info = swarm.agents.info("ada")
        assert (info.restarts, info.failures) == (1, 1)
        await turns(3)
        assert (await swarm.state.get("global.registry.ada"))["status"] == "idle"


@virtual
async def test_the_message_in_hand_fails_or_is_delivered_again():
    """Restart.in_hand: as declared."""
    async with Swarm() as swarm:
        for in_hand, tries in (("fail", 1), ("redeliver", 2)):
            restart = Restart(backoff=FAST, in_hand=in_hand)
            ref = await swarm.spawn(Fragile, [], restart=restart)
            tried: list[int] = []
            await ref.tell(Fragile.fail_once, tried)
            await ref.ask(Fragile.work)
            assert len(tried) == tries


@virtual
async def test_too_many_restarts_escalate():
    """Restart.max within the window: one more ends the swarm."""
    lives: list[str] = []
    with pytest.raises(ExceptionGroup):
        async with Swarm() as swarm:
            restart = Restart(max=2, within=60, backoff=FAST)
            ref = await swarm.spawn(Fragile, lives, restart=restart)
            for _ in range(4):
                await ref.tell(Fragile.fail)
            await asyncio.sleep(100)
    assert len(lives) == 3
    lives.clear()
    async with Swarm() as swarm:
        restart = Restart(max=2, within=5, backoff=FAST)
        ref = await swarm.spawn(Fragile, lives, restart=restart)
        for _ in range(4):
            await ref.tell(Fragile.fail)
            await asyncio.sleep(4)
    assert len(lives) == 5


@virtual
async def test_only_the_errors_named_are_worth_a_restart():
    """Restart.on: any other escalates at once."""
    with pytest.raises(ExceptionGroup) as caught:
        async with Swarm() as swarm:
            restart = Restart(on=(KeyError,), backoff=FAST)
            ref = await swarm.spawn(Fragile, [], restart=restart)
            await ref.tell(Fragile.fail, KeyError)
            assert await ref.ask(Fragile.work) == 1
            await ref.tell(Fragile.fail, OSError)
            await asyncio.sleep(10)
    assert isinstance(caught.value.exceptions[0], OSError)


@virtual
async def test_a_temporary_agent_ends_and_its_failure_stays_visible():
    """Nothing is swallowed: counted, in the registry, in explain."""
    async with Swarm() as swarm:
        ref = await swarm.spawn(Fragile, [], name="tmp", restart=Restart("temporary"))
        await ref.tell(Fragile.fail)
        await asyncio.sleep(1)
        assert ref.status == "offline"
        (failure,) = swarm.agents.failures
        assert (failure.agent, failure.decision) == ("tmp", "stop")
        assert "'tmp': ValueError('tell') -> stop" in swarm.explain()


@virtual
async def test_a_failing_run_or_restart_counts_like_any_failure():
    """Supervision: run(), the factory and `started` fail the agent too."""

    class Runner(Agent):
        def __init__(self, plan: list[str]) -> None:
            self.plan = plan
            if plan and plan[0] == "init":
                plan.pop(0)
                raise OSError("init")

        async def started(self) -> None:
            if self.plan and self.plan[0] == "started":
                self.plan.pop(0)
                raise OSError("started")

        async def run(self) -> None:
            await asyncio.sleep(1)
            if self.plan and self.plan[0] == "run":
                self.plan.pop(0)
                raise OSError("run")

    async with Swarm() as swarm:
        plan = ["run", "init", "started", "run"]
        ref = await swarm.spawn(Runner, plan, restart=Restart(max=9, backoff=FAST))
        await asyncio.sleep(10)
        assert plan == []
        assert ref.status == "idle"
        assert [str(f.error) for f in swarm.agents.failures] == [
            "run",
            "init",
            "started",
            "run",
        ]


@virtual
async def test_a_request_in_hand_fails_at_once_when_run_fails():
    """Q2: the ask gets AgentDied, the queued one is answered by the next life."""

    class Runner(Fragile):
        async def run(self) -> None:
            await asyncio.sleep(0.5)
            if len(self.lives) == 1:
                raise OSError("run")

    async with Swarm() as swarm:
        ref = await swarm.spawn(Runner, [], restart=Restart(backoff=FAST))
        asks = [asyncio.ensure_future(ref.ask(Fragile.slow)) for _ in range(2)]
        first, second = await asyncio.gather(*asks, return_exceptions=True)
        assert isinstance(first, AgentDied)
        assert second == "slow"
        restart = Restart(backoff=FAST, in_hand="redeliver")
        ref = await swarm.spawn(Runner, [], restart=restart)
        assert await ref.ask(Fragile.slow) == "slow"


async def _members(swarm: Swarm, strategy: str, lives: list[str]) -> list[Ref[Fragile]]:
    group = swarm.group("g", strategy=strategy)
    restart = Restart(backoff=FAST)
    return [
        await group.spawn(Fragile, lives, label, name=label, restart=restart)
        for label in "abc"
    ]


@pytest.mark.parametrize(
    ("strategy", "again"),
    [("one_for_one", "b"), ("one_for_all", "abc"), ("rest_for_one", "bc")],
)
@virtual
async def test_the_strategy_decides_which_members_are_restarted(strategy, again):
    """Supervision: and in which order."""
    async with Swarm() as swarm:
        lives: list[str] = []
        refs = await _members(swarm, strategy, lives)
        assert swarm.group("g", strategy=strategy).members == tuple(refs)
        await refs[1].tell(Fragile.fail)
        await asyncio.sleep(1)
        assert "".join(lives) == "abc" + again
        for ref in refs:
            await ref.ask(Fragile.work)
        with pytest.raises(ConfigMismatch):
            swarm.group("g", strategy=strategy, max=7)


@virtual
async def test_several_failures_at_once_are_one_restoration():
    """Supervision: members that fail while others wait are restarted too, once."""
    async with Swarm() as swarm:
        lives: list[str] = []
        refs = await _members(swarm, "one_for_all", lives)
        for ref in refs:
            await ref.tell(Fragile.fail)
        await asyncio.sleep(5)
        assert {ref.status.value for ref in refs} == {"idle"}
        assert sorted(lives) == sorted("abc" * (len(lives) // 3))


@virtual
async def test_a_group_within_a_group_fails_as_one():
    """Supervision: beyond its limit the outer group restarts all of it, then ends."""
    lives: list[str] = []
    with pytest.raises(ExceptionGroup) as caught:
        async with Swarm() as swarm:
            outer = swarm.group("outer", strategy="one_for_one", max=1, within=1000)
            inner = outer.group("inner", strategy="one_for_one", max=1, within=1000)
            restart = Restart(max=99, within=1000, backoff=FAST)
            assert outer.group("inner", max=1, within=1000) == inner
            a = await inner.spawn(Fragile, lives, "a", restart=restart)
            b = await inner.spawn(Fragile, lives, "b", restart=restart)
            c = await outer.spawn(Fragile, lives, "c", restart=restart)
            await a.tell(Fragile.fail)
            await asyncio.sleep(20)
            assert "".join(lives) == "abca"
            await a.tell(Fragile.fail)
            await asyncio.sleep(20)
            assert "".join(lives) == "abcaab"
            assert {ref.status.value for ref in (a, b, c)} == {"idle"}
            await a.tell(Fragile.fail)
            await asyncio.sleep(20)
    assert isinstance(caught.value.exceptions[0], ValueError)


@virtual
async def test_a_group_without_a_name_is_refused():
    async with Swarm() as swarm:
        with pytest.raises(ValueError, match="the name of a group is not empty"):
            swarm.group("")
        with pytest.raises(ValueError, match="the name of a group is not empty"):
            swarm.group("outer").group("")
        with pytest.raises(TypeError, match="the name of a group is text"):
            swarm.group(3)


@virtual
async def test_a_group_stops_its_members_youngest_first():
    """Lifecycle: and they are gone from it."""
    async with Swarm() as swarm:
        lives: list[str] = []
        refs = await _members(swarm, "one_for_all", lives)
        group = swarm.group("g", strategy="one_for_all")
        await group.stop()
        assert group.members == ()
        assert {ref.status.value for ref in refs} == {"offline"}


@virtual
async def test_an_unsupervised_member_fails_its_group():
    """Supervision: restart=None in a group is the group's failure."""
    with pytest.raises(ExceptionGroup):
        async with Swarm() as swarm:
            group = swarm.group("g")
            ref = await group.spawn(Worker, restart=None)
            await ref.tell(Worker.fail)
            await asyncio.sleep(1)


@virtual
async def test_stopping_an_agent_that_waits_for_its_restart_ends_it():
    """Lifecycle: no restart after a stop, and nobody waits for it."""
    async with Swarm() as swarm:
        lives: list[str] = []
        restart = Restart(backoff=Backoff(100, 100))
        ref = await swarm.spawn(Fragile, lives, restart=restart)
        await ref.tell(Fragile.fail)
        ask = asyncio.ensure_future(ref.ask(Fragile.work))
        await turns(3)
        await ref.stop()
        with pytest.raises(AgentDied):
            await ask
        await asyncio.sleep(200)
        assert lives == ["x"]


# --- the rules ------------------------------------------------------------


@given(
    st.lists(st.floats(0, 100), max_size=30).map(sorted),
    st.integers(0, 5),
    st.floats(0.1, 50),
)
def test_the_window_admits_as_often_as_the_limit_says(times, most, within):
    """Supervision: against a count over the whole history."""
    window: tuple[float, ...] = ()
    admitted: list[float] = []
    for now in times:
        ok, window = admit(window, now, most, within)
        assert ok == (sum(now - at < within for at in admitted) < most)
        if ok:
            admitted.append(now)
        assert len(window) <= most


@given(st.integers(1, 5), st.integers(0, 4))
def test_strategies_restart_a_tail_all_or_one(size, index):
    """Supervision: against slices."""
    members = list(range(size))
    failed = index % size
    assert affected("one_for_one", members, failed) == [failed]
    assert affected("one_for_all", members, failed) == members
    assert affected("rest_for_one", members, failed) == members[failed:]


@pytest.mark.parametrize(
    ("restart", "error", "decision"),
    [
        (None, ValueError(), RestartDecision.ESCALATE),
        (None, None, RestartDecision.STOP),
        (Restart("permanent"), None, RestartDecision.RESTART),
        (Restart("transient"), None, RestartDecision.STOP),
        (Restart("transient"), ValueError(), RestartDecision.RESTART),
        (Restart("temporary"), ValueError(), RestartDecision.STOP),
        (Restart(on=(KeyError,)), ValueError(), RestartDecision.ESCALATE),
        (Restart(on=(LookupError,)), KeyError(), RestartDecision.RESTART),
    ],
)
def test_the_decision_follows_the_kind(restart, error, decision):
    """Supervision: permanent, transient, temporary."""
    assert decide(restart, error) is decision


@given(st.integers(1, 200), st.floats(0, 1))
def test_backoff_doubles_up_to_its_bound(attempt, chance):
    """Supervision: half to all of the doubled pause."""
    backoff = Backoff(0.1, 5.0)
    full = min(5.0, 0.1 * 2.0 ** (attempt - 1))
    assert full / 2 <= backoff.delay(attempt, chance) <= full


@pytest.mark.parametrize(
    "bad",
    [
        lambda: Restart("always"),  # type: ignore[arg-type]
        lambda: Restart(in_hand="drop"),  # type: ignore[arg-type]
        lambda: Restart(max=-1),
        lambda: Restart(within=0),
        lambda: Backoff(2, 1),
        lambda: Backoff(-1, 1),
    ],
)
def test_a_restart_with_meaningless_limits_is_refused(bad):
    """Bad input: at once."""
    with pytest.raises(ValueError):
        bad()
    with pytest.raises(TypeError):
        Restart(on=(BaseException,))  # type: ignore[arg-type]
