"""One call of a handler: in a context of its own, as its delivery asks for."""

import asyncio
import types
from collections import deque
from collections.abc import Callable, Coroutine, Generator, Sequence
from contextlib import ExitStack
from contextvars import Context, copy_context
from typing import Any, Final, Protocol

from swarm.bus._bus import Bus
from swarm.bus._contracts import FATAL, BusHost, is_from_outside
from swarm.bus._delivery_rules import DeliveryQueue, HandlerRun
from swarm.bus._intercepted import intercepted_run
from swarm.bus._offsets import OffsetCommit, OffsetCommitter
from swarm.bus._records import (
    Handler,
    HandlerOptions,
    is_async,
    refuse_awaitable,
    requires,
)
from swarm.errors import ConflictError, Contention, StaleAck
from swarm.model import AgentIdentity, Backoff, Cause, Event
from swarm.ports import Activity, Condition, Write

MOST_CALLS: Final = 16
"""How often a handler is called in one attempt whose transaction conflicts."""

_BACKOFF: Final = Backoff(0.001, 0.25)


# --- contexts and causes --------------------------------------------------------------


def steps(context: Context, coroutine: Any) -> Generator[Any, Any, Any]:
    """Run a coroutine in a context, step by step; await the steps with `finish`.

    The variables that it sets are its own. `current_task`, time-outs and task groups in
    it see the task that awaits.
    """
    step, given = coroutine.send, None
    while True:
        try:
            waits_for = context.run(step, given)
        except StopIteration as stop:
            return stop.value
        try:
            step, given = coroutine.send, (yield waits_for)
        except BaseException as error:  # noqa: BLE001  # thrown into the coroutine
            step, given = coroutine.throw, error


@types.coroutine
def finish(rest: Generator[Any, Any, Any]) -> Generator[Any, Any, Any]:
    """Run the steps of a coroutine, and return its result."""
    return (yield from rest)


def differs(before: Context) -> bool:
    """Return whether context variables have changed since a copy was made."""
    try:
        return copy_context() != before
    except Exception:  # noqa: BLE001  # comparing values of the user
        return True


async def call_in_context(
    handler: Callable[..., Any], is_coroutine: bool, arguments: Sequence[Any]
) -> Any:
    """Call a plain or async handler in a copy of this context; return its result."""
    context = copy_context()
    result = context.run(handler, *arguments)
    if is_coroutine:
        return await finish(steps(context, result))
    if result is not None:
        refuse_awaitable(handler, result)
    return result


def activity_of(events: Sequence[Event[Any]]) -> Any:
    """Return the cause of what handling events does: the event, or what they share."""
    if len(events) == 1:
        return events[0]
    depth = max(event.depth for event in events)
    return Activity(
        Cause(
            _shared(events, "correlation_id"),
            _shared(events, "id"),
            _shared(events, "trace"),
            depth=depth + 1,
        )
    )


def _shared(events: Sequence[Event[Any]], what: str) -> Any:
    """Return the value that all events have in common, or None."""
    told = getattr(events[0], what)
    return told if all(getattr(each, what) == told for each in events) else None


def escalate(host: BusHost, error: BaseException) -> bool:
    """End the swarm for an exception that is not an `Exception`, such as a test's.

    Returns whether the exception has to be raised: it ends the program.
    """
    if isinstance(error, FATAL):
        return True
    if not isinstance(error, (Exception, asyncio.CancelledError, GeneratorExit)):
        host.escalate(error)
    return False


# --- attempts -------------------------------------------------------------------------


