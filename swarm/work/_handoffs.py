"""Handoffs: how an agent offers a task to another one, and how that one takes it."""

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, Final, Literal, NamedTuple, TypeAlias, cast

import orjson

from swarm.coordination import Lease
from swarm.errors import (
    AccessDenied,
    InvalidTransition,
    NotFound,
    SwarmError,
)
from swarm.model import (
    JSON,
    AgentIdentity,
    Path,
    check_seconds,
    check_text,
    check_whole,
)
from swarm.ports import Plan, View, correlated, current_cause
from swarm.work import _handoff_rules as rules
from swarm.work._checkpoint_rules import Checkpoint, task_series
from swarm.work._checkpoint_rules import find as find_checkpoint
from swarm.work._checkpoints import task_id_of
from swarm.work._claim import Claim, adopt
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
from swarm.work._handoff_rules import Taken
from swarm.work._task_record import MICRO, TaskRecord, load, task_path
from swarm.work._transitions import Right, decide_give_back

Outcome: TypeAlias = Literal["accepted", "rejected", "expired", "withdrawn"]

Reader = Callable[[Path], bool]
"""Whether a place may be read."""

LEASE: Final = 30.0
"""How many seconds an accepted claim lasts without renewal, unless told otherwise."""

_TAKEN: Final = ("completed", "failed")


class Loaded(NamedTuple):
    """What a handle on a handoff shows.

    Attributes:
        record: The handoff's record.
        task: The task's record, or None: it is gone.
        checkpoint: The checkpoint to go on from, or None.
    """

    record: HandoffRecord
    task: TaskRecord | None
    checkpoint: Checkpoint | None


def load_offer(view: View, handoff_id: str) -> Loaded | None:
    """Return a handoff with its task and its checkpoint; None: there is none."""
    record = load_handoff(view.find(handoff_path(handoff_id)))
    if record is None:
        return None
    task = load(view.find(task_path(record.task_id)))
    checkpoint = None
    if record.checkpoint is not None:
        series = task_series(record.task_id)
        checkpoint = find_checkpoint(view, series, record.checkpoint)
    return Loaded(record, task, checkpoint)


