"""A claim: what a worker may do with a task, and the block that runs under it."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from types import TracebackType
from typing import Any, ParamSpec, Self, TypeVar, overload

import orjson

from swarm.errors import Closed, RemoteCancelled, StaleClaim
from swarm.model import JSON, MICRO, AgentIdentity, check_seconds, check_text, shown
from swarm.ports import AttemptCall, InterceptedBlock, Interceptors, current_task
from swarm.work._held_claim import LIVE, LOST, HeldClaim
from swarm.work._steps import StepLog
from swarm.work._submit_rules import encoded
from swarm.work._task_manager import TaskManager
from swarm.work._task_record import Progress, TaskRecord
from swarm.work._task_rules import (
    decide_complete,
    decide_fail,
    decide_give_back,
    decide_progress,
    decide_update,
)

P = ParamSpec("P")
T = TypeVar("T")


class Claim(HeldClaim):
    """The right of one worker to one attempt at a task, and the proof of it.

    As `async with swarm.tasks.claim(...) as claim:` it is renewed while the body runs.
    The body's end completes the task with None unless the body ended it otherwise; an
    exception fails the attempt; cancellation gives the task back, and the attempt does
    not count. When the claim is lost, or the task is to be cancelled, the body is
    cancelled. After a lost claim the block raises `StaleClaim`; after the cancellation
    of the task it just ends. The end of the swarm gives the task back, and leaves the
    body alone: what that does with the claim from then on raises `Closed`.

    A claim is also a guard of writes: `state.set(path, value, guard=claim)`.

    Each method raises `StaleClaim` when the claim is not the live one; nothing is
    written then. `complete`, `fail`, `snooze` and `release` end the claim: another of
    them after one raises `InvalidTransition`.

    Attributes:
        offer: The handoff that it was accepted from, or None.
    """

    _steps: StepLog | None = None
    _block: InterceptedBlock | None = None

    async def progress(
        self, percent: float, message: str = "", *, eta: float | None = None
    ) -> None:
        """Say how far the work has come.

        Args:
            percent: From 0 to 100.
            message: What is being done.
            eta: How many more seconds it will take, about.

        Raises:
            ValueError: The percentage is not from 0 to 100.
            TypeError: An argument is not of its type.
        """
        if isinstance(percent, bool) or not isinstance(percent, int | float):
            raise TypeError(f"the percentage is a number, not {shown(percent)}")
        if not 0 <= percent <= 100:
            raise ValueError(f"the percentage is from 0 to 100, not {percent}")
        check_text("the message", message)
        if eta is not None:
            check_seconds("eta", eta)
        request = (self.right, Progress(float(percent), message, eta))
        await self._ask(decide_progress, request)

    async def update(self, changes: dict[str, JSON]) -> None:
        """Merge keys into the partial result, which everybody may read.

        Raises:
            InvalidValue: The changes are not a dict of JSON values.
            LimitExceeded: The partial result would be too large for a document.
        """
        if not isinstance(changes, dict):
            raise TypeError(f"an update is a dict of changes, not {shown(changes)}")
        codec = self.manager.codec
        private = orjson.loads(encoded(codec, "an update of a task", changes))
        await self._ask(decide_update, (self.right, private, codec))

    @overload
    async def step(
        self,
        name: str,
        function: Callable[P, Awaitable[T]],
        /,
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> T: ...

    @overload
    async def step(
        self, name: str, function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs
    ) -> T: ...

    async def step(
        self, name: str, function: Callable[..., Any], /, *args: Any, **kwargs: Any
    ) -> Any:
        """Return `function(*args, **kwargs)`, run once per task, whatever happens.

        Its result is committed under the claim. A later attempt, the receiver of a
        handoff and a resumed process get the recorded result. If the process ends
        between the function's outside effect and the commit, the function runs again:
        inside it, `idempotency_key()` names the step for the outside service.

        Steps of one task may run at the same time, each under a name of its own: one
        that is running is not asked for again. A function that raises or is cancelled
        has recorded nothing; once it has returned, its result is recorded though the
        step is cancelled.

        Args:
            name: The step's name, unique within the task.
            function: What does the work; may be async. It returns a JSON value.
            *args: Its arguments, JSON values.
            **kwargs: Its arguments by name, JSON values.

        Raises:
            StepMismatch: The step was recorded with other arguments.
            InvalidTransition: The step is running: its function, or concurrent code,
                asks for it again.
            InvalidValue: An argument or the result is not a JSON value.
            Exception: What the function raised.
        """
        if self._state is not LIVE:
            self.check_live()
        if self._steps is None:
            self._steps = StepLog(self)
        return await self._steps.run(name, function, args, kwargs)

    async def complete(self, result: JSON = None) -> None:
        """Complete the task. Its result never changes after that (J5).

        Raises:
            InvalidValue: The result is not a JSON value.
            LimitExceeded: The result is too large.
        """
        body = encoded(self.manager.codec, "the result of a task", result)
        await self._settle("complete", decide_complete, (self.right, body))

    async def fail(self, error: str | BaseException, *, retry: bool = True) -> None:
        """End the attempt by an error: the task is retried, escalated, or failed.

        Args:
            error: What went wrong.
            retry: Whether another attempt may help.

        Raises:
            TypeError: An argument is not of its type.
        """
        if not isinstance(retry, bool):
            raise TypeError(f"retry is True or False, not {shown(retry)}")
        await self._settle("fail", decide_fail, self._failed(error, retry=retry))

    async def snooze(self, seconds: float, reason: str = "") -> None:
        """Give the task back for later; the attempt does not count.

        Raises:
            ValueError: The time is not finite and above 0.
            TypeError: An argument is not of its type.
        """
        check_seconds("snooze", seconds)
        check_text("the reason", reason)
        request = (self.right, "snooze", int(seconds * MICRO), reason)
        await self._settle("snooze", decide_give_back, request)

    async def release(self, reason: str = "") -> None:
        """Give the task back; the attempt does not count. It may be claimed at once.

        Raises:
            TypeError: The reason is not text.
        """
        check_text("the reason", reason)
        request = (self.right, "release", 0, reason)
        await self._settle("release", decide_give_back, request)

    # --- a block under it -------------------------------------------------------------

    async def __aenter__(self) -> Self:
        self.enter()
        if self.manager.interceptors is not None:
            await self.intercept()
        return self

    async def intercept(self) -> None:
        """Begin what runs around the attempt; `__aexit__` ends it."""
        around = self.manager.interceptors
        if around is None or around.attempt is None:
            return
        block = InterceptedBlock(around.attempt, _attempt_of(self))
        try:
            await block.enter()
        except BaseException as error:
            if await self.leave(error):
                raise self._stale() from error
            raise
        self._block = block

    def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> Coroutine[Any, Any, bool]:
        if self.manager.interceptors is None:
            return self.leave(error)
        return self._leave_intercepted(error)

    async def _leave_intercepted(self, error: BaseException | None) -> bool:
        block, self._block = self._block, None
        if block is None:
            return await self.leave(error)
        before = error
        try:
            await block.leave(error)
        except BaseException as raised:  # noqa: BLE001  # the claim ends by it
            error = raised
        else:
            error = None
        is_ours = await self.leave(error)
        if error is not None and error is not before and not is_ours:
            raise error
        return is_ours or error is None

    async def leave(self, error: BaseException | None, result: JSON = None) -> bool:
        """End the attempt as its body ended; return whether to swallow the error.

        Raises:
            StaleClaim: The claim was lost, and the body raised nothing else.
        """
        is_ours = self._leave_body(error)
        state = self._state
        is_cancelled = is_ours and self.cancel_requested is not None
        if state is LOST and not is_cancelled and (error is None or is_ours):
            raise self._stale() from error
        if state is not LIVE:  # being ended: by another task, which waits for that
            return is_ours
        try:
            if error is None:
                await self.complete(result)
            elif isinstance(error, Exception) or (
                # A served method that calls `sys.exit` would be asked for ever.
                self.is_served and not isinstance(error, asyncio.CancelledError)
            ):
                await self.fail(error)
            else:
                await self.give_up("" if is_ours else "its worker was cancelled")
        except asyncio.CancelledError:
            await self.give_up("its worker was cancelled")
            raise
        except (StaleClaim, Closed):
            if error is None:
                raise
        return is_ours


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
    cancellation gives the task back. One that nobody asked for, such as that of a
    future which the function awaits, is an error of the function.
    """
    claim.enter()
    claim.is_served = True
    try:
        result = await run_attempt(
            claim.manager.interceptors, claim, lambda _: function(claim)
        )
        encoded(
            claim.manager.codec, "the result of a task", result
        )  # what is no JSON value fails the attempt
    except BaseException as raised:
        error = raised
        body = current_task()
        is_asked = body is not None and body.cancelling()
        if isinstance(error, asyncio.CancelledError) and not is_asked:
            error = RemoteCancelled(f"{claim!r} was cancelled from inside")
        is_ours = await claim.leave(error)
        if isinstance(error, Exception):
            return error
        if not is_ours:
            raise
        return None
    await claim.leave(None, result)
    return None


def _attempt_of(claim: Claim) -> AttemptCall:
    return AttemptCall(
        agent=claim.identity,
        task_id=claim.task_id,
        kind=claim.kind,
        attempt=claim.attempt,
        metadata=claim.metadata,
    )


async def run_attempt(
    interceptors: Interceptors | None, claim: Claim, work: Callable[..., Any]
) -> Any:
    """Return what `work(trace)` returns, with interceptors around."""
    if interceptors is None or interceptors.attempt is None:
        return await work(None)

    async def proceed(call: AttemptCall) -> Any:
        return await work(call.trace)

    return await interceptors.attempt(_attempt_of(claim), proceed)
