"""Handoffs: how an agent offers a task to another one, and how that one takes it."""

import asyncio
from collections.abc import Sequence
from typing import Any, Final, Literal, TypeAlias, cast

import orjson

from swarm.coordination import Grant, Lease
from swarm.errors import InvalidTransition, NotFound, TaskTimeout
from swarm.model import (
    JSON,
    MICRO,
    Displayable,
    check_choice,
    check_seconds,
    check_text,
    check_timeout,
    check_whole,
    shown,
)
from swarm.ports import HandoffCall, Plan, View, correlated, current_cause
from swarm.work import _handoff_rules as rules
from swarm.work._checkpoint_rules import Checkpoint, task_series
from swarm.work._checkpoint_rules import find as find_checkpoint
from swarm.work._claim import Claim, adopt
from swarm.work._claiming import take
from swarm.work._context import visible
from swarm.work._handoff_manager import HandoffManager
from swarm.work._handoff_record import (
    HANDOFFS,
    HandoffRecord,
    HandoffStatus,
    LeaseName,
    handoff_path,
    load_handoff,
)
from swarm.work._submit_rules import encoded, task_id_of
from swarm.work._task_handle import Caller
from swarm.work._task_record import TaskRecord, load, task_path

Outcome: TypeAlias = Literal["accepted", "rejected", "expired", "withdrawn"]

LEASE: Final = 30.0
"""Default seconds for which an accepted claim lasts without renewal."""

_TAKEN: Final = ("completed", "failed")


Seen: TypeAlias = tuple[HandoffRecord, TaskRecord | None, Checkpoint | None]
"""A handoff with its task and its checkpoint, if they are there."""


class Handoff(Displayable):
    """One handoff, as its sender or a receiver holds it.

    What the agent may not read is left out. `status`, `receiver` and `reason` are those
    of the moment it was made or loaded; `refresh` loads them anew.

    Attributes:
        id: The handoff's id.
        task_id: The task's id.
        kind: The task's kind.
        payload: The task's payload; None if the task is gone.
        status: How far it has come.
        sender: The name of the agent that offers the task.
        to: The address it goes to, such as "agent:bo" or "capability:review".
        receiver: The name of the agent that accepted, or None.
        completed: What is done; without the keys of places that may not be read.
        remaining: What is left to do.
        notes: More about it.
        checkpoint: The checkpoint to go on from, or None.
        trail: The agents that had the task before, oldest first; the sender is last.
        reason: Why it came to nothing or failed, or "".
        correlation_id: The correlation id of its events, from the request to the end.
        claim: The claim that `accept` has returned, or None.
        leases: The leases of locks that came along with it.
        host: The task that waits for the code which is to accept, or None; it is
            cancelled when the claim is lost.
    """

    def __init__(self, manager: HandoffManager, caller: Caller, seen: Seen) -> None:
        """Show a handoff to a caller."""
        record, task, checkpoint = seen
        self._manager = manager
        self._caller = caller
        self.claim: Claim | None = None
        self.leases: tuple[Lease, ...] = ()
        self.host: asyncio.Task[Any] | None = None
        self.id: str = record.id
        self.task_id: str = record.task_id
        self.kind: str = record.kind
        self.sender: str = record.sender
        self.to: str = record.to
        self.remaining: str = record.remaining
        self.notes: str = record.notes
        self.trail: tuple[str, ...] = record.trail
        self.correlation_id: str = record.correlation
        completed = orjson.loads(orjson.dumps(record.completed))  # a private copy
        self.completed: JSON = visible(completed, caller.may_see)
        self.payload: JSON = None
        if task is not None and caller.may_read(record.task_id):
            self.payload = orjson.loads(task.spec.payload)
        may_go_on = caller.may_see(task_series(record.task_id))
        self.checkpoint: Checkpoint | None = checkpoint if may_go_on else None
        self._note(record)

    def _note(self, record: HandoffRecord) -> None:
        self._record = record
        self.status: HandoffStatus = record.status
        self.receiver: str | None = record.receiver or None
        self.reason: str = record.reason

    def __repr__(self) -> str:
        return (
            f"<Handoff {self.id} of task {self.task_id} from '{self.sender}' to "
            f"{self.to}, {self.status}>"
        )

    async def accept(self, *, lease: float = LEASE) -> Claim:
        """Take the task over and return the claim, which renews itself.

        From that commit on the sender's claim is stale, and so are the leases that the
        sender named: `leases` has those that took their place, which are renewed until
        this turn or task ends. Cancelled before it is answered, it gives the task back.

        Args:
            lease: How many seconds the claim lasts without renewal.

        Raises:
            AccessDenied: The handoff is not addressed to this agent.
            InvalidTransition: It is not open any more.
            StaleClaim: The sender has lost the task.
            StaleLease: The sender has lost a lease that goes along.
        """
        check_seconds("lease", lease)
        manager, tasks, me = self._manager, self._manager.tasks, self._caller.identity
        for held in self._record.leases:
            manager.locks.check_hold(me, held.name)
        before = tasks.clock.monotonic()
        grants: Sequence[Grant] = ()

        async def taking() -> tuple[int, TaskRecord | None]:
            nonlocal grants
            revision, outcome = await self._decide(rules.accept, me, int(lease * MICRO))
            if not isinstance(outcome, rules.Taken):
                return 0, None
            grants = outcome.grants
            return revision, outcome.task

        revision, task = await take(tasks, me, taking())
        if task is None:
            raise InvalidTransition(f"handoff {self.id} to {self.to} has expired")
        claim = self.claim = adopt(tasks, me, task, revision, before)
        claim.offer = self
        for grant in grants:
            grant.token = grant.token or revision
        self.leases = tuple(
            manager.locks.receive(me, held.name, grant)
            for held, grant in zip(self._record.leases, grants, strict=True)
        )
        if self.host is not None:
            claim.enter(self.host)
            claim.is_served = True
        return claim

    async def reject(self, reason: str = "") -> None:
        """Leave the task with its sender, who is told why.

        A handoff to a capability or role stays open for the other agents.

        Raises:
            AccessDenied: The handoff is not addressed to this agent.
            InvalidTransition: It is not open any more.
        """
        check_text("a reason", reason)
        await self._decide(rules.reject, self._caller.identity, reason)

    async def withdraw(self, reason: str = "") -> None:
        """Take the offer back; the sender goes on with its claim.

        Raises:
            AccessDenied: Another agent made the offer.
            InvalidTransition: It is not open any more.
        """
        check_text("a reason", reason)
        await self._decide(rules.withdraw, self._caller.identity, reason)

    async def outcome(self, timeout: float | None = None) -> Outcome:
        """Wait until the offer is decided; return how.

        The sender keeps the task until it is "accepted". Cancelling the wait leaves the
        offer open.

        Args:
            timeout: Seconds to wait; None: as long as it takes.

        Raises:
            TaskTimeout: The offer was not decided in time; it stays open.
            Closed: The swarm is closed.
        """
        check_timeout(timeout)
        await self._manager.news.until(
            self.id,
            self.refresh,
            lambda _: self.status is not HandoffStatus.REQUESTED,
            timeout,
        )
        status = self.status.value
        if status == "requested":
            raise TaskTimeout(
                f"the handoff of task {self.task_id} was not decided within {timeout} s"
            )
        return cast(Outcome, "accepted" if status in _TAKEN else status)

    async def refresh(self) -> None:
        """Load its status, receiver and reason anew.

        Raises:
            NotFound: It has been removed.
        """
        self._note((await self._manager.tasks.kernel.read(_look, self.id))[0])

    async def _decide(self, rule: Any, *arguments: Any) -> tuple[int, Any]:
        revision, outcome = await self._manager.decide(
            self._caller.identity, self._record, rule, *arguments
        )
        taken = isinstance(outcome, rules.Taken)
        self._note(outcome.handoff if taken else outcome)
        return revision, outcome


