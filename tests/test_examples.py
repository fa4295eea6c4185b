"""Every example runs and says what it says it says, on every storage."""

import re
import runpy
from pathlib import Path

import pytest

from swarm import Swarm
from tests.support.redis_server import find_server, running

MARK = "# > "
EXAMPLES = sorted(Path("examples").glob("[0-9]*.py"))


def promised_by(example: Path) -> list[str]:
    lines = example.read_text(encoding="utf-8").splitlines()
    promised = [line.removeprefix(MARK) for line in lines if line.startswith(MARK)]
    assert promised
    return promised


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_prints_what_it_promises(example, capsys):
    runpy.run_path(str(example), run_name="__main__")
    assert capsys.readouterr().out.splitlines() == promised_by(example)


def opens_memory(example: Path) -> bool:
    text = example.read_text(encoding="utf-8")
    return "async with Swarm() as swarm" in text and "swarm.testing" not in text


def bare(line: str) -> str:
    """Return a line without what depends on who comes first, as on a real store."""
    return re.sub(r"\d+", "#", re.sub(r"-p[0-9a-z]+-(\d)", r"-\1", line))


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    if find_server() is None:
        yield None
        return
    with running(tmp_path_factory.mktemp("redis")) as server:
        yield server


@pytest.mark.parametrize("storage", ["file", "sqlite", "redis"])
@pytest.mark.parametrize(
    "example", list(filter(opens_memory, EXAMPLES)), ids=lambda path: path.stem
)
def test_an_example_prints_the_same_on_every_storage(
    example, storage, server, tmp_path, monkeypatch, capsys
):
    if storage == "redis" and server is None:
        pytest.skip("there is no redis-server")
    urls = {
        "file": f"file:{tmp_path}/store",
        "sqlite": f"sqlite:///{tmp_path}/store.db",
        "redis": "" if server is None else server.url,
    }
    # What `Swarm()` stands for when nothing is said.
    defaults = (example.stem, urls[storage])
    monkeypatch.setattr(Swarm.__init__, "__defaults__", defaults)
    runpy.run_path(str(example), run_name="__main__")
    printed = capsys.readouterr().out.splitlines()
    assert sorted(map(bare, printed)) == sorted(map(bare, promised_by(example)))