class Handoff:
    """One handoff, as its sender or a receiver holds it.

    Its fields are those of the moment it was made or loaded; `refresh` loads them anew.
    What the agent may not read is left out.

    Attributes:
        withheld: The entries of `completed` that the agent may not read.
        claim: The claim that `accept` has returned, or None.
        leases: The leases of locks that came along with it.
        host: The task that waits for the code which is to accept, or None; it is
            cancelled when the claim is lost.
    """

    def __init__(
        self,
        manager: HandoffManager,
        identity: AgentIdentity,
        may_read: Reader | None,
        loaded: Loaded,
    ) -> None:
        """Show a handoff to `identity`."""
        self._manager = manager
        self._identity = identity
        self._may_read = may_read
        self.withheld: tuple[str, ...] = ()
        self.claim: Claim | None = None
        self.leases: tuple[Lease, ...] = ()
        self.host: asyncio.Task[Any] | None = None
        self._show(loaded)

    def _show(self, loaded: Loaded) -> None:
        self._record, self._task, checkpoint = loaded
        completed = orjson.loads(self._record.completed)
        may_read = self._may_read
        if may_read is not None:
            completed, self.withheld = visible(completed, may_read)
            if not may_read(task_series(self._record.task_id)):
                checkpoint = None
            if not may_read(task_path(self._record.task_id)):
                self._task = None
        self._completed: JSON = completed
        self._checkpoint = checkpoint

    # --- what it says -----------------------------------------------------------------

    @property
    def id(self) -> str:
        """The handoff's id."""
        return self._record.id

    @property
    def task_id(self) -> str:
        """The task's id."""
        return self._record.task_id

    @property
    def kind(self) -> str:
        """The task's kind."""
        return self._record.kind

    @property
    def payload(self) -> JSON:
        """The task's payload; None if the agent may not read it or the task is gone."""
        return None if self._task is None else orjson.loads(self._task.spec.payload)

    @property
    def status(self) -> HandoffStatus:
        """How far it had come when it was loaded."""
        return self._record.status

    @property
    def sender(self) -> str:
        """The name of the agent that offers the task."""
        return self._record.sender

    @property
    def to(self) -> str:
        """The address it goes to, such as "agent:bo" or "capability:review"."""
        return self._record.to

    @property
    def receiver(self) -> str | None:
        """The name of the agent that accepted, or None."""
        return self._record.receiver or None

    @property
    def completed(self) -> JSON:
        """What is done, as far as the agent may read it."""
        return self._completed

    @property
    def remaining(self) -> str:
        """What is left to do."""
        return self._record.remaining

    @property
    def notes(self) -> str:
        """More about it."""
        return self._record.notes

    @property
    def checkpoint(self) -> Checkpoint | None:
        """The checkpoint to go on from, if there is one that the agent may read."""
        return self._checkpoint

    @property
    def trail(self) -> tuple[str, ...]:
        """The agents that had the task before, oldest first; the sender is last."""
        return self._record.trail

    @property
    def reason(self) -> str:
        """Why it came to nothing or failed, or ""."""
        return self._record.reason

    @property
    def correlation_id(self) -> str:
        """The correlation id of its events, from the request to the end."""
        return self._record.correlation

    def __repr__(self) -> str:
        return (
            f"<Handoff {self.id} of task {self.task_id} from '{self.sender}' to "
            f"{self.to}, {self.status}>"
        )

    # --- what can be done -------------------------------------------------------------

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
        manager, tasks = self._manager, self._manager.tasks
        for held in self._record.leases:
            manager.locks.check_hold(self._identity, held.name)
        claim_id = tasks.new_id("claim")
        before = tasks.clock.monotonic()
        deciding = manager.decide(
            self._identity,
            self._record,
            rules.accept,
            self._identity,
            claim_id,
            int(lease * MICRO),
        )
        if tasks.kernel.local is not None:
            revision, outcome = await deciding
        else:
            revision, outcome = await self._at_a_distance(deciding)
        if not isinstance(outcome, Taken):
            raise InvalidTransition(
                f"handoff {self.id} has expired; {self.to} was late"
            )
        claim = adopt(tasks, self._identity, outcome.task, revision, before)
        claim.offer = self
        for grant in outcome.grants:
            grant.token = grant.token or revision
        self.leases = tuple(
            manager.locks.receive(self._identity, held.name, grant)
            for held, grant in zip(self._record.leases, outcome.grants, strict=True)
        )
        self.claim = claim
        if self.host is not None:
            claim.enter(self.host)
        self._record, self._task = outcome.handoff, outcome.task
        return claim

    async def reject(self, reason: str = "") -> None:
        """Leave the task with its sender, who is told why.

        A handoff to a capability or role stays open for the other agents.

        Raises:
            AccessDenied: The handoff is not addressed to this agent.
            InvalidTransition: It is not open any more.
        """
        check_text("a reason", reason)
        _, self._record = await self._manager.decide(
            self._identity, self._record, rules.reject, self._identity, reason
        )

    async def withdraw(self, reason: str = "") -> None:
        """Take the offer back; the sender goes on with its claim.

        Raises:
            AccessDenied: Another agent made the offer.
            InvalidTransition: It is not open any more.
        """
        check_text("a reason", reason)
        _, self._record = await self._manager.decide(
            self._identity, self._record, rules.withdraw, self._identity, reason
        )

    async def outcome(self) -> Outcome:
        """Wait until the offer is decided; return how.

        The sender keeps the task until it is "accepted". Cancelling the wait leaves the
        offer open.

        Raises:
            Closed: The swarm is closed.
        """
        self._record = await self._manager.decided(self.id)
        status = self._record.status.value
        return cast(Outcome, "accepted" if status in _TAKEN else status)

    async def refresh(self) -> None:
        """Load its fields anew.

        Raises:
            NotFound: It has been removed.
        """
        loaded = await self._manager.tasks.kernel.read(load_offer, self.id)
        if loaded is None:
            raise NotFound(f"there is no handoff {self.id}")
        self._show(loaded)

    async def _at_a_distance(
        self, deciding: Coroutine[Any, Any, tuple[int, Any]]
    ) -> tuple[int, Any]:
        """Accept in a task of its own; cancelled meanwhile, give the task back."""
        tasks = self._manager.tasks
        commit = tasks.start(_caught(deciding), "handoffs: accept")
        try:
            found: tuple[int, Any] = await asyncio.shield(commit)
        except asyncio.CancelledError:
            tasks.start(self._undo(commit), "handoffs: undo an acceptance")
            raise
        if isinstance(found[1], Exception):
            raise found[1]
        return found

    async def _undo(self, commit: "asyncio.Task[tuple[int, Any]]") -> None:
        try:
            revision, outcome = await commit
            if not isinstance(outcome, Taken) or outcome.task.claim is None:
                return
            claim = outcome.task.claim
            right = Right(self.task_id, claim.id, claim.token or revision)
            request = (right, "release", 0, "its worker was cancelled")
            await self._manager.tasks.apply_one(
                self._identity, self.task_id, decide_give_back, request
            )
        except SwarmError:
            return  # the lease bounds what is left