class Handoffs:
    """Handoffs as one agent makes and finds them.

    `handoff = await self.handoffs.offer(claim, to="reviewer", remaining="…")`, then
    `await handoff.outcome()`. The receiver's `async def handoff(self, offer)` is called
    as a turn; what it accepts ends with the turn, unless the turn ended it before.
    """

    __slots__ = ("_caller", "_manager")

    def __init__(self, manager: HandoffManager, caller: Caller) -> None:
        """Act for a caller."""
        self._manager = manager
        self._caller = caller

    def __repr__(self) -> str:
        return f"<Handoffs of '{self._caller.identity.agent_id}'>"

    async def offer(
        self,
        claim: Claim,
        *,
        to: str,
        completed: JSON = None,
        remaining: str = "",
        notes: str = "",
        checkpoint: Checkpoint | int | None = None,
        leases: Sequence[Lease] = (),
        timeout: float = 60.0,
    ) -> Handoff:
        """Offer a task that this agent works on to another one.

        The task stays with this agent, under its claim, until the offer is accepted.
        From then on the claim is stale, and leaving its block does nothing.
        When this is cancelled, the offer may have been made: `find` has it then, and it
        expires.

        Args:
            claim: The claim on the task.
            to: The receiver: a name, "agent:NAME", "capability:NAME" or "role:NAME".
            completed: What is done, as JSON. Keys of a dict that are paths below a
                folder of the tree are left out for a receiver that may not read them.
            remaining: What is left to do.
            notes: More about it.
            checkpoint: The task's checkpoint to go on from, or its number.
            leases: The leases of locks that go along: the receiver holds them from the
                commit on that makes it the owner.
            timeout: Seconds after which the offer expires.

        Raises:
            StaleClaim: The claim is not the live one.
            AccessDenied: The claim is that of another agent.
            NoSuchAgent: The address means no other living agent.
            ConflictError: Another handoff of the task is pending.
            LimitExceeded: The task was handed on too often.
            NotFound: The task has no such checkpoint.
            ValueError: The address or the time-out cannot be meant.
        """
        if not isinstance(claim, Claim):
            raise TypeError(f"a task is offered by its claim, not by {shown(claim)}")
        check_text("remaining", remaining)
        check_text("notes", notes)
        check_seconds("timeout", timeout)
        seq = checkpoint.seq if isinstance(checkpoint, Checkpoint) else checkpoint
        if seq is not None:
            check_whole("checkpoint", seq, 1)
        claim.conditions()  # refuses a claim that is known to be lost
        manager, tasks, me = self._manager, self._manager.tasks, self._caller.identity
        done = {} if completed is None else completed
        done = orjson.loads(encoded(tasks.codec, "what is completed", done))
        if not isinstance(leases, Sequence):
            raise TypeError(f"leases is a list of leases of locks, not {shown(leases)}")
        handed = tuple(map(_lease_name, leases))

        async def proceed(call: HandoffCall) -> Handoff:
            handoff_id = tasks.new_id("handoff")
            record = HandoffRecord(
                id=handoff_id,
                task_id=claim.task_id,
                sender=me.agent_id,
                to=rules.parse_address(call.to),
                claim_id=claim.right.id,
                token=claim.token,
                expires_at=int(timeout * MICRO),
                completed=done,
                remaining=remaining,
                notes=notes,
                checkpoint=seq,
                leases=handed,
                correlation=_correlation() or handoff_id,
            )
            with correlated(record.correlation):
                await tasks.kernel.apply(me, _offer, record, manager.hops)
            return await self.receive(handoff_id)

        call = HandoffCall(sender=me, task_id=claim.task_id, to=to)
        interceptors = tasks.interceptors
        if interceptors is None or interceptors.handoff is None:
            return await proceed(call)
        return cast(Handoff, await interceptors.handoff(call, proceed))

    async def get(self, handoff_id: str) -> Handoff:
        """Return a handoff.

        Raises:
            NotFound: There is none of this id.
            AccessDenied: This agent may not read it.
        """
        check_text("the id of a handoff", handoff_id)
        self._caller.check(handoff_path(handoff_id), "read")
        return await self.receive(handoff_id)

    async def receive(self, handoff_id: str) -> Handoff:
        """Return a handoff that concerns this agent, whatever else it may read.

        Raises:
            NotFound: There is none of this id.
        """
        seen = await self._manager.tasks.kernel.read(_look, handoff_id)
        return Handoff(self._manager, self._caller, seen)

    async def find(
        self,
        *,
        task: Any = None,
        status: HandoffStatus | str | None = None,
        limit: int | None = 100,
    ) -> list[Handoff]:
        """Return the handoffs that fit and may be read, newest first.

        Args:
            task: A task: its id, claim or handle.
            status: How far they have come.
            limit: How many at most; None: all.
        """
        if status is not None:
            check_choice("status", status, tuple(HandoffStatus))
        wanted = None if status is None else HandoffStatus(status)
        task_id = None if task is None else task_id_of(task)
        if limit is not None:
            check_whole("limit", limit, 0)
        may_see = self._caller.may_see

        def look(view: View) -> list[Seen]:
            records = [
                record
                for document in view.documents(HANDOFFS)
                if may_see(document.path)
                if (record := load_handoff(document)) is not None
                if task_id in (None, record.task_id)
                if wanted in (None, record.status)
            ]
            records.sort(key=lambda record: (-record.requested_at, record.id))
            return [_seen(view, record) for record in records[:limit]]

        found = await self._manager.tasks.kernel.read(look)
        return [Handoff(self._manager, self._caller, seen) for seen in found]


