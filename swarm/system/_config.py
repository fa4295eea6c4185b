"""Configuration: what can be set, what it means, what it is by default."""

import attrs

from swarm.bus import BusOptions
from swarm.ports import Limits


@attrs.frozen(kw_only=True)
class SwarmConfig:
    """How a swarm behaves.

    Attributes:
        ask_timeout: Seconds that `ask` waits for an answer, `tell` for room in the
            mailbox and a stream for its next item, unless `Ref.within` says
            otherwise; None: for ever.
        drain_timeout: Seconds that a clean end waits for agents to finish what is
            queued and to run `stopping`; what is left then is cancelled.
        stream_window: How many items a streaming agent may be ahead of its reader.
        limits: How much the state may hold.
        events: How much the event bus keeps.
    """

    ask_timeout: float | None = 60.0
    drain_timeout: float = 10.0
    stream_window: int = 16
    limits: Limits = attrs.field(factory=Limits)
    events: BusOptions = attrs.field(factory=BusOptions)

    def __attrs_post_init__(self) -> None:
        """Refuse what cannot be meant."""
        if self.ask_timeout is not None and not self.ask_timeout > 0:
            raise ValueError("SwarmConfig.ask_timeout must be above 0, or None")
        if not 0 <= self.drain_timeout < float("inf"):
            raise ValueError("SwarmConfig.drain_timeout must be finite, 0 or more")
        if self.stream_window < 1:
            raise ValueError("SwarmConfig.stream_window must be 1 or more")
