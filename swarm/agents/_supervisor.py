"""The supervisor: spawns agents, ends them, and answers for their failures."""

from collections.abc import Callable
from functools import partial
from typing import Any, Final

from swarm.agents._agent import bind
from swarm.agents._asking import asking_party
from swarm.agents._cell import Cell
from swarm.agents._envelope import Envelope, calling_turn
from swarm.agents._group import Group, SpawnOptions
from swarm.agents._host import Host
from swarm.agents._life import (
    Completion,
    Ending,
    begin,
    build,
    finish,
    halt,
    has_life,
    run_hook,
)
from swarm.agents._lifecycle import Status, Step, follow, health_of
from swarm.agents._protocol import calls_of
from swarm.agents._records import AgentRecord, Failure, registry_path, status_in
from swarm.agents._registry import Registry
from swarm.agents._restart import (
    Decision,
    Restart,
    Times,
    admit,
    decide,
)
from swarm.agents._turns import log
from swarm.errors import AgentDied, NameTaken
from swarm.model import (
    AgentHealthChanged,
    AgentIdentity,
    AgentRegistered,
    AgentStarted,
    AgentStopped,
    type_name,
)
from swarm.ports import Plan, View, Write, current_runtime

_DYING: Final = (Status.ERROR, Status.OFFLINE)


