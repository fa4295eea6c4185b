"""`swarm.timeline()`: the turns and waits of each agent while it was open."""

from collections import deque
from collections.abc import Mapping, Sequence
from itertools import islice
from types import TracebackType
from typing import Any, Final, Self

from swarm.agents import Envelope
from swarm.errors import Closed
from swarm.model import MICRO, Displayable, Path, as_seconds
from swarm.observability._graph_svg import svg_of, svg_text
from swarm.observability._masking import clipped, shown_text
from swarm.observability._panels import (
    COLOURS,
    Lines,
    Panel,
    Part,
    Picture,
    Table,
    to_html,
)
from swarm.observability._recorder import RECORDED, CallRecord, recorder_of
from swarm.observability._source import source_of
from swarm.ports import Timer
from swarm.system import Surface

_REGISTRY: Final = Path.of("global", "registry")
_LOOKED_AT: Final = 1_000
"""The most waiting turns and tasks that one sample looks at."""

_AGENTS: Final = 50
"""The most agents that are drawn: those with the most work."""


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
        if source.is_closed:
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
        return "\n".join([_title(seen), *_bars(seen)])

    def mermaid(self) -> str:
        """Return a Mermaid Gantt chart."""
        return _mermaid(self.data())

    def svg(self) -> str:
        """Return a picture as SVG; at most 50 agents are drawn."""
        return _svg(self.data())[0]

    def html(self) -> str:
        """Return the picture, and a table of sums, as HTML."""
        return to_html(self._panel())

    def _panel(self) -> Panel:
        seen = self.data()
        if not seen["agents"]:
            return Panel(_title(seen), "", [Lines(["no agent has done anything"])])
        svg, width, height = _svg(seen)
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
            Picture(svg, width, height, _bars(seen)),
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


# --- drawn as text, Mermaid and SVG ---------------------------------------------------

_BAR: Final = 60
_INTERVALS: Final = 200
"""The most intervals of one agent that are drawn."""

_NAME: Final = 130
_WIDTH: Final = 640
_ROW: Final = 22
_TOP: Final = 30
_FILL: Final = {"busy": COLOURS["blue"], "waiting": "#f0b429"}


def _bars(seen: Mapping[str, Any]) -> list[str]:
    """Return a line of text for each agent, with a bar."""
    agents = seen["agents"][:_AGENTS]
    width = min(20, max((len(each["name"]) for each in agents), default=0))
    lines = []
    for each in agents:
        name = each["name"][:width].ljust(width)
        sums = f"busy {each['busy']:.3g} s, waiting {each['waiting']:.3g} s"
        lines.append(f"{name}  {_bar(seen, each['intervals'])}  {sums}")
    if len(seen["agents"]) > len(agents):
        lines.append(f"… {len(seen['agents']) - len(agents)} more")
    return lines


def _bar(seen: Mapping[str, Any], intervals: Sequence[Mapping[str, Any]]) -> str:
    total = max(seen["to"] - seen["from"], 1e-9)
    cells = ["·"] * _BAR
    for state, mark in (("busy", "█"), ("waiting", "░")):
        for each in intervals:
            if each["state"] == state:
                first = int((each["from"] - seen["from"]) / total * _BAR)
                last = int((each["to"] - seen["from"]) / total * _BAR)
                for cell in range(max(0, first), min(_BAR, max(last, first + 1))):
                    cells[cell] = mark
    return "".join(cells)


_CODES: Final = {ord(c): " " for c in "#;:,\n"}


def _mermaid(seen: Mapping[str, Any]) -> str:
    """Return a Mermaid Gantt chart, in milliseconds; waits are marked "active"."""
    lines = ["gantt", "    dateFormat x", "    axisFormat %S.%L s"]
    for each in seen["agents"][:_AGENTS]:
        lines.append(f"    section {each['name'].translate(_CODES)}")
        for interval in each["intervals"][:_INTERVALS]:
            begin = round((interval["from"] - seen["from"]) * 1000)
            end = max(begin + 1, round((interval["to"] - seen["from"]) * 1000))
            mark = "active, " if interval["state"] == "waiting" else ""
            what = interval["what"].translate(_CODES)
            lines.append(f"    {what} :{mark}{begin}, {end}")
    return "\n".join(lines)


def _svg(seen: Mapping[str, Any]) -> tuple[str, int, int]:
    """Return a timeline as SVG, with its width and height."""
    agents = seen["agents"][:_AGENTS]
    total = max(seen["to"] - seen["from"], 1e-9)
    width, height = _NAME + _WIDTH + 10, _TOP + _ROW * len(agents) + 24
    drawn = [_legend()]
    for number, each in enumerate(agents):
        y = _TOP + number * _ROW
        name = clipped(each["name"], 20)
        drawn.append(svg_text(_NAME - 8, y + 13, name, anchor="end"))
        ground = f"<rect x='{_NAME}' y='{y}' width='{_WIDTH}' height='{_ROW - 6}'"
        drawn.append(f"{ground} fill='#eaeef2'/>")
        for state in ("busy", "waiting"):
            drawn += [
                _rect(interval, seen["from"], total, y)
                for interval in each["intervals"][-_INTERVALS:]
                if interval["state"] == state
            ]
    axis = _TOP + _ROW * len(agents) + 14
    drawn.append(svg_text(_NAME, axis, "0 s"))
    drawn.append(svg_text(_NAME + _WIDTH, axis, f"{total:.3g} s", anchor="end"))
    return svg_of(drawn, width, height), width, height


def _rect(interval: Mapping[str, Any], begun: float, total: float, y: int) -> str:
    x = _NAME + (interval["from"] - begun) / total * _WIDTH
    width = max(1.0, (interval["to"] - interval["from"]) / total * _WIDTH)
    fill = _FILL[interval["state"]]
    return (
        f"<rect x='{x:.1f}' y='{y}' width='{width:.1f}' height='{_ROW - 6}' "
        f"fill='{fill}'/>"
    )


def _legend() -> str:
    pieces = []
    for number, (word, fill) in enumerate({**_FILL, "idle": "#eaeef2"}.items()):
        x = _NAME + number * 80
        pieces.append(f"<rect x='{x}' y='8' width='12' height='12' fill='{fill}'/>")
        pieces.append(svg_text(x + 17, 18, word))
    return "".join(pieces)
