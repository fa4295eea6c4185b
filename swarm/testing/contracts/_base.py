"""The parts that the kernel contracts share: a kernel to test, and short functions."""

import asyncio
from abc import abstractmethod
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import attrs
import orjson

from swarm.errors import StaleLease
from swarm.model import (
    ROOT,
    AgentIdentity,
    Commit,
    Path,
)
from swarm.ports import Expect, Kernel, Limits, Reader, Tail, View, Write

ADA = AgentIdentity("ada", "tester", "s1", "tester")
BO = AgentIdentity("bo", "tester", "s2", "tester")


def put(path: str, value: Any, expires: int | None = None) -> Write:
    """Return the write of a JSON value."""
    return Write(Path.parse(path), orjson.dumps(value), expires=expires)


def drop(path: str) -> Write:
    """Return the write that deletes."""
    return Write(Path.parse(path))


def at(path: str, version: int) -> Expect:
    """Return the condition that the document has this version."""
    return Expect(Path.parse(path), version)


def everything(view: View) -> dict[str, tuple[Any, int]]:
    return {d.path.text: (d.value, d.version) for d in view.documents(ROOT)}


def newest_revision(view: View) -> int:
    return view.revision


def kernel_now(view: View) -> int:
    return view.now


async def contents(kernel: Kernel) -> dict[str, tuple[Any, int]]:
    """Return every document's value and version."""
    return await kernel.read(everything)


async def value_at(kernel: Kernel, path: str) -> Any:
    """Return the value of the document at or around `path`, or None."""
    document = await kernel.find(Path.parse(path))
    return None if document is None else document.value


async def drain(reader: Reader) -> list[Commit]:
    """Return every commit that is due."""
    found = []
    while (commit := reader.next_nowait()) is not None:
        found.append(commit)
    return found


def revisions(commits: list[Commit]) -> list[int]:
    """Return the commits' revisions."""
    return [commit.revision for commit in commits]


@attrs.frozen
class Record:
    """A record of swarm's own, as locks and tasks are."""

    name: str

    def to_json(self) -> dict[str, Any]:
        """Return what is stored."""
        return {"name": self.name}


@attrs.frozen
class HeldRecord:
    """A record with one holder, until a kernel time."""

    id: str
    token: int
    until: int

    def check_holder(self, id: str, token: int, now: int) -> None:  # noqa: A002  # seam
        """Raise `StaleLease` unless this grant is the holder."""
        if (id, token) != (self.id, self.token) or now >= self.until:
            raise StaleLease

    def to_json(self) -> dict[str, Any]:
        """Return what is stored."""
        return {"id": self.id, "token": self.token, "until": self.until}


async def settle() -> None:
    """Let every task that can run, run."""
    for _ in range(10):
        await asyncio.sleep(0)


class ContractBase:
    """The source of the kernel under test."""

    @abstractmethod
    async def make_kernel(self, limits: Limits | None = None) -> Kernel:
        """Return a new, empty, open kernel with these limits."""

    @abstractmethod
    async def pass_time(self, kernel: Kernel, seconds: float) -> None:
        """Let the kernel's time pass, and whatever it does at that time happen."""

    def tail_of(self, kernel: Any) -> Tail:
        """Return the newest part of the kernel's log in this process."""
        tail: Tail = getattr(kernel, "tail", kernel)
        return tail

    @asynccontextmanager
    async def opened(self, **limits: Any) -> AsyncIterator[Kernel]:
        """Give a kernel with these limits, and close it at the end."""
        kernel = await self.make_kernel(Limits(**limits) if limits else None)
        try:
            yield kernel
        finally:
            await kernel.close()
