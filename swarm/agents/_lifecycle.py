"""Statuses of an agent, and the decisions that follow a failure."""

import enum
import inspect
from collections.abc import Iterable, Sequence
from typing import Final, Literal, TypeAlias, TypeVar, cast, get_args

import attrs

from swarm.errors import InvalidTransition
from swarm.model import Backoff, check_choice, shown


class Status(enum.StrEnum):
    """The status of an agent."""

    INITIALIZING = "initializing"
    IDLE = "idle"
    BUSY = "busy"
    PAUSED = "paused"
    DRAINING = "draining"
    OFFLINE = "offline"
    ERROR = "error"


class Step(enum.StrEnum):
    """An event in the life of an agent."""

    READY = "be ready"
    PAUSE = "pause"
    RESUME = "resume"
    DRAIN = "stop"
    FAIL = "fail"
    RESTART = "restart"
    END = "end"


_TABLE: Final[dict[Step, dict[Status, Status]]] = {
    Step.READY: {Status.INITIALIZING: Status.IDLE},
    Step.PAUSE: {Status.IDLE: Status.PAUSED, Status.PAUSED: Status.PAUSED},
    Step.RESUME: {Status.PAUSED: Status.IDLE, Status.IDLE: Status.IDLE},
    Step.DRAIN: {
        Status.IDLE: Status.DRAINING,
        Status.PAUSED: Status.DRAINING,
        Status.DRAINING: Status.DRAINING,
    },
    Step.FAIL: {
        Status.INITIALIZING: Status.ERROR,
        Status.IDLE: Status.ERROR,
        Status.PAUSED: Status.ERROR,
        Status.DRAINING: Status.ERROR,  # a permanent one that stopped itself
    },
    Step.RESTART: {Status.ERROR: Status.INITIALIZING},
    Step.END: dict.fromkeys(Status, Status.OFFLINE),
}


_HEALTH: Final = {
    Status.INITIALIZING: "starting",
    Status.PAUSED: "paused",
    Status.DRAINING: "stopping",
    Status.ERROR: "failed",
}


def health_of(status: Status) -> str:
    """Return the health that a status stands for, as one word."""
    return _HEALTH.get(status, "healthy")


def follow(status: Status, step: Step, name: str) -> Status:
    """Return the status after `step`; idle stands for idle and busy alike.

    Raises:
        InvalidTransition: An agent in this status cannot take this step.
    """
    after = _TABLE[step].get(status)
    if after is None:
        raise InvalidTransition(f"agent '{name}' is {status}; it cannot {step}")
    return after


Kind: TypeAlias = Literal["permanent", "transient", "temporary"]
InHand: TypeAlias = Literal["fail", "redeliver"]
Strategy: TypeAlias = Literal["one_for_one", "one_for_all", "rest_for_one"]

M = TypeVar("M")


def _error_classes(on: Iterable[type[Exception]]) -> tuple[type[Exception], ...]:
    if isinstance(on, type):
        name = on.__name__
        raise TypeError(f"Restart.on takes a tuple of exception classes: ({name},)")
    classes = tuple(on)
    for error in cast("tuple[object, ...]", classes):
        if not (inspect.isclass(error) and issubclass(error, Exception)):
            raise TypeError(f"Restart.on takes exception classes, not {shown(error)}")
    return classes


@attrs.frozen
class Restart:
    """When and how a failed agent is built anew.

    Attributes:
        kind: "permanent" restarts an agent however it ended by itself, "transient"
            only when it failed, "temporary" never.
        max: How many restarts `within` the window; one more escalates.
        within: Length of the window in seconds.
        backoff: The pause before each restart.
        on: The errors worth a restart; any other escalates at once.
        in_hand: What becomes of the message being handled: "fail" it, or "redeliver"
            it to the new agent. A stream in hand always fails.
    """

    kind: Kind = "permanent"
    max: int = attrs.field(default=3, kw_only=True)
    within: float = attrs.field(default=60.0, kw_only=True)
    backoff: Backoff = attrs.field(factory=Backoff, kw_only=True)
    on: tuple[type[Exception], ...] = attrs.field(
        default=(Exception,), kw_only=True, converter=_error_classes
    )
    in_hand: InHand = attrs.field(default="fail", kw_only=True)

    def __attrs_post_init__(self) -> None:
        """Refuse what cannot be meant."""
        check_choice("Restart.kind", self.kind, get_args(Kind))
        check_choice("Restart.in_hand", self.in_hand, get_args(InHand))
        check_intensity("Restart", self.max, self.within)


class RestartDecision(enum.Enum):
    """The decision of a supervisor about an end."""

    RESTART = "restart"
    STOP = "stop"
    ESCALATE = "escalate"


def decide(restart: Restart | None, error: BaseException | None) -> RestartDecision:
    """Return what to do about an agent that failed, or ended by itself (no error)."""
    if error is None:
        permanent = restart is not None and restart.kind == "permanent"
        return RestartDecision.RESTART if permanent else RestartDecision.STOP
    if restart is None:
        return RestartDecision.ESCALATE
    if restart.kind == "temporary":
        return RestartDecision.STOP
    return (
        RestartDecision.RESTART
        if isinstance(error, restart.on)
        else RestartDecision.ESCALATE
    )


Times: TypeAlias = tuple[float, ...]
"""When the restarts of the current window happened, oldest first."""

NO_TIMES: Final[Times] = ()


def admit(times: Times, now: float, most: int, within: float) -> tuple[bool, Times]:
    """Return whether one more restart is within the limit, and the new window."""
    recent = tuple(time for time in times if now - time < within)
    if len(recent) >= most:
        return False, recent
    return True, (*recent, now)


def affected(strategy: Strategy, members: Sequence[M], failed: M) -> list[M]:
    """Return the members to restart when `failed` fails, in the order of starting."""
    if strategy == "one_for_all":
        return list(members)
    if strategy == "rest_for_one":
        return list(members[members.index(failed) :])
    return [failed]


def check_intensity(name: str, most: int, within: float) -> None:
    """Refuse a limit that means nothing."""
    if most < 0 or not within > 0:
        raise ValueError(f"{name} needs max >= 0 and within > 0, not {most}, {within}")
