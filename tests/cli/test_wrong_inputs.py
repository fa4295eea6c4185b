"""Each command with a wrong input of each kind: one line says what, a code says which.

The other codes: 3 in tests/test_run.py, 4 and 130 in test_look.py.
"""

import asyncio
import os
from pathlib import Path

import pytest

from swarm import Swarm
from swarm.cli import main

DONE, FAILED, USAGE, STORE = 0, 1, 2, 5


@pytest.fixture(autouse=True)
def place(tmp_path, monkeypatch):
    """Work in a folder with a store, a text, an empty folder and two programs."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("SWARM_TARGET", raising=False)
    runtime = tmp_path / "runtime"
    runtime.mkdir(mode=0o700)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(runtime))
    (tmp_path / "text.txt").write_text("hello")
    (tmp_path / "empty").mkdir()
    (tmp_path / "plain.py").write_text("def main(swarm): pass\n")


@pytest.fixture
def store():
    async def fill() -> None:
        async with Swarm("shop", Path("store")) as swarm:
            await swarm.state.set("shared.plan", 1)

    asyncio.run(fill())


@pytest.mark.parametrize(
    ("line", "code", "said"),
    [
        ("dance", USAGE, "dance"),
        ("--bogus", USAGE, "--bogus"),
        ("run", USAGE, "TARGET requires an argument"),
        ("run nowhere.py", USAGE, "there is no file nowhere.py"),
        ("run nowhere:main", USAGE, "there is no module nowhere"),
        ("run .", USAGE, "'.' names no file and no module"),
        ("run :main", USAGE, "':main' names no file and no module"),
        ("run plain.py", USAGE, "has to be an `async def`"),
        ("run plain.py:other", USAGE, "has no function 'other'"),
        ("run plain.py --processes 0", USAGE, "--processes"),
        ("run plain.py --processes many", USAGE, "--processes"),
        ("run plain.py --name=", USAGE, "a name is not empty"),
        ("demo nowhere", FAILED, "nowhere is not a folder"),
        ("demo empty", FAILED, "there are no Python files"),
        ("demo empty --analysts 0", USAGE, "--analysts"),
        ("demo . --storage text.txt", FAILED, "could not make the folder"),
        ("demo . --storage ftp://x", 2, "ftp"),
        ("demo . --resume", FAILED, "add --storage"),
        ("init text.txt", FAILED, "text.txt"),
        ("init . --name 2bad", USAGE, "cannot be the name of a module"),
        ("replay", USAGE, "RECORDING requires an argument"),
        ("replay nowhere.jsonl", FAILED, "nowhere.jsonl: No such file"),
        ("replay empty", FAILED, "empty: Is a directory"),
        ("replay text.txt", FAILED, "is no JSON"),
        ("inspect", USAGE, "PATH requires an argument"),
        ("inspect nowhere", FAILED, "there is no file store in nowhere"),
        ("inspect text.txt", STORE, "text.txt is damaged"),
        ("inspect empty", FAILED, "there is no file store in empty"),
        ("inspect sqlite://run.db", USAGE, "sqlite:///relative.db"),
        ("inspect file:nowhere", FAILED, "there is no file store in"),
        ("inspect store --at soon", USAGE, "--at"),
        (f"inspect store --at {2**62}", FAILED, "is still to come; the newest of"),
        (f"inspect store --diff 1 {2**62}", FAILED, "is still to come; the newest"),
        ("inspect redis://localhost", USAGE, "redis://... names no store on disk"),
        ("inspect store --diff 1", USAGE, "requires 2"),
        ("inspect store a..b", FAILED, "a..b"),
        ("inspect store shared.none", FAILED, "shared.none"),
        ("doctor nowhere", FAILED, "there is no file store in nowhere"),
        ("doctor memory://", USAGE, "memory://... names no store on disk"),
        ("doctor text.txt", STORE, "text.txt is damaged"),
        ("doctor store --salvage empty", FAILED, "empty is there already"),
        ("top --once", FAILED, "no swarm is running here"),
        ("top --once -s nobody", FAILED, "no swarm 'nobody'"),
        ("top --interval soon", USAGE, "--interval"),
        ("top --once -s memory://", USAGE, "memory://... names no store on disk"),
        ("top --once -s ftp://x", USAGE, "not 'ftp://x'"),
        ("events -s sqlite:///new.db", FAILED, "there is no store at"),
        ("events -s text.txt", STORE, "text.txt is damaged"),
        ("events -s store --types a..b", FAILED, "a..b"),
        ("events --limit many", USAGE, "--limit"),
        ("tasks dance", USAGE, "dance"),
        ("tasks -s empty", FAILED, "there is no file store in empty"),
        ("tasks list -s empty", FAILED, "there is no file store in empty"),
        ("tasks list -s store --limit 0", USAGE, "--limit"),
        ("tasks show", USAGE, "TASK requires an argument"),
        ("tasks show task-0 -s store", FAILED, "there is no task 'task-0'"),
        ("tasks retry task-0 -s store", USAGE, "--reason requires an argument"),
        ("tasks cancel task-0 --reason x -s store", FAILED, "read only"),
        ("tasks resolve task-0 { --reason x", USAGE, "the result is no JSON"),
        ("tasks resolve task-0 --reason x", USAGE, "RESULT requires an argument"),
        ("trace task-0 -s file:store", FAILED, "there is no task 'task-0'"),
        ("trace task-0 -s store", FAILED, "there is no task 'task-0'"),
        ("trace task-0 task-1 -s store", USAGE, "task-1"),
    ],
)
def test_a_wrong_input_is_one_line_and_a_code(line, code, said, store, capsys):
    assert main(line.split()) == code
    shown = capsys.readouterr()
    assert shown.out == ""
    assert said in shown.err
    assert shown.err.startswith("swarm")
    hints = ("swarm: see `swarm --help`", "--salvage TARGET")
    told = [each for each in shown.err.splitlines() if not each.startswith(hints)]
    assert len(told) == 1


def test_the_url_of_a_store_is_read_and_the_store_left_as_it_was(capsys):
    """It was opened: made anew where there was none, and changed where one was."""

    async def fill() -> None:
        async with Swarm("shop", "sqlite:///shop.db") as swarm:
            await swarm.tasks.submit("work")

    asyncio.run(fill())
    before = Path("shop.db").read_bytes()
    assert main(["tasks", "list", "-s", "sqlite:///shop.db"]) == DONE
    assert "work" in capsys.readouterr().out
    assert Path("shop.db").read_bytes() == before


def test_an_empty_option_is_no_target(store, capsys):
    os.chdir("store")
    assert main(["top", "--once", "-s", ""]) == FAILED
    assert "no swarm is running here" in capsys.readouterr().err
