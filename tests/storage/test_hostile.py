"""What somebody else may have written: damaged snapshots, markers, odd names.

Stores hold data only. Nothing in them is unpickled, evaluated or imported.
"""

import ast
import asyncio
import random
import sys
import time
import tracemalloc
from pathlib import Path
from typing import Any

import orjson
import pytest

from swarm import (
    LimitExceeded,
    NotFound,
    SchemaVersionError,
    StateCorruption,
    StorageFailed,
    Swarm,
    SwarmError,
    event,
)
from swarm.storage._file import FileJournal
from swarm.storage._records import decode_commit, decode_cut
from swarm.storage._sqlite import SqliteJournal
from tests.storage.test_journals import QuickDisk, contents, file_store

ROOT = Path(__file__).parents[2]
STORES = {"files": "file:{}/files", "run.db": "sqlite:///{}/run.db"}
each_store = pytest.mark.parametrize("name", STORES)

# --- the package itself ---------------------------------------------------------------

EVALUATES = {"eval", "exec", "compile", "__import__"}
IMPORTS = {"import_module", "run_module"}
UNPICKLES = {"pickle", "marshal", "shelve", "dill", "cloudpickle", "jsonpickle", "yaml"}

WORDS = EVALUATES | IMPORTS | UNPICKLES


def found_in(source: str) -> set[str]:
    """Return the words of a module that make more of data than data."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.Import(names=names):
                found |= {name.name.partition(".")[0] for name in names} & UNPICKLES
            case ast.ImportFrom(module=str(module)):
                found |= {module.partition(".")[0]} & UNPICKLES
            case ast.Call(func=ast.Name(id=called) | ast.Attribute(attr=called)):
                is_method = isinstance(node.func, ast.Attribute)
                found |= {called} & (IMPORTS if is_method else IMPORTS | EVALUATES)
    return found


ALLOWED = {
    "swarm/__init__.py": {"import_module"},  # these import names of their own
    "swarm/cli/_demo.py": {"import_module"},
    "swarm/model/_displayable.py": {"import_module"},
    "swarm/observability/dashboard/__init__.py": {"import_module"},
    "swarm/system/_views.py": {"import_module"},
    "swarm/testing/__init__.py": {"import_module"},
    "swarm/cli/_program.py": {"import_module"},  # the program of the command line
    "swarm/model/_payload.py": {"exec"},  # of the fields of an event's class
}


def test_the_package_unpickles_and_evaluates_nothing_that_is_stored():
    """X1."""
    found = {}
    for file in sorted((ROOT / "swarm").rglob("*.py")):
        source = file.read_text(encoding="utf-8")
        if any(word in source for word in WORDS) and (words := found_in(source)):
            found[str(file.relative_to(ROOT))] = words
    assert found == ALLOWED


def test_the_search_finds_what_it_is_for():
    assert found_in("import pickle.x\nfrom yaml import load") == {"pickle", "yaml"}
    assert found_in("eval(x)\nimportlib.import_module(y)") == {"eval", "import_module"}
    assert found_in("re.compile(x)\nimport os") == set()


# --- values that look like instructions -----------------------------------------------

MARKERS: list[dict[str, Any]] = [
    {"lc": 1, "type": "constructor", "id": ["antigravity", "fly"], "kwargs": {}},
    {"__type__": "antigravity.fly", "args": ["ls"]},
    {"$type": "antigravity.fly, antigravity"},
    {"py/object": "antigravity.Fly", "py/reduce": [{"py/type": "antigravity.fly"}]},
    {"__reduce__": ["antigravity.fly", ["ls"]], "__class__": "antigravity.Fly"},
    {"!!python/object/apply:antigravity.fly": ["ls"]},
    {"__fields__": ["a"], "_type": "attrs", "swarm": "DELETE", "ABSENT": None},
]


@event("hostile.said")
class Said:
    what: dict[str, Any]


@each_store
async def test_markers_come_back_as_the_data_that_they_are(tmp_path, name):
    """X2: from state, events, tasks and snapshots; nothing is imported for them."""
    url = STORES[name].format(tmp_path)
    async with Swarm("hostile", url) as swarm:
        for n, marker in enumerate(MARKERS):
            await swarm.state.set(f"shared.m{n}", marker)
            await swarm.events.publish(Said(marker))
            await swarm.tasks.submit("marked", marker, metadata=marker)
        snapshot = await swarm.snapshots.create("marked")
    async with Swarm("hostile", url) as swarm:
        await swarm.snapshots.restore(snapshot.id)
        for n, marker in enumerate(MARKERS):
            assert await swarm.state.get(f"shared.m{n}") == marker
        said = swarm.events.query(types=Said)
        assert [each.payload.what for each in said] == MARKERS
        tasks = sorted(swarm.tasks.find(kind="marked"), key=lambda t: t.created_at)
        assert [task.payload for task in tasks] == MARKERS
        assert [task.metadata for task in tasks] == MARKERS
    assert "antigravity" not in sys.modules


# --- names and patterns that look like queries ----------------------------------------

NAMES = [
    "a'; DROP TABLE entries; --",
    'b" OR "1"="1',
    "c%_[x]*?",
    "d\\.e",
    "../../etc/passwd",
    "f:g|h",
    "*",
    "**",
    "x" * 200,
    "ä\u2028\u200f",
    "KEYS[1]\r\nFLUSHALL\r\n",
]


@each_store
async def test_names_are_only_names(tmp_path, name):
    """X6: none matches more than itself, and all are there after a restart."""
    url = STORES[name].format(tmp_path)
    paths = {each: f"shared[{orjson.dumps(each).decode()}]" for each in NAMES}
    for turn in range(2):
        async with Swarm("hostile", url) as swarm:
            for n, each in enumerate(NAMES):
                if turn == 0:
                    await swarm.state.set(paths[each], n)
                assert await swarm.state.get(paths[each]) == n
                assert [v async for _, v in swarm.state.scan(paths[each])] == [n]
            everything = [v async for _, v in swarm.state.scan("shared.*")]
            assert sorted(everything) == list(range(len(NAMES)))
            (snapshot,) = [await swarm.snapshots.create("../../x")]
            assert ".." not in snapshot.id
            with pytest.raises((NotFound, ValueError)):
                await swarm.snapshots.restore("../../etc/passwd")
    assert {path.parent for path in tmp_path.rglob("*")} <= {
        tmp_path,
        tmp_path / "files",
    }


# --- damaged snapshots ----------------------------------------------------------------

BLOCKS = [b"block one", b"block two" * 9]


def with_snapshot(folder: Path) -> Path:
    """Make a small store with a named snapshot; return the snapshot's file."""
    journal = FileJournal(folder)
    journal.open()
    journal.save("one", BLOCKS)
    journal.close()
    (path,) = folder.glob("saved-*")
    return path


