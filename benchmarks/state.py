"""State operations against a dict of orjson bytes.

Every operation goes through path, access check, commit, log and history; the agent
that acts is bound by the default policy.
"""

from collections.abc import Awaitable, Callable
from itertools import count
from typing import Any

import orjson
from row import Job, Row, timed

from swarm import Agent, StateHandle, Swarm

PATHS = 256
Value = dict[str, Any]
Work = Callable[[StateHandle, list[str], Value, int], Awaitable[None]]
Raw = Callable[[dict[str, bytes], list[str], Value, int], None]


class Keeper(Agent):
    """Has the rights of an agent."""


def value_of(size: int, *, null: bool = False) -> Value:
    """Return an object of about `size` bytes, like a task or a finding."""
    item = {"id": 12345, "title": "a middling title", "score": 0.25, "tags": ["x", "y"]}
    items = [dict(item, id=n) for n in range(max(1, size // 75))]
    whole: Value = {"status": "running", "owner": "ada", "items": items, "note": ""}
    whole["note"] = "n" * max(0, size - len(orjson.dumps(whole)))
    if null:
        whole["parent"] = None
    return whole


def touch(value: Value) -> Value:
    """Change a value as an update does."""
    value["status"] = "done"
    return value


# --- raw -----------------------------------------------------------------------------


def raw_set(store: dict[str, bytes], paths: list[str], value: Value, n: int) -> None:
    store[paths[n % PATHS]] = orjson.dumps(value)


def raw_get(store: dict[str, bytes], paths: list[str], value: Value, n: int) -> None:
    orjson.loads(store[paths[n % PATHS]])


def raw_update(store: dict[str, bytes], paths: list[str], value: Value, n: int) -> None:
    path = paths[n % PATHS]
    store[path] = orjson.dumps(touch(orjson.loads(store[path])))


def raw_swap(store: dict[str, bytes], paths: list[str], value: Value, n: int) -> None:
    one, two = paths[n % PATHS], paths[(n + 1) % PATHS]
    a, b = orjson.loads(store[one]), orjson.loads(store[two])
    store.update({one: orjson.dumps(b), two: orjson.dumps(a)})


def raw(operation: Raw, size: int, *, null: bool = False) -> Job:
    async def job(total: int) -> float:
        value = value_of(size, null=null)
        paths = [f"shared.bench{n % 16}.d{n}" for n in range(PATHS)]
        store = {path: orjson.dumps(value) for path in paths}

        async def work() -> None:
            for n in range(total):
                operation(store, paths, value, n)

        return await timed(work(), total)

    return job


# --- ours ----------------------------------------------------------------------------


async def sets(state: StateHandle, paths: list[str], value: Value, total: int) -> None:
    put = state.set
    for n in range(total):
        await put(paths[n % PATHS], value)


async def gets(state: StateHandle, paths: list[str], value: Value, total: int) -> None:
    get = state.get
    for n in range(total):
        await get(paths[n % PATHS])


async def updates(
    state: StateHandle, paths: list[str], value: Value, total: int
) -> None:
    update = state.update
    for n in range(total):
        await update(paths[n % PATHS], touch)


async def swaps(state: StateHandle, paths: list[str], value: Value, total: int) -> None:
    for n in range(total):
        one, two = paths[n % PATHS], paths[(n + 1) % PATHS]
        async with state.transaction() as tx:
            a, b = await tx.get(one), await tx.get(two)
            await tx.set(one, b)
            await tx.set(two, a)


def ours(operation: Work, size: int, *, null: bool = False, documents: int = 0) -> Job:
    async def job(total: int) -> float:
        value = value_of(size, null=null)
        paths = [f"shared.bench{n % 16}.d{n}" for n in range(PATHS)]
        keeper = Keeper()
        async with Swarm() as swarm:
            await swarm.spawn(lambda: keeper)
            state = keeper.swarm.state
            for start in range(0, documents, 1_000):
                many = range(start, start + 1_000)
                await state.set_many({f"shared.f{n % 997}.d{n}": n for n in many})
            for path in paths:
                await state.set(path, value)
            return await timed(operation(state, paths, value, total), total)

    return job


def many(*, how: str) -> Job:
    """Make 1,000 new documents at a time."""
    numbers = count()

    async def job(total: int) -> float:
        async with Swarm() as swarm:
            state = swarm.state

            async def work() -> None:
                for _ in range(max(1, total // 1_000)):
                    folder = f"shared.many{next(numbers)}"
                    values = {f"{folder}.d{n}": n for n in range(1_000)}
                    if how == "set_many":
                        await state.set_many(values)
                    elif how == "transaction":
                        async with state.transaction() as tx:
                            for path, value in values.items():
                                await tx.set(path, value)
                    else:
                        for path, value in values.items():
                            await state.set(path, value)

            return await timed(work(), max(total, 1_000))

    return job


def single(name: str, work: Work, plain: Raw, goals: tuple[float, float]) -> list[Row]:
    total = 20_000 if name in ("set", "get") else 5_000
    return [
        Row(f"{name} 200 B", ours(work, 200), raw(plain, 200), total, goals[0]),
        Row(f"{name} 5 KB", ours(work, 5_000), raw(plain, 5_000), total, goals[1]),
    ]


ROWS = [
    *single("set", sets, raw_set, (0.15, 0.6)),
    Row(
        "set 200 B with a null",
        ours(sets, 200, null=True),
        raw(raw_set, 200, null=True),
        20_000,
        0.14,
    ),
    Row(
        "set 5 KB with a null",
        ours(sets, 5_000, null=True),
        raw(raw_set, 5_000, null=True),
        20_000,
        0.55,
    ),
    *single("get", gets, raw_get, (0.6, 0.95)),
    *(
        Row(f"{name} {size:,} B", ours(work, size), raw(plain, size), 5_000)
        for name, work, plain in (
            ("update", updates, raw_update),
            ("transaction", swaps, raw_swap),
        )
        for size in (200, 5_000)
    ),
    Row(
        "set 200 B among 100,000 documents",
        ours(sets, 200, documents=100_000),
        raw(raw_set, 200),
        20_000,
        0.15,
        quick=False,
    ),
    Row(
        "set_many of 1,000, over one by one",
        many(how="set_many"),
        many(how="set"),
        5_000,
        1.0,
    ),
    Row(
        "transaction of 1,000, over one by one",
        many(how="transaction"),
        many(how="set"),
        5_000,
        1.0,
    ),
]
