"""Interceptors: code of the user around the operations of a swarm."""

import asyncio
from contextlib import suppress

import attrs
import pytest

from swarm import (
    Agent,
    AskTimeout,
    Batch,
    Event,
    Interceptor,
    MailboxFull,
    RemoteCancelled,
    StaleClaim,
    Swarm,
    SwarmConfig,
    TaskError,
    correlated,
    event,
    interleave,
    on,
    serves,
)
from swarm.ports import current_trace
from swarm.testing import explore, sweep_cancel
from tests.support.virtual_loop import virtual

HOOKS = [
    "ask",
    "tell",
    "turn",
    "publish",
    "handle",
    "submit",
    "attempt",
    "step",
    "handoff",
]  # all methods of an interceptor
TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
OTHER = "00-0af7651916cd43dd8448eb211c80319c-00f067aa0ba902b7-01"


@event("bell.rung")
class Rung:
    times: int = 1


class Echo(Agent):
    def __init__(self):
        self.heard = []

    async def echo(self, text: str, *, loud: bool = False) -> str:
        self.heard.append(text)
        return text.upper() if loud else text

    async def slow(self) -> None:
        await asyncio.sleep(3600)

    async def fail(self) -> None:
        raise ValueError("failed")

    async def traced(self) -> str | None:
        await self.swarm.events.publish(Rung())
        return current_trace()

    async def items(self, number: int):
        for each in range(number):
            yield each

    @interleave
    async def aside(self, text: str) -> str:
        return text

    @on(Rung)
    async def rung(self, event: Event[Rung]) -> None:
        self.heard.append(event.payload.times)

    async def relay(self, ref, text: str) -> str:
        return await ref.ask(Echo.echo, text)


class Worker(Agent):
    @serves("work.*")
    async def work(self, topic: str) -> str:
        return topic


class Log(Interceptor):
    """Notes every operation before and after it."""

    def __init__(self, notes, name=""):
        self.notes = notes
        self.name = name

    async def _note(self, hook, call, proceed):
        self.notes.append((self.name + hook, "before"))
        try:
            result = await proceed(call)
        except BaseException as error:
            self.notes.append((self.name + hook, type(error).__name__))
            raise
        self.notes.append((self.name + hook, "after"))
        return result


for _hook in HOOKS:

    def _method(hook):
        async def method(self, call, proceed):
            return await self._note(hook, call, proceed)

        return method

    setattr(Log, _hook, _method(_hook))


class Only(Interceptor):
    """One function as one method of an interceptor."""

    def __new__(cls, hook, function):
        async def method(self, call, proceed):
            return await function(call, proceed)

        return object.__new__(type("Only", (Only,), {hook: method}))

    def __init__(self, hook, function):
        pass


def seen(hook):
    """Return a list, and an interceptor that appends each call of one kind to it."""
    calls = []

    async def note(call, proceed):
        calls.append(call)
        return await proceed(call)

    return calls, Only(hook, note)


# --- order and coverage ---------------------------------------------------------------


async def test_the_first_interceptor_is_outermost():
    notes = []
    async with Swarm(interceptors=[Log(notes, "a."), Log(notes, "b.")]) as swarm:
        echo = await swarm.spawn(Echo, name="echo")
        assert await echo.ask(Echo.echo, "bees", loud=True) == "BEES"
    assert notes == [
        ("a.ask", "before"),
        ("b.ask", "before"),
        ("a.turn", "before"),
        ("b.turn", "before"),
        ("b.turn", "after"),
        ("a.turn", "after"),
        ("b.ask", "after"),
        ("a.ask", "after"),
    ]


async def test_an_interceptor_sees_the_agent_the_method_and_the_arguments():
    calls, interceptor = seen("ask")
    async with Swarm(interceptors=[interceptor]) as swarm:
        echo = await swarm.spawn(Echo, name="echo")
        await echo.ask(Echo.echo, "bees", loud=True)
        await echo.proxy.aside("ants")
    first, second = calls
    assert (first.agent.agent_id, first.method, first.kind) == (
        "echo",
        "Echo.echo",
        "ask",
    )
    assert (first.args, first.kwargs) == (("bees",), {"loud": True})
    assert (second.method, second.args) == ("Echo.aside", ("ants",))
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        first.method = "another"


