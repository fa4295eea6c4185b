"""Faults as they happen: counted at the seams of swarm, decided in the loop."""

# ruff: noqa: SLF001
from __future__ import annotations

import contextvars
from collections.abc import Callable, Iterable
from typing import Any, Protocol

from swarm.testing._errors import SimulationError
from swarm.testing._handles import SimHandle
from swarm.testing._virtual import VirtualLoop
from swarm.testing.faults._plan import ANY, OCCASIONS, Fault, Kind, Occasion


class FaultTarget(Protocol):
    """An agent that can be made to fail."""

    @property
    def name(self) -> str:
        """Its name."""
        ...

    def crash(self) -> bool:
        """Fail; return whether it was alive."""
        ...

    def tasks(self) -> list[Any]:
        """Return its tasks."""
        ...


class Injector:
    """The faults of one run: `sim.faults`.

    Agents are given by their ref or by their name, subscriptions likewise. The same
    faults can be drawn by `explore(..., faults=Faults(...))`; these methods are for a
    test that wants one of them at a place of its own.

    Attributes:
        happened: The faults so far.
    """

    def __init__(self, loop: VirtualLoop) -> None:
        self._loop = loop
        self._due: dict[tuple[str, str, int], list[Fault]] = {}
        self._freezer = TaskFreezer(loop)
        self._targets: dict[str, FaultTarget] = {}
        self._listeners: dict[str, tuple[Kind, ...]] = {}
        self.counts: dict[tuple[str, str], int] = {}
        self.happened: list[Fault] = []

    # --- for tests --------------------------------------------------------------

    def crash(self, agent: Any) -> None:
        """Have the agent fail now; see `Faults`.

        Raises:
            SimulationError: There is no such agent in this simulation.
        """
        target = self._find(agent)
        number = self.counts.get(("turn", target.name), 0)
        if target.crash():
            self.note(Fault("crash", target.name, number))

    def freeze(self, agent: Any, seconds: float) -> None:
        """Let no code of the agent run for that long, from now on.

        Raises:
            SimulationError: There is no such agent in this simulation.
        """
        target = self._find(agent)
        number = self.counts.get(("turn", target.name), 0)
        self._freeze(target, seconds)
        self.note(Fault("freeze", target.name, number, seconds))

    def slow(self, agent: Any, seconds: float) -> None:
        """Let the agent's next turn begin that long before its method does."""
        self._next("slow", agent, seconds)

    def drop(self, agent: Any) -> None:
        """Lose the next message told to the agent."""
        self._next("drop", agent)

    def duplicate(self, agent: Any) -> None:
        """Let the next message told to the agent come twice."""
        self._next("duplicate", agent)

    def delay(self, agent: Any, seconds: float) -> None:
        """Let the next message told to the agent come late."""
        self._next("delay", agent, seconds)

    def reorder(self, agent: Any, within: float = 1.0) -> None:
        """Let the next message told to the agent come after the one behind it."""
        self._next("reorder", agent, within)

    def expire(self, name: str, after: float = 0.0) -> None:
        """Let the next lease of this lock or semaphore end so many seconds later."""
        self._next("expire", name, after)

    def drop_event(self, subscription: Any) -> None:
        """Lose the next event for a subscription: for good, if it may be.

        Raises:
            SimulationError: There is no such subscription in this simulation, or that
                would break what it was promised; see `Faults`. All methods about
                events raise it.
        """
        self._next_event("drop_event", subscription)

    def duplicate_event(self, subscription: Any) -> None:
        """Lose the acknowledgement of the next event, so that it comes twice."""
        self._next_event("duplicate_event", subscription)

    def delay_event(self, subscription: Any, seconds: float) -> None:
        """Let the next event for a subscription come late."""
        self._next_event("delay_event", subscription, seconds)

    def reorder_event(self, subscription: Any) -> None:
        """Let the next event come after the one behind it, or one second late."""
        self._next_event("reorder_event", subscription)

    def crash_handler(self, subscription: Any, turns: int = 1) -> None:
        """Let the handler crash that many loop turns into the next event."""
        self._next_event("crash_handler", subscription, turns=turns)

    def jump_wall(self, seconds: float) -> None:
        """Let the wall clock, and only it, jump now."""
        number = self.counts.get(("operation", ANY), 0)
        self.note(Fault("jump", ANY, number, seconds))
        self._loop.jump_wall(seconds)

    def _find(self, agent: Any) -> FaultTarget:
        name = getattr(agent, "name", agent)
        target = self._targets.get(name)
        if target is None:
            raise SimulationError(f"no agent called {name!r} in this simulation")
        return target

    def _next(
        self, kind: Kind, agent: Any, amount: float = 0.0, turns: int = 0
    ) -> None:
        name = getattr(agent, "name", agent)
        number = self.counts.get((OCCASIONS[kind], name), 0) + 1
        self.arm([Fault(kind, name, number, amount, turns)])

    def _next_event(
        self, kind: Kind, subscription: Any, amount: float = 0.0, turns: int = 0
    ) -> None:
        name = getattr(subscription, "name", subscription)
        possible = self._listeners.get(name)
        if possible is None:
            raise SimulationError(f"no subscription {name!r} in this simulation")
        if kind not in possible:
            raise SimulationError(
                f"{kind} would break what {name!r} was promised; possible are "
                f"{', '.join(possible)}"
            )
        self._next(kind, name, amount, turns)

    # --- for the seams ----------------------------------------------------------

    def arm(self, plan: Iterable[Fault]) -> None:
        """Let these faults happen when their occasions come."""
        for fault in plan:
            place = (OCCASIONS[fault.kind], fault.target, fault.number)
            self._due.setdefault(place, []).append(fault)

    def disarm(self) -> None:
        """Let nothing go wrong from now on."""
        self._due.clear()
        self._freezer.thaw_all()

    def enter(self, target: FaultTarget) -> None:
        """Note that there is an agent; a later one of the same name replaces it."""
        self._targets[target.name] = target

    def listen(self, name: str, kinds: Iterable[Kind]) -> None:
        """Note that there is a subscription, and what can go wrong with its events."""
        self._listeners[name] = tuple(kinds)

    def event(self, name: str) -> dict[Kind, Fault]:
        """Count an event on its way to a subscription; return what goes wrong."""
        found: dict[Kind, Fault] = {}
        for kind in self._listeners[name]:
            for fault in self.at(OCCASIONS[kind], name):
                found[kind] = fault
                if kind != "crash_handler":  # which may come too late
                    self.note(fault)
        return found

    def later(
        self, fault: Fault, act: Callable[[], bool], left: int | None = None
    ) -> None:
        """Have a fault happen its turns of the loop from now, if it still can."""
        left = fault.turns if left is None else left
        if left > 0:
            self._loop.call_soon(self.later, fault, act, left - 1)
        elif act():
            self.note(fault)

    def at(self, occasion: Occasion, name: str) -> list[Fault]:
        """Count an occasion; return the faults that are due, made out to `name`."""
        counts, due = self.counts, self._due
        place = (occasion, name)
        number = counts[place] = counts.get(place, 0) + 1
        everywhere = (occasion, ANY)
        total = counts[everywhere] = counts.get(everywhere, 0) + 1
        if not due:
            return []
        return [
            *due.pop((*place, number), ()),
            *(
                fault._replace(target=name, number=number)
                for fault in due.pop((*everywhere, total), ())
            ),
        ]

    def turn(self, target: FaultTarget) -> float:
        """Count a turn that begins; return by how many seconds it is slowed."""
        slowed = 0.0
        for fault in self.at("turn", target.name):
            if fault.kind == "crash":
                self.later(fault, target.crash)
            elif fault.kind == "freeze":
                self.later(fault, lambda f=fault: self._freeze(target, f.amount))  # type: ignore[misc]
            else:
                self.note(fault)
                slowed += fault.amount
        return slowed

    def operation(self) -> None:
        """Count an operation on the tree."""
        counts = self.counts
        place = ("operation", ANY)
        number = counts[place] = counts.get(place, 0) + 1
        if self._due:
            for fault in self._due.pop((*place, number), ()):
                self.note(fault)
                self._loop.jump_wall(fault.amount)

    def note(self, fault: Fault) -> None:
        """Write down a fault that happens now."""
        self.happened.append(fault)
        tracer = self._loop.tracer
        if tracer is not None:
            tracer.fault(str(fault))

    def is_frozen(self, target: FaultTarget) -> bool:
        """Return whether no code of an agent may run now."""
        return self._freezer.is_frozen(target)

    def _freeze(self, target: FaultTarget, seconds: float) -> bool:
        self._freezer.freeze(target.tasks(), seconds)
        return True


