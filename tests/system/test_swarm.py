"""A swarm opens, closes, explains itself, and lets other threads in."""

import asyncio
import concurrent.futures
import contextlib
import threading

import pytest

from swarm import (
    Agent,
    Closed,
    LockTimeout,
    Policy,
    Ref,
    Restart,
    ShutdownTimeout,
    StorageUnsupported,
    Swarm,
    SwarmConfig,
    WouldBlock,
    WrongLoop,
    event,
)
from swarm.kernel import MemoryKernel
from swarm.model import OWNER
from swarm.ports import LoopClock
from swarm.system import Coordinator
from swarm.system._agent_surfaces import AgentSurfaces
from tests.support.actors import Worker
from tests.support.virtual_loop import run, turns, virtual


@event("swarm.test")
class Told:
    n: int


@virtual
async def test_a_clean_end_finishes_what_was_sent():
    """G12: agents still ask each other while they drain; no task is left."""
    diary: list[str] = []
    async with Swarm() as swarm:
        ada = await swarm.spawn(Worker, name="ada")
        bo = await swarm.spawn(Worker, diary, name="bo")
        await ada.ask(Worker.meet, bo=bo)
        await ada.tell(Worker.nested, "bo", 2, None)
        await bo.tell(Worker.echo, 1)
    assert diary == ["echo 1", "begin nested", "end nested"]
    with pytest.raises(Closed):
        await ada.ask(Worker.echo)
    with pytest.raises(Closed):
        await swarm.spawn(Worker)
    with pytest.raises(Closed):
        ada.tell_nowait(Worker.echo)


@virtual
async def test_the_drain_has_a_bound():
    """G12: what is not done in time is cancelled."""
    diary: list[str] = []
    began = asyncio.get_running_loop().time()
    async with Swarm(config=SwarmConfig(drain_timeout=3)) as swarm:
        ref = await swarm.spawn(Worker, diary)
        await ref.tell(Worker.slow, "a", 1000)
    assert diary == ["begin a", "cancelled a"]
    assert asyncio.get_running_loop().time() - began == pytest.approx(3)


@virtual
async def test_what_the_body_raises_comes_out_as_it_is():
    """The agents are cancelled at once; their stopping hooks do not run."""
    diary: list[str] = []

    class Hooked(Worker):
        async def stopping(self) -> None:
            self.diary.append("stopping")

    with pytest.raises(LookupError, match="mine"):
        async with Swarm() as swarm:
            ref = await swarm.spawn(Hooked, diary)
            await ref.tell(Worker.slow, "a", 1000)
            await turns(3)
            raise LookupError("mine")
    assert diary == ["begin a", "cancelled a"]


@virtual
async def test_failures_of_agents_and_body_come_out_together():
    """Nothing is swallowed."""
    with pytest.raises(ExceptionGroup) as caught:
        async with Swarm() as swarm:
            ref = await swarm.spawn(Worker)
            await ref.tell(Worker.fail)
            try:
                await asyncio.sleep(100)
            finally:
                raise LookupError("mine")
    kinds = [type(error) for error in caught.value.exceptions]
    assert kinds == [ValueError, LookupError]


@virtual
async def test_open_and_close_are_the_same_without_a_block():
    """G12: close is idempotent, also when two call it at once."""
    swarm = await Swarm.open("nb")
    ref = await swarm.spawn(Worker)
    await ref.tell(Worker.slow, "a")
    await asyncio.gather(swarm.close(), swarm.close())
    await swarm.close()
    assert ref.status == "offline"
    assert swarm.name == "nb"
    with pytest.raises(Closed):
        swarm.group("g")
    with pytest.raises(Closed):
        async with swarm:
            pass


