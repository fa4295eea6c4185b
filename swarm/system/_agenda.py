"""The agenda: what a coordinator does at which time."""

import heapq
from collections.abc import Callable
from itertools import count

from swarm.ports import Clock, Timer


class Appointment:
    """A job of the agenda; `cancel` takes it back."""

    __slots__ = ("job", "when")

    def __init__(self, when: float, job: Callable[[], object] | None) -> None:
        """Do `job` at `when`."""
        self.when: float = when
        self.job: Callable[[], object] | None = job

    def cancel(self) -> None:
        """Do the job no more; harmless when it is done."""
        self.job = None


class Agenda:
    """Jobs in the order in which they come due; one timer serves them all."""

    def __init__(self, clock: Clock, wake: Callable[[], object]) -> None:
        """Begin empty; `wake` is called when a job has come due."""
        self._clock = clock
        self._wake = wake
        self._jobs: list[tuple[float, int, Appointment]] = []
        self._numbers = count()
        self._timer: Timer | None = None

    def add(self, when: float, job: Callable[[], object]) -> Appointment:
        """Have a job done once the clock's monotonic time reaches `when`."""
        made = Appointment(when, job)
        heapq.heappush(self._jobs, (when, next(self._numbers), made))
        if self._jobs[0][2] is made:
            self._set_timer()
        return made

    def do_due(self) -> None:
        """Do every job that is due, in order."""
        now = self._clock.monotonic()
        while self._jobs and self._jobs[0][0] <= now:
            appointment = heapq.heappop(self._jobs)[2]
            if appointment.job is not None:
                appointment.job()
        self._set_timer()

    def next_due(self) -> float | None:
        """Return the monotonic time at which the next job is due, if there is one."""
        while self._jobs and self._jobs[0][2].job is None:
            heapq.heappop(self._jobs)
        return self._jobs[0][0] if self._jobs else None

    def close(self) -> None:
        """Do nothing more."""
        self._jobs.clear()
        self._set_timer()

    def _set_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        when = self.next_due()
        if when is not None:
            self._timer = self._clock.call_at(when, self._wake)
