"""Refs: what others hold of an agent."""

import asyncio
from asyncio import get_running_loop
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Hashable
from functools import partial
from typing import (
    Any,
    Concatenate,
    Generic,
    NoReturn,
    ParamSpec,
    TypeVar,
    cast,
)

from swarm.agents._asking import asking_party, waits_in
from swarm.agents._cell import Cell
from swarm.agents._envelope import Asked, Envelope, Told, calling_turn, current_turn
from swarm.agents._first_steps import PENDING, Pending
from swarm.agents._lifecycle import Status
from swarm.agents._mailbox import State
from swarm.agents._protocol import Call, resolve, resolve_name
from swarm.agents._stream import Stream
from swarm.errors import AskTimeout, MailboxFull, WrongLoop
from swarm.model import AgentIdentity
from swarm.ports import current_cause, one_loop_turn

A_co = TypeVar("A_co", covariant=True)
P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")

_NEVER = float("inf")


class Ref(Generic[A_co]):
    """A handle on an agent. Immutable, cheap, equal to every other ref of the agent.

    It stays good while the agent is restarted. Once the agent has ended, requests
    raise `NoSuchAgent` at once, even if another agent took the name.

    `NoSuchAgent` always means that nothing was done; `AgentDied` that the request had
    been accepted and nobody knows how far it came.
    """

    __slots__ = ("_cell", "_timeout")

    def __init__(self, cell: Cell, timeout: float | None = None) -> None:
        """Point at an agent; made by `spawn` and the registry."""
        self._cell = cell
        self._timeout = timeout

    # --- who it is ------------------------------------------------------------------

    @property
    def identity(self) -> AgentIdentity:
        """Who the agent is."""
        return self._cell.identity

    @property
    def name(self) -> str:
        """The agent's name."""
        return self._cell.identity.agent_id

    @property
    def status(self) -> Status:
        """What the agent is doing now."""
        cell = self._cell
        if cell.status is Status.IDLE and cell.is_busy():
            return Status.BUSY
        return cell.status

    @property
    def load(self) -> int:
        """How many requests are queued or being handled."""
        return self._cell.load()

    @property
    def heartbeat_age(self) -> float:
        """Seconds since the agent began a turn or called `heartbeat()`."""
        cell = self._cell
        return cell.host.now() - max(cell.began, cell.beat)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Ref) and other._cell is self._cell

    def __hash__(self) -> int:
        return hash(self._cell)

    def __repr__(self) -> str:
        identity = self._cell.identity
        return f"<Ref {identity.agent_id!r} ({identity.type}) {self.status}>"

    # --- requests -------------------------------------------------------------------

    def within(self, seconds: float | None) -> "Ref[A_co]":
        """Return a ref whose requests wait at most `seconds`; None: for ever.

        For an ask that is the time to the answer, for a tell the wait for room in the
        mailbox, for a stream the wait for each item. A turn's own deadline still
        bounds what it asks for.

        Raises:
            ValueError: The time is negative or not a number.
        """
        if seconds is None:
            return Ref(self._cell, _NEVER)
        if not seconds >= 0:
            raise ValueError(f"a time-out is 0 seconds or more, not {seconds!r}")
        return Ref(self._cell, float(seconds))

    @waits_in("envelope")
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
        cell = self._cell
        call = cell.calls.get(method)
        if call is None or call.streams:
            call = _call_for(cell, method, streams=False)
        host = cell.host
        pool = host.pool
        if pool.left <= 0 and pool.inline:
            await one_loop_turn()  # nothing is sent yet, so nothing is to be undone
            pool.left = pool.inline
        if not cell.accepting or get_running_loop() is not host.loop:
            _refuse(cell)
        timeout = self._timeout
        if timeout is None:
            timeout = host.ask_timeout
        now = host.now()
        envelope = Asked(cell, call, args, kwargs, now + timeout, now)
        turn = current_turn.get()
        party: Hashable | None = None
        inherits = False
        if turn is not None:
            envelope.cause = turn.cause or current_cause()
        if turn is not None and turn.is_turn():
            inherits = _inherit(turn, envelope)
            party = asking_party(host, envelope)
        elif timeout <= 0:
            raise _too_late(envelope)
        elif host.leases or host.expected:
            party = host.asking_task(envelope)
        if party is not None:
            host.graph.enter(party, envelope)  # before anything is sent
        reply: asyncio.Future[R] | None = None
        try:
            answer: R | Pending = cell.attempt(envelope)
            if answer is not PENDING:
                return answer
            reply = envelope.reply
            assert reply is not None  # attempt() made it
            if inherits:
                host.deadlines.inherit(envelope)
            elif timeout != _NEVER:
                host.deadlines.add(timeout, envelope)
            return await reply
        except BaseException:
            cell.drop(envelope)
            if reply is not None and reply.done() and not reply.cancelled():
                reply.exception()  # seen, though the asker was cancelled before it
            raise
        finally:
            if party is not None:
                host.graph.leave(party, envelope)

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
            TypeError: No public async method of the agent; nothing was sent.
            NoSuchAgent: The agent has ended or is stopping; nothing was sent.
            AgentDied: The agent ended while this waited for room; nothing was sent.
            AskTimeout: No room in time; nothing was sent.
            DeadlockError: The agent waits, directly or not, for the telling turn.
            WrongLoop: Called from another event loop.
            Closed: The swarm is closed.
        """
        cell = self._cell
        call = cell.calls.get(method) or resolve(type(cell.agent), method)
        if not cell.accepting or get_running_loop() is not cell.host.loop:
            _refuse(cell)
        envelope = Told(cell, call, args, kwargs)
        if current_turn.get() is not None:
            envelope.cause = current_cause()
        if not cell.post(envelope):
            await _wait_for_room(envelope, self._timeout)

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
            TypeError: No public async method of the agent.
            NoSuchAgent: The agent has ended or is stopping.
            WrongLoop: Called from another event loop or thread.
            Closed: The swarm is closed.
        """
        cell = self._cell
        call = cell.calls.get(method) or resolve(type(cell.agent), method)
        if not cell.accepting or _running_loop() is not cell.host.loop:
            _refuse(cell)
        if cell.mailbox is not None and not cell.mailbox.has_room():
            raise MailboxFull(
                f"the mailbox of agent {cell} holds {cell.capacity} requests and is "
                "full; `await tell(...)` waits for room"
            )
        envelope = Told(cell, call, args, kwargs)
        if current_turn.get() is not None:
            envelope.cause = current_cause()
        cell.post(envelope)

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
        cell = self._cell
        call = cell.calls.get(method)
        if call is None or not call.streams:
            call = _call_for(cell, method, streams=True)
        timeout = cell.host.ask_timeout if self._timeout is None else self._timeout
        return Stream(cell, call, (args, kwargs), timeout)

    @property
    def proxy(self) -> A_co:
        """A stand-in whose methods ask: `await ref.proxy.research("bees")`.

        Only public async methods are there; async generators stream.
        """
        return cast(A_co, _Proxy(self))

    # --- life -----------------------------------------------------------------------

    def pause(self) -> Awaitable[None]:
        """Have the agent take up nothing more; in force at once.

        Await the result to wait for the end of the turns in hand.

        Raises:
            InvalidTransition: The agent is starting, failing, stopping or gone.
        """
        _check_loop(self._cell)
        return self._cell.supervisor.pause(self._cell)

    def resume(self) -> Awaitable[None]:
        """Have a paused agent go on; in force at once.

        Raises:
            InvalidTransition: The agent is starting, failing, stopping or gone.
        """
        _check_loop(self._cell)
        return self._cell.supervisor.resume(self._cell)

    async def stop(self, timeout: float | None = None) -> None:
        """Have the agent finish what is queued, run `stopping()` and end; wait for it.

        New requests are refused from now on; a paused agent finishes as well. Called
        in one of the agent's own turns it returns at once, and the end comes after
        that turn. Cancelling the wait does not call the stop off. Idempotent.

        Args:
            timeout: Seconds after which what is left is cancelled; None: never.

        Raises:
            DeadlockError: The agent waits, directly or not, for the calling turn.
            Exception: What `stopping()` raised, or a told request on the way there,
                which ends the agent on the spot; it has ended all the same.
        """
        _check_loop(self._cell)
        await self._cell.supervisor.stop(self._cell, timeout)

    def kill(self) -> Awaitable[None]:
        """End the agent at once: its turns are cancelled, `stopping()` is not run.

        Whoever waits for an answer gets `AgentDied` now. Await the result to wait
        until the agent's tasks have ended. Idempotent.
        """
        _check_loop(self._cell)
        return self._cell.supervisor.kill(self._cell)


