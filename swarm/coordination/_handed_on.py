"""Leases that others have in their hands, read from where they are suspended."""

import types
from collections.abc import Iterator
from gc import get_referents
from typing import Any

from swarm.coordination._lease import Lease
from swarm.ports import chain_of


def leases_in(coroutine: Any) -> Iterator[Lease]:
    """Yield the leases in the variables of suspended code, and in their collections.

    `frame.f_locals` would do as well, but up to Python 3.12 each frame keeps that, and
    with it whatever its variables held at the time.
    """
    for code in chain_of(coroutine):
        for value in get_referents(code):
            if type(value) is types.CellType:
                yield from _leases(get_referents(value))
            elif isinstance(value, (list, tuple, set, frozenset)):
                yield from _leases(value)
            elif isinstance(value, dict):
                yield from _leases(value.values())
            elif isinstance(value, Lease):
                yield value


def _leases(values: Any) -> Iterator[Lease]:
    return (value for value in tuple(values) if isinstance(value, Lease))
