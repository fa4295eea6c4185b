"""The right to one attempt at a task: kept while it is renewed, lost when it is not.

This is the part of a claim that the log, the clock and the swarm speak to. What its
worker does with it is in `_claim.py`.
"""

import asyncio
import enum
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, Final, TypeVar

import orjson

from swarm.errors import InvalidTransition, StaleClaim, SwarmError
from swarm.model import (
    ABSENT,
    JSON,
    MICRO,
    AgentIdentity,
    Document,
    Path,
    shown,
    told,
    valid_text,
)
from swarm.ports import Condition, Holder, LocalKernel, Ruling, current_task
from swarm.work._task_manager import TaskManager
from swarm.work._task_record import (
    KEPT_ENTRIES,
    ClaimRecord,
    TaskRecord,
    stale,
)
from swarm.work._task_rules import (
    AttemptFailure,
    claimed,
    decide_fail,
    decide_give_back,
    decide_renew,
)

R = TypeVar("R")
Rule = Callable[[Document | None, int, R], Ruling]

_LONGEST_ERROR: Final = 2_000
"""Maximum number of characters of an error that a record keeps."""


class ClaimState(enum.Enum):
    """The state of a claim: live until it has ended, once.

    While it is being settled, what the log says of it is its own doing, and no
    heartbeat is sent.
    """

    LIVE = "live"
    SETTLING = "being settled"
    SETTLED = "completed, failed, snoozed or released by its own worker"
    LOST = "held no more, as the log or the clock says; its body is cancelled"
    LEFT = "given back or handed over for its worker"


LIVE: Final = ClaimState.LIVE
SETTLING: Final = ClaimState.SETTLING
SETTLED: Final = ClaimState.SETTLED
LOST: Final = ClaimState.LOST
LEFT: Final = ClaimState.LEFT


