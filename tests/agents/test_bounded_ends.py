"""Every end is bounded, whatever an agent's code does with its cancellations."""

import asyncio
import contextlib

import pytest

from swarm import AgentDied, NoSuchAgent, Restart, ShutdownTimeout, Swarm, interleave
from tests.support.actors import Worker
from tests.support.virtual_loop import turns, virtual

WAITS: list["asyncio.Future[None]"] = []


class Deaf(Worker):
    """Swallows cancellations; no clock makes its waits elapse."""

    async def swallow(self, most: float = float("inf")) -> str:
        heard = 0
        while heard < most:
            WAITS.append(asyncio.get_running_loop().create_future())
            try:
                await WAITS[-1]
            except asyncio.CancelledError:
                heard += 1
                self.diary.append("swallowed")
            else:
                break
        return "done"

    @interleave
    async def swallow_aside(self) -> None:
        await Deaf.swallow(self)

    async def fork(self) -> None:
        self.start_soon(self.swallow)
        await turns(3)


class DeafAtEnd(Deaf):
    async def stopping(self) -> None:
        await self.swallow()


class DeafWhenStopped(Deaf):
    async def stopped(self, reason: str) -> None:
        await self.swallow()


async def release() -> None:
    """Let everything that was left behind end."""
    for wait in WAITS:
        if not wait.done():
            wait.set_result(None)
    WAITS.clear()
    await turns(5)


async def quietly(awaitable):
    with contextlib.suppress(AgentDied, NoSuchAgent, ShutdownTimeout):
        return await awaitable


@contextlib.asynccontextmanager
async def left_behind(*parts: str):
    """Expect a swarm to end, in time, with one error that names the code."""
    with pytest.raises(ExceptionGroup) as caught:
        async with Swarm() as swarm:
            yield swarm
            before = asyncio.get_running_loop().time()
        assert asyncio.get_running_loop().time() - before < 20
    await release()
    (error,) = caught.value.exceptions
    assert isinstance(error, ShutdownTimeout)
    for part in (*parts, "test_bounded_ends.py", "line "):
        assert part in str(error)


def time() -> float:
    return asyncio.get_running_loop().time()


@pytest.mark.parametrize("most", [1, 2])
@pytest.mark.parametrize("how", ["kill", "close", "stop in time"])
@virtual
async def test_an_end_survives_a_swallowed_cancellation(how, most):
    """It is cancelled again, and no error is left."""
    async with Swarm() as swarm:
        ref = await swarm.spawn(Deaf)
        asking = asyncio.ensure_future(quietly(ref.ask(Deaf.swallow, most)))
        await turns(3)
        before = time()
        if how == "kill":
            await ref.kill()
        if how == "stop in time":
            await ref.stop(timeout=1)
        if how == "close":
            await swarm.close()
        assert time() - before <= 16.2
        await asking
    assert ref._cell.agent.diary == ["swallowed"] * most


@pytest.mark.parametrize("how", ["kill", "close", "stop in time"])
@pytest.mark.parametrize("method", [Deaf.swallow, Deaf.swallow_aside, Deaf.fork])
@virtual
async def test_code_that_cannot_be_cancelled_is_left_behind(how, method):
    """kill(), stop(timeout=) and close() return; one error names agent and line."""
    name = "Deaf.swallow" if method is Deaf.fork else method.__qualname__
    async with left_behind("'ada'", name) as swarm:
        ref = await swarm.spawn(Deaf, name="ada", shutdown=2.0)
        asking = asyncio.ensure_future(quietly(ref.ask(method)))
        await turns(5)
        before = time()
        if how == "kill":
            await ref.kill()
            assert time() - before < 2.5
        if how == "stop in time":
            await ref.stop(timeout=1)
            assert time() - before < 3.5
        await asyncio.wait([asking])
        if how != "close":
            await swarm.spawn(Worker, name="ada")


