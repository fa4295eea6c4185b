"""Shared parts of state handles: the store, and the access of an identity."""

from collections.abc import Callable
from typing import Any, Final, TypeAlias, TypeVar

import attrs

from swarm.errors import AccessDenied
from swarm.model import MICRO, ROOT, AgentIdentity, Path, Pattern, check_seconds
from swarm.ports import (
    Clock,
    Codec,
    Entropy,
    Kernel,
    LoopBudget,
    Pause,
    current_runtime,
)
from swarm.state._access import Permissions, Policy
from swarm.state._key import Key

KEPT: Final = tuple(
    Path.parse(text)
    for text in (
        "global.registry",
        "global.processes",
        "global.schedules",
        "global.task_keys",
        "global.tasks",
        "locks",
        "semaphores",
        "barriers",
        "handoffs",
        "checkpoints",
        "pipelines",
        "task_steps",
        "subscriptions",
        "receipts",
        "dead_letters",
    )
)
"""Folders of swarm's own records: read here, and changed only by their own parts."""

_KEPT_AT: Final = {folder.segments: folder for folder in KEPT}
_KEPT_BELOW: Final = {folder.segments[:1]: folder for folder in reversed(KEPT)}

_CACHED: Final = 16_384

T = TypeVar("T")

Name: TypeAlias = "str | Key[Any]"
"""The name of a place: a path's text, or a typed key."""

N = TypeVar("N", bound=Name)

PrepareEvent: TypeAlias = Callable[[object], tuple[object, int]]
"""Checks an event that is to be published: returns the payload, which cannot change
any more, and its weight in bytes. It raises what `Events.publish` raises."""


def _no_events(payload: object) -> tuple[object, int]:
    raise TypeError(f"there is no event bus here to publish {payload!r}")


@attrs.define(eq=False)
class Store:
    """The state that the handles of one swarm share.

    Attributes:
        kernel: Where the documents are.
        codec: What writes JSON.
        policy: What each role may do.
        clock: Where time comes from.
        entropy: Where chance comes from.
        prepare_event: Checks the events of transactions; the system sets it.
        pause: The runtime's scheduling point, or None.
        budget: What may be done before other tasks get a turn of the event loop.
    """

    kernel: Kernel
    codec: Codec
    policy: Policy
    clock: Clock
    entropy: Entropy
    prepare_event: PrepareEvent = _no_events
    pause: Pause | None = attrs.field(factory=lambda: current_runtime().pause)
    budget: LoopBudget = attrs.field(factory=LoopBudget)


def microseconds(seconds: float | None) -> int | None:
    """Return a time to live in kernel time.

    Raises:
        TypeError: The time is not a number.
        ValueError: The time is not a positive, finite number of seconds.
    """
    if seconds is None:
        return None
    check_seconds("a ttl", seconds)
    return max(1, round(seconds * MICRO))


class Access:
    """One identity's way into a folder of the tree.

    It turns names into places, and refuses what the policy does not allow. Names that
    were allowed are cached: rules and identities never change.
    """

    __slots__ = ("identity", "may_read", "permissions", "reads", "root", "writes")

    def __init__(self, policy: Policy, identity: AgentIdentity, root: Path) -> None:
        """Let `identity` into `root`, as far as `policy` goes."""
        self.identity: AgentIdentity = identity
        self.root: Path = root
        self.permissions: Permissions = policy.permissions(identity)
        self.may_read: Callable[[Path], bool] = self.permissions.may_read
        self.reads: dict[str, Path] = {}
        self.writes: dict[str, Path] = {}

    def place(self, path: str) -> Path:
        """Return the absolute path of a name in this folder.

        Raises:
            InvalidPath: The name is not a path.
        """
        parsed = Path.parse(path)
        return parsed if self.root is ROOT else self.root / parsed

    def pattern(self, pattern: str) -> Pattern:
        """Return the absolute pattern of one in this folder."""
        parsed = Pattern.parse(pattern)
        return parsed if self.root is ROOT else parsed.below(self.root)

    def name(self, place: Path) -> str:
        """Return the name of a place in this folder; "" for the folder itself."""
        return place.text if self.root is ROOT else place.relative_to(self.root).text

    def to_read(self, name: Name) -> Path:
        """Return the place of a name if it may be read, and remember that.

        Raises:
            InvalidPath: The name is not a path.
            AccessDenied: The policy does not let this identity read it.
        """
        path = name.path if isinstance(name, Key) else name
        known = self.reads.get(path) if type(path) is str else None
        if known is not None:
            return known
        place = self.place(path)
        if not self.may_read(place):
            raise AccessDenied(str(self.permissions.decide(place, "read")))
        _remember(self.reads, path, place)
        return place

    def to_write(self, name: Name) -> Path:
        """Return the place of a name if it may be written, and remember that.

        Raises:
            InvalidPath: The name is not a path.
            AccessDenied: The policy does not let this identity write it, or it is one
                of the records that swarm itself keeps.
        """
        path = name.path if isinstance(name, Key) else name
        known = self.writes.get(path) if type(path) is str else None
        if known is not None:
            return known
        place = self.place(path)
        folder = _kept_folder(place)
        if folder is not None:
            raise AccessDenied(
                f"{folder} holds records that swarm keeps itself; "
                "it can be read here, and is changed by its own part of swarm"
            )
        decision = self.permissions.decide(place, "write")
        if not decision:
            raise AccessDenied(str(decision))
        _remember(self.writes, path, place)
        return place


def _kept_folder(place: Path) -> Path | None:
    """Return the folder of `KEPT` that a place is in, or that is in the place."""
    segments = place.segments
    if len(segments) == 1:
        return _KEPT_BELOW.get(segments)
    return _KEPT_AT.get(segments[:1]) or _KEPT_AT.get(segments[:2])


def _remember(cache: dict[str, T], text: str, known: T) -> None:
    if len(cache) >= _CACHED:
        cache.clear()
    cache[text] = known
