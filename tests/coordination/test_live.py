"""Live primitives driven at random: whatever happens, in whatever order.

After every step the world is left to settle, and what must always hold is checked
against what the tasks themselves saw.
"""

import asyncio

import hypothesis.strategies as st
import pytest
from hypothesis import settings
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    rule,
)

from swarm import (
    BrokenBarrier,
    DeadlockError,
    Lease,
    LeaseLost,
    LockTimeout,
    SwarmError,
    WouldBlock,
)
from swarm.coordination._lease_state import FREE, load
from swarm.coordination._semaphore_rules import SemaphoreState
from swarm.model import Path
from tests.support.coordination import World
from tests.support.virtual_loop import VirtualLoop, turns

NAMES = st.sampled_from(["x", "y"])
MODES = st.sampled_from(["exclusive", "shared", "upgradeable"])


class Actor:
    """A task that does as it is told, one thing after the other."""

    def __init__(self, name: str) -> None:
        self.orders: asyncio.Queue = asyncio.Queue()
        self.leases: list[Lease] = []
        self.lost: list[Lease] = []
        self.doing = ""
        self.outcomes: list[str] = []
        self.task = asyncio.get_running_loop().create_task(self.live(), name=name)

    async def live(self) -> None:
        while True:
            self.doing = ""
            what, order = await self.orders.get()
            self.doing = what
            try:
                await order(self)
                self.outcomes.append(what)
            except (SwarmError, ValueError) as error:
                self.outcomes.append(type(error).__name__)


class Live(RuleBasedStateMachine):
    """A loop in virtual time, and a few actors in it."""

    def __init__(self) -> None:
        super().__init__()
        self.loop = VirtualLoop()
        self.actors: list[Actor] = []
        self.run(self.begin())

    def run(self, coroutine) -> None:
        async def settle() -> None:
            await coroutine
            await turns(8)

        self.loop.run_until_complete(settle())

    async def begin(self) -> None:
        self.world = World()
        self.count = 0
        for _ in range(4):
            self.spawn()

    def spawn(self) -> None:
        self.count += 1
        self.actors.append(Actor(f"a{self.count}"))

    def teardown(self) -> None:
        self.run(self.finish())
        self.loop.close()

    async def finish(self) -> None:
        for actor in self.actors:
            actor.task.cancel()
        await asyncio.wait([actor.task for actor in self.actors])
        await turns(3)
        self.world.check_empty()
        assert not self.world.all._core.sessions.of_turns
        assert len(self.world.all._core.sessions) == 0

    def idle(self, index: int) -> Actor | None:
        actor = self.actors[index % len(self.actors)]
        return None if actor.doing else actor

    def tell(self, index: int, what: str, order) -> None:
        actor = self.idle(index)
        if actor is not None:

            async def put() -> None:
                actor.orders.put_nowait((what, order))

            self.run(put())

    # --- common steps ----------------------------------------------------------------

    @rule(index=st.integers(0, 9), at=st.integers(0, 9), same_turn=st.booleans())
    def kill(self, index: int, at: int, same_turn: bool) -> None:
        """L19: an actor dies, in a wait or not; another may release in that turn."""

        async def die() -> None:
            actor = self.actors.pop(index % len(self.actors))
            if same_turn:
                self.release_one(at)
            actor.task.cancel()
            if not same_turn:
                self.release_one(at)
            await asyncio.wait([actor.task])
            self.spawn()

        self.run(die())

    def release_one(self, at: int) -> None:
        leases = [lease for actor in self.actors for lease in actor.leases]
        if leases:
            lease = leases[at % len(leases)]
            try:
                lease._give_back()
            except LeaseLost:
                assert not lease.is_live
            for actor in self.actors:
                if lease in actor.leases:
                    actor.leases.remove(lease)

    @rule(seconds=st.sampled_from([0.5, 1.0, 2.0, 5.0]))
    def sleep(self, seconds: float) -> None:
        """Time passes in small steps: renewals, time-outs, expiries."""
        self.run(asyncio.sleep(seconds))

    @rule(seconds=st.sampled_from([1.0, 5.0]))
    def stall(self, seconds: float) -> None:
        """L11: the loop is blocked: everything is due at once."""
        self.loop.virtual += seconds
        self.run(asyncio.sleep(0.001))


