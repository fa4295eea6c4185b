"""How a handler begins to get events."""

from collections.abc import Callable
from typing import Any

from swarm.bus._attempt import Member, is_async, takes
from swarm.bus._bus import Bus
from swarm.bus._feed import Feed
from swarm.bus._host import made_of, revision_of
from swarm.bus._keeper import Keeper
from swarm.bus._patterns import Selector
from swarm.bus._position import Position, Progress, position_path
from swarm.bus._records import (
    Batch,
    Delivery,
    Handler,
    HandlerOptions,
    OnError,
    RetryBackoff,
    SubscriptionStats,
)
from swarm.bus._subscription import InlineSubscription, Settled, Subscription
from swarm.bus._worker import WorkerSubscription
from swarm.errors import ConfigMismatch, NameTaken
from swarm.model import AgentIdentity


def to_options(
    *,
    delivery: Delivery | None,
    ordered: bool | None,
    partition: Callable[..., Any] | None,
    batch: Batch | None,
    on_error: OnError | None,
    max_retries: int,
    backoff: RetryBackoff | None,
    ack_wait: float | None,
    max_in_flight: int,
    buffer: int,
    is_named: bool,
    is_shared: bool,
) -> HandlerOptions:
    """Fill in what was left open; refuse what means nothing."""
    if delivery is None:
        delivery = "at-least-once" if is_named else "at-most-once"
    if on_error is None:
        on_error = "dead-letter" if delivery == "at-most-once" else "retry"
    if ordered is None:
        ordered = not is_shared or batch is not None or partition is not None
    return HandlerOptions(
        delivery=delivery,
        ordered=ordered,
        partition=partition,
        batch=batch,
        on_error=on_error,
        max_retries=max_retries,
        backoff=RetryBackoff() if backoff is None else backoff,
        ack_wait=ack_wait,
        max_in_flight=max_in_flight,
        buffer=buffer,
    )


class HandlerStart:
    """One handler on its way into the bus."""

    def __init__(
        self,
        bus: Bus,
        identity: AgentIdentity,
        selector: Selector,
        options: HandlerOptions,
    ) -> None:
        """Subscribe as `identity`."""
        self._bus = bus
        self._identity = identity
        self._selector = selector
        self._options = options

    @staticmethod
    def delivery_for(reaction: Handler) -> Delivery:
        """Return what a reaction is to have: a transaction if it takes one."""
        return "exactly-once" if takes(reaction, 2) else "at-least-once"

    async def begin(
        self,
        handler: Handler,
        *,
        name: str | None,
        group: str | None,
        since: int | None,
    ) -> Subscription:
        """Subscribe; all or nothing."""
        shared = None if group is None else self._bus.groups.get(group)
        if isinstance(shared, WorkerSubscription):
            return self._join(shared, handler, group, name)
        if self._is_plain(handler) and name is None and group is None and since is None:
            options = self._options
            kind = made_of(self._bus.host.loop, InlineSubscription)
            inline = kind(
                self._bus,
                self._selector,
                self._identity,
                None,
                handler,
                ignores=options.on_error == "ignore",
                buffer=options.buffer,
            )
            self._bus.add(inline)
            return inline
        worker = self._make_worker(name or group)
        after = None if since is None else (since, -1)
        if name is not None:
            after = await self._keep(worker, name, after)
        if after is not None:
            worker.start_at(after)  # from here on no commit may come between
        self._register(worker, name, group)
        member = worker.join(handler, self._identity)
        return worker if group is None else GroupMember(worker, member)

    def _make_worker(self, name: str | None) -> WorkerSubscription:
        kind = made_of(self._bus.host.loop, WorkerSubscription)
        return kind(self._bus, self._selector, self._identity, name, self._options)

    def _is_plain(self, handler: Handler) -> bool:
        options = self._options
        return (
            options.delivery == "at-most-once"
            and options.batch is None
            and options.width == 1
            and not is_async(handler)
            and not takes(handler, 2)
        )

    def _register(
        self, worker: WorkerSubscription, name: str | None, group: str | None
    ) -> None:
        bus = self._bus
        if name is not None:
            self._check_free(name)
            bus.named[name] = worker
        if group is not None:
            bus.groups[group] = worker
        bus.add(worker)

    def _check_free(self, name: str) -> None:
        if name in self._bus.named:
            raise NameTaken(
                f"a subscription called '{name}' is active; cancel it first, or share "
                "its events by group="
            )

    async def _keep(
        self,
        worker: WorkerSubscription,
        name: str,
        since: tuple[int, int] | None,
    ) -> tuple[int, int]:
        """Have the position kept, and return where to begin."""
        path = position_path(name)
        self._check_free(name)
        document = await self._bus.host.kernel.find(path)
        if document is not None and since is None:
            position = Position.of(document)
        else:
            here = (self._bus.host.tail.revision, -1)
            position = Position(here if since is None else since)
        keeper = Keeper(worker, path, revision_of(document), Progress(position))
        Feed(self._bus.host.tail, position.after).close()  # is it all there?
        worker.begin_after(position.after)
        worker.keeper = keeper
        await keeper.save()
        return position.after

    def _join(
        self,
        worker: WorkerSubscription,
        handler: Handler,
        group: str | None,
        name: str | None,
    ) -> Subscription:
        mine, theirs = self._options, worker.options
        if mine != theirs or self._selector.text != worker.pattern:
            raise ConfigMismatch(
                f"group '{group}' gets '{worker.pattern}' with {theirs}; "
                f"not '{self._selector.text}' with {mine}"
            )
        if name not in (None, worker.name):
            raise ConfigMismatch(f"group '{group}' is called '{worker.name}'")
        return GroupMember(worker, worker.join(handler, self._identity))

    async def replay(
        self, handler: Handler, *, since: int, follow: bool
    ) -> Subscription:
        """Handle the past, then go on with the present."""
        bus = self._bus
        until = bus.host.tail.revision
        worker = self._make_worker(None)
        worker.start_at((since, -1), replayed_until=until)
        bus.add(worker)
        worker.join(handler, self._identity)
        try:
            await worker.until_handled(until)
        except BaseException:
            worker.cancel()
            raise
        if not follow:
            await worker.cancel()
        return worker


class GroupMember(Subscription):
    """One of those who share the events of a group."""

    def __init__(self, worker: WorkerSubscription, member: Member) -> None:
        """Be `member` of `worker`."""
        super().__init__(worker.bus, worker.selector, member.identity, worker.name)
        self._worker = worker
        self._member = member

    @property
    def stats(self) -> SubscriptionStats:
        """The books of the whole group."""
        return self._worker.stats

    def pause(self) -> Settled:
        """Have this member handle nothing more; the others do."""
        super().pause()
        self._member.is_paused = True
        self._worker.wake()
        return Settled(lambda: self._worker.until_free(self._member))

    def resume(self) -> None:
        """Have this member handle events again."""
        super().resume()
        self._member.is_paused = False
        self._member.wake_all()
        self._worker.wake()

    def cancel(self) -> Settled:
        """Leave the group; what is in hand goes to the others."""
        self._status = "cancelled"
        return self._worker.leave(self._member)
