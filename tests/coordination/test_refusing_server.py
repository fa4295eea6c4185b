"""A server that refuses commits for a while: what nobody took is said again later."""

import asyncio
from contextlib import asynccontextmanager

import pytest

from swarm.coordination import Coordination, WaitGraph
from swarm.errors import BarrierTimeout, LockTimeout, OutcomeUnknown, StorageFailed
from swarm.kernel import MemoryKernel
from swarm.model import OWNER
from swarm.ports import Entropy
from swarm.testing import DistantKernel
from tests.support.clock import FakeClock


class Refusing(DistantKernel):
    """A kernel that refuses while it `is_full`, or loses the next answer."""

    is_full = False
    is_losing = False

    async def _do(self, operation):
        if self.is_full:
            operation.close()
            raise StorageFailed("full")
        found = await super()._do(operation)
        if self.is_losing:
            self.is_losing = False
            raise OutcomeUnknown("lost")
        return found


async def settle():
    for _ in range(60):
        await asyncio.sleep(0)


class World:
    """Two processes; the server can be full for the first."""

    def __init__(self):
        self.clock = FakeClock()
        self.memory = MemoryKernel(self.clock)
        self.kernel = Refusing(self.memory)
        self.one = self.process("one", self.kernel)
        self.other = self.process("other", DistantKernel(self.memory))

    def process(self, name, kernel):
        graph = WaitGraph()
        return Coordination(kernel, self.clock, Entropy(name), graph, process=name)

    async def pass_time(self, seconds):
        for _ in range(seconds):
            self.clock.advance(1)
            await settle()


@asynccontextmanager
async def world():
    made = World()
    try:
        yield made
    finally:
        made.one.close()
        made.other.close()
        await made.memory.close()
        await settle()


async def test_a_request_whose_time_is_up_ends_once_it_is_out_of_the_queue():
    """G5."""
    async with world() as w:
        held = await w.other.lock(OWNER, "x").acquire(ttl=1000)
        waiting = asyncio.ensure_future(w.one.lock(OWNER, "x").acquire(timeout=5))
        await settle()
        w.kernel.is_full = True
        await w.pass_time(10)
        assert not waiting.done()
        w.kernel.is_full = False
        await w.pass_time(2)
        assert isinstance(waiting.exception(), LockTimeout)
        assert w.other.locks(OWNER).queue("x") == ()
        await held.release()


async def test_a_party_whose_time_is_up_breaks_the_barrier_later():
    """B4, B5."""
    async with world() as w:
        waiting = asyncio.ensure_future(w.one.barrier(OWNER, "b", 2).wait(timeout=5))
        await settle()
        w.kernel.is_full = True
        await w.pass_time(10)
        assert not waiting.done()
        w.kernel.is_full = False
        await w.pass_time(2)
        assert isinstance(waiting.exception(), BarrierTimeout)
        assert w.other.barrier(OWNER, "b", 2).waiting == 0


@pytest.mark.parametrize("kind", ["lock", "barrier"])
async def test_a_call_that_was_cancelled_leaves_later(kind):
    """G6, B4."""
    async with world() as w:
        barrier = w.other.barrier(OWNER, "b", 2)
        if kind == "lock":
            held = await w.other.lock(OWNER, "x").acquire(ttl=1000)
            waiting = asyncio.ensure_future(w.one.lock(OWNER, "x").acquire())
        else:
            waiting = asyncio.ensure_future(w.one.barrier(OWNER, "b", 2).wait())
        await settle()
        w.kernel.is_full = True
        waiting.cancel()
        await w.pass_time(3)
        assert waiting.cancelled()
        w.kernel.is_full = False
        await w.pass_time(2)
        assert w.other.locks(OWNER).queue("x") == ()
        assert barrier.waiting == 0
        if kind == "lock":
            await held.release()


async def test_a_party_that_cannot_know_whether_it_has_arrived_has_left():
    """B4."""
    async with world() as w:
        w.kernel.is_losing = True
        with pytest.raises(OutcomeUnknown):
            await w.one.barrier(OWNER, "b", 2).wait()
        await settle()
        assert w.other.barrier(OWNER, "b", 2).waiting == 0


async def test_what_has_expired_meanwhile_is_removed_later():
    """L11: nobody but the one that waits can say that the holder's time is up."""
    async with world() as w:
        lock = w.other.lock(OWNER, "x")
        await lock.acquire(ttl=5, renew=False)
        waiting = asyncio.ensure_future(w.one.lock(OWNER, "x").acquire())
        await settle()
        w.other.close()  # as one that was killed
        w.kernel.is_full = True
        await w.pass_time(10)
        assert not waiting.done()
        w.kernel.is_full = False
        await w.pass_time(2)
        assert waiting.done()
        await waiting.result().release()
