"""Whether a guard still holds, asked in the commit that it guards. Pure."""

from swarm.coordination._grants import Line, load
from swarm.errors import StaleLease
from swarm.model import Document


def require_live(
    blank: Line,
    name: str,
    id: str,  # noqa: A002
    token: int,
    document: Document | None,
    now: int,
) -> None:
    """Refuse a write whose guard is not the live holder at the commit. Pure.

    Raises:
        StaleLease: It is not; nothing is written.
    """
    for grant in load(document, blank).holders:
        if grant.id == id and grant.token == token and grant.expires > now:
            return
    raise StaleLease(
        f"the guard with token {token} does not hold {name!r} any more; "
        "nothing was written"
    )
