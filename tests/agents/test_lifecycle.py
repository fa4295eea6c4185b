"""How agents begin, pause, stop and end."""

import asyncio
from contextlib import nullcontext

import pytest

from swarm import (
    Agent,
    AgentDied,
    Closed,
    InvalidTransition,
    NameTaken,
    NoSuchAgent,
    RemoteCancelled,
    Restart,
    Swarm,
    WrongLoop,
    interleave,
)
from swarm.agents._lifecycle import Status, Step, follow
from tests.support.actors import Worker
from tests.support.virtual_loop import run, turns, virtual


class Hooked(Worker):
    """Notes its hooks in its diary."""

    async def started(self) -> None:
        self.diary.append(f"started {self.name}")

    async def stopping(self) -> None:
        self.diary.append(f"stopping {self.name}")


@virtual
async def test_hooks_run_before_the_first_and_after_the_last_turn():
    """Lifecycle: started, turns, stopping; stop finishes what is queued."""
    async with Swarm() as swarm:
        diary: list[str] = []
        ref = await swarm.spawn(Hooked, diary, name="ada")
        assert diary == ["started ada"]
        await ref.tell(Worker.echo, 1)
        await ref.stop()
        assert diary == ["started ada", "echo 1", "stopping ada"]
        assert ref.status == "offline"
        await ref.stop()
        with pytest.raises(NoSuchAgent):
            await ref.ask(Worker.echo)


@virtual
async def test_an_agent_knows_itself():
    """Agent: name, identity, ref, log, heartbeat, and the state."""

    class Curious(Agent):
        async def look(self) -> object:
            self.heartbeat()
            self.log.info("looking")
            await self.state.set("seen", 1)
            await self.shared.set("also", 2)
            found = await self.swarm.state.get("agents.curious.ada.seen")
            return self.name, self.identity.role, self.ref, found

    async with Swarm() as swarm:
        ref = await swarm.spawn(Curious, name="ada", role="boss")
        assert await ref.ask(Curious.look) == ("ada", "boss", ref, 1)
        assert await swarm.state.get("shared.also") == 2
        assert ref.heartbeat_age == 0
        assert hash(ref) == hash(swarm.agents["ada"])
        assert "ada" in repr(ref)


@virtual
async def test_its_place_is_not_there_in_the_constructor():
    """Agent: one clear error instead of an attribute that is missing."""

    class Hasty(Agent):
        def __init__(self) -> None:
            self.state.set("x", 1)

    async with Swarm() as swarm:
        with pytest.raises(InvalidTransition, match="started"):
            await swarm.spawn(Hasty)
        assert len(swarm.agents) == 0


@pytest.mark.parametrize("where", ["__init__", "started"])
@virtual
async def test_an_agent_that_fails_to_start_is_not_registered(where):
    """Q11: the error comes out of spawn and nothing stays registered."""

    class Broken(Agent):
        def __init__(self) -> None:
            if where == "__init__":
                raise OSError("no")

        async def started(self) -> None:
            raise OSError("no")

    async with Swarm() as swarm:
        with pytest.raises(OSError, match="no"):
            await swarm.spawn(Broken, name="ada")
        assert swarm.agents.get("ada") is None
        assert await swarm.state.get("global.registry.ada", default=None) is None
        await swarm.spawn(Worker, name="ada")


@virtual
async def test_spawn_refuses_unusable_arguments():
    """Bad input: one clear error each, before any effect."""
    async with Swarm() as swarm:
        await swarm.spawn(Worker, name="ada")
        bound = await swarm.spawn(Worker)

        class Odd(Agent):
            def run(self) -> None: ...

        with pytest.raises(NameTaken):
            await swarm.spawn(Worker, name="ada")
        with pytest.raises(ValueError, match="segment"):
            await swarm.spawn(Worker, name="")
        with pytest.raises(TypeError, match="must return an Agent"):
            await swarm.spawn(dict)  # type: ignore[type-var]
        with pytest.raises(TypeError, match="must return an Agent"):
            await swarm.spawn(lambda: asyncio.sleep(0))  # type: ignore[arg-type]
        with pytest.raises(ValueError, match="build a new one"):
            await swarm.spawn(lambda: bound._cell.agent)
        with pytest.raises(TypeError, match="async def run"):
            await swarm.spawn(Odd)
        with pytest.raises(ValueError, match="mailbox"):
            await swarm.spawn(Worker, mailbox=0)
        with pytest.raises(TypeError, match="restart"):
            await swarm.spawn(Worker, restart="always")  # type: ignore[arg-type]
        with pytest.raises(TypeError, match="capabilities"):
            await swarm.spawn(Worker, capabilities="read")
        assert len(swarm.agents) == 2


