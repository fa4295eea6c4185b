"""Looks at every commit of a swarm for what must never happen to a task."""

from collections import Counter
from typing import Any

import orjson

from swarm import Swarm
from swarm.model import Commit, event_type
from swarm.work._task_record import FAILURES, FINAL, KEPT_ENTRIES, TaskRecord, load
from swarm.work._task_rules import NEW, TABLE

EVENTS = {
    "submit": ("task.created",),
    "claim": ("task.assigned", "task.started"),
    "hand over": ("task.assigned",),
    "complete": ("task.completed",),
    "resolve": ("task.completed",),
    "retry": ("task.requeued",),
    "snooze": ("task.requeued",),
    "release": ("task.requeued",),
    "reopen": ("task.requeued",),
    "fail": ("task.failed",),
    "expire": ("task.failed",),
    "escalate": ("task.escalated",),
    "cancel": ("task.cancelled",),
}


class TaskWatch:
    """The invariants of tasks after each commit; `wrong` holds the breaches."""

    @classmethod
    def of(cls, kernel: Any) -> "TaskWatch":
        """Watch a kernel; there is no one index to be looked at."""
        return cls(None, kernel)

    def __init__(self, swarm: Swarm | None, kernel: Any = None) -> None:
        self.kernel: Any = kernel if swarm is None else swarm._coordinator.kernel
        self.manager: Any = None if swarm is None else swarm.tasks.manager
        self.tasks: dict[str, TaskRecord] = {}
        self.tokens: dict[str, int] = {}
        self.failures: Counter[str] = Counter()
        self.rescued = 0
        self.wrong: list[str] = []
        self.kernel.listen(self.see, documents=True)
        self.picked: dict[str, TaskRecord] = {}
        if swarm is not None:
            self.note_picks(self.manager.index)

    def note_picks(self, index: Any) -> None:
        """Note which tickets are with a claim that tries for their task."""
        pick, give_back, defer = index.pick, index.give_back, index.defer

        def picks(selector: Any) -> Any:
            ticket = pick(selector)
            if ticket is not None:
                self.picked[ticket[2].spec.id] = ticket[2]
            return ticket

        def gives(ticket: Any) -> bool:
            self.picked.pop(ticket[2].spec.id, None)
            return give_back(ticket)

        def defers(ticket: Any, at: int) -> None:
            self.picked.pop(ticket[2].spec.id, None)
            defer(ticket, at)

        index.pick, index.give_back, index.defer = picks, gives, defers

    def now(self) -> int:
        """Return kernel time, by which leases end."""
        now: int = self.kernel.local.now()
        return now

    def must(self, holds: object, claim: str) -> None:
        if not holds:
            self.wrong.append(claim)

    def is_sound(self) -> bool:
        assert not self.wrong, self.wrong[0]
        self.check_index()
        assert not self.wrong, self.wrong[0]
        return True

    def see(self, commit: Commit) -> None:
        events = [event_type(event) for event in commit.events]
        for document in commit.documents:
            match document.path.segments[:2]:
                case ("global", "tasks") if not document.is_deleted:
                    task_id = str(document.path.name)
                    self.see_task(task_id, load(document), events)
                case ("shared", task_id) if not document.is_deleted:
                    self.see_guarded(str(task_id), document)
        keyed = [t.spec.key for t in self.tasks.values() if t.status not in FINAL]
        keys = [key for key in keyed if key is not None]
        self.must(len(keys) == len(set(keys)), "J11: a key has two tasks at work")

    def see_guarded(self, task_id: str, document: Any) -> None:
        """J4: a write under a claim is one of the live claim."""
        claim = self.tasks[task_id].claim
        token = orjson.loads(document.json)
        live = claim is not None and claim.token == token and claim.expires > self.now()
        self.must(live, "J4: a stale claim has written")

    def see_task(self, task_id: str, new: Any, events: list[str]) -> None:
        old = self.tasks.get(task_id)
        self.tasks[task_id] = new
        if old is None:
            self.must(events == list(EVENTS["submit"]), "J1: no one event of a submit")
            return
        self.must(old.status not in FINAL, "J5: a final task has changed")
        is_over = old.claim is not None and old.claim.expires <= self.now()
        if new.history[-1:] == old.history[-1:]:
            is_asked = new.cancel != old.cancel
            self.must(
                is_asked or not is_over, "J4: progress or renewal after the lease"
            )
            return
        entry, claim = new.history[-1], new.claim
        if entry.step in ("complete", "snooze", "release", "hand over"):
            self.must(not is_over, f"J4: {entry.step} after the lease")
        if entry.step in FAILURES:
            self.failures[task_id] += 1
            told = len(new.errors()) == self.failures[task_id]
            is_whole = len(new.history) < KEPT_ENTRIES
            self.must(told or not is_whole, "J8: the error of an attempt is lost")
        if entry.step == "claim":
            self.must(old.claim is None, "J3: a task was claimed twice")
            self.must(new.attempt == old.attempt + 1, "J3: an attempt was not counted")
            self.must(
                claim.token > self.tokens.get(task_id, 0), "J3: a token is no larger"
            )
            self.tokens[task_id] = claim.token
        fro, to = TABLE[entry.step]
        self.must(old.status in fro and new.status in to, f"J1: {entry.step} of {old}")
        self.must(NEW not in fro, "J1: a task was made twice")
        self.must(events == list(EVENTS[entry.step]), f"J1: {events} of {entry.step}")
        self.must(
            new.attempt <= new.spec.max_retries + 1, "J8: more attempts than allowed"
        )
        self.must((claim is not None) == (new.status == "running"), "J2: a claim")
        if entry.step == "complete":
            result = orjson.loads(new.result)
            if isinstance(result, dict) and "token" in result:
                live = old.claim is not None and result["token"] == old.claim.token
                self.must(live, "J4: a stale claim has completed")
        self.rescued += "heartbeat" in entry.reason
        if entry.step == "fail":
            spent = old.attempt > old.spec.max_retries
            self.must(spent or "final" in entry.reason, "J8: failed before its time")

    def check_index(self) -> None:
        """J2: each task is in exactly one place of the index, or with a claim."""
        index = self.manager.index
        ready = {record.spec.id for record in index.ready()}
        later = {e[2].spec.id for e in index.later if index._is_newest(e[2])}
        for task_id, record in self.tasks.items():
            if index.records.get(task_id) is not record:
                continue
            places = [
                task_id in ready,
                task_id in later,
                self.picked.get(task_id) is record,
                record.status != "pending",
            ]
            self.must(sum(places) == 1, f"J2: {task_id} is in {sum(places)} places")
