"""Begin a subscription with a handler: all of it, or nothing."""

# ruff: noqa: SLF001 - what users do not need of a recipient has an underscore

import asyncio
from collections.abc import Callable
from typing import TypeAlias

import attrs

from swarm.bus._bus import ANONYMOUS, Bus, HandlerRecipient
from swarm.bus._contracts import Settled, Subscription, check_right, owner_of
from swarm.bus._dead_letter import DeadLetter, letters_path, oldest_first
from swarm.bus._functions import CoroutineSubscription, FunctionSubscription
from swarm.bus._handlers import HandlerSubscription, Member
from swarm.bus._offset_committer import OffsetCommitter
from swarm.bus._offsets import (
    OffsetProgress,
    Place,
    Position,
    position_path,
    version_of,
)
from swarm.bus._patterns import Selector
from swarm.bus._position_saver import PositionSaver
from swarm.bus._records import (
    Handler,
    HandlerOptions,
    SubscriptionStats,
    SubscriptionStatus,
    check_handler,
    is_async,
    requires,
)
from swarm.errors import (
    AccessDenied,
    Closed,
    ConfigMismatch,
    ConflictError,
    InvalidTransition,
    NameTaken,
    NotFound,
    StaleAck,
)
from swarm.model import AgentIdentity, check_text, check_whole
from swarm.ports import Expect, Write

_Left: TypeAlias = tuple[Place, list[DeadLetter]]
"""The place where the name goes on, and the dead letters requeued for it."""


