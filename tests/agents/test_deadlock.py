"""Cycles of turns are reported at the ask that closes them (semantics.md, Q6)."""

import asyncio

import pytest

from swarm import Agent, DeadlockError, Ref, Swarm, interleave
from tests.support.actors import Worker, graph_of
from tests.support.virtual_loop import turns, virtual


async def _friends(swarm: Swarm, *names: str) -> list[Ref[Worker]]:
    refs = {name: await swarm.spawn(Worker, name=name) for name in names}
    for ref in refs.values():
        await ref.ask(Worker.meet, **refs)
    return list(refs.values())


@virtual
async def test_asking_oneself_is_a_deadlock():
    """Q6: the shortest cycle."""
    async with Swarm() as swarm:
        (ada,) = await _friends(swarm, "ada")
        with pytest.raises(DeadlockError) as caught:
            await ada.ask(Worker.relay, "ada")
        assert len(caught.value.cycle) == 1
        assert "'ada' in Worker.relay waits for 'ada' (Worker.relay)" in str(
            caught.value
        )
        assert len(graph_of(ada)) == 0


@virtual
async def test_a_long_cycle_is_spelled_out_in_order():
    """Q6: which agent, in which method, waits for which other, since when."""
    async with Swarm() as swarm:
        ada, *_ = await _friends(swarm, "ada", "bo", "cy")
        with pytest.raises(DeadlockError) as caught:
            await ada.ask(Worker.relay, "bo", "cy", "ada")
        assert [str(step).split()[0] for step in caught.value.cycle] == [
            "'cy'",  # whose ask closes it
            "'ada'",
            "'bo'",
        ]
        assert "asked 0.0 s ago" in str(caught.value)
        assert await ada.ask(Worker.relay, "bo", "cy") == "arrived"
        assert len(graph_of(ada)) == 0


@virtual
async def test_two_that_ask_each_other_at_once_are_a_cycle():
    """Q6: no common call chain is needed."""
    async with Swarm() as swarm:
        ada, bo = await _friends(swarm, "ada", "bo")
        results = await asyncio.gather(
            ada.ask(Worker.relay_late, 1.0, "bo"),
            bo.ask(Worker.relay_late, 1.0, "ada"),
            return_exceptions=True,
        )
        assert sorted(type(result).__name__ for result in results) == [
            "DeadlockError",
            "str",
        ]


@virtual
async def test_a_request_queued_behind_another_is_part_of_the_cycle():
    """Q6: what is queued waits for the turn that runs, and for those before it."""
    async with Swarm() as swarm:
        ada, bo = await _friends(swarm, "ada", "bo")
        block = asyncio.ensure_future(bo.ask(Worker.slow, "block", 1))
        second = asyncio.ensure_future(bo.ask(Worker.relay_late, 1.0, "ada"))
        await turns(2)
        first = asyncio.ensure_future(ada.ask(Worker.relay, "bo"))
        results = await asyncio.gather(block, second, first, return_exceptions=True)
        assert isinstance(results[1], DeadlockError)
        assert results[2] == "arrived"


@virtual
async def test_child_tasks_of_a_turn_count_as_the_turn():
    """Q6: contextvars are inherited, and so is the place in the graph."""
    async with Swarm() as swarm:
        ada, *_ = await _friends(swarm, "ada", "bo", "cy")
        with pytest.raises(DeadlockError):
            await ada.ask(Worker.gather, "bo", "cy")


@virtual
async def test_no_false_alarm_for_interleaved_methods_and_free_agents():
    """Q6: what can still be answered is no deadlock."""
    async with Swarm() as swarm:
        ada, _, cy = await _friends(swarm, "ada", "bo", "cy")
        assert await ada.ask(Worker.peek_back, "bo") == []
        busy = asyncio.ensure_future(cy.ask(Worker.slow, "cy", 3))
        await turns(2)
        assert await ada.ask(Worker.relay, "bo", "cy") == "arrived"
        await busy


@virtual
async def test_an_interleaved_turn_can_close_a_cycle():
    """Q6: it asks, through another, the turn that waits for it."""

    class Door(Worker):
        async def go(self, name: str) -> object:
            return await self.friends[name].ask(Worker.relay, self.name)

    async with Swarm() as swarm:
        ada = await swarm.spawn(Door, name="ada")
        bo = await swarm.spawn(Door, name="bo")
        for ref in (ada, bo):
            await ref.ask(Worker.meet, ada=ada, bo=bo)
        with pytest.raises(DeadlockError):
            await ada.ask(Door.go, "bo")


