"""Asks, tells and streams under many schedules and cancellations (Q, T)."""

import asyncio
from typing import Any

import pytest

from swarm import AgentDied, AskTimeout, Closed, NoSuchAgent, Ref, Swarm
from swarm.agents import Mailbox, Restart
from swarm.agents import _local_ref as ref_module
from swarm.agents import _requests as requests_module
from swarm.agents._cell import Cell
from swarm.agents._envelope import Channel
from swarm.agents._interleaved import InterleavedTurns
from swarm.agents._mailbox import ENDED, QUEUED
from swarm.errors import RemoteCancelled
from swarm.testing import Faults, Sim, StuckError, sweep_cancel
from tests.simulation.actors import Clerk, Diary
from tests.simulation.oracle import breaks, holds, nothing_left, quietly, slow

GONE = (AgentDied, NoSuchAgent, Closed, asyncio.CancelledError, AskTimeout)
WRONG = (AssertionError, StuckError, ExceptionGroup, AskTimeout)
EVERYBODY = ("one", "two", "three")


async def idle(clerk: Ref[Clerk]) -> None:
    """Assert that an agent serves, and that nothing is left over in it (G4, G13)."""
    assert await clerk.ask(Clerk.ping) == "pong"
    await asyncio.sleep(0)
    assert clerk.load == 0
    assert clerk.status == "idle"


def answered(
    diary: Diary, outcomes: dict[str, Any], left: dict[str, int] | None = None
) -> None:
    """Q1: each asked job has one outcome, and it is the one that it had.

    `left` says how many steps a job had done when its asker was cancelled.
    """
    left = left or {}
    for name, outcome in outcomes.items():
        assert outcome == name or isinstance(outcome, GONE), outcome
        assert diary.begun.count(name) <= 1
        if outcome == name:
            assert diary.ended.count(name) == 1
        elif name in left:  # Q4: from the moment its asker gave up it did no more
            assert diary.steps[name] == left[name]
    assert diary.overlaps == 0


async def asked(sim: Sim, cancel: bool = True) -> None:
    """Three ask one agent; one of them is cancelled at some time."""
    diary = Diary()
    async with Swarm() as swarm:
        clerk = await swarm.spawn(Clerk, diary, name="clerk", mailbox=2)
        left: dict[str, int] = {}

        async def asker(name: str) -> object:
            job = Clerk.stubborn if name == "two" else Clerk.job
            try:
                return await clerk.ask(job, name)
            except asyncio.CancelledError:
                left[name] = diary.steps[name]
                raise

        tasks = {n: asyncio.create_task(asker(n), name=n) for n in EVERYBODY}
        if cancel:
            for _ in range(sim.rng.choice(range(8))):
                await sim.checkpoint()
            tasks[sim.rng.choice(EVERYBODY)].cancel()
        outcomes = {name: await quietly(task) for name, task in tasks.items()}
        await idle(clerk)
        answered(diary, outcomes, left)
        over = [*diary.ended, *diary.cancelled]
        assert sorted(map(str, diary.begun)) == sorted(map(str, over))
    nothing_left(swarm)


def test_every_ask_has_exactly_one_outcome():
    """Q1, Q4, Q6: the others are answered, turns do not overlap, nothing is left."""
    holds(asked, schedules=80)


def test_every_ask_has_exactly_one_outcome_wherever_it_is_cancelled():
    """Q1, Q4, G3: the sweep over all steps of all askers."""

    async def program(sim: Sim) -> None:
        await asked(sim, cancel=False)

    report = sweep_cancel(program, tasks=EVERYBODY)
    report.check()
    assert report.schedules > 20


async def crashing(sim: Sim) -> None:
    """Agents crash, freeze and are slow while three ask them."""
    diary = Diary()
    async with Swarm() as swarm:
        restart = Restart("permanent", max=9)
        clerk = await swarm.spawn(Clerk, diary, name="clerk", restart=restart)
        tasks = {
            name: asyncio.create_task(clerk.ask(Clerk.job, name), name=name)
            for name in EVERYBODY
        }
        outcomes = {name: await quietly(task) for name, task in tasks.items()}
        answered(diary, outcomes)
        sim.sometimes("a crash was felt", any(o != n for n, o in outcomes.items()))
        await asyncio.sleep(300)
        await quietly(clerk.ask(Clerk.ping))
        await asyncio.sleep(300)
        assert clerk.load == 0
        assert clerk.status in ("idle", "offline")
    nothing_left(swarm)


def test_every_ask_has_exactly_one_outcome_when_agents_crash_freeze_and_are_slow():
    """Q1, Q2: answered, or told at once or in time that it will not be."""
    faults = Faults(crash=True, freeze=True, slow=True, most=3)
    holds(crashing, schedules=100, faults=faults)


@slow
def test_every_ask_has_exactly_one_outcome_in_many_schedules():
    """Q1: the same for longer."""
    holds(asked, schedules=3_000, seed=1)
    faults = Faults(crash=True, freeze=True, slow=True, most=4)
    holds(crashing, schedules=3_000, faults=faults, seed=1)