async def test_every_kind_of_turn_is_intercepted():
    calls, interceptor = seen("turn")
    async with Swarm(interceptors=[interceptor]) as swarm:
        echo = await swarm.spawn(Echo)
        await echo.ask(Echo.echo, "a")
        await echo.ask(Echo.aside, "b")
        await echo.tell(Echo.echo, "c")
        echo.tell_nowait(Echo.echo, "d")
        assert [item async for item in echo.stream(Echo.items, 3)] == [0, 1, 2]
    kinds = [(call.method, call.kind) for call in calls]
    assert kinds == [
        ("Echo.echo", "ask"),
        ("Echo.aside", "ask"),
        ("Echo.echo", "tell"),
        ("Echo.echo", "tell"),
        ("Echo.items", "stream"),
    ]


async def test_tells_are_intercepted_until_they_are_queued():
    notes = []
    async with Swarm(interceptors=[Log(notes)]) as swarm:
        echo = await swarm.spawn(Echo)
        await echo.tell(Echo.echo, "a")
        echo.tell_nowait(Echo.echo, "b")
        assert notes == [("tell", "before"), ("tell", "after")] * 2
        await echo.stop()
    assert notes[4:] == [("turn", "before"), ("turn", "after")] * 2


async def test_each_kind_of_handler_is_intercepted():
    calls, interceptor = seen("handle")
    got = []

    def plain(event):
        got.append("plain")

    async def coroutine(event):
        got.append("coroutine")

    async def batch(events):
        got.append(len(events))

    async def effects(event, tx):
        got.append("effects")

    async with Swarm(interceptors=[interceptor]) as swarm:
        on = swarm.events.on
        await on(Rung, plain)
        await on(Rung, coroutine)
        await on(Rung, batch, batch=Batch(2, 60.0))
        await on(Rung, effects, delivery="exactly-once", name="effects")
        echo = await swarm.spawn(Echo, name="echo")
        await swarm.events.publish(Rung(1))
        await swarm.events.publish(Rung(2))
    assert sorted(map(str, got)) == sorted(
        ["plain", "coroutine", "effects"] * 2 + ["2"]
    )
    assert len(calls) == 9
    names = {call.subscription for call in calls}
    assert {"effects", "echo.rung"} <= names
    assert [len(call.events) for call in calls if len(call.events) > 1] == [2]
    assert echo.name == "echo"


async def test_tasks_steps_and_handoffs_are_intercepted():
    notes = []

    class Taker(Agent):
        async def handoff(self, offer):
            await offer.accept()
            return "taken"

    async with Swarm(interceptors=[Log(notes)]) as swarm:
        await swarm.spawn(Taker, name="taker")
        task = await swarm.tasks.submit("work.one", "bees")
        async with swarm.tasks.claim("work.*") as claim:
            assert await claim.step("double", lambda x: x * 2, 4) == 8
            assert await claim.step("double", lambda x: x * 2, 4) == 8
            offer = await swarm.handoffs.offer(claim, to="taker")
            assert await offer.outcome() == "accepted"
        assert await task.result() == "taken"
    assert notes == [
        ("submit", "before"),
        ("submit", "after"),
        ("attempt", "before"),
        ("step", "before"),
        ("step", "after"),
        ("handoff", "before"),
        ("handoff", "after"),
        ("turn", "before"),
        ("turn", "after"),
        ("attempt", "after"),
    ]


async def test_a_served_attempt_surrounds_the_turn_that_serves_it():
    notes = []
    async with Swarm(interceptors=[Log(notes)]) as swarm:
        await swarm.spawn(Worker)
        task = await swarm.tasks.submit("work.one", "bees")
        assert await task.result() == "bees"
    assert notes == [
        ("submit", "before"),
        ("submit", "after"),
        ("attempt", "before"),
        ("turn", "before"),
        ("turn", "after"),
        ("attempt", "after"),
    ]


