"""The transitions of an agent's status, as a table."""

import enum
from typing import Final

from swarm.errors import InvalidTransition


class Status(enum.StrEnum):
    """What an agent is doing."""

    INITIALIZING = "initializing"
    IDLE = "idle"
    BUSY = "busy"
    PAUSED = "paused"
    DRAINING = "draining"
    OFFLINE = "offline"
    ERROR = "error"


class Step(enum.StrEnum):
    """What can happen to an agent."""

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
