"""Requests of this process to agents in others, until they are answered."""

import asyncio
import logging
from collections.abc import Callable, Hashable, Iterable, Iterator
from contextlib import contextmanager
from itertools import count
from typing import Any, Final

import orjson

from swarm.agents import NEVER, Host, asking_party, caller, calling_turn
from swarm.errors import (
    AgentDied,
    AskTimeout,
    Closed,
    MailboxFull,
    NoSuchAgent,
    NotFound,
    StorageFailed,
)
from swarm.model import MICRO, AgentIdentity, Cause
from swarm.ports import Codec, Tail, View, current_activity, current_cause
from swarm.processes._failures import failure_from_json
from swarm.processes._membership import Membership
from swarm.processes._post import Post

log: Final = logging.getLogger("swarm.processes")


class RemoteCall:
    """A request to an agent in another process. An obstacle of the wait-for graph.

    Attributes:
        id: Its number in this process.
        process: The process in which the agent lives.
        agent: The agent's name.
        what: What is asked for, in messages: "Researcher.research".
        deadline: When the caller gives up, in monotonic seconds.
        since: When it was sent.
        reply: The JSON of the answer, or the error.
        on_item: Called with each item of a stream, as JSON.
        items: How many have come.
        at: When it was sent, in kernel time.
        party: The turn or task that waits for the answer; None: no party waits for it.
        is_told: Whether no answer is wanted but that the mailbox has taken it.
    """

    __slots__ = (
        "_calls",
        "_timeout",
        "agent",
        "at",
        "deadline",
        "id",
        "is_told",
        "items",
        "on_item",
        "party",
        "process",
        "reply",
        "since",
        "what",
    )

    def __init__(
        self,
        calls: "Calls",
        id: int,  # noqa: A002
        process: str,
        agent: str,
        what: str,
    ) -> None:
        """Begin without a deadline."""
        self._calls = calls
        self._timeout = NEVER
        self.id: int = id
        self.process: str = process
        self.agent: str = agent
        self.what: str = what
        self.deadline: float = NEVER
        self.since: float = calls.host.now()
        self.reply: asyncio.Future[Any] = calls.host.loop.create_future()
        self.on_item: Callable[[Any], object] | None = None
        self.is_told: bool = False
        self.items: int = 0
        self.at: int = 0
        self.party: Hashable | None = None

    def is_decided(self) -> bool:
        """Return whether it has been answered, or has failed."""
        return self.reply.done()

    def answer(self, value: Any) -> None:
        """Give the caller the answer."""
        if not self.reply.done():
            self.reply.set_result(value)

    def fail(self, error: BaseException) -> None:
        """Give the caller an error."""
        if not self.reply.done():
            self.reply.set_exception(error)

    def bound(self, timeout: float) -> None:
        """Let the caller wait for so many seconds, and no longer than its own turn.

        Raises:
            AskTimeout: There is no time at all.
        """
        host, now = self._calls.host, self.since
        self._timeout, self.deadline = timeout, now + timeout
        turn = calling_turn()
        inherited = NEVER if turn is None or turn.is_decided() else turn.deadline
        if min(inherited, self.deadline) <= now:
            raise AskTimeout(
                f"there was no time left for {self.what} of agent '{self.agent}'"
            )
        if inherited < self.deadline:
            self.deadline = inherited
            host.deadlines.inherit(self)
        elif timeout != NEVER:
            host.deadlines.add(timeout, self)

    def expire(self) -> None:
        """Give up: the agent may have begun, which is not known here."""
        waited = self._calls.host.now() - self.since
        if self.is_told:
            text = f"the mailbox of agent '{self.agent}' had no room within"
            error = AskTimeout(f"{text} {waited:.3g} s")
        else:
            text = f"{self.what} of agent '{self.agent}' in process {self.process}"
            error = AskTimeout(f"{text} did not answer in {waited:.3g} s", started=True)
        self._calls.drop(self, error)

    def blockers(self) -> Iterable[Any]:
        """Return no party: those of other processes are not known here."""
        return ()

    def describe_wait(self) -> str:
        """Return what is waited for and since when."""
        waited = self._calls.host.now() - self.since
        return (
            f"'{self.agent}' ({self.what}) in process {self.process}, asked "
            f"{waited:.1f} s ago"
        )