@virtual
async def test_interleaved_turns_that_all_wait_for_each_others_room_are_a_cycle():
    """Q6, Q8: the ask that takes the last hope of room is refused."""

    class Crowd(Worker):
        @interleave
        async def go(self) -> object:
            await asyncio.sleep(1)
            return await self.ref.ask(Worker.peek)

    async with Swarm() as swarm:
        ada = await swarm.spawn(Crowd, mailbox=2)
        results = await asyncio.gather(
            *(ada.ask(Crowd.go) for _ in range(2)), return_exceptions=True
        )
        assert sorted(type(result).__name__ for result in results) == [
            "DeadlockError",
            "list",
        ]
        assert len(graph_of(ada)) == 0


@virtual
async def test_a_leftover_task_of_an_ended_turn_is_free():
    """Q6: it belongs to no turn any more, and may ask its own agent."""

    class Starter(Agent):
        def __init__(self) -> None:
            self.task: asyncio.Task[int] | None = None

        async def begin(self) -> None:
            async def later() -> int:
                await asyncio.sleep(1)
                return await self.ref.ask(Starter.answer)

            self.task = asyncio.ensure_future(later())

        async def answer(self) -> int:
            return 42

    async with Swarm() as swarm:
        ref = await swarm.spawn(Starter)
        await ref.ask(Starter.begin)
        agent = ref._cell.agent
        assert await agent.task == 42


@virtual
async def test_full_mailboxes_that_wait_for_each_other_are_a_cycle():
    """Q6, Q8: waiting for room is waiting."""

    class Chatty(Worker):
        async def flood(self, name: str) -> None:
            await asyncio.sleep(1)
            for number in range(5):
                await self.friends[name].tell(Worker.echo, number)

    async with Swarm() as swarm:
        ada = await swarm.spawn(Chatty, name="ada", mailbox=1)
        bo = await swarm.spawn(Chatty, name="bo", mailbox=1)
        for ref in (ada, bo):
            await ref.ask(Worker.meet, ada=ada, bo=bo)
        results = await asyncio.gather(
            ada.ask(Chatty.flood, "bo"),
            bo.ask(Chatty.flood, "ada"),
            return_exceptions=True,
        )
        assert sorted(type(result).__name__ for result in results) == [
            "DeadlockError",
            "NoneType",
        ]


@virtual
async def test_starting_and_stopping_are_part_of_the_graph():
    """Q6: spawn waits for `started`, stop for the turns before the end."""

    class Child(Agent):
        def __init__(self, parent: "Ref[Parent]") -> None:
            self.parent = parent

        async def started(self) -> None:
            await self.parent.ask(Parent.nothing)

    class Parent(Worker):
        async def nothing(self) -> None: ...

        async def bear(self) -> None:
            await self.swarm.spawn(Child, self.ref)

        async def end(self, name: str) -> None:
            await self.friends[name].stop()

        async def call_end(self, name: str) -> None:
            await self.friends[name].ask(Parent.end, self.name)

    async with Swarm() as swarm:
        ada = await swarm.spawn(Parent, name="ada")
        bo = await swarm.spawn(Parent, name="bo")
        for ref in (ada, bo):
            await ref.ask(Worker.meet, ada=ada, bo=bo)
        with pytest.raises(DeadlockError):
            await ada.ask(Parent.bear)
        assert len(swarm.agents) == 2
        with pytest.raises(DeadlockError):
            await ada.ask(Parent.call_end, "bo")
        assert ada.status == "idle"
        assert len(graph_of(ada)) == 0


@virtual
async def test_reading_a_stream_is_waiting_for_its_producer():
    """Q6: a producer that asks its reader closes a cycle."""

    class Source(Worker):
        async def items(self, name: str):
            yield await self.friends[name].ask(Worker.relay)

        async def read(self, name: str) -> list[object]:
            stream = self.friends[name].stream(Source.items, self.name)
            return [item async for item in stream]

    async with Swarm() as swarm:
        ada = await swarm.spawn(Source, name="ada")
        bo = await swarm.spawn(Source, name="bo")
        for ref in (ada, bo):
            await ref.ask(Worker.meet, ada=ada, bo=bo)
        with pytest.raises(DeadlockError):
            await ada.ask(Source.read, "bo")
