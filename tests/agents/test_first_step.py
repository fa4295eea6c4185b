"""A turn whose first step runs in its asker's call stack cannot tell (DESIGN.md, 5)."""

import asyncio
import contextvars
import itertools
import sys
import types
from collections.abc import Awaitable, Callable

import anyio
import pytest

from swarm import Agent, AgentDied, Ref, RemoteCancelled, Swarm
from swarm.agents._worker import DEPTH, INLINE, PARKED
from swarm.testing import explore, sweep_cancel
from tests.support.actors import Worker, graph_of
from tests.support.virtual_loop import VirtualLoop, run, turns, virtual

VAR: contextvars.ContextVar[str] = contextvars.ContextVar("VAR", default="none")


class Probe(Worker):
    """Does as it is told in its own turn."""

    async def do(self, what: Callable[["Probe"], Awaitable[object]]) -> object:
        return await what(self)

    async def call(self, what: Callable[["Probe"], object]) -> object:
        return what(self)


async def warm(swarm: Swarm, *names: str) -> list[Ref[Probe]]:
    """Return agents that know each other, with parked tasks for all of them."""
    refs = {name: await swarm.spawn(Probe, name=name) for name in names}
    await asyncio.gather(*(ref.ask(Worker.steps, "warm", 1) for ref in refs.values()))
    for ref in refs.values():
        await ref.ask(Worker.meet, **refs)
        ref._cell.agent.diary.clear()
    return list(refs.values())


# --- where it runs -------------------------------------------------------------------


@virtual
async def test_an_ask_to_an_idle_agent_needs_no_turn_of_the_loop(core):
    """Only the handler that waits for something costs loop turns."""
    async with Swarm() as swarm:
        (ada,) = await warm(swarm, "ada")
        ran: list[int] = []
        asyncio.get_running_loop().call_soon(ran.append, 1)
        assert await ada.ask(Worker.add, 1, 2) == 3
        assert ran == ([] if core == "inline" else [1])
        assert ada.status == "idle"


@virtual
async def test_a_handler_sees_its_agents_task_in_every_step():
    """The asker's task is never the current one in the code of an agent."""

    async def look(probe: Probe) -> list[asyncio.Task[object] | None]:
        first = asyncio.current_task()
        assert first is not None
        assert first.get_name() == probe.name
        await asyncio.sleep(0)
        second = asyncio.current_task()
        await asyncio.get_running_loop().create_task(asyncio.sleep(0.1))
        return [first, second, asyncio.current_task()]

    async with Swarm() as swarm:
        ada, bo = await warm(swarm, "ada", "bo")
        me = asyncio.current_task()
        seen = await ada.ask(Probe.do, look)
        assert len(set(seen)) == 1
        assert me not in seen
        assert asyncio.current_task() is me

        async def look_twice(probe: Probe) -> None:
            before = asyncio.current_task()
            inner = await probe.friends["bo"].ask(Probe.do, look)
            assert before not in inner
            assert asyncio.current_task() is before

        await ada.ask(Probe.do, look_twice)
        with pytest.raises(ValueError, match="no"):
            await bo.ask(Worker.fail)
        assert asyncio.current_task() is me


@virtual
async def test_an_asker_that_is_no_task_is_served_as_well():
    """A coroutine may be stepped by hand, from a plain callback."""
    async with Swarm() as swarm:
        (ada,) = await warm(swarm, "ada")
        loop = asyncio.get_running_loop()
        done: asyncio.Future[object] = loop.create_future()

        def callback() -> None:
            coroutine = ada.ask(Worker.add, 1, 2)
            try:
                coroutine.send(None)
            except StopIteration as stop:
                done.set_result(stop.value)
            else:
                coroutine.close()
                done.set_result("suspended")
            assert asyncio.current_task() is None

        loop.call_soon(callback)
        assert await done in (3, "suspended")
        assert await ada.ask(Worker.add, 1) == 1


def _set(value: str) -> Callable[[Probe], str]:
    def setting(_: Probe) -> str:
        before = VAR.get()
        VAR.set(value)
        return before

    return setting


