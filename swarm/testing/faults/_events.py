"""Subscriptions in a simulation: events on their way can go wrong.

The bus makes each subscription of the class that its runtime substitutes. What may go
wrong is what each kind of delivery leaves open (E4 to E9), so that no fault breaks a
promise of the bus by itself:

- at most once: an event is dropped, and counted; one whose handler crashed is done.
- at least once and exactly once: a hand-over is lost, is late, or its
  acknowledgement is; the handler crashes. Each time the event is handed over again,
  and what an exactly-once handler had written in its transaction is not there.
- in order: nothing overtakes, so what is behind a late event is late as well; only
  where no order is promised can an event be overtaken.
- a plain function is called in the loop's next turn: its events are never late.
- a stream loses events only if its overflow policy lets it.
"""

# mypy: disable-error-code="explicit-override"
from __future__ import annotations

import asyncio
import copy
from abc import abstractmethod
from collections import deque
from collections.abc import Sequence
from typing import Any, Final

from swarm.bus import Recipient
from swarm.bus._contexts import call_in_context
from swarm.bus._contracts import Settled
from swarm.bus._delivery_rules import HandlerRun, PartitionQueue
from swarm.bus._functions import (
    CoroutineSubscription,
    FunctionSubscription,
    PostingRecipient,
)
from swarm.bus._handlers import HandlerSubscription, Member
from swarm.bus._streams import EventStream
from swarm.model import Event
from swarm.testing.faults._injector import Injector
from swarm.testing.faults._plan import Fault, Kind

_SECOND: Final = 1.0
"""Seconds until a lost hand-over is made again without `ack_wait`, and that an event
waits to be overtaken."""


def _injector_of(subscription: Any) -> Injector:
    injector: Injector = subscription.bus.host.loop.faults
    return injector


# --- plain functions ----------------------------------------------------------------


class FaultyFunction(FunctionSubscription):
    """A plain function that may miss an event."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.call = self._active = self._meet
        _injector_of(self).listen(self.name, ("drop_event",))

    def _meet(self, event: Event[Any]) -> Any:
        if _injector_of(self).event(self.name):
            self.dropped += 1
            return None
        return self.handler(event)


# --- handlers that may await --------------------------------------------------------


class FaultyCoroutine(CoroutineSubscription):
    """An `async def` whose events may be lost or late, and which may crash."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._call = self._meet
        kinds: list[Kind] = ["drop_event", "delay_event", "crash_handler"]
        _injector_of(self).listen(self.name, kinds)

    async def _meet(self, event: Event[Any]) -> None:
        """Call the handler, unless something comes between."""
        faults = _injector_of(self).event(self.name)
        if "drop_event" in faults:
            self._processed -= 1  # counted once this returns
            self.dropped += 1
            return
        if "delay_event" in faults:
            await asyncio.sleep(faults["delay_event"].amount)
        if "crash_handler" in faults:
            self._crash_later(event, faults["crash_handler"])
        await self.handler(event)

    def _crash_later(self, event: Event[Any], fault: Fault) -> None:
        task = self._task

        def crash() -> bool:
            runs = self._in_hand is event and task is not None
            if runs and task is not None:
                task.cancel()
            return runs

        _injector_of(self).later(fault, crash)


