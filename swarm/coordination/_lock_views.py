"""What can be asked about locks: who holds them, and who waits."""

from collections.abc import Callable
from typing import Final, TypeAlias

import attrs

from swarm.coordination._grants import MICRO, Grant, Request, load
from swarm.coordination._lock_line import FREE, LockLine
from swarm.model import Path
from swarm.ports import View

LOCKS: Final = Path.of("locks")
"""The folder of their documents."""

Sight: TypeAlias = Callable[[Path], bool]
"""Whether who asks may see what stands at a place."""


@attrs.frozen(kw_only=True)
class HeldLock:
    """One grant of one lock, as `locks.held()` shows it.

    Attributes:
        resource: The lock.
        lease_id: The id of the lease; `force_release` takes it.
        owner: The agent that holds it.
        session: Its turn or task.
        mode: "exclusive", "shared" or "upgradeable".
        token: The fencing token.
        held_for: Since how many seconds.
        expires_in: In how many seconds it ends unless it is renewed.
    """

    resource: str
    lease_id: str
    owner: str
    session: str
    mode: str
    token: int
    held_for: float
    expires_in: float


@attrs.frozen(kw_only=True)
class QueuedLock:
    """One request that waits for a lock, as `locks.queue()` shows it.

    Attributes:
        resource: The lock.
        lease_id: What the id of its lease will be; of an upgrade, what it is.
        owner: The agent that waits.
        session: Its turn or task.
        mode: How it wants to hold the lock.
        waited: Since how many seconds.
        is_upgrade: Whether it holds the lock already and wants it to itself.
    """

    resource: str
    lease_id: str
    owner: str
    session: str
    mode: str
    waited: float
    is_upgrade: bool


def _lines(
    view: View, path: Path | None, may_see: Sight
) -> list[tuple[str, LockLine, int]]:
    if path is None:
        documents = list(view.documents(LOCKS))
    else:
        found = view.find(path)
        documents = [] if found is None else [found]
    lines = []
    for document in documents:
        if may_see(document.path):
            name, line = str(document.path.name), load(document, FREE)
            lines.append((name, line, document.version))
    return lines


def held(view: View, path: Path | None, may_see: Sight) -> tuple[HeldLock, ...]:
    """Return the live grants of all locks, or of the one at `path`."""
    now = view.now
    return tuple(
        _show_grant(name, grant, version, now)
        for name, line, version in _lines(view, path, may_see)
        for grant in line.holders
        if grant.expires > now
    )


def _show_grant(name: str, grant: Grant, version: int, now: int) -> HeldLock:
    return HeldLock(
        resource=name,
        lease_id=grant.id,
        owner=grant.owner,
        session=grant.session,
        mode=grant.mode,
        token=grant.token or version,
        held_for=(now - grant.since) / MICRO,
        expires_in=(grant.expires - now) / MICRO,
    )


def queued(view: View, path: Path | None, may_see: Sight) -> tuple[QueuedLock, ...]:
    """Return who waits for any lock, or for the one at `path`."""
    now = view.now
    return tuple(
        _show_request(name, request, now)
        for name, line, _ in _lines(view, path, may_see)
        for request in line.queue
    )


def _show_request(name: str, request: Request, now: int) -> QueuedLock:
    return QueuedLock(
        resource=name,
        lease_id=request.upgrades or request.id,
        owner=request.owner,
        session=request.session,
        mode=request.mode,
        waited=(now - request.at) / MICRO,
        is_upgrade=bool(request.upgrades),
    )
