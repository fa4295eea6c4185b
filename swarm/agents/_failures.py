"""Handling an agent's failure: a restart, the agent's end, or its group's end."""

import traceback
from collections.abc import Callable
from typing import Final

from swarm.agents._agent import bind, build
from swarm.agents._cell import Cell, log
from swarm.agents._envelope import Envelope
from swarm.agents._group import RestartGroup
from swarm.agents._host import Host, Supervision
from swarm.agents._life import begin, close_instance, halt, release, until_still
from swarm.agents._lifecycle import (
    RestartDecision,
    Status,
    Step,
    Times,
    admit,
    decide,
    follow,
)
from swarm.agents._protocol import calls_of
from swarm.agents._records import AgentFailure
from swarm.agents._registry import AgentTable
from swarm.errors import RemoteCancelled
from swarm.model import repr_of, to_datetime

_FRAMES: Final = 20
"""The number of frames of a traceback that are kept, as text."""

_DYING: Final = (Status.ERROR, Status.OFFLINE)


class Failures:
    """Decides what follows from failures that no asker receives.

    Attributes:
        groups: The innermost group of each agent that is in one.
    """

    def __init__(
        self,
        supervisor: Supervision,
        table: AgentTable,
        changed: Callable[[Cell], object],
    ) -> None:
        """Know of no failure; call `changed` to write a status down."""
        self._supervisor = supervisor
        self._host: Host = supervisor.host
        self._table = table
        self._changed = changed
        self.groups: dict[Cell, RestartGroup] = {}
        self._times: dict[Cell, Times] = {}

    def forget(self, cell: Cell) -> None:
        """Forget an agent that has ended."""
        self._times.pop(cell, None)
        group = self.groups.pop(cell, None)
        if group is not None:
            group.forget(cell)

    def failed(
        self, cell: Cell, error: BaseException, envelope: Envelope | None = None
    ) -> None:
        """Take a failure that no asker receives, and the request in hand."""
        decision = decide(cell.restart, error)
        if cell.status in _DYING or (
            cell.status is Status.DRAINING and decision is RestartDecision.RESTART
        ):
            decision = RestartDecision.STOP
        if cell.status in _DYING:
            self.note(cell, error, decision)
            if not isinstance(error, Exception):
                self._host.escalate(error)
            return
        cell.error = error
        if decision is RestartDecision.STOP:
            self.note(cell, error, decision)
            self._supervisor.end(cell, "failed")
            return
        if cell.status is Status.DRAINING:
            self.note(cell, error, decision)
            self._supervisor.end(cell, "failed")
            self._host.escalate(error)
            return
        self.note(cell, error, decision)
        halt(cell)
        if (
            decision is RestartDecision.RESTART
            and envelope is not None
            and cell.restart is not None
            and cell.restart.in_hand == "redeliver"
        ):
            cell.put_back(envelope)
        self._decided(cell, error, decision)

    def _decided(
        self, cell: Cell, error: BaseException, decision: RestartDecision
    ) -> None:
        """Restart a halted agent, or pass its failure on."""
        if decision is RestartDecision.RESTART:
            self.restart(cell, error)
        else:
            self.give_up(cell, error)

    def interrupted(self, cell: Cell) -> None:
        """Take note that something an agent left open has cancelled its own task."""
        if cell.status not in _DYING and cell.status is not Status.DRAINING:
            halt(cell)
            self._host.start(self._interrupted(cell), f"agent {cell} interrupted")

    async def _interrupted(self, cell: Cell) -> None:
        """Close the instance, and treat what that raises as the agent's failure."""
        await until_still(cell)
        error: BaseException | None = None
        if cell.status is Status.ERROR:
            error = await close_instance(cell, "failed")
        if error is None:
            error = RemoteCancelled(
                f"the task of agent {cell} was cancelled by something it left open"
            )
        if cell.status is Status.ERROR:
            decision = decide(cell.restart, error)
            cell.failures += 1
            cell.error = error
            self.note(cell, error, decision)
            if decision is RestartDecision.STOP:
                self._supervisor.end(cell, "failed")
            else:
                self._decided(cell, error, decision)

    def restart(self, cell: Cell, error: BaseException) -> None:
        """Restart a halted agent, if its limit allows one more."""
        restart = cell.restart
        assert restart is not None  # or nothing would restart it
        ok, times = admit(
            self._times.get(cell, ()), self._host.now(), restart.max, restart.within
        )
        self._times[cell] = times
        if not ok:
            error.add_note(f"agent {cell} was restarted {restart.max} times already")
            self.give_up(cell, error)
            return
        chance = self._host.entropy.jitter(0.0, 1.0)
        delay = restart.backoff.delay(len(times), chance)
        group = self.groups.get(cell)
        if group is None:
            group = self.groups[cell] = RestartGroup(
                self._supervisor, "", "one_for_one"
            )
            group.add(cell)
        group.member_failed(cell, error, delay)

    def give_up(self, cell: Cell, error: BaseException) -> None:
        """Pass the failure of a halted agent on to its group, or to the system."""
        group = self.groups.get(cell)
        if group is not None:
            group.give_up(error)
        else:
            self._supervisor.end(cell, "failed")
            self._host.escalate(error)

    async def revive(self, cell: Cell, reason: str) -> None:
        """Build a halted agent anew and let it begin; a failure counts as one more.

        Args:
            cell: The agent.
            reason: Why its last instance ended.
        """
        if cell.killed:
            return  # its end is another task's
        try:
            await until_still(cell)
            error = None
            if cell.status is Status.ERROR:
                error = await close_instance(cell, reason)
            if cell.status is Status.ERROR and cell.surfaces is not None:
                await cell.surfaces.ended(reason)
            if cell.status is Status.ERROR and cell.keeps:
                await release(cell)  # the new instance gets a task of its own
            if cell.status is not Status.ERROR:
                return  # it was ended meanwhile
            if error is not None:
                self.note(cell, error, RestartDecision.RESTART)
            cell.surfaces = cell.context = None
            cell.is_interrupted = False
            cell.become(follow(cell.status, Step.RESTART, cell.name))
            cell.restarts += 1
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
        self._changed(cell)

    def note(self, cell: Cell, error: BaseException, decision: RestartDecision) -> None:
        """Log a failure, keep it for the registry, and write the status down."""
        extra = {"agent": cell.name, "decision": str(decision)}
        text = repr_of(error)
        log.error("agent %s failed: %s", cell, text, exc_info=error, extra=extra)
        trace = "".join(traceback.format_exception(error, limit=-_FRAMES))
        failure = AgentFailure(
            agent=cell.name,
            error=error,
            at=to_datetime(self._host.clock.wall()),
            decision=decision.value,
            trace=trace,
        )
        self._table.note_failure(failure)
        if decision is not RestartDecision.ESCALATE:  # else it is raised in the end
            _forget_frames(error)
        if cell.registered and cell.status not in _DYING:
            self._changed(cell)


def _forget_frames(error: BaseException) -> None:
    """Let go of the frames, and so of the locals, of an error that is only kept."""
    chain: list[BaseException | None] = [error]
    seen: set[int] = set()
    while chain:
        each = chain.pop()
        if each is not None and id(each) not in seen:
            seen.add(id(each))
            each.__traceback__ = None
            chain += [each.__cause__, each.__context__]
            chain += each.exceptions if isinstance(each, BaseExceptionGroup) else ()
