"""The runtime: what a simulation replaces around a swarm.

Production code asks the runtime of the running loop for three things: a scheduling
point to await in front of an operation, the class to use in place of one of its own,
and where chance and wall time come from. Nothing else looks at the loop's type.
"""

import asyncio
from asyncio.events import _get_running_loop
from collections.abc import Awaitable, Callable
from typing import Any, Final, TypeAlias, TypeVar

C = TypeVar("C", bound=type[Any])

Pause: TypeAlias = Callable[[], Awaitable[None]]
"""A scheduling point: awaited in front of an operation, it lets other tasks run."""

_ATTRIBUTE: Final = "swarm_runtime"


class Runtime:
    """The world around a swarm: production's by default, a simulation's if installed.

    Attributes:
        pause: A scheduling point, or None: no operation waits for others first.
        entropy_seed: The seed of a swarm that was given none, or None: the machine's.
        wall_time: Seconds since 1970, or None: the machine's clock.
    """

    def __init__(
        self,
        *,
        pause: Pause | None = None,
        entropy_seed: int | None = None,
        wall_time: Callable[[], float] | None = None,
    ) -> None:
        """Take what differs from production."""
        self.pause: Pause | None = pause
        self.entropy_seed: int | None = entropy_seed
        self.wall_time: Callable[[], float] | None = wall_time

    def substitute(self, cls: C) -> C:
        """Return the class to use in place of `cls`: in production `cls` itself."""
        return cls


PRODUCTION: Final = Runtime()


def current_runtime(loop: asyncio.AbstractEventLoop | None = None) -> Runtime:
    """Return the runtime of a loop, by default the running one, or production's."""
    if loop is None:
        loop = _get_running_loop()
    runtime: Runtime = getattr(loop, _ATTRIBUTE, PRODUCTION)
    return runtime


def install_runtime(loop: asyncio.AbstractEventLoop, runtime: Runtime) -> None:
    """Make `runtime` that of everything which is opened in `loop` from now on."""
    setattr(loop, _ATTRIBUTE, runtime)