async def test_spawns_are_intercepted_in_groups_and_out():
    async def named(call, proceed):
        options = {**call.options, "capabilities": ["seen"]}
        return await proceed(attrs.evolve(call, options=options))

    async with Swarm(interceptors=[Only("spawn", named)]) as swarm:
        alone = await swarm.spawn(Echo, name="alone")
        member = await swarm.group("team").spawn(Echo, name="member")
        assert set(swarm.agents.find(capability="seen")) == {alone, member}
    async with Swarm(interceptors=[Only("spawn", refuse)]) as swarm:
        with pytest.raises(PermissionError):
            await swarm.spawn(Echo)
        assert len(swarm.agents) == 0


async def test_an_interceptor_that_is_added_and_removed_leaves_the_others():
    calls, outer = seen("ask")
    others, inner = seen("ask")
    async with Swarm(interceptors=[inner]) as swarm:
        coordinator = swarm._coordinator
        echo = await swarm.spawn(Echo)
        coordinator.add_interceptor(outer)
        await echo.ask(Echo.echo, "a")
        coordinator.remove_interceptor(inner)
        await echo.ask(Echo.echo, "b")
        coordinator.remove_interceptor(outer)
        await echo.ask(Echo.echo, "c")
        assert coordinator.is_direct
        assert coordinator.around_turn is None
    assert [len(calls), len(others)] == [2, 1]


async def test_a_swarm_without_interceptors_has_none():
    async with Swarm() as swarm:
        assert swarm._coordinator.interceptors is None
        assert swarm._coordinator.is_direct


def test_only_interceptors_are_taken():
    with pytest.raises(TypeError, match=r"a subclass of swarm\.Interceptor, not 'log'"):
        Swarm(interceptors=["log"])


# --- change ---------------------------------------------------------------------------


async def test_an_interceptor_changes_arguments_and_results():
    async def louder(call, proceed):
        changed = attrs.evolve(call, kwargs={"loud": True})
        return await proceed(changed) + "!"

    for hook in ("ask", "turn"):
        async with Swarm(interceptors=[Only(hook, louder)]) as swarm:
            echo = await swarm.spawn(Echo)
            assert await echo.ask(Echo.echo, "bees") == "BEES!"


async def test_an_interceptor_changes_what_is_published_and_submitted():
    async def twice(call, proceed):
        return await proceed(attrs.evolve(call, payload=Rung(call.payload.times * 2)))

    async def marked(call, proceed):
        return await proceed(attrs.evolve(call, metadata={"tenant": "a"}))

    interceptors = [Only("publish", twice), Only("submit", marked)]
    async with Swarm(interceptors=interceptors) as swarm:
        receipt = await swarm.events.publish(Rung(2), key="once")
        assert (await swarm.events.publish(Rung(2), key="once")).duplicate
        found = swarm.events.query(Rung)
        assert [each.payload.times for each in found] == [4]
        assert receipt.seq == found[0].seq
        await swarm.tasks.submit("work.one")
        async with swarm.tasks.claim("work.*") as claim:
            assert claim.metadata == {"tenant": "a"}


async def test_what_an_interceptor_returns_for_a_step_is_recorded():
    async def more(call, proceed):
        return await proceed(call) + 1

    async with Swarm(interceptors=[Only("step", more)]) as swarm:
        await swarm.tasks.submit("work.one")
        async with swarm.tasks.claim("work.*") as claim:
            assert await claim.step("one", lambda: 1) == 2
            assert await claim.step("one", lambda: 1) == 2


async def test_an_interceptor_may_try_an_ask_again():
    tries = []

    async def again(call, proceed):
        for _ in range(2):
            tries.append(call.method)
            try:
                await proceed(call)
            except ValueError:
                continue
        return "gave up"

    async with Swarm(interceptors=[Only("ask", again)]) as swarm:
        echo = await swarm.spawn(Echo)
        assert await echo.ask(Echo.fail) == "gave up"
    assert len(tries) == 2


# --- refuse ---------------------------------------------------------------------------


async def refuse(call, proceed):
    raise PermissionError("refused")


@pytest.mark.parametrize("hook", ["ask", "turn"])
async def test_a_refused_ask_raises_the_error_of_the_interceptor(hook):
    async with Swarm(interceptors=[Only(hook, refuse)]) as swarm:
        echo = await swarm.spawn(Echo)
        with pytest.raises(PermissionError, match="refused"):
            await echo.ask(Echo.echo, "bees")
        assert echo._cell.agent.heard == []


