"""The replicated journal: quorums, members that fail, histories that diverge."""

import shutil
from collections.abc import Mapping
from pathlib import Path

import pytest

from swarm.errors import StateCorruption, StorageFailed
from swarm.ports import Entry, Journal, Recovered
from swarm.storage._file import FileJournal
from swarm.storage._replicated import MARK, ReplicatedJournal
from swarm.storage._sqlite import SqliteJournal
from swarm.testing.contracts._journal import JournalContract, entries


class Fragile(FileJournal):
    """A member that can be made to fail."""

    fails = False

    def append(self, entries: object) -> None:
        if self.fails:
            raise StorageFailed("the disk is gone")
        super().append(entries)  # type: ignore[arg-type]


def three(place: Path) -> dict[str, Journal]:
    return {
        "a": Fragile(place / "a"),
        "b": Fragile(place / "b"),
        "c": SqliteJournal(place / "c.db"),
    }


def replicated(place: Path, **options: object) -> ReplicatedJournal:
    return ReplicatedJournal(three(place), 2, **options)  # type: ignore[arg-type]


class TestReplicated(JournalContract):
    def make(self, place: Path) -> Journal:
        return replicated(place, long=self.long)


class TestOfOne(JournalContract):
    def make(self, place: Path) -> Journal:
        return ReplicatedJournal({"a": FileJournal(place / "a")}, 1, long=self.long)


def member_of(journal: ReplicatedJournal, name: str) -> Fragile:
    """Return the store of a member, once it has written all that it was given."""
    member = journal._member(name)
    member.submit(lambda: None).result()  # a quorum may be ahead of it
    assert isinstance(member.journal, Fragile)
    return member.journal


def held(place: Path, name: str) -> list[Entry]:
    journal = three(place)[name]
    found = journal.inspect()  # type: ignore[attr-defined]
    return list(found.entries)


def test_a_commit_counts_once_a_quorum_has_it(tmp_path: Path) -> None:
    alerts: list[str] = []
    journal = replicated(tmp_path)
    journal.on_alert = alerts.append
    journal.open()
    journal.append(entries(1, 3))
    member_of(journal, "a").fails = True
    journal.append(entries(4, 6))
    journal.append(entries(7, 7))
    assert journal.healthy == ["b", "c"]
    assert len(alerts) == 1
    assert "member a is left out" in alerts[0]
    journal.close()
    assert held(tmp_path, "a") == entries(1, 3)
    assert held(tmp_path, "b") == held(tmp_path, "c") == entries(1, 7)


def test_below_the_quorum_nothing_is_taken_any_more(tmp_path: Path) -> None:
    journal = replicated(tmp_path)
    journal.open()
    for name in ("a", "b"):
        member_of(journal, name).fails = True
    with pytest.raises(StorageFailed, match="2 are needed; the swarm can be read only"):
        journal.append(entries(1, 1))
    with pytest.raises(StorageFailed, match="too few members"):
        journal.append(entries(2, 2))
    journal.close()


def test_opening_gives_the_longest_history_to_all(tmp_path: Path) -> None:
    journal = replicated(tmp_path)
    journal.open()
    journal.append(entries(1, 3))
    member_of(journal, "a").fails = True
    journal.append(entries(4, 9))
    journal.close()
    journal = replicated(tmp_path)
    found = journal.open()
    assert list(found.entries) == entries(1, 9)
    assert any(
        "member a was brought from revision 3 to 9" in n for n in found.report.notes
    )
    assert journal.healthy == ["a", "b", "c"]
    journal.append(entries(10, 10))
    journal.close()
    assert all(held(tmp_path, name) == entries(1, 10) for name in "abc")


def test_an_acknowledged_commit_survives_any_one_member(tmp_path: Path) -> None:
    for lost in "abc":
        place = tmp_path / lost
        journal = replicated(place)
        journal.open()
        journal.append(entries(1, 5))
        if lost != "c":
            member_of(journal, lost).fails = True
        journal.append(entries(6, 8))
        journal.close()
        members = three(place)
        del members[lost]
        again = ReplicatedJournal({**members, lost: Unreachable()}, 2)
        found = again.open()
        assert found.report.revision == 8
        assert any(f"member {lost} is left out" in note for note in found.report.notes)
        again.close()


class Unreachable(FileJournal):
    def __init__(self) -> None:
        super().__init__(Path("/nowhere"))

    def open(self) -> Recovered:
        raise StorageFailed("no such device")


def test_too_few_members_to_know_the_newest_commit_are_refused(tmp_path: Path) -> None:
    members = {"a": FileJournal(tmp_path), "b": Unreachable(), "c": Unreachable()}
    with pytest.raises(StorageFailed, match="1 of 3 members could be opened, and 2"):
        ReplicatedJournal(members, 2).open()
    FileJournal(tmp_path).open()  # the member was closed again


def test_a_member_that_comes_back_is_healed(tmp_path: Path) -> None:
    journal = replicated(tmp_path)
    journal.open()
    member_of(journal, "b").fails = True
    journal.append(entries(1, 5))
    member_of(journal, "b")  # has failed by now
    assert journal.heal([b"state at 5"], 5) == ["b"]
    member_of(journal, "b").fails = False
    journal.append(entries(6, 7))
    assert journal.healthy == ["a", "b", "c"]
    journal.close()
    found = FileJournal(tmp_path / "b").inspect()
    assert list(found.blocks) == [b"state at 5"]
    assert list(found.entries) == entries(6, 7)


