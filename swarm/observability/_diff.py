"""Differences between two JSON values. Pure."""

from collections.abc import Iterator
from typing import Any, Final

from swarm.model import ABSENT, Displayable, Path, canonical
from swarm.observability._masking import masked

_MOST: Final = 100
"""The most differences that are listed."""


class Diff(list[dict[str, Any]], Displayable):
    """The differences of two values: a list, which a notebook shows as a table."""

    __slots__ = ()


def diff(old: Any, new: Any) -> Diff:
    """Return the differences of two values, at most 100 places, in path order.

    Values are masked. `ABSENT` stands for no value at all.

    Returns:
        Records `{"op": "add" | "remove" | "change", "path": str, "old": ..., "new":
        ...}`; `path` is "" for the whole value; "old" is left out of "add", "new" of
        "remove". A last record `{"op": "more"}` says that there are others.
    """
    found = Diff()
    for change in _changes(old, new, ()):
        if len(found) >= _MOST:
            found.append({"op": "more"})
            break
        found.append(change)
    return found


def _changes(old: Any, new: Any, at: tuple[Any, ...]) -> Iterator[dict[str, Any]]:
    if old is ABSENT and new is ABSENT:
        return
    if type(old) is dict and type(new) is dict:
        for key in sorted({*old, *new}):
            yield from _changes(old.get(key, ABSENT), new.get(key, ABSENT), (*at, key))
    elif type(old) is list and type(new) is list:
        for index in range(max(len(old), len(new))):
            was = old[index] if index < len(old) else ABSENT
            now = new[index] if index < len(new) else ABSENT
            yield from _changes(was, now, (*at, index))
    elif old is ABSENT or new is ABSENT or canonical(old) != canonical(new):
        name = next((str(s) for s in reversed(at) if isinstance(s, str)), "")
        op = "add" if old is ABSENT else "remove" if new is ABSENT else "change"
        change = {"op": op, "path": Path.of(*at).text if at else ""}
        if old is not ABSENT:
            change["old"] = masked(old, name=name)
        if new is not ABSENT:
            change["new"] = masked(new, name=name)
        yield change
