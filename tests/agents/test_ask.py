"""Asks: exactly one outcome, whatever happens (semantics.md, Q)."""

import asyncio

import pytest

from swarm import (
    AgentDied,
    AskTimeout,
    NoSuchAgent,
    RemoteCancelled,
    Swarm,
    SwarmConfig,
)
from tests.support.actors import Worker, deadlines_of
from tests.support.virtual_loop import turns, virtual


@virtual
async def test_an_ask_returns_what_the_method_returns():
    """Q1: the reply is the outcome."""
    async with Swarm() as swarm:
        ref = await swarm.spawn(Worker)
        assert await ref.ask(Worker.add, 1, right=2) == 3
        assert await ref.proxy.add(3, 4) == 7
        assert await ref.ask(Worker.echo, None) is None


@virtual
async def test_turns_never_interleave():
    """Q6: one turn at a time, in the order of sending."""
    async with Swarm() as swarm:
        diary: list[str] = []
        ref = await swarm.spawn(Worker, diary)
        await asyncio.gather(*(ref.ask(Worker.slow, name) for name in "abc"))
        assert diary == ["begin a", "end a", "begin b", "end b", "begin c", "end c"]


@virtual
async def test_an_interleaved_method_runs_while_a_turn_waits():
    """Q6: unless declared concurrent."""
    async with Swarm() as swarm:
        ref = await swarm.spawn(Worker)
        slow = asyncio.ensure_future(ref.ask(Worker.slow, "a"))
        await turns(3)
        assert await ref.ask(Worker.peek) == ["begin a"]
        assert ref.status == "busy"
        await slow


@virtual
async def test_the_asker_gets_the_original_exception_with_a_note():
    """Q5: the same object, and where it was raised, said once."""
    async with Swarm() as swarm:
        ref = await swarm.spawn(Worker, name="ada")
        error = KeyError("gone")
        for _ in range(2):
            with pytest.raises(KeyError) as caught:
                await ref.ask(Worker.fail, error)
            assert caught.value is error
        assert error.__notes__ == ["in Worker.fail of agent 'ada'"]
        assert await ref.ask(Worker.add, 1) == 1


@virtual
async def test_a_handler_that_cancels_itself_fails_the_ask_not_the_asker():
    """Q5: handler cancellation is RemoteCancelled at once; the agent lives on."""
    async with Swarm() as swarm:
        ref = await swarm.spawn(Worker)
        with pytest.raises(RemoteCancelled):
            await ref.ask(Worker.fail, asyncio.CancelledError())
        assert asyncio.current_task().cancelling() == 0
        assert await ref.ask(Worker.add, 1) == 1


@virtual
async def test_cancelling_the_asker_withdraws_a_queued_request():
    """Q4: what has not begun never begins."""
    async with Swarm() as swarm:
        diary: list[str] = []
        ref = await swarm.spawn(Worker, diary)
        first = asyncio.ensure_future(ref.ask(Worker.slow, "a"))
        second = asyncio.ensure_future(ref.ask(Worker.slow, "b"))
        third = asyncio.ensure_future(ref.ask(Worker.slow, "c"))
        await turns(3)
        second.cancel()
        await first
        await third
        assert second.cancelled()
        assert diary == ["begin a", "end a", "begin c", "end c"]


@virtual
async def test_cancelling_the_asker_cancels_its_turn_and_no_other():
    """Q4, G4: the turn is cancelled, the next one runs unharmed."""
    async with Swarm() as swarm:
        diary: list[str] = []
        ref = await swarm.spawn(Worker, diary)
        first = asyncio.ensure_future(ref.ask(Worker.slow, "a"))
        second = asyncio.ensure_future(ref.ask(Worker.slow, "b"))
        await turns(3)
        first.cancel()
        assert await second == "b"
        assert diary == ["begin a", "cancelled a", "begin b", "end b"]