class Calls:
    """The requests of this process to agents in others that are not answered yet.

    Attributes:
        host: The system around them.
        codec: What writes JSON.
        membership: This process among the others.
        open: The requests, by their numbers.
        on_wait: Called when a party begins to wait for an answer.
    """

    def __init__(
        self,
        host: Host,
        post: Post,
        membership: Membership,
        tail: Tail,
        codec: Codec,
    ) -> None:
        """Send by this post, and take the answers that it receives."""
        self.host: Host = host
        self.codec: Codec = codec
        self.membership: Membership = membership
        self.open: dict[int, RemoteCall] = {}
        self.on_wait: Callable[[], object] = _nothing
        self._post = post
        self._tail = tail
        self._ids = count(1)
        post.handlers["answer"] = self._answered
        post.handlers["item"] = self._came
        membership.on_gone.append(self._gone)
        membership.on_lost.append(self._lost)

    # --- sending ----------------------------------------------------------------------

    def new(self, process: str, agent: str, what: str) -> RemoteCall:
        """Return a request that is yet to be bound to a deadline and sent."""
        return RemoteCall(self, next(self._ids), process, agent, what)

    def send(
        self, call: RemoteCall, message: dict[str, Any], cause: Cause | None = None
    ) -> None:
        """Send a request, with the deadline, cause and identity of its caller."""
        message["id"] = call.id
        message["to"] = call.agent
        call.at = self._tail.read_now(_now)
        message["until"] = self._until(call)
        message["cause"] = self._cause(call, cause)
        message["by"] = _identity(caller())
        self.open[call.id] = call
        try:
            sent = self._post.send(call.process, "request", message)
        except BaseException:
            self.open.pop(call.id, None)
            raise
        sent.add_done_callback(lambda done: self._sent(call, done))

    def _until(self, call: RemoteCall) -> int | None:
        """Return a deadline in kernel time, which all processes share."""
        if call.deadline == NEVER:
            return None
        return call.at + int((call.deadline - self.host.now()) * MICRO)

    def _cause(self, call: RemoteCall, cause: Cause | None) -> list[Any] | None:
        if cause is None and current_activity.get() is not None:
            cause = current_cause()
        if cause is None:
            return None
        cause.pin(f"{self.membership.id}-{call.id}")
        return [cause.correlation_id, cause.causation_id, cause.trace, cause.depth]

    def _sent(self, call: RemoteCall, sent: "asyncio.Future[None]") -> None:
        error: BaseException | None = Closed() if sent.cancelled() else sent.exception()
        if error is None:
            return
        if isinstance(error, NotFound):
            error = self.no_such(call.agent, call.process)
        elif isinstance(error, MailboxFull):
            error = MailboxFull(f"agent '{call.agent}' cannot be reached: {error}")
        self._end(call, error)

    def no_such(self, agent: str, process: str) -> NoSuchAgent:
        """Return the error of a request to a process that has gone."""
        return NoSuchAgent(f"agent '{agent}' has ended with its process {process}")

    # --- waiting ----------------------------------------------------------------------

    async def result(self, call: RemoteCall) -> Any:
        """Wait for the answer; cancelled, withdraw the request or cancel its turn.

        Raises:
            Exception: What the other side answered, or why it cannot.
        """
        try:
            with self.waiting(call):
                return await call.reply
        except BaseException:
            self.drop(call)
            raise

    @contextmanager
    def waiting(self, call: RemoteCall) -> Iterator[None]:
        """Have the running turn or task wait for an answer while the block runs."""
        call.party = asking_party(self.host, call)
        if call.party is not None:
            self.on_wait()
        try:
            with self.host.graph.waiting(call.party, call):
                yield
        finally:
            call.party = None

    def drop(self, call: RemoteCall, error: BaseException | None = None) -> None:
        """Want no answer any more: tell the other side, and the caller the error."""
        if self.open.pop(call.id, None) is not None:
            self._post.mention(call.process, "cancel", {"id": call.id})
        if error is not None:
            call.fail(error)

    def credit(self, call: RemoteCall, number: int) -> None:
        """Let a stream send so many more items."""
        if call.id in self.open:
            message = {"id": call.id, "more": number}
            self._post.mention(call.process, "credit", message)

    def load(self, agent: str, process: str) -> int:
        """Return how many requests of this process an agent has yet to answer."""
        calls = self.open.values()
        return sum(c.agent == agent and c.process == process for c in calls)

    # --- answers ----------------------------------------------------------------------

    def _answered(self, sender: str, message: dict[str, Any]) -> None:
        call = self.open.get(message["id"])
        if call is None or call.process != sender:
            return
        del self.open[call.id]
        failure = message.get("error")
        if failure is None and call.on_item is not None:
            self._check_items(call, message["value"])
        if failure is None:
            call.answer(message.get("value"))
        else:
            where = self.membership.describe(sender)
            call.fail(failure_from_json(failure, where))

    def _came(self, sender: str, message: dict[str, Any]) -> None:
        call = self.open.get(message["id"])
        if call is not None and call.process == sender and call.on_item is not None:
            call.items += 1
            if self._check_items(call, message["n"]):
                call.on_item(message["value"])

    def _check_items(self, call: RemoteCall, count: int) -> bool:
        """Return whether all items of a stream have come; fail it if not."""
        if call.items != count:
            text = f"an item of {call.what} of agent '{call.agent}' was lost on its way"
            self.drop(call, StorageFailed(text))
        return call.items == count

    def _gone(self, process: str) -> None:
        self._post.forget(process)
        for call in [c for c in self.open.values() if c.process == process]:
            who = f"agent '{call.agent}' died with its process {process} before it"
            self._end(call, AgentDied(f"{who} answered {call.what}"))

    def _lost(self) -> None:
        """Fail everything: the answers go to a process that this one is no more."""
        for call in tuple(self.open.values()):
            when = f"before agent '{call.agent}' answered {call.what}"
            self._end(call, AgentDied(f"this process was taken for dead {when}"))

    def close(self) -> None:
        """Fail everything: the swarm is closed."""
        for call in tuple(self.open.values()):
            error = self.host.closed_error() or Closed("the swarm is closed")
            self._end(call, error)

    def _end(self, call: RemoteCall, error: BaseException) -> None:
        """Fail a request, without a complaint of the loop if no caller waits for it."""
        self.open.pop(call.id, None)
        call.fail(error)
        if not call.reply.cancelled():
            call.reply.exception()


def _nothing() -> None:
    """Do nothing."""


def _now(view: View) -> int:
    return view.now


def _identity(identity: AgentIdentity) -> list[str]:
    return [identity.agent_id, identity.type, identity.session, identity.role]


def encoded(signature_json: bytes) -> Any:
    """Return JSON that is put into a message as it is."""
    return orjson.Fragment(signature_json)
