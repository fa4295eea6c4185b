"""The end of a swarm: who asks for it, who waits for it, and what it raises."""

import asyncio
import contextlib
import logging

import anyio
import pytest

from swarm import (
    Agent,
    Closed,
    DeadlockError,
    ShutdownTimeout,
    Swarm,
    SwarmConfig,
    event,
)
from tests.support.actors import Worker
from tests.support.virtual_loop import run, turns, virtual


@event("end.ping")
class Ping:
    number: int = 0


class Closer(Agent):
    """Closes its swarm in several ways, and says what came of it."""

    def __init__(self, swarm: Swarm | None = None, diary: list[str] | None = None):
        self.mine = swarm
        self.diary = [] if diary is None else diary

    async def close(self) -> None:
        await self.mine.close()

    async def close_in_a_child(self) -> None:
        await asyncio.gather(self.mine.close())

    async def leave_the_block_in_a_child(self) -> None:
        await asyncio.gather(self.mine.__aexit__(None, None, None))

    async def end(self) -> None:
        await self.swarm.end()
        self.diary.append("asked")
        await asyncio.sleep(1)
        self.diary.append("finished")

    async def close_later(self) -> None:
        self.left = asyncio.ensure_future(self.mine.close())

    async def fail_with(self, error: BaseException) -> None:
        raise error


async def enter(something) -> None:
    async with something:
        pass


# --- asking and waiting ---------------------------------------------------------------


@virtual
@pytest.mark.parametrize(
    "method",
    [Closer.close, Closer.close_in_a_child, Closer.leave_the_block_in_a_child],
)
async def test_code_of_a_swarm_that_waits_for_its_end_is_told_of_the_deadlock(method):
    async with Swarm() as swarm:
        closer = await swarm.spawn(Closer, swarm)
        with pytest.raises(DeadlockError, match=r"swarm\.end"):
            await closer.ask(method)


@virtual
async def test_a_handlers_child_task_that_closes_is_told_of_the_deadlock():
    raised: list[BaseException] = []
    async with Swarm() as swarm:

        async def handler(_):
            try:
                await asyncio.gather(swarm.close())
            except DeadlockError as error:
                raised.append(error)

        await swarm.events.on(Ping, handler)
        await swarm.events.publish(Ping())
        await asyncio.sleep(1)
    assert len(raised) == 1


@virtual
async def test_a_task_that_a_turn_left_behind_may_close_the_swarm():
    swarm = await Swarm.open()
    closer = await swarm.spawn(Closer, swarm)
    await closer.ask(Closer.close_later)
    await swarm.close()
    with pytest.raises(Closed):
        await closer.ask(Closer.close_later)


@virtual
async def test_two_closers_that_wait_for_each_other_both_return():
    """A second close() waits for the end, not for the task of the first."""
    swarm = await Swarm.open()
    first_done = asyncio.Event()

    async def first() -> None:
        await swarm.close()
        first_done.set()
        await second_task

    async def second() -> None:
        await swarm.close()
        await first_done.wait()

    second_task = asyncio.ensure_future(second())
    await asyncio.gather(first(), second_task)


@virtual
async def test_a_closer_that_waits_for_a_turn_that_waits_for_it_gets_the_end_in_time():
    """The wait is cut by `drain_timeout`: the graph does not know the task's caller."""

    class Waiter(Agent):
        async def wait_for(self, task: "asyncio.Task[None]") -> None:
            await task

    began = asyncio.get_running_loop().time()
    swarm = await Swarm.open(config=SwarmConfig(drain_timeout=5))
    waiter = await swarm.spawn(Waiter)
    closing = asyncio.ensure_future(swarm.close())
    await waiter.tell(Waiter.wait_for, closing)
    with contextlib.suppress(asyncio.CancelledError):
        await closing
    await swarm.close()
    assert asyncio.get_running_loop().time() - began < 10


@virtual
async def test_a_cancelled_closer_ends_everything_at_once_and_waits_for_that():
    diary: list[str] = []
    swarm = await Swarm.open()
    ref = await swarm.spawn(Worker, diary)
    await ref.tell(Worker.slow, "a", 1000)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(2):
            await swarm.close()
    assert diary == ["begin a", "cancelled a"]
    assert ref.status == "offline"


@virtual
async def test_an_agent_asks_for_the_end_without_waiting_for_it():
    """The body is cancelled, the turn finishes, and the block ends without an error."""
    diary: list[str] = []
    async with Swarm() as swarm:
        closer = await swarm.spawn(Closer, None, diary)
        await closer.tell(Closer.end)
        await asyncio.Event().wait()
    assert diary == ["asked", "finished"]
    assert asyncio.current_task().cancelling() == 0


@virtual
async def test_the_end_that_an_agent_asked_for_closes_a_swarm_without_a_block():
    diary: list[str] = []
    swarm = await Swarm.open()
    closer = await swarm.spawn(Closer, None, diary)
    await closer.tell(Closer.end)
    await asyncio.sleep(5)
    assert diary == ["asked", "finished"]
    with pytest.raises(Closed):
        await swarm.spawn(Worker)
    await swarm.close()


