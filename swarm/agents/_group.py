"""Groups: agents that fail and are restarted together."""

from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from typing import Any, Never, TypeAlias, TypeVar, TypeVarTuple, get_args

import attrs

from swarm.agents._agent import Actor
from swarm.agents._cell import Cell
from swarm.agents._host import Supervision
from swarm.agents._life import halt, until_still
from swarm.agents._lifecycle import (
    NO_TIMES,
    Restart,
    Status,
    Strategy,
    admit,
    affected,
    check_intensity,
)
from swarm.agents._local_ref import LocalRef
from swarm.agents._ref import Ref
from swarm.errors import ConfigMismatch
from swarm.model import (
    AgentIdentity,
    Backoff,
    check_choice,
    check_name,
    check_seconds,
    check_text,
    check_timeout,
)
from swarm.ports import Around, SpawnCall

A = TypeVar("A", bound=Actor)
Ts = TypeVarTuple("Ts")


@attrs.define(kw_only=True, eq=False)
class SpawnOptions:
    """Options for spawning an agent; see `Swarm.spawn`."""

    name: str | None = None
    capabilities: Iterable[str] = ()
    role: str | None = None
    mailbox: int = 1024
    restart: Restart | None = None
    shutdown: float = 5.0
    replace: bool = False
    singleton: bool = False

    def check(self) -> None:
        """Refuse options that cannot be meant.

        Raises:
            TypeError: An option is of the wrong type.
            ValueError: A number is out of range.
        """
        if self.name is not None:
            check_text("the name of an agent", self.name)
        if type(self.mailbox) is not int or self.mailbox < 1:
            raise ValueError(f"a mailbox holds 1 request or more, not {self.mailbox!r}")
        check_seconds("shutdown", self.shutdown)
        if self.restart is not None and not isinstance(self.restart, Restart):
            raise TypeError(f"restart takes a Restart or None, not {self.restart!r}")
        if isinstance(self.capabilities, str):
            raise TypeError("capabilities is a list of names, not one text")
        self.capabilities = tuple(self.capabilities)
        for capability in self.capabilities:
            check_text("a capability", capability)
        if self.role is not None:
            check_text("a role", self.role)
        if self.singleton and (self.name is None or self.replace):
            raise TypeError("a singleton has a name=, and replaces no other agent")


async def intercepted_spawn(
    around: Around,
    spawner: AgentIdentity,
    factory: Callable[..., Any],
    args: tuple[Any, ...],
    options: SpawnOptions,
    spawn: Callable[..., Awaitable[Ref[Any]]],
) -> Any:
    """Return what `spawn(factory, args, options)` returns, with interceptors around."""

    async def proceed(call: SpawnCall) -> Ref[Any]:
        return await spawn(call.factory, call.args, SpawnOptions(**call.options))

    given = {
        field.name: getattr(options, field.name)
        for field in attrs.fields(SpawnOptions)
        if getattr(options, field.name) != field.default
    }
    call = SpawnCall(spawner=spawner, factory=factory, args=args, options=given)
    return await around(call, proceed)


def refuse_unknown(factory: object, unknown: Mapping[str, object]) -> None:
    """Refuse options that `spawn` does not have, and say how a factory gets arguments.

    Raises:
        TypeError: There are some.
    """
    if not unknown:
        return
    made = getattr(factory, "__name__", "factory")
    given = ", ".join(f"{name}={value!r}" for name, value in unknown.items())
    raise TypeError(
        f"spawn has no option {', '.join(map(repr, unknown))}; give {made} its "
        "arguments by position, as in spawn(Class, 2), or "
        f"spawn(functools.partial({made}, {given}))"
    )


Spawn: TypeAlias = Callable[
    [Callable[..., Any], tuple[Any, ...], SpawnOptions, "RestartGroup"],
    Awaitable[Ref[Any]],
]
"""Spawns a member for the identity that holds a group."""


