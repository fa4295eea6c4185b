"""A world of locks, semaphores and barriers on a bare kernel, without agents."""

from typing import Self

from swarm.coordination import Coordination, LockHandle, WaitGraph
from swarm.kernel import MemoryKernel
from swarm.model import OWNER, ROOT, AgentIdentity
from swarm.ports import Clock, Codec, Entropy, LoopClock
from swarm.state import Policy, StateHandle, Store


class World:
    """Everything a test of coordination needs, in the running loop's time."""

    def __init__(
        self,
        clock: Clock | None = None,
        policy: Policy | None = None,
        lock_delay: float = 0.0,
    ) -> None:
        self.clock = LoopClock() if clock is None else clock
        self.kernel = MemoryKernel(self.clock)
        self.graph = WaitGraph()
        self.entropy = Entropy(7)
        self.all = Coordination(
            self.kernel,
            self.clock,
            self.entropy,
            self.graph,
            policy=policy,
            lock_delay=lock_delay,
        )
        self.graph.joins = None  # that a test awaits what it has started is no join
        store = Store(
            self.kernel,
            Codec(self.kernel.limits),
            Policy.default(),
            self.clock,
            self.entropy,
        )
        self.state = StateHandle(store)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.kernel.close()
        self.all.close()

    def lock(self, name: str = "x", who: AgentIdentity = OWNER) -> LockHandle:
        return self.all.lock(who, name)

    @property
    def locks(self):
        return self.all.locks(OWNER)

    def semaphore(self, name: str = "s", capacity: int | None = None):
        return self.all.semaphore(OWNER, name, capacity)

    def barrier(self, name: str = "b", parties: int | None = None, action=None):
        return self.all.barrier(OWNER, name, parties, action)

    def events(self) -> list[object]:
        """Every event that was ever published."""
        log = self.kernel._log
        return [
            event
            for number in range(log.first, log.end)
            for event in log.entry(number).events
        ]

    def check_empty(self) -> None:
        """G13: nobody waits, nothing is held, nothing is left of either."""
        assert residue(self.all) == (0, 0)
        assert len(self.graph) == 0
        left = self.kernel.read_now(lambda view: list(view.documents(ROOT)))
        for document in left:
            value = document.value
            if not isinstance(value, dict):
                continue  # a test's own
            for key in ("holders", "queue", "arrivals"):
                assert not value.get(key), (document.path, value)
            assert str(document.path.segments[0]) != "locks"


def residue(coordination: Coordination) -> tuple[int, int]:
    """Return how many wait and how many leases are held (G13)."""
    return len(coordination._core.waiters), len(coordination._core.leases)
