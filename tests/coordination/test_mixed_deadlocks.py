"""One graph over everything there is to wait for (L15, Q6), joins included."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable

import anyio
import pytest

from swarm import (
    Agent,
    DeadlockError,
    Event,
    Priority,
    Ref,
    Swarm,
    SwarmConfig,
    event,
    interleave,
)
from tests.support.virtual_loop import turns, virtual


@event("mixed.tick")
class Tick:
    number: int


class Worker(Agent):
    """Waits for whatever it is told to wait for."""

    def __init__(self) -> None:
        self.friend: Ref[Worker] | None = None

    async def meet(self, friend: "Ref[Worker]") -> None:
        self.friend = friend

    async def nap(self, seconds: float = 0) -> str:
        await asyncio.sleep(seconds)
        return "woke"

    async def work(self, name: str) -> str:
        async with self.swarm.lock(name):
            return "done"

    async def wait_at(self, name: str) -> int:
        return (await self.swarm.barrier(name).wait()).index

    async def publish(self, number: int) -> None:
        for n in range(number):
            await self.swarm.events.publish(Tick(n))

    async def items(self, name: str) -> AsyncIterator[int]:
        async with self.swarm.lock(name):
            yield 1

    async def many(self, name: str, number: int) -> AsyncIterator[int]:
        async with self.swarm.lock(name):
            for n in range(number):
                yield n

    async def read(self, other: "Ref[Worker]", name: str) -> list[int]:
        found = []
        async for item in other.stream(Worker.many, name, 100):
            async with self.swarm.lock(name):
                found.append(item)
        return found

    async def hold_and_pause(self, name: str, other: "Ref[Worker]") -> None:
        async with self.swarm.lock(name):
            await other.tell(Worker.work, name)
            await turns(3)
            await other.pause()

    async def ask_back(self, delay: float = 0) -> str:
        await asyncio.sleep(delay)
        return await self.friend.ask(Worker.nap)

    async def start_child(self, delay: float) -> "asyncio.Task[str]":
        """Start a child that asks the friend to ask us, and do not wait for it."""
        child = asyncio.create_task(self.friend.ask(Worker.ask_back))
        await asyncio.sleep(delay)
        return child

    async def gather_children(self, name: str, how: str) -> None:
        async with self.swarm.lock(name):
            await join(how, self.work(name))


class Aside(Worker):
    @interleave
    async def side(self, depth: int = 0) -> int:
        return await self.ref.ask(Aside.side, depth - 1) if depth else 0

    async def back(self, other: "Ref[Aside]") -> int:
        return await other.ask(Aside.side)

    async def through(self, other: "Ref[Aside]", me: "Ref[Aside]") -> int:
        me.tell_nowait(Aside.nap)
        return await other.ask(Aside.back, me)


async def join(how: str, work: Awaitable[object]) -> None:
    """Wait for a child task, in one of the ways there are."""
    if how == "await":
        await asyncio.ensure_future(work)
    elif how == "gather":
        await asyncio.gather(work, asyncio.sleep(0))
    elif how == "gather in gather":
        await asyncio.gather(asyncio.gather(work), asyncio.sleep(0))
    elif how == "anyio":
        async with anyio.create_task_group() as group:
            group.start_soon(_awaiting, work)
    else:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(_awaiting(work))


async def _awaiting(work: Awaitable[object]) -> None:
    await work


JOINS = [
    "await",
    "gather",
    "gather in gather",
    "anyio",
    "TaskGroup",
]


async def deadlock(waiting: Awaitable[object], match: str = "") -> None:
    """Check that this wait is refused, at once."""
    loop = asyncio.get_running_loop()
    began = loop.time()
    with pytest.raises((DeadlockError, ExceptionGroup)) as caught:
        await waiting
    error: BaseException = caught.value
    while isinstance(error, BaseExceptionGroup):
        (error,) = error.exceptions
    assert isinstance(error, DeadlockError), error
    assert match in str(error)
    assert loop.time() == pytest.approx(began, abs=0.01)


@virtual
@pytest.mark.parametrize("what", ["stop", "pause", "stream", "tell", "ask"])
async def test_a_holder_that_waits_for_an_agent_that_waits_for_its_lock(what):
    """L15: however it waits for that agent."""
    async with Swarm() as swarm:
        ada = await swarm.spawn(Worker, name="ada", mailbox=1)
        async with swarm.lock("x"):
            await ada.tell(Worker.work, "x")
            await turns(3)
            if what == "tell":
                ada.tell_nowait(Worker.nap)

            async def stream() -> object:
                return [item async for item in ada.stream(Worker.items, "x")]

            waits = {
                "stop": ada.stop,
                "pause": ada.pause,
                "stream": stream,
                "tell": lambda: ada.tell(Worker.nap),
                "ask": lambda: ada.ask(Worker.nap),
            }
            await deadlock(waits[what](), "lock 'x'")
        if what == "pause":
            await ada.resume()
        if what != "stop":
            assert await ada.ask(Worker.work, "x") == "done"


@virtual
async def test_a_turn_that_pauses_an_agent_that_waits_for_it():
    """L15: pausing waits for the turn in hand."""
    async with Swarm() as swarm:
        ada, bo = await swarm.spawn(Worker), await swarm.spawn(Worker)
        await deadlock(bo.ask(Worker.hold_and_pause, "x", ada), "finish its turns")
        ada.resume()


@virtual
async def test_a_producer_that_holds_what_its_reader_needs():
    """L15: the one waits for credit, the other for the lock."""
    async with Swarm(config=SwarmConfig(stream_window=2)) as swarm:
        ada, bo = await swarm.spawn(Worker), await swarm.spawn(Worker)
        await deadlock(bo.ask(Worker.read, ada, "x"))

        async def reader() -> None:
            async with ada.stream(Worker.many, "y", 100) as items:
                async for _ in items:
                    await turns(3)
                    async with swarm.lock("y"):
                        return

        await deadlock(reader(), "to read its stream on")
        await ada.ask(Worker.work, "y")


@virtual
async def test_a_reader_that_asks_its_publisher_is_a_deadlock():
    """L15: a task that reads is somebody for whom publishers wait."""
    async with Swarm() as swarm:
        ada = await swarm.spawn(Worker)
        async with swarm.events.subscribe(Tick, buffer=1) as ticks:
            await swarm.events.publish(Tick(0))
            event: Event[Tick] = await anext(ticks)
            assert event.payload.number == 0
            await deadlock(ada.ask(Worker.publish, 5))


@virtual
@pytest.mark.parametrize("how", JOINS)
async def test_a_child_that_wants_what_its_parent_holds(how):
    """L15: the parent joins it, and so waits for it."""
    async with Swarm() as swarm:

        async def child() -> None:
            async with swarm.lock("x"):
                raise AssertionError("never")

        async def grandchild() -> None:
            await join(how, child())

        for work in (child, grandchild):
            async with swarm.lock("x"):
                await deadlock(join(how, work()), "which it awaits")
        ada = await swarm.spawn(Worker)
        await deadlock(ada.ask(Worker.gather_children, "x", how))
        assert await ada.ask(Worker.work, "x") == "done"


@virtual
@pytest.mark.parametrize("how", JOINS)
async def test_a_child_that_asks_an_agent_that_wants_what_the_parent_holds(how):
    """L15: found at the lock, through the child that noted nothing."""
    async with Swarm() as swarm:
        ada = await swarm.spawn(Worker)
        await ada.ask(Worker.nap)

        async def child() -> object:
            return await ada.ask(Worker.nap_and_work, 1, "x")

        async with swarm.lock("x"):
            with pytest.raises((DeadlockError, ExceptionGroup)):
                await join(how, child())


@virtual
@pytest.mark.parametrize("what", ["lock", "semaphore", "ask"])
async def test_a_child_closes_a_cycle_through_a_waiter_for_its_parents_lock(what):
    """L15: a child that holds nothing closes a cycle through whoever joins it."""
    async with Swarm() as swarm:
        middle = asyncio.Event()
        semaphore = swarm.semaphore("s", 1)
        ada = await swarm.spawn(Worker, name="ada")

        async def holder() -> None:
            """Hold what the child will want, and wait for what the parent holds."""
            async with swarm.lock("inner"), semaphore:
                middle.set()
                await swarm.lock("outer").acquire()

        async def child() -> None:
            await middle.wait()
            await turns(2)
            if what == "lock":
                await swarm.lock("inner").acquire()
            elif what == "semaphore":
                await semaphore.acquire()
            else:
                await ada.ask(Worker.nap)

        async def parent() -> None:
            async with swarm.lock("outer"):
                other = asyncio.ensure_future(holder())
                if what == "ask":
                    await ada.tell(Worker.work, "outer")
                try:
                    await asyncio.gather(child())
                finally:
                    other.cancel()

        await deadlock(parent(), "which it awaits")


async def _nap_and_work(self: Worker, seconds: float, name: str) -> str:
    await asyncio.sleep(seconds)
    return await self.work(name)


Worker.nap_and_work = _nap_and_work  # type: ignore[attr-defined]
_nap_and_work.__name__ = "nap_and_work"


@virtual
async def test_a_child_that_is_not_awaited_holds_up_no_party():
    """L15: no false alarm for what its turn has only started."""
    async with Swarm() as swarm:
        ada, bo = await swarm.spawn(Worker), await swarm.spawn(Worker)
        await bo.ask(Worker.meet, ada)
        await ada.ask(Worker.meet, bo)
        child = await ada.ask(Worker.start_child, 0.1)
        assert await child == "woke"


@virtual
async def test_an_agent_that_can_do_something_amid_a_turn_may_still_come():
    """L15, B1: no false alarm at a barrier for one with interleaved methods."""

    class Busy(Agent):
        async def hold(self, name: str) -> int:
            async with self.swarm.lock(name):
                return (await self.swarm.barrier("b", 2).wait()).index

        @interleave
        async def come(self) -> int:
            return (await self.swarm.barrier("b", 2).wait()).index

    async with Swarm() as swarm:
        ada, bo = await swarm.spawn(Busy), await swarm.spawn(Busy)
        await asyncio.gather(ada.ask(Busy.come), bo.ask(Busy.come))
        one = asyncio.ensure_future(ada.ask(Busy.hold, "x"))
        await turns(3)
        two = asyncio.ensure_future(bo.ask(Busy.hold, "x"))
        await turns(3)
        assert await bo.ask(Busy.come) == 1
        assert await one == 0
        three = asyncio.ensure_future(ada.ask(Busy.come))
        assert sorted(await asyncio.gather(two, three)) == [0, 1]


@virtual
async def test_what_interleaves_runs_as_soon_as_its_agent_is_resumed():
    """Q6: not behind the turn that was queued before it."""
    async with Swarm() as swarm:
        ada = await swarm.spawn(Aside)
        await ada.pause()
        slow = asyncio.ensure_future(ada.ask(Aside.nap, 5))
        side = asyncio.ensure_future(ada.ask(Aside.side))
        await turns(3)
        assert not side.done()
        began = asyncio.get_running_loop().time()
        ada.resume()
        assert await side == 0
        assert asyncio.get_running_loop().time() == began
        await slow


@virtual
async def test_a_refused_ask_leaves_no_trace_in_the_mailbox():
    """L15, Q8: nobody else is disturbed, now or later."""
    async with Swarm() as swarm:
        ada = await swarm.spawn(Worker, name="ada", mailbox=2)
        async with swarm.lock("x"):
            await ada.tell(Worker.work, "x")
            await turns(3)
            for _ in range(5):
                await deadlock(ada.ask(Worker.nap))
            assert ada.load == 1
            assert "ada" in swarm.explain()
        assert await ada.ask(Worker.nap) == "woke"
        await turns(5)
        assert ada.load == 0
        await ada.pause()
        ada.tell_nowait(Worker.nap)
        ada.tell_nowait(Worker.nap)
        with pytest.raises(Exception, match="full"):
            ada.tell_nowait(Worker.nap)
        ada.resume()


@virtual
@pytest.mark.parametrize("what", ["lock", "group", "ask"])
async def test_a_cancelled_task_waits_no_more(what):
    """L15: no false alarm in the turn of the loop in which it has yet to hear of it."""
    async with Swarm() as swarm:
        ada = await swarm.spawn(Worker)
        outer, inner = swarm.lock("outer"), swarm.lock("inner")

        async def other() -> None:
            async with inner:
                if what == "ask":
                    await ada.ask(Worker.work, "outer")
                elif what == "lock":
                    await outer.acquire()
                else:
                    async with asyncio.TaskGroup() as group:
                        group.create_task(_awaiting(outer.acquire()))

        async with outer:
            task = asyncio.ensure_future(other())
            await turns(5)
            assert swarm.locks.queue("outer")
            task.cancel()
            async with inner:
                assert task.cancelled()


@virtual
@pytest.mark.parametrize("after", [0, 3])
async def test_a_request_queued_ahead_of_others_holds_them_up(after):
    """L15, L6: they wait for it from then on."""
    async with Swarm() as swarm:
        lock, other = swarm.lock("a"), swarm.lock("m")
        middle = await lock.acquire("upgradeable")

        async def second() -> None:
            async with lock.acquire("shared"):
                await asyncio.sleep(0.1)
                async with other:
                    pass

        async def third() -> None:
            async with other, lock.acquire("upgradeable", priority=Priority.LOW):
                pass

        async def first() -> None:
            await asyncio.sleep(0.2 + after)
            async with lock.acquire(priority=Priority.CRITICAL):
                raise AssertionError("never")

        tasks = [asyncio.ensure_future(work()) for work in (second, third)]
        await deadlock_after(0.2 + after, first())
        await middle.release()
        await asyncio.gather(*tasks)


@virtual
async def test_an_urgent_request_closes_a_cycle_of_requests_that_it_overtakes():
    """L15, L6: the holder in the middle can leave, and does not help."""
    async with Swarm() as swarm:
        lock, other = swarm.lock("a"), swarm.lock("m")
        done = []

        async def middle() -> None:
            async with lock.acquire("upgradeable"):
                await asyncio.sleep(1)

        async def second() -> None:
            async with lock.acquire("shared"):
                await asyncio.sleep(0.1)
                async with other:
                    done.append("second")

        async def third() -> None:
            async with other, lock.acquire("upgradeable", priority=Priority.LOW):
                done.append("third")

        async def first() -> None:
            await asyncio.sleep(0.2)
            async with lock.acquire(priority=Priority.CRITICAL):
                raise AssertionError("never")

        tasks = [asyncio.create_task(work()) for work in (middle, second, third)]
        await deadlock_after(0.2, asyncio.create_task(first()))
        await asyncio.gather(*tasks)
        assert done == ["third", "second"]


async def deadlock_after(delay: float, waiting: Awaitable[object]) -> None:
    """Check that this wait is refused, after so long."""
    loop = asyncio.get_running_loop()
    began = loop.time()
    with pytest.raises(DeadlockError):
        await waiting
    assert loop.time() == pytest.approx(began + delay, abs=0.01)


@virtual
@pytest.mark.parametrize("how", ["entered", "released", "in a list"])
async def test_a_lease_handed_to_a_child_is_the_childs_to_give_back(how):
    """L15: who asked for it may wait for that, as a bounded pool does."""

    async def work(lease) -> None:
        if how == "entered":
            async with lease:
                await asyncio.sleep(1)
            return
        held = [lease]
        if how == "in a list":
            del lease
        await asyncio.sleep(1)
        await held.pop().release()

    async with Swarm() as swarm:
        semaphore = swarm.semaphore("s", 2)
        async with asyncio.TaskGroup() as tasks:
            for _ in range(5):
                lease = await semaphore.acquire()
                tasks.create_task(work(lease))
        assert semaphore.available == 2
        async with semaphore.acquire(2):
            await deadlock(semaphore.acquire())


@virtual
async def test_a_child_that_entered_a_lease_holds_it():
    """L15: the cycle goes through the child that has entered it."""
    async with Swarm() as swarm:
        lease = await swarm.lock("a").acquire()

        async def child() -> None:
            async with lease:
                await asyncio.sleep(1)
                async with swarm.lock("b"):
                    pass

        async with swarm.lock("b"):
            task = asyncio.ensure_future(child())
            await asyncio.sleep(2)
            await deadlock(swarm.lock("a").acquire(), "task ")
        await task


@virtual
async def test_asyncio_wait_with_a_time_out_is_no_join():
    """L15: no false alarm for a wait that is a look."""
    async with Swarm() as swarm:

        async def child() -> str:
            async with swarm.lock("a"):
                return "done"

        async with swarm.lock("a"):
            task = asyncio.ensure_future(child())
            _, left = await asyncio.wait([task], timeout=5)
            assert left == {task}
        assert await task == "done"


@contextlib.asynccontextmanager
async def group():
    async with asyncio.TaskGroup() as tasks:
        yield tasks


@virtual
@pytest.mark.parametrize("what", ["group", "ask", "stream"])
async def test_a_wait_inside_an_async_generator_is_seen(what):
    """L15: CPython has objects of its own between who awaits and that code."""
    async with Swarm() as swarm:
        ada = await swarm.spawn(Worker)

        async def asking():
            if what == "ask":
                yield await ada.ask(Worker.work, "a")
            else:
                async for item in ada.stream(Worker.items, "a"):
                    yield item

        async def child() -> None:
            async for _ in asking():
                raise AssertionError("never")

        async with swarm.lock("a"):
            with pytest.raises((DeadlockError, ExceptionGroup)):
                if what == "group":
                    async with group() as tasks:
                        tasks.create_task(_awaiting(swarm.lock("a").acquire()))
                else:
                    await asyncio.gather(child())


@virtual
async def test_a_cycle_of_leases_without_a_body_is_reported_when_it_closes():
    """L15: the request that closes the cycle counts as waiting while it is judged."""
    async with Swarm() as swarm:
        x = await swarm.lock("x").acquire()

        async def holds_y_and_wants_x() -> None:
            lease = await swarm.lock("y").acquire()
            try:
                await (await swarm.lock("x").acquire()).release()
            finally:
                await lease.release()

        other = asyncio.ensure_future(holds_y_and_wants_x())
        await turns(3)
        with pytest.raises(DeadlockError) as caught:
            await swarm.lock("y").acquire()
        assert len(caught.value.cycle) == 2
        await x.release()
        await other
