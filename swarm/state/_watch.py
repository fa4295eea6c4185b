"""Watching places: the log, seen through a pattern."""

from collections import deque
from types import TracebackType
from typing import Self

import attrs

from swarm.errors import Closed
from swarm.kernel import places, start_inside
from swarm.model import Change, Commit, Document, Pattern, narrow, to_change
from swarm.ports import Kernel, Reader
from swarm.state._store import Access


class Watch:
    """An async iterator of changes, to be entered with `async with`.

    Changes come in revision order, each once, those of one commit together. The
    bounded log is the buffer: nobody who writes ever waits for a watch. One that
    falls behind the log gets `Lagged`, whose `last` it can resume `since`, if it reads
    the state first.
    """

    def __init__(
        self,
        kernel: Kernel,
        access: Access,
        pattern: Pattern,
        since: int | None,
        *,
        coalesce: bool,
    ) -> None:
        """Watch `pattern` after revision `since` (default: from entering on)."""
        self._kernel = kernel
        self._access = access
        self._pattern = pattern
        self._since = since
        self._coalesce = coalesce
        self._reader: Reader | None = None
        self._due: deque[Change] = deque()

    async def __aenter__(self) -> Self:
        """Begin: what is committed from here on will be seen.

        Raises:
            Compacted: The log no longer reaches back to `since`.
        """
        self._reader = await self._kernel.follow(self._since)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Stop watching."""
        if self._reader is not None:
            self._reader.close()
        self._due.clear()

    @property
    def revision(self) -> int:
        """The revision up to which everything was seen; resume `since` it."""
        if self._due:
            return self._due[0].revision - 1
        return 0 if self._reader is None else self._reader.position

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Change:
        """Wait for the next change. Cancelling loses none.

        Raises:
            Lagged: Changes have left the log unseen.
            StopAsyncIteration: The swarm is closed and everything was seen.
        """
        if self._reader is None:
            raise Closed("enter the watch first: async with state.watch(...) as w")
        while not self._due:
            try:
                commit = await self._reader.next()
            except Closed:
                raise StopAsyncIteration from None
            self._due.extend(self._seen(commit))
            if self._coalesce:
                self._catch_up()
        return self._due.popleft()

    def _catch_up(self) -> None:
        """Read all there is, and keep of each place only the newest change."""
        assert self._reader is not None
        while (commit := self._reader.next_nowait()) is not None:
            self._due.extend(self._seen(commit))
        newest: dict[str, Change] = {}
        for change in self._due:
            first = newest.pop(change.path, None)
            if first is not None:
                change = attrs.evolve(
                    change, old_value=first.old_value, old_version=first.old_version
                )
            newest[change.path] = change
        self._due = deque(newest.values())

    def _seen(self, commit: Commit) -> list[Change]:
        return [
            change
            for document in commit.documents
            if self._access.may_read(document.path)
            for change in changes_at(self._pattern, document, self._access)
        ]


def changes_at(pattern: Pattern, document: Document, access: Access) -> list[Change]:
    """Return what making this version changed at the places that `pattern` means.

    A pattern without wildcards means its place and all that is below, as reading the
    same path does.
    """
    path = document.path
    change = to_change(document)
    if pattern.matches(path) or (pattern.is_literal and path.within(pattern.fixed)):
        return [attrs.evolve(change, path=access.name(path))]
    here = start_inside(pattern, path)
    if not here:
        return []
    old, new = change.old_value, change.value
    inside = dict.fromkeys([*places(new, pattern, here), *places(old, pattern, here)])
    narrowed = (narrow(change, access.name(path.child(*rest)), rest) for rest in inside)
    return [found for found in narrowed if found is not None]
