"""Judging a fault run: the records of the processes against the server's own log."""

import json
import subprocess
from collections import Counter
from pathlib import Path as Folder
from typing import Any

from redis import Redis

from swarm.model import Commit
from swarm.storage.redis._entries import decode_entry
from swarm.testing import KVModel, Ok, check_linearizable
from swarm.testing.judges import PENDING, Operation

FINAL = {"complete", "failed", "cancelled", "escalated"}


def read_records(folder: Folder) -> list[list[Any]]:
    """Return the lines of all processes, in the order of time."""
    lines = [
        json.loads(line)
        for file in folder.glob("*.jsonl")
        for line in file.read_text().splitlines()
    ]
    return sorted(lines, key=lambda line: line[0])


def read_log(port: int, name: str) -> list[Commit]:
    """Return every commit of a swarm, from the server itself."""
    client = Redis(port=port)
    entries = client.xrange(f"{{swarm:{name}}}:log")
    client.close()
    before = 0
    commits = []
    for number, fields in entries:
        revision = int(number.partition(b"-")[0])
        assert int(fields[b"p"]) == before, "the log has a hole"
        before = revision
        row = [part for field in fields.items() for part in field]
        commits.append(decode_entry(row, revision))
    return commits


def judge_registers(records: list[list[Any]]) -> int:
    """Return how many operations were judged: they are linearizable."""
    calls: dict[str, tuple[int, str, list[Any]]] = {}
    operations: list[Operation] = []
    for number, (_, kind, *words) in enumerate(records):
        if kind == "invoke":
            calls[words[0]] = (number, words[1], words[2])
        elif kind in ("ok", "fail") and words[0] in calls:
            invoked, op, arguments = calls.pop(words[0])
            if kind == "ok":
                operations.append(
                    _operation(words[0], op, arguments, invoked, number, words[1])
                )
    for id, (invoked, op, arguments) in calls.items():
        operations.append(_operation(id, op, arguments, invoked))
    verdict = check_linearizable(operations, KVModel(), max_states=3_000_000)
    assert isinstance(verdict, Ok), verdict.explain()
    return len(operations)


def _operation(
    id: str,
    op: str,
    arguments: list[Any],
    invoked: int,
    returned: int | None = None,
    result: Any = PENDING,
) -> Operation:
    return Operation(
        process=id,
        op=op,
        args=tuple(arguments),
        result=result,
        invoked=invoked,
        returned=returned,
    )


def judge_writes(records: list[list[Any]], commits: list[Commit]) -> None:
    """No acknowledged write is lost, none was made twice, none that was refused."""
    written: Counter[str] = Counter()
    for commit in commits:
        for document in commit.documents:
            if document.path.text.startswith("shared.r"):
                written[document.value] += 1
    asked: dict[str, Any] = {}
    for _, kind, *words in records:
        if kind == "invoke" and words[1] in ("put", "cas"):
            asked[words[0]] = words[2][-1]
        elif kind in ("ok", "fail") and words[0] in asked:
            value = asked.pop(words[0])
            expected = 1 if kind == "ok" and words[1] is not False else 0
            assert written[value] == expected, (value, written[value], kind)
    for value in asked.values():
        assert written[value] <= 1, value


def judge_lock(records: list[list[Any]], commits: list[Commit]) -> int:
    """The guarded counter counts each write once, in the order of tokens."""
    values = [
        document.value
        for commit in commits
        for document in commit.documents
        if document.path.text == "shared.guarded"
    ]
    assert [value["n"] for value in values] == list(range(1, len(values) + 1))
    tokens = [value["token"] for value in values]
    assert tokens == sorted(tokens)
    told = [words[0]["by"] for _, kind, *words in records if kind == "guarded"]
    assert not Counter(told) - Counter(value["by"] for value in values)
    for commit in commits:
        for document in commit.documents:
            if document.is_deleted:
                continue
            if document.path.text.startswith("locks."):
                assert len(document.value["holders"]) <= 1
            if document.path.text == "semaphores.permits":
                holders = document.value["holders"]
                assert sum(holder["permits"] for holder in holders) <= 2
    return len(values)


def judge_tasks(records: list[list[Any]], commits: list[Commit]) -> int:
    """Every task that was submitted became final exactly once, and stayed so."""
    status: dict[str, str] = {}
    finals: Counter[str] = Counter()
    for commit in commits:
        for document in commit.documents:
            if document.path.text.startswith("global.tasks."):
                id = document.path.text.removeprefix("global.tasks.")
                new = "gone" if document.is_deleted else document.value["status"]
                if status.get(id) in FINAL:
                    assert new in (status[id], "gone"), (id, status[id], new)
                elif new in FINAL:
                    finals[id] += 1
                status[id] = new
    submitted = [words[0] for _, kind, *words in records if kind == "submitted"]
    assert submitted
    for id in submitted:
        assert finals[id] == 1, (id, status.get(id))
    completed = [words[0] for _, kind, *words in records if kind == "completed"]
    assert max(Counter(completed).values(), default=0) <= 1
    return len(submitted)


def judge_handoffs(commits: list[Commit]) -> int:
    """Return how many handoffs were accepted: each once, with a newer token."""
    accepted: Counter[str] = Counter()
    tokens: dict[str, int] = {}
    status: dict[str, str] = {}
    for commit in commits:
        for payload in commit.events:
            if type(payload).__name__ == "HandoffAccepted":
                accepted[payload.handoff_id] += 1
        for document in commit.documents:
            place, value = document.path.text, None
            if not document.is_deleted:
                value = document.value
            if place.startswith("handoffs.") and value is not None:
                status[place] = value["status"]
            elif place.startswith("global.tasks.") and value and value["claim"]:
                token = value["claim"]["token"] or commit.revision
                assert token >= tokens.get(place, 0), place
                tokens[place] = token
    assert set(accepted.values()) <= {1}
    open_ones = {place for place, last in status.items() if last == "requested"}
    assert not open_ones
    return len(accepted)


def judge_events(records: list[list[Any]], audited: dict[str, int]) -> int:
    """Every event that was published took effect exactly once."""
    published = [words[0] for _, kind, *words in records if kind == "published"]
    for id in published:
        assert audited.get(id.replace(".", "-")) == 1, id
    assert set(audited.values()) <= {1}
    return len(published)


def judge_barriers(records: list[list[Any]]) -> int:
    """No place in one generation of a barrier was given out twice."""
    met = [tuple(words) for _, kind, *words in records if kind == "met"]
    assert len(met) == len(set(met))
    return len(met)


def stop(processes: "list[subprocess.Popen[bytes]]") -> None:
    for process in processes:
        if process.poll() is None:
            process.kill()
        process.wait()