@virtual
async def test_a_failure_without_a_block_is_raised_by_close():
    """Until then every use raises Closed with the failure as its cause."""
    swarm = await Swarm.open()
    ref = await swarm.spawn(Worker)
    other = await swarm.spawn(Worker)
    pending = asyncio.ensure_future(other.ask(Worker.slow, "a", 100))
    await ref.tell(Worker.fail)
    with pytest.raises(Closed) as caught:
        await pending
    assert isinstance(caught.value.__cause__, ValueError)
    with pytest.raises(Closed):
        await other.ask(Worker.echo)
    with pytest.raises(Closed):
        await swarm.spawn(Worker)
    with pytest.raises(ExceptionGroup):
        await swarm.close()
    await swarm.close()


@virtual
async def test_closing_wakes_every_waiter_with_closed():
    """G12: queued, running, waiting for room, reading a stream."""
    swarm = await Swarm.open(config=SwarmConfig(drain_timeout=1))
    ref = await swarm.spawn(Worker, mailbox=1)
    other = await swarm.spawn(Worker)
    waits = [asyncio.ensure_future(ref.ask(Worker.slow, "x", 99)) for _ in range(3)]
    waits.append(asyncio.ensure_future(ref.tell(Worker.echo)))
    stream = other.stream(Worker.silent)
    await anext(stream)
    waits.append(asyncio.ensure_future(anext(stream)))
    await turns(3)
    await swarm.close()
    results = await asyncio.gather(*waits, return_exceptions=True)
    assert [type(result) for result in results] == [Closed] * 5


@virtual
async def test_a_failing_agent_during_the_drain_still_fails_the_block():
    """Nothing is swallowed at the end either."""
    with pytest.raises(ExceptionGroup):
        async with Swarm() as swarm:
            ref = await swarm.spawn(Worker)
            await ref.tell(Worker.slow, "a", 1)
            await ref.tell(Worker.fail)


@virtual
async def test_an_agent_that_suppresses_cancellation_is_cancelled_again():
    """G12: no task is left, even of those that do not want to go."""

    class Mule(Agent):
        async def stay(self) -> None:
            for _ in range(3):
                try:
                    await asyncio.sleep(1000)
                except asyncio.CancelledError:
                    continue

    swarm = await Swarm.open(config=SwarmConfig(drain_timeout=1))
    ref = await swarm.spawn(Mule)
    await ref.tell(Mule.stay)
    await turns(3)
    await swarm.close()


@virtual
async def test_wrong_arguments_are_refused_before_anything_is_opened():
    """Bad input: one clear error that says what there is."""
    with pytest.raises(StorageUnsupported, match="storage is memory://"):
        Swarm("x", "postgres://db")
    with pytest.raises(TypeError, match=r"SwarmConfig\(ask_timeout=5\)"):
        Swarm(config={"ask_timeout": 5})
    with pytest.raises(TypeError, match="Policy"):
        Swarm(policy="strict")
    with pytest.raises(TypeError, match="name"):
        Swarm(5)
    with pytest.raises(ValueError, match="on_failure"):
        Swarm(on_failure="ignore")
    with pytest.raises(ValueError, match="ask_timeout"):
        SwarmConfig(ask_timeout=0)
    with pytest.raises(ValueError, match="drain_timeout"):
        SwarmConfig(drain_timeout=float("inf"))
    with pytest.raises(ValueError, match="stream_window"):
        SwarmConfig(stream_window=0)
    with pytest.raises(Closed, match="not open"):
        await Swarm().spawn(Worker)
    with pytest.raises(AttributeError):
        _ = Swarm().nothing  # type: ignore[attr-defined]


@virtual
async def test_no_agent_is_spawned_into_a_swarm_that_closes():
    """Closed: as soon as the end has begun."""

    class Breeder(Agent):
        async def stopping(self) -> None:
            await self.swarm.spawn(Worker)

    with pytest.raises(ExceptionGroup) as caught:
        async with Swarm() as swarm:
            await swarm.spawn(Breeder)
    assert isinstance(caught.value.exceptions[0], Closed)


