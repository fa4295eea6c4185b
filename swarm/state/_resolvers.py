"""Conflict resolvers: the five built-in ones, and the type of others. Pure.

A resolver is a function of a *set* of stamped candidates: the order in which they
are handed over never matters, and resolving a winner again changes nothing
(semantics.md, S9). No wall clock decides anything; revisions do.
"""

import inspect
from collections.abc import Callable, Sequence
from typing import Final, Literal, TypeAlias

import attrs

from swarm.model import JSON, canonical


@attrs.frozen
class Candidate:
    """One of the values in conflict.

    Attributes:
        value: The value that was written.
        revision: The revision of its commit; the value that is being written, which
            has none yet, is given the next one.
        priority: The weight of the write.
        author: The name of the writer.
    """

    value: JSON
    revision: int
    priority: int
    author: str


Resolver: TypeAlias = Callable[[Sequence[Candidate]], JSON]
"""A pure function: from two or more candidates, the value to be stored."""

ResolverName: TypeAlias = Literal[
    "last-write-wins",
    "first-write-wins",
    "merge-objects",
    "merge-arrays",
    "higher-priority-wins",
]


def last_write_wins(candidates: Sequence[Candidate]) -> JSON:
    """Return the value of the newest revision."""
    return _in_order(candidates)[-1].value


def first_write_wins(candidates: Sequence[Candidate]) -> JSON:
    """Return the value of the oldest revision."""
    return _in_order(candidates)[0].value


def higher_priority_wins(candidates: Sequence[Candidate]) -> JSON:
    """Return the value of the highest priority; among equals, the newest."""
    return max(candidates, key=lambda c: (c.priority, *_stamp(c))).value


def merge_objects(candidates: Sequence[Candidate]) -> JSON:
    """Return all objects merged key by key, the newest value where they disagree.

    At every depth an object outweighs any other value. This makes the merge
    associative: merging in groups gives the same as merging at once.
    """
    ordered = [c.value for c in _in_order(candidates)]
    merged = ordered[0]
    for value in ordered[1:]:
        merged = _absorb(merged, value)
    return merged


def merge_arrays(candidates: Sequence[Candidate]) -> JSON:
    """Return the union of all arrays, oldest first, each item once.

    If one of them is not an array, the newest value wins.
    """
    ordered = [c.value for c in _in_order(candidates)]
    if any(type(value) is not list for value in ordered):
        return ordered[-1]
    union = {canonical(item): item for items in reversed(ordered) for item in items}
    seen = dict.fromkeys(canonical(item) for items in ordered for item in items)
    return [union[key] for key in seen]


RESOLVERS: Final[dict[str, Resolver]] = {
    "last-write-wins": last_write_wins,
    "first-write-wins": first_write_wins,
    "merge-objects": merge_objects,
    "merge-arrays": merge_arrays,
    "higher-priority-wins": higher_priority_wins,
}


def find_resolver(resolve: ResolverName | Resolver) -> Resolver:
    """Return the resolver of this name, or the function itself.

    Raises:
        ValueError: There is no resolver of this name.
        TypeError: It is neither a name nor a synchronous function.
    """
    if isinstance(resolve, str):
        if resolve not in RESOLVERS:
            raise ValueError(
                f"there is no resolver {resolve!r}; "
                f"there are {', '.join(map(repr, RESOLVERS))}"
            )
        return RESOLVERS[resolve]
    if inspect.iscoroutinefunction(resolve):
        raise TypeError("a resolver is a name or a synchronous function")
    return resolve


def _absorb(older: JSON, newer: JSON) -> JSON:
    if type(older) is dict and type(newer) is dict:
        merged = dict(older)
        for key, value in newer.items():
            merged[key] = _absorb(older[key], value) if key in older else value
        return merged
    return older if type(older) is dict else newer


def _in_order(candidates: Sequence[Candidate]) -> list[Candidate]:
    return sorted(candidates, key=_stamp)


def _stamp(candidate: Candidate) -> tuple[int, str, bytes]:
    """Order totally: by revision, then author, then the value itself."""
    return candidate.revision, candidate.author, canonical(candidate.value)