@virtual
async def test_a_name_can_be_taken_over():
    """spawn(replace=True): the old one finishes, the new one takes its place."""
    async with Swarm() as swarm:
        diary: list[str] = []
        old = await swarm.spawn(Hooked, diary, name="ada")
        await old.tell(Worker.steps, "a", 3)
        new = await swarm.spawn(Worker, diary, name="ada", replace=True)
        assert diary == ["started ada", "begin a", "end a", "stopping ada"]
        assert old.status == "offline"
        assert old != new
        assert swarm.agents["ada"] == new
        document = await swarm.state.get("global.registry.ada")
        assert document["type"] == "worker"


@virtual
async def test_a_paused_agent_takes_up_nothing_until_resumed():
    """Lifecycle: pause lets the turn in hand end."""
    async with Swarm() as swarm:
        diary: list[str] = []
        ref = await swarm.spawn(Worker, diary, name="ada")
        slow = asyncio.ensure_future(ref.ask(Worker.slow, "a", 1))
        await turns(2)
        await ref.pause()
        assert slow.done()
        assert ref.status == "paused"
        await ref.tell(Worker.echo, "later")
        aside = asyncio.ensure_future(ref.ask(Worker.peek))
        await turns(5)
        assert diary == ["begin a", "end a"]
        document = await swarm.state.get("global.registry.ada")
        assert document["status"] == "paused"
        await ref.resume()
        await aside
        await ref.ask(Worker.add, 1)
        assert diary[-1] == "echo later"
        await ref.pause()
        await ref.tell(Worker.echo, "at the end")
        await ref.stop()
        assert diary[-1] == "echo at the end"
        with pytest.raises(InvalidTransition):
            ref.pause()


@virtual
async def test_an_agent_may_stop_or_kill_itself():
    """Lifecycle: no deadlock; the stop comes after the turn."""
    async with Swarm() as swarm:
        diary: list[str] = []
        ref = await swarm.spawn(Hooked, diary, name="ada")
        assert await ref.ask(Worker.stop_myself) == "still here"
        await ref.stop()
        assert diary[-1] == "stopping ada"
        other = await swarm.spawn(Hooked, diary, name="bo")
        await other.tell(Worker.kill_myself)
        await turns(5)
        assert other.status == "offline"
        assert "survived" not in diary
        assert "stopping bo" not in diary
        await other.kill()


@virtual
async def test_an_agent_may_pause_itself():
    """Lifecycle: awaiting the pause in one's own turn does not hang."""

    class Shy(Agent):
        async def hide(self) -> str:
            await self.ref.pause()
            return "hidden"

    async with Swarm() as swarm:
        ref = await swarm.spawn(Shy)
        assert await ref.ask(Shy.hide) == "hidden"
        assert ref.status == "paused"


@virtual
async def test_stop_in_time_or_not():
    """stop(timeout): what is left then is cancelled."""
    async with Swarm() as swarm:
        diary: list[str] = []
        ref = await swarm.spawn(Hooked, diary, name="ada")
        await ref.tell(Worker.slow, "a", 100)
        await ref.stop(timeout=2)
        assert diary == ["started ada", "begin a", "cancelled a"]
        assert asyncio.get_running_loop().time() == pytest.approx(1002)


@virtual
async def test_a_failing_stopping_hook_is_raised_by_stop():
    """Nothing is swallowed; the agent ends all the same."""

    class Clumsy(Agent):
        async def stopping(self) -> None:
            raise OSError("stuck")

    async with Swarm() as swarm:
        ref = await swarm.spawn(Clumsy)
        with pytest.raises(OSError, match="stuck"):
            await ref.stop()
        assert ref.status == "offline"
        assert swarm.agents.failures[0].agent == ref.name
    with pytest.raises(ExceptionGroup) as caught:
        async with Swarm() as swarm:
            await swarm.spawn(Clumsy)
    assert [type(error) for error in caught.value.exceptions] == [OSError]


@virtual
async def test_run_is_a_main_activity_beside_the_mailbox():
    """run(): its own task; the agent goes on when it returns, ends it when stopped."""

    class Busy(Agent):
        def __init__(self, rounds: int) -> None:
            self.rounds, self.done = rounds, 0
            self.cancelled = False

        async def run(self) -> None:
            try:
                for _ in range(self.rounds):
                    await asyncio.sleep(1)
                    self.done += 1
            except asyncio.CancelledError:
                self.cancelled = True
                raise

        async def rounds_done(self) -> int:
            return self.done

    async with Swarm() as swarm:
        short = await swarm.spawn(Busy, 2)
        long = await swarm.spawn(Busy, 1000)
        await asyncio.sleep(5.5)
        assert await short.ask(Busy.rounds_done) == 2
        assert await long.ask(Busy.rounds_done) == 5
        agent = long._cell.agent
        await long.stop()
        assert agent.cancelled
        assert short.status == "idle"


