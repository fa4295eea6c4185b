"""A claim: the right to work on a task, and the body that runs under it."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from types import TracebackType
from typing import Any, Final, ParamSpec, Self, TypeVar, overload

import orjson

from swarm.errors import (
    Closed,
    InvalidTransition,
    StaleClaim,
    SwarmError,
)
from swarm.model import ABSENT, JSON, AgentIdentity, Document, check_seconds
from swarm.ports import Condition, Holder, InterceptedBlock, Ruling
from swarm.work._body import ClaimBody
from swarm.work._claim_rules import (
    Right,
    decide_cancelled,
    decide_complete,
    decide_fail,
    decide_give_back,
    decide_progress,
    decide_renew,
    decide_update,
)
from swarm.work._intercepted import enter_attempt, leave_attempt
from swarm.work._steps import StepLog
from swarm.work._task_manager import TaskManager
from swarm.work._task_record import (
    KEPT_ENTRIES,
    MICRO,
    ClaimRecord,
    Progress,
    TaskRecord,
    stale,
)
from swarm.work._transitions import (
    AttemptFailure,
)

P = ParamSpec("P")
T = TypeVar("T")
R = TypeVar("R")

_LONGEST_ERROR: Final = 2_000
"""How many characters of an error a record keeps."""


class Claim:
    """The right of one worker to one attempt at a task, and the proof of it.

    As `async with swarm.tasks.claim(...) as claim:` it is renewed while the body runs.
    The body's end completes the task with None unless the body ended it otherwise; an
    exception fails the attempt; cancellation gives the task back, and the attempt does
    not count. When the claim is lost, or the task is to be cancelled, the body is
    cancelled. After a lost claim the block raises `StaleClaim`; after the cancellation
    of the task it just ends.

    A claim is also a guard of writes: `state.set(path, value, guard=claim)`.

    Attributes:
        task_id: The task.
        attempt: The number of the attempt, from 1.
        offer: The handoff that it was accepted from, or None.
        is_served: Whether the swarm asks the worker for the work, and ends the claim.
        deadline: When it is to be renewed, in monotonic seconds.
    """

    # What most claims never set is not kept in each.
    offer: Any = None
    is_served: bool = False
    _over: str | None = None
    _is_lost = False
    _is_settling = False
    _steps: StepLog | None = None
    _body: ClaimBody | None = None
    _block: InterceptedBlock | None = None
    _payload: Any = ABSENT

    def __init__(
        self,
        manager: TaskManager,
        identity: AgentIdentity,
        record: TaskRecord,
        claim: ClaimRecord,
        before: float,
    ) -> None:
        """Stand for a claim that was asked for at `before`, in monotonic seconds."""
        self.task_id: str = record.spec.id
        self.attempt: int = record.attempt
        self._manager = manager
        self._identity = identity
        self._record = record
        self._claim = claim
        self._right = Right(self.task_id, claim.id, claim.token)
        lease = claim.lease / MICRO
        self._local_end = before + lease
        self.deadline: float = before + lease / 3
        manager.claims[self.task_id] = self
        manager.deadlines.add(lease / 3, self)

    # --- what it is -------------------------------------------------------------------

    @property
    def kind(self) -> str:
        """The kind of the task."""
        return self._record.spec.kind

    @property
    def payload(self) -> JSON:
        """The task's payload: a private copy."""
        if self._payload is ABSENT:
            self._payload = orjson.loads(self._record.spec.payload)
        return self._payload

    @property
    def metadata(self) -> dict[str, JSON]:
        """The task's metadata: a private copy."""
        found: dict[str, JSON] = orjson.loads(self._record.spec.metadata)
        return found

    @property
    def partial(self) -> dict[str, JSON]:
        """The partial result so far, of earlier attempts as well."""
        body = self._record.partial
        return {} if body is None else orjson.loads(body)

    @property
    def token(self) -> int:
        """The fencing token: larger than that of every earlier claim of the task."""
        return self._right.token

    @property
    def right(self) -> Right:
        """What proves that this is the live claim, for rules."""
        return self._right

    @property
    def identity(self) -> AgentIdentity:
        """The agent that holds it."""
        return self._identity

    @property
    def manager(self) -> TaskManager:
        """The tasks of the process it belongs to."""
        return self._manager

    @property
    def is_live(self) -> bool:
        """Whether it still holds, as far as is known here."""
        return self._over is None

    @property
    def cancel_requested(self) -> str | None:
        """Why the task is to be cancelled, or None."""
        return self._record.cancel

    def __repr__(self) -> str:
        state = "live" if self._over is None else self._over
        return f"<Claim of task {self.task_id} ({self.kind}), {state}>"

    @property
    def kernel(self) -> object:
        """Where it holds: nothing elsewhere can be guarded by it."""
        return self._manager.kernel

    def conditions(self) -> Sequence[Condition]:
        """Return what a write guarded by this claim requires (`ports.Guard`).

        Raises:
            StaleClaim: It is known already that it is not the live one.
        """
        if self._over is not None:
            raise self._stale()
        right = self._right
        path = self._record.spec.path
        return (Holder(path, right.claim_id, right.token, StaleClaim),)

    # --- what its worker can do -------------------------------------------------------

    async def progress(
        self, percent: float, message: str = "", *, eta: float | None = None
    ) -> None:
        """Say how far the work has come.

        Args:
            percent: From 0 to 100.
            message: What is being done.
            eta: How many more seconds it will take, about.

        Raises:
            StaleClaim: The claim is not the live one; nothing was written.
            ValueError: The percentage is not from 0 to 100.
            TypeError: An argument is not of its type.
        """
        if isinstance(percent, bool) or not isinstance(percent, int | float):
            raise TypeError(f"the percentage is a number, not {percent!r}")
        if not 0 <= percent <= 100:
            raise ValueError(f"the percentage is from 0 to 100, not {percent}")
        if not isinstance(message, str):
            raise TypeError(f"the message is text, not {message!r}")
        if eta is not None:
            check_seconds("eta", eta)
        request = (self._right, Progress(float(percent), message, eta))
        await self._ask(decide_progress, request)

    async def update(self, changes: dict[str, JSON]) -> None:
        """Merge keys into the partial result, which everybody may read.

        Raises:
            StaleClaim: The claim is not the live one; nothing was written.
            InvalidValue: The changes are not a dict of JSON values.
        """
        if not isinstance(changes, dict):
            raise TypeError(f"an update is a dict of changes, not {changes!r}")
        private = orjson.loads(self._manager.codec.encode(changes))
        await self._ask(decide_update, (self._right, private))

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

        Steps of one task may run at the same time. One that is running already is
        waited for. A function that raises has recorded nothing.

        Args:
            name: The step's name, unique within the task.
            function: What does the work; may be async. It returns a JSON value.
            *args: Its arguments, JSON values.
            **kwargs: Its arguments by name, JSON values.

        Raises:
            StepMismatch: The step was recorded with other arguments.
            StaleClaim: The claim is not the live one; nothing was recorded.
            InvalidValue: An argument or the result is not a JSON value.
            Exception: What the function raised.
        """
        if self._over is not None:
            raise self._stale()
        if self._steps is None:
            self._steps = StepLog(self)
        return await self._steps.run(name, function, args, kwargs)

    async def complete(self, result: JSON = None) -> None:
        """Complete the task. Its result never changes after that (J5).

        Raises:
            StaleClaim: The claim is not the live one; nothing was written.
            InvalidTransition: The claim was ended before, by its own worker.
            InvalidValue: The result is not a JSON value.
            LimitExceeded: The result is too large.
        """
        body = self._manager.codec.encode(result)
        await self._settle("complete", decide_complete, (self._right, body))

    async def fail(self, error: str | BaseException, *, retry: bool = True) -> None:
        """End the attempt by an error: the task is retried, escalated, or failed.

        Args:
            error: What went wrong.
            retry: Whether another attempt may help.

        Raises:
            StaleClaim: The claim is not the live one; nothing was written.
            InvalidTransition: The claim was ended before, by its own worker.
        """
        await self._settle("fail", decide_fail, self._failed(error, retry=retry))

    async def snooze(self, seconds: float, reason: str = "") -> None:
        """Give the task back for later; the attempt does not count.

        Raises:
            StaleClaim: The claim is not the live one; nothing was written.
            InvalidTransition: The claim was ended before, by its own worker.
            ValueError: The time is not finite and above 0.
        """
        check_seconds("snooze", seconds)
        request = (self._right, "snooze", int(seconds * MICRO), reason)
        await self._settle("snooze", decide_give_back, request)

    async def release(self, reason: str = "") -> None:
        """Give the task back; the attempt does not count. It may be claimed at once.

        Raises:
            StaleClaim: The claim is not the live one; nothing was written.
            InvalidTransition: The claim was ended before, by its own worker.
        """
        request = (self._right, "release", 0, reason)
        await self._settle("release", decide_give_back, request)

    # --- a body under it --------------------------------------------------------------

    def enter(self, task: "asyncio.Task[Any] | None" = None) -> None:
        """Have the running task, or a given one, cancelled when the claim is lost.

        A given task only waits for the code that works under the claim. A block that
        this code enters takes its place.

        Raises:
            StaleClaim: It is not the live one.
            RuntimeError: A body runs under it.
        """
        if self._over is not None:
            raise self._stale()
        if self._body is not None:
            if not self._body.is_lent:
                raise RuntimeError(f"a body runs already under {self!r}")
            self._body.leave(None)
        self._body = ClaimBody(self, task)
        if self._record.cancel is not None:
            self._body.cancel_soon()

    async def __aenter__(self) -> Self:
        self.enter()
        if self._manager.interceptors is not None:
            try:
                self._block = await enter_attempt(self._manager.interceptors, self)
            except BaseException as error:
                if await self.leave(error):
                    raise self._stale() from error
                raise
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> bool:
        block, self._block = self._block, None
        if block is None:
            return await self.leave(error)
        before, error = error, await leave_attempt(block, error)
        is_ours = await self.leave(error)
        if error is not None and error is not before and not is_ours:
            raise error
        return is_ours or error is None

    async def leave(self, error: BaseException | None, result: JSON = None) -> bool:
        """End the attempt as its body ended; return whether to swallow the error.

        Raises:
            StaleClaim: The claim was lost, and the body raised nothing else.
        """
        body, self._body = self._body, None
        is_ours = body is not None and body.leave(error)
        if self._over is not None:
            if self._is_lost and (error is None or is_ours):
                raise self._stale() from error
            return is_ours
        try:
            if error is None:
                await self.complete(result)
            elif is_ours:
                await self._end(decide_cancelled, self._right)
            elif isinstance(error, Exception):
                await self.fail(error)
            else:
                request = (self._right, "release", 0, "its worker was cancelled")
                await self._end(decide_give_back, request)
        except (StaleClaim, Closed):
            if error is None:
                raise
        return is_ours

    # --- inside -----------------------------------------------------------------------

    async def _ask(
        self, rule: Callable[[Document | None, int, R], Ruling], request: R
    ) -> Any:
        """Ask a rule that only the live claim may ask; return its outcome."""
        if self._over is not None:
            raise self._stale()
        manager = self._manager
        try:
            if manager.local is not None:
                if manager.pause is not None:
                    await manager.pause()
                path = self._record.spec.path
                return manager.apply_now(self._identity, path, rule, request)[1]
            _, outcome = await manager.apply_one(
                self._identity, self.task_id, rule, request
            )
        except StaleClaim as error:
            # A heartbeat that crosses the end of the claim tells nothing about it.
            if rule is not decide_renew or not self._is_settling:
                self.lose(str(error))
            raise
        return outcome

    async def _settle(
        self, step: str, rule: Callable[[Document | None, int, R], Ruling], request: R
    ) -> None:
        """Ask a rule that ends the claim."""
        if self._over is not None and not self._is_lost:
            if self._manager.closed is not None:
                raise self._manager.closed
            raise InvalidTransition(f"{self!r} has ended; it cannot {step} any more")
        self._is_settling = True
        try:
            await self._ask(rule, request)
        finally:
            self._is_settling = False
        self._finish(step)

    async def _end(
        self, rule: Callable[[Document | None, int, R], Ruling], request: R
    ) -> None:
        """Ask a rule that ends the claim, whatever cancellation comes meanwhile."""
        manager = self._manager
        self._is_settling = True
        try:
            await manager.for_sure(self._identity, self.task_id, rule, request)
        except StaleClaim as error:
            self.lose(str(error))
            raise
        finally:
            self._is_settling = False
        self._finish("end")

    async def give_up(self, reason: str) -> None:
        """Give the task back for a worker that is gone; harmless when it has ended."""
        if self._over is not None:
            return
        request = (self._right, "release", 0, reason)
        try:
            await self._end(decide_give_back, request)
        except SwarmError:
            return  # the lease bounds what is left

    def _failed(
        self, error: str | BaseException, *, retry: bool = True
    ) -> tuple[Right, AttemptFailure]:
        """Return the request to end the attempt by an error."""
        chance = self._manager.entropy.jitter(0.0, 1.0)
        return self._right, AttemptFailure(in_words(error), retry, chance)

    def _finish(self, how: str) -> None:
        self._over = how
        claims = self._manager.claims
        if claims.get(self.task_id) is self:
            del claims[self.task_id]

    def lose(self, reason: str) -> None:
        """Take in that it is not the live claim any more: cancel the body."""
        if self._over is None:
            self._is_lost = True
            self._finish(reason)
            if self._body is not None:
                self._body.cancel_soon()

    def may_have_steps(self) -> bool:
        """Return whether another claim of the task may have recorded steps."""
        history = self._record.history
        owners = sum(entry.step in ("claim", "hand over") for entry in history)
        return owners > 1 or len(history) >= KEPT_ENTRIES

    def _stale(self) -> StaleClaim:
        if self._is_lost:
            return StaleClaim(
                f"claim {self.token} of task {self.task_id} ({self.kind}) was lost: "
                f"{self._over}"
            )
        return stale(self._manager.index.records.get(self.task_id), self.token)

    # --- what the log and the clock say -----------------------------------------------

    def follow(self, record: TaskRecord | None) -> None:
        """Take in the task's new record; called in the middle of a commit."""
        claim = None if record is None else record.claim
        token = self._right.token
        if record is None or claim is None or claim.token != token:
            if self._is_settling or self._over is not None:
                return
            last = record.history[-1] if record is not None else None
            if last is not None and last.step == "hand over":
                self._finish(f"handed over to {last.agent!r}")
            else:
                self.lose("it is gone" if last is None else last.reason or last.step)
            return
        is_new = record.cancel is not None and self._record.cancel is None
        self._record = record
        self._claim = claim
        if is_new and self._body is not None:
            self._body.cancel_soon()

    async def close(self, reason: str, *, has_failed: bool = False) -> None:
        """Give the task back for a worker that is gone: its body can do nothing more.

        The attempt counts only when the worker has failed. A task that may be handed on
        is left to its handoff, until the lease is over.
        """
        if self._over is not None:
            return
        self._is_settling = True
        if self._record.handoff is None:
            apply_one, who = self._manager.apply_one, self._identity
            with suppress(SwarmError):  # the lease bounds what is left
                if has_failed:
                    await apply_one(
                        who, self.task_id, decide_fail, self._failed(reason)
                    )
                else:
                    request = (self._right, "release", 0, reason)
                    await apply_one(who, self.task_id, decide_give_back, request)
        self._finish(reason)

    def is_decided(self) -> bool:
        """Return whether it has ended, and is renewed no more."""
        return self._over is not None

    def expire(self) -> None:
        """Renew the claim; give it up when it could not be renewed in time (J7)."""
        manager = self._manager
        now = manager.clock.monotonic()
        if now >= self._local_end and not self._is_settling:
            self.lose("it could not be renewed in time")
            return
        pause = self._claim.lease / MICRO / 3
        self.deadline = now + pause
        manager.deadlines.add(pause, self)
        if self._is_settling:  # the kernel is asked already whether it holds
            return
        manager.start(self._renew(), "tasks: heartbeat")

    async def _renew(self) -> None:
        before = self._manager.clock.monotonic()
        try:
            await self._ask(decide_renew, self._right)
        except SwarmError:
            return  # lost, or tried again at the next heartbeat
        self._local_end = before + self._claim.lease / MICRO


def in_words(error: str | BaseException) -> str:
    """Return an error as a record keeps it.

    Raises:
        TypeError: The error is neither text nor an exception.
    """
    if isinstance(error, BaseException):
        error = f"{type(error).__name__}: {error}" if str(error) else repr(error)
    elif not isinstance(error, str):
        raise TypeError(f"an error is text or an exception, not {error!r}")
    return error[:_LONGEST_ERROR]