async def test_refused_tells_publishes_and_submits_have_no_effect():
    hooks = ("tell", "publish", "submit", "handoff")
    async with Swarm(interceptors=[Only(hook, refuse) for hook in hooks]) as swarm:
        echo = await swarm.spawn(Echo)
        with pytest.raises(PermissionError):
            await echo.tell(Echo.echo, "bees")
        with pytest.raises(PermissionError):
            echo.tell_nowait(Echo.echo, "bees")
        with pytest.raises(PermissionError):
            await swarm.events.publish(Rung())
        with pytest.raises(PermissionError):
            await swarm.tasks.submit("work.one")
        assert echo.load == 0
        assert not swarm.events.query(Rung)
        assert swarm.tasks.find() == []


async def test_a_refused_attempt_fails_the_attempt():
    async with Swarm(interceptors=[Only("attempt", refuse)]) as swarm:
        first = await swarm.tasks.submit("block", max_retries=0)
        with pytest.raises(PermissionError):
            async with swarm.tasks.claim("block"):
                pytest.fail("the body ran")
        with pytest.raises(TaskError, match="PermissionError: refused"):
            await first.result()
        await swarm.spawn(Worker)
        second = await swarm.tasks.submit("work.one", "bees", max_retries=0)
        with pytest.raises(TaskError, match="PermissionError: refused"):
            await second.result()


@virtual
async def test_a_refused_handler_is_a_dead_letter():
    async with Swarm(interceptors=[Only("handle", refuse)]) as swarm:
        await swarm.events.on(Rung, lambda event: pytest.fail("it ran"))
        await swarm.events.publish(Rung())
        await asyncio.sleep(0.01)
        letters = await swarm.events.dead_letters.list()
        assert [letter.error.type for letter in letters] == ["PermissionError"]


async def test_an_interceptor_around_an_attempt_sees_and_replaces_its_error():
    async def translate(call, proceed):
        try:
            await proceed(call)
        except ValueError as error:
            raise KeyError("other") from error

    async with Swarm(interceptors=[Only("attempt", translate)]) as swarm:
        task = await swarm.tasks.submit("block", max_retries=0)
        with pytest.raises(KeyError):
            async with swarm.tasks.claim("block"):
                raise ValueError("bad")
        with pytest.raises(TaskError, match="KeyError"):
            await task.result()


async def test_an_interceptor_that_catches_the_error_of_a_block_completes_the_task():
    async def forgive(call, proceed):
        with suppress(ValueError):
            await proceed(call)

    async with Swarm(interceptors=[Only("attempt", forgive)]) as swarm:
        task = await swarm.tasks.submit("block")
        async with swarm.tasks.claim("block"):
            raise ValueError("bad")
        assert await task.result() is None


@pytest.mark.parametrize("times", [0, 2])
async def test_an_interceptor_around_a_block_proceeds_exactly_once(times):
    async def badly(call, proceed):
        for _ in range(times):
            await proceed(call)

    async with Swarm(interceptors=[Only("attempt", badly)]) as swarm:
        await swarm.tasks.submit("block", max_retries=0)
        with pytest.raises(RuntimeError, match="`proceed` is awaited once"):
            async with swarm.tasks.claim("block"):
                pass


@virtual
async def test_an_interceptor_waits_around_a_block_in_the_task_of_the_body():
    tasks = []

    async def wait(call, proceed):
        tasks.append(asyncio.current_task())
        await asyncio.sleep(0)
        await proceed(call)
        await asyncio.sleep(0)
        tasks.append(asyncio.current_task())

    async with Swarm(interceptors=[Only("attempt", wait)]) as swarm:
        await swarm.tasks.submit("block")
        async with swarm.tasks.claim("block"):
            await asyncio.sleep(0)
    assert tasks == [asyncio.current_task()] * 2


# --- waits, cancellation, deadlocks ---------------------------------------------------


