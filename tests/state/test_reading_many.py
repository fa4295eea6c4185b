"""Reading many documents: pages, and turns of the loop for others."""

import asyncio

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from swarm.errors import InvalidPath
from swarm.model import Path
from swarm.ports import LoopBudget
from swarm.state import Policy
from tests.support.state import agent, make_world
from tests.support.strategies import few_patterns, few_values


async def everything(state, pattern, size):
    """All pages of this size, one after the other."""
    found, last = [], None
    while True:
        page = await state.keys(pattern, limit=size, after=last)
        found += page
        if len(page) < size:
            return found
        last = page[-1]


@settings(max_examples=60, deadline=None)
@given(
    st.dictionaries(st.sampled_from(["a", "b.a", "b.c", "c.a.b"]), few_values),
    few_patterns,
    st.integers(1, 4),
)
def test_pages_together_are_all_keys(documents, pattern, size):
    """None is left out, none comes twice."""
    from swarm.model._path import format_segments

    async def check():
        state = make_world().state
        for path, value in documents.items():
            await state.set(path, value)
        text = format_segments(pattern)
        whole = await state.keys(text)
        assert await everything(state, text, size) == whole
        assert whole == [str(p) for p in sorted(map(Path.parse, whole))]
        scanned = [(p, v) async for p, v in state.scan(text)]
        assert [p for p, _ in scanned] == whole
        pages = [p async for p, _ in state.scan(text, limit=2, after="b")]
        assert pages == [k for k in whole if Path.parse(k) > Path.parse("b")][:2]
        at = state.at(await state.revision())
        assert await at.keys(text, limit=2) == whole[:2]

    if pattern:
        asyncio.run(check())


async def test_places_inside_documents_match_where_the_pattern_reaches_further():
    state = make_world().state
    await state.set("t.a", {"s": 1, "l": [{"s": 2}]})
    await state.set("t.b.c", {"s": 3})
    assert await state.keys("t.**") == ["t.a", "t.b.c"]
    assert await state.keys("t.*.s") == ["t.a.s"]
    assert await state.keys("**.s") == ["t.a.l[0].s", "t.a.s", "t.b.c.s"]
    assert await state.keys("t.a.l[0].*") == ["t.a.l[0].s"]
    assert await state.keys("t") == []


async def test_a_namespace_that_is_a_document_lists_what_is_in_it():
    """It has no name of its own there."""
    state = make_world().state
    await state.set("plan", {"title": "Bees", "steps": [1, 2]})
    plan = state.namespace("plan")
    assert await plan.keys() == ["steps", "title"]
    assert [each async for each in plan.scan()] == [
        ("steps", [1, 2]),
        ("title", "Bees"),
    ]
    assert await plan.namespace("steps").keys() == ["[0]", "[1]"]


@pytest.mark.parametrize("wrong", [{"limit": -1}, {"limit": 1.5}, {"limit": True}])
async def test_a_limit_is_a_whole_number(wrong):
    state = make_world().state
    with pytest.raises((TypeError, ValueError), match="limit"):
        await state.keys(**wrong)
    with pytest.raises(InvalidPath):
        await state.keys(after="a..b")
    assert await state.keys(limit=0) == []


class Beat:
    """Counts how often another task got a turn, and the longest run without one."""

    def __init__(self, monkeypatch):
        self.turns = 0
        self.longest = 0
        spent = LoopBudget.turn

        async def turn(budget):
            self.longest = max(self.longest, -budget.left)
            await spent(budget)

        monkeypatch.setattr(LoopBudget, "turn", turn)

    async def run(self):
        while True:
            self.turns += 1
            await asyncio.sleep(0)


READINGS = {
    "keys": lambda s: s.keys(),
    "keys by an agent": lambda s: s.keys("*.*"),
    "scan": lambda s: drain(s.scan()),
    "get of a folder": lambda s: s.get("many"),
    "read of a folder": lambda s: s.read("many"),
    "get_many": lambda s: s.get_many([f"many.k{n}" for n in range(4_000)]),
    "gets": lambda s: again(lambda n: s.get(f"many.k{n}")),
    "sets": lambda s: again(lambda n: s.set(f"many.k{n}", n)),
    "increments": lambda s: again(lambda n: s.increment(f"many.k{n}")),
    "history of a folder": lambda s: s.history("many"),
}


async def drain(items):
    return [each async for each in items]


async def again(operation):
    for n in range(4_000):
        await operation(n)


@pytest.mark.parametrize("name", READINGS)
async def test_reading_and_writing_much_lets_others_run(name, monkeypatch):
    """A loop over direct operations, and one large operation, hold the loop briefly."""
    world = make_world(Policy.default())
    for n in range(4_000):
        await world.state.set(f"many.k{n}", n)
    state = world.state
    if name == "keys by an agent":
        state = world.as_(agent("ada"))
    beat = Beat(monkeypatch)
    other = asyncio.ensure_future(beat.run())
    await asyncio.sleep(0)
    begun = beat.turns
    await READINGS[name](state)
    other.cancel()
    assert beat.turns - begun >= 8
    assert beat.longest <= LoopBudget.FULL  # each turn came soon after it was due


async def test_what_is_read_meanwhile_is_of_one_revision():
    """Others write while a scan is under way; it shows what was there."""
    state = make_world().state
    for n in range(3_000):
        await state.set(f"k{n:04}", 0)
    going = asyncio.ensure_future(drain(state.scan()))
    await asyncio.sleep(0)
    for n in range(3_000):
        await state.set(f"k{n:04}", 1)
    await state.delete("k2999")
    await state.set("new", 1)
    assert await going == [(f"k{n:04}", 0) for n in range(3_000)]
