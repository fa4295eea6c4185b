"""A value that nests too deep is refused by one clear error, wherever it is given."""

import asyncio
from typing import Any

import attrs
import pytest

from swarm import (
    Agent,
    Claim,
    InvalidPath,
    InvalidValue,
    Key,
    LimitExceeded,
    Pipeline,
    Restart,
    Stage,
    Swarm,
    TaskError,
    event,
    serves,
)
from swarm.model import shown, told
from tests.support.virtual_loop import virtual

REFUSED = (LimitExceeded, InvalidPath, InvalidValue, TypeError)


def deep_list() -> Any:
    value: Any = 1
    for _ in range(100_000):
        value = [value]
    return value


def deep_tuple() -> Any:
    value: Any = 1
    for _ in range(100_000):
        value = (value,)
    return value


def deep_dict() -> Any:
    value: Any = 1
    for _ in range(100_000):
        value = {"a": value}
    return value


DEEP = {"list": deep_list(), "tuple": deep_tuple(), "dict": deep_dict()}


@event("deep.event")
class DeepEvent:
    value: Any


@attrs.define
class Typed:
    value: Any


class Digger(Agent):
    async def dig(self, value: Any) -> Any:
        return value

    async def fail(self, value: Any) -> None:
        raise ValueError(value)

    @serves("dig")
    async def serve(self, claim: Claim) -> Any:
        return DEEP["list"]


FLOW = Pipeline("dig", [Stage("dig", Digger.dig)])


@pytest.mark.parametrize("kind", DEEP)
@pytest.mark.parametrize(
    "give",
    [
        lambda s, v: s.state.set("a", v),
        lambda s, v: s.state.set(Key("a", Typed), Typed(v)),
        lambda s, v: s.state.set(Key("a", str), v),
        lambda s, v: s.state.set("a", v, merge=True),
        lambda s, v: s.state.increment("a", v),
        lambda s, v: Key("a", Typed, default=Typed(v)),
        lambda s, v: s.events.publish(DeepEvent(v)),
        lambda s, v: s.events.publish(DeepEvent(1), key=v),
        lambda s, v: s.tasks.submit("a", v),
        lambda s, v: s.tasks.submit("a", {}, metadata={"a": v}),
        lambda s, v: s.tasks.submit("a", {}, metadata=[v]),
        lambda s, v: s.tasks.submit([v]),
        lambda s, v: s.pipelines.start(FLOW, v),
    ],
)
@virtual
async def test_what_nests_too_deep_is_refused(give, kind):
    """No RecursionError, and no crash of the encoder."""
    async with Swarm() as swarm:
        with pytest.raises(REFUSED):
            await give(swarm, DEEP[kind])


@virtual
async def test_a_deep_result_fails_its_task_and_a_deep_error_is_told():
    """The task's error says what is wrong; a failure that cannot be told is named."""
    async with Swarm(on_failure="log") as swarm:
        await swarm.spawn(Digger)
        task = await swarm.tasks.submit("dig", {}, max_retries=0)
        with pytest.raises(TaskError, match="nests too deep"):
            await task.result()
        ref = await swarm.spawn(Digger, name="ada", restart=Restart("permanent"))
        await ref.tell(Digger.fail, DEEP["list"])
        await asyncio.sleep(10)
        assert await ref.ask(Digger.dig, 1) == 1
        assert "cannot be shown" in str(swarm.agents.info("ada").error)
        assert "cannot be shown" in swarm.explain()
        assert "cannot be shown" in told(ValueError(DEEP["list"]))
        assert shown(DEEP["tuple"]) == "(((((...),),),),)"
        assert len(shown("x" * 1_000_000)) < 100
