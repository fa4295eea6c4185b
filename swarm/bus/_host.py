"""What the bus needs of the system around it."""

import asyncio
from collections.abc import Callable, Hashable, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any, Literal, Protocol, TypeAlias, TypeVar

from swarm.model import AgentIdentity, Path
from swarm.ports import Codec, Condition, Kernel, System, Tail, Write, current_runtime

Also: TypeAlias = Callable[[], tuple[Sequence[Write], Sequence[Condition]]]
"""What a transaction commits besides its own writes, asked for at its end."""


class Waits(Protocol):
    """The wait-for graph."""

    def enter(self, party: Hashable, obstacle: Any) -> None:
        """Note that `party` waits for `obstacle`; end it with `leave`.

        Raises:
            DeadlockError: The wait would close a cycle; nothing was noted.
        """
        ...

    def leave(self, party: Hashable, obstacle: Any) -> None:
        """Note that it does not any more."""
        ...

    def reach(self, party: Hashable, obstacle: Any) -> set[Hashable]:
        """Return who may have to move before an obstacle goes away.

        That is, if `party` cannot; whoever is not among them is in no cycle with it.
        """
        ...

    def find_cycle(self, party: Hashable, obstacle: Any) -> tuple[str, ...]:
        """Return the cycle in which `party` waits for an obstacle, spelt out, or ()."""
        ...


class BusHost(System, Protocol):
    """The system as the bus sees it; the coordinator is one."""

    @property
    def kernel(self) -> Kernel:
        """Where events are committed."""
        ...

    @property
    def tail(self) -> Tail:
        """Where they are read."""
        ...

    @property
    def origin(self) -> str:
        """What tells this process from others on the same tree; "": there are none."""
        ...

    @property
    def codec(self) -> Codec:
        """What writes JSON."""
        ...

    @property
    def waits(self) -> Waits:
        """Who waits for whom."""
        ...

    def party(self, *, is_awaited: bool = False) -> Hashable:
        """Return what the running code is in the wait-for graph.

        Args:
            is_awaited: Whether others may wait for it.
        """
        ...

    def party_of(self, task: "asyncio.Task[Any]") -> Hashable:
        """Return a task as a party of the graph, for whom others wait."""
        ...

    def check(self) -> None:
        """Raise `Closed` or `WrongLoop` unless the system can be used from here."""
        ...

    def reader_of(self, identity: AgentIdentity) -> Callable[[Path], bool] | None:
        """Return whether the identity may read a place; None: it may read all."""
        ...

    def check_right(
        self,
        identity: AgentIdentity,
        path: Path,
        action: Literal["write", "delete", "hold"],
    ) -> None:
        """Refuse an identity that may not do this at a place.

        Raises:
            AccessDenied: The policy does not let it.
        """
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


def made_of(loop: asyncio.AbstractEventLoop, kind: type[S]) -> type[S]:
    """Return what a kind of subscription is here; a simulation has its own."""
    return current_runtime(loop).substitute(kind)
