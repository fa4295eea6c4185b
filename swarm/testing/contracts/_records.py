"""The kernel contract on rules of one record, of which locks and tasks are made."""

import pytest

from swarm.errors import PathConflict
from swarm.model import Document, Path
from swarm.ports import KEEP, Ruling
from swarm.testing.contracts._base import (
    ADA,
    BO,
    ContractBase,
    Record,
    contents,
    drain,
    put,
    revisions,
)


def _said(text: str) -> object:
    """Return an event; called when a reader looks at it."""
    return text


class RecordContract(ContractBase):
    """The contract of `apply_one`."""

    async def test_the_rule_of_one_record_is_asked_and_obeyed_in_one_step(self) -> None:
        """Its record is written, kept or deleted; its events ride in the commit."""
        async with self.opened() as kernel:
            path = Path.parse("locks.a")
            reader = await kernel.follow()
            asked: list[tuple[Document | None, int, str]] = []

            def rule(document: Document | None, now: int, request: str) -> Ruling:
                asked.append((document, now, request))
                rulings: dict[str, Ruling] = {
                    "put": (Record("one"), ((_said, "put"),), "was put"),
                    "put again": (Record("two"), (), "was put again"),
                    "keep": (KEEP, (), "kept"),
                    "keep and tell": (KEEP, ((_said, "kept"),), "told"),
                    "delete": (None, ((_said, "gone"),), "deleted"),
                    "delete again": (None, (), "nothing there"),
                }
                return rulings[request]

            first, outcome = await kernel.apply_one(ADA, path, rule, "put")
            assert outcome == "was put"
            assert asked[-1][0] is None
            assert asked[-1][1] > 0
            second, _ = await kernel.apply_one(BO, path, rule, "put again")
            assert second > first
            seen = asked[-1][0]
            assert seen is not None
            assert (seen.value, seen.version, seen.author) == (
                {"name": "one"},
                first,
                ADA,
            )
            assert await kernel.apply_one(ADA, path, rule, "keep") == (0, "kept")
            third, _ = await kernel.apply_one(ADA, path, rule, "keep and tell")
            fourth, outcome = await kernel.apply_one(ADA, path, rule, "delete")
            assert outcome == "deleted"
            assert await kernel.find(path) is None
            nothing = await kernel.apply_one(ADA, path, rule, "delete again")
            assert nothing == (0, "nothing there")
            fifth, _ = await kernel.apply_one(ADA, path, rule, "put")
            commits = await drain(reader)
            assert revisions(commits) == [first, second, third, fourth, fifth]
            assert [list(c.events) for c in commits] == [
                ["put"],
                [],
                ["kept"],
                ["gone"],
                ["put"],
            ]
            versions = await kernel.versions(path, 10)
            assert [v.version for v in versions] == [fifth, fourth, second, first]

    async def test_a_rule_of_one_record_that_raises_changes_nothing(self) -> None:
        """G3; and a record stands neither around nor below another document."""
        async with self.opened() as kernel:
            await kernel.commit(ADA, [put("a.b", 1)])
            before = await contents(kernel)

            def fails(*_: object) -> Ruling:
                raise ZeroDivisionError

            def puts(*_: object) -> Ruling:
                return Record("x"), ((_said, "x"),), None

            with pytest.raises(ZeroDivisionError):
                await kernel.apply_one(ADA, Path.parse("a.b"), fails, None)
            for path in ("a", "a.b.c"):
                with pytest.raises(PathConflict):
                    await kernel.apply_one(ADA, Path.parse(path), puts, None)
            assert await contents(kernel) == before
