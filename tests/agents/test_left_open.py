"""What a turn leaves open stays with its agent, and ends with it."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

import anyio
import pytest

from swarm import RemoteCancelled, Restart, Swarm, SwarmConfig
from tests.support.actors import Worker
from tests.support.virtual_loop import turns, virtual


async def fail_soon() -> None:
    await asyncio.sleep(0.1)
    raise KeyError("child")


class Opener(Worker):
    """Leaves something open in a turn."""

    async def open_asyncio(self) -> None:
        self.group = await asyncio.TaskGroup().__aenter__()
        self.group.create_task(fail_soon())

    async def open_anyio(self) -> None:
        self.scope = anyio.CancelScope()
        self.scope.__enter__()

    async def cancel_scope(self) -> None:
        self.scope.cancel()

    async def capture(self, pauses: int) -> None:
        await turns(pauses)
        self.task = asyncio.current_task()
        await turns(pauses)

    async def capture_first(self) -> None:
        self.task = asyncio.current_task()
        await turns(2)


async def pair(swarm: Swarm, **options: object) -> tuple[object, object]:
    opener = await swarm.spawn(Opener, name="opener", **options)
    bystander = await swarm.spawn(Worker, name="bystander")
    for ref in (opener, bystander):
        await ref.ask(Worker.steps, "warm", 2)
    return opener, bystander


@pytest.mark.parametrize("suspends", [False, True])
@virtual
async def test_a_failing_child_of_a_left_open_group_hits_no_other_agent(suspends):
    """The agent that opened the group fails; the bystander's turn goes on."""
    with pytest.raises(ExceptionGroup) as caught:
        async with Swarm() as swarm:
            opener, bystander = await pair(swarm)
            if suspends:
                await opener.ask(Worker.steps, "x", 2)
            await opener.ask(Opener.open_asyncio)
            assert await bystander.ask(Worker.slow, "b", 1.0) == "b"
            await bystander.ask(Worker.echo)
    assert caught.group_contains(RemoteCancelled, match="left open")


@virtual
async def test_an_agent_that_left_a_group_open_is_restarted():
    """The failure is the agent's, and its supervisor deals with it."""
    async with Swarm() as swarm:
        opener, bystander = await pair(swarm, restart=Restart())
        await opener.ask(Opener.open_asyncio)
        assert await bystander.ask(Worker.slow, "b", 1.0) == "b"
        assert swarm.agents.info("opener").restarts == 1
        assert await opener.ask(Worker.steps, "new", 2) == "new"
        (failure,) = swarm.agents.failures
        assert failure.agent == "opener"


@pytest.mark.parametrize("pauses", [0, 2])
@virtual
async def test_a_captured_task_that_is_cancelled_later_hits_no_other_agent(pauses):
    """A captured `current_task()` stays the capturing agent's own."""
    async with Swarm() as swarm:
        opener, bystander = await pair(swarm, restart=Restart())
        await opener.ask(Opener.capture, pauses)
        task = opener._cell.agent.task
        assert opener._cell.keeps
        busy = asyncio.ensure_future(bystander.ask(Worker.slow, "b", 1.0))
        await turns(2)
        task.cancel()
        assert await busy == "b"
        await asyncio.sleep(1)
        assert swarm.agents.info("opener").restarts == 1


@virtual
async def test_a_task_captured_before_the_first_await_is_kept_as_well():
    """The first step runs elsewhere, in the name of the worker's task."""
    async with Swarm() as swarm:
        opener, _ = await pair(swarm)
        await opener.ask(Opener.capture_first)
        assert opener._cell.keeps


@virtual
async def test_agents_that_leave_nothing_open_keep_no_task():
    """Time-outs, scopes, groups and failures that are over leave nothing behind."""

    class Tidy(Worker):
        async def all_sorts(self) -> None:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(0.1):
                    await asyncio.sleep(1)
            with anyio.move_on_after(0.1):
                await anyio.sleep(1)
            async with asyncio.TaskGroup() as group:
                group.create_task(asyncio.sleep(0.1))
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(anyio.sleep, 0.1)
            await asyncio.gather(asyncio.sleep(0.1), asyncio.sleep(0.2))

        async def fail_after(self, pauses: int) -> None:
            await turns(pauses)
            raise ValueError(pauses)

    async with Swarm() as swarm:
        refs = [await swarm.spawn(Tidy) for _ in range(3)]
        kept = []
        for ref in refs:
            await ref.ask(Tidy.all_sorts)
            for pauses in (0, 2):
                try:
                    await ref.ask(Tidy.fail_after, pauses)
                except ValueError as error:
                    kept.append(error)  # its frames must not count
            await ref.tell(Worker.steps, "x", 2)
            with pytest.raises(TimeoutError):
                await ref.within(0.1).ask(Worker.slow, "late", 1.0)
            await turns(3)
        assert [ref._cell.keeps for ref in refs] == [False] * 3
        assert len(kept) == 6


