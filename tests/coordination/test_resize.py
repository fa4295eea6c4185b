"""A semaphore that gets too small for those who wait already (L15, M12)."""

import asyncio

from swarm import DeadlockError
from swarm.coordination import SemaphoreHandle
from tests.support.coordination import World
from tests.support.virtual_loop import turns, virtual


class Scene:
    """Tasks that hold permits of one semaphore, and then wait for more of them."""

    def __init__(self, semaphore: SemaphoreHandle) -> None:
        self.semaphore = semaphore
        self.go = asyncio.Event()
        self.fates: dict[str, str] = {}
        self.tasks: list[asyncio.Task[None]] = []

    def add(self, name: str, holds: int, wants: int, after: float) -> None:
        """Have somebody hold some, and want more later; or, wanting none, just hold."""
        coro = self._play(name, holds, wants, after)
        self.tasks.append(asyncio.ensure_future(coro))

    async def _play(self, name: str, holds: int, wants: int, after: float) -> None:
        if not holds:
            await self._want(name, wants, after)
            return
        async with self.semaphore.acquire(holds):
            if wants:
                await self._want(name, wants, after)
            else:
                await self.go.wait()

    async def _want(self, name: str, wants: int, after: float) -> None:
        await asyncio.sleep(after)
        try:
            async with self.semaphore.acquire(wants):
                self.fates[name] = "got it"
        except DeadlockError as error:
            self.fates[name] = "deadlock" if error.cycle else "no cycle"

    async def resize(self, capacity: int) -> dict[str, str]:
        """Resize it; let those who only hold some go; tell what became of the rest."""
        await asyncio.sleep(0.5)
        assert not self.fates
        await self.semaphore.resize(capacity)
        await turns()
        self.go.set()
        await asyncio.gather(*self.tasks)
        return self.fates


@virtual
async def test_a_waiter_that_holds_nothing_is_not_failed():
    """L15, M12: those in a cycle are told, in the order of the queue."""
    async with World() as world:
        scene = Scene(world.semaphore("s", 3))
        scene.add("C", 1, 0, 0)
        scene.add("A", 1, 1, 0.2)
        scene.add("B", 1, 1, 0.3)
        scene.add("W", 0, 1, 0.1)
        fates = await scene.resize(2)
        assert fates == {"A": "deadlock", "B": "got it", "W": "got it"}
        world.check_empty()


@virtual
async def test_waiters_are_failed_until_no_cycle_is_left():
    """L15, M12: however many that takes."""
    async with World() as world:
        scene = Scene(world.semaphore("s", 6))
        scene.add("C", 1, 0, 0)
        for number in range(5):
            scene.add(f"H{number}", 1, 1, 0.1 * number)
        fates = await scene.resize(3)
        assert list(fates.values()).count("deadlock") == 3
        assert list(fates.values()).count("got it") == 2
        world.check_empty()


@virtual
async def test_a_smaller_semaphore_without_a_cycle_fails_no_waiter():
    """M12: nothing is taken away."""
    async with World() as world:
        scene = Scene(world.semaphore("s", 2))
        scene.add("C", 1, 0, 0)
        scene.add("D", 1, 0, 0)
        scene.add("W", 0, 1, 0.1)
        assert await scene.resize(1) == {"W": "got it"}
        world.check_empty()