class HandlerStart:
    """One handler on its way into the bus."""

    def __init__(
        self,
        bus: Bus,
        identity: AgentIdentity,
        selector: Selector,
        options: HandlerOptions,
    ) -> None:
        self._bus = bus
        self._identity = identity
        self._selector = selector
        self._options = options

    async def begin(
        self,
        handler: Handler,
        *,
        name: str | None,
        group: str | None,
        since: int | None,
    ) -> Subscription:
        """Subscribe; all of it, or nothing."""
        self._check(handler, since)
        if group is not None:
            check_text("a group", group)
            letters_path(group)  # refuses what cannot be a name in the tree
            letters_path(group_name(group))
        if since is not None:
            self._bus.history.check_reach(since)
        shared = None if group is None else await self._find_group(group)
        if shared is not None:
            return self._join(shared, handler, name, since)
        is_alone = name is None and group is None and since is None
        if is_alone and self._options.is_simple and not requires(handler, 2):
            return self._begin_simple(handler)
        return await self._begin_queued(handler, name, group, since)

    async def _begin_queued(
        self, handler: Handler, name: str | None, group: str | None, since: int | None
    ) -> Subscription:
        subscription = self._make(name or (group and group_name(group)))
        subscription.group, subscription.since = group, since
        after = None if since is None else (since, -1)
        self._reserve(subscription, name)
        try:
            letters: list[DeadLetter] = []
            if name is not None:
                after, letters = await self._keep(subscription, name, after)
            if after is not None:
                subscription.start_at(after)  # no commit may come between this
            self._bus.add(subscription)  # and this
            member = subscription.join(handler, self._identity)
            for letter in letters:
                subscription.requeue(letter)
        except BaseException:
            subscription.offsets = subscription.saver = None
            subscription.cancel()
            raise
        finally:
            subscription.begun.set()
        return subscription if group is None else GroupMember(subscription, member)

    async def _find_group(self, group: str) -> HandlerSubscription | None:
        """Return the subscription of a group once it has begun, or None."""
        found: HandlerSubscription | None
        while (found := self._bus.groups.get(group)) and not found.begun.is_set():
            await found.begun.wait()
        return found

    def _begin_simple(self, handler: Handler) -> HandlerRecipient:
        cls = CoroutineSubscription if is_async(handler) else FunctionSubscription
        kind = self._bus.host.runtime.substitute(cls)
        simple = kind(self._bus, self._selector, self._identity, handler, self._options)
        self._bus.add(simple)
        return simple

    def _make(self, name: str | None) -> HandlerSubscription:
        kind = self._bus.host.runtime.substitute(HandlerSubscription)
        return kind(self._bus, self._selector, self._identity, name, self._options)

    def _check(self, handler: Handler, since: int | None) -> None:
        effects = self._options.delivery == "exactly-once"
        subject = "(event" if self._options.batch is None else "(events"
        shown = f"{subject}, tx)" if effects else f"{subject})"
        check_handler(handler, 2 if effects else 1, shown)
        if since is not None:
            check_whole("since", since, 0)

    def _reserve(self, subscription: HandlerSubscription, name: str | None) -> None:
        """Take the name and the group, before anything that waits."""
        bus, group = self._bus, subscription.group
        if name is not None:
            path = position_path(name)
            if is_generated(name):
                raise ValueError(
                    f"'{name}' looks like the id of a subscription without a name; "
                    "take another name"
                )
            bus.host.check_right(self._identity, path, "hold")
            if name in bus.named:
                raise NameTaken(
                    f"a subscription called '{name}' is active; cancel it first, or "
                    "share its events by group="
                )
            bus.named[name] = subscription
        if group is not None:
            bus.groups[group] = subscription

    # --- a name ---------------------------------------------------------------------

    async def _keep(
        self, subscription: HandlerSubscription, name: str, since: Place | None
    ) -> _Left:
        """Take the name's position over; return where to begin, and what to retry.

        An older subscription of the name that is winding up, or is active in another
        process, may write the position meanwhile. Then it is read again.
        """
        while True:
            left = await self._try_to_keep(subscription, name, since)
            if left is not None:
                return left

    async def _try_to_keep(
        self, subscription: HandlerSubscription, name: str, since: Place | None
    ) -> _Left | None:
        """Take it over once; None: the position was written meanwhile.

        Dead letters end in the commit of a position. So those read after the position
        are still there when it is taken over.
        """
        bus, path = self._bus, position_path(name)
        document = await bus.host.kernel.find(path)
        owner: str | None = owner_of(self._identity)
        if document is not None:
            owner = Position.owner_of(document)
            check_right(bus.host, self._identity, path, "write", owner)
        letters = await self._requeued(subscription)
        is_held = self._options.delivery != "at-most-once"
        if document is not None and since is None:
            position = attrs.evolve(Position.of(document), is_held=is_held)
        else:
            here = (bus.host.tail.revision, -1) if since is None else since
            position = Position(here, (), owner or "", is_held)
        hold = bus.holds.reserve(name, position)  # all of it is there
        subscription.begin_after(position.after)
        subscription.offsets = offsets = OffsetCommitter(
            bus.host.kernel,
            self._identity,
            path,
            version_of(document),
            OffsetProgress(position),
            seen=subscription.seen,
            lost_name=lambda: lose_name(subscription),
        )
        try:
            if not await offsets.begin():
                return None
        finally:
            bus.holds.let_go(hold)  # the position that stands keeps what it needs
        subscription.saver = saver = PositionSaver(bus, name, offsets)
        bus.holds.join(name, subscription.id, saver.save_soon, subscription.missed)
        return position.after, letters

    async def _requeued(self, subscription: HandlerSubscription) -> list[DeadLetter]:
        """Return the dead letters that wait for the next subscription of the name.

        A letter that cannot be read here stays as it is, with an alert.
        """
        kernel, name = self._bus.host.kernel, subscription.name
        letters: list[DeadLetter] = []
        for document in await kernel.read(oldest_first, letters_path(name)):
            letter = DeadLetter.of(document)
            if not letter.is_requeued:
                continue
            try:
                letter.event  # noqa: B018  # reads the document
            except NotFound as error:
                error.add_note(f"dead letter '{letter.id}' stays")
                self._bus.failures.complain(name, None, error, "letter-unreadable")
            else:
                letters.append(letter)
        return letters

    # --- a group --------------------------------------------------------------------

    def _join(
        self,
        subscription: HandlerSubscription,
        handler: Handler,
        name: str | None,
        since: int | None,
    ) -> Subscription:
        self._check_may_share(subscription)
        group, mine, theirs = subscription.group, self._options, subscription.options
        if mine != theirs or not self._selector.means_the_same(subscription.selector):
            raise ConfigMismatch(
                f"group '{group}' gets '{subscription.pattern}' with {theirs}; "
                f"not '{self._selector.text}' with {mine}"
            )
        if name not in (None, subscription.name):
            raise ConfigMismatch(f"group '{group}' is called '{subscription.name}'")
        if since not in (None, subscription.since):
            raise ConfigMismatch(
                f"group '{group}' has begun with since={subscription.since}, not "
                f"{since}; a new member gets the events that the others get"
            )
        return GroupMember(subscription, subscription.join(handler, self._identity))

    def _check_may_share(self, subscription: HandlerSubscription) -> None:
        """Refuse an identity that may not take, or not see, a group's events.

        Raises:
            AccessDenied: The policy does not allow it.
        """
        host, identity = self._bus.host, self._identity
        if subscription.offsets is not None:
            path, owner = position_path(subscription.name), subscription.offsets.owner
            check_right(host, identity, path, "write", owner)
        sees_as_much = (
            host.reader_of(identity) is None
            or identity.role == subscription.identity.role
        )
        if subscription._wants_changes() and not sees_as_much:
            raise AccessDenied(
                f"group '{subscription.group}' is told of changes that {identity} may "
                "not see"
            )

    # --- replay ---------------------------------------------------------------------

    async def replay(
        self,
        handler: Handler,
        *,
        since: int,
        follow: bool,
        begun: Callable[[Subscription], object],
    ) -> Subscription:
        """Handle the past, then go on with the present.

        `begun` is called with the subscription before the past is handled.
        """
        bus = self._bus
        check_whole("since", since, 0)
        self._check(handler, since)
        bus.history.check_reach(since)
        until = bus.host.tail.revision
        if not follow:
            self._selector = attrs.evolve(self._selector, upto=until)
        subscription = self._make(None)
        subscription.start_at((since, -1), replayed_until=until)
        bus.add(subscription)
        subscription.join(handler, self._identity)
        begun(subscription)
        try:
            await subscription.until_handled(until)
        except BaseException:
            subscription.cancel()
            raise
        if not follow:
            await subscription.cancel()
        return subscription


