"""Which history of several stores counts, and what the others lack. Pure.

Every member keeps a mark, written when it is opened as a member: the term of that
opening, the revision after which its commits are of that term, and the term of those
before. So a history has an age: the term and the revision of its newest commit, which
are compared as in Raft. Opening a store by itself removes its mark.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Literal, TypeAlias

import attrs

from swarm.errors import StateCorruption, StorageFailed
from swarm.model import shown
from swarm.ports import Entry, Recovered

Resolver: TypeAlias = (
    Literal["last-write-wins"] | Callable[[Mapping[str, Recovered]], str]
)
"""Which of several diverged histories counts: the one with the highest revision, or
the one whose name a function returns."""


@attrs.frozen(eq=False)
class MemberHistory:
    """The content of one member, and its mark.

    Attributes:
        found: What opening it found.
        mark: What it kept when it was last opened as a member; empty: it never was, or
            it was opened by itself since.
    """

    found: Recovered
    mark: Mapping[str, int]

    @property
    def newest(self) -> int:
        """The revision of the newest commit."""
        return self.found.report.revision

    @property
    def age(self) -> tuple[int, int]:
        """The term and the revision of the newest commit."""
        is_of_last_term = self.newest > self.mark.get("after", 0)
        return self.mark.get("term" if is_of_last_term else "before", 0), self.newest

    @property
    def was_alone(self) -> bool:
        """Whether the store was opened by itself since it was last a member."""
        return not self.mark and self.newest > 0

    @property
    def is_whole(self) -> bool:
        """Whether the store holds every commit that it has acknowledged.

        One that is new, or whose disk was replaced, or that was brought up half-way,
        may not.
        """
        return bool(self.mark.get("whole", 1) and (self.mark or self.newest))


def next_mark(members: Mapping[str, MemberHistory], winner: str) -> dict[str, int]:
    """Return the mark of an opening that goes on from one member's history."""
    return {
        "term": max(each.mark.get("term", 0) for each in members.values()) + 1,
        "after": members[winner].newest,
        "before": members[winner].age[0],
    }


def choose(
    members: Mapping[str, MemberHistory], needed: int, resolve: Resolver | None
) -> tuple[str, bool]:
    """Return the member whose history counts, and whether histories had diverged.

    Args:
        members: Those that could be opened.
        needed: How many must know what was committed.
        resolve: What to do where that is not clear; None: refuse.

    Raises:
        StateCorruption: Histories have diverged, and there is no resolver.
        StorageFailed: So many members are empty that commits may be missing.
        ValueError: The resolver returned no name of a member.
    """
    whole = {name: each for name, each in members.items() if each.is_whole}
    were_members = any(each.mark for each in members.values())
    if resolve is None and were_members and len(whole) < needed:
        lost = ", ".join(name for name in members if name not in whole)
        raise StorageFailed(
            f"{len(whole)} of the members that were opened know what was committed, "
            f"and {needed} are needed: {lost} lost it, or never had it. Pass "
            "resolve='last-write-wins' to go on with what there is"
        )
    whole = whole or dict(members)
    name = max(whole, key=lambda each: whole[each].age)
    alone = [each for each in whole if whole[each].was_alone]
    winner = whole[name].found
    strays = [each for each in whole if not _is_part(whole[each].found, winner)]
    if not (alone and strays):
        return name, False
    if resolve is None:
        raise StateCorruption(
            f"the members {', '.join(sorted({name, *strays}))} hold different commits, "
            f"and {', '.join(alone)} was opened by itself: pass "
            "resolve='last-write-wins' or a function that names the one to keep"
        )
    if not callable(resolve):
        return max(whole, key=lambda each: whole[each].newest), True
    name = resolve({name: each.found for name, each in whole.items()})
    if name not in whole:
        raise ValueError(
            f"resolve= returned {shown(name)}; it returns one of the names it was "
            f"given: {', '.join(whole)}"
        )
    return name, True


def lacking(one: Recovered, longer: Recovered) -> Sequence[Entry] | None:
    """Return the commits that a history lacks; None: it is no beginning of the other.

    None as well if it ends before the first retained commit of the other.
    """
    newest = one.report.revision
    if not _is_part(one, longer):
        return None
    if newest == longer.report.revision:
        return []
    is_retained = any(entry.revision == newest for entry in longer.entries)
    if not is_retained and (newest or longer.blocks):
        return None
    return [entry for entry in longer.entries if entry.revision > newest]


def _is_part(one: Recovered, longer: Recovered) -> bool:
    """Return whether a history is a beginning of another, as far as both tell it.

    A snapshot hides the commits before it. A history that ends before the first
    retained commit of the longer one is taken for a beginning of it.
    """
    mine = {entry.revision: entry.data for entry in one.entries}
    its = {entry.revision: entry.data for entry in longer.entries}
    first = min(its, default=longer.report.revision + 1)
    return all(
        revision < first or its.get(revision) == data for revision, data in mine.items()
    )