def test_an_ask_that_does_not_withdraw_is_found(monkeypatch):
    """Q4: a request whose asker was cancelled is not served."""

    def stays(self, envelope, error=None):
        if error is not None:
            envelope.settle(error)

    monkeypatch.setattr(Cell, "drop", stays)
    breaks(asked, WRONG)


def test_turns_that_overlap_are_found(monkeypatch):
    """Q6: one turn at a time."""

    def aside(self, envelope):
        self.beside = self.beside or InterleavedTurns(self, 9)
        self.beside.run(envelope)
        return True

    monkeypatch.setattr(Cell, "post", aside)
    breaks(asked, WRONG)


def test_an_answer_that_goes_nowhere_is_found(monkeypatch):
    """Q1: an asker of an agent that dies is told so."""

    def silent(self, envelope, error):
        self.returning = None

    monkeypatch.setattr("swarm.agents._envelope.Asked.settle", lambda *args: None)
    breaks(crashing, WRONG, faults=Faults(crash=True), max_time=10_000)


def test_a_withdrawal_that_cancels_the_turn_of_another_is_found(monkeypatch):
    """G4: the cancellation of one request is not seen by another."""
    drop = Cell.drop

    def careless(self, envelope, error=None):
        drop(self, envelope, error)
        if self.current is not None:
            self.cancel_turn(self.current)

    monkeypatch.setattr(Cell, "drop", careless)
    breaks(asked, (*WRONG, RemoteCancelled))


# --- tell ---------------------------------------------------------------------------


async def told(sim: Sim, cancel: bool = True) -> None:
    """Three tell an agent whose mailbox holds one; one of them is cancelled."""
    diary = Diary()
    accepted: list[str] = []
    withdrawn: list[str] = []
    async with Swarm() as swarm:
        clerk = await swarm.spawn(Clerk, diary, name="clerk", mailbox=1)

        async def sender(who: str) -> None:
            for number in range(2):
                name = f"{who}{number}"
                try:
                    await clerk.tell(Clerk.job, name)
                except asyncio.CancelledError:
                    withdrawn.append(name)
                    raise
                accepted.append(name)

        tasks = [asyncio.create_task(sender(who), name=who) for who in EVERYBODY]
        if cancel:
            for _ in range(sim.rng.choice(range(10))):
                await sim.checkpoint()
            sim.rng.choice(tasks).cancel()
        for task in tasks:
            outcome = await quietly(task)
            assert outcome is None or isinstance(outcome, asyncio.CancelledError)
        while clerk.load:
            await asyncio.sleep(1)
        await idle(clerk)
    assert sorted(diary.ended) == sorted(accepted)  # T3: all, each once, no other
    assert diary.begun == diary.ended
    assert not set(withdrawn) & set(diary.begun)
    for who in EVERYBODY:
        mine = [name for name in diary.ended if name.startswith(who)]
        assert mine == sorted(mine)  # each sender's in order
    assert diary.overlaps == 0
    nothing_left(swarm)


def test_what_is_told_is_handled_once_and_what_is_not_is_not():
    """T1, T3, G7: through a mailbox that is always full, with cancelled senders."""
    holds(told, schedules=80)


def test_what_is_told_is_handled_once_wherever_the_sender_is_cancelled():
    """T3: the sweep over all steps of all senders."""

    async def program(sim: Sim) -> None:
        await told(sim, cancel=False)

    report = sweep_cancel(program, tasks=EVERYBODY)
    report.check()
    assert report.schedules > 30


@slow
def test_what_is_told_is_handled_once_in_many_schedules():
    """T3: the same for longer."""
    holds(told, schedules=4_000, seed=1)


def test_a_mailbox_that_drops_a_letter_on_cancel_is_found(monkeypatch):
    """T3: withdrawing one letter takes no other with it."""
    withdraw = Mailbox.withdraw

    def careless(self, letter):
        withdraw(self, letter)
        if self.queue:
            self.queue.pop().state = ENDED

    monkeypatch.setattr(Mailbox, "withdraw", careless)
    breaks(told, (*WRONG, Exception))


def test_a_cancelled_sender_whose_message_stays_is_found(monkeypatch):
    """T3: never both sent and cancelled."""

    async def stays(envelope, timeout):
        envelope.room = envelope.cell.host.loop.create_future()
        await envelope.room
        envelope.state = QUEUED

    def admitted(self, mailbox):
        while (envelope := mailbox.admit()) is not None:
            if envelope.room is not None and not envelope.room.done():
                envelope.room.set_result(None)
            envelope.state = QUEUED
            mailbox.queue.append(envelope)
        self.wake()

    monkeypatch.setattr(ref_module, "wait_for_room", stays)
    monkeypatch.setattr(Cell, "admit", admitted)
    breaks(told, WRONG)


def test_a_withdrawal_that_lets_no_sender_in_is_found(monkeypatch):
    """G6: a sender that leaves the queue or the mailbox makes room for the next."""

    def only_one(self, mailbox):
        if mailbox.waiting is not None and len(mailbox.waiting) > 1:
            return
        admit(self, mailbox)

    admit = Cell.admit
    monkeypatch.setattr(Cell, "admit", only_one)
    breaks(told, WRONG)