@pytest.mark.parametrize("kind", [DeafAtEnd, DeafWhenStopped])
@virtual
async def test_a_closing_hook_that_cannot_be_cancelled_is_left_behind(kind):
    """`stopping` and `stopped` are bounded as well."""
    async with left_behind("'ada'", kind.__name__) as swarm:
        ref = await swarm.spawn(kind, name="ada", shutdown=2.0)
        before = time()
        await ref.stop()
        assert 2 <= time() - before < 4


@virtual
async def test_a_slow_closing_hook_is_cancelled():
    """It hears of it, and `stop` raises what happened."""

    class Slow(Worker):
        async def stopping(self) -> None:
            await self.slow("stopping", 100)

    async with Swarm() as swarm:
        ref = await swarm.spawn(Slow, shutdown=2.0)
        with pytest.raises(ShutdownTimeout, match=r"Slow\.stopping"):
            await ref.stop()
        assert ref._cell.agent.diary == ["begin stopping", "cancelled stopping"]


@pytest.mark.parametrize("method", [Deaf.swallow, Deaf.swallow_aside, Deaf.fork])
@virtual
async def test_a_restart_goes_on_without_code_that_cannot_be_cancelled(method):
    """A zombie turn leaves no group in error."""
    async with left_behind("'ada'") as swarm:
        team = swarm.group("team", strategy="one_for_all")
        ada = await team.spawn(Deaf, name="ada", shutdown=2.0)
        bo = await team.spawn(Worker, name="bo")
        asking = asyncio.ensure_future(quietly(ada.ask(method)))
        await turns(5)
        await bo.tell(Worker.fail)
        await asyncio.sleep(10)
        assert [ref.status.value for ref in (ada, bo)] == ["idle", "idle"]
        assert await ada.ask(Worker.steps, "new", 2) == "new"
        assert ada._cell.agent.diary == ["begin new", "end new"]
        await asking


@virtual
async def test_nothing_that_was_left_behind_answers_or_is_counted():
    """Q1: the outcome of a turn that was left behind goes nowhere."""

    class Late(Worker):
        async def wait(self, gate: "asyncio.Future[None]") -> str:
            while not gate.done():
                with contextlib.suppress(asyncio.CancelledError):
                    await asyncio.shield(gate)
            return "late"

    gate: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    async with left_behind("'ada'", "Late.wait") as swarm:
        ada = await swarm.spawn(Late, name="ada", shutdown=1.0)
        asking = asyncio.ensure_future(ada.ask(Late.wait, gate))
        await turns(3)
        await ada.kill()
        with pytest.raises(AgentDied):
            await asking
        new = await swarm.spawn(Worker, name="ada")
        gate.set_result(None)
        await turns(5)
        assert await new.ask(Worker.add, 1) == 1


def test_real_time_bounds_the_end_as_well():
    """The same on the stock loop, where nothing lets time elapse."""

    async def main() -> None:
        try:
            async with Swarm() as swarm:
                ref = await swarm.spawn(Deaf, shutdown=0.02)
                await ref.tell(Deaf.swallow)
                await turns(3)
        finally:
            await release()

    with pytest.raises(ExceptionGroup, match="failures"):
        asyncio.run(main())


# --- races ---------------------------------------------------------------------------


@virtual
async def test_a_permanent_agent_that_stops_itself_is_ended_by_a_stop_from_outside():
    """No orphan answers afterwards."""

    class Quitter(Worker):
        async def quit(self) -> None:
            await self.ref.stop()

        async def stopping(self) -> None:
            await asyncio.sleep(1)

    async with Swarm() as swarm:
        ref = await swarm.spawn(Quitter, restart=Restart("permanent"))
        await ref.ask(Quitter.quit)
        await ref.stop()
        assert ref.status == "offline"
        assert len(swarm.agents) == 0
        await asyncio.sleep(10)
        with pytest.raises(NoSuchAgent):
            await ref.ask(Worker.echo)


