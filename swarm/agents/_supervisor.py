"""The supervisor: spawns agents, pauses and stops them, and ends them.

What follows from their failures is in `_failures.py`.
"""

from collections.abc import Callable
from functools import partial
from typing import Any
from weakref import WeakValueDictionary

from swarm.agents._agent import Actor, bind, build
from swarm.agents._cell import Cell
from swarm.agents._envelope import Envelope, asking_party, caller, calling_turn
from swarm.agents._failures import Failures
from swarm.agents._group import RestartGroup, SpawnOptions
from swarm.agents._host import Host
from swarm.agents._life import (
    Completion,
    Ending,
    begin,
    close_instance,
    died,
    finish,
    halt,
    has_life,
    release,
    run_bounded,
    until_still,
)
from swarm.agents._lifecycle import RestartDecision, Status, Step, decide, follow
from swarm.agents._records import registry_path
from swarm.agents._registry import AgentTable, plan_arrival, plan_departure, plan_status
from swarm.errors import AgentDied, NameTaken
from swarm.model import OWNER, AgentIdentity, type_name


class Supervisor:
    """Looks after all agents of one swarm.

    Attributes:
        host: The system around it.
        table: The living agents.
    """

    def __init__(self, host: Host, table: AgentTable) -> None:
        """Begin without agents."""
        self.host: Host = host
        self.table: AgentTable = table
        self._replaced: dict[Cell, None] = {}  # their names are others' already
        self._failures = Failures(self, table, self._publish_later)
        self._named: WeakValueDictionary[str, RestartGroup] = WeakValueDictionary()
        # A simulation has its own: one whose messages and turns can go wrong.
        self._cell_type: type[Cell] = host.runtime.substitute(Cell)

    def group_of(self, cell: Cell) -> RestartGroup | None:
        """Return the innermost group that an agent is in, or None."""
        return self._failures.groups.get(cell)

    # --- spawn ------------------------------------------------------------------------

    async def spawn(
        self,
        factory: Callable[..., Any],
        args: tuple[Any, ...],
        options: SpawnOptions,
        group: RestartGroup | None = None,
        spawner: AgentIdentity = OWNER,
    ) -> Cell:
        """Build an agent, run `started`, announce it; all or nothing."""
        if self.host.pause is not None:
            await self.host.pause()
        self.host.check(spawning=True)
        cell = self._prepare(factory, args, options, spawner)
        self.table.cells[cell.name] = cell
        if cell.replaces is not None:
            self._replaced[cell.replaces] = None
        if group is not None:
            group.add(cell)
            self._failures.groups[cell] = group
        try:
            if cell.replaces is not None:
                await self._replace(cell)
            await begin(cell)
            self.host.attach(cell)
            cell.registered = True
            if self.host.commits_at_once:
                self.host.apply_now(cell.identity, plan_arrival, cell)
            else:
                await self.announce(cell)
        except BaseException as error:
            self.end(cell, "killed")
            if isinstance(error, Exception):
                await cell.until(lambda: cell.is_gone)
            closed = self.host.closed_error()
            if isinstance(error, AgentDied) and closed is not None:
                raise closed from error
            raise
        return cell

    async def announce(self, cell: Cell) -> None:
        """Write an agent into the registry, which other processes may share.

        Raises:
            NameTaken: An agent of this name lives in another process.
        """
        await self.host.apply(cell.identity, plan_arrival, cell)

    def _prepare(
        self,
        factory: Callable[..., Any],
        args: tuple[Any, ...],
        options: SpawnOptions,
        spawner: AgentIdentity,
    ) -> Cell:
        """Check everything and build the agent, which nothing can see yet."""
        options.check()
        name, table = options.name, self.table
        path = None if name is None else registry_path(name)
        if name is not None and name in table.cells and not options.replace:
            raise NameTaken(
                f"an agent called '{name}' is already running; pass replace=True to "
                "replace it"
            )
        agent = build(factory, args)
        kind = type_name(type(agent))
        if path is None:
            path = table.new_path(kind)
        name = str(path.segments[-1])
        identity = AgentIdentity(name, kind, name, options.role or kind)
        old = table.cells.get(name)
        if spawner is not OWNER and spawner != OWNER:
            self.host.check_spawn(spawner, name, identity.role)
        if old is not None:
            self.check_end(old, forced=True)
        cell = self._cell_type(
            self,
            identity,
            path,
            agent,
            factory,
            args,
            options.restart,
            options.mailbox,
            tuple(options.capabilities),
            options.shutdown,
        )
        cell.spawner = spawner
        if old is not None:
            cell.replaces = old
        bind(agent, cell)
        return cell

    async def _replace(self, cell: Cell) -> None:
        """Stop the agent that a newcomer replaces, and the agents before it.

        Raises:
            AgentDied: The newcomer itself was ended meanwhile.
            Exception: What the predecessor's end raised.
        """
        while (old := cell.replaces) is not None and not cell.killed:
            end = Ending(old, "to end")
            with self.host.graph.waiting(asking_party(self.host, end), end):
                self._begin_stop(old, own=False)
                await cell.until(partial(_is_settled, old, cell), also=old)
            if old.is_gone:
                cell.replaces = old.replaces
                _raise_failure(old)
        if cell.killed:
            raise died(cell, f"was {cell.reason}")

    def check_end(self, cell: Cell, *, forced: bool) -> None:
        """Refuse a caller that may not end or pause an agent.

        Raises:
            AccessDenied: The policy does not allow it.
        """
        identity = caller()
        if identity not in (OWNER, cell.identity, cell.spawner):
            self.host.check_end(identity, cell.path, forced=forced)

    async def _publish(self, cell: Cell) -> None:
        """Write down a status that changed."""
        if cell.registered:
            await self.host.apply(cell.identity, plan_status, cell)

    def _publish_later(self, cell: Cell) -> None:
        self.host.start(self._publish(cell), f"agent {cell} status")

    # --- life -------------------------------------------------------------------------

    def pause(self, cell: Cell) -> Completion:
        """Take up nothing more until `resume`."""
        self.check_end(cell, forced=False)
        cell.become(follow(cell.status, Step.PAUSE, cell.name))
        return self._settled(cell, cell.is_busy)

    def resume(self, cell: Cell) -> Completion:
        """Go on."""
        self.check_end(cell, forced=False)
        cell.become(follow(cell.status, Step.RESUME, cell.name))
        cell.wake()
        return self._settled(cell, lambda: False)

    def _settled(self, cell: Cell, unless: Callable[[], bool]) -> Completion:
        """Write the status down; complete once `unless` no longer holds."""
        cell.notify()
        turn = calling_turn()
        own = turn is not None and turn.cell is cell

        async def settle() -> None:
            await self._publish(cell)
            if not own:
                await cell.until(lambda: not unless())

        task = self.host.start(settle(), f"agent {cell} status")
        return Completion(task, None if own else Ending(cell, "to finish its turns"))

    def kill(self, cell: Cell) -> Completion:
        """End an agent now."""
        self.check_end(cell, forced=True)
        self.end(cell, "killed")
        turn = calling_turn()
        if turn is not None and turn.cell is cell:
            return Completion()
        return Completion(cell.ending)

    async def ended(self, cell: Cell) -> str:
        """Wait until an agent has ended; return how."""
        await cell.until(lambda: cell.is_gone)
        return cell.reason

    def end(self, cell: Cell, reason: str) -> None:
        """End an agent now, unless it has ended; its tasks end a little later."""
        if cell.status is Status.OFFLINE:
            return
        self._forget(cell, reason)
        if cell.ending is None:
            cell.ending = self.host.start(
                self._complete_end(cell), f"agent {cell} end", essential=True
            )

    def end_all(self, reason: str) -> None:
        """End every agent now, the youngest first."""
        for cell in reversed((*self._replaced, *self.table.cells.values())):
            self.end(cell, reason)

    def _forget(self, cell: Cell, reason: str) -> None:
        finish(cell, reason)
        self.host.detach(cell)
        self.table.remove(cell)
        self._stop_timer(cell, None)
        self._failures.forget(cell)

    async def _complete_end(self, cell: Cell) -> None:
        """Wait for an agent's tasks, close what it has open, remove its document."""
        try:
            await until_still(cell)
            error = await close_instance(cell, cell.reason)
            if error is not None:
                self._failures.note(cell, error, RestartDecision.STOP)
                if cell.reason == "stopped":
                    cell.reason, cell.error = "failed", error
                else:
                    self.host.report(error)
            await release(cell)
            if cell.surfaces is not None:
                await cell.surfaces.ended(cell.reason)
            await self._depart(cell)
        finally:
            self._is_gone(cell)

    def _is_gone(self, cell: Cell) -> None:
        """Note that an agent has ended completely."""
        cell.is_gone = True
        self._replaced.pop(cell, None)
        cell.notify()

    async def _depart(self, cell: Cell) -> None:
        """Remove an agent's document and announce its end."""
        if cell.registered:
            await self.host.apply(cell.identity, plan_departure, cell, self.table)
            cell.registered = False

    async def stop(self, cell: Cell, timeout: float | None) -> None:
        """Let an agent finish what is queued, then end it; see `Ref.stop`."""
        if self.host.pause is not None:
            await self.host.pause()
        self.check_end(cell, forced=timeout is not None)
        if self._ends_at_once(cell):
            return
        turn = calling_turn()
        own = turn is not None and turn.cell is cell
        end = Ending(cell, "to end")
        party = None if own else asking_party(self.host, end)
        with self.host.graph.waiting(party, end):
            self._begin_stop(cell, own=own)
            if timeout is not None and not cell.is_gone:
                self._stop_timer(cell, timeout)
            if own:
                return
            await Completion(cell.ending)
            _raise_failure(cell)

    def _ends_at_once(self, cell: Cell) -> bool:
        """End an agent that has nothing to do, which needs no task; return whether."""
        if (
            cell.status not in (Status.IDLE, Status.PAUSED)
            or has_life(cell)
            or not self.host.commits_at_once
        ):
            return False
        self._forget(cell, "stopped")
        if cell.registered:
            self.host.apply_now(cell.identity, plan_departure, cell, self.table)
            cell.registered = False
        self._is_gone(cell)
        return True

    def _begin_stop(self, cell: Cell, *, own: bool) -> None:
        """Have an agent stop; it may have ended when this returns."""
        if not own:
            cell.stops_itself = False
        if cell.status in (Status.ERROR, Status.INITIALIZING):
            self.end(cell, "stopped")
        elif cell.status in (Status.IDLE, Status.PAUSED):
            if self._ends_at_once(cell):
                return
            cell.stops_itself = own
            cell.become(follow(cell.status, Step.DRAIN, cell.name))
            cell.notify()
            cell.wake()
            cell.ending = self.host.start(
                self._drain(cell), f"agent {cell} end", essential=True
            )

    def _stop_timer(self, cell: Cell, timeout: float | None) -> None:
        """End the agent unless it has stopped in `timeout` seconds; None: never."""
        if cell.stop_timer is not None:
            cell.stop_timer.cancel()
            cell.stop_timer = None
        if timeout is not None:
            when = self.host.now() + timeout
            cell.stop_timer = self.host.clock.call_at(
                when, partial(self.end, cell, "killed")
            )

    async def _drain(self, cell: Cell) -> None:
        """Bring a stopping agent to its end."""
        await cell.until(lambda: cell.killed or cell.is_drained())
        for task in () if cell.killed else tuple(cell.children or ()):
            task.cancel()
        if not cell.killed:
            await until_still(cell)
        if not cell.killed:
            reason = "stopped"
            error = None
            stopping = type(cell.agent).stopping
            if stopping is not Actor.stopping:
                error = await run_bounded(cell, stopping)
            if error is not None and not cell.killed:
                reason = "failed"
                cell.failures += 1
                cell.error = error
                self._failures.note(cell, error, RestartDecision.STOP)
                if cell.stops_itself and cell.restart is None:
                    self.host.escalate(error)
            if reason == "stopped" and self._restarts_itself(cell):
                return
            self.end(cell, reason)
        await self._complete_end(cell)

    def _restarts_itself(self, cell: Cell) -> bool:
        """Restart a permanent agent that only its own turn has asked to stop."""
        permanent = decide(cell.restart, None) is RestartDecision.RESTART
        if not permanent or cell.killed or not cell.stops_itself:
            return False
        cell.ending = None
        self._stop_timer(cell, None)
        halt(cell)
        self._failures.restart(cell, AgentDied(f"agent {cell} stopped by itself"))
        return True

    # --- failure ----------------------------------------------------------------------

    def failed(
        self, cell: Cell, error: BaseException, envelope: Envelope | None = None
    ) -> None:
        """Take a failure that no asker receives, and the request in hand."""
        self._failures.failed(cell, error, envelope)

    def interrupted(self, cell: Cell) -> None:
        """Take note that something an agent left open has cancelled its own task."""
        self._failures.interrupted(cell)

    async def revive(self, cell: Cell, reason: str) -> None:
        """Build a halted agent anew and let it begin; a failure counts as one more."""
        await self._failures.revive(cell, reason)

    def give_up(self, cell: Cell, error: BaseException) -> None:
        """Pass the failure of a halted agent on to its group, or to the system."""
        self._failures.give_up(cell, error)

    # --- groups -----------------------------------------------------------------------

    def group(self, group: RestartGroup) -> RestartGroup:
        """Return the group of this name, which is new or has the same configuration.

        Raises:
            ConfigMismatch: There is one with another configuration.
        """
        known = self._named.setdefault(group.name, group)
        known.check_same(group)
        return known


def _is_settled(old: Cell, new: Cell) -> bool:
    """Return whether an agent need not wait any more for the one that it replaces."""
    return old.is_gone or new.killed


def _raise_failure(cell: Cell) -> None:
    """Raise what made the end of a stopping agent fail."""
    if cell.reason == "failed" and isinstance(cell.error, Exception):
        raise cell.error
