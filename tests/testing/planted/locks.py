"""Locks that forget who waits, and locks taken in two orders."""

import asyncio
import contextlib


class HastyLock:
    """Granting and giving up are separate steps, so they can cross."""

    def __init__(self):
        self.holder = None
        self._waiters = []
        self._guard = asyncio.Lock()

    async def acquire(self, name, timeout=30.0):
        async with self._guard:
            if self.holder is None:
                self.holder = name
                return True
            granted = asyncio.get_running_loop().create_future()
            self._waiters.append((name, granted))
        try:
            await asyncio.wait_for(granted, timeout)
        except TimeoutError:
            self._waiters = [w for w in self._waiters if w[0] != name]
            return False
        return True

    async def release(self, name):
        async with self._guard:
            if self.holder != name:
                return
            self.holder = None
            if self._waiters:
                self.holder, granted = self._waiters.pop(0)
                granted.set_result(True)


class CarefulLock:
    """Whoever was granted keeps the lock or hands it on; all in single steps."""

    def __init__(self):
        self.holder = None
        self._waiters = []

    async def acquire(self, name, timeout=30.0):
        if self.holder is None and not self._waiters:
            self.holder = name
            return True
        granted = asyncio.get_running_loop().create_future()
        self._waiters.append((name, granted))
        try:
            async with asyncio.timeout(timeout):
                await granted
        except TimeoutError:
            if granted.done() and not granted.cancelled():
                return True
            self._forget(name, granted)
            return False
        except asyncio.CancelledError:
            if granted.done() and not granted.cancelled():
                self._grant_next()
            else:
                self._forget(name, granted)
            raise
        return True

    def _forget(self, name, granted):
        with contextlib.suppress(ValueError):
            self._waiters.remove((name, granted))

    def _grant_next(self):
        self.holder = None
        while self._waiters:
            name, granted = self._waiters.pop(0)
            if not granted.done():
                self.holder = name
                granted.set_result(True)
                return

    async def release(self, name):
        if self.holder == name:
            self._grant_next()


async def _together(*named, return_exceptions=False):
    tasks = [asyncio.create_task(c, name=n) for n, c in named]
    return await asyncio.gather(*tasks, return_exceptions=return_exceptions)


def lock_timeout(repaired, held=1.0):
    """The grant and the time-out come at the same instant."""

    async def program():
        lock = CarefulLock() if repaired else HastyLock()

        async def holder():
            assert await lock.acquire("holder")
            await asyncio.sleep(0.5)
            await asyncio.sleep(held - 0.5)
            await lock.release("holder")

        async def waiter():
            await asyncio.sleep(0)
            if await lock.acquire("waiter", timeout=1.0):
                await lock.release("waiter")

        await _together(("holder", holder()), ("waiter", waiter()))
        assert lock.holder is None, f"held by {lock.holder}, who has left"

    return program


def lock_timeout_stalled(repaired):
    """As before, but the grant comes 0.1 s before the time-out."""
    return lock_timeout(repaired, held=0.9)


def lock_cancel(repaired):
    """A waiter is cancelled and stays in the line."""

    async def program():
        lock = CarefulLock() if repaired else HastyLock()
        errors = []

        async def holder():
            assert await lock.acquire("holder")
            for _ in range(3):
                await asyncio.sleep(0)
            try:
                await lock.release("holder")
            except asyncio.InvalidStateError as exc:
                errors.append(exc)

        async def waiter():
            if await lock.acquire("waiter"):
                await lock.release("waiter")

        holding = asyncio.create_task(holder(), name="holder")
        waiting = asyncio.create_task(waiter(), name="waiter")

        async def killer():
            for _ in range(8):
                await asyncio.sleep(0)
            waiting.cancel()

        await _together(("killer", killer()))
        await asyncio.wait([holding, waiting])
        assert not errors, f"release raised {errors[0]!r}"
        assert lock.holder is None, f"held by {lock.holder}, who has left"

    return program


def abba(repaired):
    """Two locks taken in opposite orders, far apart on the stock order."""

    async def both(first, second, delay):
        for _ in range(delay):
            await asyncio.sleep(0)
        async with first:
            await asyncio.sleep(0)
            async with second:
                await asyncio.sleep(0)

    async def program():
        a, b = asyncio.Lock(), asyncio.Lock()
        other = (a, b) if repaired else (b, a)
        await _together(("t1", both(a, b, 0)), ("t2", both(*other, 6)))

    return program


def self_deadlock(repaired):
    """A compare-and-set calls the locking setter while it holds the lock."""

    class Store:
        def __init__(self):
            self.value = 0
            self.guard = asyncio.Lock()

        async def put(self, value):
            async with self.guard:
                self.value = value

        async def compare_and_set(self, old, new):
            async with self.guard:
                if self.value != old:
                    return False
                if repaired:
                    self.value = new
                else:
                    await self.put(new)
                return True

    async def program():
        store = Store()
        assert await store.compare_and_set(0, 1)

    return program