@virtual
async def test_a_suppressed_cancellation_ends_with_its_turn():
    """Q4, G4: it never reaches the turn after it."""
    async with Swarm() as swarm:
        diary: list[str] = []
        ref = await swarm.spawn(Worker, diary)
        first = asyncio.ensure_future(ref.ask(Worker.stubborn))
        second = asyncio.ensure_future(ref.ask(Worker.slow, "b"))
        await turns(3)
        first.cancel()
        assert await second == "b"
        assert first.cancelled()
        assert diary == ["begin stubborn", "suppressed", "begin b", "end b"]
        assert swarm.agents.info(ref.name).late == 1


@virtual
async def test_cancelling_the_asker_cancels_an_interleaved_turn():
    """Q4: likewise for turns that run beside others."""
    async with Swarm() as swarm:
        diary: list[str] = []
        ref = await swarm.spawn(Worker, diary)
        ask = asyncio.ensure_future(ref.ask(Worker.wait_aside, "a"))
        await turns(3)
        ask.cancel()
        await turns(5)
        assert diary == ["begin a", "cancelled a"]
        assert ref.load == 0


@virtual
async def test_no_answer_in_time_is_a_timeout_that_says_whether_it_began():
    """Q1, Q4: the deadline cancels a turn and withdraws a request."""
    async with Swarm() as swarm:
        diary: list[str] = []
        ref = await swarm.spawn(Worker, diary)
        asks = [
            asyncio.ensure_future(ref.within(2).ask(Worker.slow, "a", 5)),
            asyncio.ensure_future(ref.within(1).ask(Worker.slow, "b")),
        ]
        with pytest.raises(AskTimeout) as queued:
            await asks[1]
        with pytest.raises(AskTimeout) as running:
            await asks[0]
        assert not queued.value.started
        assert running.value.started
        assert isinstance(running.value, TimeoutError)
        assert await ref.ask(Worker.add, 1) == 1
        assert diary == ["begin a", "cancelled a"]


@virtual
async def test_the_default_timeout_is_finite():
    """Q1: nobody waits for ever by default."""
    async with Swarm(config=SwarmConfig(ask_timeout=3)) as swarm:
        ref = await swarm.spawn(Worker)
        loop = asyncio.get_running_loop()
        began = loop.time()
        with pytest.raises(AskTimeout):
            await ref.ask(Worker.slow, "a", 50)
        assert loop.time() - began == pytest.approx(3)
        assert await ref.within(None).ask(Worker.slow, "b", 500) == "b"


@virtual
async def test_an_answer_and_its_deadline_in_one_tick_have_one_winner():
    """G5: the engine decides once; the answer that came first counts."""
    async with Swarm() as swarm:
        ref = await swarm.spawn(Worker)
        for seconds in (0.999999, 1.0, 1.000001):
            answer, *_ = await asyncio.gather(
                ref.within(1).ask(Worker.slow, "a", seconds), return_exceptions=True
            )
            assert answer == "a" or (isinstance(answer, AskTimeout) and answer.started)
            assert await ref.ask(Worker.add, 1) == 1


@virtual
async def test_a_nested_ask_inherits_the_earlier_deadline():
    """Q4: the deadline travels with the message through the call chain."""
    async with Swarm() as swarm:
        diary: list[str] = []
        ada = await swarm.spawn(Worker, name="ada")
        bo = await swarm.spawn(Worker, diary, name="bo")
        await ada.ask(Worker.meet, bo=bo)
        with pytest.raises(AskTimeout):
            await ada.within(2).ask(Worker.nested, "bo", 10, None)
        await turns(5)
        assert diary == ["begin nested", "cancelled nested"]
        with pytest.raises(AskTimeout, match=r"Worker\.slow"):
            await ada.within(20).ask(Worker.nested, "bo", 10, 1)


@virtual
async def test_no_time_left_asks_nothing():
    """T10: a time-out of 0 has no effect at the agent."""
    async with Swarm() as swarm:
        diary: list[str] = []
        ref = await swarm.spawn(Worker, diary)
        with pytest.raises(AskTimeout):
            await ref.within(0).ask(Worker.echo)
        assert diary == []
    with pytest.raises(ValueError, match="0 seconds or more"):
        ref.within(-1)