@virtual
async def test_a_run_that_stops_its_own_agent_ends():
    """run() may call stop(): it is cancelled there, as by anybody's stop."""

    class Quitter(Agent):
        async def run(self) -> None:
            await asyncio.sleep(1)
            await self.ref.stop()

    async with Swarm() as swarm:
        ref = await swarm.spawn(Quitter)
        await asyncio.sleep(2)
        assert ref.status == "offline"


@virtual
async def test_permanent_agents_come_back_when_they_stop_themselves():
    """Restart: permanent however it ended by itself; not when told from outside."""
    async with Swarm() as swarm:
        diary: list[str] = []
        restart = Restart("permanent")
        ref = await swarm.spawn(Hooked, diary, name="ada", restart=restart)
        await ref.ask(Worker.stop_myself)
        await asyncio.sleep(1)
        assert ref.status == "idle"
        assert diary == ["started ada", "stopping ada", "started ada"]
        assert await ref.ask(Worker.add, 1) == 1
        await ref.stop()
        await asyncio.sleep(1)
        assert ref.status == "offline"


@virtual
async def test_an_agent_killed_before_its_first_step_is_over():
    """G12: a task cancelled before it began runs no `finally`; nobody waits for one."""

    class Runner(Worker):
        async def run(self) -> None:
            await asyncio.sleep(100)

    async with Swarm() as swarm:
        for method in (Worker.echo, Worker.peek):
            ref = await swarm.spawn(Runner)
            await ref.tell(method)
            ask = asyncio.ensure_future(ref.ask(method))
            await turns(0)
            await ref.kill()
            assert not ref.load
            with pytest.raises(NoSuchAgent):
                await ask


@virtual
async def test_stopping_many_that_stop_each_other_ends():
    """Lifecycle: stops may overlap."""
    async with Swarm() as swarm:
        refs = [await swarm.spawn(Worker) for _ in range(5)]
        await asyncio.gather(*(ref.stop() for ref in refs), refs[0].stop())
        assert len(swarm.agents) == 0


def test_a_ref_belongs_to_its_loop():
    """G3: use from another event loop is one clear error."""
    swarm = None
    ref = None

    async def one() -> None:
        nonlocal swarm, ref
        swarm = await Swarm.open()
        ref = await swarm.spawn(Worker)

    async def two() -> None:
        assert ref is not None
        with pytest.raises(WrongLoop):
            await ref.ask(Worker.echo)
        with pytest.raises(WrongLoop):
            await ref.tell(Worker.echo)
        with pytest.raises(WrongLoop):
            await ref.stop()
        with pytest.raises(WrongLoop):
            ref.kill()
        with pytest.raises(WrongLoop):
            ref.pause()

    asyncio.run(one())
    run(two())
    with pytest.raises(WrongLoop):
        ref.tell_nowait(Worker.echo)


# --- the table ------------------------------------------------------------


def test_the_table_allows_no_other_transition():
    """Lifecycle: against the list of what makes sense, step by step."""
    allowed = {
        (Status.INITIALIZING, Step.READY, Status.IDLE),
        (Status.IDLE, Step.PAUSE, Status.PAUSED),
        (Status.PAUSED, Step.PAUSE, Status.PAUSED),
        (Status.PAUSED, Step.RESUME, Status.IDLE),
        (Status.IDLE, Step.RESUME, Status.IDLE),
        (Status.IDLE, Step.DRAIN, Status.DRAINING),
        (Status.PAUSED, Step.DRAIN, Status.DRAINING),
        (Status.DRAINING, Step.DRAIN, Status.DRAINING),
        (Status.INITIALIZING, Step.FAIL, Status.ERROR),
        (Status.IDLE, Step.FAIL, Status.ERROR),
        (Status.PAUSED, Step.FAIL, Status.ERROR),
        (Status.DRAINING, Step.FAIL, Status.ERROR),
        (Status.ERROR, Step.RESTART, Status.INITIALIZING),
    } | {(status, Step.END, Status.OFFLINE) for status in Status}
    for status in Status:
        for step in Step:
            found = [after for s, p, after in allowed if (s, p) == (status, step)]
            if found:
                assert follow(status, step, "ada") is found[0]
            else:
                with pytest.raises(InvalidTransition, match="'ada'"):
                    follow(status, step, "ada")


# --- corners ----------------------------------------------------------


@virtual
async def test_an_agent_may_stop_another():
    """Lifecycle: its turn waits for the end of the other, like the program."""
    async with Swarm() as swarm:
        diary: list[str] = []
        ada = await swarm.spawn(Worker, name="ada")
        bo = await swarm.spawn(Hooked, diary, name="bo")
        await ada.ask(Worker.meet, bo=bo)
        await bo.tell(Worker.steps, "x", 3)
        await ada.ask(Worker.restless, ["bo"])
        assert diary == ["started bo", "begin x", "end x", "stopping bo"]


