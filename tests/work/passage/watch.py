"""Looks at every commit of a swarm, and remembers what must never be."""

from collections import Counter
from typing import Any

import orjson

from swarm.model import Commit
from swarm.work._handoff_record import HandoffRecord, HandoffStatus, load_handoff
from swarm.work._task_record import FINAL, TaskRecord, load
from swarm.work.pipelines._rules import look


class Watch:
    """The invariants of passage after each commit; `wrong` holds the breaches."""

    def __init__(self, kernel: Any) -> None:
        self.kernel = kernel
        self.tasks: dict[str, TaskRecord] = {}
        self.handoffs: dict[str, HandoffRecord] = {}
        self.newest: dict[str, int] = {}
        self.states: dict[str, list[Any]] = {}
        self.accepted: Counter[str] = Counter()
        self.wrong: list[str] = []
        self.kernel.listen(self.see, documents=True)

    def is_sound(self) -> bool:
        assert not self.wrong, self.wrong[0]
        return True

    def now(self) -> int:
        """Return kernel time, by which leases end."""
        now: int = self.kernel.local.now()
        return now

    def must(self, holds: object, claim: str) -> None:
        if not holds:
            self.wrong.append(claim)

    def see(self, commit: Commit) -> None:
        for document in commit.documents:
            match document.path.segments[:2]:
                case ("global", "tasks"):
                    self.see_task(document)
                case ("handoffs", _):
                    self.see_handoff(document)
                case ("checkpoints", _) if not document.is_deleted:
                    self.see_checkpoint(document)
        for event in commit.events:
            if type(event).__name__ == "HandoffAccepted":
                self.accepted[event.handoff_id] += 1
                once = self.accepted[event.handoff_id] == 1
                self.must(once, "O4: a handoff was accepted twice")
                self.see_acceptance(self.handoffs[event.handoff_id], event.receiver)
        self.check_owners()

    # --- O --------------------------------------------------------------------------

    def see_acceptance(self, record: HandoffRecord, receiver: str) -> None:
        kind, _, name = record.to.partition(":")
        is_meant = receiver != record.sender and (kind != "agent" or receiver == name)
        self.must(is_meant, "O4: an agent accepted that is not addressed")

    def see_task(self, document: Any) -> None:
        task_id = str(document.path.name)
        old = self.tasks.get(task_id)
        if document.is_deleted:
            self.tasks.pop(task_id, None)
            return
        record = load(document)
        self.must(old is None or old.status not in FINAL, "J5: a final task changed")
        claims = [r.claim for r in (old, record) if r is not None and r.claim]
        if len(claims) == 2 and claims[0].id != claims[1].id:
            grows = claims[0].token < claims[1].token
            self.must(grows, "O4: a new owner has no newer token")
        if record.claim is not None:
            in_time = record.claim.expires <= self.now() + record.claim.lease
            self.must(in_time, "O8: a claim lasts longer than its lease")
        self.tasks[task_id] = record
        if old is None:
            self.see_stage(record)

    def see_handoff(self, document: Any) -> None:
        record = load_handoff(document)
        if record is None:
            self.handoffs.pop(str(document.path.name), None)
        else:
            self.handoffs[record.id] = record

    def check_owners(self) -> None:
        """Check that each open handoff is that of the live claim (O1, O4, O8)."""
        offers: Counter[str] = Counter()
        for record in self.handoffs.values():
            task = self.tasks.get(record.task_id)
            claim = None if task is None else task.claim
            if record.status is HandoffStatus.REQUESTED:
                offers[record.task_id] += 1
                mine = claim is not None and claim.id == record.claim_id
                self.must(mine, "O5: an offer outlived the claim that made it")
            elif record.status is HandoffStatus.ACCEPTED:
                mine = claim is not None and claim.id == record.id
                self.must(mine, "O8: a handoff outlived its receiver's claim")
        self.must(max(offers.values(), default=0) <= 1, "O1: two offers of one task")

    # --- C --------------------------------------------------------------------------

    def see_checkpoint(self, document: Any) -> None:
        series, seq = str(document.path.segments[1]), int(document.path.name)
        value = orjson.loads(document.json)
        grows = seq > self.newest.get(series, 0) and value["seq"] == seq
        self.must(grows, "C1: a checkpoint is not newer than all before it")
        self.must(document.created == document.version, "C3: a checkpoint changed")
        self.newest[series] = seq
        self.states.setdefault(series, []).append(value["state"])
        task = self.tasks.get(series)
        if task is not None:
            owner = None if task.claim is None else task.claim.agent
            mine = owner == document.author.agent_id
            self.must(mine, "C2: a worker without the claim saved a checkpoint")

    # --- P --------------------------------------------------------------------------

    def see_stage(self, record: TaskRecord) -> None:
        """Check that a stage's task begins in time, and only if it has to."""
        if not record.spec.kind.startswith("pipeline."):
            return
        payload = orjson.loads(record.spec.payload)
        seen = look(self.kernel._view, payload["run"])
        if seen is None:
            return
        shape = seen.record.stage(payload["stage"])
        ready = all(seen.progress[b].status == "completed" for b in shape.after)
        self.must(ready, "P1: a stage began before one that it comes after")
        same = [
            task
            for task in self.tasks.values()
            if task is not record
            and task.spec.kind == record.spec.kind
            and orjson.loads(task.spec.payload) == payload
        ]
        over = all(task.status in ("failed", "cancelled") for task in same)
        self.must(over, "P7: what was completed or running began again")