class Handoffs:
    """Handoffs as one agent makes and finds them.

    `handoff = await self.handoffs.offer(claim, to="reviewer", remaining="…")`, then
    `await handoff.outcome()`. The receiver's `async def handoff(self, offer)` is called
    as a turn; what it accepts ends with the turn, unless the turn ended it before.
    """

    __slots__ = ("_identity", "_manager", "_may_read")

    def __init__(
        self,
        manager: HandoffManager,
        identity: AgentIdentity,
        may_read: Reader | None = None,
    ) -> None:
        """Act as `identity`, which may read where `may_read` says so; None: all."""
        self._manager = manager
        self._identity = identity
        self._may_read = may_read

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

        Args:
            claim: The claim on the task.
            to: The receiver: a name, "agent:NAME", "capability:NAME" or "role:NAME".
            completed: What is done, as JSON. Keys of a dict that are paths below a
                folder of the tree are left out for a receiver that may not read them.
            remaining: What is left to do.
            notes: More about it.
            checkpoint: The task's checkpoint to go on from.
            leases: The leases of locks that go along: the receiver holds them from the
                commit on that makes it the owner.
            timeout: Seconds after which the offer expires.

        Raises:
            StaleClaim: The claim is not the live one.
            NoSuchAgent: The address means no other living agent.
            ConflictError: Another handoff of the task is pending.
            LimitExceeded: The task was handed on too often.
            NotFound: The task has no such checkpoint.
            ValueError: The address or the time-out cannot be meant.
        """
        if not isinstance(claim, Claim):
            raise TypeError(f"a task is offered by its claim, not by {claim!r}")
        address = rules.parse_address(to)
        check_text("remaining", remaining)
        check_text("notes", notes)
        check_seconds("timeout", timeout)
        manager, tasks = self._manager, self._manager.tasks
        claim.conditions()  # refuses a claim that is known to be lost
        handoff_id = tasks.new_id("handoff")
        record = HandoffRecord(
            id=handoff_id,
            task_id=claim.task_id,
            kind=claim.kind,
            sender=self._identity.agent_id,
            to=address,
            claim_id=claim.right.claim_id,
            token=claim.token,
            requested_at=0,
            expires_at=int(timeout * MICRO),
            completed=tasks.codec.encode({} if completed is None else completed),
            remaining=remaining,
            notes=notes,
            checkpoint=_number(checkpoint),
            leases=tuple(map(_lease_name, leases)),
            correlation=_correlation() or handoff_id,
        )
        with correlated(record.correlation):
            await tasks.kernel.apply(self._identity, _offer, record, manager.hops)
        return await self.receive(handoff_id)

    async def get(self, handoff_id: str) -> Handoff:
        """Return a handoff.

        Raises:
            NotFound: There is none of this id.
            AccessDenied: This agent may not read it.
        """
        path = handoff_path(handoff_id)
        if self._may_read is not None and not self._may_read(path):
            raise AccessDenied(f"'{self._identity}' may not read {path}")
        return await self.receive(handoff_id)

    async def receive(self, handoff_id: str) -> Handoff:
        """Return a handoff that concerns this agent, whatever else it may read.

        Raises:
            NotFound: There is none of this id.
        """
        loaded = await self._manager.tasks.kernel.read(load_offer, handoff_id)
        if loaded is None:
            raise NotFound(f"there is no handoff {handoff_id}")
        return Handoff(self._manager, self._identity, self._may_read, loaded)

    async def find(
        self,
        *,
        task: Any = None,
        status: HandoffStatus | str | None = None,
        limit: int = 100,
    ) -> list[Handoff]:
        """Return the handoffs that fit and may be read, newest first.

        Args:
            task: A task: its id, claim or handle.
            status: How far they have come.
            limit: How many at most.
        """
        wanted = None if status is None else HandoffStatus(status)
        task_id = None if task is None else task_id_of(task)
        check_whole("limit", limit, 1)
        found = await self._manager.tasks.kernel.read(_matching, task_id, wanted)
        may_read = self._may_read
        return [
            Handoff(self._manager, self._identity, may_read, loaded)
            for loaded in found
            if may_read is None or may_read(handoff_path(loaded.record.id))
        ][:limit]


def _lease_name(lease: Any) -> LeaseName:
    if not isinstance(lease, Lease) or not lease.mode:
        raise TypeError(f"the leases of locks go along with a task, not {lease!r}")
    lease.conditions()  # refuses one that is known to be lost
    return LeaseName(name=lease.name, id=lease.id, token=lease.token)


async def _caught(deciding: Coroutine[Any, Any, tuple[int, Any]]) -> tuple[int, Any]:
    """Return what a decision comes to, an error as its outcome."""
    try:
        return await deciding
    except Exception as error:  # noqa: BLE001  # raised by the task that asked
        return 0, error


def _number(checkpoint: Checkpoint | int | None) -> int | None:
    if checkpoint is None or isinstance(checkpoint, Checkpoint):
        return None if checkpoint is None else checkpoint.seq
    check_whole("checkpoint", checkpoint, 1)
    return checkpoint


def _correlation() -> str | None:
    """Return the correlation id of what runs; None while it has none yet."""
    cause = current_cause()
    if cause is None or (not cause.root and cause.correlation_id == "c0"):
        return None
    return cause.correlation_id


def _offer(view: View, record: HandoffRecord, hops: int) -> Plan:
    seq = record.checkpoint
    if (
        seq is not None
        and find_checkpoint(view, task_series(record.task_id), seq) is None
    ):
        raise NotFound(f"task {record.task_id} has no checkpoint {seq}")
    return rules.offer(view, record, hops)


def _matching(
    view: View, task_id: str | None, status: HandoffStatus | None
) -> list[Loaded]:
    found: list[Loaded] = []
    for document in view.documents(HANDOFFS):
        record = load_handoff(document)
        if (
            record is not None
            and task_id in (None, record.task_id)
            and status in (None, record.status)
        ):
            loaded = load_offer(view, record.id)
            assert loaded is not None  # it is in this very view
            found.append(loaded)
    return sorted(found, key=lambda f: (-f.record.requested_at, f.record.id))
