"""The changes that restoring a snapshot, or opening a store, makes. Pure."""

from collections.abc import Iterable
from typing import Final

import attrs

from swarm.model import ROOT, Document, Path, SystemMaintenance
from swarm.ports import Plan, View, Write

_OWNED: Final = tuple(
    Path.of(*names)
    for names in (
        ("locks",),
        ("semaphores",),
        ("barriers",),
        ("global", "registry"),
        ("global", "processes"),
    )
)
"""Folders of what ends with its process; restoring gives none of it back."""

_KEPT: Final = frozenset(
    folder.segments
    for folder in (*_OWNED, Path.of("subscriptions"), Path.of("dead_letters"))
)
"""Folders that restoring leaves as they are. The events of a swarm are not undone, so
what was delivered stays delivered, and a position is one of this log."""


@attrs.define
class Restoration:
    """The documents that a snapshot gives back, compared with those of a tree.

    The comparison takes several turns of the loop. The rule at its end looks only at
    what differed, and at what was written meanwhile.

    Attributes:
        name: The id of the snapshot, for people.
        since: The revision of the tree.
        before: The documents of the tree, by path.
        wanted: The documents to give back, by path.
        differing: The paths at which the two differ.
    """

    name: str
    since: int = -1
    before: dict[str, Document] = attrs.field(factory=dict)
    wanted: dict[str, Document] = attrs.field(factory=dict)
    differing: set[str] = attrs.field(factory=set)

    def replace(self, documents: Iterable[Document]) -> None:
        """Take in some documents of the tree."""
        self.before.update({each.path.text: each for each in documents})

    def give_back(self, documents: Iterable[Document]) -> None:
        """Take in some documents of the snapshot, once those of the tree are there."""
        for document in documents:
            text = document.path.text
            if not _is_kept(document.path):
                self.wanted[text] = document
                if not _is_alike(self.before.get(text), document):
                    self.differing.add(text)

    def drop(self, paths: Iterable[str]) -> None:
        """Note which of these paths of the tree the snapshot does not have."""
        self.differing.update([path for path in paths if path not in self.wanted])


def decide_restore(view: View, restoration: Restoration) -> Plan:
    """Return the writes that give the tree the snapshot's documents.

    Rights that end with their holders, the registry of living agents, positions and
    dead letters stay as they are. So revisions go on, and no lease comes back to life.
    """
    since, before = restoration.since, restoration.before
    documents = view.below(ROOT)
    there: dict[str, Document | None] = {
        text: before.get(text) for text in restoration.differing
    }
    fresh = [document for document in documents if document.version > since]
    made = sum(document.created > since for document in fresh)
    if len(documents) - made < len(before):  # some were deleted meanwhile
        texts = {document.path.text for document in documents}
        there.update(dict.fromkeys(before.keys() - texts))
    there.update({document.path.text: document for document in fresh})
    writes: list[Write] = []
    for text, document in there.items():
        wanted = restoration.wanted.get(text)
        if wanted is None:
            if document is not None and not _is_kept(document.path):
                writes.append(Write(document.path))
        elif not _is_alike(document, wanted):
            writes.append(
                Write(
                    wanted.path,
                    wanted.json,
                    expires=wanted.expires,
                    priority=wanted.priority,
                )
            )
    told = SystemMaintenance(
        "restored", f"snapshot {restoration.name}, {len(writes)} documents"
    )
    return Plan(writes, (told,), len(writes), is_unbounded=True)


def decide_recovery(view: View) -> Plan:
    """Return the end of every right that a process held which is no more."""
    writes = [
        Write(document.path) for folder in _OWNED for document in view.documents(folder)
    ]
    told = SystemMaintenance("recovered", f"{len(writes)} rights of the last run ended")
    return Plan(writes, (told,), len(writes), is_unbounded=True)


def _is_kept(path: Path) -> bool:
    segments = path.segments
    return segments[:1] in _KEPT or segments[:2] in _KEPT


def _is_alike(one: Document | None, other: Document) -> bool:
    return one is not None and one.json == other.json and one.expires == other.expires