@virtual
async def test_the_youngest_stops_first():
    """Lifecycle: what an agent was spawned after is there until it has stopped."""
    diary: list[str] = []

    class Late(Worker):
        async def stopping(self) -> None:
            self.diary.append(f"stopping {self.name}")
            friend = self.friends.get("older")
            if friend is not None:
                await friend.ask(Worker.echo, "bye")

    async with Swarm() as swarm:
        older = await swarm.spawn(Late, diary, name="older")
        younger = await swarm.spawn(Late, diary, name="younger")
        await younger.ask(Worker.meet, older=older)
    assert diary == ["stopping younger", "echo bye", "stopping older"]


@virtual
async def test_explain_says_who_does_what_since_when_and_waits_for_whom():
    """DESIGN 5: also what the program itself waits for."""
    async with Swarm("demo") as swarm:
        ada = await swarm.spawn(Worker, name="ada")
        bo = await swarm.spawn(Worker, name="bo")
        await ada.ask(Worker.meet, bo=bo)
        ask = asyncio.ensure_future(ada.ask(Worker.nested, "bo", 5, None))
        aside = asyncio.ensure_future(bo.ask(Worker.wait_aside, "w", 5))
        await asyncio.sleep(2)
        text = swarm.explain()
        assert "swarm 'demo' (open): 2 agents" in text
        assert "'ada' (worker) busy" in text
        assert "in Worker.nested for 2.0 s" in text
        assert "waits for 'bo' (Worker.slow), asked 2.0 s ago" in text
        assert "asked by the program: Worker.nested, 2.0 s ago" in text
        assert "beside it: Worker.wait_aside" in text
        assert "asked by the program: Worker.slow" not in text
        info = swarm.agents.info("ada")
        assert info.turn == "Worker.nested"
        assert info.turn_age == pytest.approx(2)
        assert info.name == "ada"
        await asyncio.gather(ask, aside)


@virtual
async def test_agents_start_in_the_context_the_swarm_was_opened_in():
    """Tasks: what happens to wake an agent first leaves no mark on it."""
    import contextvars

    mark = contextvars.ContextVar("mark", default="none")

    class Marked(Agent):
        async def seen(self) -> str:
            return mark.get()

    mark.set("opened")
    async with Swarm() as swarm:
        ref = await swarm.spawn(Marked)
        mark.set("asked")
        assert await ref.ask(Marked.seen) == "opened"


# --- the portal -----------------------------------------------------------


class Adder(Agent):
    async def add(self, left: int, right: int) -> int:
        return left + right

    async def never(self) -> None:
        await asyncio.Event().wait()


def test_other_threads_come_in_through_the_portal():
    """G3: results and errors go back; the loop's own thread may not block."""

    async def main() -> None:
        async with Swarm() as swarm:
            ref = await swarm.spawn(Adder)
            portal = swarm.portal()

            def inside() -> tuple[int, list[type]]:
                errors = []
                for call in (
                    lambda: portal.call(ref.ask, Worker.echo),
                    lambda: asyncio.run(ref.ask(Adder.add, 1, 2)),
                    lambda: ref.tell_nowait(Adder.add, 1, 2),
                    swarm.portal,
                ):
                    try:
                        call()
                    except (TypeError, WrongLoop) as error:
                        errors.append(type(error))
                return portal.call(ref.ask, Adder.add, 1, right=2), errors

            total, errors = await asyncio.to_thread(inside)
            assert total == 3
            assert errors == [TypeError, WrongLoop, WrongLoop, WrongLoop]
            with pytest.raises(WrongLoop):
                portal.call(ref.ask, Adder.add, 1, 2)
        with pytest.raises(Closed):
            await asyncio.to_thread(portal.call, ref.ask, Adder.add, 1, 2)

    asyncio.run(main())