def test_a_snapshot_with_any_byte_or_length_changed_is_refused_untouched(tmp_path):
    """D5."""
    path = with_snapshot(tmp_path)
    whole = path.read_bytes()
    hurt = [whole + b"x", whole + whole, bytes(len(whole)), whole[::-1]]
    for at in range(len(whole)):
        hurt.append(whole[:at])
        for bit in (1, 0x10, 0xFF):
            hurt.append(whole[:at] + bytes([whole[at] ^ bit]) + whole[at + 1 :])
    journal = FileJournal(tmp_path, disk=QuickDisk())
    journal.open()
    for data in hurt:
        path.write_bytes(data)
        before = contents(tmp_path)
        with pytest.raises((StateCorruption, SchemaVersionError)):
            journal.load("one")
        assert contents(tmp_path) == before
    path.write_bytes(whole)
    assert list(journal.load("one")) == BLOCKS
    journal.close()


# --- files that were made to do harm --------------------------------------------------


def check_mutated(folder: Path, count: int, seed: int) -> None:
    """Open mutated stores: a typed error, in bounded time and memory, or the data."""
    chance = random.Random(seed)
    file_store(folder / "whole", clean=True)
    database = SqliteJournal(folder / "whole.db")
    database.open()
    database.save("one", BLOCKS)
    database.close()
    files = contents(folder / "whole")
    whole_db = (folder / "whole.db").read_bytes()
    place = folder / "hurt"
    place.mkdir()
    for _ in range(count):
        for each in place.iterdir():
            each.unlink()
        if chance.random() < 0.7:
            hurt = dict(files)
            name = chance.choice(sorted(files))
            hurt[name] = mutated(files[name], chance)
            journal = FileJournal(place, disk=QuickDisk())
        else:
            name = "hurt.db"
            hurt = {name: mutated(whole_db, chance)}
            journal = SqliteJournal(place / name)
        for each, data in hurt.items():
            (place / each).write_bytes(data)
        began = time.process_time()
        tracemalloc.start()
        try:
            journal.open()
            for saved in journal.saved():
                journal.load(saved)
        except (StateCorruption, SchemaVersionError, StorageFailed):
            assert (place / name).read_bytes() == hurt[name]
        finally:
            peak = tracemalloc.get_traced_memory()[1]
            tracemalloc.stop()
            journal.close()
        assert peak < 2 * len(hurt[name]) + 64 * 1024 * 1024
        assert time.process_time() - began < 5