@virtual
async def test_an_interceptor_cannot_wait_around_what_cannot_wait():
    async def wait(call, proceed):
        await asyncio.sleep(0)
        return await proceed(call)

    interceptors = [Only("tell", wait), Only("handle", wait)]
    async with Swarm(interceptors=interceptors) as swarm:
        echo = await swarm.spawn(Echo)
        with pytest.raises(TypeError, match=r"waits around tell_nowait\(Echo.echo\)"):
            echo.tell_nowait(Echo.echo, "bees")
        await echo.tell(Echo.echo, "bees")
        await swarm.events.on(Rung, lambda event: None)
        await swarm.events.publish(Rung())
        await asyncio.sleep(0.01)
        (letter,) = await swarm.events.dead_letters.list()
        assert letter.error.type == "TypeError"


@virtual
async def test_a_cancelled_ask_passes_through_interceptors_to_the_turn():
    notes = []
    async with Swarm(interceptors=[Log(notes)]) as swarm:
        echo = await swarm.spawn(Echo)
        async with asyncio.TaskGroup() as group:
            task = group.create_task(echo.ask(Echo.slow))
            await asyncio.sleep(0.01)
            task.cancel()
        assert await echo.ask(Echo.echo, "next") == "next"
    assert notes[:4] == [
        ("ask", "before"),
        ("turn", "before"),
        ("ask", "CancelledError"),
        ("turn", "CancelledError"),
    ]


@virtual
async def test_the_deadline_of_a_ref_holds_inside_interceptors():
    notes = []
    async with Swarm(interceptors=[Log(notes)]) as swarm:
        echo = await swarm.spawn(Echo)
        with pytest.raises(AskTimeout):
            await echo.within(0.01).ask(Echo.slow)
    assert ("ask", "AskTimeout") in notes


async def test_an_intercepted_turn_that_is_cancelled_from_inside_says_so():
    async def cancel(call, proceed):
        raise asyncio.CancelledError

    async with Swarm(interceptors=[Only("turn", cancel)]) as swarm:
        echo = await swarm.spawn(Echo)
        with pytest.raises(RemoteCancelled):
            await echo.ask(Echo.echo, "bees")


@virtual
async def test_a_full_mailbox_is_told_through_interceptors():
    notes = []
    async with Swarm(interceptors=[Log(notes)]) as swarm:
        echo = await swarm.spawn(Echo, mailbox=1)
        echo.tell_nowait(Echo.slow)
        await asyncio.sleep(0)
        echo.tell_nowait(Echo.echo, "a")
        with pytest.raises(MailboxFull):
            echo.tell_nowait(Echo.echo, "b")
        await echo.kill()
    assert ("tell", "MailboxFull") in notes


async def test_a_deadlock_is_found_through_interceptors():
    from swarm import DeadlockError

    class Circle(Agent):
        async def ask_back(self, ref):
            return await ref.ask(Circle.ask_me, self.swarm.agents[self.name])

        async def ask_me(self, ref):
            return await ref.ask(Circle.ask_back, ref)

    async with Swarm(interceptors=[Log([])]) as swarm:
        one, two = await swarm.spawn(Circle), await swarm.spawn(Circle)
        with pytest.raises(DeadlockError):
            await one.ask(Circle.ask_back, two)


@virtual
async def test_a_lost_claim_ends_an_intercepted_block_with_stale_claim():
    notes = []
    async with Swarm(interceptors=[Log(notes)]) as swarm:
        task = await swarm.tasks.submit("block")
        with pytest.raises(StaleClaim):
            async with swarm.tasks.claim("block") as claim:
                claim.lose("a test")
                await asyncio.sleep(3600)
        assert (await task.record()).status == "running"
    assert ("attempt", "CancelledError") in notes


@virtual
async def test_a_cancelled_task_just_ends_its_intercepted_block():
    async with Swarm(interceptors=[Log([])]) as swarm:
        task = await swarm.tasks.submit("block")
        async with swarm.tasks.claim("block"):
            await task.cancel("not wanted")
            await asyncio.sleep(3600)
        assert (await task.record()).status == "cancelled"
        assert asyncio.current_task().cancelling() == 0


# --- traces ---------------------------------------------------------------------------


async def test_a_changed_trace_reaches_the_turn_and_what_it_does():
    async def trace(call, proceed):
        return await proceed(attrs.evolve(call, trace=TRACE))

    calls, turns = seen("turn")
    async with Swarm(interceptors=[Only("ask", trace), turns]) as swarm:
        echo = await swarm.spawn(Echo)
        assert await echo.ask(Echo.traced) == TRACE
        assert [each.trace for each in swarm.events.query(Rung)] == [TRACE]
    assert [call.trace for call in calls] == [TRACE]


