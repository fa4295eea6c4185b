"""Refs of agents in other processes."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Generator
from functools import partial
from typing import (
    TYPE_CHECKING,
    Any,
    Concatenate,
    Final,
    Generic,
    Literal,
    NoReturn,
    ParamSpec,
    TypeVar,
    cast,
)

from swarm.agents import (
    NEVER,
    AgentRecord,
    Ref,
    Status,
    Stream,
)
from swarm.errors import AgentDied, MailboxFull, NoSuchAgent
from swarm.model import MICRO, AgentIdentity, Cause, check_timeout
from swarm.ports import AgentCall, cause_of, current_trace, run_at_once
from swarm.processes._calls import RemoteCall, encoded, log
from swarm.processes._network import Network
from swarm.processes._process_rules import GONE
from swarm.processes._remote_proxy import RemoteProxy
from swarm.processes._remote_stream import RemoteStream
from swarm.processes._signature import Signature, signature_of

A_co = TypeVar("A_co", covariant=True)
P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")

TOLD: Final = 1_024
"""Maximum number of told requests to one agent that are under way."""


class RemoteRef(Ref[A_co], Generic[A_co]):
    """A handle on an agent that may live in another process.

    It is used as a `Ref`. The ref of a singleton follows the name, and equals only refs
    that do the same. Arguments and results travel as JSON, typed by the method's
    annotations. In particular:

    - `TypeError` says which argument cannot travel; nothing was sent.
    - An exception of the method arrives as the same class if both programs have loaded
      it, and as `RemoteError` otherwise.
    - `AgentDied` comes as soon as the process is known to have gone.
    - `AskTimeout.started` is True: whether the turn had begun is not known here.
    - `tell` returns when the mailbox has taken the request. `tell_nowait` cannot know
      of the mailbox: it raises `MailboxFull` while 1,024 are under way.
    - A stream is at most twice `SwarmConfig.stream_window` items ahead.
    - `load` counts the requests of this process only.
    """

    __slots__ = (
        "_identity",
        "_moves",
        "_network",
        "_process",
        "_since",
        "_timeout",
    )

    def __init__(
        self,
        network: Network,
        record: AgentRecord,
        timeout: float | None = None,
        *,
        moves: bool = False,
    ) -> None:
        """Point at the agent of a registry record; made by the registry.

        Args:
            network: The way to it.
            record: The agent.
            timeout: Seconds to wait; None: the default.
            moves: Whether to follow the name to wherever it lives: a singleton's.
        """
        self._timeout = timeout
        self._network = network
        self._identity = record.identity
        self._process = record.process
        self._since = record.started_at
        self._moves = moves

    # --- identity -------------------------------------------------------------------

    @property
    def identity(self) -> AgentIdentity:
        """The agent's identity."""
        return self._identity

    @property
    def process(self) -> str:
        """The process in which the agent lives, or lived last."""
        if self._moves:
            record = self._network.record(self.name)
            return self._process if record is None else record.process
        return self._process

    @property
    def status(self) -> Status:
        """The agent's status when it was last committed."""
        record = self._network.record(self.name)
        if record is None or not (self._moves or self._is(record)):
            return Status.OFFLINE
        return record.status

    @property
    def load(self) -> int:
        """Number of requests of this process that the agent has yet to answer."""
        return self._network.calls.load(self.name, self.process)

    @property
    def heartbeat_age(self) -> float:
        """Seconds since the agent's document was last written."""
        document = self._network.document(self.name)
        if document is None:
            return NEVER
        wall = self._network.host.clock.wall()
        return max(0.0, (wall - document.at) / MICRO)

    def _is(self, record: AgentRecord) -> bool:
        return (record.process, record.started_at) == (self._process, self._since)

    def _key(self) -> tuple[Any, ...]:
        where = () if self._moves else (self._process, self._since)
        return (self._network, self.name, *where)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, RemoteRef) and other._key() == self._key()

    def __hash__(self) -> int:
        return hash(self._key())

    def __repr__(self) -> str:
        identity = self._identity
        where = f"in process {self.process}"
        return f"<Ref {identity.agent_id!r} ({identity.type}) {self.status} {where}>"

    if not TYPE_CHECKING:

        def __getattr__(self, name: str) -> NoReturn:
            if name[:1] == "_":
                raise AttributeError(f"'Ref' object has no attribute {name!r}")
            raise AttributeError(
                f"a Ref has no {name!r}; ask for a method with ref.ask(Class.{name}, "
                f"...) or ref.proxy.{name}(...)"
            )

    # --- requests -------------------------------------------------------------------

    def within(self, seconds: float | None) -> "Ref[A_co]":
        """Return a ref whose requests wait at most `seconds`; None: for ever."""
        check_timeout(seconds)
        timeout = NEVER if seconds is None else float(seconds)
        record = AgentRecord(
            self._identity, (), self._since, Status.IDLE, self._process
        )
        return RemoteRef(self._network, record, timeout, moves=self._moves)

    async def ask(
        self,
        method: Callable[Concatenate[A_co, P], Coroutine[Any, Any, R]],
        /,
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> R:
        """Have the agent run `method` as a turn and return what it returns.

        Raises:
            MailboxFull: Its process has too much to read; nothing was sent.
            RemoteError: The method raised what this process does not know.
            Exception: As `Ref.ask` raises.
        """
        signature = signature_of(method)
        signature.check(streams=False)
        local = await self._enter()
        if local is not None:
            return await local.ask(method, *args, **kwargs)
        result: R = await self._around("ask", signature, args, kwargs)
        return result

    async def tell(
        self,
        method: Callable[
            Concatenate[A_co, P], Coroutine[Any, Any, Any] | AsyncIterator[Any]
        ],
        /,
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> None:
        """Queue `method` at the agent; return once its mailbox has taken it.

        Raises:
            MailboxFull: Its process has too much to read; nothing was sent.
            Exception: As `Ref.tell` raises.
        """
        signature = signature_of(method)
        local = await self._enter()
        if local is not None:
            await local.tell(method, *args, **kwargs)
            return
        await self._around("tell", signature, args, kwargs)

    def tell_nowait(
        self,
        method: Callable[
            Concatenate[A_co, P], Coroutine[Any, Any, Any] | AsyncIterator[Any]
        ],
        /,
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> None:
        """Send `method` to the agent; if it cannot take it, a warning is logged.

        Raises:
            MailboxFull: 1,024 requests of this process to it are under way.
            Exception: As `Ref.tell_nowait` raises.
        """
        signature = signature_of(method)
        self._network.host.check()
        local = self._find()
        if local is not None:
            local.tell_nowait(method, *args, **kwargs)
            return
        if self.load >= TOLD:
            raise MailboxFull(
                f"{TOLD} requests to agent '{self.name}' in process {self._process} "
                "are under way; `await tell(...)` waits for its mailbox"
            )
        interceptors = self._network.host.interceptors
        if interceptors is None or interceptors.tell is None:
            self._tell_now(signature, None, args, kwargs)
            return
        told = self._call_of("tell", signature, args, kwargs)

        async def proceed(call: AgentCall) -> None:
            self._tell_now(signature, cause_of(call), call.args, dict(call.kwargs))

        run_at_once(interceptors.tell(told, proceed), f"tell_nowait({signature.name})")

    def stream(
        self,
        method: Callable[Concatenate[A_co, P], AsyncIterator[T]],
        /,
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> Stream[T]:
        """Return what the agent's async generator `method` yields, as it comes.

        Raises:
            Exception: As `Ref.stream` raises.
        """
        signature = signature_of(method)
        signature.check(streams=True)
        local = self._find()
        if local is not None:
            return local.stream(method, *args, **kwargs)
        calls, timeout = self._network.calls, self._wait
        arguments = signature.encode(self.name, args, kwargs, calls.codec)
        begin = partial(self._send, "stream", signature, arguments, NEVER)
        return RemoteStream(calls, self.name, signature, begin, timeout)

    @property
    def proxy(self) -> A_co:
        """A stand-in whose methods ask; the agent's class must be loaded here."""
        return cast(A_co, RemoteProxy(self))

    async def _enter(self) -> Ref[Any] | None:
        """Check that the agent can be asked; return it if it lives here."""
        host = self._network.host
        host.check()
        if host.pause is not None:
            await host.pause()
        return self._find()

    def _find(self) -> Ref[Any] | None:
        """Return the agent if it lives here by now; None: it lives elsewhere.

        Raises:
            NoSuchAgent: It has ended, as far as is known here.
        """
        network, name = self._network, self.name
        record = network.record(name)
        if record is None or not (self._moves or self._is(record)):
            raise NoSuchAgent(f"agent '{name}' has ended and takes no requests")
        if record.process == network.membership.id:
            local = network.local(name)
            if local is None:
                raise NoSuchAgent(f"agent '{name}' has ended and takes no requests")
            return local if self._timeout is None else local.within(self._timeout)
        self._process = record.process
        if not network.membership.is_alive(record.process):
            raise network.calls.no_such(name, record.process)
        return None

    async def _around(
        self,
        kind: Literal["ask", "tell"],
        signature: Signature,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> Any:
        """Run the interceptors of this process around a request, and the request."""
        interceptors = self._network.host.interceptors
        around = None if interceptors is None else getattr(interceptors, kind)
        if around is None:
            return await self._result(kind, signature, None, args, kwargs)
        asked = self._call_of(kind, signature, args, kwargs)

        async def proceed(call: AgentCall) -> Any:
            cause = cause_of(call)
            return await self._result(
                kind, signature, cause, call.args, dict(call.kwargs)
            )

        return await around(asked, proceed)

    async def _result(self, kind: str, signature: Signature, *request: Any) -> Any:
        call = self._request(kind, signature, *request)
        told = await self._network.calls.result(call)
        return signature.decode_result(self.name, told) if kind == "ask" else None

    def _tell_now(self, *request: Any) -> None:
        call = self._request("tell", *request)
        call.reply.add_done_callback(partial(_warn, call))

    def _call_of(
        self,
        kind: Literal["ask", "tell"],
        signature: Signature,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> AgentCall:
        return AgentCall(
            agent=self._identity,
            method=signature.name,
            args=args,
            kwargs=kwargs,
            kind=kind,
            trace=current_trace(),
        )

    @property
    def _wait(self) -> float:
        """The seconds for which a request waits."""
        timeout = self._timeout
        return self._network.host.ask_timeout if timeout is None else timeout

    def _request(
        self,
        kind: str,
        signature: Signature,
        cause: Cause | None,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> RemoteCall:
        arguments = signature.encode(self.name, args, kwargs, self._network.calls.codec)
        return self._send(kind, signature, arguments, self._wait, cause)

    def _send(
        self,
        kind: str,
        signature: Signature,
        arguments: bytes,
        timeout: float,
        cause: Cause | None = None,
    ) -> RemoteCall:
        network = self._network
        call = network.calls.new(self._process, self.name, signature.name)
        call.is_told = kind == "tell"
        call.bound(timeout)
        message = {
            "ask": kind,
            "method": signature.method,
            "args": encoded(arguments),
            "since": 0 if self._moves else self._since,
        }
        if kind == "stream":
            message["window"] = network.host.stream_window
        network.calls.send(call, message, cause)
        return call

    # --- life -----------------------------------------------------------------------

    def _order(self, what: str, argument: float | None = None) -> RemoteCall:
        network = self._network
        call = network.calls.new(self._process, self.name, what)
        since = 0 if self._moves else self._since
        message = {"ask": "life", "method": what, "args": argument, "since": since}
        network.calls.send(call, message)
        return call

    def pause(self) -> Awaitable[None]:
        """Have the agent take up nothing more; await the end of the turns in hand."""
        local = self._find()
        return local.pause() if local is not None else self._ordered("pause")

    def resume(self) -> Awaitable[None]:
        """Have a paused agent go on."""
        local = self._find()
        return local.resume() if local is not None else self._ordered("resume")

    def kill(self) -> Awaitable[None]:
        """End the agent at once; await the end of its tasks."""
        local = self._find()
        return local.kill() if local is not None else self._ordered("kill")

    def _ordered(self, what: str) -> Awaitable[None]:
        self._network.host.check()
        call = self._order(what)
        call.reply.add_done_callback(_see)
        return RemoteOrder(call.reply)

    async def stop(self, timeout: float | None = None) -> None:
        """Have the agent finish what is queued and end; wait for it.

        Cancelling the wait does not call the stop off.

        Raises:
            NoSuchAgent: It has ended already.
            AgentDied: Its process ended first.
            Exception: What `stopping()` raised.
        """
        check_timeout(timeout)
        local = await self._enter()
        if local is not None:
            await local.stop(timeout)
            return
        call = self._order("stop", timeout)
        call.reply.add_done_callback(_see)
        await asyncio.shield(call.reply)

    async def ended(self) -> str:
        """Wait for the agent's end without causing it.

        Returns:
            How it ended: "stopped", "killed", "failed", "closed" or "process died".

        Raises:
            NoSuchAgent: It had ended before.
        """
        local = await self._enter()
        if local is not None:
            return await local.ended()
        try:
            how: str = await self._network.calls.result(self._order("ended"))
        except AgentDied:
            return GONE
        return how


class RemoteOrder(Awaitable[None]):
    """An order to an agent in another process; await it until it is carried out."""

    __slots__ = ("_reply",)

    def __init__(self, reply: "asyncio.Future[Any]") -> None:
        """Be complete when this is."""
        self._reply = reply

    def __await__(self) -> Generator[Any, None, None]:
        yield from asyncio.shield(self._reply).__await__()


def _see(reply: "asyncio.Future[Any]") -> None:
    if not reply.cancelled():
        reply.exception()


def _warn(call: RemoteCall, reply: "asyncio.Future[Any]") -> None:
    if not reply.cancelled() and (error := reply.exception()) is not None:
        log.warning("%s told to agent '%s' is lost: %s", call.what, call.agent, error)
