"""The contract of every journal: derive a test class that makes one."""

from abc import abstractmethod
from pathlib import Path

import pytest

from swarm.errors import NotFound, StorageInUse
from swarm.ports import Entry, Journal, Recovered


def entries(first: int, last: int, size: int = 20) -> list[Entry]:
    """Return a commit for each revision from `first` to `last`."""
    return [Entry(n, (b"%d." % n) * size) for n in range(first, last + 1)]


class JournalContract:
    """Tests that every `ports.Journal` must pass.

    Attributes:
        long: Bytes from which on the journals that `make` returns are long.
    """

    long: int = 1_000_000

    @abstractmethod
    def make(self, place: Path) -> Journal:
        """Return a journal, not yet opened, that keeps everything below `place`."""

    def reopen(self, place: Path) -> Recovered:
        """Return what a store holds, opened and closed again."""
        journal = self.make(place)
        found = journal.open()
        journal.close()
        return found

    def test_a_new_store_is_empty(self, tmp_path: Path) -> None:
        """A store that is made holds nothing."""
        found = self.reopen(tmp_path)
        assert (found.blocks, found.entries) == ((), ())
        assert found.report.epoch == 1

    def test_what_was_appended_comes_back_in_order(self, tmp_path: Path) -> None:
        """Every batch is there after the store was opened again."""
        journal = self.make(tmp_path)
        journal.open()
        journal.append(entries(1, 3))
        journal.append(entries(5, 9))
        journal.close()
        found = self.reopen(tmp_path)
        assert list(found.entries) == entries(1, 3) + entries(5, 9)
        assert found.report.revision == 9
        assert found.report.was_clean

    def test_each_opening_has_an_epoch_of_its_own(self, tmp_path: Path) -> None:
        """The epoch counts the openings."""
        epochs = [self.reopen(tmp_path).report.epoch for _ in range(3)]
        assert epochs == [1, 2, 3]

    def test_a_store_goes_on_after_it_was_reopened(self, tmp_path: Path) -> None:
        """Appending continues behind what is there."""
        for first in (1, 11, 21):
            journal = self.make(tmp_path)
            journal.open()
            journal.append(entries(first, first + 9))
            journal.close()
        assert list(self.reopen(tmp_path).entries) == entries(1, 30)

    def test_a_checkpoint_replaces_the_entries(self, tmp_path: Path) -> None:
        """After a checkpoint the store holds its blocks, and what came later."""
        journal = self.make(tmp_path)
        journal.open()
        journal.append(entries(1, 9))
        journal.checkpoint([b"one", b"", b"three" * 1000], 9)
        journal.append(entries(10, 12))
        journal.close()
        found = self.reopen(tmp_path)
        assert list(found.blocks) == [b"one", b"", b"three" * 1000]
        assert list(found.entries) == entries(10, 12)

    def test_a_second_checkpoint_replaces_the_first(self, tmp_path: Path) -> None:
        """Only the newest snapshot counts."""
        journal = self.make(tmp_path)
        journal.open()
        for n in (1, 2):
            journal.append(entries(n, n))
            journal.checkpoint([b"%d" % n], n)
        journal.close()
        found = self.reopen(tmp_path)
        assert list(found.blocks) == [b"2"]
        assert list(found.entries) == []
        assert found.report.revision == 2

    def test_a_checkpoint_that_would_lose_commits_is_refused(
        self, tmp_path: Path
    ) -> None:
        """A checkpoint stands for everything appended, or changes nothing."""
        journal = self.make(tmp_path)
        journal.open()
        journal.append(entries(1, 3))
        with pytest.raises(ValueError, match="up to 3"):
            journal.checkpoint([b"two"], 2)
        journal.append(entries(4, 4))
        journal.close()
        assert list(self.reopen(tmp_path).entries) == entries(1, 4)

    def test_replacing_forgets_everything_else(self, tmp_path: Path) -> None:
        """A replaced journal goes on after the revision it was given."""
        journal = self.make(tmp_path)
        journal.open()
        journal.append(entries(1, 9))
        journal.replace([b"other"], 4)
        journal.append(entries(5, 6))
        journal.close()
        found = self.reopen(tmp_path)
        assert list(found.blocks) == [b"other"]
        assert list(found.entries) == entries(5, 6)

    def test_named_snapshots_stand_beside_the_journal(self, tmp_path: Path) -> None:
        """Named snapshots are listed, read and removed; checkpoints spare them."""
        journal = self.make(tmp_path)
        journal.open()
        journal.save("b", [b"B"])
        journal.save("a", [b"A1", b"A2"])
        journal.append(entries(1, 1))
        journal.checkpoint([b"base"], 1)
        assert journal.saved() == ["a", "b"]
        assert list(journal.load("a")) == [b"A1", b"A2"]
        assert journal.head("a") == b"A1"
        journal.remove("b")
        journal.remove("never there")
        journal.close()
        again = self.make(tmp_path)
        assert list(again.open().blocks) == [b"base"]
        assert again.saved() == ["a"]
        with pytest.raises(NotFound, match="'b'"):
            again.load("b")
        with pytest.raises(NotFound, match="'b'"):
            again.head("b")
        again.close()

    def test_a_second_opener_is_refused(self, tmp_path: Path) -> None:
        """The second is told the process; the first goes on undisturbed."""
        first = self.make(tmp_path)
        first.open()
        with pytest.raises(StorageInUse, match="process"):
            self.make(tmp_path).open()
        first.append(entries(1, 1))
        first.close()
        assert list(self.reopen(tmp_path).entries) == entries(1, 1)

    def test_a_long_journal_asks_for_a_checkpoint(self, tmp_path: Path) -> None:
        """The journal is long until a checkpoint shortens it."""
        journal = self.make(tmp_path)
        journal.open()
        assert not journal.is_long()
        journal.append([Entry(n, bytes(self.long // 10)) for n in range(1, 12)])
        assert journal.is_long()
        journal.checkpoint([b"short"], 11)
        assert not journal.is_long()
        journal.close()
