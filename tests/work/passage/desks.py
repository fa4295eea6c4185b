"""Tasks with their handoffs, checkpoints and pipelines, on both kernels."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from swarm.coordination import Coordination, WaitGraph
from swarm.errors import AccessDenied
from swarm.model import OWNER, AgentIdentity, Commit, Path
from swarm.testing.contracts._work import register
from swarm.work._checkpoints import Checkpoints
from swarm.work._handoff_manager import HandoffManager
from swarm.work._handoffs import Handoffs
from swarm.work._task_handle import Caller
from swarm.work.pipelines._manager import PipelineManager
from swarm.work.pipelines._runs import Pipelines
from tests.support.work import ADA, BO, KERNELS, Office, offices, quiet

__all__ = ["ADA", "BO", "CY", "KERNELS", "Desk", "desks", "only", "quiet"]

CY = AgentIdentity("cy", "editor", "cy", "editor")


class PlainRunner:
    """Calls the functions of stages: there are no agents here."""

    async def until_possible(self, stage):
        pass

    async def run(self, stage, args, kwargs):
        return await stage.function(*args, **kwargs)


class Desk:
    """One process of a swarm, as far as work goes."""

    def __init__(self, office: Office, **options: Any) -> None:
        self.office = office
        self.tasks = office.tasks
        self.kernel = office.kernel
        self.pass_time = office.pass_time
        tail = getattr(office.kernel, "tail", office.kernel)
        manager = office.manager
        self.locks = Coordination(
            office.kernel, manager.clock, manager.entropy, WaitGraph(), tail=tail
        )
        self.handoff_manager = HandoffManager(manager, tail, self.locks, **options)
        self.pipeline_manager = PipelineManager(manager, tail, PlainRunner())
        self.commits: list[Commit] = []
        tail.listen(self.commits.append, documents=True)

    def handoffs(self, identity: AgentIdentity, **options: Any) -> Handoffs:
        return Handoffs(self.handoff_manager, self.caller(identity, **options))

    def checkpoints(self, identity: AgentIdentity, **options: Any) -> Checkpoints:
        return Checkpoints(self.caller(identity, **options))

    def pipelines(self, identity: AgentIdentity = OWNER, **options: Any) -> Pipelines:
        return Pipelines(self.pipeline_manager, self.caller(identity, **options))

    def caller(self, identity: AgentIdentity, rights: Any = None) -> Caller:
        return Caller(self.office.manager, identity, rights)

    async def register(self, *identities: AgentIdentity) -> None:
        """Let agents be known as living."""
        for identity in identities:
            await register(self.kernel, identity)

    def told(self, *names: str) -> list[object]:
        """Return the events of these types so far, in order."""
        return [
            event
            for commit in self.commits
            for event in commit.events
            if type(event).__name__ in names
        ]

    def close(self) -> None:
        self.locks.close()


@asynccontextmanager
async def desks(kind: str, count: int = 1, **options: Any) -> AsyncIterator[Any]:
    """Open `count` processes on one kernel, with three living agents."""
    async with offices(kind, count) as made:
        found = [Desk(o, **options) for o in (made if count > 1 else [made])]
        await found[0].register(ADA, BO, CY)
        try:
            yield found[0] if count == 1 else found
        finally:
            for desk in found:
                desk.close()


def only(may_read: Any) -> Any:
    """Return the rights of an agent that may read where this says so."""

    def check(identity: AgentIdentity, path: Path, action: str) -> None:
        if action == "read" and not may_read(path):
            raise AccessDenied(f"{identity} may not read {path}")

    return check
