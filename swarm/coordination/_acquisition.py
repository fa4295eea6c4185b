"""How a lease is asked for: awaited, or entered with a body under it."""

import sys
import types
from abc import abstractmethod
from collections.abc import Generator
from types import TracebackType
from typing import Any

import attrs

from swarm.coordination._desk import Desk
from swarm.coordination._grants import Want
from swarm.coordination._lease import Lease
from swarm.coordination._waiting import Core
from swarm.ports import current_runtime, current_task


def desk_for(core: Core) -> type[Desk]:
    """Return what a desk is here: a simulation has one whose leases go wrong."""
    return current_runtime(core.loop).substitute(Desk)


class Enterable:
    """Something of which `async with` takes the usual, in any number of tasks."""

    __slots__ = ("_desk", "_entered", "_usual")

    def __init__(self, desk: Desk) -> None:
        """Take it at this desk."""
        self._desk = desk
        self._entered: list[tuple[Lease, int]] = []
        self._usual: Want | None = None

    @abstractmethod
    def usual(self) -> Want:
        """Return what `async with` takes."""

    async def __aenter__(self) -> Lease:
        entry = id(sys._getframe(1))  # noqa: SLF001  # documented
        desk, want = self._desk, self._usual
        if want is None:
            want = self._usual = self.usual()
            want.is_entering = want.renew
        if desk.core.pauses:
            await desk.core.pause()
        asked = desk.ask(want)  # `acquire`, without a coroutine of its own
        lease = asked if isinstance(asked, Lease) else await desk.granted(asked)
        lease.enter(lease.session)
        self._entered.append((lease, entry))
        return lease

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        entered = self._entered
        at = len(entered) - 1
        if at:
            at = self._left_from(sys._getframe(1))  # noqa: SLF001  # documented
        entered.pop(at)[0].leave(error)

    def _left_from(self, frame: types.FrameType) -> int:
        """Return which of several bodies is left, by the block that it stands in.

        A block is left in the frame that has entered it. That may well be in another
        task, as when an abandoned async generator is closed. Exit stacks enter and
        leave in frames of their own: of those bodies it is the last of this task, or
        else one whose lease was lost, or else the last.
        """
        entered = self._entered
        places = range(len(entered) - 1, -1, -1)
        for at in places:
            if entered[at][1] == id(frame):
                return at
        task = current_task()
        for at in places:
            if entered[at][0].body is task:
                return at
        return next((at for at in places if not entered[at][0].is_live), places[0])


class Acquisition(Enterable):
    """A request: `await` it for a lease, or run a body under it with `async with`.

    Used again, by the same task or by others, it is a request of its own each time.
    """

    __slots__ = ("_want",)

    def __init__(self, desk: Desk, want: Want) -> None:
        """Ask for this each time it is awaited or entered."""
        super().__init__(desk)
        self._want = want

    def usual(self) -> Want:
        """Return what `async with` takes."""
        return attrs.evolve(self._want)

    def __await__(self) -> Generator[Any, None, Lease]:
        return self._desk.acquire(self._want).__await__()