@virtual
async def test_context_variables_stay_in_the_turn():
    """Each turn has its own copy of the swarm's context."""

    async def across(_: Probe) -> str:
        token = VAR.set("mine")
        await asyncio.sleep(0)
        assert VAR.get() == "mine"
        child = asyncio.create_task(Probe.call(Probe(), lambda _: VAR.get()))
        assert await child == "mine"
        VAR.reset(token)
        return VAR.get()

    async with Swarm() as swarm:
        ada, bo = await warm(swarm, "ada", "bo")
        VAR.set("asker")
        for ref in (ada, bo, ada):
            assert await ref.ask(Probe.call, _set("turn")) == "none"
            assert await ref.ask(Probe.do, across) == "none"
            await ref.tell(Probe.call, _set("told"))
        assert await ada.ask(Probe.call, _set("turn")) == "none"
        assert VAR.get() == "asker"


# --- time-outs, scopes, task groups --------------------------------------------------


@virtual
async def test_time_outs_in_the_first_step_hit_the_turn_alone():
    """asyncio and anyio find the task to cancel by asking which one is current."""

    async def asyncio_timeout(_: Probe) -> str:
        try:
            async with asyncio.timeout(0.5):
                await asyncio.sleep(10)
        except TimeoutError:
            return "late"
        return "never"

    async def already_late(_: Probe) -> str:
        try:
            async with asyncio.timeout(-1):
                await asyncio.sleep(10)
        except TimeoutError:
            return "late"
        return "never"

    async def anyio_scope(_: Probe) -> str:
        with anyio.move_on_after(0.5) as scope:
            await anyio.sleep(10)
        return "late" if scope.cancelled_caught else "never"

    async def anyio_fail(_: Probe) -> str:
        try:
            with anyio.fail_after(0):
                await anyio.sleep(10)
        except TimeoutError:
            return "late"
        return "never"

    async with Swarm() as swarm:
        (ada,) = await warm(swarm, "ada")
        for what in (asyncio_timeout, already_late, anyio_scope, anyio_fail) * 2:
            assert await ada.ask(Probe.do, what) == "late"
            task = asyncio.current_task()
            assert task is not None
            assert task.cancelling() == 0
            assert await ada.ask(Worker.add, 1, 1) == 2


@virtual
async def test_task_groups_in_the_first_step():
    """A child that fails ends its group and the turn, and nothing else."""

    async def fail() -> None:
        await asyncio.sleep(0.1)
        raise KeyError

    async def asyncio_group(_: Probe) -> str:
        async with asyncio.TaskGroup() as group:
            group.create_task(fail())
            await asyncio.sleep(10)
        return "never"

    async def anyio_group(_: Probe) -> str:
        async with anyio.create_task_group() as group:
            group.start_soon(fail)
            await anyio.sleep(10)
        return "never"

    async def good(_: Probe) -> int:
        async with anyio.create_task_group() as outer, asyncio.TaskGroup() as inner:
            outer.start_soon(anyio.sleep, 0.1)
            child = inner.create_task(asyncio.sleep(0.2, 7))
        return child.result()

    async with Swarm() as swarm:
        (ada,) = await warm(swarm, "ada")
        for what in (asyncio_group, anyio_group):
            with pytest.raises(ExceptionGroup) as caught:
                await ada.ask(Probe.do, what)
            assert isinstance(caught.value.exceptions[0], KeyError)
            assert await ada.ask(Probe.do, good) == 7


@virtual
async def test_two_may_await_one_future():
    """The future a suspended first step waits for is as it would be with a task."""
    async with Swarm() as swarm:
        ada, bo = await warm(swarm, "ada", "bo")
        gate: asyncio.Future[str] = asyncio.get_running_loop().create_future()

        async def wait(_: Probe) -> str:
            return await gate

        async def outside() -> str:
            return await gate

        asks = [asyncio.ensure_future(ref.ask(Probe.do, wait)) for ref in (ada, bo)]
        asks.append(asyncio.ensure_future(outside()))
        await turns(1)
        asks.append(asyncio.ensure_future(outside()))
        gate.get_loop().call_soon(gate.set_result, "open")
        assert await asyncio.gather(*asks) == ["open"] * 4