@virtual
async def test_a_body_that_ends_as_the_end_is_asked_for_drains_all_the_same():
    diary: list[str] = []
    async with Swarm() as swarm:
        ref = await swarm.spawn(Worker, diary)
        await ref.tell(Worker.slow, "a", 3)
        await turns(2)
        await swarm.end()
    assert diary == ["begin a", "end a"]
    await asyncio.sleep(0)


# --- in another task ------------------------------------------------------------------


@virtual
async def test_the_block_may_be_left_in_another_task_than_it_was_entered_in():
    """As a yield fixture of pytest-asyncio does."""
    swarm = Swarm()
    await asyncio.ensure_future(swarm.__aenter__())
    ref = await swarm.spawn(Worker)
    assert await ref.ask(Worker.echo, 1) == 1
    await asyncio.ensure_future(swarm.__aexit__(None, None, None))
    assert ref.status == "offline"


@virtual
async def test_a_block_left_in_another_task_tells_of_its_failures():
    swarm = Swarm()
    await asyncio.ensure_future(swarm.__aenter__())
    ref = await swarm.spawn(Worker)
    await ref.tell(Worker.fail)
    await turns(5)
    with pytest.raises(Closed):
        await ref.ask(Worker.echo)
    with pytest.raises(ExceptionGroup) as caught:
        await asyncio.ensure_future(swarm.__aexit__(None, None, None))
    assert isinstance(caught.value.exceptions[0], ValueError)


@virtual
async def test_a_swarm_may_be_opened_and_closed_in_different_tasks():
    swarm = await asyncio.ensure_future(Swarm.open())
    ref = await asyncio.ensure_future(swarm.spawn(Worker))
    await asyncio.ensure_future(swarm.close())
    assert ref.status == "offline"


@pytest.fixture
async def opened():
    """A fixture of pytest-asyncio: its two halves run in different tasks."""
    async with Swarm() as swarm:
        yield swarm


async def test_a_yield_fixture_opens_and_closes_a_swarm(opened):
    ref = await opened.spawn(Worker)
    assert await ref.ask(Worker.echo, 2) == 2


# --- which error wins -----------------------------------------------------------------


def outcome(body_error: BaseException | None, agent_error: BaseException | None):
    """Return what a block raises whose body and whose agent fail so."""

    async def main() -> BaseException | None:
        try:
            async with Swarm() as swarm:
                closer = await swarm.spawn(Closer)
                if agent_error is not None:
                    await closer.tell(Closer.fail_with, agent_error)
                    with contextlib.suppress(asyncio.CancelledError):
                        await asyncio.sleep(1)
                if body_error is not None:
                    raise body_error
        except BaseException as error:
            return error
        return None

    return run(main())


def test_an_exit_or_interrupt_of_the_body_wins_over_failures_of_agents(caplog):
    for error in (SystemExit(3), KeyboardInterrupt()):
        assert outcome(error, ValueError("agent")) is error
        assert "ValueError: agent" in caplog.text


def test_failures_of_agents_win_over_a_plain_cancellation_of_the_body():
    raised = outcome(asyncio.CancelledError(), ValueError("agent"))
    assert isinstance(raised, ExceptionGroup)
    assert [str(error) for error in raised.exceptions] == ["agent"]


def test_a_failure_of_the_body_joins_the_failures_of_agents():
    raised = outcome(LookupError("body"), ValueError("agent"))
    assert isinstance(raised, ExceptionGroup)
    assert [str(error) for error in raised.exceptions] == ["agent", "body"]


def test_a_body_alone_raises_what_it_raised():
    for error in (asyncio.CancelledError(), SystemExit(), LookupError("mine")):
        assert outcome(error, None) is error


@virtual
async def test_a_cancellation_from_outside_is_counted_and_passed_on():
    """`asyncio.timeout` and a cancel scope around the block see their cancellation."""
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(1), Swarm():
            await asyncio.sleep(10)
    with anyio.move_on_after(1) as scope:
        async with Swarm():
            await asyncio.sleep(10)
    assert scope.cancelled_caught
    assert asyncio.current_task().cancelling() == 0


@virtual
async def test_a_failure_leaves_no_cancellation_with_the_program():
    with pytest.raises(ExceptionGroup):
        async with Swarm() as swarm:
            await (await swarm.spawn(Worker)).tell(Worker.fail)
            await asyncio.sleep(10)
    assert asyncio.current_task().cancelling() == 0
    await asyncio.sleep(0)


# --- failures that are logged ---------------------------------------------------------


@virtual
async def test_a_swarm_that_logs_failures_goes_on(caplog):
    """What a failing cell of a notebook needs."""
    swarm = await Swarm.open(on_failure="log")
    bad, good = await swarm.spawn(Worker), await swarm.spawn(Worker)
    with caplog.at_level(logging.ERROR, "swarm"):
        await bad.tell(Worker.fail)
        await turns(5)
    assert "no" in caplog.text
    assert await good.ask(Worker.echo, 3) == 3
    await swarm.state.set("shared.x", 1)
    await swarm.close()


# --- a closed swarm -------------------------------------------------------------------


