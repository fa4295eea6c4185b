"""Several locks at once: all of them, or none (semantics.md, L20)."""

from collections.abc import Sequence
from types import TracebackType
from typing import Any

import attrs

from swarm.coordination._desk import Desk
from swarm.coordination._grants import Want
from swarm.coordination._lease import Lease
from swarm.coordination._waiting import Waiter
from swarm.errors import LeaseLost
from swarm.ports import Condition


class Leases(tuple[Lease, ...]):
    """Several leases taken together. A `Guard` for writes: all must hold."""

    __slots__ = ()

    async def release(self) -> None:
        """Give all back, the last first.

        Raises:
            LeaseLost: One had gone before; the others were released.
        """
        lost: LeaseLost | None = None
        for lease in reversed(self):
            try:
                lease.release_now()
            except LeaseLost as error:
                lost = error
        if lost is not None:
            raise lost

    @property
    def kernel(self) -> object:
        """Where they hold; None: nowhere, for there are none."""
        return self[0].kernel if self else None

    def conditions(self) -> Sequence[Condition]:
        """Return what a write guarded by all of them requires.

        Raises:
            StaleLease: One has gone.
        """
        return [condition for lease in self for condition in lease.conditions()]


class Together:
    """Several locks at once: `await` it, or run a body under them all."""

    __slots__ = ("_desk", "_leases", "_wants")

    def __init__(self, desk: Desk, wants: list[Want]) -> None:
        """Ask for these at this desk once awaited or entered."""
        self._desk = desk
        self._wants = wants
        self._leases: list[Lease] = []

    def __await__(self) -> Any:
        return self._acquire(is_entering=False).__await__()

    async def _acquire(self, *, is_entering: bool) -> Leases:
        """Take one after the other, always in the same order; or none (L20)."""
        desk = self._desk
        now = desk.core.now
        taken: list[Lease] = []
        began = now()
        try:
            for want in self._wants:
                want.is_entering = is_entering and want.renew
                if want.timeout is not None:
                    want = attrs.evolve(
                        want, timeout=max(0.0, want.timeout - (now() - began))
                    )
                if desk.core.pauses:
                    await desk.core.pause()
                for lease in taken:
                    lease.check()
                asked = desk.ask(want)
                if not isinstance(asked, Lease):
                    asked = await self._granted(asked, taken)
                taken.append(asked)
            for lease in taken:
                lease.check()
        except BaseException:
            for lease in reversed(taken):
                desk.place.pass_on(lease)
            raise
        return Leases(taken)

    async def _granted(self, waiter: Waiter, taken: list[Lease]) -> Lease:
        """Wait for one more, as long as those that are held already are not lost."""
        for lease in taken:
            lease.on_loss = waiter.give_up
        try:
            return await self._desk.granted(waiter)
        finally:
            for lease in taken:
                lease.on_loss = None

    async def __aenter__(self) -> Leases:
        leases = await self._acquire(is_entering=True)
        for lease in leases:
            lease.enter(lease.session)
        self._leases = list(leases)
        return leases

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        lost: LeaseLost | None = None
        while self._leases:
            try:
                self._leases.pop().leave(error)
            except LeaseLost as raised:
                lost = raised
        if lost is not None:
            raise lost
