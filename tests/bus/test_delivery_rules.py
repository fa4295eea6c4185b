"""The delivery queue against a model: lists of events that wait and that run."""

from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)

from swarm import Backoff, Batch, Event
from swarm.bus._delivery_rules import DeliveryQueue, Fate, HandlerRun, QueuedEvent
from swarm.bus._records import HandlerOptions
from swarm.model import OWNER, Commit
from tests.bus.test_patterns import Placed


class DeliveryQueueMachine(RuleBasedStateMachine):
    """E5, E9, E10, E11, E14, E17 for every combination of options."""

    @initialize(
        mode=st.sampled_from(("ordered", "partitioned", "unordered", "batched")),
        on_error=st.sampled_from(("retry", "dead-letter", "ignore")),
        retries=st.integers(0, 2),
        wait=st.sampled_from((None, 5.0)),
    )
    def start(self, mode: str, on_error: Any, retries: int, wait: float | None) -> None:
        self.options = HandlerOptions(
            delivery="at-least-once",
            ordered=mode != "unordered",
            partition=(lambda e: e.payload.number % 3)
            if mode == "partitioned"
            else None,
            batch=Batch(3, 2.0) if mode == "batched" else None,
            on_error=on_error,
            max_retries=retries,
            backoff=Backoff(1.0, 8.0),
            ack_wait=wait,
        )
        self.mode = mode
        self.line = DeliveryQueue(self.options)
        self.now = 0.0
        self.added = 0
        self.waiting: list[int] = []
        self.running: dict[HandlerRun, list[int]] = {}
        self.failures: dict[int, int] = {}
        self.not_before: dict[int, float] = {}
        self.finished: list[int] = []
        self.dead: list[int] = []
        self.hurries = False

    def queue(self, number: int) -> Any:
        if self.mode == "partitioned":
            return number % 3
        return number if self.mode == "unordered" else 0

    @rule()
    def add(self) -> None:
        self.added += 1
        n = self.added
        commit = Commit(n, n, OWNER, (), (Placed(n),))
        self.line.add(QueuedEvent(Event(commit, 0), self.now), n % 3, self.now)
        self.waiting.append(n)

    @rule(seconds=st.sampled_from((0.5, 1.0, 4.0, 10.0)))
    def pass_time(self, seconds: float) -> None:
        self.now += seconds

    @rule()
    def hurry(self) -> None:
        self.line.flush_batches(self.now)
        self.hurries = True

    @rule()
    def take(self) -> None:
        delivery = self.line.take(self.now)
        if delivery is None:
            busy = {self.queue(n) for ns in self.running.values() for n in ns}
            for lane in {self.queue(n) for n in self.waiting} - busy:
                head = min(n for n in self.waiting if self.queue(n) == lane)
                assert self.not_before.get(head, 0) > self.now or self.mode == "batched"
            return
        numbers = [item.event.payload.number for item in delivery.items]
        lane = self.queue(numbers[0])
        assert not any(
            self.queue(n) == lane for ns in self.running.values() for n in ns
        ), "E9: one at a time"
        in_lane = sorted(n for n in self.waiting if self.queue(n) == lane)
        assert numbers == in_lane[: len(numbers)], "E9: in order, none overtaken"
        assert 1 <= len(numbers) <= (3 if self.mode == "batched" else 1)
        assert self.not_before.get(numbers[0], 0) <= self.now, "E10: backoff"
        self.waiting = [n for n in self.waiting if n not in numbers]
        self.running[delivery] = numbers

    @precondition(lambda self: self.running)
    @rule(data=st.data())
    def extend(self, data: Any) -> None:
        delivery = data.draw(st.sampled_from(list(self.running)))
        assert self.line.extend(delivery, self.now)

    @precondition(lambda self: self.running)
    @rule(
        data=st.data(), what=st.sampled_from(("done", "returned", "failed", "partly"))
    )
    def settle(self, data: Any, what: str) -> None:
        delivery = data.draw(st.sampled_from(list(self.running)))
        numbers = self.running.pop(delivery)
        if what == "done":
            self.line.done(delivery, self.now)
            self.finished += numbers
        elif what == "returned":
            self.line.returned(delivery, self.now)
            self.waiting += numbers
        else:
            bad = (
                data.draw(st.integers(0, len(numbers) - 1)) if what == "partly" else -1
            )
            results = [
                ValueError(str(n)) if at == bad or bad < 0 else None
                for at, n in enumerate(numbers)
            ]
            self.fail(delivery, numbers, results)
        assert not self.line.is_live(delivery)
        assert not self.line.extend(delivery, self.now), "E6: stale"

    def fail(
        self, delivery: HandlerRun, numbers: list[int], results: list[Any]
    ) -> None:
        outcomes = self.line.failed(delivery, results, self.now, lambda: 1.0)
        fates = {item.event.payload.number: fate for item, _, fate in outcomes}
        for at, number in enumerate(numbers):
            fate = fates.get(number)
            if results[at] is not None:
                assert fate is not None
                self.failures[number] = self.failures.get(number, 0) + 1
                expected = {"ignore": Fate.IGNORED, "dead-letter": Fate.DEAD}.get(
                    self.options.on_error
                )
                if expected is None:
                    left = self.failures[number] <= self.options.max_retries
                    expected = Fate.RETRIED if left else Fate.DEAD
                assert fate is expected
            if fate is Fate.RETRIED:
                delay = min(8.0, 2.0 ** (self.failures[number] - 1))
                self.not_before[number] = self.now + delay
                self.waiting += numbers[at:]
                return
            (self.dead if fate is Fate.DEAD else self.finished).append(number)

    @rule()
    def time_out(self) -> None:
        for delivery in self.line.overdue(self.now):
            assert self.options.ack_wait is not None
            numbers = self.running.pop(delivery)
            self.fail(delivery, numbers, [TimeoutError()] * len(numbers))

    @rule()
    def clear(self) -> None:
        gone = self.line.clear()
        assert gone == len(self.waiting)
        self.waiting.clear()
        self.added += 0

    @invariant()
    def books_balance(self) -> None:
        if not hasattr(self, "line"):
            return
        line = self.line
        assert line.buffered == len(self.waiting)
        assert line.in_flight == sum(map(len, self.running.values()))
        assert line.processed == len(self.finished)
        assert line.dead == len(self.dead)
        left = sorted([*self.waiting, *(n for ns in self.running.values() for n in ns)])
        assert sorted(line.outstanding()) == [(n, 0) for n in left]
        if self.waiting and not self.running:
            is_seen_to = line.is_due(self.now) or line.next_at() is not None
            assert is_seen_to, "nothing is forgotten"
            if self.hurries:
                heads = {self.queue(n): n for n in sorted(self.waiting, reverse=True)}
                may_run = [
                    self.not_before.get(n, 0) <= self.now for n in heads.values()
                ]
                assert line.is_due(self.now) == any(may_run), "E11: no batch waits"
        line.is_due(self.now)
        ends = [d.deadline for d in self.running if d.deadline is not None]
        assert line.next_deadline() == min(ends, default=None)
        late = {d for d in self.running if (d.deadline or self.now + 1) <= self.now}
        assert set(line.overdue(self.now)) == late


DeliveryQueueMachine.TestCase.settings = settings(
    max_examples=80, stateful_step_count=40, deadline=None
)
TestDeliveryQueue = DeliveryQueueMachine.TestCase


def test_options_that_mean_nothing_are_refused() -> None:
    """Fault 61: every combination of options is defined, or refused."""
    for options in (
        {"on_error": "retry"},
        {"ack_wait": 1.0},
        {"batch": Batch(3), "ordered": False},
        {"partition": len, "ordered": False},
        {"delivery": "at-least-once", "ack_wait": 0.0},
        {"max_retries": -1},
        {"delivery": "twice"},
        {"on_error": "panic"},
    ):
        with pytest.raises(ValueError, match=r"."):
            HandlerOptions(**options)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="Batch"):
        Batch(0)
    with pytest.raises(ValueError, match="Backoff"):
        Backoff(2, 1)
