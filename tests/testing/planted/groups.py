"""Barriers, semaphores, conditions and queues that lose somebody."""

import asyncio
import contextlib


async def _together(*named):
    await asyncio.gather(*[asyncio.create_task(c, name=n) for n, c in named])


class HandResetBarrier:
    """Somebody has to call `reset` between two rounds."""

    def __init__(self, parties):
        self.parties = parties
        self._arrived = set()
        self._open = asyncio.Event()

    async def wait(self, name, timeout=60.0):
        self._arrived.add(name)
        if len(self._arrived) >= self.parties:
            self._open.set()
            return True
        try:
            await asyncio.wait_for(self._open.wait(), timeout)
        except TimeoutError:
            return False
        return True

    def reset(self):
        self._arrived.clear()
        self._open.clear()


class CyclicBarrier:
    """The last arrival opens the round and begins the next in one step."""

    def __init__(self, parties):
        self.parties = parties
        self._arrived = set()
        self._open = asyncio.Event()

    async def wait(self, name, timeout=60.0):
        gate, mine = self._open, self._arrived
        mine.add(name)
        if len(mine) >= self.parties:
            self._open, self._arrived = asyncio.Event(), set()
            gate.set()
            return True
        try:
            async with asyncio.timeout(timeout):
                await gate.wait()
        except TimeoutError:
            if gate.is_set():
                return True
            mine.discard(name)
            return False
        return True

    def reset(self):
        pass


def barrier_reset(repaired):
    """A fast agent waits for the next round when the leader resets this one."""

    async def program():
        parties, rounds = 3, 2
        barrier = (CyclicBarrier if repaired else HandResetBarrier)(parties)
        done = [0] * parties

        async def agent(index):
            for number in range(1, rounds + 1):
                await asyncio.sleep(0)
                done[index] = number
                assert await barrier.wait(f"a{index}"), "timed out among the living"
                assert min(done) >= number, f"left before {done} had arrived"
                if index == 0:
                    barrier.reset()

        await _together(*[(f"a{i}", agent(i)) for i in range(parties)])

    return program


def ghost_arrival(repaired):
    """An agent gives up at the barrier, but still counts as arrived."""

    async def program():
        barrier = (CyclicBarrier if repaired else HandResetBarrier)(2)
        passed = []

        async def impatient():
            if await barrier.wait("impatient", timeout=1.0):
                passed.append("impatient")

        async def late():
            await asyncio.sleep(1.0)
            if await barrier.wait("late", timeout=1.0):
                passed.append("late")

        await _together(("impatient", impatient()), ("late", late()))
        assert len(passed) != 1, f"{passed[0]} passed a barrier of two alone"

    return program


class Permits:
    def __init__(self, permits, repaired):
        self.permits = self.free = permits
        self._repaired = repaired
        self._waiters = []

    async def acquire(self, timeout):
        if self.free:
            self.free -= 1
            return True
        granted = asyncio.get_running_loop().create_future()
        self._waiters.append(granted)
        try:
            async with asyncio.timeout(timeout):
                await granted
        except TimeoutError:
            if self._repaired and granted.done() and not granted.cancelled():
                return True
            if granted in self._waiters:
                self._waiters.remove(granted)
            return False
        return True

    async def release(self):
        while self._waiters:
            granted = self._waiters.pop(0)
            if not granted.done():
                granted.set_result(True)
                return
        self.free += 1


def semaphore_timeout(repaired):
    """A permit is granted to a slow waiter just before its time-out."""

    async def program():
        permits = Permits(2, repaired)

        async def user():
            if await permits.acquire(timeout=1.0):
                await asyncio.sleep(0.45)
                await asyncio.sleep(0.45)
                await permits.release()

        await _together(*[(f"u{i}", user()) for i in range(4)])
        assert permits.free == 2, f"{permits.free} of 2 permits came back"

    return program


def lost_wakeup(repaired):
    """The notification comes between the look and the wait."""

    async def program():
        box, bell, condition = [], asyncio.Event(), asyncio.Condition()

        async def consumer():
            if repaired:
                async with condition:
                    await condition.wait_for(lambda: box)
                return
            while not box:
                await asyncio.sleep(0)
                bell.clear()
                await bell.wait()

        async def producer():
            for _ in range(4):
                await asyncio.sleep(0)
            box.append(1)
            bell.set()
            async with condition:
                condition.notify_all()

        await _together(("consumer", consumer()), ("producer", producer()))

    return program


def job_lost_on_stop(repaired):
    """A worker is stopped between taking a job and doing it."""

    async def program():
        jobs, done = asyncio.Queue(), []

        async def worker():
            while True:
                job = await jobs.get()
                try:
                    await asyncio.sleep(0)
                except asyncio.CancelledError:
                    if repaired:
                        jobs.put_nowait(job)
                    raise
                done.append(job)

        working = asyncio.create_task(worker(), name="worker")

        async def stopper():
            jobs.put_nowait("a")
            for _ in range(5):
                await asyncio.sleep(0)
            working.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await working

        await _together(("stopper", stopper()))
        left = [jobs.get_nowait() for _ in range(jobs.qsize())]
        assert [*done, *left] == ["a"], f"done {done}, left {left}"

    return program
