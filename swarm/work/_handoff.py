"""One handoff: what it says, and how it is accepted, rejected or withdrawn."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, Final, Literal, NamedTuple, TypeAlias, cast

import orjson

from swarm.coordination import Lease
from swarm.errors import InvalidTransition, NotFound, SwarmError
from swarm.model import JSON, AgentIdentity, Path, check_seconds, check_text
from swarm.ports import View
from swarm.work import _handoff_rules as rules
from swarm.work._carrying import (
    adopt,
)
from swarm.work._checkpoint_rules import Checkpoint, task_series
from swarm.work._checkpoint_rules import find as find_checkpoint
from swarm.work._claim import (
    Claim,
)
from swarm.work._claim_rules import (
    Right,
    decide_give_back,
)
from swarm.work._context import visible
from swarm.work._handoff_manager import HandoffManager
from swarm.work._handoff_record import (
    HandoffRecord,
    HandoffStatus,
    handoff_path,
    load_handoff,
)
from swarm.work._handoff_rules import Taken
from swarm.work._task_record import MICRO, TaskRecord, load, task_path

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
        id: The handoff's id.
        task_id: The task's id.
        kind: The task's kind.
        payload: The task's payload; None if the task is gone.
        status: How far it has come.
        sender: The name of the agent that offers the task.
        to: The address it goes to, such as "agent:bo" or "capability:review".
        receiver: The name of the agent that accepted, or None.
        completed: What is done.
        withheld: The keys of `completed` that are left out.
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
        self.claim: Claim | None = None
        self.leases: tuple[Lease, ...] = ()
        self.host: asyncio.Task[Any] | None = None
        record = loaded.record
        self.id: str = record.id
        self.task_id: str = record.task_id
        self.kind: str = record.kind
        self.sender: str = record.sender
        self.to: str = record.to
        self.remaining: str = record.remaining
        self.notes: str = record.notes
        self.trail: tuple[str, ...] = record.trail
        self.correlation_id: str = record.correlation
        self._show(loaded)

    def _show(self, loaded: Loaded) -> None:
        record, task, checkpoint = loaded
        completed = orjson.loads(record.completed)
        withheld: tuple[str, ...] = ()
        may_read = self._may_read
        if may_read is not None:
            completed, withheld = visible(completed, may_read)
            if not may_read(task_series(record.task_id)):
                checkpoint = None
            if not may_read(task_path(record.task_id)):
                task = None
        self.completed: JSON = completed
        self.withheld = withheld
        self.checkpoint: Checkpoint | None = checkpoint
        self.payload: JSON = None if task is None else orjson.loads(task.spec.payload)
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
        self._note(outcome.handoff)
        return claim

    async def reject(self, reason: str = "") -> None:
        """Leave the task with its sender, who is told why.

        A handoff to a capability or role stays open for the other agents.

        Raises:
            AccessDenied: The handoff is not addressed to this agent.
            InvalidTransition: It is not open any more.
        """
        check_text("a reason", reason)
        _, record = await self._manager.decide(
            self._identity, self._record, rules.reject, self._identity, reason
        )
        self._note(record)

    async def withdraw(self, reason: str = "") -> None:
        """Take the offer back; the sender goes on with its claim.

        Raises:
            AccessDenied: Another agent made the offer.
            InvalidTransition: It is not open any more.
        """
        check_text("a reason", reason)
        _, record = await self._manager.decide(
            self._identity, self._record, rules.withdraw, self._identity, reason
        )
        self._note(record)

    async def outcome(self) -> Outcome:
        """Wait until the offer is decided; return how.

        The sender keeps the task until it is "accepted". Cancelling the wait leaves the
        offer open.

        Raises:
            Closed: The swarm is closed.
        """
        self._note(await self._manager.decided(self.id))
        status = self.status.value
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


async def _caught(deciding: Coroutine[Any, Any, tuple[int, Any]]) -> tuple[int, Any]:
    """Return what a decision comes to, an error as its outcome."""
    try:
        return await deciding
    except Exception as error:  # noqa: BLE001  # raised by the task that asked
        return 0, error