class _Proxy:
    __slots__ = ("_ref",)

    def __init__(self, ref: Ref[Any]) -> None:
        self._ref = ref

    def __getattr__(self, name: str) -> Callable[..., Any]:
        ref = self._ref
        call = resolve_name(type(ref._cell.agent), name)  # noqa: SLF001  # our own ref
        return partial(ref.stream if call.streams else ref.ask, call.function)


def _running_loop() -> asyncio.AbstractEventLoop | None:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None


def _check_loop(cell: Cell) -> None:
    if _running_loop() is not cell.host.loop:
        raise WrongLoop(
            f"agent {cell} belongs to another event loop; from another thread use "
            "swarm.portal()"
        )


def _refuse(cell: Cell) -> NoReturn:
    _check_loop(cell)
    raise cell.refusal()


def _call_for(cell: Cell, method: object, *, streams: bool) -> Call:
    call = cell.calls.get(method) or resolve(type(cell.agent), method)
    if call.streams and not streams:
        raise TypeError(f"{call.name} is an async generator; use stream() for it")
    if streams and not call.streams:
        raise TypeError(f"{call.name} is no async generator; use ask() for it")
    return call


def _too_late(envelope: Envelope) -> AskTimeout:
    who = f"{envelope.call.name} of agent '{envelope.cell.name}'"
    return AskTimeout(f"there was no time left to ask for {who}", started=False)


