"""An index of patterns: which watchers a changed document concerns. Pure.

The patterns are kept in a tree of their segments, which a document's path is walked
down. So a commit costs the same with a thousand watches on other places as with none.
"""

from typing import Generic, TypeVar

from swarm.model import ANY_NUMBER, ONE, Path, Pattern, PatternSegment

W = TypeVar("W")


class _Node(Generic[W]):
    """The watchers of one pattern, and the patterns that begin with it."""

    __slots__ = ("below", "is_open", "watchers", "whole")

    def __init__(self, *, is_open: bool = False) -> None:
        self.is_open = is_open  # whether it ends with `**`
        self.below: dict[PatternSegment, _Node[W]] = {}
        self.watchers: dict[W, None] = {}
        self.whole: dict[W, None] = {}  # of patterns without wildcards


class WatcherIndex(Generic[W]):
    """Watchers by pattern.

    A document concerns a pattern that matches its path or a place inside it, and a
    pattern without wildcards that names a folder around it.

    Attributes:
        count: How many watchers there are.
    """

    __slots__ = ("_root", "count")

    def __init__(self) -> None:
        """Begin without watchers."""
        self._root: _Node[W] = _Node()
        self.count: int = 0

    def add(self, pattern: Pattern, watcher: W) -> None:
        """Have `find` return the watcher for documents that concern the pattern."""
        node = self._root
        for segment in pattern.segments:
            below = node.below.get(segment)
            if below is None:
                below = node.below[segment] = _Node(is_open=segment is ANY_NUMBER)
            node = below
        node.watchers[watcher] = None
        if pattern.is_literal:
            node.whole[watcher] = None
        self.count += 1

    def discard(self, pattern: Pattern, watcher: W) -> None:
        """Forget a watcher, and the nodes that only it needed; idempotent."""
        trail = [self._root]
        for segment in pattern.segments:
            node = trail[-1].below.get(segment)
            if node is None:
                return
            trail.append(node)
        if watcher not in trail[-1].watchers:
            return
        del trail[-1].watchers[watcher]
        trail[-1].whole.pop(watcher, None)
        self.count -= 1
        for segment in reversed(pattern.segments):
            node = trail.pop()
            if node.below or node.watchers:
                return
            del trail[-1].below[segment]

    def every(self) -> dict[W, None]:
        """Return all watchers."""
        found: dict[W, None] = {}
        _gather(self._root, found)
        return found

    def find(self, path: Path) -> dict[W, None]:
        """Return the watchers that a document at `path` concerns, each once."""
        found: dict[W, None] = {}
        here = _with_open([self._root])
        for segment in path.segments:
            after: list[_Node[W]] = []
            for node in here:
                if node.is_open:
                    after.append(node)
                for wanted in (segment, ONE):
                    below = node.below.get(wanted)
                    if below is not None:
                        after.append(below)
                        found.update(below.whole)
            here = _with_open(after)
        for node in here:
            _gather(node, found)
        return found


def _with_open(nodes: "list[_Node[W]]") -> "list[_Node[W]]":
    """Return the nodes and those behind a `**`, which stands for no segment as well."""
    for node in nodes:  # grows meanwhile
        behind = node.below.get(ANY_NUMBER)
        if behind is not None and behind not in nodes:
            nodes.append(behind)
    return list(dict.fromkeys(nodes))


def _gather(node: "_Node[W]", found: dict[W, None]) -> None:
    """Add the watchers of a node and of all nodes below."""
    found.update(node.watchers)
    for below in node.below.values():
        _gather(below, found)