def _lease_name(lease: Any) -> LeaseName:
    if not isinstance(lease, Lease) or not lease.mode:
        raise TypeError(f"the leases of locks go along with a task, not {shown(lease)}")
    lease.conditions()  # refuses one that is known to be lost
    return LeaseName(name=lease.name, id=lease.id, token=lease.token)


def _correlation() -> str | None:
    """Return the correlation id of what runs; None while it has none yet."""
    cause = current_cause()
    if cause is None or (not cause.root and cause.correlation_id == "c0"):
        return None
    return cause.correlation_id


def _offer(view: View, record: HandoffRecord, hops: int) -> Plan:
    seq, series = record.checkpoint, task_series(record.task_id)
    if seq is not None and find_checkpoint(view, series, seq) is None:
        raise NotFound(f"task {record.task_id} has no checkpoint {seq}")
    return rules.offer(view, record, hops)


def _look(view: View, handoff_id: str) -> Seen:
    record = load_handoff(view.find(handoff_path(handoff_id)))
    if record is None:
        raise NotFound(f"there is no handoff {handoff_id}")
    return _seen(view, record)


def _seen(view: View, record: HandoffRecord) -> Seen:
    task, series = (
        load(view.find(task_path(record.task_id))),
        task_series(record.task_id),
    )
    seq = record.checkpoint
    return record, task, None if seq is None else find_checkpoint(view, series, seq)
