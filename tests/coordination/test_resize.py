"""A semaphore that gets too small for those who wait already (L15, M12)."""

import asyncio

import pytest

from swarm import DeadlockError, Swarm
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
async def test_who_holds_nothing_is_not_failed_in_vain():
    """L15, M12: one victim, of those whose permits are missing."""
    async with World() as world:
        scene = Scene(world.semaphore("s", 3))
        scene.add("C", 1, 0, 0)
        scene.add("A", 1, 1, 0.2)
        scene.add("B", 1, 1, 0.3)
        scene.add("W", 0, 1, 0.1)
        assert await scene.resize(2) == {"A": "deadlock", "B": "got it", "W": "got it"}
        world.check_empty()


@virtual
async def test_the_one_who_alone_will_do_is_failed():
    """L15, M12: though others have waited for longer."""
    async with World() as world:
        scene = Scene(world.semaphore("s", 6))
        scene.add("C", 1, 0, 0)
        scene.add("A", 1, 1, 0.1)
        scene.add("B", 1, 1, 0.2)
        scene.add("L", 3, 1, 0.3)
        fates = await scene.resize(4)
        assert fates == {"A": "got it", "B": "got it", "L": "deadlock"}
        world.check_empty()


@virtual
@pytest.mark.parametrize("tries", [0, 1, 64])
async def test_as_many_are_failed_as_have_to_be(monkeypatch, tries):
    """L15, M12: when nobody will do alone; whatever is found out beforehand."""
    monkeypatch.setattr("swarm.coordination._place._TRIED", tries)
    async with World() as world:
        scene = Scene(world.semaphore("s", 6))
        scene.add("C", 1, 0, 0)
        for number in range(5):
            scene.add(f"H{number}", 1, 1, 0.1 * number)
        fates = await scene.resize(3)
        assert sorted(fates.values()).count("deadlock") == 3
        assert sorted(fates.values()).count("got it") == 2
        world.check_empty()


@virtual
async def test_who_only_waits_behind_a_deadlock_elsewhere_is_left_alone():
    """L15: nobody else is disturbed, also by a semaphore that gets smaller."""
    async with Swarm() as swarm:
        scene = Scene(swarm.semaphore("s", 2))
        lock, told = swarm.lock("x"), asyncio.Event()

        async def parent() -> None:
            async with scene.semaphore, lock:
                waits = asyncio.ensure_future(child())
                await asyncio.sleep(0.3)
                await waits  # closes a cycle, of which the child is told by and by

        async def child() -> None:
            with pytest.raises(DeadlockError):
                await lock.acquire()
            told.set()

        scene.add("C", 1, 0, 0)
        scene.tasks.append(asyncio.ensure_future(parent()))
        scene.add("W", 0, 1, 0.1)
        assert await scene.resize(1) == {"W": "got it"}
        assert told.is_set()
