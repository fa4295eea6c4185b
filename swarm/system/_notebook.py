"""Support of notebooks: cells that can be run again, and interrupted."""

import asyncio
import sys
from typing import Any, Final
from weakref import WeakSet

from swarm.errors import DeadlockError
from swarm.system._coordinator import Coordinator, Phase, log

_TICK: Final = 0.1
"""Seconds between two wake-ups of the loop; an interrupt lands that late at most."""

_OPENED: Final[WeakSet[Coordinator]] = WeakSet()


def note_opened(coordinator: Coordinator) -> None:
    """Remember a swarm that was opened, for `end_previous`; wake its loop in a kernel.

    ipykernel takes an interrupt of a cell that awaits something by a callback which
    does not wake the event loop. So the loop is woken now and then.
    """
    _OPENED.add(coordinator)
    if kernel_of_notebook() is not None:
        _tick(coordinator)


def _tick(coordinator: Coordinator) -> None:
    if coordinator.phase is not Phase.CLOSED:
        coordinator.loop.call_later(_TICK, _tick, coordinator)


def kernel_of_notebook() -> Any:
    """Return the ipykernel that this process is, or None; imports nothing."""
    ipython = sys.modules.get("IPython")
    get_shell = getattr(ipython, "get_ipython", None)
    return None if get_shell is None else getattr(get_shell(), "kernel", None)


async def end_previous(name: str) -> None:
    """End at once the swarms of this name in this event loop, and wait for that.

    Their failures are logged.

    Raises:
        DeadlockError: The caller belongs to one of them, so it would wait for itself.
    """
    loop = asyncio.get_running_loop()
    for coordinator in tuple(_OPENED):
        is_other = coordinator.name != name or coordinator.loop is not loop
        if is_other or coordinator.phase is Phase.CLOSED:
            continue
        if coordinator.is_caller_inside():
            raise DeadlockError(
                f"code of swarm '{name}' cannot replace it: that would wait for this "
                "code to end"
            )
        coordinator.ask_end(drain=False)
        cancelled = await coordinator.wait_ended()
        for failure in coordinator.take_failures():
            log.error("failure in the replaced swarm %s", name, exc_info=failure)
        if cancelled is not None:
            raise cancelled