class LiveLines(Live):
    """Locks and a semaphore."""

    @rule(
        index=st.integers(0, 9),
        name=NAMES,
        mode=MODES,
        ttl=st.sampled_from([1.0, 3.0, 30.0]),
        timeout=st.sampled_from([None, 0, 1.0, 4.0]),
        nowait=st.booleans(),
    )
    def acquire(self, index, name, mode, ttl, timeout, nowait) -> None:
        """L3: a lease, or an error and nothing."""

        async def order(actor: Actor) -> None:
            lock = self.world.lock(name)
            if nowait:
                actor.leases.append(lock.acquire_nowait(mode, ttl=ttl))
            else:
                actor.leases.append(await lock.acquire(mode, ttl=ttl, timeout=timeout))

        self.tell(index, "acquire", order)

    @rule(
        index=st.integers(0, 9),
        permits=st.integers(1, 3),
        ttl=st.sampled_from([1.0, 30.0]),
        timeout=st.sampled_from([None, 1.0]),
    )
    def permits(self, index, permits, ttl, timeout) -> None:
        """M6."""

        async def order(actor: Actor) -> None:
            semaphore = self.world.semaphore("s", 3)
            actor.leases.append(
                await semaphore.acquire(permits, ttl=ttl, timeout=timeout)
            )

        self.tell(index, "acquire", order)

    @rule(index=st.integers(0, 9), seconds=st.sampled_from([1.0, 8.0]))
    def body(self, index, seconds) -> None:
        """L22: renewed while it runs."""

        async def order(actor: Actor) -> None:
            async with self.world.lock("x").acquire(ttl=2, timeout=3) as lease:
                await asyncio.sleep(seconds)
                assert lease.is_live

        self.tell(index, "body", order)

    @rule(
        index=st.integers(0, 9),
        at=st.integers(0, 9),
        how=st.sampled_from(["upgrade", "downgrade", "renew", "release"]),
        timeout=st.sampled_from([None, 1.0]),
    )
    def use(self, index, at, how, timeout) -> None:
        """L9, L10, L13, L14: a lease that has gone does nothing."""

        async def order(actor: Actor) -> None:
            if not actor.leases:
                return
            lease = actor.leases[at % len(actor.leases)]
            if how == "release":
                actor.leases.remove(lease)
                await lease.release()
            elif how == "renew":
                await lease.renew(2)
            elif lease.mode:
                token = lease.token
                act = lease.upgrade(timeout) if how == "upgrade" else lease.downgrade()
                before = lease.mode
                try:
                    await act
                    assert lease.token > token or lease.mode == before
                except (DeadlockError, LockTimeout):
                    assert (lease.mode, lease.token) == (before, token)
                    raise

        self.tell(index, how, order)

    @rule(at=st.integers(0, 9))
    def force(self, at) -> None:
        """L17."""

        async def act() -> None:
            held = self.world.locks.held()
            if held:
                victim = held[at % len(held)]
                await self.world.locks.force_release(victim.lease_id, reason="no")

        self.run(act())

    @rule(capacity=st.integers(1, 4))
    def resize(self, capacity) -> None:
        """M12."""

        async def act() -> None:
            await self.world.semaphore("s", 3).resize(capacity)

        self.run(act())

    @invariant()
    def documents_and_people_agree(self) -> None:
        """L1, L3, L4, G6: no lost grant, no stranded waiter, nobody unknown."""
        self.run(self.compare())

    async def compare(self) -> None:
        await asyncio.sleep(0.001)  # what is due just now
        await turns(8)
        kernel = self.world.kernel
        leases, waiters = set(), set()
        for name in ("locks.x", "locks.y", "semaphores.s"):
            path = Path.parse(name)
            blank = SemaphoreState(3, 3) if name.startswith("sem") else FREE
            line = load(kernel.find_now(path), blank)
            leases |= {grant.id for grant in line.holders}
            waiters |= {request.id for request in line.queue}
            assert not line.due(kernel.now())
            assert line.next_request() is None, f"{name}: could have been granted"
        core = self.world.all._core
        assert leases == set(core.leases)
        assert waiters == set(core.waiters)
        for lease in core.leases.values():
            assert lease.is_live
        for actor in self.actors:
            known = {lease.id for lease in actor.leases}
            mine = {
                lease.id
                for lease in core.leases.values()
                if lease._session.name == f"task '{actor.task.get_name()}'"
            }
            if actor.doing != "body":
                assert mine <= known
            waiting = [
                w
                for w in core.waiters.values()
                if str(w.session) == f"task '{actor.task.get_name()}'"
            ]
            assert len(waiting) <= 1
            if waiting:
                assert actor.doing
        for waiter in core.waiters.values():
            assert not core.graph.find_cycle(object(), waiter), (
                "a cycle that nobody was told of"
            )