class Attempt:
    """The last argument of a handler that asks for it: what attempt this is.

    Attributes:
        number: How often the handler was called with the (first) event, from 1 on.
        key: The same at every attempt at this event by this subscription: an
            idempotency key for effects outside of the swarm.
    """

    __slots__ = ("_extend", "_run", "key", "number")

    def __init__(
        self, name: str, run: HandlerRun, extend: Callable[[HandlerRun], bool]
    ) -> None:
        """Tell of this run of subscription `name`."""
        first = run.items[0]
        self._run = run
        self._extend = extend
        self.number: int = first.tries
        self.key: str = f"{name}:{first.event.id}"

    def __repr__(self) -> str:
        return f"<Attempt {self.number} at {self.key}>"

    def in_progress(self) -> None:
        """Show that the handler still works: `ack_wait` begins anew.

        Raises:
            StaleAck: The event was given to another attempt meanwhile.
        """
        if not self._extend(self._run):
            raise StaleAck


class Member:
    """One handler of a subscription, alone or as a member of a group.

    Attributes:
        handler: The function.
        identity: The identity that subscribed; its transactions act as this.
        is_async: Whether the handler is an `async def`.
        wants_attempt: Whether the handler takes an `Attempt` as well.
        is_paused: Whether it takes no further events.
        tasks: Its workers.
        stuck: Workers that have not ended although they were cancelled.
        running: The current runs, with their tasks.
    """

    def __init__(
        self, handler: Handler, identity: AgentIdentity, arguments: int
    ) -> None:
        """Call `handler` with `arguments`, or one more."""
        self.handler = handler
        self.identity = identity
        self.is_async: bool = is_async(handler)
        self.wants_attempt: bool = requires(handler, arguments + 1)
        self.is_paused: bool = False
        self.tasks: set[asyncio.Task[Any]] = set()
        self.stuck: set[asyncio.Task[Any]] = set()
        self.running: dict[HandlerRun, asyncio.Task[Any]] = {}
        self._idle: deque[asyncio.Future[None]] = deque()

    async def park(self, loop: asyncio.AbstractEventLoop) -> None:
        """Wait for `wake_one`."""
        waiter = loop.create_future()
        self._idle.append(waiter)
        try:
            await waiter
        finally:
            if waiter in self._idle:
                self._idle.remove(waiter)

    def wake_one(self) -> bool:
        """Wake a worker that waits; return whether there was one."""
        while self._idle:
            waiter = self._idle.popleft()
            if not waiter.done():
                waiter.set_result(None)
                return True
        return False

    def wake_all(self) -> None:
        """Wake every worker that waits."""
        while self.wake_one():
            pass

    def cancel_here(self) -> None:
        """Cancel the running task if it is one of the workers."""
        task = asyncio.current_task()
        if task in self.tasks:
            task.cancel()


def results_of(
    result: object, number: int, *, batch: bool
) -> Sequence[BaseException | None]:
    """Return the outcome of each event from what a handler returned.

    A batch handler may return one entry for each event, an exception where it failed.
    """
    if (
        batch
        and isinstance(result, (list, tuple))
        and len(result) == number
        and any(isinstance(each, BaseException) for each in result)
    ):
        return [each if isinstance(each, BaseException) else None for each in result]
    return [None] * number


# --- one run, as its delivery asks for -----------------------------------------------


class Working(Protocol):
    """A subscription with handlers; it is defined above this file."""

    bus: Bus
    name: str
    options: HandlerOptions
    queue: DeliveryQueue
    offsets: OffsetCommitter | None
    now: Callable[[], float]

    @property
    def status(self) -> str:
        """The status."""
        ...

    def extend(self, run: HandlerRun) -> bool:
        """Give a run its whole `ack_wait` again; False: the run is stale."""
        ...


async def hand_over(
    worker: Working, member: Member, run: HandlerRun
) -> Sequence[BaseException | None] | None:
    """Call the handler; return the outcome of each event, None: it is noted already.

    Raises:
        Exception: The handler's, or why the run has no effect.
    """
    if worker.options.delivery == "at-most-once":
        return await _at_most_once(worker, member, run)
    if worker.options.delivery == "at-least-once":
        return await _call(worker, member, run, ())
    return await _exactly_once(worker, member, run)