def mutated(data: bytes, chance: random.Random) -> bytes:
    """Change, cut, repeat or grow some bytes; also what says how long a part is."""
    found = bytearray(data)
    for _ in range(chance.choice([1, 1, 2, 8])):
        at = chance.randrange(len(found) + 1)
        length = chance.choice([1, 4, 8, 100])
        match chance.randrange(5):
            case 0:
                found[at : at + length] = chance.randbytes(length)
            case 1:
                del found[at : at + length]
            case 2:
                found[at:at] = found[chance.randrange(len(found) + 1) :][:length]
            case 3:
                found[at : at + length] = b"\xff" * length
            case _:
                found[at:at] = bytes(length)
    return bytes(found)


def test_mutated_stores_are_typed_errors_or_data(tmp_path):
    """X3."""
    check_mutated(tmp_path, count=400, seed=1)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_hundred_thousand_mutated_stores_are_typed_errors_or_data(tmp_path):
    """X3."""
    check_mutated(tmp_path, count=100_000, seed=2)


HEAD = b'{"r":1,"t":2,"a":["a","b","c","d"],"d":[["x",1,1,null,'


@pytest.mark.parametrize(
    "body",
    [
        b"[" * 100_000 + b"]" * 100_000,
        b'{"a":' * 100_000,
        b"NaN",
        b"1" * 100_000,
        b'"\xed\xa0\x80"',
        b'"' + b"x" * 100,
        b"-",
    ],
)
def test_a_hostile_body_in_a_record_is_refused(body):
    """X4: bombs of depth and numbers, half characters, what is no JSON."""
    with pytest.raises(StateCorruption):
        decode_commit(HEAD + body + b"]]}")
    with pytest.raises(StateCorruption):
        decode_cut([b"{}", body], "hostile")


@pytest.mark.parametrize(
    "value",
    [
        float("nan"),
        float("inf"),
        2**64,
        -(2**63) - 1,
        "\ud800",
        {"a": "x" * (16 * 2**20)},
        {1: 2},
        b"bytes",
    ],
)
async def test_what_could_not_be_kept_is_refused_before_anything_is_made_of_it(value):
    """X4."""
    async with Swarm() as swarm:
        before = swarm._coordinator.kernel.revision
        with pytest.raises((ValueError, TypeError, LimitExceeded)):
            await swarm.state.set("shared.x", value)
        assert swarm._coordinator.kernel.revision == before
        await swarm.state.set("shared.x", 1)


async def test_a_cancelled_write_is_whole_or_not_there(tmp_path):
    """D14: at any turn, and those of others are made."""
    async with Swarm("cancelled", tmp_path / "x") as swarm:
        for turns in range(12):
            await swarm.state.set_many({"shared.a": 0, "shared.b": 0})
            one = asyncio.ensure_future(
                swarm.state.set_many({"shared.a": 1, "shared.b": 1})
            )
            other = asyncio.ensure_future(swarm.state.set("shared.c", turns))
            for _ in range(turns):
                await asyncio.sleep(0)
            one.cancel()
            (ended,) = await asyncio.gather(one, return_exceptions=True)
            await other
            a, b, c = [await swarm.state.get(f"shared.{x}") for x in "abc"]
            assert (a, c) == (b, turns)
            assert a == 1 or isinstance(ended, asyncio.CancelledError)
            assert not isinstance(ended, SwarmError)
    async with Swarm("cancelled", tmp_path / "x") as again:
        assert await again.state.get("shared.a") == a
