"""Refs of agents in this process."""

import asyncio
from asyncio import get_running_loop
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Hashable
from functools import partial
from typing import (
    TYPE_CHECKING,
    Any,
    Concatenate,
    Generic,
    Literal,
    NoReturn,
    ParamSpec,
    TypeVar,
    cast,
)

from swarm.agents._cell import PENDING, Cell
from swarm.agents._envelope import (
    NEVER,
    Asked,
    Envelope,
    Told,
    asking_party,
    calling_turn,
)
from swarm.agents._lifecycle import Status
from swarm.agents._protocol import ResolvedMethod, misplaced, resolve, resolve_name
from swarm.agents._ref import Ref
from swarm.agents._requests import (
    Stream,
    call_for,
    inherit,
    note_late,
    refuse,
    too_late,
    wait_for_room,
)
from swarm.errors import DeadlockError, MailboxFull
from swarm.model import AgentIdentity, Cause, check_timeout
from swarm.ports import (
    AgentCall,
    cause_of,
    current_activity,
    current_cause,
    current_trace,
    may_be_eager,
    one_loop_turn,
    run_at_once,
)

A_co = TypeVar("A_co", covariant=True)
P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")


class LocalRef(Ref[A_co], Generic[A_co]):
    """A handle on an agent in this process; its requests are direct calls."""

    __slots__ = ("_cell", "_timeout")

    def __init__(self, cell: Cell, timeout: float | None = None) -> None:
        """Point at an agent; made by `spawn` and the registry."""
        self._cell = cell
        self._timeout = timeout

    # --- identity -------------------------------------------------------------------

    @property
    def identity(self) -> AgentIdentity:
        """The agent's identity."""
        return self._cell.identity

    @property
    def status(self) -> Status:
        """The agent's current status."""
        cell = self._cell
        if cell.status is Status.IDLE and cell.is_busy():
            return Status.BUSY
        return cell.status

    @property
    def load(self) -> int:
        """Number of requests that are queued or being handled."""
        return self._cell.load()

    @property
    def heartbeat_age(self) -> float:
        """Seconds since the agent began a turn or called `heartbeat()`."""
        cell = self._cell
        return cell.host.now() - max(cell.began, cell.beat)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, LocalRef) and other._cell is self._cell

    def __hash__(self) -> int:
        return hash(self._cell)

    def __repr__(self) -> str:
        identity = self._cell.identity
        return f"<Ref {identity.agent_id!r} ({identity.type}) {self.status}>"

    if not TYPE_CHECKING:

        def __getattr__(self, name: str) -> NoReturn:
            kind = type(self._cell.agent) if name[:1] != "_" else type(self)
            if name[:1] != "_" and callable(getattr(kind, name, None)):
                raise AttributeError(
                    f"a Ref has no {name!r}; ask for it with ref.ask({kind.__name__}."
                    f"{name}, ...) or ref.proxy.{name}(...)"
                )
            raise AttributeError(f"'Ref' object has no attribute {name!r}")

    # --- requests -------------------------------------------------------------------

    def within(self, seconds: float | None) -> "Ref[A_co]":
        """Return a ref whose requests wait at most `seconds`; see `Ref.within`."""
        if seconds is None:
            return LocalRef(self._cell, NEVER)
        check_timeout(seconds)
        return LocalRef(self._cell, float(seconds))

    async def ask(
        self,
        method: Callable[Concatenate[A_co, P], Coroutine[Any, Any, R]],
        /,
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> R:
        """Have the agent run `method` as a turn; see `Ref.ask`."""
        cell = self._cell
        call = cell.calls.get(method)
        if call is None or call.streams:
            call = call_for(cell, method, streams=False)
        host = cell.host
        cause = None
        if not host.is_direct:
            around = None if host.interceptors is None else host.interceptors.ask
            if type(self) is PassedRef:
                cause = self.cause
            elif around is not None:
                asked = _call_of(cell, call, args, kwargs, "ask")
                result: R = await around(asked, partial(_ask_on, self, method))
                return result
            if host.pause is not None:
                await host.pause()
        if not cell.accepting or get_running_loop() is not host.loop:
            refuse(cell)
        timeout = self._timeout
        if timeout is None:
            timeout = host.ask_timeout
        now = host.now()
        envelope = Asked(cell, call, args, kwargs, now + timeout, now)
        if type(self) is PassedRef:
            self.sent(envelope)
        turn = current_activity.get()
        party: Hashable | None = None
        inherits = False
        if cause is not None:
            envelope.cause = cause
        elif turn is not None:
            envelope.cause = turn.cause or current_cause()
        if turn is not None and turn.is_turn():
            inherits = inherit(turn, envelope)
            party = asking_party(host, envelope)
        elif timeout <= 0:
            raise too_late(envelope)
        elif host.leases or host.expected:
            party = host.asking_task(envelope)
        if party is not None:  # before anything is sent
            if (
                cell.current is None
                and cell.mailbox is None
                and cell.beside is None
                and cell.open
            ):
                host.graph.note(party, envelope)  # an idle agent waits for nothing
            else:
                if may_be_eager():
                    await one_loop_turn()
                host.graph.enter(party, envelope)
        reply: asyncio.Future[R] | None = None
        try:
            answer: R = cell.attempt(envelope)
            if answer is not PENDING:
                return answer
            reply = envelope.reply
            assert reply is not None  # attempt() made it
            if inherits:
                host.deadlines.inherit(envelope)
            elif timeout != NEVER:
                host.deadlines.add(timeout, envelope)
            return await reply
        except BaseException as error:
            cell.drop(envelope)
            if isinstance(error, asyncio.CancelledError):
                note_late(envelope, reply)
            if kwargs and isinstance(error, TypeError):
                misplaced(kwargs, error)
            reply = None  # the error keeps this frame, which must not keep the error
            raise
        finally:
            envelope.reply = None
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
        """Queue `method` at the agent; see `Ref.tell`."""
        cell = self._cell
        call = cell.calls.get(method) or resolve(type(cell.agent), method)
        if kwargs or len(args) not in call.shapes:
            call.check(args, kwargs)
        host = cell.host
        cause = None
        if not host.is_direct:
            around = None if host.interceptors is None else host.interceptors.tell
            if type(self) is PassedRef:
                cause = self.cause
            elif around is not None:
                told = _call_of(cell, call, args, kwargs, "tell")
                await around(told, partial(_tell_on, self, method))
                return
            if host.pause is not None:
                await host.pause()
        if not cell.accepting or get_running_loop() is not host.loop:
            refuse(cell)
        envelope = Told(cell, call, args, kwargs)
        if cause is not None:
            envelope.cause = cause
        elif current_activity.get() is not None:
            envelope.cause = current_cause()
        if not cell.post(envelope):
            if type(self) is PassedRef:
                self.sent(envelope)
            await wait_for_room(envelope, self._timeout)

    def tell_nowait(
        self,
        method: Callable[
            Concatenate[A_co, P], Coroutine[Any, Any, Any] | AsyncIterator[Any]
        ],
        /,
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> None:
        """Queue `method` at the agent if there is room now; see `Ref.tell_nowait`."""
        cell = self._cell
        call = cell.calls.get(method) or resolve(type(cell.agent), method)
        call.check(args, kwargs)
        cell.check_loop()
        cause = None
        if cell.host.interceptors is not None:
            around = cell.host.interceptors.tell
            if type(self) is PassedRef:
                cause = self.cause
            elif around is not None:
                told = _call_of(cell, call, args, kwargs, "tell")
                telling = around(told, partial(_tell_on_nowait, self, method))
                run_at_once(telling, f"tell_nowait({call.name})")
                return
        if not cell.accepting:
            refuse(cell)
        if not cell.has_room(call):
            raise MailboxFull(
                f"the mailbox of agent {cell} holds {cell.capacity} requests and is "
                "full; `await tell(...)` waits for room"
            )
        envelope = Told(cell, call, args, kwargs)
        if cause is not None:
            envelope.cause = cause
        elif current_activity.get() is not None:
            envelope.cause = current_cause()
        cell.post(envelope)

    def stream(
        self,
        method: Callable[Concatenate[A_co, P], AsyncIterator[T]],
        /,
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> Stream[T]:
        """Return what `method` yields, as it comes; see `Ref.stream`."""
        cell = self._cell
        call = cell.calls.get(method)
        if call is None or not call.streams:
            call = call_for(cell, method, streams=True)
        timeout = cell.host.ask_timeout if self._timeout is None else self._timeout
        return Stream(cell, call, (args, kwargs), timeout)

    @property
    def proxy(self) -> A_co:
        """A stand-in whose methods ask; see `Ref.proxy`."""
        return cast(A_co, _Proxy(self))

    # --- life -----------------------------------------------------------------------

    def pause(self) -> Awaitable[None]:
        """Have the agent take up nothing more; see `Ref.pause`."""
        self._cell.check_loop()
        return self._cell.supervisor.pause(self._cell)

    def resume(self) -> Awaitable[None]:
        """Have a paused agent go on; see `Ref.resume`."""
        self._cell.check_loop()
        return self._cell.supervisor.resume(self._cell)

    async def stop(self, timeout: float | None = None) -> None:
        """Have the agent finish what is queued and end; see `Ref.stop`."""
        self._cell.check_loop()
        check_timeout(timeout)
        await self._cell.supervisor.stop(self._cell, timeout)

    async def ended(self) -> str:
        """Wait for the agent's end; see `Ref.ended`."""
        cell = self._cell
        cell.check_loop()
        turn = calling_turn()
        if turn is not None and turn.cell is cell:
            raise DeadlockError(f"a turn of agent {cell} cannot wait for its end")
        return await cell.supervisor.ended(cell)

    def kill(self) -> Awaitable[None]:
        """End the agent at once; see `Ref.kill`."""
        self._cell.check_loop()
        return self._cell.supervisor.kill(self._cell)


class _Proxy:
    __slots__ = ("_ref",)

    def __init__(self, ref: LocalRef[Any]) -> None:
        self._ref = ref

    def __repr__(self) -> str:
        return f"<proxy of {self._ref!r}>"

    def __copy__(self) -> "_Proxy":
        return self  # immutable

    def __deepcopy__(self, memo: object) -> "_Proxy":
        return self

    def __reduce__(self) -> NoReturn:
        raise TypeError("a proxy cannot be pickled; pass the agent's name")

    def __getattr__(self, name: str) -> Callable[..., Any]:
        if name.startswith("_"):
            raise AttributeError(f"a proxy has no attribute {name!r}")
        ref = self._ref
        call = resolve_name(type(ref._cell.agent), name)  # noqa: SLF001  # our own ref
        return partial(ref.stream if call.streams else ref.ask, call.function)


class PassedRef(LocalRef[A_co]):
    """A ref whose requests no interceptor of the caller's side sees.

    Attributes:
        cause: What the requests are consequences of; None: the running code's cause.
        request: The last request that waits or has waited, or None.
    """

    __slots__ = ("cause", "request")

    def __init__(
        self, cell: Cell, timeout: float | None, cause: Cause | None = None
    ) -> None:
        """Point at an agent; made where interceptors have run, or are not to run."""
        super().__init__(cell, timeout)
        self.cause: Cause | None = cause
        self.request: Envelope | None = None

    def sent(self, envelope: Envelope) -> None:
        """Take note of the request that is about to wait."""
        self.request = envelope


def _call_of(
    cell: Cell,
    call: ResolvedMethod,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    kind: Literal["ask", "tell"],
) -> AgentCall:
    return AgentCall(
        agent=cell.identity,
        method=call.name,
        args=args,
        kwargs=kwargs,
        kind=kind,
        trace=current_trace(),
    )


def _passed(ref: LocalRef[Any], call: AgentCall) -> Ref[Any]:
    """Return a ref that sends an intercepted call, with the trace it has now."""
    return PassedRef(ref._cell, ref._timeout, cause_of(call))  # noqa: SLF001  # our own ref


async def _ask_on(ref: LocalRef[Any], method: Any, call: AgentCall) -> Any:
    return await _passed(ref, call).ask(method, *call.args, **call.kwargs)


async def _tell_on(ref: LocalRef[Any], method: Any, call: AgentCall) -> None:
    await _passed(ref, call).tell(method, *call.args, **call.kwargs)


async def _tell_on_nowait(ref: LocalRef[Any], method: Any, call: AgentCall) -> None:
    _passed(ref, call).tell_nowait(method, *call.args, **call.kwargs)
