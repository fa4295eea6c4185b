"""How a lease is asked for: awaited, or entered with a body under it."""

from abc import abstractmethod
from collections.abc import Generator
from types import TracebackType
from typing import Any

import attrs

from swarm.coordination._desk import Desk
from swarm.coordination._grants import Want
from swarm.coordination._lease import Lease
from swarm.coordination._waiting import Core
from swarm.ports import current_task


def desk_for(core: Core) -> type[Desk]:
    """Return what a desk is here: a simulated loop has one whose leases go wrong."""
    kind: type[Desk] = getattr(core.loop, "desk_type", Desk)
    return kind


class Enterable:
    """Something of which `async with` takes the usual, in any number of tasks."""

    __slots__ = ("_desk", "_entered", "_usual")

    def __init__(self, desk: Desk) -> None:
        """Take it at this desk."""
        self._desk = desk
        self._entered: list[Lease] = []
        self._usual: Want | None = None

    @abstractmethod
    def usual(self) -> Want:
        """Return what `async with` takes."""

    async def __aenter__(self) -> Lease:
        desk, want = self._desk, self._usual
        if want is None:
            want = self._usual = self.usual()
            want.is_entering = want.renew
        if desk.core.pauses:
            await desk.core.pause()
        asked = desk.ask(want)  # `acquire`, without a coroutine of its own
        lease = asked if isinstance(asked, Lease) else await desk.granted(asked)
        lease.enter(lease.session)
        self._entered.append(lease)
        return lease

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        entered = self._entered
        lease = entered[-1]
        if len(entered) > 1:
            task = current_task()
            mine = (each for each in reversed(entered) if each.body is task)
            lease = next(mine, lease)
        entered.remove(lease)
        lease.leave(error)


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
