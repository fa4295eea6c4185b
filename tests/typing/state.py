"""What type checkers infer for the state; checked by mypy and pyright, never run."""

from typing import Any, assert_type

import attrs

from swarm import Key, StateHandle, Versioned


@attrs.frozen
class Plan:
    """A typed value."""

    title: str


TITLE = Key("plan.title", str, default="")
PLAN = Key("plan.whole", Plan)
COUNT = Key("plan.count", int)


async def reading(state: StateHandle) -> None:
    """A key gives exactly its type; a path gives anything."""
    assert_type(await state.get(TITLE), str)
    assert_type(await state.get(TITLE, None), str | None)
    assert_type(await state.get(PLAN), Plan)
    assert_type(await state.get("plan.title"), Any)
    assert_type(await state.read(PLAN), Versioned[Plan] | None)


async def writing(state: StateHandle) -> None:
    """A value of another type is an error."""
    assert_type(await state.set(PLAN, Plan("bees")), Versioned[Plan])
    assert_type(await state.set("plan.title", "bees"), Versioned[Any])
    await state.set(PLAN, 5)  # type: ignore[misc]  # pyright: ignore[reportArgumentType, reportCallIssue]
    await state.set(PLAN, Plan("bees"), ttl="soon")  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType, reportCallIssue]
    await state.set("a", 1, resolve="best-wins")  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType, reportCallIssue]


async def keys_everywhere(state: StateHandle) -> None:
    """A key can stand wherever a path can."""
    assert_type(await state.increment(COUNT), int)
    assert_type(await state.compare_and_set(COUNT, 1, 2), bool)
    assert_type(await state.get_many([COUNT]), dict[Key[int], Any])
    assert_type(await state.get_many(["a", "b"]), dict[str, Any])
    assert_type(await state.set_many({COUNT: 1}), dict[Key[int], Versioned[Any]])
    assert_type(await state.set_many({"a": 1}), dict[str, Versioned[Any]])
    assert_type(await state.delete_many([COUNT]), int)
    assert_type(await state.update(COUNT, lambda n: n + 1), Versioned[int])
    assert_type(await state.update("a", lambda n: n + 1), Versioned[Any])
    await state.history(COUNT)
    state.watch(COUNT)
    async with state.transaction() as tx:
        assert_type(await tx.increment(COUNT), int)
        assert_type(await tx.update(TITLE, str.upper), str)
    await state.increment(TITLE)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    await state.update(COUNT, lambda _: "two")  # type: ignore[arg-type, return-value]  # pyright: ignore[reportArgumentType, reportCallIssue]
