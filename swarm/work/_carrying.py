"""Claims that others make: adopted from a commit, and carried out by a function."""

from collections.abc import Awaitable, Callable

from swarm.model import JSON, AgentIdentity
from swarm.work._claim import Claim
from swarm.work._intercepted import run_attempt
from swarm.work._task_manager import TaskManager
from swarm.work._task_record import TaskRecord


def adopt(
    manager: TaskManager,
    identity: AgentIdentity,
    record: TaskRecord,
    revision: int,
    before: float,
) -> Claim:
    """Return the live claim of a record that was committed under `revision`.

    Args:
        manager: The tasks of this process.
        identity: The agent that holds it.
        record: The task, running.
        revision: The revision of the commit that made the claim.
        before: Monotonic seconds before that commit was asked for.

    Raises:
        Closed: The swarm was closed meanwhile; the lease ends by itself.
    """
    if manager.closed is not None:
        raise manager.closed
    claim = record.claim
    assert claim is not None  # the record is of a running task
    claim.token = claim.token or revision
    made = manager.runtime.substitute(Claim)(manager, identity, record, claim, before)
    newest = manager.index.records.get(record.spec.id)
    if newest is not record and newest is not None:  # the log has been faster
        made.follow(newest)
    return made


async def carry_out(
    claim: Claim, function: Callable[[Claim], Awaitable[JSON]]
) -> Exception | None:
    """Run `function(claim)` under a claim, and end the attempt by its outcome.

    Its result completes the task; an exception fails the attempt and is returned; a
    cancellation gives the task back.

    Raises:
        StaleClaim: The claim was lost meanwhile.
    """
    claim.enter()
    try:
        result = await run_attempt(
            claim.manager.interceptors, claim, lambda _: function(claim)
        )
        claim.manager.codec.encode(result)  # what is no JSON value fails the attempt
    except BaseException as error:
        is_ours = await claim.leave(error)
        if isinstance(error, Exception):
            return error
        if not is_ours:
            raise
        return None
    await claim.leave(None, result)
    return None