# --- the exit stack ------------------------------------------------------------------


class Session(Worker):
    """Opens a resource in `started`."""

    @contextlib.asynccontextmanager
    async def resource(self) -> AsyncIterator[str]:
        task = asyncio.current_task()
        self.diary.append("open")
        try:
            yield "resource"
        finally:
            await asyncio.sleep(0)
            same = task is asyncio.current_task()
            self.diary.append("close" if same else "close elsewhere")

    async def started(self) -> None:
        self.resource_ = await self.exit_stack.enter_async_context(self.resource())

    async def stopped(self, reason: str) -> None:
        self.diary.append(f"stopped {reason}")


@pytest.mark.parametrize("how", ["stop", "kill", "close", "fail", "restart", "group"])
@virtual
async def test_the_exit_stack_is_closed_at_every_end_in_the_task_that_opened_it(how):
    """DESIGN 5: on restart, stop, kill and close alike."""
    diary: list[str] = []
    expected = {
        "stop": "stopped",
        "kill": "killed",
        "close": "stopped",
        "fail": "failed",
        "restart": "failed",
        "group": "restarted",
    }[how]
    restart = Restart() if how == "restart" else Restart("temporary")
    async with Swarm() as swarm:
        if how == "group":
            team = swarm.group("team", strategy="one_for_all")
            ref = await team.spawn(Session, diary)
            other = await team.spawn(Worker)
            await other.tell(Worker.fail)
        else:
            ref = await swarm.spawn(Session, diary, restart=restart)
            await ref.ask(Worker.steps, "x", 2)
            diary[:] = ["open"]
        if how == "stop":
            await ref.stop()
        if how == "kill":
            await ref.kill()
        if how in ("fail", "restart"):
            await ref.tell(Worker.fail)
        await asyncio.sleep(10)
    end = ["open", f"stopped {expected}", "close"]
    if how in ("restart", "group"):
        end += ["open", "stopped stopped", "close"]
    assert diary == end


@pytest.mark.parametrize("how", ["stop", "kill", "fail", "restart", "close"])
@pytest.mark.parametrize("kind", ["asyncio", "anyio"])
@virtual
async def test_only_a_clean_stop_closes_the_exit_stack_as_a_block_that_succeeded(
    how, kind
):
    """Any other end closes it as a cancellation does: a group ends its children."""
    ends: list[str] = []

    @contextlib.asynccontextmanager
    async def transaction() -> AsyncIterator[None]:
        try:
            yield
        except BaseException:
            ends.append("rolled back")
            raise
        ends.append("committed")

    class Holder(Worker):
        async def started(self) -> None:
            enter = self.exit_stack.enter_async_context
            await enter(transaction())
            if how == "stop":
                return
            if kind == "asyncio":
                group = await enter(asyncio.TaskGroup())
                group.create_task(asyncio.sleep(1e6))
            else:
                other = await enter(anyio.create_task_group())
                other.start_soon(asyncio.sleep, 1e6)

    restart = Restart() if how == "restart" else Restart("temporary")
    config = SwarmConfig(drain_timeout=0.5) if how == "close" else SwarmConfig()
    began = asyncio.get_running_loop().time()
    async with Swarm(config=config) as swarm:
        ref = await swarm.spawn(Holder, restart=restart, shutdown=100)
        if how == "close":
            await ref.tell(Worker.slow, "x", 1000.0)
        elif how in ("fail", "restart"):
            await ref.tell(Worker.fail)
            await asyncio.sleep(1)
            assert ref.status == ("idle" if how == "restart" else "offline")
            await ref.kill()
        else:
            await (ref.stop() if how == "stop" else ref.kill())
    assert set(ends) == {"committed" if how == "stop" else "rolled back"}
    assert asyncio.get_running_loop().time() - began < 10


@virtual
async def test_a_failing_child_in_the_exit_stack_is_the_agents_failure():
    """The child's own error reaches the supervisor, and the bystander lives."""

    class Boss(Worker):
        async def started(self) -> None:
            self.group = await self.exit_stack.enter_async_context(asyncio.TaskGroup())

        async def fork(self) -> None:
            self.group.create_task(fail_soon())

    async with Swarm() as swarm:
        boss = await swarm.spawn(Boss, restart=Restart())
        other = await swarm.spawn(Worker)
        await boss.ask(Boss.fork)
        busy = asyncio.ensure_future(boss.ask(Worker.slow, "b", 1.0))
        assert await other.ask(Worker.slow, "o", 1.0) == "o"
        with pytest.raises(Exception, match=r"restarted|cancelled|left"):
            await busy
        (failure,) = swarm.agents.failures
        assert isinstance(failure.error, ExceptionGroup)
        assert isinstance(failure.error.exceptions[0], KeyError)
        assert await boss.ask(Worker.steps, "again", 2) == "again"