@virtual
async def test_a_closed_swarm_is_closed_everywhere():
    swarm = await Swarm.open()
    ref = await swarm.spawn(Worker)
    state, events = swarm.state, swarm.events
    stream = events.subscribe(Ping)
    lock, gate = swarm.lock("x"), swarm.barrier("b", 2)
    semaphore = swarm.semaphore("s", 1)
    await swarm.close()

    async def handler(_) -> None: ...

    attempts = {
        "spawn": lambda: swarm.spawn(Worker),
        "ask": lambda: ref.ask(Worker.echo),
        "tell": lambda: ref.tell(Worker.echo),
        "get": lambda: state.get("x"),
        "set": lambda: state.set("x", 1),
        "keys": lambda: state.keys(),
        "history": lambda: state.history("x"),
        "transaction": lambda: enter(state.transaction()),
        "watch": lambda: enter(state.watch("x")),
        "publish": lambda: events.publish(Ping()),
        "on": lambda: events.on(Ping, handler),
        "subscribe": lambda: enter(stream),
        "lock": lambda: lock.acquire(),
        "semaphore": lambda: semaphore.acquire(),
        "barrier": lambda: gate.wait(),
        "acquire_all": lambda: enter(swarm.acquire_all(["a", "b"])),
    }
    for name, attempt in attempts.items():
        with pytest.raises(Closed):
            await attempt()
            pytest.fail(f"{name} still works")
    for plain in (
        lambda: ref.tell_nowait(Worker.echo),
        lambda: swarm.lock("y"),
        lambda: swarm.group("g"),
        swarm.portal,
        lambda: swarm.locks,
    ):
        with pytest.raises(Closed):
            plain()
    assert "closed" in swarm.explain()


@virtual
async def test_a_swarm_that_failed_is_closed_everywhere_with_the_cause():
    """Also before anybody calls close()."""
    swarm = await Swarm.open()
    ref = await swarm.spawn(Worker)
    tasks, held = swarm.tasks, swarm.lock("x")
    await ref.tell(Worker.fail)
    await asyncio.sleep(5)
    attempts = {
        "get": lambda: swarm.state.get("x"),
        "set": lambda: swarm.state.set("x", 1),
        "keys": swarm.state.keys,
        "transaction": lambda: enter(swarm.state.transaction()),
        "watch": lambda: enter(swarm.state.watch("x")),
        "publish": lambda: swarm.events.publish(Ping()),
        "on": lambda: swarm.events.on(Ping, print),
        "subscribe": lambda: enter(swarm.events.subscribe(Ping)),
        "spawn": lambda: swarm.spawn(Worker),
        "ask": lambda: ref.ask(Worker.echo),
        "lock": lambda: held.acquire(),
        "submit": lambda: tasks.submit("x"),
        "claim": lambda: enter(tasks.claim("x")),
    }
    for name, attempt in attempts.items():
        with pytest.raises(Closed, match="by an unhandled failure: ValueError") as info:
            await attempt()
            pytest.fail(f"{name} still works")
        assert isinstance(info.value.__cause__, ValueError), name
    with pytest.raises(ExceptionGroup):
        await swarm.close()
    await swarm.close()


# --- code that does not end -----------------------------------------------------------


class Zombie(Agent):
    """Ignores every cancellation."""

    async def stay(self, wake: "asyncio.Future[None]") -> None:
        while not wake.done():
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.shield(wake)


@virtual
async def test_close_returns_though_an_agent_ignores_every_cancellation():
    """One error names agent, method and line."""
    wake = asyncio.get_running_loop().create_future()
    swarm = await Swarm.open(config=SwarmConfig(drain_timeout=1))
    zombie = await swarm.spawn(Zombie, name="zoe", shutdown=2)
    began = asyncio.get_running_loop().time()
    await zombie.tell(Zombie.stay, wake)
    await turns(2)
    with pytest.raises(ExceptionGroup) as caught:
        await swarm.close()
    assert asyncio.get_running_loop().time() - began < 10
    (error,) = caught.value.exceptions
    assert isinstance(error, ShutdownTimeout)
    assert "'zoe'" in str(error)
    assert "stay" in str(error)
    assert 'test_end.py", line ' in str(error)
    wake.set_result(None)
    await turns(5)


# --- errors that are no Exception -----------------------------------------------------


def test_pytest_fail_in_an_agent_fails_the_test():
    """Told, it reaches the end of the block; asked, the asker."""

    async def told() -> None:
        async with Swarm() as swarm:
            closer = await swarm.spawn(Closer)
            await closer.tell(Closer.fail_with, failure)
            await asyncio.sleep(1)

    async def asked() -> None:
        async with Swarm() as swarm:
            closer = await swarm.spawn(Closer)
            await closer.ask(Closer.fail_with, failure)

    failure = pytest.fail.Exception("the agent says no")
    with pytest.raises(BaseExceptionGroup) as caught:
        run(told())
    assert caught.value.subgroup(lambda error: error is failure) is not None
    with pytest.raises(BaseException) as raised:
        run(asked())
    found = raised.value
    if isinstance(found, BaseExceptionGroup):
        found = found.exceptions[0]
    assert found is failure