# --- faults of the messages -----------------------------------------------------------


async def at_least_once(sim: Sim) -> None:
    """A sender that repeats until it is answered, to a receiver that knows repeats."""
    async with Swarm() as swarm:
        box = await swarm.spawn(Inbox, name="box")
        for number in range(3):
            while not await box.ask(Inbox.has, number):
                await box.tell(Inbox.put, number)
                await asyncio.sleep(5)
        await asyncio.sleep(200)
        assert await box.ask(Inbox.content) == [0, 1, 2]


class Inbox(Clerk):
    """Keeps what it is told, each number once."""

    def __init__(self) -> None:
        super().__init__(Diary())
        self.numbers: list[int] = []

    async def put(self, number: int) -> None:
        if number not in self.numbers:
            self.numbers.append(number)

    async def has(self, number: int) -> bool:
        return number in self.numbers

    async def content(self) -> list[int]:
        return self.numbers


ALL_MESSAGES = Faults(drop=True, duplicate=True, delay=True, reorder=True, most=4)


def test_a_sender_that_repeats_reaches_a_receiver_that_knows_repeats():
    """E: lost, doubled, late and overtaken messages; the protocol bears them all."""
    holds(at_least_once, schedules=80, faults=ALL_MESSAGES)


@pytest.mark.parametrize("kind", ["drop", "duplicate", "delay", "reorder"])
def test_a_protocol_that_trusts_the_messages_is_found_out(kind):
    """Each fault alone breaks a receiver that counts on exactly-once in order."""

    async def trusting() -> None:
        diary = Diary()
        async with Swarm() as swarm:
            clerk = await swarm.spawn(Clerk, diary, name="clerk")
            for number in range(3):
                await clerk.tell(Clerk.job, number)
            await asyncio.sleep(200)
        assert diary.ended == [0, 1, 2]

    holds(trusting, schedules=50)
    breaks(trusting, faults=Faults(**{kind: "cl*"}))


# --- streams --------------------------------------------------------------------------


async def streamed(sim: Sim, leave: bool = True) -> None:
    """Read a stream through a small window; be cancelled, or leave, on the way."""
    diary = Diary()
    rng = sim.rng
    async with Swarm() as swarm:
        clerk = await swarm.spawn(Clerk, diary, name="clerk")
        window = swarm._coordinator.stream_window = 2
        got: list[int] = []
        stop = rng.choice([2, 9]) if leave else 9

        async def read() -> None:
            async with clerk.stream(Clerk.items, 6) as items:
                while len(got) < stop:
                    if leave:
                        step = asyncio.ensure_future(anext(items))
                        if rng.random() < 0.3:
                            await asyncio.sleep(0)
                            step.cancel()
                        item = await quietly(step)
                    else:
                        item = await anext(items, StopAsyncIteration())
                    if isinstance(item, StopAsyncIteration | RuntimeError):
                        return
                    if not isinstance(item, BaseException):
                        got.append(item)
                    ahead = sum(isinstance(i, int) for i in diary.begun) - len(got)
                    assert ahead <= window + 1, ahead

        reader = asyncio.create_task(read(), name="reader")
        await quietly(reader)
        assert got == list(range(len(got)))  # T1, T4
        assert reader.cancelled() or len(got) in (6, stop)
        await idle(clerk)
        assert diary.ended in ([], ["closed"])
        assert bool(diary.ended) == bool(diary.begun)
    nothing_left(swarm)


def test_a_stream_is_in_order_and_loses_nothing():
    """T1, T2, T4, T5, T9: with cancelled reads and readers that leave."""
    holds(streamed, schedules=70)


def test_a_stream_leaves_nothing_wherever_its_reader_is_cancelled():
    """T9: the producer's turn ends, the agent goes on."""

    async def program(sim: Sim) -> None:
        await streamed(sim, leave=False)

    sweep_cancel(program, tasks=["reader"]).check()


def test_a_stream_without_back_pressure_is_found(monkeypatch):
    """T2: the producer is never more than its window ahead."""

    monkeypatch.setattr(Channel, "is_full", lambda self: False)
    breaks(streamed, WRONG)


def test_a_cancelled_read_that_takes_an_item_is_found(monkeypatch):
    """T4: cancelling the wait loses nothing."""
    take = Channel.take
    wait = requests_module._wait

    async def takes(envelope, channel, timeout):
        try:
            await wait(envelope, channel, timeout)
        except asyncio.CancelledError:
            if channel.buffer:
                take(channel)
            raise

    monkeypatch.setattr(requests_module, "_wait", takes)
    breaks(streamed, WRONG)


def test_a_reader_that_leaves_its_producer_running_is_found(monkeypatch):
    """T9: the check can fail."""

    async def stays(self):
        pass

    monkeypatch.setattr(ref_module.Stream, "aclose", stays)
    monkeypatch.delattr(ref_module.Stream, "__del__")  # the second line of defence
    breaks(streamed, (*WRONG, RemoteCancelled))
