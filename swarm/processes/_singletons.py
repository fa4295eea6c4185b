"""Singletons: agents of which at most one lives over all processes.

Every process that spawns a singleton stands by for it. The process that writes its
document into the registry first runs it; when that process has gone, the others try to
write it again, and one of them does.
"""

import logging
from collections.abc import Callable
from typing import Any, Final, TypeAlias

from swarm.agents import (
    REGISTRY,
    AgentRecord,
    Cell,
    Ref,
    SpawnOptions,
    Status,
    Supervisor,
    registry_path,
)
from swarm.errors import Closed, SwarmError
from swarm.model import OWNER, AgentIdentity, Commit, type_name
from swarm.ports import Holder, Tail
from swarm.processes._fence import FencedKernel
from swarm.processes._network import Network
from swarm.processes._process_rules import CLOSED
from swarm.processes._remote_ref import RemoteRef
from swarm.processes._singleton_rules import moves_on, plan_claim, plan_release

log: Final = logging.getLogger("swarm.processes")


Standby: TypeAlias = tuple[
    Callable[..., Any], tuple[Any, ...], SpawnOptions, AgentIdentity
]
"""The recipe for a singleton: factory, arguments, options and spawner."""


class Singletons:
    """The singletons that this process runs or stands by for.

    Attributes:
        standing_by: How to start each, by name.
    """

    def __init__(
        self,
        network: Network,
        kernel: FencedKernel,
        tail: Tail,
        supervisor: Supervisor,
    ) -> None:
        """Stand by for none yet."""
        self.standing_by: dict[str, Standby] = {}
        self._network = network
        self._kernel = kernel
        self._supervisor = supervisor
        self._running: dict[str, Cell] = {}
        self._starting: set[str] = set()
        self._last = 0
        self._ignore = tail.listen(
            self._heard, documents=True, folders={REGISTRY.segments[0]}
        )

    async def spawn(self, name: str, standby: Standby) -> Ref[Any]:
        """Run a singleton here, or stand by for it; return a ref that follows it.

        Raises:
            NameTaken: An agent of this process that is no singleton has the name.
            Exception: What the factory or `started` raised here.
        """
        self._network.host.check(spawning=True)
        is_new = name not in self.standing_by
        self.standing_by.setdefault(name, standby)
        try:
            await self._try(name)
        except BaseException:
            if is_new:
                self.standing_by.pop(name, None)
            raise
        record = self._network.record(name) or self._record(name, standby)
        return RemoteRef(self._network, record, moves=True)

    async def _try(self, name: str) -> None:
        """Start a singleton here unless it lives already.

        Cancelled or failed, the name is given back.
        """
        standby = self.standing_by.get(name)
        if standby is None or name in self._running or name in self._starting:
            return
        if self._network.local(name) is not None:  # it raises what a spawn would
            await self._start(name, standby)
            return
        record, kernel = self._record(name, standby), self._kernel.unfenced
        try:
            _, may = await kernel.apply(OWNER, plan_claim, record)
            if not may:
                return
            self._starting.add(name)
            fence = Holder(registry_path(name), record.process, 0)
            self._kernel.fences[name] = fence
            await self._start(name, standby)
        except Exception:
            await kernel.apply(OWNER, plan_release, record, "failed")
            raise
        except BaseException:  # cancelled: whether the claim was made is not known
            self._network.host.start(
                kernel.apply(OWNER, plan_release, record, CLOSED),
                f"singleton '{name}' is given back",
                essential=True,
            )
            raise
        finally:
            self._starting.discard(name)

    async def _start(self, name: str, standby: Standby) -> None:
        factory, args, options, spawner = standby
        supervisor = self._supervisor
        cell = await supervisor.spawn(factory, args, options, spawner=spawner)
        self._running[name] = cell
        log.info("singleton '%s' lives in process %s", name, cell.host.origin)

    def _record(self, name: str, standby: Standby) -> AgentRecord:
        """Return the document that says: it is about to live here."""
        factory, _, options, _ = standby
        kind = getattr(factory, "__name__", name)
        if isinstance(factory, type):
            kind = type_name(factory)
        identity = AgentIdentity(name, kind, name, options.role or kind)
        capabilities = tuple(options.capabilities)
        self._last = max(self._network.host.clock.wall(), self._last + 1)
        process = self._network.membership.id
        return AgentRecord(
            identity, capabilities, self._last, Status.INITIALIZING, process
        )

    # --- moving -----------------------------------------------------------------------

    def _heard(self, commit: Commit) -> None:
        if not self.standing_by:
            return
        for document in commit.documents:
            segments = document.path.segments
            if not document.is_deleted or segments[:2] != REGISTRY.segments:
                continue
            name = str(segments[2])
            if name not in self.standing_by:
                continue
            if moves_on(commit, name):
                self._take_over_soon(name)
            else:
                self.standing_by.pop(name)
                self._running.pop(name, None)
                self._kernel.fences.pop(name, None)

    def _take_over_soon(self, name: str) -> None:
        if self._network.host.closed_error() is None:
            self._network.host.start(self._take_over(name), f"singleton '{name}'")

    async def _take_over(self, name: str) -> None:
        """Start a singleton here, if no other process is quicker."""
        try:
            await self._try(name)
        except Closed:
            return
        except SwarmError as error:
            log.warning("singleton '%s' cannot be started here: %s", name, error)

    def look(self) -> None:
        """Start what no process runs, though the log did not say so."""
        for name in self.standing_by:
            if name not in self._running and self._network.record(name) is None:
                self._take_over_soon(name)

    def lose(self) -> None:
        """End the singletons here at once: they may live elsewhere by now."""
        for name, cell in tuple(self._running.items()):
            log.warning("singleton '%s' ends: its process was taken for dead", name)
            self._supervisor.end(cell, "closed")

    async def stand_by_again(self) -> None:
        """Stand by for everything, as another process; run what no other one does."""
        running, self._running = self._running, {}
        for cell in running.values():
            await cell.until(_is_gone(cell))
        for name in tuple(self.standing_by):
            self._take_over_soon(name)

    # --- the end of the swarm; fulfils `system.Attachment` ----------------------------

    def attach(self, cell: Cell) -> None:  # one signature for all
        """Do nothing: a singleton is known by its spawn."""

    def detach(self, cell: Cell) -> None:  # one signature for all
        """Do nothing: its document tells."""

    def end(self) -> None:
        """Stand by for nothing any more; those here move on when this process leaves.

        Their documents stay until then: one that is removed before says that its agent
        was stopped for all.
        """
        self._ignore()
        self.standing_by.clear()
        for cell in self._running.values():
            cell.registered = False


def _is_gone(cell: Cell) -> Callable[[], bool]:
    return lambda: cell.is_gone