@virtual
async def test_a_bad_yield_is_an_error_as_in_every_task():
    """Nonsense and futures that were yielded instead of awaited."""

    @types.coroutine
    def give(thing: object):
        yield thing

    async def nonsense(_: Probe) -> None:
        await give(7)

    async def unmarked(_: Probe) -> None:
        await give(asyncio.get_running_loop().create_future())

    async with Swarm() as swarm:
        (ada,) = await warm(swarm, "ada")
        with pytest.raises(RuntimeError, match="Task got bad yield: 7"):
            await ada.ask(Probe.do, nonsense)
        with pytest.raises(RuntimeError, match="yield was used instead of yield from"):
            await ada.ask(Probe.do, unmarked)


# --- fairness and depth --------------------------------------------------------------


@virtual
async def test_an_asker_that_is_always_answered_at_once_lets_others_run():
    """The loop turns at least once in `INLINE` asks."""
    async with Swarm() as swarm:
        (ada,) = await warm(swarm, "ada")
        asked, at = 0, []
        loop = asyncio.get_running_loop()

        def tick() -> None:
            at.append(asked)
            loop.call_soon(tick) if asked < 4 * INLINE else None

        loop.call_soon(tick)
        while asked < 4 * INLINE:
            await ada.ask(Worker.add, 1)
            asked += 1
        gaps = [b - a for a, b in itertools.pairwise(at)]
        assert max(gaps) <= INLINE + 2
        assert len(at) >= 3


@virtual
async def test_a_long_chain_of_asks_nests_only_so_deep(core):
    """Each first step within another takes some of the one stack."""
    depths: list[int] = []

    class Link(Probe):
        async def relay(self, *names: str) -> object:
            depths.append(self.ref._cell.host.pool.depth)
            return await super().relay(*names)

    names = [f"n{number}" for number in range(3 * DEPTH)]
    async with Swarm() as swarm:
        refs = {name: await swarm.spawn(Link, name=name) for name in names}
        await asyncio.gather(*(ref.ask(Worker.steps, "", 1) for ref in refs.values()))
        for ref in refs.values():
            await ref.ask(Worker.meet, **refs)
        for _ in range(3):
            assert await refs["n0"].ask(Worker.relay, *names[1:]) == "arrived"
        assert max(depths) == (DEPTH if core == "inline" else 0)
        assert refs["n0"]._cell.host.pool.depth == 0


@virtual
async def test_idle_agents_hold_no_task_and_no_more_are_parked_than_wanted():
    """A burst leaves a bounded pool behind; its tasks serve the next burst."""
    async with Swarm() as swarm:
        refs = [await swarm.spawn(Worker) for _ in range(PARKED + 50)]
        for _ in range(2):
            await asyncio.gather(*(ref.ask(Worker.steps, "", 2) for ref in refs))
            await turns(3)
            assert all(ref._cell.worker is None for ref in refs)
            assert all(ref._cell.mailbox is None for ref in refs)
            assert (
                len(asyncio.all_tasks()) <= PARKED + 2
            )  # the program, the coordinator


# --- re-entry ------------------------------------------------------------------------


@virtual
async def test_an_agent_is_busy_while_its_first_step_runs():
    """One turn at a time: what comes in meanwhile waits."""
    async with Swarm() as swarm:
        (ada,) = await warm(swarm, "ada")

        def reenter(probe: Probe) -> asyncio.Task[object]:
            assert ada.status == "busy"
            assert ada.load == 1
            ada.tell_nowait(Worker.echo, "told")
            assert ada.load == 2
            return asyncio.ensure_future(ada.ask(Worker.echo, "asked"))

        task = await ada.ask(Probe.call, reenter)
        assert isinstance(task, asyncio.Task)
        assert await task == "asked"
        assert ada._cell.agent.diary == ["echo told", "echo asked"]


@virtual
async def test_an_agent_may_pause_stop_and_kill_itself_in_its_first_step():
    """Life's changes are in force at once; the turn in hand ends as it always does."""
    async with Swarm() as swarm:
        ada, bo, cy = await warm(swarm, "ada", "bo", "cy")
        await ada.ask(Probe.call, lambda probe: probe.ref.pause() and None)
        assert ada.status == "paused"
        queued = asyncio.ensure_future(ada.ask(Worker.add, 1))
        await turns(3)
        assert not queued.done()
        await ada.resume()
        assert await queued == 1
        assert await bo.ask(Worker.stop_myself) == "still here"
        await bo.stop()
        assert bo.status == "offline"
        with pytest.raises(AgentDied):
            await cy.ask(Probe.call, lambda probe: probe.ref.kill() and None)
        assert cy.status == "offline"
        with pytest.raises(AgentDied):
            await ada.ask(Worker.kill_myself)
        assert ada._cell.agent.diary == []


