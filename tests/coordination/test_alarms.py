"""Alarms: one timer for many, in order, taken out and set anew (L11, L22)."""

from swarm.coordination._alarms import Alarms
from tests.support.clock import FakeClock


class Bell:
    def __init__(self, log: list[str], name: str, then=None) -> None:
        self.log, self.name, self.then = log, name, then
        self._slot = None

    def _ring(self) -> None:
        self.log.append(self.name)
        if self.then is not None:
            self.then()


def test_alarms_ring_in_the_order_of_their_times():
    """L11: of equal and of different delays; what was taken out does not ring."""
    clock, log = FakeClock(), []
    alarms = Alarms(clock)
    late, early, gone = (Bell(log, name) for name in ("late", "early", "gone"))
    alarms.set(late, 5)
    alarms.set(early, 1)
    alarms.set(gone, 1)
    alarms.discard(gone)
    alarms.discard(gone)
    assert len(alarms) == 2
    clock.advance(2)
    assert log == ["early"]
    clock.advance(4)
    assert log == ["early", "late"]
    assert len(alarms) == clock.pending == 0


def test_setting_an_alarm_again_moves_it():
    """L22: a renewal that was made in time is not due at the old time."""
    clock, log = FakeClock(), []
    alarms = Alarms(clock)
    bell = Bell(log, "bell")
    alarms.set(bell, 2)
    clock.advance(1)
    alarms.set(bell, 2)
    clock.advance(1.5)
    assert not log
    clock.advance(1)
    assert log == ["bell"]


def test_an_alarm_may_take_out_another_that_is_due_as_well():
    """G5: whoever rings first decides."""
    clock, log = FakeClock(), []
    alarms = Alarms(clock)
    second = Bell(log, "second")
    first = Bell(log, "first", lambda: alarms.discard(second))
    alarms.set(first, 1)
    alarms.set(second, 1)
    clock.advance(2)
    assert log == ["first"]


def test_any_number_of_different_delays():
    """No number of distinct time-outs makes it slow or wrong."""
    clock, log = FakeClock(), []
    alarms = Alarms(clock)
    bells = [Bell(log, str(number)) for number in range(200)]
    for number, bell in enumerate(bells):
        alarms.set(bell, 1 + number / 100)
    for bell in bells[::2]:
        alarms.discard(bell)
    clock.advance(10)
    assert log == [str(number) for number in range(1, 200, 2)]
    for number, bell in enumerate(bells):  # the lines are free again
        alarms.set(bell, 5 + number / 100)
    assert len(alarms) == 64
    clock.advance(10)
    assert len(log) == 300
    alarms.set(bells[0], 1)
    alarms.close()
    assert len(alarms) == 0
