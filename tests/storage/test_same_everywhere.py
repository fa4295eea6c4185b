"""The same program gives the same results and log on every kind of storage (D12).

In between a store is closed and opened again, or left as a killed process leaves it.
"""

import asyncio
import itertools
import shutil
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import attrs
import orjson
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from swarm import Hybrid, Replicated, StateHandle, Swarm, SwarmError
from swarm.kernel import _local, _tree
from swarm.model import Commit
from swarm.model import Path as TreePath
from swarm.ports import Plan
from swarm.state import _rules, _writing
from swarm.storage import _kernel, _records
from tests.support.clock import FakeClock
from tests.support.redis_server import Server, find_server, running

KEYS = ["shared.a", "shared.c.d", 'shared["c.d"]']
ALIKE = st.sampled_from([None, False, 0, True, 1, 1.0, [], {}])
"""Values that a store may take for one another, and few, so that they meet."""

WIDE = st.one_of(
    st.integers(-(2**63), 2**63 - 1),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(max_size=4),
    st.just({"x": [1, 1.0, True]}),
)
VALUES = ALIKE | WIDE


class Program:
    """One operation after the other on a state handle, with what each returned.

    Versions differ between stores, so each is told as the number of the operation
    that wrote it.
    """

    def __init__(self) -> None:
        self.versions: dict[int, int] = {}
        self.count = 0

    def version(self, number: int) -> int:
        return next((v for v, n in self.versions.items() if n == number), 10**18)

    async def step(self, state: StateHandle, step: tuple[Any, ...]) -> Any:
        name, *given = step
        self.count += 1
        try:
            return await OPERATIONS[name](self, state, *given)
        except (SwarmError, TypeError) as error:
            return type(error).__name__

    async def set(self, state: StateHandle, key: str, value: Any, how: str) -> Any:
        options: dict[str, Any] = {}
        if how == "absent":
            options["if_absent"] = True
        elif how == "version":
            options["expected_version"] = self.version(self.count - 3)
        elif how == "merge":
            options["merge"] = True
        elif how == "ttl":
            options["ttl"] = 5
        written = await state.set(key, value, **options)
        self.versions[written.version] = self.count
        return written.value

    async def get(self, state: StateHandle, key: str) -> Any:
        return await state.get(key, "absent")

    async def delete(self, state: StateHandle, key: str) -> Any:
        return await state.delete(key)

    async def increment(self, state: StateHandle, key: str, by: int) -> Any:
        return await state.increment(key, by)

    async def swap(self, state: StateHandle, key: str, old: Any, new: Any) -> Any:
        return await state.compare_and_set(key, old, new)

    async def many(self, state: StateHandle, values: dict[str, Any]) -> Any:
        return sorted(await state.set_many(values))

    async def drop(self, state: StateHandle, keys: list[str]) -> Any:
        return await state.delete_many(keys)

    async def keys(self, state: StateHandle) -> Any:
        return sorted([key async for key, _ in state.scan("shared.**")])


Operation = Callable[..., Awaitable[Any]]
OPERATIONS: dict[str, Operation] = {
    "set": Program.set,
    "get": Program.get,
    "delete": Program.delete,
    "increment": Program.increment,
    "swap": Program.swap,
    "many": Program.many,
    "drop": Program.drop,
    "keys": Program.keys,
}


@st.composite
def programs(draw: Any, how: list[str], *others: st.SearchStrategy[Any]) -> Any:
    """Draw 40 operations on one key, or two or three."""
    keys = st.sampled_from(KEYS[: draw(st.integers(1, 3))])
    writes = st.one_of(
        st.tuples(st.just("set"), keys, VALUES, st.sampled_from(how)),
        st.tuples(st.just("increment"), keys, st.integers(-3, 3)),
        st.tuples(st.just("swap"), keys, ALIKE, VALUES),
    )
    operations = st.one_of(
        writes,
        writes,
        writes,
        st.tuples(st.just("get"), keys),
        st.tuples(st.just("delete"), keys),
        st.tuples(st.just("many"), st.dictionaries(keys, VALUES, max_size=3)),
        st.tuples(st.just("drop"), st.lists(keys, max_size=3)),
        st.tuples(st.sampled_from(["keys", "keys", "restart", "kill"])),
        *others,
    )
    # Without a least size, Hypothesis draws five of them on average.
    return draw(st.lists(operations, min_size=40, max_size=40))