# --- cancellation --------------------------------------------------------------------


@virtual
async def test_a_first_step_that_cancels_its_asker_still_answers():
    """The answer is there; the cancellation comes at the asker's next wait."""
    async with Swarm() as swarm:
        (ada,) = await warm(swarm, "ada")
        got: list[object] = []

        async def asker() -> None:
            got.append(await ada.ask(Probe.call, lambda _: bool(task.cancel()) or 5))
            await asyncio.sleep(1)
            got.append("survived")

        task = asyncio.ensure_future(asker())
        await asyncio.wait([task])
        assert task.cancelled()
        assert "survived" not in got
        assert await ada.ask(Worker.add, 1) == 1


@virtual
async def test_cancelling_the_asker_cancels_the_future_that_the_turn_awaits():
    """Also before the agent's task has taken the turn over."""

    async def wait(probe: Probe) -> None:
        probe.diary.append("begin")
        try:
            await asyncio.create_task(probe.slow("child", 5))
        finally:
            probe.diary.append("finally")
            await asyncio.sleep(0)
            probe.diary.append("cleaned")

    for k in range(5):
        async with Swarm() as swarm:
            (ada,) = await warm(swarm, "ada")
            task = asyncio.ensure_future(ada.ask(Probe.do, wait))
            await turns(k)
            task.cancel()
            await asyncio.wait([task])
            assert task.cancelled()
            await turns(6)
            diary = ada._cell.agent.diary
            assert ("begin" in diary) == ("cleaned" in diary)
            assert ("begin child" in diary) == ("cancelled child" in diary)
            assert await ada.ask(Worker.add, 1) == 1
            assert len(graph_of(ada)) == 0


@virtual
async def test_a_turn_that_cancels_its_own_task_ends_only_itself():
    """It is the agent's task; asking it to end is heard at the next wait."""

    async def cancel_and_wait(probe: Probe) -> None:
        task = asyncio.current_task()
        assert task is not None
        task.cancel()
        try:
            await asyncio.get_running_loop().create_future()
        except asyncio.CancelledError:
            probe.diary.append("heard")
            raise

    def cancel(_: Probe) -> str:
        task = asyncio.current_task()
        assert task is not None
        task.cancel()
        return "answer"

    def cancel_and_raise(_: Probe) -> None:
        cancel(_)
        raise asyncio.CancelledError

    async with Swarm() as swarm:
        ada, bo, cy, di = await warm(swarm, "ada", "bo", "cy", "di")
        with pytest.raises(RemoteCancelled):
            await ada.ask(Probe.do, cancel_and_wait)
        assert ada._cell.agent.diary == ["heard"]
        assert await bo.ask(Probe.call, cancel) == "answer"
        with pytest.raises(RemoteCancelled):
            await cy.ask(Probe.call, cancel_and_raise)
        await turns(3)
        for ref in (ada, bo, cy, di):
            assert ref.status == "idle"
            assert await ref.ask(Worker.steps, "again", 2) == "again"


@virtual
async def test_a_cancellation_taken_back_in_the_first_step_is_none(core):
    """As asyncio's own scopes do; the future the task is parked on tells nothing."""
    if core != "inline" and sys.version_info < (3, 13):
        pytest.skip("uncancel() takes nothing back before 3.13")

    async def take_back(_: Probe) -> str:
        task = asyncio.current_task()
        assert task is not None
        task.cancel()
        task.uncancel()
        await asyncio.sleep(0.1)
        return "fine"

    async with Swarm() as swarm:
        (ada,) = await warm(swarm, "ada")
        for _ in range(2):
            assert await ada.ask(Probe.do, take_back) == "fine"


def test_a_parked_task_that_was_cancelled_is_not_used():
    """`asyncio.run` cancels all tasks there are, those of the pool among them."""

    async def main() -> None:
        async with Swarm() as swarm:
            (ada, *_) = await warm(swarm, "ada", "bo", "cy")
            others = asyncio.all_tasks() - {asyncio.current_task()}
            for task in others - {swarm._coordinator.task}:
                task.cancel()
            assert await ada.ask(Worker.steps, "x", 3) == "x"
            assert await ada.ask(Worker.add, 1) == 1

    run(main())


