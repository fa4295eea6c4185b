"""A state over a memory kernel with a clock moved by hand."""

import attrs

from swarm.kernel import MemoryKernel
from swarm.model import ROOT, AgentIdentity, Path
from swarm.ports import Codec, Entropy, Limits
from swarm.state import Policy, StateHandle, Store
from tests.support.clock import FakeClock


@attrs.define
class World:
    clock: FakeClock
    kernel: MemoryKernel
    store: Store
    state: StateHandle

    def as_(self, identity: AgentIdentity, root: Path = ROOT) -> StateHandle:
        return StateHandle(self.store, identity, root)


def make_world(policy: Policy | None = None, *, kernel=None, **limits) -> World:
    clock = FakeClock(jumping=True)
    bounds = Limits(**limits)
    kernel = MemoryKernel(clock, bounds) if kernel is None else kernel
    store = Store(
        kernel, Codec(bounds), policy or Policy.default(), clock, Entropy(seed=1)
    )
    return World(clock, kernel, store, StateHandle(store))


def agent(name: str, role: str = "pulse", kind: str | None = None) -> AgentIdentity:
    return AgentIdentity(name, kind or role, name, role)


async def dump(kernel: MemoryKernel) -> dict[str, object]:
    """Every document's value, as the kernel has it."""
    return await kernel.read(
        lambda view: {d.path.text: d.value for d in view.documents(ROOT)}
    )
