"""What the bus needs of the system around it."""

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any, Protocol, TypeAlias, TypeVar

from swarm.model import AgentIdentity, Document, Path
from swarm.ports import Clock, Condition, Entropy, Kernel, Tail, Write

Also: TypeAlias = Callable[[], tuple[Sequence[Write], Sequence[Condition]]]
"""What a transaction commits besides its own writes, asked for at its end."""


class BusHost(Protocol):
    """The system as the bus sees it; the coordinator is one."""

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        """The event loop that everything lives in."""
        ...

    @property
    def clock(self) -> Clock:
        """Where time comes from."""
        ...

    @property
    def entropy(self) -> Entropy:
        """Where chance comes from."""
        ...

    @property
    def kernel(self) -> Kernel:
        """Where events are committed."""
        ...

    @property
    def tail(self) -> Tail:
        """Where they are read."""
        ...

    def start(
        self,
        coroutine: Coroutine[Any, Any, Any],
        name: str,
        *,
        essential: bool = False,
    ) -> asyncio.Task[Any]:
        """Run a coroutine in a task that the system owns."""
        ...

    def check(self) -> None:
        """Raise `Closed` or `WrongLoop` unless the system can be used from here."""
        ...

    def reader_of(self, identity: AgentIdentity) -> Callable[[Path], bool] | None:
        """Return whether the identity may read a place; None: it may read all."""
        ...

    def effects(
        self, identity: AgentIdentity, also: Also
    ) -> AbstractAsyncContextManager[Any]:
        """Return a transaction of the state that commits what `also` says as well.

        It commits at the end of its block, also when nothing else was written; and
        raises `ConflictError` when it cannot.
        """
        ...


S = TypeVar("S")


def made_of(loop: object, kind: type[S]) -> type[S]:
    """Return what a kind of subscription is here; a simulated loop has its own."""
    kinds: dict[type[S], type[S]] = getattr(loop, "subscription_types", {})
    return kinds.get(kind, kind)


def revision_of(document: Document | None) -> int:
    """Return a document's version, 0 when there is none."""
    return 0 if document is None else document.version
