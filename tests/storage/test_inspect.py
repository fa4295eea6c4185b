"""`swarm inspect` and `swarm doctor`: what a store holds, read only."""

import io
import json
import sys

import pytest

from swarm import Compacted, NotFound, StateCorruption, Swarm, SwarmConfig
from swarm.cli import main
from swarm.ports import Limits
from swarm.storage import read_store


async def make(storage) -> list[int]:
    """Write a little, and return the revisions."""
    revisions = []
    config = SwarmConfig(limits=Limits(log_commits=6))
    async with Swarm(storage=storage, config=config) as swarm:
        for n in range(9):
            revisions.append((await swarm.state.set("shared.plan", {"n": n})).version)
        await swarm.state.set("shared.gone", 1)
        await swarm.state.set("shared.list", [1, {"x": None}])
        revisions.append((await swarm.state.set("shared.plan", "done")).version)
        await swarm.state.delete("shared.gone")
    return revisions


@pytest.fixture(params=["folder", "run.db"])
async def place(request, tmp_path):
    path = tmp_path / request.param
    return path, await make(path)


def names(folder):
    return {
        path: path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not path.name.endswith(("-shm", "-wal", "lock", "LOCK"))
    }


async def test_a_store_is_read_without_changing_it(place, tmp_path, capsys):
    path, revisions = place
    before = names(tmp_path)
    store = read_store(path)
    assert store.value("shared") == {"plan": "done", "list": [1, {"x": None}]}
    assert store.value("shared.list[1].x") is None
    assert store.value("shared.plan.n", revisions[-2]) == 8
    assert list(store.diff(revisions[-2], revisions[-1]))[-1] == (
        "shared.plan",
        {"n": 8},
        "done",
    )
    with pytest.raises(NotFound):
        store.value("nothing.here")
    assert main(["inspect", str(path), "shared.plan", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {
        "path": "shared.plan",
        "value": "done",
    }
    assert main(["inspect", str(path), "--diff", *map(str, revisions[-2:])]) == 0
    out = capsys.readouterr().out
    assert '- shared.plan = {"n":8}' in out
    assert '+ shared.plan = "done"' in out
    assert main(["inspect", str(path)]) == 0
    assert "shared.list = [1," in capsys.readouterr().out
    assert main(["doctor", str(path), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["whole"]
    assert told["closed_properly"]
    assert names(tmp_path) == before


async def test_a_store_is_named_by_its_url_as_well(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for url in ("file:a%20b", "sqlite:///run.db"):
        async with Swarm(storage=url) as swarm:
            await swarm.state.set("shared.plan", "done")
        assert main(["inspect", url, "shared.plan"]) == 0
        assert capsys.readouterr().out == '"done"\n'
        assert main(["doctor", f"{url}?durability=process"]) == 0
        assert "whole: True" in capsys.readouterr().out


async def test_a_terminal_that_cannot_show_a_letter_gets_its_number(
    tmp_path, monkeypatch
):
    async with Swarm(storage=tmp_path / "x") as swarm:
        await swarm.state.set("shared.name", "Zoë")
    written = io.BytesIO()
    monkeypatch.setattr("sys.stdout", io.TextIOWrapper(written, "ascii"))
    assert main(["inspect", str(tmp_path / "x"), "shared.name"]) == 0
    sys.stdout.flush()
    assert written.getvalue() == b'"Zo\\xeb"\n'


async def test_what_the_store_forgot_is_said(place):
    path, _ = place
    store = read_store(path)
    if store.compacted:
        with pytest.raises(Compacted):
            store.documents(store.compacted - 1)


async def test_a_damaged_store_has_its_own_exit_status(tmp_path, capsys):
    await make(tmp_path / "x")
    journal = next((tmp_path / "x").glob("journal-*"))
    data = bytearray(journal.read_bytes())
    data[len(data) // 2] ^= 1
    journal.write_bytes(data)
    with pytest.raises(StateCorruption):
        read_store(tmp_path / "x")
    assert main(["doctor", str(tmp_path / "x")]) == 5
    said = capsys.readouterr().err
    assert said.startswith("swarm: ")
    assert "--salvage TARGET" in said
    assert main(["inspect", str(tmp_path / "none")]) == 1
    assert "there is no file store" in capsys.readouterr().err


async def test_the_named_snapshots_of_a_store_are_checked_as_well(tmp_path, capsys):
    await make(tmp_path / "x")
    async with Swarm(storage=tmp_path / "x") as swarm:
        await swarm.state.set("plan", "y" * 1_000)
        kept = await swarm.snapshots.create("kept")
        damaged = await swarm.snapshots.create("damaged")
    assert main(["doctor", str(tmp_path / "x"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["snapshots"] == 2
    file = tmp_path / "x" / f"saved-{damaged.id}"
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)
    assert main(["doctor", str(tmp_path / "x")]) == 5
    assert damaged.id in capsys.readouterr().err
    async with Swarm(storage=tmp_path / "x") as swarm:
        listed = await swarm.snapshots.list()
        assert [each.reason for each in listed] == ["damaged", "kept"]
        with pytest.raises(StateCorruption, match=damaged.id):
            await swarm.snapshots.restore(listed[0])
        await swarm.snapshots.restore(kept.id)


async def test_a_store_without_its_current_file_is_damaged_not_absent(tmp_path):
    await make(tmp_path / "x")
    (tmp_path / "x" / "CURRENT").unlink()
    with pytest.raises(StateCorruption, match="CURRENT is missing beside journal-0"):
        read_store(tmp_path / "x")


@pytest.mark.parametrize("target", ["new", "new.db"])
async def test_salvage_writes_what_can_be_read_into_a_new_store(
    place, tmp_path, target, capsys
):
    path, _ = place
    damaged = path if path.is_file() else next(path.glob("journal-*"))
    data = bytearray(damaged.read_bytes())
    spot = data.rindex(b'"n":8')
    data[spot] ^= 1
    damaged.write_bytes(data)
    assert main(["doctor", str(path)]) == 5
    before = names(path) if path.is_dir() else path.read_bytes()
    assert main(["doctor", str(path), "--salvage", str(tmp_path / target)]) == 0
    assert "left out" in capsys.readouterr().out
    assert (names(path) if path.is_dir() else path.read_bytes()) == before
    assert read_store(tmp_path / target).value("shared.list") == [1, {"x": None}]
    async with Swarm(storage=tmp_path / target) as swarm:
        assert await swarm.state.get("shared.plan") == "done"
    assert main(["doctor", str(path), "--salvage", str(tmp_path / target)]) == 1
    assert "there already" in capsys.readouterr().err