@virtual
async def test_a_replaced_permanent_agent_that_stops_itself_does_not_come_back():
    """One name, one agent."""

    class Quitter(Worker):
        async def quit(self) -> None:
            await self.ref.stop()

        async def stopping(self) -> None:
            await asyncio.sleep(1)

    async with Swarm() as swarm:
        old = await swarm.spawn(Quitter, name="ada", restart=Restart("permanent"))
        await old.ask(Quitter.quit)
        new = await swarm.spawn(Worker, name="ada", replace=True)
        await asyncio.sleep(10)
        assert old.status == "offline"
        assert list(swarm.agents) == [new]


@pytest.mark.parametrize("how", ["killed", "replaced"])
@virtual
async def test_a_newcomer_that_is_ended_while_the_old_agent_stops_is_told(how):
    """`spawn(replace=True)` returns or raises; the third comes after the first."""
    async with Swarm() as swarm:
        old = await swarm.spawn(Worker, name="ada")
        asking = asyncio.ensure_future(old.ask(Worker.slow, "old", 5.0))
        await turns(3)
        replacing = asyncio.ensure_future(swarm.spawn(Worker, name="ada", replace=True))
        await turns(3)
        if how == "killed":
            swarm.agents["ada"].kill()
            with pytest.raises(AgentDied):
                await replacing
        else:
            third = await swarm.spawn(Worker, name="ada", replace=True)
            assert old.status == "offline"
            with pytest.raises(AgentDied):
                await replacing
            assert await third.ask(Worker.add, 1) == 1
        assert await asking == "old"


@virtual
async def test_a_forgotten_stop_timer_does_not_kill_the_restarted_agent():
    """The timer belongs to the stop that set it."""

    class Quitter(Worker):
        async def quit(self) -> None:
            await self.ref.stop(timeout=5)

    async with Swarm() as swarm:
        ref = await swarm.spawn(Quitter, restart=Restart("permanent"))
        await ref.ask(Quitter.quit)
        await asyncio.sleep(20)
        assert await ref.ask(Worker.add, 1) == 1


@virtual
async def test_a_cancelled_stop_still_ends_the_agent_in_time():
    """Cancelling the wait does not call the stop off, nor its time-out."""
    async with Swarm() as swarm:
        before = time()
        ref = await swarm.spawn(Worker)
        asking = asyncio.ensure_future(quietly(ref.ask(Worker.slow, "x", 100)))
        await turns(3)
        stopping = asyncio.ensure_future(ref.stop(timeout=5))
        await turns(3)
        stopping.cancel()
        assert await ref.ended() == "killed"
        assert time() - before == 5
        await asking


@pytest.mark.parametrize("strategy", ["one_for_one", "one_for_all", "rest_for_one"])
@pytest.mark.parametrize("moment", [0, 1, 2, 3, 5, 0.06, 0.2, 1.0])
@virtual
async def test_agents_may_be_killed_while_their_group_restarts(strategy, moment):
    """Whatever member is killed when, the others come back."""

    class Careful(Worker):
        async def started(self) -> None:
            await asyncio.sleep(0.1)

        async def stopped(self, reason: str) -> None:
            await asyncio.sleep(0.1)

    for victim in range(3):
        async with Swarm() as swarm:
            team = swarm.group("team", strategy=strategy)
            refs = [await team.spawn(Careful) for _ in range(3)]
            await refs[1].tell(Worker.fail)
            if isinstance(moment, float):
                await asyncio.sleep(moment)
            else:
                await turns(moment)
            await refs[victim].kill()
            await asyncio.sleep(10)
            left = [ref for number, ref in enumerate(refs) if number != victim]
            assert [ref.status.value for ref in left] == ["idle", "idle"]
            assert [await ref.ask(Worker.add, 1) for ref in left] == [1, 1]


# --- other ends ----------------------------------------------------------------------


class Odd(BaseException):
    """No `Exception`."""


