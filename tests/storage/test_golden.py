"""Stores that earlier versions of swarm have written are read as they were meant."""

import shutil
from pathlib import Path

import pytest

from swarm import Swarm

GOLDEN = Path(__file__).parent / "golden"
STORES = sorted(
    path for form in GOLDEN.glob("format-*") for path in form.iterdir() if form.is_dir()
)


def url(path: Path) -> str:
    return f"sqlite:///{path}" if path.suffix == ".db" else f"file:{path}"


def copy(store: Path, folder: Path) -> Path:
    copied = folder / store.name
    (shutil.copytree if store.is_dir() else shutil.copy)(store, copied)
    return copied


@pytest.mark.parametrize("store", STORES, ids=lambda s: f"{s.parent.name}-{s.stem}")
async def test_a_store_of_an_earlier_version_opens_with_all_that_was_in_it(
    tmp_path, store
):
    """D18."""
    async with Swarm("golden", url(copy(store, tmp_path))) as swarm:
        assert await swarm.state.get("shared.title") == "Ants"
        odd = await swarm.state.get("shared.odd")
        assert odd == [None, 1, 1.0, True, "ä\u2028", 2**63 - 1]
        assert [type(each) for each in odd[1:4]] == [int, float, bool]
        assert await swarm.state.get("shared.after") == "the snapshot"
        assert await swarm.state.get("agents.clerk.ada.data.note") == "kept"
        (later,) = swarm.tasks.find(kind="later")
        assert (later.status, later.payload) == ("pending", {"n": 1})
        (snapshot,) = await swarm.snapshots.list()
        assert snapshot.reason == "golden"
        async with swarm.lock("door").acquire(timeout=0):
            pass  # its lease ended with the process
        await swarm.snapshots.restore(snapshot.id)
        assert await swarm.state.get("shared.after") is None
        assert await swarm.state.get("shared.title") == "Ants"


def test_each_kind_of_store_has_a_golden_one():
    assert {path.stem for path in STORES} == {"files", "run"}