class TaskFreezer:
    """Takes the steps of frozen tasks out of a loop, and gives them back later.

    It stands in the loop's way only while something is frozen: it puts its own
    `call_soon` before the loop's, and hollows out the steps that are ready already.
    """

    def __init__(self, loop: VirtualLoop) -> None:
        self._loop = loop
        self._frozen: dict[int, int] = {}  # task to how many times
        self._ice: list[tuple[Any, tuple[Any, ...], contextvars.Context | None]] = []

    def freeze(self, tasks: Iterable[Any], seconds: float) -> None:
        """Let these tasks take no step for that long."""
        lanes = [self._loop.lane_of(task) for task in tasks]
        if not lanes:
            return
        if not self._frozen:
            self._loop.call_soon = self._call_soon  # type: ignore[method-assign]
        for lane in lanes:
            self._frozen[lane] = self._frozen.get(lane, 0) + 1
        for handle in self._loop.ready_handles():
            if not handle._cancelled and self._is_frozen(handle._callback):
                assert handle._args is not None  # it is not cancelled
                self._ice.append((handle._callback, handle._args, handle._context))
                handle.cancel()
        self._loop.call_later(seconds, self._thaw, lanes)

    def is_frozen(self, task: Any) -> bool:
        """Return whether a task, or an agent, may take no step now."""
        return bool(self._frozen) and self._loop.lane_of(task) in self._frozen

    def _is_frozen(self, callback: Any) -> bool:
        return self._loop.lane_of_step(callback) in self._frozen

    def _call_soon(
        self,
        callback: Callable[..., object],
        *args: Any,
        context: contextvars.Context | None = None,
    ) -> SimHandle:
        if not self._is_frozen(callback):
            return VirtualLoop.call_soon(self._loop, callback, *args, context=context)
        self._ice.append((callback, args, context))
        return SimHandle(callback, args, context)

    def _thaw(self, lanes: Iterable[int]) -> None:
        for lane in lanes:
            left = self._frozen.get(lane, 0) - 1
            if left > 0:
                self._frozen[lane] = left
            else:
                self._frozen.pop(lane, None)
        ice, self._ice = self._ice, []
        for callback, args, context in ice:
            self._loop.call_soon(callback, *args, context=context)
        if not self._frozen:
            self._loop.__dict__.pop("call_soon", None)

    def thaw_all(self) -> None:
        """Let everything run again."""
        self._thaw([lane for lane, times in self._frozen.items() for _ in range(times)])
