"""The contract of kernels can fail: each broken kernel breaks a test of it."""

import asyncio
import inspect
from typing import Any

import pytest

from swarm.kernel import MemoryKernel
from swarm.ports import Kernel, Limits, Write
from swarm.testing import KernelContract, run
from tests.support.clock import FakeClock


def contract_of(kind: type[MemoryKernel]) -> KernelContract:
    class Contract(KernelContract):
        async def make_kernel(self, limits: Limits | None = None) -> Kernel:
            self.clock = FakeClock()
            return kind(self.clock, limits)

        async def pass_time(self, kernel: Kernel, seconds: float) -> None:
            self.clock.advance(seconds)

    return Contract()


def broken_tests(kind: type[MemoryKernel]) -> list[str]:
    """Run the whole contract; return the names of the tests that fail."""
    contract = contract_of(kind)
    failed = []
    for name, test in inspect.getmembers(contract, inspect.iscoroutinefunction):
        if name.startswith("test_"):
            try:
                run(test, threads="inline").unwrap()  # nobody waits for ever
            except (Exception, pytest.fail.Exception):
                failed.append(name)
    return failed


class ForgetsConditions(MemoryKernel):
    """S2, S5."""

    async def commit(self, author: Any, writes: Any = (), **options: Any) -> Any:
        options["conditions"] = ()
        return await super().commit(author, writes, **options)


class LosesEvents(MemoryKernel):
    """E1."""

    async def commit(self, author: Any, writes: Any = (), **options: Any) -> Any:
        options["events"] = ()
        return await super().commit(author, writes, **options)


class CommitsOneByOne(MemoryKernel):
    """S11: a batch has one revision."""

    async def commit(self, author: Any, writes: Any = (), **options: Any) -> Any:
        for write in writes[:-1]:
            await super().commit(author, (write,))
        return await super().commit(author, writes[-1:], **options)


class DecidesAndThenCommits(MemoryKernel):
    """S1: what a rule saw may have changed when it is written."""

    async def apply(self, author: Any, rule: Any, *arguments: Any) -> Any:
        plan = await self.read(rule, *arguments)
        await asyncio.sleep(0)
        return await super().apply(author, lambda _: plan)


class TellsNobodyWhatARuleDid(MemoryKernel):
    """E1: the events of a ruling ride in its commit."""

    async def apply_one(self, author: Any, path: Any, rule: Any, *rest: Any) -> Any:
        def silent(*arguments: Any) -> Any:
            record, _, outcome = rule(*arguments)
            return record, (), outcome

        return await super().apply_one(author, path, silent, *rest)


class KnowsOnlyThePresent(MemoryKernel):
    """S10: time travel."""

    async def view_at(self, revision: int | None = None) -> Any:
        await super().view_at(revision)
        return await super().view_at(self.revision)


class TellsItsHistoryBackwards(MemoryKernel):
    """S10."""

    async def versions(self, path: Any, limit: int) -> Any:
        return (await super().versions(path, limit))[::-1]


class FollowsFromNow(MemoryKernel):
    """S11: from any retained revision on."""

    async def follow(self, since: int | None = None, pattern: Any = None) -> Any:
        return await super().follow(None, pattern)


class NeverExpires(MemoryKernel):
    """S17."""

    async def commit(self, author: Any, writes: Any = (), **options: Any) -> Any:
        lasting = [Write(each.path, each.body, each.record) for each in writes]
        return await super().commit(author, lasting, **options)


class NeverCloses(MemoryKernel):
    """G12: everybody who waits is woken."""

    async def close(self) -> None:
        pass


class HandsOutTwice(MemoryKernel):
    """S11: each commit once."""

    async def follow(self, since: int | None = None, pattern: Any = None) -> Any:
        reader = await super().follow(since, pattern)
        take = reader.next_nowait
        pending: list[Any] = []

        def twice() -> Any:
            if pending:
                return pending.pop()
            commit = take()
            pending.extend([] if commit is None else [commit])
            return commit

        reader.next_nowait = twice
        return reader


class TakesAnyLoop(MemoryKernel):
    """The tree belongs to one event loop."""

    def _refuse(self) -> None:
        if self._followers.is_closed:
            super()._refuse()


BROKEN = [
    ForgetsConditions,
    LosesEvents,
    CommitsOneByOne,
    DecidesAndThenCommits,
    TellsNobodyWhatARuleDid,
    KnowsOnlyThePresent,
    TellsItsHistoryBackwards,
    FollowsFromNow,
    NeverExpires,
    NeverCloses,
    HandsOutTwice,
    TakesAnyLoop,
]


def test_the_kernel_of_memory_passes():
    assert broken_tests(MemoryKernel) == []


@pytest.mark.parametrize("kind", BROKEN)
def test_a_broken_kernel_is_found(kind):
    assert broken_tests(kind)
