"""Runtime files tell programs of the same user, and nobody else, where a swarm is."""

import json
import os
import stat
from pathlib import Path

import pytest

from swarm import Swarm
from swarm.observability.dashboard import running_swarms
from swarm.observability.dashboard._runtime_file import RuntimeFile, runtime_folder

TOKEN = "a-token-that-is-long-enough"


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    return tmp_path / "swarm"


def mode(path: Path) -> int:
    return stat.S_IMODE(path.lstat().st_mode)


async def test_a_dashboard_is_found_while_it_is_served(folder):
    async with Swarm("shop") as swarm:
        served = await swarm.dashboard(tell=None)
        (found,) = running_swarms()
        assert (found.name, found.pid) == ("shop", os.getpid())
        assert found.url == f"http://127.0.0.1:{served.port}/"
        assert found.token == served.token
        assert served.token not in repr(found)
        assert mode(folder) == 0o700
        assert [mode(path) for path in folder.iterdir()] == [0o600]
    assert running_swarms() == []
    assert list(folder.iterdir()) == []


def test_names_of_swarms_cannot_leave_the_folder(folder):
    for name in ("../../evil", "a/b", ".hidden", "..", "é" * 300, "\0"):
        file = RuntimeFile(name, 1, TOKEN)
        file.write()
        assert len(list(folder.iterdir())) == 1
        assert running_swarms()[0].name == name
        file.remove()
        assert list(folder.iterdir()) == []


def test_a_link_in_place_of_the_file_is_not_followed(folder):
    target = folder.parent / "target"
    target.write_text("precious")
    folder.mkdir(mode=0o700)
    (folder / f"shop-{os.getpid()}-1.json").symlink_to(target)
    RuntimeFile("shop", 1, TOKEN).write()
    assert target.read_text() == "precious"


@pytest.mark.parametrize("wrong", ["link", "open"])
def test_a_folder_that_others_may_enter_gets_no_token(folder, wrong):
    real = folder.parent / "real"
    real.mkdir(mode=0o700)
    if wrong == "link":
        folder.symlink_to(real)
    else:
        folder.mkdir()
        folder.chmod(0o777)
    RuntimeFile("shop", 1, TOKEN).write()
    assert list(folder.iterdir()) == []
    assert running_swarms() == []


def test_files_of_processes_that_are_gone_are_removed(folder):
    folder.mkdir(mode=0o700)
    gone = {"name": "old", "pid": 2**22 + 1, "url": "http://127.0.0.1:1/", "token": "x"}
    (folder / "old.json").write_text(json.dumps(gone))
    (folder / "broken.json").write_text("{")
    (folder / "other.json").write_text("[]")
    assert running_swarms() == []
    assert not (folder / "old.json").exists()


def test_without_a_runtime_folder_of_the_system_the_user_has_one(monkeypatch, tmp_path):
    monkeypatch.delenv("XDG_RUNTIME_DIR")
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    assert runtime_folder() == tmp_path / f"swarm-{os.getuid()}"
