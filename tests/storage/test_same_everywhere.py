"""The same program gives the same results on every kind of storage."""

import asyncio
import itertools
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from swarm import Hybrid, Replicated, StateHandle, Swarm, SwarmError
from tests.support.redis_server import Server, find_server, running

KEYS = st.sampled_from(["shared.a", "shared.b", "shared.c.d"])
VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**63), 2**63 - 1),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(max_size=4),
    st.just([]),
    st.just({}),
    st.just({"x": [1, 1.0, True]}),
)


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
HOW = st.sampled_from(["plain", "absent", "version", "merge"])
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("set"), KEYS, VALUES, HOW),
        st.tuples(st.just("get"), KEYS),
        st.tuples(st.just("delete"), KEYS),
        st.tuples(st.just("increment"), KEYS, st.integers(-3, 3)),
        st.tuples(st.just("swap"), KEYS, VALUES, VALUES),
        st.tuples(st.just("many"), st.dictionaries(KEYS, VALUES, max_size=3)),
        st.tuples(st.just("drop"), st.lists(KEYS, max_size=3)),
        st.tuples(st.just("keys")),
        st.tuples(st.just("restart")),
    ),
    max_size=40,
)


async def play(storage: Any, steps: list[tuple[Any, ...]], *, restarts: bool) -> Any:
    """Return what each step returned, and the values at the end."""
    program = Program()
    told = []
    swarm = await Swarm.open("same", storage)
    for step in steps:
        if step[0] != "restart":
            told.append(await program.step(swarm.state, step))
        elif restarts:
            await swarm.close()
            swarm = await Swarm.open("same", storage)
    end = {path: value async for path, value in swarm.state.scan("shared.**")}
    await swarm.close()
    return told, end


PREFIXES = (f"same{n}" for n in itertools.count(1))


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    if find_server() is None:
        yield None
        return
    with running(tmp_path_factory.mktemp("redis")) as server:
        yield server


def storages(folder: Path, server: Server | None) -> dict[str, Any]:
    url = "" if server is None else server.url
    return {
        "redis": f"{url}?prefix={next(PREFIXES)}",
        "file": folder / "files",
        "sqlite": folder / "run.db",
        "hybrid": Hybrid(secondary=folder / "second"),
        "replicated": Replicated([folder / "a", folder / "b.db"], write_quorum=1),
    }


def check(
    folder: Path, server: Server | None, kind: str, steps: list[tuple[Any, ...]]
) -> None:
    if kind == "redis" and server is None:
        pytest.skip("there is no redis-server")

    async def program() -> None:
        want = await play("memory://", steps, restarts=False)
        told = await play(storages(folder, server)[kind], steps, restarts=True)
        assert repr(told) == repr(want)

    asyncio.run(program())


KINDS = ["file", "sqlite", "hybrid", "replicated", "redis"]


@pytest.mark.parametrize("kind", KINDS)
@settings(
    max_examples=25,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(steps=STEPS)
def test_every_store_gives_what_memory_gives(tmp_path_factory, server, kind, steps):
    check(tmp_path_factory.mktemp("same"), server, kind, steps)


@pytest.mark.slow
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("kind", KINDS)
@settings(
    max_examples=2_000,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(steps=STEPS)
def test_two_thousand_programs_give_the_same_everywhere(
    tmp_path_factory, server, kind, steps
):
    check(tmp_path_factory.mktemp("same"), server, kind, steps)
