"""Tells: room in the mailbox, in the order of coming (semantics.md, Q8, G7, T3)."""

import asyncio

import pytest

from swarm import AgentDied, AskTimeout, MailboxFull, NoSuchAgent, Swarm, interleave
from tests.support.actors import Worker
from tests.support.virtual_loop import turns, virtual


async def _full(swarm: Swarm, diary: list[str], mailbox: int = 1):
    ref = await swarm.spawn(Worker, diary, mailbox=mailbox)
    await ref.tell(Worker.slow, "first", 5)
    await turns(2)
    for number in range(mailbox):
        ref.tell_nowait(Worker.echo, number)
    return ref


@virtual
async def test_a_tell_is_queued_and_handled_in_order():
    """Q6: first told, first handled; telling does not wait for it."""
    async with Swarm() as swarm:
        diary: list[str] = []
        ref = await swarm.spawn(Worker, diary)
        for number in range(300):
            await ref.tell(Worker.echo, number)
        assert diary == []
        await ref.ask(Worker.add, 1)
        assert diary == [f"echo {number}" for number in range(300)]


@virtual
async def test_a_full_mailbox_makes_senders_wait_in_order():
    """Q8, G7: bounded, first come first in, and nobody barges."""
    async with Swarm() as swarm:
        diary: list[str] = []
        ref = await _full(swarm, diary)
        waiting = [asyncio.ensure_future(ref.tell(Worker.echo, name)) for name in "abc"]
        await turns(2)
        assert not any(task.done() for task in waiting)
        with pytest.raises(MailboxFull):
            ref.tell_nowait(Worker.echo, "barger")
        asks = asyncio.ensure_future(ref.ask(Worker.echo, "asked"))
        await asyncio.gather(*waiting, asks)
        assert diary == [
            "begin first",
            "end first",
            "echo 0",
            "echo a",
            "echo b",
            "echo c",
            "echo asked",
        ]


@virtual
async def test_no_room_in_time_is_a_timeout_and_sends_nothing():
    """Q8: the wait for room counts against the deadline."""
    async with Swarm() as swarm:
        diary: list[str] = []
        ref = await _full(swarm, diary)
        with pytest.raises(AskTimeout, match="room"):
            await ref.within(1).tell(Worker.echo, "late")
        with pytest.raises(AskTimeout, match="room"):
            await ref.within(0).tell(Worker.echo, "never")
        with pytest.raises(AskTimeout) as caught:
            await ref.within(1).ask(Worker.echo, "late")
        assert not caught.value.started
        await ref.ask(Worker.add, 1)
        assert diary == ["begin first", "end first", "echo 0"]


@virtual
async def test_a_cancelled_sender_frees_its_place():
    """G6, T3: those behind it move up; what was cancelled is not sent."""
    async with Swarm() as swarm:
        diary: list[str] = []
        ref = await _full(swarm, diary)
        a, b = (asyncio.ensure_future(ref.tell(Worker.echo, name)) for name in "ab")
        await turns(2)
        a.cancel()
        await b
        await ref.ask(Worker.add, 1)
        assert diary[2:] == ["echo 0", "echo b"]


@virtual
async def test_a_sender_cancelled_just_after_it_got_in_has_not_sent():
    """T3: either it returned and is sent, or it raised and is not."""
    async with Swarm() as swarm:
        diary: list[str] = []
        ref = await swarm.spawn(Worker, diary, mailbox=1)
        senders: list[asyncio.Task[None]] = []

        async def cancel_sender() -> None:
            senders[0].cancel()

        class Canceller(Worker):
            async def echo(self, value: object = None) -> object:
                await cancel_sender()
                return value

        other = await swarm.spawn(Canceller, diary, mailbox=1)
        for target in (ref, other):
            await target.tell(Worker.steps, "first", 3)
            await turns(1)
            target.tell_nowait(Worker.echo, "in")
            senders[:] = [asyncio.ensure_future(target.tell(Worker.slow, "x", 0))]
            await target.ask(Worker.add, 1)
            await turns(5)
        assert senders[0].cancelled()
        assert diary.count("begin x") == 1


@virtual
async def test_a_sender_that_waits_for_room_is_told_of_the_end():
    """Q2, G12: senders hear of it at once."""
    async with Swarm() as swarm:
        ref = await _full(swarm, [])
        tells = [asyncio.ensure_future(ref.tell(Worker.echo, n)) for n in range(3)]
        asks = [asyncio.ensure_future(ref.ask(Worker.echo, n)) for n in range(3)]
        await turns(2)
        ref.kill()
        results = await asyncio.gather(*tells, *asks, return_exceptions=True)
        assert {type(result) for result in results} == {AgentDied}
        with pytest.raises(NoSuchAgent):
            ref.tell_nowait(Worker.echo)
        with pytest.raises(NoSuchAgent):
            await ref.tell(Worker.echo)


@virtual
async def test_stopping_serves_the_requests_that_wait_for_room():
    """Lifecycle: a stop finishes all that had been sent, waiting senders included."""
    async with Swarm() as swarm:
        diary: list[str] = []
        ref = await _full(swarm, diary)
        tell = asyncio.ensure_future(ref.tell(Worker.echo, "a"))
        await turns(2)
        stop = asyncio.ensure_future(ref.stop())
        await turns(2)
        assert ref.status == "draining"
        with pytest.raises(NoSuchAgent, match="stopping"):
            await ref.tell(Worker.echo, "b")
        await stop
        await tell
        assert diary == ["begin first", "end first", "echo 0", "echo a"]


@virtual
async def test_interleaved_turns_count_against_the_mailbox():
    """Q8: nothing grows without bound, not even turns beside others."""

    class Crowd(Worker):
        running = 0
        most = 0

        @interleave
        async def enter(self) -> None:
            self.running += 1
            self.most = max(self.most, self.running)
            await asyncio.sleep(1)
            self.running -= 1

        async def peak(self) -> int:
            return self.most

    async with Swarm() as swarm:
        ref = await swarm.spawn(Crowd, mailbox=4)
        await asyncio.gather(*(ref.ask(Crowd.enter) for _ in range(20)))
        assert await ref.ask(Crowd.peak) == 4


@virtual
async def test_a_told_stream_runs_to_its_end():
    """A tell of an async generator is a turn like any other."""
    async with Swarm() as swarm:
        diary: list[str] = []
        ref = await swarm.spawn(Worker, diary)
        await ref.tell(Worker.count, 2)
        await ref.ask(Worker.add, 1)
        assert diary == ["begin count", "yield 0", "yield 1", "closed count"]


@virtual
async def test_a_told_interleaved_turn_that_waited_for_room_runs():
    """Q8: its sender is awake a loop turn after there is room, and then it begins."""

    class Aside(Worker):
        @interleave
        async def aside(self, name: str) -> None:
            await turns(2)
            self.diary.append(name)

    async with Swarm() as swarm:
        diary: list[str] = []
        ref = await swarm.spawn(Aside, diary, mailbox=1)
        await asyncio.gather(*(ref.tell(Aside.aside, str(n)) for n in range(5)))
        await asyncio.sleep(1)
        assert sorted(diary) == ["0", "1", "2", "3", "4"]