class Group:
    """Agents supervised together, in the order in which they were spawned.

    When a member fails, its own `Restart` decides whether it is restarted. The group's
    strategy says which members are restarted with it, and the group's limit how often.
    Beyond either limit the group has failed: the group around it restarts its members
    as one; without one they end, and the failure ends the swarm.

    A handle, equal to every other handle on the group. It spawns as the identity that
    it was made for, under the same policy as that identity's `spawn`.
    """

    __slots__ = ("_group", "_spawn")

    def __init__(self, group: "RestartGroup", spawn: Spawn) -> None:
        """Hold a group; made by `Swarm.group` and `Group.group`."""
        self._group = group
        self._spawn = spawn

    @property
    def name(self) -> str:
        """Its name; a group within a group is called `outer/inner`."""
        return self._group.name

    @property
    def strategy(self) -> Strategy:
        """The members that are restarted.

        "one_for_one" only the failed one, "one_for_all" all, "rest_for_one" the failed
        one and the later ones.
        """
        return self._group.strategy

    @property
    def members(self) -> tuple[Ref[Any], ...]:
        """The agents in it and in the groups within it."""
        return tuple(LocalRef(cell) for cell in self._group.cells())

    async def spawn(
        self,
        factory: Callable[[*Ts], A],
        /,
        *args: *Ts,
        name: str | None = None,
        capabilities: Iterable[str] = (),
        role: str | None = None,
        mailbox: int = 1024,
        restart: Restart | None = Restart(),  # noqa: B008  # frozen
        shutdown: float = 5.0,
        replace: bool = False,
        **unknown: Never,
    ) -> Ref[A]:
        """Spawn a member; the options and errors are those of `Swarm.spawn`.

        `restart=None`: the failure of the member is the group's.
        """
        refuse_unknown(factory, unknown)
        options = SpawnOptions(
            name=name,
            capabilities=capabilities,
            role=role,
            mailbox=mailbox,
            restart=restart,
            shutdown=shutdown,
            replace=replace,
        )
        return await self._spawn(factory, args, options, self._group)

    def group(
        self,
        name: str,
        *,
        strategy: Strategy = "one_for_one",
        max: int = 3,  # noqa: A002  # the word of DESIGN
        within: float = 60.0,
    ) -> "Group":
        """Return the group of this name within this one; see `Swarm.group`."""
        inner = self._group.inner(name, strategy, max, within)
        return Group(inner, self._spawn)

    async def stop(self, timeout: float | None = None) -> None:
        """Stop every member, the last spawned first; see `Ref.stop`."""
        check_timeout(timeout)
        supervisor = self._group.supervisor
        for cell in reversed(list(self._group.cells())):
            await supervisor.stop(cell, timeout)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Group) and other._group is self._group

    def __hash__(self) -> int:
        return hash(self._group)

    def __repr__(self) -> str:
        return f"<Group {self.name!r} {self.strategy}>"


