"""What the bus needs of the system around it, and whose names and letters are whose."""

from collections.abc import Callable, Hashable, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any, Literal, Protocol, TypeAlias

from swarm.model import OWNER, AgentIdentity, Path
from swarm.ports import Codec, Condition, Kernel, Runtime, System, Tail, Write

Also: TypeAlias = Callable[[], tuple[Sequence[Write], Sequence[Condition]]]
"""Returns what a transaction commits besides its own writes; asked at its end."""


class Waits(Protocol):
    """The wait-for graph, as the bus sees it."""

    def enter(self, party: Hashable, obstacle: Any) -> None:
        """Note that `party` waits for `obstacle`; end it with `leave`.

        Raises:
            DeadlockError: The wait would close a cycle; nothing was noted.
        """

    def leave(self, party: Hashable, obstacle: Any) -> None:
        """Note that the wait is over."""


class BusHost(System, Protocol):
    """The system as the bus sees it; the coordinator is one."""

    @property
    def runtime(self) -> Runtime:
        """Scheduling points and substitutes of a simulation."""

    @property
    def kernel(self) -> Kernel:
        """The kernel that events are committed to."""

    @property
    def tail(self) -> Tail:
        """The log that events are read from."""

    @property
    def origin(self) -> str:
        """The id of this process among others on the same tree; "": no others."""

    @property
    def codec(self) -> Codec:
        """The encoder of JSON."""

    @property
    def waits(self) -> Waits:
        """The wait-for graph."""

    def party(self, *, is_awaited: bool = False) -> Hashable:
        """Return the running turn or task as a party of the wait-for graph.

        Args:
            is_awaited: Whether others may wait for it.
        """

    def check(self) -> None:
        """Raise `Closed` or `WrongLoop` unless the system can be used from here."""

    def escalate(self, error: BaseException) -> None:
        """End the system because of a failure that has no other receiver."""

    def reader_of(self, identity: AgentIdentity) -> Callable[[Path], bool] | None:
        """Return whether the identity may read a path; None: it may read all."""

    def check_right(
        self,
        identity: AgentIdentity,
        path: Path,
        action: Literal["write", "delete", "hold"],
    ) -> None:
        """Check the right of an identity at a path.

        Raises:
            AccessDenied: The policy does not allow it.
        """

    def effects(
        self, identity: AgentIdentity, also: Also
    ) -> AbstractAsyncContextManager[Any]:
        """Return a transaction of the state that commits the result of `also` as well.

        It commits at the end of its block, also without other writes, and raises
        `ConflictError` when it cannot.
        """


def owner_of(identity: AgentIdentity) -> str:
    """Return the owner of what an identity makes: its type; "": the program.

    Agents of one type share their names: any of them goes on where another stopped.
    """
    return "" if identity == OWNER else identity.type


def check_right(
    host: BusHost,
    identity: AgentIdentity,
    path: Path,
    action: Literal["write", "delete"],
    owner: str | None,
) -> None:
    """Check that an identity may change the document of `owner` at `path`.

    For a document of its own, the right to hold it is enough.

    Raises:
        AccessDenied: The policy does not allow it.
    """
    is_own = owner == owner_of(identity)
    host.check_right(identity, path, "hold" if is_own else action)