async def test_a_trace_is_changed_within_the_same_correlation():
    async def trace(call, proceed):
        return await proceed(attrs.evolve(call, trace=OTHER))

    calls, asks = seen("ask")
    async with Swarm(interceptors=[asks, Only("turn", trace)]) as swarm:
        echo = await swarm.spawn(Echo)
        with correlated("request-1", trace=TRACE):
            assert await echo.ask(Echo.traced) == OTHER
        (rung,) = swarm.events.query(Rung)
    assert (rung.trace, rung.correlation_id) == (OTHER, "request-1")
    assert [call.trace for call in calls] == [TRACE]


async def test_events_of_one_traced_turn_share_the_correlation_of_its_first_commit():
    async def trace(call, proceed):
        return await proceed(attrs.evolve(call, trace=OTHER))

    async with Swarm(interceptors=[Only("turn", trace)]) as swarm:
        echo = await swarm.spawn(Echo)

        await echo.ask(Echo.traced)
        (rung,) = swarm.events.query(Rung)
        assert rung.correlation_id == f"c{rung.seq}"


@virtual
async def test_a_publisher_outside_of_turns_gives_its_event_a_trace():
    async def trace(call, proceed):
        return await proceed(attrs.evolve(call, trace=TRACE))

    calls, handlers = seen("handle")
    async with Swarm(interceptors=[Only("publish", trace), handlers]) as swarm:
        await swarm.events.on(Rung, lambda event: None)
        await swarm.events.publish(Rung())
        await asyncio.sleep(0)
    assert [call.trace for call in calls] == [TRACE]


async def test_a_handler_with_a_trace_passes_it_on():
    async def trace(call, proceed):
        return await proceed(attrs.evolve(call, trace=OTHER))

    got = []

    async def coroutine(event):
        got.append(current_trace())

    async with Swarm(interceptors=[Only("handle", trace)]) as swarm:
        await swarm.events.on(Rung, coroutine)
        await swarm.events.on(Rung, lambda event: got.append(current_trace()))
        await swarm.events.on(Rung, coroutine, name="durable")
        await swarm.events.publish(Rung())
    assert got == [OTHER] * 3


# --- the simulator --------------------------------------------------------------------


def test_interceptors_work_in_a_simulation():
    class Count(Interceptor):
        def __init__(self):
            self.asks = 0

        async def ask(self, call, proceed):
            await asyncio.sleep(1)
            self.asks += 1
            return await proceed(call)

    async def program():
        count = Count()
        config = SwarmConfig(ask_timeout=10)
        async with Swarm(interceptors=[count], config=config) as swarm:
            echo = await swarm.spawn(Echo)
            replies = await asyncio.gather(*(echo.ask(Echo.echo, x) for x in "abc"))
            assert replies == ["a", "b", "c"]
            assert count.asks == 3

    report = explore(program, schedules=50)
    assert report.failure is None


def test_a_cancelled_worker_inside_interceptors_loses_no_task():
    class Slow(Interceptor):
        async def attempt(self, call, proceed):
            await asyncio.sleep(1)
            try:
                return await proceed(call)
            finally:
                await asyncio.sleep(0)

        async def ask(self, call, proceed):
            await asyncio.sleep(0)
            return await proceed(call)

    async def program():
        async with Swarm(interceptors=[Slow()]) as swarm:
            echo = await swarm.spawn(Echo)
            task = await swarm.tasks.submit("block", max_retries=0)

            async def work():
                async with swarm.tasks.claim("block"):
                    await echo.ask(Echo.echo, "x")

            worker = asyncio.create_task(work(), name="worker")
            await asyncio.gather(worker, return_exceptions=True)
            record = await task.record()
            assert record.status in ("pending", "complete"), record.status
            if record.status == "pending":  # it can be claimed again at once
                async with swarm.tasks.claim("block", timeout=1):
                    pass
            assert echo.load == 0

    report = sweep_cancel(program, tasks=["worker"])
    assert report.failure is None, report.failure.explain()
    assert report.schedules > 5
