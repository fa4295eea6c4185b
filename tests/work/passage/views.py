"""A tree as rules see it, made of a dict: obviously right, and quick."""

from typing import Any

import orjson

from swarm.model import AgentIdentity, Document, Path
from swarm.ports import Plan

ADA = AgentIdentity("ada", "writer", "ada", "writer")


class DictView:
    """A view that applies plans. Every commit is one microsecond later."""

    def __init__(self) -> None:
        self.revision = 0
        self.now = 1_000_000
        self.tree: dict[str, Document] = {}
        self.events: list[tuple[int, object]] = []

    def find(self, path: Path) -> Document | None:
        return self.tree.get(path.text)

    def documents(self, folder: Path) -> list[Document]:
        found = [d for d in self.tree.values() if d.path.within(folder)]
        return sorted(found, key=lambda d: d.path)

    def select(self, pattern: Any) -> Any:
        raise NotImplementedError

    def put(self, path: Path, value: Any) -> None:
        self.revision += 1
        record = value if hasattr(value, "to_json") else None
        body = None if record is not None else orjson.dumps(value)
        self.tree[path.text] = Document(
            path, body, record, self.revision, self.revision, self.now, ADA
        )

    def apply(self, plan: Plan) -> Any:
        self.now += 1
        if not plan.writes and not plan.events:
            return plan.outcome
        assert len({write.path for write in plan.writes}) == len(plan.writes)
        self.revision += 1
        for write in plan.writes:
            if write.body is None and write.record is None:
                del self.tree[write.path.text]
                continue
            self.tree[write.path.text] = Document(
                write.path,
                write.body,
                write.record,
                self.revision,
                self.revision,
                self.now,
                ADA,
            )
        self.events += [(self.revision, event) for event in plan.events]
        return plan.outcome
