"""One run of a handler, as its delivery asks for, and what runs around it."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import ExitStack
from functools import wraps
from typing import Any, Final, TypeAlias

from swarm.bus._contracts import FATAL, BusHost, is_from_outside
from swarm.bus._delivery_rules import HandlerRun
from swarm.bus._intake import Intake
from swarm.bus._offset_committer import OffsetCommit
from swarm.bus._records import refuse_awaitable
from swarm.errors import ConflictError, Contention, StaleAck
from swarm.model import OWNER, AgentIdentity, Backoff, Cause, Event, with_trace
from swarm.ports import (
    Activity,
    Condition,
    HandleCall,
    Proceed,
    Write,
    current_activity,
    current_cause,
    current_identity,
    run_at_once,
)

MOST_CALLS: Final = 16
"""Maximum number of calls of a handler in one attempt whose transaction conflicts."""

_BACKOFF: Final = Backoff(0.001, 0.25)


def activity_of(run: HandlerRun) -> Activity:
    """Return the cause of what handling a batch does: what its events share."""
    events = [item.event for item in run.items]

    def shared(what: str) -> Any:
        values = {getattr(event, what) for event in events}
        return values.pop() if len(values) == 1 else None

    depth = max(event.depth for event in events)
    return Activity(
        Cause(shared("correlation_id"), shared("id"), shared("trace"), depth=depth + 1)
    )


def escalate(host: BusHost, error: BaseException) -> bool:
    """End the swarm for an exception that is not an `Exception`, such as a test's.

    Returns whether the exception has to be raised: it ends the program.
    """
    if isinstance(error, FATAL):
        return True
    if not isinstance(error, (Exception, asyncio.CancelledError, GeneratorExit)):
        host.escalate(error)
    return False


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


def results_of(result: object, number: int) -> Sequence[BaseException | None]:
    """Return the outcome of each event from what the handler of a batch returned.

    It may return one entry for each event, an exception where it failed.
    """
    if (
        isinstance(result, (list, tuple))
        and len(result) == number
        and any(isinstance(each, BaseException) for each in result)
    ):
        return [each if isinstance(each, BaseException) else None for each in result]
    return [None] * number


# --- deliveries ---------------------------------------------------------------------


async def at_most_once(
    worker: Intake, member: Any, run: HandlerRun
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
        return await worker.call(member, run)
    except asyncio.CancelledError as error:
        if is_from_outside(error) and worker.queue.is_live(run):
            worker.queue.done(run, worker.now())
        raise


async def exactly_once(
    worker: Intake, member: Any, run: HandlerRun
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
    worker: Intake, member: Any, run: HandlerRun, number: int
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
    worker: Intake, member: Any, run: HandlerRun
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
            results = await worker.call(member, run, tx)
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


# --- interceptors ---------------------------------------------------------------------

Around: TypeAlias = Callable[[HandleCall, Proceed[HandleCall]], Awaitable[Any]]
"""The interceptors of handlers, as one function."""


async def with_trace_of(trace: str | None, do: Callable[[], Awaitable[Any]]) -> Any:
    """Return the result of `do`, whose events and commits carry a trace."""
    token = current_activity.set(Activity(with_trace(current_cause(), trace)))
    try:
        return await do()
    finally:
        current_activity.reset(token)


async def intercepted_run(
    around: Around,
    name: str,
    identity: AgentIdentity,
    events: Sequence[Event[Any]],
    attempt: int,
    run: Callable[[Sequence[Event[Any]]], Awaitable[Any]],
) -> Any:
    """Return what `run` returns for the events, with interceptors around.

    What the run does carries the trace that the interceptors give the call.
    """

    async def proceed(call: HandleCall) -> Any:
        if call.trace == events[0].trace:
            return await run(call.events)
        return await with_trace_of(call.trace, lambda: run(call.events))

    call = HandleCall(
        subscription=name,
        subscriber=identity,
        events=tuple(events),
        attempt=attempt,
        trace=events[0].trace,
    )
    return await around(call, proceed)


def called_as(
    identity: AgentIdentity, function: Callable[[Event[Any]], Any]
) -> Callable[[Event[Any]], Any]:
    """Return a plain function that runs as the identity that has subscribed it."""
    if identity == OWNER:
        return function

    @wraps(function)
    def call(event: Event[Any]) -> Any:
        token = current_identity.set(identity)
        try:
            return function(event)
        finally:
            current_identity.reset(token)

    return call


def intercepted_handler(
    host: BusHost,
    name: str,
    identity: AgentIdentity,
    handler: Callable[[Event[Any]], Any],
    *,
    is_async: bool,
) -> Callable[[Event[Any]], Any]:
    """Return a handler of single events with interceptors around, or as it is."""
    around = None if host.interceptors is None else host.interceptors.handle
    if around is None:
        return handler

    async def run(events: Sequence[Event[Any]]) -> Any:
        result = handler(*events)
        if is_async:
            return await result
        if result is not None:
            refuse_awaitable(handler, result)
        return result

    def handle(event: Event[Any]) -> Any:
        running = intercepted_run(around, name, identity, [event], 1, run)
        if is_async:
            return running
        return run_at_once(running, f"the plain function {handler!r}")

    return handle