HOW = ["plain", "absent", "version", "merge"]
STEPS = programs(HOW)
TIMED_STEPS = programs(
    [*HOW, "ttl", "ttl"], st.tuples(st.just("wait"), st.sampled_from([4, 6]))
)
"""A server has a clock of its own, which a test cannot move."""


class World:
    """Where a program runs: a storage, and what closing and killing mean there."""

    def __init__(self) -> None:
        self.clock: Any = FakeClock()

    async def open(self) -> Swarm:
        return await Swarm.open("same", "memory://", clock=self.clock)

    async def restart(self, swarm: Swarm) -> Swarm:
        return swarm

    async def kill(self, swarm: Swarm) -> Swarm:
        return swarm

    async def end(self) -> None:
        """Close what was left open."""


class Stored(World):
    """A store in a folder. What a process leaves that is killed are its files."""

    def __init__(self, folder: Path, kind: str) -> None:
        super().__init__()
        self.folder, self.kind = folder, kind
        self.folders = itertools.count(1)
        self.here = folder / "0"
        self.here.mkdir()

    async def open(self) -> Swarm:
        here = self.here
        storage: Any = {
            "file": here / "files",
            "sqlite": here / "run.db",
            "hybrid": Hybrid(secondary=here / "second"),
            "replicated": Replicated([here / "a", here / "b.db"], write_quorum=1),
        }[self.kind]
        return await Swarm.open("same", storage, clock=self.clock)

    async def restart(self, swarm: Swarm) -> Swarm:
        await swarm.close()
        return await self.open()

    async def kill(self, swarm: Swarm) -> Swarm:
        if self.kind in ("hybrid", "replicated"):  # what nobody has waited for
            await swarm.flush()
        there = self.folder / str(next(self.folders))
        shutil.copytree(self.here, there)
        await swarm.close()
        self.here = there
        return await self.open()


class Served(World):
    """A server. What a process leaves that is killed is a process that says nothing."""

    def __init__(self, url: str) -> None:
        super().__init__()
        self.url = url
        self.left: list[Swarm] = []

    async def open(self) -> Swarm:
        return await Swarm.open("same", self.url)

    async def restart(self, swarm: Swarm) -> Swarm:
        await swarm.close()
        return await self.open()

    async def kill(self, swarm: Swarm) -> Swarm:
        self.left.append(swarm)
        return await self.open()

    async def end(self) -> None:
        for swarm in self.left:
            await swarm.close()


async def play(world: World, steps: list[tuple[Any, ...]]) -> Any:
    """Return what each step returned, the values at the end, and the log."""
    program = Program()
    told = []
    swarm = await world.open()
    for step in steps:
        if step[0] == "restart":
            swarm = await world.restart(swarm)
        elif step[0] == "kill":
            swarm = await world.kill(swarm)
        elif step[0] == "wait":
            world.clock.advance(step[1])
            await swarm.flush()  # of what has ended
        else:
            told.append(await program.step(swarm.state, step))
    end = {path: value async for path, value in swarm.state.scan("shared.**")}
    log = await changes(swarm, program.versions)
    await swarm.close()
    await world.end()
    return told, end, log


async def changes(swarm: Swarm, written: dict[int, int]) -> list[tuple[Any, ...]]:
    """Return the whole log of the program, with its versions as they are told."""
    await swarm.state.set("shared.end", True)
    found = []
    async with swarm.state.watch("shared.**", since=0) as log:
        async for change in log:
            if change.path == "shared.end":
                return found
            versions = (written.get(change.old_version), written.get(change.revision))
            values = (change.old_value, change.value)
            found.append((change.path, change.kind, versions, values))
    raise AssertionError("the log has ended")


PREFIXES = (f"same{n}" for n in itertools.count(1))


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    if find_server() is None:
        yield None
        return
    with running(tmp_path_factory.mktemp("redis")) as server:
        yield server


def check(world: World, steps: list[tuple[Any, ...]], mutant: Any = None) -> None:
    async def program() -> None:
        want = await play(World(), steps)
        with pytest.MonkeyPatch.context() as patch:
            if mutant is not None:
                mutant(patch)
            told = await play(world, steps)
        assert repr(told) == repr(want)

    asyncio.run(program())


