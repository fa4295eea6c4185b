"""Intercepted work: interceptors run around attempts, steps, submits and handoffs."""

from collections.abc import Callable, Mapping
from typing import Any, Protocol

from swarm.model import JSON, AgentIdentity
from swarm.ports import AttemptCall, InterceptedBlock, Interceptors


class Attempted(Protocol):
    """A claim, as interceptors see it."""

    task_id: str
    attempt: int

    @property
    def kind(self) -> str:
        """The kind of the task."""
        ...

    @property
    def identity(self) -> AgentIdentity:
        """The agent that holds it."""
        ...

    @property
    def metadata(self) -> Mapping[str, JSON]:
        """The task's metadata."""
        ...


def attempt_of(claim: Attempted) -> AttemptCall:
    """Return an attempt as interceptors see it."""
    return AttemptCall(
        agent=claim.identity,
        task_id=claim.task_id,
        kind=claim.kind,
        attempt=claim.attempt,
        metadata=claim.metadata,
    )


async def enter_attempt(
    interceptors: Interceptors | None, claim: Attempted
) -> InterceptedBlock | None:
    """Run interceptors around a block that begins; None: there are none.

    Raises:
        BaseException: What an interceptor raised; the block is not to be run.
    """
    if interceptors is None or interceptors.attempt is None:
        return None
    block = InterceptedBlock(interceptors.attempt, attempt_of(claim))
    await block.enter()
    return block


async def leave_attempt(
    block: InterceptedBlock, error: BaseException | None
) -> BaseException | None:
    """Run the rest of the interceptors; return the error that the attempt ends by."""
    try:
        await block.leave(error)
    except BaseException as raised:  # noqa: BLE001  # the claim ends by it
        return raised
    return None


async def run_attempt(
    interceptors: Interceptors | None, claim: Attempted, work: Callable[..., Any]
) -> Any:
    """Return what `work(trace)` returns, with interceptors around."""
    if interceptors is None or interceptors.attempt is None:
        return await work(None)

    async def proceed(call: AttemptCall) -> Any:
        return await work(call.trace)

    return await interceptors.attempt(attempt_of(claim), proceed)
