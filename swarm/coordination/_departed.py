"""Take what processes held that have gone, and what this one held if it was given up.

The id of each request, grant and arrival begins with the process that made it.
"""

# Some of what is private to users is shared by the files of this package.
# ruff: noqa: SLF001

from collections.abc import Callable
from functools import partial
from typing import TypeAlias

from swarm.coordination._barrier_rules import read_state
from swarm.coordination._barriers import BARRIERS, Barrier, BarrierTerms, PartyWaiter
from swarm.coordination._core import Core
from swarm.coordination._lease_manager import LeaseManager
from swarm.coordination._lease_rules import decide_withdraw
from swarm.coordination._lease_state import AcquireSpec, load
from swarm.errors import BrokenBarrier, LeaseLost
from swarm.model import TIME, Path
from swarm.ports import View

IsGone: TypeAlias = Callable[[str], bool]
"""Whether the process that made this id has gone."""


def is_of(is_gone: Callable[[str], bool]) -> IsGone:
    """Return a function that says of an id whether its process has gone."""
    return lambda made: is_gone(made.rpartition("-")[0])


async def forget_leases(
    manager: LeaseManager,
    folder: Path,
    spec_of: Callable[[str], AcquireSpec],
    is_gone: IsGone,
    *,
    leases: bool,
) -> None:
    """Withdraw the requests of processes that have gone; with `leases`, the grants too.

    Without, a grant ends at its own time: its holder may only have been slow.
    """
    core = manager.core
    for name, requests, grants in core.look(_found, folder, manager, is_gone):
        spec = spec_of(name)
        for id in requests:  # noqa: A001
            which = partial(tuple, (id,))
            await core.finish(manager.decide(TIME, spec, decide_withdraw, which))
        for id in grants if leases else ():  # noqa: A001
            await core.finish(manager.force(TIME, spec, id, "its process has gone"))


async def break_barriers(terms: BarrierTerms, is_gone: IsGone) -> None:
    """Break each generation in which a party of a process waits that has gone (B4)."""
    core = terms.core
    for path, parties, id in core.look(_arrived, is_gone):  # noqa: A001
        name = str(path.name)
        barrier = terms.barriers.get(name) or Barrier(core, name, path, parties)
        await core.finish(barrier._break(TIME, "a process has gone", id))


def lose_all(core: Core, reason: str) -> None:
    """End every lease of this process here and fail every waiter; commit nothing."""
    for lease in tuple(core.leases.values()):
        lease._manager.end(lease, reason)
    for waiter in tuple(core.waiters.values()):
        if not waiter.is_decided:
            kind = BrokenBarrier if isinstance(waiter, PartyWaiter) else LeaseLost
            waiter.fail(kind(f"{waiter.session} waited in vain: {reason}"))


def _found(
    view: View, folder: Path, manager: LeaseManager, is_gone: IsGone
) -> list[tuple[str, list[str], list[str]]]:
    found = []
    for document in view.below(folder):
        held, waits = load(document, manager.blank).tables()
        requests = list(filter(is_gone, waits))
        grants = list(filter(is_gone, held))
        if requests or grants:
            found.append((str(document.path.name), requests, grants))
    return found


def _arrived(view: View, is_gone: IsGone) -> list[tuple[Path, int, str]]:
    found = []
    for document in view.below(BARRIERS):
        state = read_state(document)
        for party in state.arrivals:
            if is_gone(party.id):
                found.append((document.path, state.parties, party.id))
                break
    return found
