"""How a handler begins to get events."""

from collections.abc import Callable
from typing import Any, TypeAlias

import attrs

from swarm.bus._attempt import is_async, takes
from swarm.bus._bus import Bus
from swarm.bus._checks import handler as check_handler
from swarm.bus._documents import revision_of
from swarm.bus._group import GroupMember, group_name, is_given
from swarm.bus._host import made_of
from swarm.bus._keeper import Keeper
from swarm.bus._letter import DeadLetter, letters_path
from swarm.bus._ownership import check_right, owner_of
from swarm.bus._patterns import Selector
from swarm.bus._plain import InlineSubscription
from swarm.bus._position import Place, Position, Progress, owner_told, position_path
from swarm.bus._records import (
    Batch,
    Delivery,
    Handler,
    HandlerOptions,
    OnError,
    RetryBackoff,
)
from swarm.bus._subscription import Subscription
from swarm.bus._worker import WorkerSubscription
from swarm.errors import (
    AccessDenied,
    Compacted,
    ConfigMismatch,
    InvalidValue,
    NameTaken,
    NotFound,
)
from swarm.model import AgentIdentity, Document, Path, check_text, check_whole
from swarm.ports import View

_Left: TypeAlias = tuple[Place, list[DeadLetter]]
"""Up to where all was handled before, and which letters were requeued meanwhile."""


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
        buffer=max(buffer, batch.size) if isinstance(batch, Batch) else buffer,
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
        self._check(handler, since)
        if group is not None:
            check_text("a group", group)
            letters_path(group)  # it can be a name in the tree
            letters_path(group_name(group))
        if since is not None:
            self._check_reach(since)
        shared = None if group is None else await self._begun(group)
        if shared is not None:
            return self._join(shared, handler, name, since)
        if self._is_plain(handler) and name is None and group is None and since is None:
            return self._begin_inline(handler)
        worker = self._make_worker(name or (group and group_name(group)))
        worker.group, worker.since = group, since
        after = None if since is None else (since, -1)
        self._reserve(worker, name)
        try:
            letters: list[DeadLetter] = []
            if name is not None:
                after, letters = await self._keep(worker, name, after)
            if after is not None:
                worker.start_at(after)  # from here on no commit may come between
            self._bus.add(worker)
            member = worker.join(handler, self._identity)
            for letter in letters:
                worker.requeue(letter)
        except BaseException:
            worker.keeper = None
            worker.cancel()
            raise
        finally:
            worker.begun.set()
        return worker if group is None else GroupMember(worker, member)

    async def _begun(self, group: str) -> WorkerSubscription | None:
        """Return the subscription of a group once it has begun; None: there is none."""
        groups = self._bus.groups
        while (worker := groups.get(group)) is not None and not worker.begun.is_set():
            await worker.begun.wait()
        return worker

    def _begin_inline(self, handler: Handler) -> InlineSubscription:
        kind = made_of(self._bus.host.loop, InlineSubscription)
        inline = kind(
            self._bus,
            self._bus.inline,
            self._selector,
            self._identity,
            handler,
            self._options,
        )
        self._bus.add(inline)
        return inline

    def _make_worker(self, name: str | None) -> WorkerSubscription:
        kind = made_of(self._bus.host.loop, WorkerSubscription)
        return kind(self._bus, self._selector, self._identity, name, self._options)

    def _check(self, handler: Handler, since: int | None) -> None:
        effects = self._options.delivery == "exactly-once"
        subject = "(event" if self._options.batch is None else "(events"
        shown = f"{subject}, tx)" if effects else f"{subject})"
        check_handler(handler, 2 if effects else 1, shown)
        if since is not None:
            check_whole("since", since, 0)

    def _check_reach(self, since: int) -> None:
        compacted, newest = self._bus.compacted, self._bus.host.tail.revision
        if since < compacted:
            raise Compacted(since, compacted + 1)
        if since > newest:
            raise ValueError(
                f"revision {since} is still to come; the newest is {newest}"
            )

    def _is_plain(self, handler: Handler) -> bool:
        options = self._options
        return (
            options.delivery == "at-most-once"
            and options.batch is None
            and options.width == 1
            and not is_async(handler)
            and not takes(handler, 2)
        )

    def _reserve(self, worker: WorkerSubscription, name: str | None) -> None:
        """Take the names, before anything that waits."""
        bus, group = self._bus, worker.group
        if name is not None:
            path = position_path(name)
            if is_given(name):
                raise ValueError(
                    f"what has no name is called like '{name}'; take another"
                )
            bus.host.check_right(self._identity, path, "hold")
            if name in bus.named:
                raise NameTaken(
                    f"a subscription called '{name}' is active; cancel it first, or "
                    "share its events by group="
                )
            bus.named[name] = worker
        if group is not None:
            bus.groups[group] = worker

    async def _keep(
        self, worker: WorkerSubscription, name: str, since: Place | None
    ) -> _Left:
        """Have the position kept; return where to begin, and what to try again.

        One of this name that is winding up, or is active in another process, may
        write its own meanwhile: the newer goes on from there, and is not ended by it.
        """
        while True:
            left = await self._try_to_keep(worker, name, since)
            if left is not None:
                return left

    async def _try_to_keep(
        self, worker: WorkerSubscription, name: str, since: Place | None
    ) -> _Left | None:
        """Do it once; None: the position was written while it was looked at.

        Letters go with a position, so those that are read after it are still there
        when it is.
        """
        bus, path = self._bus, position_path(name)
        document = await bus.host.kernel.find(path)
        owner: str | None = owner_of(self._identity)
        if document is not None:
            owner = owner_told(document)
            check_right(bus.host, self._identity, path, "write", owner)
        letters = await self._requeued(worker)
        if document is not None and since is None:
            position = Position.of(document)
        else:
            here = (bus.host.tail.revision, -1)
            position = Position(here if since is None else since, (), owner or "")
        pin = bus.pins.hold(worker, position)  # it is all there, and stays
        worker.begin_after(position.after)
        worker.keeper = Keeper(
            worker, path, revision_of(document), Progress(position), pin.move
        )
        try:
            is_ours = await worker.keeper.begin()
        except BaseException:
            bus.pins.let_go(pin)  # what is kept is what was kept before
            raise
        if not is_ours:
            bus.pins.let_go(pin)
            return None
        if self._options.delivery == "at-most-once":
            bus.pins.let_go(pin)
            bus.pins.release(name)
        else:
            pin.subscription = worker
            bus.pins.set(pin)
        return position.after, letters

    async def _requeued(self, worker: WorkerSubscription) -> list[DeadLetter]:
        """Return the dead letters that wait for the next subscription of a name.

        What cannot be read here stays as it is, for one that can; there is an alert.
        """
        kernel = self._bus.host.kernel
        letters: list[DeadLetter] = []
        for document in await kernel.read(_below, letters_path(worker.name)):
            letter = DeadLetter.of(document)
            if not letter.is_requeued:
                continue
            try:
                letter.event  # noqa: B018  # is made of what was written down
            except (NotFound, InvalidValue) as error:
                error.add_note(f"dead letter '{letter.id}' stays")
                self._bus.failures.complain(worker, None, error, "letter-unreadable")
            else:
                letters.append(letter)
        return letters

    def _join(
        self,
        worker: WorkerSubscription,
        handler: Handler,
        name: str | None,
        since: int | None,
    ) -> Subscription:
        self._check_may_share(worker)
        group, mine, theirs = worker.group, self._options, worker.options
        if mine != theirs or not self._selector.means_the_same(worker.selector):
            raise ConfigMismatch(
                f"group '{group}' gets '{worker.pattern}' with {theirs}; "
                f"not '{self._selector.text}' with {mine}"
            )
        if name not in (None, worker.name):
            raise ConfigMismatch(f"group '{group}' is called '{worker.name}'")
        if since not in (None, worker.since):
            raise ConfigMismatch(
                f"group '{group}' has begun with since={worker.since}, not {since}; "
                "who joins it gets what the others get"
            )
        return GroupMember(worker, worker.join(handler, self._identity))

    def _check_may_share(self, worker: WorkerSubscription) -> None:
        """Refuse who would take from a group what is not its own, or not to be seen.

        Raises:
            AccessDenied: The policy does not let it.
        """
        host, identity = self._bus.host, self._identity
        if worker.keeper is not None:
            path, owner = position_path(worker.name), worker.keeper.owner
            check_right(host, identity, path, "write", owner)
        sees_as_much = (
            host.reader_of(identity) is None or identity.role == worker.identity.role
        )
        if worker.wants_documents() and not sees_as_much:
            raise AccessDenied(
                f"group '{worker.group}' is told of changes that {identity} may not see"
            )

    async def replay(
        self,
        handler: Handler,
        *,
        since: int,
        follow: bool,
        begun: Callable[[Subscription], object],
    ) -> Subscription:
        """Handle the past, then go on with the present.

        `begun` is called with what has begun, before the past is handled.
        """
        bus = self._bus
        check_whole("since", since, 0)
        self._check(handler, since)
        self._check_reach(since)
        until = bus.host.tail.revision
        if not follow:
            self._selector = attrs.evolve(self._selector, upto=until)
        worker = self._make_worker(None)
        worker.start_at((since, -1), replayed_until=until)
        bus.add(worker)
        worker.join(handler, self._identity)
        begun(worker)
        try:
            await worker.until_handled(until)
        except BaseException:
            worker.cancel()
            raise
        if not follow:
            await worker.cancel()
        return worker


def _below(view: View, folder: Path) -> list[Document]:
    return sorted(view.documents(folder), key=lambda document: document.version)