# --- what ends the program -----------------------------------------------------------


@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit])
def test_an_exit_or_interrupt_in_a_turn_reaches_the_asker(kind):
    """Nothing a turn raises is lost; the asker's task lets it out of the loop."""
    seen: list[BaseException] = []

    async def main() -> None:
        async with Swarm() as swarm:
            (ada,) = await warm(swarm, "ada")
            try:
                await ada.ask(Worker.fail, kind())
            except BaseException as error:
                seen.append(error)
                raise

    loop = VirtualLoop()
    with pytest.raises(kind):
        loop.run_until_complete(main())
    for task in asyncio.all_tasks(loop):
        task.cancel()
    for _ in range(20):
        loop.call_soon(loop.stop)
        loop.run_forever()
    assert not asyncio.all_tasks(loop)
    loop.close()
    assert [type(error) for error in seen] == [kind]


# --- other loops ---------------------------------------------------------------------


async def everything() -> None:
    """A bit of all of it."""
    async with Swarm() as swarm:
        ada, bo, *_ = await warm(swarm, "ada", "bo", "cy")
        assert await ada.ask(Worker.relay, "bo", "cy") == "arrived"
        assert await ada.ask(Worker.steps, "x", 3) == "x"
        with pytest.raises(ValueError, match="no"):
            await ada.ask(Worker.fail)
        assert [item async for item in bo.stream(Worker.count, 3)] == [0, 1, 2]
        await ada.within(9).ask(Worker.nested, "bo", 0.1, 5)
        task = asyncio.ensure_future(ada.ask(Worker.nested, "bo", 5.0, None))
        await turns(2)
        task.cancel()
        await asyncio.wait([task])
        assert await bo.ask(Worker.add, 1) == 1


def test_debug_mode(caplog):
    """asyncio's own checks find nothing."""
    with asyncio.Runner(debug=True, loop_factory=VirtualLoop) as runner:
        runner.run(everything())
    assert not [line for line in caplog.records if line.name == "asyncio"]


@pytest.mark.skipif(sys.version_info < (3, 12), reason="there are none before 3.12")
def test_eager_tasks():
    """Tasks that begin at once park at once."""

    async def main() -> None:
        loop = asyncio.get_running_loop()
        loop.set_task_factory(asyncio.eager_task_factory)
        await everything()

    run(main())


# --- schedules -----------------------------------------------------------------------


class Counter(Agent):
    """Adds, in two steps that must not be torn apart."""

    def __init__(self, total: list[int]) -> None:
        self.total = total

    async def add(self, waits: int) -> int:
        before = self.total[0]
        for _ in range(waits):
            await asyncio.sleep(0)
        self.total[0] = before + 1
        return before

    async def through(self, other: "Ref[Counter]", waits: int) -> int:
        return await other.ask(Counter.add, waits)


async def contention() -> None:
    """Several clients ask one agent, directly and through another."""
    total = [0]
    async with Swarm() as swarm:
        ada = await swarm.spawn(Counter, total)
        bo = await swarm.spawn(Counter, [0])

        async def client(number: int) -> int:
            seen = [await ada.ask(Counter.add, number % 2)]
            seen.append(await bo.ask(Counter.through, ada, (number + 1) % 2))
            return len(seen)

        tasks = [asyncio.create_task(client(n), name=f"client {n}") for n in range(3)]
        results = await asyncio.gather(*tasks, return_exceptions=True)
        done = sum(result for result in results if isinstance(result, int))
        assert done <= total[0] <= 6
        if done == 6:
            assert total[0] == 6
        assert await ada.ask(Counter.add, 0) == total[0] - 1
        assert await bo.ask(Counter.through, ada, 1) == total[0] - 1
        assert ada.load == bo.load == 0


def test_no_schedule_breaks_the_turns():
    """Q6: one turn at a time, in whatever order tasks run."""
    report = explore(contention, schedules=60)
    assert report.failure is None, report.failure


def test_no_cancellation_breaks_the_turns():
    """Q4, G13: each client cancelled before each step."""
    names = [f"client {number}" for number in range(3)]
    report = sweep_cancel(contention, tasks=names)
    assert report.failure is None, report.failure
    assert report.schedules > 10
