"""`swarm.timeline()`: the turns and waits of each agent while it was open."""

from collections import deque
from collections.abc import Mapping
from itertools import islice
from types import TracebackType
from typing import Any, Final, Self

from swarm.agents import Envelope
from swarm.errors import Closed
from swarm.model import Displayable, Path, as_seconds
from swarm.observability._masking import shown_text
from swarm.observability._panels import Lines, Panel, Part, Picture, Table, to_html
from swarm.observability._recorder import RECORDED, CallRecord, recorder_of
from swarm.observability._source import MICRO, source_of
from swarm.observability._timeline_svg import (
    timeline_bars,
    timeline_mermaid,
    timeline_svg,
)
from swarm.ports import Timer
from swarm.system import Surface

_REGISTRY: Final = Path.of("global", "registry")
_LOOKED_AT: Final = 1_000
"""How many waiting turns and tasks are looked at, each time."""

_AGENTS: Final = 50
"""How many agents are drawn, those with the most work."""


class Timeline(Displayable):
    """The turns and waits of the agents of a swarm while this was open.

    Busy: from the beginning to the end of a turn. Waiting: within a turn, from an ask
    to its answer; and the waits for locks, semaphores and barriers, which are looked
    for every `sample` seconds. Idle: the rest. Exact are turns and asks, recorded by an
    interceptor that is in place only while a timeline is open; the newest 20,000 are
    kept.

    Not there: turns that had begun before, hooks, `run()` and tasks that an agent
    started beside its turns, time spent in the mailbox, and work of other processes.

    `with swarm.timeline() as timeline:` stops at the end of the block. While it is open
    it sets a timer again and again, so a simulation with one is never found stuck.
    """

    def __init__(self, swarm: Surface, *, sample: float = 0.1) -> None:
        """Begin to record.

        Raises:
            Closed: The swarm is not open.
            ValueError: The sample is not above 0.
        """
        if not as_seconds("sample", sample) > 0:
            raise ValueError(f"sample is more than 0 seconds, not {sample}")
        source = source_of(swarm)
        if source is None or source.is_closed:
            raise Closed("a timeline is of an open swarm")
        self._source = source
        self._clock = source.clock
        self._sample = sample
        self._recorder = recorder_of(source.coordinator)
        self._samples: deque[CallRecord] = deque(maxlen=RECORDED)
        self._waiting: dict[tuple[str, str], CallRecord] = {}
        self._begun = self._clock.wall()
        self._ended = 0
        self._recorder.start()
        self._timer: Timer | None = None
        self._look()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    def __repr__(self) -> str:
        state = "stopped" if self._ended else "recording"
        return f"<Timeline {state}, {len(self.data()['agents'])} agents>"

    def stop(self) -> None:
        """Record no more; idempotent. The records stay."""
        if self._ended:
            return
        self._ended = self._clock.wall()
        if self._timer is not None:
            self._timer.cancel()
        self._recorder.stop()
        for wait in self._waiting.values():
            wait.ended = self._ended
        self._waiting.clear()

    # --- sampling ---------------------------------------------------------------------

    def _look(self) -> None:
        """Note which turns wait for locks, semaphores and barriers now."""
        coordinator = self._source.coordinator
        if coordinator.closed_error() is not None:
            self.stop()
        if self._ended:
            return
        now, graph = self._clock.wall(), coordinator.graph
        seen: dict[tuple[str, str], None] = {}
        for party in islice(graph.parties(), _LOOKED_AT):
            if isinstance(party, Envelope):
                for obstacle in graph.waits(party):
                    if not isinstance(obstacle, Envelope):
                        what = obstacle.describe_wait().partition(", asked")[0]
                        seen[party.cell.name, shown_text(what, 80)] = None
        for key in seen:
            if key not in self._waiting:
                wait = CallRecord("ask", key[1], "", key[0], now)
                self._samples.append(wait)
                self._waiting[key] = wait
        for key in [key for key in self._waiting if key not in seen]:
            self._waiting.pop(key).ended = now
        when = self._clock.monotonic() + self._sample
        self._timer = self._clock.call_at(when, self._look)

    # --- reading ----------------------------------------------------------------------

    def data(self) -> dict[str, Any]:
        """Return the turns and waits as plain JSON records.

        Returns:
            `{"from", "to", "agents": [{"name", "busy", "waiting", "idle", "turns",
            "failed", "intervals"}]}`: seconds since 1970, seconds in each state, and
            counts. intervals: `{"state", "from", "to", "what"}` in order; state: "busy"
            or "waiting"; what: the method, or the thing waited for.
        """
        end = self._ended or self._clock.wall()
        agents: dict[str, list[dict[str, Any]]] = {}
        failed: dict[str, int] = {}
        for call in self._recorder.calls:
            if call.begun < self._begun or call.begun > end:
                continue
            if call.kind == "turn":
                agents.setdefault(call.agent, []).append(
                    _interval("busy", call, call.method, end)
                )
                failed[call.agent] = failed.get(call.agent, 0) + bool(call.error)
            elif call.kind == "ask" and call.caller:
                what = f"'{call.agent}' ({call.method})"
                agents.setdefault(call.caller, []).append(
                    _interval("waiting", call, what, end)
                )
        for wait in self._samples:
            agents.setdefault(wait.caller, []).append(
                _interval("waiting", wait, wait.agent, end)
            )
        total = (end - self._begun) / MICRO
        shown = [
            _agent(name, intervals, total, failed.get(name, 0))
            for name, intervals in agents.items()
            if self._source.sees(_REGISTRY.child(name))
        ]
        shown.sort(key=lambda each: -each["busy"])
        return {
            "from": self._begun / MICRO,
            "to": end / MICRO,
            "agents": shown,
        }

    def text(self) -> str:
        """Return a bar for each agent: "█" busy, "░" waiting, "·" idle."""
        seen = self.data()
        return "\n".join([_title(seen), *timeline_bars(seen)])

    def mermaid(self) -> str:
        """Return a Mermaid Gantt chart."""
        return timeline_mermaid(self.data())

    def svg(self) -> str:
        """Return a picture as SVG; at most 50 agents are drawn."""
        return timeline_svg(self.data())[0]

    def html(self) -> str:
        """Return the picture, and a table of sums, as HTML."""
        return to_html(self._panel())

    def _panel(self) -> Panel:
        seen = self.data()
        if not seen["agents"]:
            return Panel(_title(seen), "", [Lines(["no agent has done anything"])])
        svg, width, height = timeline_svg(seen)
        rows = [
            (
                each["name"],
                f"{each['busy']:.3g} s",
                f"{each['waiting']:.3g} s",
                f"{each['idle']:.3g} s",
                each["turns"],
                each["failed"],
            )
            for each in seen["agents"][:_AGENTS]
        ]
        headers = ("agent", "busy", "waiting", "idle", "turns", "failed")
        parts: list[Part] = [
            Picture(svg, width, height, timeline_bars(seen)),
            Table(headers, rows, len(seen["agents"]) - len(rows)),
        ]
        return Panel(_title(seen), "", parts)


def _title(seen: Mapping[str, Any]) -> str:
    return f"timeline of {seen['to'] - seen['from']:.3g} s"


def _interval(state: str, call: CallRecord, what: str, end: int) -> dict[str, Any]:
    ended = min(call.ended or end, end)
    return {
        "state": state,
        "from": call.begun / MICRO,
        "to": ended / MICRO,
        "what": what,
    }


def _agent(
    name: str, intervals: list[dict[str, Any]], total: float, failed: int
) -> dict[str, Any]:
    intervals.sort(key=lambda each: each["from"])
    waiting = covered([each for each in intervals if each["state"] == "waiting"])
    active = covered(intervals)
    return {
        "name": name,
        "busy": max(0.0, active - waiting),
        "waiting": waiting,
        "idle": max(0.0, total - active),
        "turns": sum(each["state"] == "busy" for each in intervals),
        "failed": failed,
        "intervals": intervals,
    }


def covered(intervals: list[dict[str, Any]]) -> float:
    """Return how many seconds intervals cover, those that overlap counted once."""
    total, end = 0.0, float("-inf")
    for each in intervals:
        begin = max(each["from"], end)
        if each["to"] > begin:
            total += each["to"] - begin
            end = each["to"]
    return total