def lose_name(subscription: HandlerSubscription) -> None:
    """End a subscription whose name another one has taken (E6)."""
    bus, name = subscription.bus, subscription.name
    if subscription.status != "cancelled":
        bus.failures.complain(name, None, StaleAck(), "subscription-taken-over")
        subscription.cancel()


async def forget(bus: Bus, name: str, identity: AgentIdentity) -> bool:
    """Forget the position of a name; see `Events.forget`."""
    path, kernel = position_path(name), bus.host.kernel
    while True:
        document = await kernel.find(path)
        if document is not None:
            owner = Position.owner_of(document)
            check_right(bus.host, identity, path, "delete", owner)
        if name in bus.named:
            raise InvalidTransition(f"subscription '{name}' is active; cancel it first")
        await bus.failures.flush()
        if document is None:
            return False
        conditions = [Expect(path, document.version)]
        try:
            await kernel.commit(identity, [Write(path)], conditions=conditions)
        except ConflictError:
            continue  # its position was written meanwhile
        return True


# --- groups ---------------------------------------------------------------------------


def group_name(group: str) -> str:
    """Return the name of the subscription of a group that was given none."""
    return f"group:{group}"


def is_generated(name: str) -> bool:
    """Return whether a name looks like a generated one; no subscription may take it."""
    return name.startswith((group_name(""), ANONYMOUS))


class GroupMember(Subscription):
    """One handler of a group that shares the events of a subscription."""

    def __init__(self, subscription: HandlerSubscription, member: Member) -> None:
        self.id = subscription.bus.new_id()
        self.name = subscription.name
        self.identity = member.identity
        self._subscription = subscription
        self._member = member
        self._status: SubscriptionStatus = "active"

    def __repr__(self) -> str:
        return f"<GroupMember of '{self.name}': {self.status}>"

    @property
    def pattern(self) -> str:
        """The pattern as text."""
        return self._subscription.pattern

    @property
    def status(self) -> SubscriptionStatus:
        """The status of this member: "active", "paused" or "cancelled"."""
        is_over = self._subscription.status == "cancelled"
        return "cancelled" if is_over else self._status

    @property
    def stats(self) -> SubscriptionStats:
        """The counts of the whole group."""
        return self._subscription.stats

    def pause(self) -> Settled:
        """Give this member no more events; the others go on."""
        self._become("paused")
        self._member.is_paused = True
        self._subscription.wake()
        return Settled(lambda: self._subscription.until_free(self._member))

    def resume(self) -> None:
        """Give this member events again."""
        self._become("active")
        self._member.is_paused = False
        self._member.wake_all()
        self._subscription.wake()

    def cancel(self) -> Settled:
        """Leave the group; the events of current runs go to the others."""
        self._status = "cancelled"
        return self._subscription.leave(self._member)

    def end(self) -> Settled:
        """Leave the group because the holder has ended."""
        settled, task = self.cancel(), asyncio.current_task()
        if task is not None and task in self._member.tasks:
            task.cancel()
        return settled

    def _become(self, status: SubscriptionStatus) -> None:
        if self.status == "cancelled":
            raise Closed(f"this member of group '{self.name}' was cancelled")
        self._status = status