def test_closing_wakes_the_threads_in_the_portal():
    """G12: with Closed, whatever they were waiting for."""
    outcome: concurrent.futures.Future[object] = concurrent.futures.Future()

    async def main() -> None:
        swarm = await Swarm.open(config=SwarmConfig(drain_timeout=0))
        ref: Ref[Adder] = await swarm.spawn(Adder)
        portal = swarm.portal()

        def inside() -> None:
            try:
                portal.call(ref.ask, Adder.never)
            except BaseException as error:
                outcome.set_result(error)

        thread = threading.Thread(target=inside)
        thread.start()
        while not ref.load:
            await turns(1)
        await swarm.close()
        await asyncio.to_thread(thread.join)

    asyncio.run(main())
    assert isinstance(outcome.result(1), Closed)


def test_a_swarm_that_is_never_closed_does_not_hang_the_program():
    """asyncio.run cancels what is left."""

    async def main() -> None:
        swarm = await Swarm.open()
        ref = await swarm.spawn(Worker, restart=Restart())
        await ref.ask(Worker.echo, 1)

    with pytest.warns(ResourceWarning, match="unclosed <Swarm 'default' open"):
        asyncio.run(main())


def test_ten_thousand_agents_come_and_go():
    """G13: nothing is left of them."""

    async def main() -> None:
        async with Swarm() as swarm:
            refs = [await swarm.spawn(Worker) for _ in range(2_000)]
            await asyncio.gather(*(ref.ask(Worker.add, 1) for ref in refs))
            for ref in refs:
                await ref.stop()
            assert len(swarm.agents) == 0
            assert await swarm.state.get("global.registry", default={}) == {}

    run(main())


# --- what explains itself -------------------------------------------------------------


@virtual
async def test_a_swarm_shows_itself_in_one_short_line():
    """Before, while and after it is open."""
    swarm = Swarm("demo")
    shown = [repr(swarm)]
    async with swarm:
        await swarm.spawn(Worker, name="ada")
        shown.append(repr(swarm))
    shown.append(repr(swarm))
    assert shown == [
        "<Swarm 'demo' not open>",
        "<Swarm 'demo' open, agents: 1>",
        "<Swarm 'demo' closed, agents: 0>",
    ]


@virtual
async def test_explain_shows_the_coordinator():
    """DESIGN 2: one task, named after its swarm."""
    async with Swarm("demo") as swarm:
        assert "coordinator: task 'swarm demo'" in swarm.explain().splitlines()
        assert "swarm 'demo' (open): 0 agents" in swarm.explain()
        await swarm.spawn(Worker)
        assert "swarm 'demo' (open): 1 agent\n" in swarm.explain()
    assert "coordinator: closed" in swarm.explain()


@virtual
async def test_a_notebook_shows_what_explain_says_as_lines():
    """DESIGN 5: also as HTML in a notebook."""
    async with Swarm("<demo>") as swarm:
        await swarm.spawn(Worker, name="ada")
        shown = swarm.explain()._repr_html_()
        assert shown.startswith("<pre>swarm &#x27;&lt;demo&gt;&#x27; (open)")
        assert "\n&#x27;ada&#x27; (worker) idle" in shown


@virtual
async def test_explain_hides_what_the_policy_hides():
    """S15: an agent that may not read the registry sees no other agent."""

    class Spy(Agent):
        async def look(self) -> str:
            return self.swarm.explain()

    async with Swarm(policy=Policy.strict()) as swarm:
        await swarm.spawn(Worker, name="hidden", role="pulse")
        spy = await swarm.spawn(Spy, name="spy", role="nobody")
        assert "hidden" not in await spy.ask(Spy.look)
        assert "hidden" in swarm.explain()


# --- the coordinator ------------------------------------------------------------------


def coordinator_on(kernel: MemoryKernel, name: str) -> Coordinator:
    return Coordinator(
        name,
        SwarmConfig(),
        Policy.default(),
        AgentSurfaces,
        kernel,
        kernel,
        LoopClock(),
    )


async def ended(*coordinators: Coordinator) -> None:
    for coordinator in coordinators:
        coordinator.ask_end()
        await coordinator.wait_ended()


