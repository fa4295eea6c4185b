"""Leases that others have in their hands, read from where they are suspended."""

from collections.abc import Iterator
from typing import Any

from swarm.coordination._lease import Lease
from swarm.ports import frames_of


def leases_in(coroutine: Any) -> Iterator[Lease]:
    """Yield the leases in the variables of suspended code, and in their collections."""
    for frame in frames_of(coroutine):
        for value in frame.f_locals.values():
            if isinstance(value, Lease):
                yield value
            elif isinstance(value, (list, tuple, set, frozenset)):
                yield from (each for each in value if isinstance(each, Lease))
            elif isinstance(value, dict):
                yield from (each for each in value.values() if isinstance(each, Lease))
