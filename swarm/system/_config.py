"""Settings of a swarm, with their meanings and defaults."""

from typing import TYPE_CHECKING, Final

import attrs

from swarm.bus import BusOptions
from swarm.model import as_seconds, check_whole, shown
from swarm.ports import Limits

if TYPE_CHECKING:  # a hello world does not load it
    from swarm.work import TaskOptions


_ABOVE_0: Final = ("lock_ttl", "process_ttl")
_OR_0: Final = ("drain_timeout", "lock_aging", "lock_delay")
_OR_NONE: Final = ("ask_timeout", "slow_turn", "snapshot_every")


@attrs.frozen(kw_only=True)
class SwarmConfig:
    """Settings of a swarm.

    Attributes:
        ask_timeout: Seconds that `ask` waits for an answer, `tell` for room in the
            mailbox and a stream for its next item, unless `Ref.within` says
            otherwise; None: for ever.
        drain_timeout: Seconds that a clean end waits. Agents finish their queues and
            run `stopping`; handlers finish the events that are due, retries included.
            Everything that is left then is cancelled.
        stream_window: How many items a streaming agent may be ahead of its reader.
        lock_ttl: Seconds that the lease of a lock or semaphore lives, unless `ttl=`
            says otherwise. A lease with a body is renewed until the body ends.
        lock_aging: Seconds of waiting for a lock that count as much as one step of
            priority.
        lock_delay: Seconds that a lock stays closed after its lease expired or was
            taken away: time for the old holder to notice, where the protected thing
            cannot check fencing tokens.
        process_ttl: Seconds after which a process that shares the tree with others, and
            is not heard of, is taken for dead. It is heard of three times as often.
        slow_turn: Seconds that one step of a turn may hold the event loop: a longer one
            is logged as a warning with the agent and the method. None: not watched,
            which spares each step two looks at the clock.
        snapshot_every: Seconds between two snapshots taken by the coordinator; None:
            only `swarm.snapshots.create` takes any.
        snapshot_keep: How many of those snapshots are kept.
        limits: How much the state may hold.
        events: How much the event bus keeps.
        tasks: How tasks are kept, and what their health is judged by; None: the
            defaults of `TaskOptions`.
    """

    ask_timeout: float | None = 60.0
    drain_timeout: float = 10.0
    stream_window: int = 16
    lock_ttl: float = 30.0
    lock_aging: float = 10.0
    lock_delay: float = 0.0
    process_ttl: float = 10.0
    slow_turn: float | None = None
    snapshot_every: float | None = None
    snapshot_keep: int = 5
    limits: Limits = attrs.field(factory=Limits)
    events: BusOptions = attrs.field(factory=BusOptions)
    tasks: "TaskOptions | None" = None

    def __attrs_post_init__(self) -> None:
        """Refuse values that make no sense."""
        for name, kind in (("limits", Limits), ("events", BusOptions)):
            if not isinstance(getattr(self, name), kind):
                raise _wrong(name, kind.__name__, getattr(self, name))
        if self.tasks is not None:
            from swarm.work import TaskOptions

            if not isinstance(self.tasks, TaskOptions):
                raise _wrong("tasks", "TaskOptions", self.tasks)
        for name in (*_ABOVE_0, *_OR_0, *_OR_NONE):
            what, value = f"SwarmConfig.{name}", getattr(self, name)
            if value is None and name in _OR_NONE:
                continue
            seconds = as_seconds(what, value)
            is_finite = name == "ask_timeout" or seconds < float("inf")
            is_long = seconds >= 0 if name in _OR_0 else seconds > 0
            if not (is_finite and is_long):
                finite = "" if name == "ask_timeout" else "finite, "
                least = "0 or more" if name in _OR_0 else "above 0"
                also = ", or None" if name in _OR_NONE else ""
                raise ValueError(f"{what} must be {finite}{least}{also}, not {value!r}")
        for name in ("stream_window", "snapshot_keep"):
            check_whole(f"SwarmConfig.{name}", getattr(self, name), 1)


def _wrong(name: str, kind: str, given: object) -> TypeError:
    return TypeError(f"SwarmConfig.{name} takes {kind}(...), not {shown(given)}")
