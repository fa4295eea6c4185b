"""Refs: what others hold of an agent."""

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from typing import Any, Concatenate, Generic, NoReturn, ParamSpec, TypeVar

from swarm.agents._lifecycle import Status
from swarm.agents._requests import Stream
from swarm.model import AgentIdentity, Displayable

A_co = TypeVar("A_co", covariant=True)
P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")


class Ref(Displayable, ABC, Generic[A_co]):
    """A handle on an agent. Immutable, cheap, equal to every other ref of the agent.

    The ref of a singleton that processes share follows its name to wherever the agent
    lives: it equals only the other refs that `spawn(singleton=True)` returned.

    A ref stays good while the agent is restarted. Once the agent has ended, requests
    raise `NoSuchAgent` at once, even if another agent took the name.

    `NoSuchAgent` always means that nothing was done; `AgentDied` that the request had
    been accepted; how far it came is not known.
    """

    __slots__ = ()

    # --- identity -------------------------------------------------------------------

    @property
    @abstractmethod
    def identity(self) -> AgentIdentity:
        """The agent's identity."""

    @property
    def name(self) -> str:
        """The agent's name."""
        return self.identity.agent_id

    @property
    @abstractmethod
    def status(self) -> Status:
        """The agent's current status."""

    @property
    @abstractmethod
    def load(self) -> int:
        """Number of requests that are queued or being handled."""

    @property
    @abstractmethod
    def heartbeat_age(self) -> float:
        """Seconds since the agent began a turn or called `heartbeat()`."""

    def __copy__(self) -> "Ref[A_co]":
        return self  # immutable

    def __deepcopy__(self, memo: object) -> "Ref[A_co]":
        return self

    def __reduce__(self) -> NoReturn:
        raise TypeError(
            f"a Ref cannot be pickled; pass its name {self.name!r} and look it up with "
            "swarm.agents[name]"
        )

    # --- requests -------------------------------------------------------------------

    @abstractmethod
    def within(self, seconds: float | None) -> "Ref[A_co]":
        """Return a ref whose requests wait at most `seconds`; None: for ever.

        For an ask that is the time to the answer, for a tell the wait for room in the
        mailbox, for a stream the wait for each item. A turn's own deadline still
        bounds what it asks for.

        Raises:
            TypeError: The time is not a number.
            ValueError: The time is negative or NaN.
        """

    @abstractmethod
    async def ask(
        self,
        method: Callable[Concatenate[A_co, P], Coroutine[Any, Any, R]],
        /,
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> R:
        """Have the agent run `method` as a turn and return what it returns.

        Waits for room in the mailbox and for the answer. Cancelling the wait takes
        the request out of the mailbox, or cancels its turn when it has begun.

        Raises:
            TypeError: No public async method of the agent; nothing was sent.
            NoSuchAgent: The agent has ended or is stopping; nothing was sent.
            AskTimeout: No answer in time; the turn was cancelled or never begun
                (`started`).
            AgentDied: The agent ended first.
            DeadlockError: The agent waits, directly or not, for the asking turn.
            RemoteCancelled: The turn was cancelled from inside.
            WrongLoop: Called from another event loop.
            Closed: The swarm is closed.
            Exception: What the method raised, the same object with a note of where.
        """

    @abstractmethod
    async def tell(
        self,
        method: Callable[
            Concatenate[A_co, P], Coroutine[Any, Any, Any] | AsyncIterator[Any]
        ],
        /,
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> None:
        """Queue `method` at the agent and return; what it raises is not yours.

        Waits only while the mailbox is full, in the order in which senders came.
        Cancelling that wait sends nothing.

        Raises:
            TypeError: No public async method of the agent, or it does not take these
                arguments; nothing was sent.
            NoSuchAgent: The agent has ended or is stopping; nothing was sent.
            AgentDied: The agent ended while this waited for room; nothing was sent.
            AskTimeout: No room in time; nothing was sent.
            DeadlockError: The agent waits, directly or not, for the telling turn.
            WrongLoop: Called from another event loop.
            Closed: The swarm is closed.
        """

    @abstractmethod
    def tell_nowait(
        self,
        method: Callable[
            Concatenate[A_co, P], Coroutine[Any, Any, Any] | AsyncIterator[Any]
        ],
        /,
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> None:
        """Queue `method` at the agent if there is room now.

        Raises:
            MailboxFull: There is none, or others wait for it; nothing was sent.
            TypeError: No public async method of the agent, or it does not take these
                arguments.
            NoSuchAgent: The agent has ended or is stopping.
            WrongLoop: Called from another event loop or thread.
            Closed: The swarm is closed.
        """

    @abstractmethod
    def stream(
        self,
        method: Callable[Concatenate[A_co, P], AsyncIterator[T]],
        /,
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> Stream[T]:
        """Return what the agent's async generator `method` yields, as it comes.

        Raises:
            TypeError: No public async generator method of the agent.
        """

    @property
    @abstractmethod
    def proxy(self) -> A_co:
        """A stand-in whose methods ask: `await ref.proxy.research("bees")`.

        Only public async methods are there; async generators stream.
        """

    # --- life -----------------------------------------------------------------------

    @abstractmethod
    def pause(self) -> Awaitable[None]:
        """Have the agent take up nothing more; in force at once.

        Await the result to wait for the end of the turns in hand.

        Raises:
            InvalidTransition: The agent is starting, failing, stopping or gone.
        """

    @abstractmethod
    def resume(self) -> Awaitable[None]:
        """Have a paused agent go on; in force at once.

        Raises:
            InvalidTransition: The agent is starting, failing, stopping or gone.
        """

    @abstractmethod
    async def stop(self, timeout: float | None = None) -> None:
        """Have the agent finish what is queued, run `stopping()` and end; wait for it.

        New requests are refused from now on; a paused agent finishes as well. Called
        in one of the agent's own turns it returns at once, and the end comes after
        that turn. Cancelling the wait does not call the stop off. Idempotent.

        Args:
            timeout: Seconds after which what is left is cancelled; None: never.

        Raises:
            AccessDenied: The calling agent may not stop this one, or, with a
                time-out, may not kill it.
            ValueError: The time-out is negative or NaN.
            DeadlockError: The agent waits, directly or not, for the calling turn.
            Exception: What `stopping()` raised, or a told request on the way there,
                which ends the agent on the spot; it has ended all the same.
        """

    @abstractmethod
    async def ended(self) -> str:
        """Wait for the agent's end without causing it.

        Returns:
            How it ended: "stopped", "killed", "failed" or "closed".

        Raises:
            DeadlockError: Called by a turn of the agent itself.
        """

    @abstractmethod
    def kill(self) -> Awaitable[None]:
        """End the agent at once: its turns are cancelled, `stopping()` is not run.

        Askers get `AgentDied` now. Await the result to wait until the agent's tasks
        have ended, or were left behind after `spawn(shutdown=)` seconds. Idempotent.

        Raises:
            AccessDenied: The calling agent may not kill this one.
        """
