"""Recording asks, tells and turns of one swarm while a timeline is open.

The log says nothing of asks, so they are recorded by an interceptor that a timeline
puts in place, and takes away again. While no timeline is open, nothing is recorded and
a request costs what it always does.
"""

from collections import deque
from collections.abc import Iterator
from typing import Any, Final, Literal
from weakref import WeakKeyDictionary

import attrs

from swarm.model import Cause
from swarm.ports import (
    AgentCall,
    Interceptor,
    Proceed,
    current_activity,
    current_cause,
    current_task,
)
from swarm.system import Coordinator

RECORDED: Final = 20_000
"""The most asks, tells and turns that are kept: the newest."""

_SPANS: Final = 64
"""The most spans of recording that are kept: the newest."""


@attrs.define(eq=False)
class CallRecord:
    """One ask, tell or turn. Times are in microseconds since 1970.

    Attributes:
        kind: "ask" and "tell" on the side of the caller, "turn" in the agent.
        agent: The name of the agent that is called.
        method: The method, as "Researcher.research".
        caller: The agent whose turn asks; "" for the program, and of a turn.
        begun: When it began.
        ended: When it ended; 0: not yet.
        began_in: Its place in the order of all: the newest revision when it began, and
            a number that grows with each beginning and end.
        ended_in: The same of its end.
        error: The class of the exception that ended it, or "".
        cause: The cause it shares with commits and other calls, or None.
    """

    kind: Literal["ask", "tell", "turn"]
    agent: str
    method: str
    caller: str
    begun: int
    ended: int = 0
    began_in: tuple[int, int] = (0, 0)
    ended_in: tuple[int, int] = (0, 0)
    error: str = ""
    cause: Cause | None = None


class CallRecorder(Interceptor):
    """Records asks, tells and turns; the newest are kept.

    Attributes:
        calls: The records, in the order in which they began.
    """

    def __init__(self, coordinator: Coordinator) -> None:
        """Record the calls of one swarm, once it is started."""
        self.calls: deque[CallRecord] = deque(maxlen=RECORDED)
        self._coordinator = coordinator
        self._wall = coordinator.clock.wall
        self._users = 0
        self._count = 0
        self._spans: deque[tuple[int, int]] = deque(maxlen=_SPANS)
        self._started = 0

    def start(self) -> None:
        """Begin to record, unless that has begun."""
        self._users += 1
        if self._users > 1:
            return
        self._started = self._wall()
        self._coordinator.add_interceptor(self)

    def stop(self) -> None:
        """Record no more once as many have stopped as have started."""
        self._users -= 1
        if self._users == 0:
            self._coordinator.remove_interceptor(self)
            self._spans.append((self._started, self._wall()))

    def covers(self, begin: int, end: int) -> bool:
        """Return whether calls were recorded from one time to another."""
        now = (self._started, self._wall())
        spans = [*self._spans, now] if self._users else self._spans
        return any(begin >= since and end <= until for since, until in spans)

    # --- the interceptor --------------------------------------------------------------

    async def ask(self, call: AgentCall, proceed: Proceed[AgentCall]) -> Any:
        """Record an ask, on the side of its caller."""
        return await self._record("ask", call, proceed)

    async def tell(self, call: AgentCall, proceed: Proceed[AgentCall]) -> None:
        """Record a tell, until it is queued."""
        await self._record("tell", call, proceed)

    async def turn(self, call: AgentCall, proceed: Proceed[AgentCall]) -> Any:
        """Record a turn."""
        return await self._record("turn", call, proceed)

    async def _record(
        self,
        kind: Literal["ask", "tell", "turn"],
        call: AgentCall,
        proceed: Proceed[AgentCall],
    ) -> Any:
        caller = "" if kind == "turn" else _caller()
        record = CallRecord(
            kind, call.agent.agent_id, call.method, caller, self._wall()
        )
        record.cause = current_cause()
        record.began_in = self._place()
        self.calls.append(record)
        try:
            return await proceed(call)
        except BaseException as error:
            record.error = type(error).__name__
            raise
        finally:
            record.ended = self._wall()
            record.ended_in = self._place()

    def _place(self) -> tuple[int, int]:
        self._count += 1
        return self._coordinator.tail.revision, self._count

    def of_cause(self, correlation_ids: set[str]) -> Iterator[CallRecord]:
        """Yield the records that belong to one of these correlation ids."""
        for record in self.calls:
            cause = record.cause
            if cause is not None and cause.correlation_id in correlation_ids:
                yield record


def _caller() -> str:
    activity = current_activity.get()
    if activity is not None and activity.is_turn():
        name: str = activity.cell.name
        return name
    task = current_task()
    name = "" if task is None else task.get_name()
    return "" if not name.startswith("agent ") else name.split("'")[1]


_RECORDERS: Final[WeakKeyDictionary[Coordinator, CallRecorder]] = WeakKeyDictionary()


def recorder_of(coordinator: Coordinator) -> CallRecorder:
    """Return the one recorder of a swarm, made if there is none."""
    recorder = _RECORDERS.get(coordinator)
    if recorder is None:
        recorder = _RECORDERS[coordinator] = CallRecorder(coordinator)
    return recorder


def recorded(coordinator: Coordinator) -> CallRecorder | None:
    """Return the recorder of a swarm, if a timeline was ever open."""
    return _RECORDERS.get(coordinator)
