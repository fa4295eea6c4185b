"""Agents that receive handoffs and do the stages of pipelines, as turns."""

import asyncio
import inspect
import logging
from contextlib import suppress
from typing import Any, Final

from swarm.agents import Cell, PassedRef
from swarm.errors import AgentDied, Closed, InvalidTransition, NoSuchAgent, SwarmError
from swarm.system._coordinator import Coordinator
from swarm.system._passage import handoff_manager_of, handoffs_of
from swarm.work import (
    Claim,
    Handoff,
    HandoffRecord,
    HandoffStatus,
    as_json,
    is_addressed,
)

_HOOK: Final = "handoff"

_NOT_ITS_FAULT: Final = (
    asyncio.CancelledError,
    NoSuchAgent,
    AgentDied,
    Closed,
    InvalidTransition,  # another agent was faster
)

log: Final = logging.getLogger("swarm")


class Receivers:
    """The agents of a swarm that take handoffs: `async def handoff(self, offer)`.

    The hook is called as a turn. What it accepts ends with the turn: its result
    completes the task, its exception fails the attempt. An offer that it neither
    accepts nor rejects stays open. Fulfils `Attachment`.
    """

    def __init__(self, coordinator: Coordinator) -> None:
        """Call no agent yet."""
        self._coordinator = coordinator
        self._cells: dict[str, Cell] = {}
        self._called: dict[str, set[Cell]] = {}
        self._is_ending = False

    def attach(self, cell: Cell) -> None:
        """Call an agent's `handoff` for the offers that are addressed to it."""
        hook = getattr(type(cell.agent), _HOOK, None)
        if not inspect.iscoroutinefunction(hook):
            return
        manager = handoff_manager_of(self._coordinator)
        self._cells[cell.name] = cell
        manager.on_change = self._changed
        for record in manager.open_offers():
            self._changed(record)

    def detach(self, cell: Cell) -> None:
        """Call an agent no more; idempotent."""
        if self._cells.get(cell.name) is cell:
            del self._cells[cell.name]

    def end(self) -> None:
        """Call no agent any more; what runs is finished."""
        self._is_ending = True

    def _changed(self, record: HandoffRecord) -> None:
        """Take in a handoff's new record; called in the middle of a commit."""
        if record.status is not HandoffStatus.REQUESTED:
            self._called.pop(record.id, None)
            return
        called = self._called.setdefault(record.id, set())
        for cell in self._cells.values():
            if self._is_ending or cell in called or not _is_for(record, cell):
                continue
            called.add(cell)
            self._coordinator.start(
                self._call(cell, record.id), f"agent {cell} handoff", essential=True
            )

    async def _call(self, cell: Cell, handoff_id: str) -> None:
        try:
            handoffs = handoffs_of(self._coordinator, cell.identity)
            offer = await handoffs.receive(handoff_id)
        except SwarmError:
            return  # it is gone, or the swarm is
        if offer.status is not HandoffStatus.REQUESTED:
            return
        offer.host = asyncio.current_task()
        error: BaseException | None = None
        result: Any = None
        try:
            ref = PassedRef[Any](cell, float("inf"))
            hook = getattr(type(cell.agent), _HOOK)
            result = as_json(await ref.ask(hook, offer))
        except BaseException as raised:  # noqa: BLE001  # the attempt ends by it
            error = raised
        await _end(offer, error, result)
        current = asyncio.current_task()
        if current is not None and current.cancelling():
            raise asyncio.CancelledError


def _is_for(record: HandoffRecord, cell: Cell) -> bool:
    agent = {
        "id": cell.name,
        "role": cell.identity.role,
        "capabilities": cell.capabilities,
    }
    return cell.name != record.sender and is_addressed(record.to, agent)


async def _end(offer: Handoff, error: BaseException | None, result: Any) -> None:
    """End what a turn has accepted, as the turn has ended."""
    claim: Claim | None = offer.claim
    if claim is not None and claim.is_live:
        with suppress(SwarmError):  # lost meanwhile, or the lease bounds what is left
            await claim.leave(error, result)
        return
    if error is None or isinstance(error, _NOT_ITS_FAULT):
        return
    if claim is None:
        with suppress(SwarmError):
            await offer.reject(f"{type(error).__name__}: {error}")
    elif not isinstance(error, SwarmError):
        log.error(
            "%r failed after it had ended its claim",
            offer,
            exc_info=error,
            extra={"handoff": offer.id, "task": offer.task_id},
        )