def _inherit(turn: Envelope, envelope: Asked) -> bool:
    """Bind a request to the deadline of the turn that makes it.

    A turn that was cancelled hands its deadline down no more, so that its clean-up
    may still ask.

    Returns:
        Whether the deadline is the turn's.
    """
    inherited = turn.deadline if turn.state == State.RUNNING else _NEVER
    if min(inherited, envelope.deadline) <= envelope.since:
        raise _too_late(envelope)
    if inherited < envelope.deadline:
        envelope.deadline = inherited
        return True
    return False


class _Admission:
    """A sender that waits for room; a deadline for `Deadlines`."""

    __slots__ = ("_envelope", "_room", "deadline")

    def __init__(
        self, envelope: Envelope, room: asyncio.Future[None], deadline: float
    ) -> None:
        self._envelope = envelope
        self._room = room
        self.deadline: float = deadline

    @property
    def state(self) -> State:
        return State.DECIDED if self._room.done() else State.WAITING

    def expire(self) -> None:
        cell = self._envelope.cell
        text = f"the mailbox of agent '{cell.name}' had no room in time"
        cell.drop(self._envelope, AskTimeout(text, started=False))


@waits_in("envelope")
async def _wait_for_room(envelope: Told, timeout: float | None) -> None:
    """Wait until a tell is in the mailbox; cancelled, it is not (T3)."""
    cell = envelope.cell
    host = cell.host
    turn = calling_turn()
    now = envelope.since = host.now()
    room = envelope.room = host.loop.create_future()
    if timeout is None:
        timeout = host.ask_timeout
    waiting = _Admission(envelope, room, now + timeout)
    try:
        if timeout <= 0:
            waiting.expire()
        elif (
            turn is not None
            and turn.state == State.RUNNING
            and turn.deadline < waiting.deadline
        ):
            waiting.deadline = turn.deadline
            host.deadlines.inherit(waiting)
        elif timeout != _NEVER:
            host.deadlines.add(timeout, waiting)
        with host.graph.waiting(asking_party(host, envelope), envelope):
            await room
    except BaseException:
        cell.drop(envelope)
        raise
    if envelope.state == State.ADMITTED:
        envelope.state = State.QUEUED
