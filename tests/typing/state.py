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
