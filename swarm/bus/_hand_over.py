"""Running a handler once, as its kind of delivery asks for."""

import asyncio
import inspect
from collections.abc import Callable, Sequence
from typing import Any, Final, Protocol

from swarm.bus._attempt import Attempt, Member, results_of
from swarm.bus._core import Working
from swarm.bus._delivery_rule import Delivery
from swarm.bus._keeper import Keeper, Mark
from swarm.bus._records import HandlerOptions
from swarm.bus._subscription import is_from_outside
from swarm.errors import ConflictError, Contention, StaleAck
from swarm.ports import Condition, Write

RUNS: Final = 16
"""How often a handler is called in one attempt whose transaction conflicts."""

_FIRST_PAUSE: Final = 0.001
_LONGEST_PAUSE: Final = 0.25


class Handing(Working, Protocol):
    """A subscription as this sees it."""

    options: HandlerOptions
    keeper: Keeper | None
    now: Callable[[], float]


async def hand_over(
    worker: Handing, member: Member, delivery: Delivery
) -> Sequence[BaseException | None] | None:
    """Call the handler; return the outcome of each event, None: it is noted already.

    Raises:
        Exception: What the handler raised, or why nothing of it counts.
    """
    if worker.options.delivery == "at-most-once":
        return await _at_most_once(worker, member, delivery)
    if worker.options.delivery == "at-least-once":
        return await _call(worker, member, delivery, ())
    return await _exactly_once(worker, member, delivery)


async def _call(
    worker: Handing, member: Member, delivery: Delivery, more: tuple[Any, ...]
) -> Sequence[BaseException | None]:
    events = [item.event for item in delivery.items]
    subject: Any = events[0] if worker.options.batch is None else events
    if member.wants_attempt:
        more = (*more, Attempt(worker, delivery))
    result = member.handler(subject, *more)
    if inspect.isawaitable(result):
        result = await result
    return results_of(result, len(events), batch=worker.options.batch is not None)


async def _at_most_once(
    worker: Handing, member: Member, delivery: Delivery
) -> Sequence[BaseException | None] | None:
    """Hand over what is acknowledged already: even cancelled, it is done (E4).

    What is not, because somebody else has the name now, is theirs to hand over.
    """
    if worker.keeper is not None and not await worker.keeper.save(delivery.items):
        if worker.line.is_live(delivery):
            worker.line.returned(delivery, worker.now())
        return None
    try:
        return await _call(worker, member, delivery, ())
    except asyncio.CancelledError as error:
        if is_from_outside(error) and worker.line.is_live(delivery):
            worker.line.done(delivery, worker.now())
        raise


async def _exactly_once(
    worker: Handing, member: Member, delivery: Delivery
) -> Sequence[BaseException | None] | None:
    """Call the handler until what it read is still so when it commits (S6, E7).

    Raises:
        Contention: Others wrote first each time.
    """
    for run in range(RUNS):
        if run and not await _may_run_again(worker, member, delivery, run):
            break
        try:
            return await _in_transaction(worker, member, delivery)
        except _OvertakenError:
            if worker.keeper is not None and await worker.keeper.was_taken_over():
                break
    else:
        raise Contention(
            f"what the handler of '{worker.name}' read or wrote had changed before it "
            f"could commit, {RUNS} times in a row; does it write beside its "
            "transaction?"
        )
    if worker.line.is_live(delivery):
        worker.line.returned(delivery, worker.now())
    return None


async def _may_run_again(
    worker: Handing, member: Member, delivery: Delivery, run: int
) -> bool:
    """Wait a little, longer each time; return whether the handler may still run.

    Raises:
        StaleAck: Meanwhile the event was given to another attempt.
    """
    host = worker.bus.host
    longest = min(_LONGEST_PAUSE, _FIRST_PAUSE * 2 ** (run - 1))
    await host.clock.sleep(host.entropy.jitter(longest / 2, longest))
    if worker.status != "active" or member.is_paused:  # E12: no handler starts
        return False
    if not worker.line.is_live(delivery):
        raise StaleAck
    for item in delivery.items:
        item.tries += 1
    return True


class _OvertakenError(Exception):
    """Somebody wrote what a handler has read before it could commit."""


async def _in_transaction(
    worker: Handing, member: Member, delivery: Delivery
) -> Sequence[BaseException | None]:
    """Have the handler's writes and the acknowledgement be one commit (E7)."""
    mark: Mark | None = None

    def also() -> tuple[Sequence[Write], Sequence[Condition]]:
        nonlocal mark
        if not worker.line.is_live(delivery):
            raise StaleAck
        if worker.keeper is None:
            return (), ()
        mark = worker.keeper.to_commit(delivery.items)
        return mark.writes, mark.conditions

    handled = False
    transaction = worker.bus.host.effects(member.identity, also)
    try:
        async with transaction as tx:
            results = await _call(worker, member, delivery, (tx,))
            if any(results):
                raise BaseExceptionGroup(
                    f"some of a batch of '{worker.name}' failed; none of it counts",
                    [error for error in results if error is not None],
                )
            handled = True
    except ConflictError as error:
        if not handled or not worker.line.is_live(delivery):
            raise
        raise _OvertakenError from error
    if worker.keeper is not None and mark is not None:
        worker.keeper.committed(tx.revision, mark)
    return results