class RestartGroup:
    """A group as the supervisor knows it: its members, and which are to be restarted.

    Attributes:
        name: Its name.
        strategy: The members that are restarted.
        configuration: Strategy, limit and window, for `ConfigMismatch`.
        supervisor: The supervisor of the members.
    """

    def __init__(
        self,
        supervisor: Supervision,
        name: str,
        strategy: Strategy,
        most: int | None = None,
        within: float = 60.0,
        parent: "RestartGroup | None" = None,
    ) -> None:
        """Begin empty."""
        check_choice("strategy", strategy, get_args(Strategy))
        if most is not None:
            check_intensity(f"group '{name}'", most, within)
        self.name: str = name
        self.strategy: Strategy = strategy
        self.configuration: tuple[Strategy, int | None, float] = (
            strategy,
            most,
            within,
        )
        self.supervisor: Supervision = supervisor
        self._most = most
        self._within = within
        self._parent = parent
        self._members: list[Cell | RestartGroup] = []
        self._times = NO_TIMES
        self._pending: dict[Cell | RestartGroup, str] = {}
        self._delay = 0.0
        self._restoring = False

    def inner(
        self, name: str, strategy: Strategy, most: int, within: float
    ) -> "RestartGroup":
        """Return the group of this name within this one.

        Raises:
            ConfigMismatch: It is there with another configuration.
            ValueError: The name is empty.
            Closed: The swarm is closed.
        """
        check_name("the name of a group", name)
        self.supervisor.host.check()
        full = f"{self.name}/{name}"
        group = RestartGroup(self.supervisor, full, strategy, most, within, self)
        known: RestartGroup = self.supervisor.group(group)
        return known

    def cells(self) -> Iterator[Cell]:
        """Yield the agents in it and in the groups within it."""
        for member in tuple(self._members):
            yield from _cells_of(member)

    def add(self, cell: "Cell | RestartGroup") -> None:
        """Take an agent in; a group is a member of its parent while it has members."""
        if not self._members and self._parent is not None:
            self._parent.add(self)
        self._members.append(cell)

    def forget(self, cell: "Cell | RestartGroup") -> None:
        """Let an agent go that has ended."""
        self._members.remove(cell)
        self._pending.pop(cell, None)
        if not self._members and self._parent is not None:
            self._parent.forget(self)

    def check_same(self, other: "RestartGroup") -> None:
        """Raise `ConfigMismatch` unless the other group is configured alike."""
        if self.configuration != other.configuration:
            raise ConfigMismatch(
                f"group '{self.name}' is open with (strategy, max, within) "
                f"{self.configuration}, not {other.configuration}"
            )

    def member_failed(
        self,
        member: "Cell | RestartGroup",
        error: BaseException,
        delay: float | None = None,
    ) -> None:
        """Restart the members that a failure affects, `delay` seconds from now."""
        host = self.supervisor.host
        if member not in self._members:  # its last agent has ended meanwhile
            host.escalate(error)
            return
        if self._most is not None:
            ok, self._times = admit(self._times, host.now(), self._most, self._within)
            if not ok:
                error.add_note(f"group '{self.name}' failed {self._most} times before")
                self.give_up(error)
                return
        if delay is None:
            chance = host.entropy.jitter(0.0, 1.0)
            delay = Backoff().delay(len(self._times), chance)
        self._delay = max(self._delay, delay)
        for unit in affected(self.strategy, self._members, member):
            _halt(unit)
            self._pending[unit] = "failed" if unit is member else "restarted"
        if not self._restoring:
            self._restoring = True
            host.start(self._restore(), f"group '{self.name}' restart")

    def give_up(self, error: BaseException) -> None:
        """Fail as a whole: to the group around it, or to the system."""
        self._pending.clear()
        if self._parent is not None:
            _halt(self)
            self._parent.member_failed(self, error)
            return
        for cell in reversed(list(self.cells())):
            self.supervisor.end(cell, "failed")
        self.supervisor.host.escalate(error)

    async def _restore(self) -> None:
        """Restart the pending, in order, once their code is still and time is up."""
        clock = self.supervisor.host.clock
        try:
            while self._pending:
                for unit in tuple(self._pending):
                    for cell in _cells_of(unit):
                        if not cell.killed:
                            await until_still(cell)
                delay, self._delay = self._delay, 0.0
                if delay:
                    await clock.sleep(delay)
                if self._delay:  # more failed meanwhile: they have their own pause
                    continue
                for unit in self._members:
                    if unit in self._pending:
                        reason = self._pending.pop(unit)
                        for cell in _cells_of(unit):
                            await self.supervisor.revive(cell, reason)
                        break
        finally:
            self._restoring = False


def _cells_of(member: "Cell | RestartGroup") -> list[Cell]:
    return [member] if isinstance(member, Cell) else list(member.cells())


def _halt(member: "Cell | RestartGroup") -> None:
    for cell in _cells_of(member):
        if cell.status in (Status.INITIALIZING, Status.IDLE, Status.PAUSED):
            halt(cell)