async def _call(
    worker: Working, member: Member, run: HandlerRun, more: tuple[Any, ...]
) -> Sequence[BaseException | None]:
    events = [item.event for item in run.items]
    is_batch = worker.options.batch is not None
    if member.wants_attempt:
        more = (*more, Attempt(worker.name, run, worker.extend))

    def call(events: Sequence[Event[Any]]) -> Coroutine[Any, Any, Any]:
        subject = list(events) if is_batch else events[0]
        return call_in_context(member.handler, member.is_async, (subject, *more))

    interceptors = worker.bus.host.interceptors
    around = None if interceptors is None else interceptors.handle
    if around is None:
        result = await call(events)
    else:
        name, attempt = worker.name, run.items[0].tries
        result = await intercepted_run(
            around, name, member.identity, events, attempt, call
        )
    return results_of(result, len(events), batch=is_batch)


async def _at_most_once(
    worker: Working, member: Member, run: HandlerRun
) -> Sequence[BaseException | None] | None:
    """Call the handler with events that are acknowledged before (E4).

    A cancelled run is done as well. If another subscription has the name now, its
    events are left to that one.
    """
    if worker.offsets is not None and not await worker.offsets.save(run.items):
        if worker.queue.is_live(run):
            worker.queue.returned(run, worker.now())
        return None
    try:
        return await _call(worker, member, run, ())
    except asyncio.CancelledError as error:
        if is_from_outside(error) and worker.queue.is_live(run):
            worker.queue.done(run, worker.now())
        raise


async def _exactly_once(
    worker: Working, member: Member, run: HandlerRun
) -> Sequence[BaseException | None] | None:
    """Call the handler until its reads are still true at its commit (S6, E7).

    Raises:
        Contention: Other writers came first each time.
    """
    for number in range(MOST_CALLS):
        if number and not await _may_call_again(worker, member, run, number):
            break
        try:
            return await _in_transaction(worker, member, run)
        except _OvertakenError:
            if worker.offsets is not None and await worker.offsets.has_lost_name():
                break
    else:
        raise Contention(
            f"the documents that the handler of '{worker.name}' read or wrote had "
            f"changed before its commit, {MOST_CALLS} times in a row; does it write "
            "beside its transaction?"
        )
    if worker.queue.is_live(run):
        worker.queue.returned(run, worker.now())
    return None


async def _may_call_again(
    worker: Working, member: Member, run: HandlerRun, number: int
) -> bool:
    """Pause, longer each time; return whether the handler may still be called.

    Raises:
        StaleAck: Meanwhile the event was given to another attempt.
    """
    host = worker.bus.host
    await host.clock.sleep(_BACKOFF.delay(number, host.entropy.jitter(0.0, 1.0)))
    if worker.status != "active" or member.is_paused:  # E12: no handler starts
        return False
    if not worker.queue.is_live(run):
        raise StaleAck
    for item in run.items:
        item.tries += 1
    return True


class _OvertakenError(Exception):
    """Another writer changed what a handler has read before it could commit."""


async def _in_transaction(
    worker: Working, member: Member, run: HandlerRun
) -> Sequence[BaseException | None]:
    """Commit the handler's writes together with the acknowledgement (E7)."""
    made: OffsetCommit | None = None

    def also() -> tuple[Sequence[Write], Sequence[Condition]]:
        nonlocal made
        if not worker.queue.is_live(run):
            raise StaleAck
        if worker.offsets is None:
            return (), ()
        made = worker.offsets.to_commit(run.items)
        writing.enter_context(worker.offsets.under_way())
        return made.writes, made.conditions

    handled = False
    transaction = worker.bus.host.effects(member.identity, also)
    writing = ExitStack()
    try:
        async with transaction as tx:
            results = await _call(worker, member, run, (tx,))
            if any(results):
                raise BaseExceptionGroup(
                    f"some of a batch of '{worker.name}' failed; none of it counts",
                    [error for error in results if error is not None],
                )
            handled = True
    except ConflictError as error:
        if not handled or not worker.queue.is_live(run):
            raise
        raise _OvertakenError from error
    finally:
        writing.close()
    if worker.offsets is not None and made is not None:
        worker.offsets.committed(tx.revision, made)
    return results
