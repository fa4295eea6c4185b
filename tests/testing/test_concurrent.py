"""Declared operations and a model are enough to find a race."""

import asyncio

import hypothesis.strategies as st
import pytest
from hypothesis import Phase, settings

from swarm.testing import (
    EMPTY,
    LinearizabilityError,
    LockModel,
    QueueModel,
    RegisterModel,
    StuckError,
    check_concurrent,
)

QUICK = settings(
    max_examples=40,
    deadline=None,
    database=None,
    derandomize=True,
    report_multiple_bugs=False,
    phases=(Phase.generate, Phase.shrink),
)
VALUES = st.integers(0, 2)
OPS = {"read": (), "write": (VALUES,), "cas": (VALUES, VALUES)}


class Store:
    """A register whose compare-and-set is atomic only when it is guarded."""

    guarded = True

    def __init__(self):
        self.value = 0
        self.guard = asyncio.Lock()

    async def read(self):
        await asyncio.sleep(0)
        return self.value

    async def write(self, value):
        async with self.guard:
            self.value = value

    async def cas(self, old, new):
        if self.guarded:
            async with self.guard:
                return await self._swap(old, new)
        return await self._swap(old, new)

    async def _swap(self, old, new):
        if self.value != old:
            return False
        await asyncio.sleep(0)
        self.value = new
        return True


class TornStore(Store):
    guarded = False


def test_a_torn_compare_and_set_is_found_and_made_small():
    with pytest.raises(LinearizabilityError) as info:
        check_concurrent(TornStore, OPS, RegisterModel(0), settings=QUICK)
    history = str(info.value).split("history:\n")[1].splitlines()
    assert len(history) <= 6
    assert any("cas" in line for line in history)
    assert any("was slow" in note for note in info.value.__notes__)
    assert not any("replay(" in note for note in info.value.__notes__)


def test_a_guarded_compare_and_set_passes():
    check_concurrent(Store, OPS, RegisterModel(0), settings=QUICK)


def test_the_object_may_be_built_by_a_coroutine():
    async def make():
        await asyncio.sleep(1)
        return Store()

    check_concurrent(make, OPS, RegisterModel(0), settings=QUICK)


class Box:
    def __init__(self):
        self.lock = asyncio.Lock()
        self.items = asyncio.Queue()

    async def acquire(self):
        return await self.lock.acquire()

    async def take(self):
        return self.items.get_nowait()

    async def put(self, item):
        self.items.put_nowait(item)


def test_a_call_that_waits_for_ever_is_a_deadlock_unless_allowed():
    def check(**options):
        async def call(box, _, args):
            return await box.acquire()

        check_concurrent(
            Box, {"acquire": ()}, LockModel(), call=call, settings=QUICK, **options
        )

    with pytest.raises(StuckError):
        check()
    check(may_block=True)


def test_exceptions_can_be_answers_or_mean_that_nothing_happened():
    async def call(box, op, args):
        return await (box.take() if op == "get" else box.put(*args))

    ops = {"get": (), "put": (VALUES,)}
    for options in (
        {"answers": {asyncio.QueueEmpty: EMPTY}},
        {"failures": (asyncio.QueueEmpty,)},
    ):
        check_concurrent(Box, ops, QueueModel(), call=call, settings=QUICK, **options)
