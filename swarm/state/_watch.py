"""Watching places: the log, seen through a pattern."""

from collections import deque
from types import TracebackType
from typing import Self

import attrs

from swarm.errors import Closed, InvalidTransition, Lagged
from swarm.kernel import places, start_inside
from swarm.model import (
    ABSENT,
    AsyncUse,
    Change,
    ChangeKind,
    Commit,
    Document,
    Pattern,
    narrow,
    to_change,
)
from swarm.ports import Kernel, Reader
from swarm.state._look import candidates, rest_of
from swarm.state._store import Access


class Watch(AsyncUse):
    """An async iterator of changes, to be entered with `async with`.

    Changes come in revision order, each once, those of one commit together. The
    bounded log is the buffer: writers never wait for a watch. A watch that falls
    behind the log raises `Lagged`: read the state then, and watch again `since` the
    revision at which it was read.
    """

    _usage = "`async with state.watch(...) as changes:`, and `async for` inside"

    def __init__(
        self,
        kernel: Kernel,
        access: Access,
        pattern: Pattern,
        since: int | None,
        *,
        initial: bool = False,
        coalesce: bool = False,
    ) -> None:
        """Watch `pattern` after revision `since` (default: from entering on)."""
        self._initial = initial
        self._is_open = False
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
            InvalidTransition: The watch is entered already.
            Compacted: The log no longer reaches back to `since`.
        """
        if self._is_open:
            raise InvalidTransition(
                "this watch is entered already; each block needs its own"
            )
        if self._initial:
            revision, documents = await self._kernel.read(candidates, self._pattern)
            self._since = revision
            for document in sorted(documents, key=_version_of):
                self._due.extend(existing_at(self._pattern, document, self._access))
        self._reader = await self._kernel.follow(self._since, self._pattern)
        self._is_open = True
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
        self._is_open = False
        self._due.clear()

    def __repr__(self) -> str:
        state = "not entered" if self._reader is None else f"revision {self.revision}"
        return f"Watch({self._pattern.text!r}, {state})"

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
            InvalidTransition: The watch was not entered.
            Lagged: Changes have left the log unseen.
            StopAsyncIteration: The swarm is closed and everything was seen.
        """
        if self._reader is None:
            raise InvalidTransition(
                f"{self!r} sees no changes: async with state.watch(...) as changes"
            )
        if self._coalesce:
            self._catch_up(self._reader)
        while not self._due:
            try:
                commit = await self._reader.next()
            except Closed:
                raise StopAsyncIteration from None
            self._due.extend(self._seen(commit))
            if self._coalesce:
                self._catch_up(self._reader)
        return self._due.popleft()

    def _catch_up(self, reader: Reader) -> None:
        """Read all there is, and keep of each place only the newest change."""
        known = len(self._due)
        try:
            while (commit := reader.next_nowait()) is not None:
                self._due.extend(self._seen(commit))
        except (Closed, Lagged):
            pass  # said again by `next`, once all that is due was taken
        if len(self._due) == known and known < 2:
            return
        newest: dict[str, Change] = {}
        for change in self._due:
            first = newest.pop(change.path, None)
            newest[change.path] = change if first is None else _joined(first, change)
        self._due = deque(newest.values())

    def _seen(self, commit: Commit) -> list[Change]:
        return [
            change
            for document in commit.documents
            for change in changes_at(self._pattern, document, self._access)
        ]


def changes_at(pattern: Pattern, document: Document, access: Access) -> list[Change]:
    """Return what making this version changed at the places that `pattern` means.

    A pattern without wildcards means its place and all that is below, as reading the
    same path does. Places that may not be read are left out (S15).
    """
    path = document.path
    if pattern.matches(path) or (pattern.is_literal and path.within(pattern.fixed)):
        if not access.may_read(path):
            return []
        return [attrs.evolve(to_change(document), path=access.name(path))]
    here = start_inside(pattern, path)
    if not here:
        return []
    change = to_change(document)
    old, new = change.old_value, change.value
    inside = dict.fromkeys([*places(new, pattern, here), *places(old, pattern, here)])
    readable = (path.child(*rest) for rest in inside)
    narrowed = (
        narrow(change, access.name(place), rest_of(place, document))
        for place in readable
        if access.may_read(place)
    )
    return [found for found in narrowed if found is not None]


def existing_at(pattern: Pattern, document: Document, access: Access) -> list[Change]:
    """Return a document's places that `pattern` means, as if it had just been made."""
    first = attrs.evolve(document, created=document.version, previous=None)
    return changes_at(pattern, first, access)


def _version_of(document: Document) -> int:
    return document.version


def _joined(first: Change, last: Change) -> Change:
    """Return two changes of one place as one."""
    kind = last.kind
    if last.value is not ABSENT:
        created = first.old_value is ABSENT
        kind = ChangeKind.CREATED if created else ChangeKind.UPDATED
    return attrs.evolve(
        last, kind=kind, old_value=first.old_value, old_version=first.old_version
    )