def diverge(place: Path) -> None:
    """Have one member go on by itself, and then the others without it."""
    journal = replicated(place)
    journal.open()
    journal.append(entries(1, 3))
    journal.close()
    alone = FileJournal(place / "a")
    alone.open()
    alone.remove(MARK)  # as opening it by itself does
    alone.append(entries(100, 101))
    alone.close()
    others = {**three(place), "a": Unreachable()}
    pair = ReplicatedJournal(others, 2)
    pair.open()
    pair.append(entries(200, 201))
    pair.close()


def test_diverged_histories_are_refused_and_left_as_they_are(tmp_path: Path) -> None:
    diverge(tmp_path)
    with pytest.raises(StateCorruption, match="a was opened by itself"):
        replicated(tmp_path).open()
    assert held(tmp_path, "a") == entries(1, 3) + entries(100, 101)
    assert held(tmp_path, "b") == entries(1, 3) + entries(200, 201)


def test_a_resolver_chooses_among_diverged_histories(tmp_path: Path) -> None:
    diverge(tmp_path / "last")
    journal = replicated(tmp_path / "last", resolve="last-write-wins")
    assert journal.open().report.revision == 201
    journal.close()
    diverge(tmp_path / "first")

    def keep_a(found: Mapping[str, Recovered]) -> str:
        assert set(found) == {"a", "b", "c"}
        return "a"

    journal = replicated(tmp_path / "first", resolve=keep_a)
    found = journal.open()
    assert list(found.entries) == entries(1, 3) + entries(100, 101)
    assert any("that of a is kept" in note for note in found.report.notes)
    journal.close()
    assert held(tmp_path / "first", "c") == entries(1, 3) + entries(100, 101)


def test_a_resolver_that_names_no_member_changes_nothing(tmp_path: Path) -> None:
    diverge(tmp_path)
    with pytest.raises(ValueError, match=r"'d'.*one of the names"):
        replicated(tmp_path, resolve=lambda _: "d").open()
    assert held(tmp_path, "a") == entries(1, 3) + entries(100, 101)


def test_an_unacknowledged_tail_of_an_absent_member_is_dropped(tmp_path: Path) -> None:
    journal = replicated(tmp_path)
    journal.open()
    journal.append(entries(1, 3))
    member_of(journal, "a").append(entries(4, 4))  # as if the process died here
    journal.close()
    pair = ReplicatedJournal({**three(tmp_path), "a": Unreachable()}, 2)
    pair.open()
    pair.append(entries(900, 901))
    pair.close()
    journal = replicated(tmp_path)
    found = journal.open()
    assert list(found.entries) == entries(1, 3) + entries(900, 901)
    journal.close()
    assert held(tmp_path, "a") == entries(1, 3) + entries(900, 901)


@pytest.mark.parametrize("revision", [901, 5_000])
def test_a_tail_that_was_not_acknowledged_never_wins(
    tmp_path: Path, revision: int
) -> None:
    """Its revision may be as high or higher: openings in one moment, or a clock that
    was set back."""
    journal = replicated(tmp_path)
    journal.open()
    journal.append(entries(1, 3))
    journal.close()
    journal = ReplicatedJournal({**three(tmp_path), "c": Unreachable()}, 2)
    journal.open()
    member_of(journal, "b").fails = True
    with pytest.raises(StorageFailed):
        journal.append([Entry(revision, b"only a has it")])
    journal.close()
    journal = ReplicatedJournal({**three(tmp_path), "a": Unreachable()}, 2)
    journal.open()
    journal.append(entries(901, 901))
    journal.close()
    journal = replicated(tmp_path)
    assert list(journal.open().entries) == entries(1, 3) + entries(901, 901)
    journal.close()
    assert held(tmp_path, "a") == held(tmp_path, "b")


def test_members_that_lost_everything_do_not_answer_for_commits(tmp_path: Path) -> None:
    journal = replicated(tmp_path)
    journal.open()
    journal.append(entries(1, 3))
    journal.close()
    for name in "ab":
        shutil.rmtree(tmp_path / name)
    with pytest.raises(StorageFailed, match=r"1 of .* and 2 are needed: a, b lost it"):
        replicated(tmp_path).open()
    journal = replicated(tmp_path, resolve="last-write-wins")
    assert list(journal.open().entries) == entries(1, 3)
    assert journal.healthy == ["a", "b", "c"]
    journal.close()


def test_one_store_becomes_several(tmp_path: Path) -> None:
    alone = Fragile(tmp_path / "a")
    alone.open()
    alone.append(entries(1, 3))
    alone.close()
    journal = replicated(tmp_path)
    assert list(journal.open().entries) == entries(1, 3)
    journal.close()
    assert held(tmp_path, "c") == entries(1, 3)


def test_a_member_that_fails_when_it_is_brought_up_is_left_out(tmp_path: Path) -> None:
    journal = replicated(tmp_path)
    journal.open()
    journal.append(entries(1, 3))
    member_of(journal, "a").fails = True
    journal.append(entries(4, 5))
    journal.close()
    journal = replicated(tmp_path)
    journal._member("a").journal.fails = True  # type: ignore[attr-defined]
    found = journal.open()
    assert any(
        "member a is left out: the disk is gone" in n for n in found.report.notes
    )
    assert journal.healthy == ["b", "c"]
    journal.close()


@pytest.mark.parametrize("quorum", [0, 4, -1])
def test_a_quorum_that_cannot_be_is_refused(tmp_path: Path, quorum: int) -> None:
    with pytest.raises(ValueError, match="from 1 to 3"):
        ReplicatedJournal(three(tmp_path), quorum)
