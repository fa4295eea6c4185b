"""How a lease is asked for: awaited, or entered with a body under it."""

from abc import abstractmethod
from collections.abc import Generator
from types import TracebackType
from typing import Any

from swarm.coordination._desk import Desk
from swarm.coordination._grants import Want
from swarm.coordination._lease import Lease
from swarm.coordination._sessions import current_task
from swarm.coordination._waiting import Core


def desk_for(core: Core) -> type[Desk]:
    """Return what a desk is here: a simulated loop has one whose leases go wrong."""
    kind: type[Desk] = getattr(core.loop, "desk_type", Desk)
    return kind


class Acquisition:
    """A request: `await` it for a lease, or run a body under it with `async with`."""

    __slots__ = ("_desk", "_lease", "_want")

    def __init__(self, desk: Desk, want: Want) -> None:
        """Ask for this once awaited or entered."""
        self._desk = desk
        self._want = want
        self._lease: Lease | None = None

    def __await__(self) -> Generator[Any, None, Lease]:
        return self._desk.acquire(self._want).__await__()

    async def __aenter__(self) -> Lease:
        want = self._want
        want.is_entering = want.renew
        lease = await self._desk.acquire(want)
        lease.enter(lease.session.task or current_task())
        self._lease = lease
        return lease

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        lease, self._lease = self._lease, None
        if lease is not None:
            lease.leave(error)


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
            want.is_entering = True
        if desk.core.pauses:
            await desk.core.pause()
        asked = desk.ask(want)  # `acquire`, without a coroutine of its own
        lease = asked if isinstance(asked, Lease) else await desk.granted(asked)
        lease.enter(lease.session.task or current_task())
        self._entered.append(lease)
        return lease

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        entered = self._entered
        if len(entered) == 1:
            lease = entered.pop()
        else:
            task = current_task()
            lease = next(each for each in reversed(entered) if each.body is task)
            entered.remove(lease)
        lease.leave(error)