class HeldClaim:
    """A claim of this process, and the task that runs under it.

    Attributes:
        identity: The agent that holds it.
        manager: The tasks of the process it belongs to.
        right: What proves that this is the live claim, for rules.
        offer: The handoff that it was accepted from, or None.
        is_served: Whether the swarm asks the worker for the work, and ends the claim.
        beats_at: When it is to be renewed, in kernel time.
    """

    # Defaults of the class: what most claims never set is not kept in each.
    offer: Any = None
    is_served: bool = False
    _end: str = ""  # how it has ended, in words
    _cancelling = 0  # how many cancellations were asked of the body before it began

    def __init__(
        self,
        manager: TaskManager,
        identity: AgentIdentity,
        record: TaskRecord,
        right: ClaimRecord,
        before: float,
    ) -> None:
        """Stand for a claim that was asked for at `before`, in monotonic seconds."""
        self.manager: TaskManager = manager
        self.identity: AgentIdentity = identity
        self.right: ClaimRecord = right
        self._state = LIVE
        self._record = record
        self._renewed = before
        self._payload: Any = ABSENT  # decoded when it is first asked for
        # The body is the task that is cancelled when the claim is lost.
        self._body: asyncio.Task[Any] | None = None
        self._is_lent = False  # whether the body only waits for the code that works
        self._is_struck = False  # whether the body was cancelled from here
        self.beats_at: int = right.since + right.lease // 3
        manager.claims[record.spec.id] = self
        if self.beats_at < manager.rings_at:
            manager.ring_before(self.beats_at)

    @property
    def task_id(self) -> str:
        """The id of the task."""
        return self._record.spec.id

    @property
    def path(self) -> Path:
        """The path of the task's record."""
        return self._record.spec.path

    @property
    def attempt(self) -> int:
        """The number of the attempt, from 1."""
        return self._record.attempt

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
        return self.right.token

    @property
    def is_live(self) -> bool:
        """Whether it still holds, as far as is known here."""
        return self._state is LIVE or self._state is SETTLING

    @property
    def cancel_requested(self) -> str | None:
        """Why the task is to be cancelled, or None."""
        return self._record.cancel

    @property
    def kernel(self) -> object:
        """The swarm in which the claim holds: it guards nothing elsewhere."""
        return self.manager.kernel

    def __repr__(self) -> str:
        state = "live" if self.is_live else self._end
        task = f"{self.task_id} ({self.kind}), attempt {self.attempt}"
        return f"<Claim of task {task}, {state}>"

    def conditions(self) -> Sequence[Condition]:
        """Return what a write guarded by this claim requires (`ports.Guard`)."""
        self.check_live()
        right = self.right
        return (Holder(self.path, right.id, right.token, StaleClaim),)

    def check_now(self, local: LocalKernel) -> None:
        """Refuse what `conditions` would refuse, in the step that is to write."""
        if self._state is not LIVE:
            self.check_live()
        document = local.find_now(self._record.spec.path)
        claimed(document, local.now(), self.right)

    def folder_in(self, root: Path) -> Path:
        """Return the task's own folder in a top-level one."""
        return self._record.spec.folder_in(root)

    def may_have_steps(self) -> bool:
        """Return whether another claim of the task may have recorded steps."""
        steps = self._record.steps
        owners = sum(step[0] in ("claim", "hand over") for step in steps)
        return owners > 1 or len(steps) >= KEPT_ENTRIES

    # --- a body under it --------------------------------------------------------------

    def enter(self, task: "asyncio.Task[Any] | None" = None) -> None:
        """Have the running task, or a given one, cancelled when the claim is lost.

        A given task only waits for the code that works under the claim. A block that
        this code enters takes its place.
        """
        if self._state is not LIVE:
            self.check_live()
        if self._body is not None:
            if not self._is_lent:
                raise RuntimeError(f"a body runs already under {self!r}")
            self._leave_body(None)
        if task is not None or self._is_lent:
            self._is_lent = task is not None
        self._body = body = current_task() if task is None else task
        assert body is not None  # this is called in a coroutine
        self._cancelling = body.cancelling()
        if self._record.cancel is not None:
            self._cancel_body_soon()

    def _cancel_body_soon(self) -> None:
        """Cancel the body in the next turn of the loop, unless it has been left.

        Not at once: its task may be the one that made the commit which ended the claim.
        Cancelled while it runs, it could not take that back.
        """
        if self._body is not None:
            asyncio.get_running_loop().call_soon(self._cancel_body, self._body)

    def _cancel_body(self, body: "asyncio.Task[Any]") -> None:
        if self._body is body and not self._is_struck:
            self._is_struck = True
            body.cancel(repr(self))

    def _leave_body(self, error: BaseException | None) -> bool:
        """End the body; return whether its error is the cancellation from here."""
        body, self._body = self._body, None
        if body is None or not self._is_struck:
            return False
        self._is_struck = False
        is_last = body.uncancel() <= self._cancelling
        return is_last and isinstance(error, asyncio.CancelledError)

    # --- asking the rules -------------------------------------------------------------

    def check_live(self) -> None:
        """Refuse what a claim that has ended cannot do."""
        if not self.is_live:
            raise self._stale()

    async def _ask(self, rule: Rule[R], request: R) -> Any:
        """Ask a rule that only the live claim may ask; return its outcome."""
        self.check_live()
        try:
            _, outcome = await self.manager.apply_one(
                self.identity, self.path, rule, request
            )
        except StaleClaim as error:
            # A heartbeat that crosses the end of the claim tells nothing about it.
            if rule is not decide_renew or self._state is not SETTLING:
                self.lose(str(error))
            raise
        return outcome

    async def _settle(
        self, step: str, rule: Rule[R], request: R, *, for_sure: bool = False
    ) -> None:
        """Ask a rule that ends the claim; for sure, whatever cancellation comes."""
        if self._state is SETTLED or self._state is SETTLING:
            how = "has ended" if self._state is SETTLED else "is being ended"
            raise InvalidTransition(f"{self!r} {how}; it cannot {step}")
        if self._state is not LIVE:
            raise self._stale()
        manager, path = self.manager, self._record.spec.path
        self._state = SETTLING
        try:
            if manager.is_direct or (for_sure and manager.local is not None):
                manager.apply_now(self.identity, path, rule, request)
            else:
                asking = manager.apply_one(self.identity, path, rule, request)
                await (manager.to_its_end(asking) if for_sure else asking)
        except BaseException as error:
            if self._state is SETTLING:
                self._state = LIVE
            if isinstance(error, StaleClaim):
                self.lose(str(error))
            raise
        self._finish(SETTLED, step)

    async def give_up(self, reason: str) -> None:
        """Give the task back, or end it if it is to be cancelled, for sure.

        Harmless when the claim has ended. The lease bounds what a kernel refuses.
        """
        if self.is_live:
            request = (self.right, "release", 0, reason)
            with suppress(SwarmError):
                await self._settle("end", decide_give_back, request, for_sure=True)

    async def close(self, reason: str, *, has_failed: bool = False) -> None:
        """Give the task back for a worker that is gone: its body can do nothing more.

        The attempt counts only when the worker has failed. A task that may be handed on
        is left to its handoff, until the lease is over.
        """
        if not self.is_live:
            return
        self._state = SETTLING
        if self._record.handoff is None:
            apply, task = self.manager.apply_one, (self.identity, self.path)
            with suppress(SwarmError):  # the lease bounds what is left
                if has_failed:
                    await apply(*task, decide_fail, self._failed(reason))
                else:
                    released = (self.right, "release", 0, reason)
                    await apply(*task, decide_give_back, released)
        self._finish(LEFT, reason)

    def _failed(
        self, error: str | BaseException, *, retry: bool = True
    ) -> tuple[ClaimRecord, AttemptFailure]:
        """Return the request to end the attempt by an error."""
        chance = self.manager.entropy.jitter(0.0, 1.0)
        return self.right, AttemptFailure(in_words(error), retry, chance)

    def _finish(self, state: ClaimState, how: str) -> None:
        self._state = state
        self._end = how
        claims, task_id = self.manager.claims, self._record.spec.id
        if claims.get(task_id) is self:
            del claims[task_id]

    def lose(self, reason: str) -> None:
        """Take in that it is not the live claim any more: cancel the body."""
        if self.is_live:
            self._finish(LOST, reason)
            self._cancel_body_soon()

    def _stale(self) -> Exception:
        """Return the error of a claim that has ended."""
        closed = self.manager.closed
        if closed is not None and self._state is LEFT:
            return closed
        if self._state is LOST:
            return StaleClaim(
                f"claim {self.token} of task {self.task_id} ({self.kind}) was lost: "
                f"{self._end}"
            )
        return stale(self.manager.index.records.get(self.task_id), self.token)

    # --- what the log and the clock say -----------------------------------------------

    def follow(self, record: TaskRecord | None) -> None:
        """Take in the task's new record; called in the middle of a commit."""
        claim = None if record is None else record.claim
        if record is None or claim is None or claim.token != self.right.token:
            if self._state is not LIVE:
                return
            if record is None:
                self.lose("it is gone")
            elif record.last.step == "hand over":
                self._finish(LEFT, f"handed over to {record.last.agent!r}")
            else:
                last = record.last
                restored = "a snapshot without it was restored"
                self.lose(last.reason or last.step or restored)
            return
        is_new = record.cancel is not None and self._record.cancel is None
        self._record = record
        if is_new:
            self._cancel_body_soon()

    def beat(self, now: int) -> None:
        """Renew the claim; give it up when it could not be renewed in time (J7).

        It is renewed a little early rather than by a ring of the timer of its own.
        """
        lease, manager = self.right.lease, self.manager
        if self.beats_at > now + lease // 12:
            return
        passed = manager.clock.monotonic() - self._renewed
        left = lease - int(passed * MICRO)
        if self._state is SETTLING:  # the kernel is asked already whether it holds
            self.beats_at = now + lease // 3
        elif left <= 0:
            self.lose("it could not be renewed in time")
        else:
            self.beats_at = now + min(left, lease // 3)
            manager.start(self._renew(), "tasks: heartbeat")

    async def _renew(self) -> None:
        before = self.manager.clock.monotonic()
        try:
            await self._ask(decide_renew, self.right)
        except SwarmError:
            return  # lost, or tried again at the next heartbeat
        self._renewed = before


def in_words(error: str | BaseException) -> str:
    """Return an error as a record keeps it."""
    if isinstance(error, BaseException):
        error = told(error)
    elif not isinstance(error, str):
        raise TypeError(f"an error is text or an exception, not {shown(error)}")
    return valid_text(error[:_LONGEST_ERROR])