def check_server(server: Server | None, steps: list[tuple[Any, ...]]) -> None:
    if server is None:
        pytest.skip("there is no redis-server")
    check(Served(f"{server.url}?prefix={next(PREFIXES)}"), steps)


KINDS = ["file", "sqlite", "hybrid", "replicated"]
some = settings(
    max_examples=10,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
many = settings(some, max_examples=2_000)


@pytest.mark.parametrize("kind", KINDS)
@some
@given(steps=TIMED_STEPS)
def test_every_store_gives_what_memory_gives(tmp_path_factory, kind, steps):
    """D12."""
    check(Stored(tmp_path_factory.mktemp("same"), kind), steps)


@some
@given(steps=STEPS)
def test_a_server_gives_what_memory_gives(server, steps):
    """D12."""
    check_server(server, steps)


@pytest.mark.slow
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("kind", KINDS)
@many
@given(steps=TIMED_STEPS)
def test_two_thousand_programs_give_the_same_everywhere(tmp_path_factory, kind, steps):
    check(Stored(tmp_path_factory.mktemp("same"), kind), steps)


@pytest.mark.slow
@pytest.mark.timeout(7200)
@many
@given(steps=STEPS)
def test_two_thousand_programs_give_the_same_on_a_server(server, steps):
    check_server(server, steps)


# --- wrong stores ---------------------------------------------------------------------


def compares_as_python(patch):
    """1, 1.0 and True are one value."""
    patch.setattr(_rules, "_is_same", lambda one, other: one == other)


def keeps_the_end_of_what_was_there(patch):
    def with_end(document):
        old = None if document is None else document.previous
        if old is not None and document.expires is None and not document.is_deleted:
            document.expires = old.expires
        return document

    def put(versions, *arguments):
        return with_end(original_put(versions, *arguments))

    def commit_one(tree, *arguments):
        return with_end(original_commit(tree, *arguments))

    original_put = _tree.Versions.put
    original_commit = _local.LocalTree._commit_one
    patch.setattr(_tree.Versions, "put", put)
    patch.setattr(_local.LocalTree, "_commit_one", commit_one)


def writes_again_what_is_not_swapped(patch):
    def plan(view, path, old, new, codec):
        plan, there = original(view, path, old, new, codec), view.find(path)
        if plan.outcome or there is None or there.path != path:
            return plan
        again = original(view, path, there.value, there.value, codec)
        return Plan(again.writes, outcome=False)

    original = _rules.plan_compare_and_set
    patch.setattr(_writing, "plan_compare_and_set", plan)


def read_otherwise(change):
    """Return a mutant that reads each document of a store with a change."""

    def decode(lines):
        found = []
        for each in _records.decode_entries(lines):
            if isinstance(each, Commit):
                each.documents = tuple(map(change, each.documents))
            found.append(each if isinstance(each, Commit) else change(each))
        return found

    return lambda patch: patch.setattr(_kernel, "decode_entries", decode)


def through_doubles(document):
    if document.body is not None and isinstance(document.value, int):
        number = int(float(document.value))
        return attrs.evolve(document, body=orjson.dumps(min(number, 2**63 - 1)))
    return document


def without_quotes(document):
    text = document.path.text.replace('["', ".").replace('"]', "")
    return attrs.evolve(document, path=TreePath.parse(text))


WRONG = {
    "compares as Python": compares_as_python,
    "keeps the end of what was there": keeps_the_end_of_what_was_there,
    "writes again what is not swapped": writes_again_what_is_not_swapped,
    "reads numbers as doubles": read_otherwise(through_doubles),
    "reads paths without their quotes": read_otherwise(without_quotes),
    "forgets when a document ends": read_otherwise(
        lambda document: attrs.evolve(document, expires=None)
    ),
    "numbers versions anew": read_otherwise(
        lambda document: attrs.evolve(document, version=document.version + 1)
    ),
    "forgets when a document was made": read_otherwise(
        lambda document: attrs.evolve(document, created=document.version)
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_store_is_caught(tmp_path_factory, name):
    """D4: within the number of programs that a good one has to pass."""

    @settings(many, derandomize=True, database=None, phases=[Phase.generate])
    @given(steps=TIMED_STEPS)
    def programs(steps):
        folder = tmp_path_factory.mktemp("wrong")
        check(Stored(folder, "file"), steps, WRONG[name])

    with pytest.raises((AssertionError, SwarmError, ExceptionGroup)):
        programs()