class FaultyHandler(HandlerSubscription):
    """A handler whose events may be late or lost, and which may crash."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._overtaken: list[PartitionQueue] = []
        options = self.options
        kinds: list[Kind] = ["drop_event", "delay_event", "crash_handler"]
        if options.delivery != "at-most-once":
            kinds.append("duplicate_event")
        if not options.ordered:
            kinds.append("reorder_event")
        _injector_of(self).listen(self.name, kinds)

    async def hand_over(
        self, member: Member, run: HandlerRun
    ) -> Sequence[BaseException | None] | None:
        """Call the handler, unless something comes between."""
        faults = _injector_of(self).event(self.name)
        self._let_go()
        if self._is_put_off(run, faults):
            return None
        if "crash_handler" in faults:
            self._crash_later(member, run, faults["crash_handler"])
        if "duplicate_event" not in faults:
            return await super().hand_over(member, run)
        try:
            return await super().hand_over(_forgetful(member), run)
        except _AckLostError:
            self._put_off(run, 0.0)
            return None

    def _is_put_off(self, run: HandlerRun, faults: dict[Kind, Fault]) -> bool:
        """Let a hand-over be late or lost; return whether it was."""
        if "drop_event" in faults:
            if self.options.delivery == "at-most-once":
                self._drop(run)
            else:
                self._put_off(run, self.options.ack_wait or _SECOND)
        elif "delay_event" in faults:
            self._put_off(run, faults["delay_event"].amount)
        elif "reorder_event" in faults:
            self._put_off(run, _SECOND)
            self._overtaken.append(run.queue)
        else:
            return False
        return True

    def _drop(self, run: HandlerRun) -> None:
        """Take a hand-over as acknowledged, although no handler saw the event (E4)."""
        number = len(run.items)
        self.queue.done(run, self.now())
        self.queue.processed -= number
        self.dropped += number
        if self.offsets is not None:
            self.offsets.finished(run.items)

    def _put_off(self, run: HandlerRun, seconds: float) -> None:
        """Take a hand-over back, to be made again later; those behind it wait (E9)."""
        if self.queue.is_live(run):
            run.queue.not_before = self.now() + seconds
            self.queue.returned(run, self.now())
            self.wake()

    def _let_go(self) -> None:
        """Hand over what has been overtaken now."""
        queues, self._overtaken = self._overtaken, []
        for queue in queues:
            if queue.items and not queue.runs:
                queue.not_before = 0.0
                self.queue.schedule(queue, self.now())

    def _crash_later(self, member: Member, run: HandlerRun, fault: Fault) -> None:
        task = member.running[run]

        def crash() -> bool:
            is_running = member.running.get(run) is task
            if is_running:
                task.cancel()
            return is_running

        _injector_of(self).later(fault, crash)


class _AckLostError(Exception):
    """A handler has done its work, and its acknowledgement is lost."""


def _forgetful(member: Member) -> Member:
    """Return a member whose handler's acknowledgement is lost."""

    async def handle(*arguments: Any) -> None:
        await call_in_context(member.handler, member.is_async, *arguments)
        raise _AckLostError

    other = copy.copy(member)
    other.handler, other.is_async = handle, True
    return other


# --- streams and mailboxes ----------------------------------------------------------


class _Held(Recipient):
    """A recipient that gets its events late, all of them in order."""

    _may_drop = True

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._held: deque[Event[Any]] = deque()
        self._until: asyncio.TimerHandle | None = None
        kinds: list[Kind] = ["delay_event"]
        if self._may_drop:
            kinds.append("drop_event")
        _injector_of(self).listen(self.name, kinds)

    def _take(self, event: Event[Any]) -> bool:
        """Take an event, perhaps later."""
        faults = _injector_of(self).event(self.name)
        if "drop_event" in faults:
            return self._drop(event)
        if "delay_event" in faults and self._until is None:
            seconds = faults["delay_event"].amount
            self._until = self.bus.host.loop.call_later(seconds, self._flush)
        if self._until is not None:
            self._held.append(event)
            return True
        return super()._take(event)  # type: ignore[safe-super]

    @abstractmethod
    def _drop(self, event: Event[Any]) -> bool:
        """Lose an event, as it can be lost here."""

    def _flush(self) -> None:
        if self._until is not None:
            self._until.cancel()
            self._until = None
        while self._held:
            super()._take(self._held.popleft())  # type: ignore[safe-super]

    def cancel(self) -> Settled:
        """Get no more events than those that are on their way."""
        self._flush()
        return super().cancel()


class FaultyStream(_Held, EventStream[Any]):
    """A stream whose events may be late, or lost if it may lose them."""

    @property
    def _may_drop(self) -> bool:  # type: ignore[override]
        return self._overflow not in ("block", "error")

    def _take(self, event: Event[Any]) -> bool:
        """Take an event, perhaps later; or leave it in the log, from where it comes."""
        if self._feed is not None:
            return super(_Held, self)._take(event)
        return super()._take(event)

    def _drop(self, event: Event[Any]) -> bool:  # noqa: ARG002
        self.dropped += 1
        return True


class FaultyPosting(_Held, PostingRecipient):
    """The way into a mailbox, which an event may not find, or find late."""

    def _drop(self, event: Event[Any]) -> bool:
        post, self._post = self._post, lambda *_: False  # as if it were full
        try:
            return super(_Held, self)._take(event)
        finally:
            self._post = post


SUBSCRIPTION_TYPES: Final[dict[type[Any], type[Any]]] = {
    FunctionSubscription: FaultyFunction,
    CoroutineSubscription: FaultyCoroutine,
    HandlerSubscription: FaultyHandler,
    EventStream: FaultyStream,
    PostingRecipient: FaultyPosting,
}
