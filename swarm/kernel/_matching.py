"""Walking a pattern down a tree, one segment at a time.

The walk keeps the set of places in the pattern where it may stand (a
nondeterministic automaton after Thompson, 1968), so it never goes back and a folder
that nothing below can match is never entered.
"""

from collections.abc import Collection, Iterator
from typing import TypeAlias

from swarm.model import ANY_NUMBER, JSON, ONE, Path, Pattern, Segment

Positions: TypeAlias = frozenset[int]


def start(pattern: Pattern) -> Positions:
    """Return where the walk stands before the first segment."""
    return _closed(pattern, {0})


def accepts(pattern: Pattern, here: Positions) -> bool:
    """Return whether what was walked so far is a match."""
    return len(pattern.segments) in here


def step(
    pattern: Pattern, here: Positions, names: Collection[Segment]
) -> Iterator[tuple[Segment, Positions]]:
    """Yield each of `names` that may lead to a match, in order, and where it leads."""
    wanted = [pattern.segments[i] for i in here if i < len(pattern.segments)]
    if any(segment is ONE or segment is ANY_NUMBER for segment in wanted):
        candidates = sorted(names, key=_order)
    else:
        candidates = sorted((s for s in wanted if s in names), key=_order)  # type: ignore[misc]
    for name in candidates:
        after = advance(pattern, here, name)
        if after:
            yield name, after


def advance(pattern: Pattern, here: Positions, name: Segment) -> Positions:
    """Return where the walk stands after one more segment; empty: no match below."""
    after: set[int] = set()
    for i in here:
        if i == len(pattern.segments):
            continue
        wanted = pattern.segments[i]
        if wanted is ANY_NUMBER:
            after.add(i)
        elif wanted is ONE or (wanted == name and type(wanted) is type(name)):
            after.add(i + 1)
    return _closed(pattern, after)


def _closed(pattern: Pattern, positions: set[int]) -> Positions:
    """Add what can be reached without a segment: `**` stands for none as well."""
    segments = pattern.segments
    for i in tuple(positions):
        at = i
        while at < len(segments) and segments[at] is ANY_NUMBER:
            at += 1
            positions.add(at)
    return frozenset(positions)


def _order(name: Segment) -> tuple[bool, Segment]:
    return isinstance(name, int), name


def places(
    value: JSON, pattern: Pattern, here: Positions
) -> Iterator[tuple[Segment, ...]]:
    """Yield where, inside a value, the rest of a pattern matches."""
    inside: dict[Segment, JSON]
    if type(value) is dict:
        inside = value
    elif type(value) is list:
        inside = dict(enumerate(value))
    else:
        return
    for segment, after in step(pattern, here, inside):
        if accepts(pattern, after):
            yield (segment,)
        else:
            for rest in places(inside[segment], pattern, after):
                yield (segment, *rest)


def start_inside(pattern: Pattern, path: Path) -> Positions:
    """Return where the walk stands after all of `path`; empty: no match below it."""
    here = start(pattern)
    for segment in path.segments:
        here = advance(pattern, here, segment)
    return here
