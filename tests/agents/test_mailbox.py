"""The mailbox and the deadlines against obviously right models."""

from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, invariant, rule

from swarm.agents._mailbox import (
    ADMITTED,
    DECIDED,
    ENDED,
    QUEUED,
    RUNNING,
    WAITING,
    Mailbox,
)
from swarm.ports import Deadlines


class Slip:
    """A letter."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.state: int = WAITING
        self.confirmed = True


class MailboxMachine(RuleBasedStateMachine):
    """Q8, G6, G7: bounded, FIFO, nobody overtakes, withdrawn letters take no room."""

    slips = Bundle("slips")

    def __init__(self) -> None:
        super().__init__()
        self.capacity = 3
        self.box: Mailbox[Slip] = Mailbox(self.capacity)
        self.queued: list[Slip] = []
        self.waiting: list[Slip] = []
        self.outside = 0
        self.count = 0

    def admit(self) -> None:
        while (slip := self.box.admit()) is not None:
            expected = self.waiting.pop(0)
            assert slip is expected
            slip.state = QUEUED
            self.box.queue.append(slip)
            self.queued.append(slip)

    @rule(target=slips)
    def put(self) -> Slip:
        slip = Slip(self.count)
        self.count += 1
        free = not self.waiting and len(self.queued) + self.outside < self.capacity
        assert self.box.has_room() == free
        assert self.box.put(slip) == free
        (self.queued if free else self.waiting).append(slip)
        return slip

    @rule()
    def take(self) -> None:
        taken = None
        while taken is None and self.box.queue:
            taken = self.box.take()
        assert taken is (self.queued.pop(0) if self.queued else None)
        if taken is not None:
            taken.state = RUNNING
        self.admit()

    @rule(slip=slips)
    def withdraw(self, slip: Slip) -> None:
        for place in (self.queued, self.waiting):
            if slip in place:
                place.remove(slip)
                self.box.withdraw(slip)
                assert slip.state == ENDED
        self.admit()

    @rule(slip=slips)
    def put_back(self, slip: Slip) -> None:
        if slip.state == RUNNING:
            self.box.put_back(slip)
            self.queued.insert(0, slip)

    @rule(out=st.booleans())
    def move_outside(self, out: bool) -> None:
        if out and self.box.has_room():
            self.outside += 1
            self.box.limit -= 1
        elif not out and self.outside:
            self.outside -= 1
            self.box.limit += 1
            self.admit()

    @rule()
    def clear(self) -> None:
        assert self.box.clear() == self.queued + self.waiting
        for slip in self.queued + self.waiting:
            slip.state = ENDED
        self.queued, self.waiting = [], []

    @invariant()
    def agrees(self) -> None:
        assert list(self.box) == self.queued + self.waiting
        assert len(self.box) == len(self.queued)
        assert self.box.limit >= self.capacity - self.outside


MailboxMachine.TestCase.settings = settings(max_examples=60, stateful_step_count=40)
TestMailbox = MailboxMachine.TestCase


def test_many_withdrawn_messages_are_swept():
    """Q8: what is withdrawn takes up no memory for long."""
    box: Mailbox[Slip] = Mailbox(1000)
    slips = [Slip(number) for number in range(1000)]
    for slip in slips:
        box.put(slip)
    for slip in slips[:-1]:
        box.withdraw(slip)
    assert len(box) == 1
    assert len(box.queue) < 100
    while (taken := box.take()) is None:
        pass
    assert taken is slips[-1]


def test_a_message_whose_sender_is_not_awake_is_not_taken():
    """T3: it may still be cancelled."""
    box: Mailbox[Slip] = Mailbox(1)
    slip = Slip(0)
    box.put(slip)
    slip.state = ADMITTED
    assert box.take() is None
    slip.state = QUEUED
    assert box.take() is slip


# --- deadlines ------------------------------------------------------------


class FakeClock:
    """A clock one turns by hand."""

    def __init__(self) -> None:
        self.now = 0.0
        self.timers: list[Any] = []

    def wall(self) -> int:
        return int(self.now * 1e6)

    def monotonic(self) -> float:
        return self.now

    def call_at(self, when: float, callback: Any) -> Any:
        timer = FakeTimer(self, when, callback)
        self.timers.append(timer)
        return timer

    async def sleep(self, seconds: float) -> None:
        raise NotImplementedError

    def advance(self, seconds: float) -> None:
        until = self.now + seconds
        while due := [timer for timer in self.timers if timer.when <= until]:
            timer = min(due, key=lambda timer: timer.when)
            self.timers.remove(timer)
            self.now = max(self.now, timer.when)
            timer.callback()
        self.now = until


class FakeTimer:
    def __init__(self, clock: FakeClock, when: float, callback: Any) -> None:
        self.clock, self.when, self.callback = clock, when, callback

    def cancel(self) -> None:
        if self in self.clock.timers:
            self.clock.timers.remove(self)


class Entry:
    def __init__(self, clock: FakeClock, deadline: float) -> None:
        self.clock = clock
        self.deadline = deadline
        self.state = 0
        self.expired_at: float | None = None

    def is_decided(self) -> bool:
        return self.state >= DECIDED

    def expire(self) -> None:
        self.expired_at = self.clock.now
        self.state = DECIDED


class DeadlineMachine(RuleBasedStateMachine):
    """G5, G8, G13: each expires once, at its time, unless decided before."""

    entries = Bundle("entries")

    def __init__(self) -> None:
        super().__init__()
        self.clock = FakeClock()
        self.deadlines = Deadlines(self.clock)
        self.all: list[Entry] = []
        self.decided: set[Entry] = set()

    @rule(target=entries, timeout=st.sampled_from([1.0, 5.0, 30.0]))
    def add(self, timeout: float) -> Entry:
        entry = Entry(self.clock, self.clock.now + timeout)
        self.deadlines.add(timeout, entry)
        self.all.append(entry)
        return entry

    @rule(target=entries, timeout=st.floats(0.1, 40))
    def inherit(self, timeout: float) -> Entry:
        entry = Entry(self.clock, self.clock.now + timeout)
        self.deadlines.inherit(entry)
        self.all.append(entry)
        return entry

    @rule(timeout=st.floats(1, 2))
    def crowd(self, timeout: float) -> None:
        for number in range(80):
            entry = Entry(self.clock, self.clock.now + timeout + number)
            entry.state = DECIDED
            self.deadlines.add(timeout + number, entry)

    @rule(entry=entries)
    def decide(self, entry: Entry) -> None:
        if entry.expired_at is None:
            entry.state = DECIDED
            self.decided.add(entry)

    @rule(seconds=st.floats(0, 20))
    def advance(self, seconds: float) -> None:
        self.clock.advance(seconds)

    @invariant()
    def each_expires_at_its_time(self) -> None:
        for entry in self.all:
            if entry in self.decided:
                assert entry.expired_at is None
            elif entry.deadline <= self.clock.now:
                assert entry.expired_at == pytest.approx(entry.deadline)
            else:
                assert entry.expired_at is None

    @invariant()
    def nothing_grows_without_bound(self) -> None:
        live = sum(entry.state < DECIDED for entry in self.all)
        assert len(self.deadlines) <= 70 * 257 + 4 * live
        assert len(self.clock.timers) <= 66

    def teardown(self) -> None:
        self.deadlines.close()
        assert len(self.deadlines) == 0
        assert self.clock.timers == []


DeadlineMachine.TestCase.settings = settings(max_examples=40, stateful_step_count=30)
TestDeadlines = DeadlineMachine.TestCase


def test_a_thousand_asks_of_one_timeout_keep_only_the_live_ones():
    """G13: the queue is swept when it has grown to four times what is wanted."""
    clock = FakeClock()
    deadlines = Deadlines(clock)
    for _ in range(10_000):
        entry = Entry(clock, clock.now + 60)
        deadlines.add(60, entry)
        entry.state = DECIDED
        inherited = Entry(clock, clock.now + 50)
        deadlines.inherit(inherited)
        inherited.state = DECIDED
    assert len(deadlines) <= 2 * 257