@pytest.mark.parametrize(
    "method",
    [
        Worker.plain,
        Worker._private,
        Worker.started,
        Worker.stopping,
        Swarm.close,
        len,
        "echo",
        Worker().echo,
    ],
)
@virtual
async def test_a_method_that_is_not_public_and_async_is_a_type_error_without_effect(
    method,
):
    """Q2: a wrong method is known at once."""
    async with Swarm() as swarm:
        ref = await swarm.spawn(Worker)
        for ask in (ref.ask, ref.tell):
            with pytest.raises(TypeError):
                await ask(method)
        for nowait in (ref.tell_nowait, ref.stream):
            with pytest.raises(TypeError):
                nowait(method)
        assert ref.load == 0


@virtual
async def test_streams_are_not_asked_and_asks_are_not_streamed():
    """Q2: the error names the right verb."""
    async with Swarm() as swarm:
        ref = await swarm.spawn(Worker)
        with pytest.raises(TypeError, match="use stream"):
            await ref.ask(Worker.count, 1)
        with pytest.raises(TypeError, match="use ask"):
            ref.stream(Worker.echo)
        with pytest.raises(AttributeError):
            _ = ref.proxy.nothing  # type: ignore[attr-defined]
        with pytest.raises(AttributeError):
            _ = ref.proxy._private


@virtual
async def test_wrong_arguments_reach_the_asker():
    """Q5: as the TypeError they are."""
    async with Swarm() as swarm:
        ref = await swarm.spawn(Worker)
        with pytest.raises(TypeError, match="add"):
            await ref.ask(Worker.add, 1, 2, 3)


@virtual
async def test_a_base_class_method_means_the_agents_own():
    """A protocol may be a base class."""

    class Loud(Worker):
        async def echo(self, value: object = None) -> object:
            return f"{value}!"

    async with Swarm() as swarm:
        ref = await swarm.spawn(Loud)
        assert await ref.ask(Worker.echo, "hi") == "hi!"


@virtual
async def test_killing_the_agent_answers_every_pending_ask_at_once():
    """Q2: running and queued alike get AgentDied, in no time."""
    async with Swarm() as swarm:
        ref = await swarm.spawn(Worker, mailbox=1)
        asks = [asyncio.ensure_future(ref.ask(Worker.slow, n)) for n in "abc"]
        await turns(3)
        before = asyncio.get_running_loop().time()
        await ref.kill()
        results = await asyncio.gather(*asks, return_exceptions=True)
        assert [type(result) for result in results] == [AgentDied] * 3
        assert asyncio.get_running_loop().time() == before
        with pytest.raises(NoSuchAgent):
            await ref.ask(Worker.echo)


@virtual
async def test_cancelling_the_agents_task_from_outside_fails_the_turn_alone():
    """Q2: the asker hears of it at once, and the agent gets another task."""
    async with Swarm() as swarm:
        ref = await swarm.spawn(Worker, name="ada")
        ask = asyncio.ensure_future(ref.ask(Worker.slow, "a"))
        await turns(3)
        next(t for t in asyncio.all_tasks() if t.get_name() == "ada").cancel()
        with pytest.raises(RemoteCancelled):
            await ask
        assert await ref.ask(Worker.slow, "b") == "b"


@virtual
async def test_deadlines_keep_only_open_requests():
    """G13: ten thousand asks leave no more than a bounded residue."""
    async with Swarm() as swarm:
        ref = await swarm.spawn(Worker)
        for number in range(10_000):
            await ref.within(30 + number % 500).ask(Worker.echo)
        assert len(deadlines_of(ref)) < 64 * 257 + 1100
        pending = [asyncio.ensure_future(ref.ask(Worker.slow, "x")) for _ in range(99)]
        await turns(2)
        for task in pending:
            task.cancel()
        await turns(3)
        for _ in range(1000):
            await ref.ask(Worker.echo)
        assert ref.load == 0
    assert len(deadlines_of(ref)) == 0


def test_keyboard_interrupt_leaves_the_loop():
    """As asyncio does: it is nobody's to catch."""

    async def main() -> None:
        swarm = await Swarm.open()
        ref = await swarm.spawn(Worker)
        await ref.ask(Worker.fail, KeyboardInterrupt())

    with pytest.raises(KeyboardInterrupt):
        asyncio.run(main())