class Supervisor:
    """Looks after all agents of one swarm.

    Attributes:
        host: The system around it.
        registry: Who is there.
    """

    def __init__(self, host: Host, registry: Registry) -> None:
        """Begin with no agents."""
        self.host: Host = host
        self.registry: Registry = registry
        self._groups: dict[Cell, Group] = {}
        self._times: dict[Cell, Times] = {}
        self._named: dict[str, Group] = {}
        # A simulation has its own: one whose messages and turns can go wrong.
        self._cell_type: type[Cell] = current_runtime().substitute(Cell)

    # --- spawn --------------------------------------------------------------------

    async def spawn(
        self,
        factory: Callable[..., Any],
        args: tuple[Any, ...],
        options: SpawnOptions,
        group: Group | None = None,
    ) -> Cell:
        """Build an agent, run `started`, announce it; all or nothing."""
        cell, old = self._prepare(factory, args, options)
        self.registry.add(cell)
        if group is not None:
            group.add(cell)
            self._groups[cell] = group
        try:
            if old is not None:
                await self.stop(old, None)
            await begin(cell)
            self.host.attach(cell)
            cell.registered = True
            await self._announce(cell)
        except BaseException as error:
            self.end(cell, "killed")
            if isinstance(error, Exception):
                await cell.until(cell.is_over)
            closed = self.host.closed_error()
            if isinstance(error, AgentDied) and closed is not None:
                raise closed from error
            raise
        return cell

    def _prepare(
        self, factory: Callable[..., Any], args: tuple[Any, ...], options: SpawnOptions
    ) -> tuple[Cell, Cell | None]:
        """Check everything and build the agent; nobody can see it yet."""
        name, restart, registry = options.name, options.restart, self.registry
        if options.mailbox < 1:
            raise ValueError(
                f"a mailbox holds 1 request or more, not {options.mailbox}"
            )
        if restart is not None and not isinstance(restart, Restart):
            raise TypeError(f"restart takes a Restart or None, not {restart!r}")
        if isinstance(options.capabilities, str):
            raise TypeError("capabilities is a list of names, not one text")
        path = None if name is None else registry_path(name)
        if name in registry and not options.replace:
            raise NameTaken(
                f"an agent called '{name}' is already running; pass replace=True to "
                "replace it"
            )
        agent = build(factory, args)
        kind = type_name(type(agent))
        if path is None:
            path = registry.new_path(kind)
        name = str(path.segments[-1])
        identity = AgentIdentity(name, kind, name, options.role or kind)
        old = registry.find_cell(name)
        cell = self._cell_type(
            self,
            identity,
            path,
            agent,
            factory,
            args,
            restart,
            options.mailbox,
            tuple(options.capabilities),
        )
        bind(agent, cell)
        return cell, old

    async def _announce(self, cell: Cell) -> None:
        await self.host.apply(cell.identity, _plan_arrival, cell)

    async def _publish(self, cell: Cell) -> None:
        """Write down a status that changed."""
        if cell.registered:
            await self.host.apply(cell.identity, _plan_status, cell)

    def _publish_later(self, cell: Cell) -> None:
        self.host.start(self._publish(cell), f"agent {cell} status")

    # --- life -----------------------------------------------------------------------

    def pause(self, cell: Cell) -> Completion:
        """Take up nothing more until `resume`."""
        cell.status = follow(cell.status, Step.PAUSE, cell.name)
        cell.open = False
        return self._settled(cell, cell.is_busy)

    def resume(self, cell: Cell) -> Completion:
        """Go on."""
        cell.status = follow(cell.status, Step.RESUME, cell.name)
        cell.open = True
        cell.begin_aside()
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
        self.end(cell, "killed")
        turn = calling_turn()
        if turn is not None and turn.cell is cell:
            return Completion()
        return Completion(cell.ending)

    def end(self, cell: Cell, reason: str) -> None:
        """End an agent now, unless it has ended; its tasks end a little later."""
        if cell.status is Status.OFFLINE:
            return
        self._forget(cell, reason)
        if cell.ending is None:
            cell.ending = self.host.start(
                self._bury(cell), f"agent {cell} end", essential=True
            )

    def _forget(self, cell: Cell, reason: str) -> None:
        finish(cell, reason)
        self.host.detach(cell)
        self.registry.remove(cell)
        self._times.pop(cell, None)
        group = self._groups.pop(cell, None)
        if group is not None:
            group.forget(cell)

    async def _bury(self, cell: Cell) -> None:
        """Wait for an agent's tasks, then take its document away."""
        await cell.until(cell.is_over)
        if cell.surfaces is not None:
            await cell.surfaces.ended()
        await self._depart(cell)

    async def _depart(self, cell: Cell) -> None:
        """Take an agent's document away and say that it has gone."""
        if cell.registered:
            await self.host.apply(cell.identity, self._plan_departure, cell)
            cell.registered = False

    def _plan_departure(self, view: View, cell: Cell) -> Plan:
        if view.find(cell.path) is None:
            return Plan()  # its arrival had yet to be committed, and will not be
        heir = self.registry.find_cell(cell.name)
        is_inherited = heir is not None and heir.registered
        writes = () if is_inherited else (Write(cell.path),)
        return Plan(writes, (AgentStopped(cell.name, cell.reason),))

    async def stop(self, cell: Cell, timeout: float | None) -> None:
        """Let an agent finish what is queued, then end it; see `Ref.stop`."""
        turn = calling_turn()
        own = turn is not None and turn.cell is cell
        end = Ending(cell, "to end")
        party = None if own else asking_party(self.host, end)
        with self.host.graph.waiting(party, end):
            await self._stop(cell, timeout, own)

    async def _stop(self, cell: Cell, timeout: float | None, own: bool) -> None:
        if cell.status in (Status.ERROR, Status.INITIALIZING):
            self.end(cell, "stopped")
        elif (
            cell.status in (Status.IDLE, Status.PAUSED)
            and not has_life(cell)
            and self.host.commits_at_once
        ):
            await self._stop_at_once(cell)
            return
        elif cell.status not in (Status.DRAINING, Status.OFFLINE):
            cell.status = follow(cell.status, Step.DRAIN, cell.name)
            cell.accepting = False
            cell.notify()
            cell.open = True
            cell.begin_aside()
            cell.wake()
            cell.ending = self.host.start(
                self._drain(cell, own), f"agent {cell} end", essential=True
            )
        timer = None
        if timeout is not None:
            when = self.host.now() + timeout
            timer = self.host.clock.call_at(when, partial(self.end, cell, "killed"))
        if own:
            return
        await Completion(cell.ending)
        if timer is not None:
            timer.cancel()
        if cell.reason == "failed" and isinstance(cell.error, Exception):
            raise cell.error

    async def _stop_at_once(self, cell: Cell) -> None:
        """End an agent that never had anything to do: no task is needed for that.

        But where a commit can suspend, so that it can be cancelled or come too late.
        """
        self._forget(cell, "stopped")
        await self._depart(cell)

    async def _drain(self, cell: Cell, own: bool) -> None:
        """Bring a stopping agent to its end."""
        await cell.until(lambda: cell.killed or cell.is_drained())
        if cell.main is not None and not cell.killed:
            cell.main.cancel()
            await cell.until(lambda: cell.main is None)
        if not cell.killed:
            reason = "stopped"
            try:
                await run_hook(cell, "stopping")
            except Exception as error:  # noqa: BLE001  # stop() raises it
                if not cell.killed:
                    reason = "failed"
                    cell.failures += 1
                    cell.error = error
                    self._note(cell, error, Decision.STOP)
                    if own and cell.restart is None:
                        self.host.escalate(error)
            if own and reason == "stopped" and self._restarts_itself(cell):
                return
            self.end(cell, reason)
        await self._bury(cell)

    def _restarts_itself(self, cell: Cell) -> bool:
        """Restart a permanent agent that stopped of its own accord."""
        if decide(cell.restart, None) is not Decision.RESTART or cell.killed:
            return False
        cell.ending = None
        cell.accepting = True
        halt(cell)
        self._restart(cell, AgentDied(f"agent {cell} stopped by itself"))
        return True

    # --- failure ----------------------------------------------------------------------

    def failed(
        self, cell: Cell, error: Exception, envelope: Envelope | None = None
    ) -> None:
        """Take a failure that no asker receives, and what was in hand."""
        decision = decide(cell.restart, error)
        if cell.status in _DYING or (
            cell.status is Status.DRAINING and decision is Decision.RESTART
        ):
            decision = Decision.STOP
        self._note(cell, error, decision)
        cell.error = error
        if cell.status in _DYING:
            return
        if decision is Decision.STOP:
            self.end(cell, "failed")
            return
        if cell.status is Status.DRAINING:
            self.end(cell, "failed")
            self.host.escalate(error)
            return
        halt(cell)
        if decision is Decision.ESCALATE:
            self.give_up(cell, error)
            return
        if (
            envelope is not None
            and cell.restart is not None
            and cell.restart.in_hand == "redeliver"
            and cell.mailbox is not None
        ):
            cell.mailbox.put_back(envelope)
        self._restart(cell, error)

    def _restart(self, cell: Cell, error: Exception) -> None:
        """Restart a halted agent, if its limit allows one more."""
        restart = cell.restart
        assert restart is not None  # or nobody would restart it
        ok, times = admit(
            self._times.get(cell, ()), self.host.now(), restart.max, restart.within
        )
        self._times[cell] = times
        if not ok:
            error.add_note(f"agent {cell} was restarted {restart.max} times already")
            self.give_up(cell, error)
            return
        chance = self.host.entropy.jitter(0.0, 1.0)
        delay = restart.backoff.delay(len(times), chance)
        group = self._groups.get(cell)
        if group is None:
            group = self._groups[cell] = Group(self, "", "one_for_one")
            group.add(cell)
        group.member_failed(cell, error, delay)

    def give_up(self, cell: Cell, error: Exception) -> None:
        """Pass the failure of a halted agent on to its group, or to the system."""
        group = self._groups.get(cell)
        if group is not None:
            group.give_up(error)
        else:
            self.end(cell, "failed")
            self.host.escalate(error)

    async def revive(self, cell: Cell) -> None:
        """Build a halted agent anew and let it begin; a failure counts as one more."""
        if cell.status is not Status.ERROR:
            return
        cell.status = follow(cell.status, Step.RESTART, cell.name)
        cell.restarts += 1
        try:
            if cell.surfaces is not None:
                cell.surfaces.end()
                await cell.surfaces.ended()
                cell.surfaces = None
            agent = build(cell.factory, cell.args)
            cell.agent = agent
            cell.calls = calls_of(type(agent))
            bind(agent, cell)
            await begin(cell)
        except Exception as error:  # noqa: BLE001  # failed() takes it
            if cell.status is Status.INITIALIZING:
                cell.failures += 1
                self.failed(cell, error)
            return
        self._publish_later(cell)

    def _note(self, cell: Cell, error: Exception, decision: Decision) -> None:
        log.error("agent %s failed: %r", cell, error, exc_info=error)
        at = self.host.clock.wall()
        self.registry.note_failure(
            Failure(agent=cell.name, error=error, at=at, decision=decision.value)
        )
        if cell.registered and cell.status not in _DYING:
            self._publish_later(cell)

    # --- groups -----------------------------------------------------------------------

    def group(self, group: Group) -> Group:
        """Return the group of this name, which is new or has the same configuration.

        Raises:
            ConfigMismatch: There is one with another configuration.
        """
        known = self._named.setdefault(group.name, group)
        known.check_same(group)
        return known


# Rules see the agent as it is when they are committed, not when that was asked for:
# commits that overtake each other must neither leave an old status behind nor bring
# back the document of an agent that has gone meanwhile.


def _plan_arrival(view: View, cell: Cell) -> Plan:
    view.find(cell.path)
    if cell.status is Status.OFFLINE:
        return Plan()
    who, kind, role = cell.name, cell.identity.type, cell.identity.role
    return Plan(
        (Write(cell.path, record=_record(cell)),),
        (AgentRegistered(who, kind, role, cell.capabilities), AgentStarted(who)),
    )


def _plan_status(view: View, cell: Cell) -> Plan:
    document = view.find(cell.path)
    if document is None or cell.status is Status.OFFLINE:
        return Plan()
    was, now = health_of(status_in(document)), health_of(cell.status)
    events: tuple[object, ...] = ()
    if was != now:
        reason = repr(cell.error) if now == "failed" else ""
        events = (AgentHealthChanged(cell.name, now, was, reason),)
    return Plan((Write(cell.path, record=_record(cell)),), events)


def _record(cell: Cell) -> AgentRecord:
    return AgentRecord(cell.identity, cell.capabilities, cell.started_at, cell.status)
