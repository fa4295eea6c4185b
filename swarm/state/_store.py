"""What every handle on the state shares: the kernel, and who is asking."""

import math
from collections.abc import Callable
from typing import Final, TypeVar

import attrs

from swarm.errors import AccessDenied
from swarm.model import ROOT, AgentIdentity, Path, Pattern
from swarm.ports import Clock, Codec, Entropy, Kernel
from swarm.state._access import Permissions, Policy

KEPT: Final = tuple(
    Path.parse(text)
    for text in (
        "global.registry",
        "global.tasks",
        "locks",
        "semaphores",
        "barriers",
        "handoffs",
        "checkpoints",
        "pipelines",
        "subscriptions",
        "receipts",
        "dead_letters",
    )
)
"""Folders of swarm's own records: to be read here, and changed by their own parts."""

_CACHED: Final = 16_384

T = TypeVar("T")


@attrs.frozen
class Store:
    """What the handles of one swarm have in common."""

    kernel: Kernel
    codec: Codec
    policy: Policy
    clock: Clock
    entropy: Entropy


def microseconds(seconds: float | None) -> int | None:
    """Return a time to live in kernel time.

    Raises:
        ValueError: It is not a positive, finite number of seconds.
    """
    if seconds is None:
        return None
    if not 0 < seconds < math.inf:
        raise ValueError(f"a ttl is a positive number of seconds, not {seconds!r}")
    return max(1, round(seconds * 1_000_000))


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
            InvalidPath: The name is no path.
        """
        parsed = Path.parse(path)
        return parsed if self.root is ROOT else self.root / parsed

    def pattern(self, pattern: str) -> Pattern:
        """Return the absolute pattern of one in this folder."""
        parsed = Pattern.parse(pattern)
        return parsed if self.root is ROOT else parsed.below(self.root)

    def name(self, place: Path) -> str:
        """Return what a place is called in this folder."""
        return place.text if self.root is ROOT else place.relative_to(self.root).text

    def to_read(self, path: str) -> Path:
        """Return the place of `path` if it may be read, and remember that.

        Raises:
            InvalidPath: It is no path.
            AccessDenied: The policy does not let this identity read it.
        """
        place = self.place(path)
        if not self.may_read(place):
            raise AccessDenied(str(self.permissions.decide(place, "read")))
        _remember(self.reads, path, place)
        return place

    def to_write(self, path: str) -> Path:
        """Return the place of `path` if it may be written, and remember that.

        Raises:
            InvalidPath: It is no path.
            AccessDenied: The policy does not let this identity write it, or it is one
                of the records that swarm itself keeps.
        """
        place = self.place(path)
        for folder in KEPT:
            if place.within(folder) or folder.within(place):
                raise AccessDenied(
                    f"{folder} holds records that swarm keeps itself; "
                    "it can be read here, and is changed by its own part of swarm"
                )
        decision = self.permissions.decide(place, "write")
        if not decision:
            raise AccessDenied(str(decision))
        _remember(self.writes, path, place)
        return place


def _remember(cache: dict[str, T], text: str, known: T) -> None:
    if len(cache) >= _CACHED:
        cache.clear()
    cache[text] = known