@virtual
async def test_an_anyio_group_in_the_exit_stack_is_closed_as_well():
    """Level cancellation reaches the closing hooks, and then the group ends it."""

    class Boss(Worker):
        async def started(self) -> None:
            self.group = await self.exit_stack.enter_async_context(
                anyio.create_task_group()
            )

        async def fork(self) -> None:
            self.group.start_soon(fail_soon)

    async with Swarm() as swarm:
        boss = await swarm.spawn(Boss, restart=Restart())
        await boss.ask(Boss.fork)
        await asyncio.sleep(1)
        assert await boss.ask(Worker.steps, "again", 2) == "again"
        (failure,) = swarm.agents.failures
        assert isinstance(failure.error, ExceptionGroup)


# --- beside the turns ----------------------------------------------------------------


@virtual
async def test_a_plain_function_beside_the_turns_is_refused_in_words():
    class Plain(Worker):
        async def begin(self) -> None:
            self.start_soon(len, "abc")

    async with Swarm(on_failure="log") as swarm:
        ref = await swarm.spawn(Plain)
        await ref.ask(Plain.begin)
        assert await ref.ended() == "failed"
        (failure,) = swarm.agents.failures
        assert "runs an async function; len returned 3" in str(failure.error)


class Pacer(Worker):
    async def begin(self) -> None:
        self.start_soon(self.pace, "x")

    async def pace(self, name: str) -> None:
        try:
            while True:
                self.diary.append(name)
                await asyncio.sleep(1)
        finally:
            self.diary.append("end")

    async def spoil(self) -> None:
        self.start_soon(fail_soon)

    async def tick(self, *what: str) -> None:
        self.diary.append(f"tick{''.join(what)}")


@pytest.mark.parametrize("how", ["stop", "kill", "restart", "close"])
@virtual
async def test_start_soon_ends_with_the_instance(how):
    """DESIGN 5: also when the agent restarts."""
    diary: list[str] = []
    async with Swarm() as swarm:
        ref = await swarm.spawn(Pacer, diary, restart=Restart())
        await ref.ask(Pacer.begin)
        await asyncio.sleep(1.5)
        assert diary == ["x", "x"]
        if how == "stop":
            await ref.stop()
        if how == "kill":
            await ref.kill()
        if how == "restart":
            await ref.tell(Worker.fail)
            await asyncio.sleep(5)
    assert diary == ["x", "x", "end"]


@virtual
async def test_an_error_of_a_child_is_a_failure_of_the_agent():
    """The supervisor hears of it."""
    async with Swarm() as swarm:
        ref = await swarm.spawn(Pacer, restart=Restart())
        await ref.ask(Pacer.spoil)
        await asyncio.sleep(5)
        assert swarm.agents.info(ref.name).restarts == 1
        (failure,) = swarm.agents.failures
        assert isinstance(failure.error, KeyError)


@virtual
async def test_timers_tell_and_end_with_their_agent():
    """`every` and `tell_later` can be cancelled, and stop with the instance."""
    diary: list[str] = []

    class Clock(Pacer):
        async def started(self) -> None:
            self.every(1.0, Pacer.tick)
            self.once = self.tell_later(2.5, Pacer.tick, "!")
            self.never = self.tell_later(0.5, Pacer.tick, "?")
            self.never.cancel()

    async with Swarm() as swarm:
        ref = await swarm.spawn(Clock, diary, restart=Restart("temporary"))
        await asyncio.sleep(3.2)
        assert diary == ["tick", "tick", "tick!", "tick"]
        await ref.kill()
        await asyncio.sleep(5)
        assert len(diary) == 4
        with pytest.raises(ValueError, match="period"):
            Clock.every(ref._cell.agent, 0, Pacer.tick)


@virtual
async def test_a_slow_turn_does_not_pile_up_ticks():
    """A tick is left out while the one before has not been handled."""
    diary: list[str] = []

    class Clock(Pacer):
        async def started(self) -> None:
            self.every(1.0, Pacer.tick)

    async with Swarm() as swarm:
        ref = await swarm.spawn(Clock, diary)
        await ref.ask(Worker.slow, "s", 10.5)
        assert ref.load <= 1
        await turns(3)
        assert diary.count("tick") == 1


@virtual
async def test_ended_waits_for_the_end_without_causing_it():
    """A monitor; it says how the agent ended."""
    async with Swarm() as swarm:
        refs = [await swarm.spawn(Worker) for _ in range(3)]
        refs.append(await swarm.spawn(Worker, restart=Restart("temporary")))
        ends = [asyncio.ensure_future(ref.ended()) for ref in refs]
        await turns(3)
        assert not any(end.done() for end in ends)
        await refs[0].stop()
        await refs[1].kill()
        await refs[3].tell(Worker.fail)
        assert await ends[0] == "stopped"
        assert await ends[1] == "killed"
        assert await ends[3] == "failed"
        assert not ends[2].done()
    assert await ends[2] == "stopped"
    assert await refs[0].ended() == "stopped"
