"""`Swarm`: a scope in which agents live."""

import asyncio
from types import TracebackType
from typing import Self

import anyio

from swarm.errors import Closed, DeadlockError
from swarm.model import OWNER
from swarm.ports import Clock
from swarm.state import Policy
from swarm.system._config import SwarmConfig
from swarm.system._coordinator import Coordinator, Phase
from swarm.system._portal import Portal
from swarm.system._surface import AgentSurfaces, Surface

_MEMORY = "memory://"


class Swarm(Surface):
    """A swarm of agents in this event loop.

    ```python
    async with Swarm() as swarm:
        ada = await swarm.spawn(Researcher, name="ada")
        print(await ada.ask(Researcher.research, "bees"))
    ```

    The block ends when its body does: agents finish what is queued, the youngest
    stops first, and no task is left. When the body raises, the agents are cancelled
    instead. A failure that nobody deals with (of a tell, of `run`, of an agent without
    a supervisor) cancels the body and ends the block with an `ExceptionGroup`.

    `await Swarm.open(...)` and `await swarm.close()` do the same without a block.
    """

    def __init__(
        self,
        name: str = "default",
        storage: str = _MEMORY,
        *,
        config: SwarmConfig | None = None,
        policy: Policy | None = None,
        clock: Clock | None = None,
        seed: int | str | None = None,
    ) -> None:
        """Describe a swarm; `async with` opens it.

        Args:
            name: What it is called.
            storage: Where its tree lives; "memory://".
            config: Time-outs and limits.
            policy: Who may read and write what; `Policy.default()` when None.
            clock: Where it takes the time from; the event loop when None.
            seed: What its ids and jitter come from; chance when None.

        Raises:
            ValueError: The storage is not one there is.
        """
        if storage != _MEMORY:
            raise ValueError(f"storage is {_MEMORY!r}; there is no {storage!r}")
        self._name = name
        self._config = SwarmConfig() if config is None else config
        self._policy = Policy.default() if policy is None else policy
        self._clock = clock
        self._seed = seed
        self._identity = OWNER
        self._scope: anyio.CancelScope | None = None
        self._ending: asyncio.Task[None] | None = None

    def __getattr__(self, name: str) -> Coordinator:
        if name == "_coordinator":
            raise Closed(
                f"swarm '{self._name}' is not open; use `async with` or open()"
            )
        raise AttributeError(name)

    @property
    def name(self) -> str:
        """What the swarm is called."""
        return self._name

    @classmethod
    async def open(
        cls,
        name: str = "default",
        storage: str = _MEMORY,
        *,
        config: SwarmConfig | None = None,
        policy: Policy | None = None,
        clock: Clock | None = None,
        seed: int | str | None = None,
    ) -> Self:
        """Open a swarm that is to be closed by `close`; arguments as for the class.

        A failure that nobody deals with ends its agents at once; `close` raises it,
        and until then every use raises `Closed` with it as the cause.
        """
        swarm = cls(name, storage, config=config, policy=policy, clock=clock, seed=seed)
        swarm._start()
        return swarm

    def _start(self) -> Coordinator:
        if "_coordinator" in self.__dict__:
            raise Closed(f"swarm '{self._name}' was opened before; make a new one")
        self._coordinator = Coordinator(
            self._name,
            self._config,
            self._policy,
            AgentSurfaces,
            self._clock,
            self._seed,
        )
        return self._coordinator

    async def close(self) -> None:
        """End the swarm: agents finish what is queued, stop, and no task is left.

        Idempotent. Cancelled, it ends everything at once before it raises.

        Raises:
            ExceptionGroup: Failures that nobody dealt with; only the first time.
            DeadlockError: Called by an agent or handler of this swarm, for whose end
                it would wait.
            WrongLoop: Called from another event loop.
        """
        coordinator = self._coordinator
        if coordinator.phase is Phase.CLOSED:
            return
        if coordinator.closed_error() is None:
            coordinator.check()
        if coordinator.owns_current_task():
            raise DeadlockError(
                f"what runs inside of swarm '{self._name}' cannot wait for its end; "
                "have the program close it"
            )
        if self._ending is not None:  # somebody else is at it
            await asyncio.wait([self._ending])
            return
        self._ending = asyncio.current_task()
        await self._end(drain=True)
        self._raise_failures(None)

    async def _end(self, *, drain: bool) -> None:
        coordinator = self._coordinator
        try:
            if drain and coordinator.phase is Phase.OPEN:
                await coordinator.drain()
        finally:
            with anyio.CancelScope(shield=True):
                await coordinator.finish()

    def _raise_failures(self, error: BaseException | None) -> None:
        failures = list(self._coordinator.failures)
        if not failures:
            return
        if isinstance(error, Exception) and error not in failures:
            failures.append(error)
        raise ExceptionGroup(
            f"failures in swarm '{self._name}' that nobody dealt with", failures
        )

    async def __aenter__(self) -> Self:
        coordinator = self._start()
        self._scope = anyio.CancelScope()
        self._scope.__enter__()
        coordinator.on_failure = self._scope.cancel
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> bool:
        scope = self._scope
        assert scope is not None  # __aenter__ made it
        try:
            await self._end(drain=error is None)
        except BaseException as raised:  # noqa: BLE001  # raised below
            error = raised
        swallowed = scope.__exit__(
            None if error is None else type(error),
            error,
            None if error is None else error.__traceback__,
        )
        if isinstance(error, asyncio.CancelledError) and not swallowed:
            raise error
        self._raise_failures(error)
        if error is not None and kind is None and not swallowed:
            raise error
        return bool(swallowed)

    def portal(self) -> Portal:
        """Return the way into this swarm from other threads.

        Raises:
            Closed: The swarm is closed.
            WrongLoop: Called in another thread; hand the portal over instead.
        """
        return Portal(self._open())