@virtual
async def test_two_coordinators_share_one_kernel():
    """State, locks and events of one are those of the other."""
    kernel = MemoryKernel(LoopClock())
    one, two = coordinator_on(kernel, "one"), coordinator_on(kernel, "two")
    first, second = (AgentSurfaces(each, OWNER).swarm for each in (one, two))
    heard: list[int] = []
    await first.state.set("shared.x", 1)
    assert await second.state.get("shared.x") == 1
    await second.events.on("swarm.test", lambda event: heard.append(event.payload.n))
    await first.events.publish(Told(7))
    await turns(3)
    assert heard == [7]
    async with first.lock("door"):
        with pytest.raises(WouldBlock):
            second.lock("door").acquire_nowait()
    names = {(await each.spawn(Worker)).name for each in (first, second, first)}
    assert len(names) == 3
    await ended(one)
    await second.state.set("shared.x", 2)
    await ended(two)


@virtual
async def test_a_task_that_ignores_its_cancellation_is_left_behind_with_an_error():
    """G12: close() returns; the error names the task and its line."""
    wake = asyncio.get_running_loop().create_future()

    async def zombie() -> None:
        while not wake.done():
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.shield(wake)

    swarm = await Swarm.open()
    task = swarm._coordinator.start(zombie(), "the zombie")
    await turns(2)
    with pytest.raises(ExceptionGroup) as caught:
        await swarm.close()
    (error,) = caught.value.exceptions
    assert isinstance(error, ShutdownTimeout)
    assert "'the zombie' ignores its cancellation, at " in str(error)
    assert "in zombie" in str(error)
    wake.set_result(None)
    await task


# --- the surface ----------------------------------------------------------------------


@virtual
async def test_locks_semaphores_and_barriers_can_be_looked_at_through_the_surface():
    """DESIGN 5: `held` and `queue` of each."""
    async with Swarm() as swarm:
        async with swarm.lock("a"), swarm.semaphore("s", 2).acquire():
            assert len(swarm.locks.held()) == len(swarm.semaphores.held()) == 1
            assert not swarm.locks.queue("a")
            assert not swarm.semaphores.queue("s")
        gate = swarm.barrier("gate", parties=2)
        waiting = asyncio.ensure_future(gate.wait())
        await turns(3)
        assert [each.resource for each in swarm.barriers.held()] == ["gate"]
        await gate.wait()
        await waiting


@virtual
async def test_a_limiter_lets_so_many_begin_in_a_window():
    """DESIGN 5: first come first served."""
    loop, begun = asyncio.get_running_loop(), []
    async with Swarm() as swarm:
        start = loop.time()
        for _ in range(5):
            async with swarm.limiter("api", 2, per=10).acquire():
                begun.append(round(loop.time() - start))
    assert begun == [0, 0, 10, 10, 20]


@virtual
async def test_the_time_out_of_a_limiter_names_it_and_says_when_the_next_may_begin():
    """A limiter has no holders: its permits end with their time."""
    async with Swarm() as swarm:
        limiter = swarm.limiter("api", 2, per=10)
        for _ in range(2):
            await limiter.acquire()
        await asyncio.sleep(3)
        with pytest.raises(LockTimeout) as caught:
            await limiter.acquire(timeout=1)
        assert str(caught.value) == (
            "limiter 'api' was not granted within 1 s: 2 of at most 2 began in the "
            "last 10 s, and the next may in 6.0 s (the first of all that wait)"
        )
        waiting = asyncio.ensure_future(limiter.acquire().__aenter__())
        await asyncio.sleep(1)
        assert "waits for limiter 'api', asked 1.0 s ago; 2 of at most 2" in str(
            swarm.explain()
        )
        await waiting


@virtual
async def test_arguments_that_are_given_by_keyword_to_spawn_are_told_the_way():
    """Newcomers write `spawn(L, depth=2)`."""
    async with Swarm() as swarm:
        with pytest.raises(TypeError, match=r"functools\.partial\(Worker, depth=2\)"):
            await swarm.spawn(Worker, depth=2)
