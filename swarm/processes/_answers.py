"""Requests of other processes to agents in this one: served, and answered."""

import asyncio
import logging
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any, Final

from swarm.agents import (
    AgentTable,
    Cell,
    Envelope,
    Host,
    PassedRef,
    Ref,
    Stream,
    Supervisor,
    resolve_name,
)
from swarm.errors import (
    AgentDied,
    Closed,
    MailboxFull,
    NoSuchAgent,
    NotFound,
)
from swarm.model import MICRO, AgentIdentity, Cause
from swarm.ports import Activity, Codec, Tail, View, current_activity, current_identity
from swarm.processes._failures import failure_to_json
from swarm.processes._post import Post
from swarm.processes._signature import Signature, signature_of

log: Final = logging.getLogger("swarm.processes")

MOST: Final = 10_000
"""Maximum number of requests of other processes handled at a time."""


class Answers:
    """Serves the requests of other processes.

    Attributes:
        requests: The tasks that serve them, by sender and number.
        sources: What asks, tells or streams for each of them, likewise.
        credits: How to let a stream go on, likewise.
    """

    def __init__(
        self,
        host: Host,
        post: Post,
        table: AgentTable,
        supervisor: Supervisor,
        tail: Tail,
        codec: Codec,
    ) -> None:
        """Serve what this post receives."""
        self._host = host
        self._post = post
        self._table = table
        self._supervisor = supervisor
        self._tail = tail
        self._codec = codec
        self.requests: dict[tuple[str, int], asyncio.Task[Any]] = {}
        self.sources: dict[tuple[str, int], PassedRef[Any] | Stream[Any]] = {}
        self.credits: dict[tuple[str, int], Callable[[int], None]] = {}
        post.handlers["request"] = self._take
        post.handlers["cancel"] = self._cancel
        post.handlers["credit"] = self._credit

    # --- receiving --------------------------------------------------------------------

    def _take(self, sender: str, message: dict[str, Any]) -> None:
        """Begin to serve a request; one that cannot be served is answered at once."""
        id = message["id"]  # noqa: A001
        try:
            work = self._serve(sender, message)
        except Exception as error:  # noqa: BLE001  # the caller's
            self._fail(sender, id, error)
            return
        if work is None:
            self._answer(sender, id, None)
            return
        key = sender, id
        task = self._host.start(
            self._answer_with(sender, id, work),
            f"request of process {sender}",
            ended=lambda: self._over(key),
        )
        self.requests[key] = task

    def _over(self, key: tuple[str, int]) -> None:
        self.requests.pop(key, None)
        self.sources.pop(key, None)
        self.credits.pop(key, None)

    def _cancel(self, sender: str, message: dict[str, Any]) -> None:
        task = self.requests.get((sender, message["id"]))
        if task is not None:
            task.cancel()

    def _credit(self, sender: str, message: dict[str, Any]) -> None:
        give = self.credits.get((sender, message["id"]))
        if give is not None:
            give(message["more"])

    def request(self, sender: str, id: int) -> Envelope | None:  # noqa: A002
        """Return the request to an agent that serves one of another process.

        None: it has not been sent to the agent, or is decided.
        """
        source = self.sources.get((sender, id))
        request = None if source is None else source.request
        return None if request is None or request.is_decided() else request

    def forget(self, process: str) -> None:
        """Cancel the requests of a process that has gone."""
        for (sender, _), task in tuple(self.requests.items()):
            if sender == process:
                task.cancel()

    def lose(self) -> None:
        """Cancel every request: its caller takes this process for dead."""
        for task in tuple(self.requests.values()):
            task.cancel()

    # --- serving ----------------------------------------------------------------------

    def _serve(
        self, sender: str, message: dict[str, Any]
    ) -> Callable[[], Coroutine[Any, Any, Any]] | None:
        """Return what serves a request and gives the answer; None: it is done already.

        Raises:
            Exception: It cannot be served.
        """
        cell = self._cell(message)
        kind = message["ask"]
        if kind == "life":
            return partial(self._live, message, cell)
        if len(self.requests) >= MOST:
            raise MailboxFull(
                f"the process of agent {cell} has {MOST} requests of others in hand"
            )
        try:
            call = resolve_name(type(cell.agent), message["method"])
        except AttributeError as error:
            raise TypeError(str(error)) from None
        signature = signature_of(call.function)
        if kind != "tell":
            signature.check(streams=kind == "stream")
        args, kwargs = signature.decode(cell.name, *message["args"])
        timeout = self._left(message)
        ref = PassedRef[Any](cell, timeout)  # the caller's side has intercepted
        cause, key = message["cause"], (sender, message["id"])
        activity = Activity(None if cause is None else Cause(*cause))
        if kind == "tell" and cell.has_room(call):
            self._tell_at_once(ref, activity, call.function, args, kwargs)
            return None
        if kind == "stream":
            items = ref.stream(call.function, *args, **kwargs)
            self.sources[key] = items
            return partial(self._stream, sender, message, activity, signature, items)
        self.sources[key] = ref
        ask = partial(ref.ask if kind == "ask" else ref.tell, call.function)
        ask = partial(ask, *args, **kwargs)
        return partial(self._ask, message, activity, signature, ask)

    def _cell(self, message: dict[str, Any]) -> Cell:
        """Return the agent that a request is for.

        Raises:
            NoSuchAgent: It has ended.
        """
        name = message["to"]
        cell = self._table.cells.get(name)
        if cell is None or message["since"] not in (0, cell.started_at):
            raise NoSuchAgent(f"agent '{name}' has ended and takes no requests")
        return cell

    def _left(self, message: dict[str, Any]) -> float:
        """Return the seconds until the caller's deadline."""
        until = message["until"]
        if until is None:
            return float("inf")
        now: int = self._tail.read_now(_now)
        left: float = max(0.0, (until - now) / MICRO)
        return left

    def _tell_at_once(
        self,
        ref: Ref[Any],
        activity: Activity,
        function: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> None:
        token = current_activity.set(activity)
        try:
            ref.tell_nowait(function, *args, **kwargs)
        finally:
            current_activity.reset(token)

    async def _answer_with(
        self,
        sender: str,
        id: int,  # noqa: A002
        work: Callable[[], Coroutine[Any, Any, Any]],
    ) -> None:
        """Answer with what comes of some work: its result, or its error."""
        try:
            value = await work()
        except asyncio.CancelledError:
            raise
        except BaseException as error:  # noqa: BLE001  # the caller's
            self._fail(sender, id, error)
        else:
            self._answer(sender, id, value)

    async def _ask(
        self,
        message: dict[str, Any],
        activity: Activity,
        signature: Signature,
        ask: Callable[[], Coroutine[Any, Any, Any]],
    ) -> Any:
        """Ask the agent; return the result as JSON."""
        current_activity.set(activity)  # in the context of this task only
        value = await ask()
        if message["ask"] == "tell":
            return None
        return signature.encode_result(message["to"], value, self._codec)

    async def _stream(
        self,
        sender: str,
        message: dict[str, Any],
        activity: Activity,
        signature: Signature,
        items: Any,
    ) -> int:
        """Send what a stream yields, as far as its reader gives credit.

        Returns:
            The number of items. The reader counts them: the server may refuse one.
        """
        id, count = message["id"], 0  # noqa: A001
        credit = Credits(self._host.loop, message["window"])
        self.credits[sender, id] = credit.give
        current_activity.set(activity)
        async with items:
            async for item in items:
                value = signature.encode_result(message["to"], item, self._codec)
                count += 1
                told = {"id": id, "value": value, "n": count}
                sent = self._post.send(sender, "item", told)
                sent.add_done_callback(partial(_answered, sender))
                await credit.spend()
        return count

    # --- the life of an agent ---------------------------------------------------------

    async def _live(self, message: dict[str, Any], cell: Cell) -> Any:
        """Stop, kill, pause or resume an agent as the caller, or wait for its end."""
        current_identity.set(AgentIdentity(*message["by"]))  # in this task only
        supervisor, what = self._supervisor, message["method"]
        if what == "stop":
            await supervisor.stop(cell, message["args"])
        elif what == "kill":
            await supervisor.kill(cell)
        elif what == "pause":
            await supervisor.pause(cell)
        elif what == "resume":
            await supervisor.resume(cell)
        else:
            return await supervisor.ended(cell)
        return None

    # --- answering --------------------------------------------------------------------

    def _answer(self, sender: str, id: int, value: Any) -> None:  # noqa: A002
        self._reply_to(sender, {"id": id, "value": value})

    def _fail(self, sender: str, id: int, error: BaseException) -> None:  # noqa: A002
        if isinstance(error, Closed):
            error = AgentDied(f"the process of the agent was closed: {error}")
        self._reply_to(sender, {"id": id, "error": failure_to_json(error)})

    def _reply_to(self, sender: str, message: dict[str, Any]) -> None:
        """Send an answer; one that cannot be sent becomes the error that says why."""
        try:
            sent = self._post.send(sender, "answer", message)
        except (TypeError, ValueError) as error:
            if "error" in message:
                raise
            self._fail(sender, message["id"], error)
        except Closed as error:
            log.debug("not answered to process %s: %s", sender, error)
        else:
            sent.add_done_callback(partial(_answered, sender))


def _answered(sender: str, sent: "asyncio.Future[None]") -> None:
    """Say that an answer was not taken: its caller waits until its own deadline."""
    error = None if sent.cancelled() else sent.exception()
    if error is not None and not isinstance(error, (Closed, NotFound)):
        log.warning("an answer to process %s was not taken: %s", sender, error)


class Credits:
    """Number of items that a stream may still send; its reader adds to it."""

    __slots__ = ("_loop", "_waiting", "left")

    def __init__(self, loop: asyncio.AbstractEventLoop, left: int) -> None:
        """Begin with so many."""
        self.left: int = left
        self._loop = loop
        self._waiting: asyncio.Future[None] | None = None

    def give(self, more: int) -> None:
        """Allow more items."""
        self.left += more
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_result(None)

    async def spend(self) -> None:
        """Note that one was sent; wait until another may be."""
        self.left -= 1
        while self.left <= 0:
            self._waiting = self._loop.create_future()
            await self._waiting


def _now(view: View) -> int:
    return view.now