@pytest.mark.parametrize("error", [Odd, SystemExit, pytest.fail.Exception])
@pytest.mark.parametrize("aside", [False, True])
@virtual
async def test_no_exception_of_an_ask_is_lost(error, aside):
    """An exception that is no `Exception` reaches the asker as well."""

    class Thrower(Worker):
        async def throw(self, pauses: int) -> None:
            await turns(pauses)
            raise error("x")

        @interleave
        async def throw_aside(self, pauses: int) -> None:
            await self.throw(pauses)

    async with Swarm() as swarm:
        ref = await swarm.spawn(Thrower)
        await ref.ask(Worker.steps, "warm", 2)
        method = Thrower.throw_aside if aside else Thrower.throw
        for pauses in (0, 2):
            with pytest.raises(error):
                await ref.ask(method, pauses)
        assert await ref.ask(Worker.add, 1) == 1


@pytest.mark.parametrize("aside", [False, True])
def test_no_exception_of_a_tell_is_lost(aside):
    """It ends the block: `pytest.fail` in an agent fails the test."""

    class Thrower(Worker):
        async def throw(self) -> None:
            pytest.fail("in an agent")

        @interleave
        async def throw_aside(self) -> None:
            pytest.fail("in an agent")

    async def main() -> None:
        async with Swarm() as swarm:
            ref = await swarm.spawn(Thrower)
            await ref.tell(Thrower.throw_aside if aside else Thrower.throw)
            await turns(5)

    with pytest.raises(BaseExceptionGroup) as caught:
        asyncio.run(main())
    assert caught.group_contains(pytest.fail.Exception, match="in an agent")


@virtual
async def test_a_turn_that_cancels_itself_is_a_failure():
    """A permanent agent is restarted; nothing ends in silence."""

    class Suicidal(Worker):
        async def cancel_me(self) -> None:
            task = asyncio.current_task()
            assert task is not None
            task.cancel()
            await asyncio.sleep(1)

    async with Swarm() as swarm:
        ref = await swarm.spawn(Suicidal, restart=Restart("permanent"))
        await ref.tell(Suicidal.cancel_me)
        await asyncio.sleep(5)
        assert swarm.agents.info(ref.name).restarts == 1
        assert await ref.ask(Worker.add, 1) == 1


@virtual
async def test_a_failure_in_the_tick_in_which_its_asker_is_cancelled_is_counted(caplog):
    """Q3: it is logged, for the asker cannot have it."""

    class Gated(Worker):
        async def fail_at(self, gate: "asyncio.Future[None]") -> None:
            await gate
            raise ValueError("nobody hears this")

    async with Swarm() as swarm:
        ref = await swarm.spawn(Gated)
        gate: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        asking = asyncio.ensure_future(ref.ask(Gated.fail_at, gate))
        await turns(3)
        gate.set_result(None)
        for _ in range(10):
            await turns(1)
            if ref._cell.failures:
                break
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking
        assert swarm.agents.info(ref.name).late == 1
    assert "nobody hears this" in caplog.text


class SlowWhenStopped(Deaf):
    async def stopped(self, reason: str) -> None:
        await asyncio.sleep(3.5)
        self.diary.append(f"{self.name} {reason}")


@virtual
async def test_the_restart_of_a_group_leaves_the_end_of_a_member_alone():
    """The task that ends an agent waits for its code, and no other one cancels it."""
    diary: list[str] = []
    with pytest.raises(ExceptionGroup) as caught:
        async with Swarm() as swarm:
            team = swarm.group("team", strategy="one_for_all")
            for name, seconds in (("x", 6.0), ("y", 4.0)):
                ref = await team.spawn(
                    SlowWhenStopped, diary, name=name, shutdown=seconds
                )
                await ref.ask(Deaf.fork)
            await swarm.agents["x"].tell(Worker.fail)
            await asyncio.sleep(1)
            await swarm.agents["y"].kill()
            assert "y killed" in diary
    await release()
    assert {type(error) for error in caught.value.exceptions} == {ShutdownTimeout}
    assert "x failed" in diary
