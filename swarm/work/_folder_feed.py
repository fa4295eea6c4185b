"""The documents of one folder of the tree, as they are and as the log changes them."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

from swarm.model import Commit, Document, Path
from swarm.ports import Kernel, Tail, View


class FolderFeed:
    """Calls a function with each document of a folder, then with each newer version.

    It is called once for each version, in the order of the log, also in the middle of
    a commit: it neither raises nor commits. A deletion is a document that is deleted.
    """

    def __init__(
        self,
        kernel: Kernel,
        tail: Tail,
        folder: Path,
        put: Callable[[Document], None],
        start: Callable[[Coroutine[Any, Any, Any], str], asyncio.Task[Any]],
    ) -> None:
        """Follow a folder of the root; `start` runs a coroutine in an owned task."""
        self._kernel = kernel
        self._folder = folder
        self._name = folder.segments[0]
        self._put = put
        self._since = 0
        self._early: list[Commit] | None = []
        self._loading: asyncio.Task[Any] | None = None
        self._unlisten = tail.listen(self._follow, documents=True)
        local = kernel.local
        if local is not None:
            self._take_in(*local.read_now(_all, folder))
        else:
            self._loading = start(self._load(), f"{self._name}: load")

    async def ready(self) -> None:
        """Wait until every document has been seen once.

        Raises:
            Closed: The kernel is closed.
        """
        if self._loading is not None:
            await asyncio.shield(self._loading)

    def close(self) -> None:
        """Follow no more; idempotent."""
        self._unlisten()

    async def _load(self) -> None:
        self._take_in(*await self._kernel.read(_all, self._folder))
        self._loading = None

    def _take_in(self, revision: int, documents: list[Document]) -> None:
        self._since = revision
        for document in documents:
            self._put(document)
        early, self._early = self._early or (), None
        for commit in early:
            self._follow(commit)

    def _follow(self, commit: Commit) -> None:
        for document in commit.documents:
            if document.path.segments[0] != self._name:
                continue
            if self._early is not None:
                self._early.append(commit)
                return
            if commit.revision > self._since:
                self._put(document)


def _all(view: View, folder: Path) -> tuple[int, list[Document]]:
    return view.revision, list(view.documents(folder))