@virtual
async def test_an_agent_killed_while_it_starts_was_never_there():
    """Q11: spawn raises; whether `started` had begun or not."""

    class Slow(Worker):
        async def started(self) -> None:
            await asyncio.sleep(10)

    async with Swarm() as swarm:
        for k in range(4):
            spawn = asyncio.ensure_future(swarm.spawn(Slow, name="new"))
            await turns(k)
            ref = swarm.agents.get("new")
            if ref is not None:
                await ref.kill()
                with pytest.raises(AgentDied):
                    await spawn
            else:
                spawn.cancel()
                await asyncio.wait([spawn])
            assert "new" not in swarm.agents


@virtual
async def test_a_started_hook_killed_in_the_very_turn_of_its_spawn():
    """Q11: the hook is still queued then."""

    class Slow(Worker):
        async def started(self) -> None:
            await asyncio.sleep(10)

    async with Swarm() as swarm:

        async def spawn() -> None:
            swarm_spawn = swarm.spawn(Slow, name="new").__await__()
            next(swarm_spawn)
            await swarm.agents["new"].kill()
            swarm_spawn.close()

        await spawn()
        assert len(swarm.agents) == 0


@pytest.mark.parametrize("restart", [None, Restart(), Restart("temporary")])
@virtual
async def test_a_failure_while_stopping_ends_the_agent(restart):
    """Supervision: it is not restarted; unsupervised it still is a failure."""
    expected = pytest.raises(ExceptionGroup) if restart is None else nullcontext()
    with expected:
        async with Swarm() as swarm:
            ref = await swarm.spawn(Worker, restart=restart)
            await ref.tell(Worker.slow, "a", 1)
            await ref.tell(Worker.fail)
            ask = asyncio.ensure_future(ref.ask(Worker.echo))
            await turns(2)
            with pytest.raises((ValueError, Closed)):
                await ref.stop()
            assert ref.status == "offline"
    with pytest.raises((AgentDied, Closed)):
        await ask


@virtual
async def test_a_stopping_hook_that_fails_without_a_waiter_is_a_failure():
    """Nothing is swallowed: a self-stop has no caller to raise at."""

    class Clumsy(Worker):
        async def stopping(self) -> None:
            raise OSError("stuck")

    with pytest.raises(ExceptionGroup):
        async with Swarm() as swarm:
            ref = await swarm.spawn(Clumsy)
            await ref.ask(Worker.stop_myself)
            await asyncio.sleep(10)
    async with Swarm() as swarm:
        ref = await swarm.spawn(Clumsy, restart=Restart("transient"))
        await ref.ask(Worker.stop_myself)
        await asyncio.sleep(10)
        assert swarm.agents.failures[0].decision == "stop"


@virtual
async def test_a_run_cancelled_from_inside_is_a_failure():
    """run(): a stray CancelledError does not end it in silence."""

    class Stray(Agent):
        async def run(self) -> None:
            await asyncio.sleep(1)
            raise asyncio.CancelledError

    with pytest.raises(ExceptionGroup) as caught:
        async with Swarm() as swarm:
            await swarm.spawn(Stray)
            await asyncio.sleep(10)
    assert isinstance(caught.value.exceptions[0], RemoteCancelled)


@virtual
async def test_an_error_after_the_asker_has_gone_is_logged(caplog):
    """Q3: dropped and counted, not swallowed."""

    class Messy(Worker):
        async def mess(self) -> None:
            try:
                await asyncio.sleep(100)
            finally:
                raise OSError("while cleaning up")

        @interleave
        async def mess_aside(self) -> None:
            await self.mess()

    async with Swarm() as swarm:
        ref = await swarm.spawn(Messy, name="ada")
        for number, method in enumerate((Messy.mess, Messy.mess_aside), 1):
            ask = asyncio.ensure_future(ref.ask(method))
            await turns(3)
            ask.cancel()
            await turns(5)
            assert caplog.text.count("failed after its asker had gone") == number
            assert swarm.agents.info("ada").late == number


@virtual
async def test_interleaved_streams_run_beside_turns():
    """Q6, T1: a generator may be interleaved, too."""

    class Radio(Worker):
        @interleave
        async def listen(self, number: int):
            for value in range(number):
                await asyncio.sleep(1)
                yield value

    async with Swarm() as swarm:
        ref = await swarm.spawn(Radio)
        slow = asyncio.ensure_future(ref.ask(Worker.slow, "a", 100))
        assert [item async for item in ref.stream(Radio.listen, 3)] == [0, 1, 2]
        assert not slow.done()
        slow.cancel()


def test_interleave_is_for_async_methods():
    """Bad input: at once."""
    with pytest.raises(TypeError, match="async"):

        @interleave
        def plain() -> None: ...