class LiveBarrier(Live):
    """A barrier for two, and one for three."""

    def __init__(self) -> None:
        self.outcomes: dict[tuple[str, int], list[object]] = {}
        super().__init__()

    @rule(
        index=st.integers(0, 9),
        parties=st.sampled_from([2, 3]),
        timeout=st.sampled_from([None, 0, 1.0, 4.0]),
    )
    def arrive(self, index, parties, timeout) -> None:
        """B2: everybody writes down what became of the generation."""

        async def order(actor: Actor) -> None:
            name = f"b{parties}"
            try:
                arrival = await self.world.barrier(name, parties).wait(timeout)
            except BrokenBarrier as error:
                self.note(name, error.generation, error.reason)
                raise
            self.note(name, arrival.generation, arrival.index)

        self.tell(index, "arrive", order)

    def note(self, name: str, generation: int, what: object) -> None:
        self.outcomes.setdefault((name, generation), []).append(what)

    @rule(parties=st.sampled_from([2, 3]), abort=st.booleans())
    def reset(self, parties, abort) -> None:
        """B7."""

        async def act() -> None:
            barrier = self.world.barrier(f"b{parties}", parties)
            await (barrier.abort() if abort else barrier.reset())

        self.run(act())

    @invariant()
    def a_generation_has_one_outcome(self) -> None:
        """B1, B2, B3: indices without a repeat, or one reason for all."""
        for (name, _), seen in self.outcomes.items():
            indices = [what for what in seen if isinstance(what, int)]
            reasons = {what for what in seen if isinstance(what, str)}
            assert not (indices and reasons)
            assert len(reasons) <= 1
            assert len(set(indices)) == len(indices) <= int(name[1:])

    @invariant()
    def nobody_is_there_who_has_left(self) -> None:
        """B1, B10: fewer than the parties wait, and each of them is alive."""
        self.run(self.compare())

    async def compare(self) -> None:
        there = 0
        for parties in (2, 3):
            barrier = self.world.barrier(f"b{parties}", parties)
            assert barrier.waiting < parties
            there += barrier.waiting
        assert there == len(self.world.all._core.waiters)
        assert there == sum(actor.doing == "arrive" for actor in self.actors)


FEW = settings(max_examples=40, stateful_step_count=25, deadline=None)
MANY = settings(max_examples=1_500, stateful_step_count=50, deadline=None)

TestLiveLines = LiveLines.TestCase
TestLiveLines.settings = FEW
TestLiveBarrier = LiveBarrier.TestCase
TestLiveBarrier.settings = FEW


@pytest.mark.slow
@pytest.mark.timeout(900)
class TestLiveLinesAtLength(LiveLines.TestCase):
    settings = MANY


@pytest.mark.slow
@pytest.mark.timeout(900)
class TestLiveBarrierAtLength(LiveBarrier.TestCase):
    settings = MANY


def test_would_block_is_no_time_out():
    """G10: two different answers."""
    assert not issubclass(WouldBlock, TimeoutError)
    assert issubclass(LockTimeout, TimeoutError)
