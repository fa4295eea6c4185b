import asyncio
import copy
import functools
import itertools

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from swarm.errors import InvalidValue, PathConflict
from swarm.model import ABSENT, DELETE, Path, canonical, dig
from swarm.state import Candidate
from swarm.state._inside import put_inside, take_inside
from swarm.state._merge import deep_merge, merge_patch
from swarm.state._resolvers import RESOLVERS, find_resolver
from tests.support.strategies import few_values

objects = st.dictionaries(st.sampled_from("abc"), few_values, max_size=3)
nulled = st.recursive(
    st.none() | st.integers(0, 2) | st.lists(st.integers(0, 2), max_size=2),
    lambda inner: st.dictionaries(st.sampled_from("abc"), inner, max_size=3),
    max_leaves=6,
)


def with_deletes(patch, marks):
    """The patch with DELETE at some of its keys."""
    if type(patch) is not dict:
        return patch
    return {
        key: DELETE if key in marks else with_deletes(value, marks)
        for key, value in patch.items()
    }


@given(few_values, few_values, st.sets(st.sampled_from("abc*"), max_size=2))
def test_merging_keeps_its_laws(base, patch, marks):
    """S8: an empty patch changes nothing, the same patch twice nothing more."""
    patch = with_deletes(patch, marks)
    before = copy.deepcopy(base), repr(patch)
    merged = deep_merge(base, patch)
    assert deep_merge(merged, patch) == merged
    assert (base, repr(patch)) == before
    if type(base) is dict:
        assert deep_merge(base, {}) == base
    if type(patch) is not dict:
        assert merged == patch
    assert "DELETE" not in repr(merged)


@given(few_values, objects, st.sets(st.sampled_from("abc"), max_size=1))
def test_every_place_of_a_merge_comes_from_one_side(base, patch, marks):
    """S8: mapping by mapping it recurses; everything else replaces, lists too."""
    patch = with_deletes(patch, marks)
    merged = deep_merge(base, patch)
    base = base if type(base) is dict else {}
    for key in {*base, *patch}:
        if patch.get(key) is DELETE:
            assert key not in merged
        elif key not in patch:
            assert merged[key] == base[key]
        elif type(patch[key]) is dict:
            assert merged[key] == deep_merge(base.get(key, ABSENT), patch[key])
        else:
            assert merged[key] == patch[key]


@given(objects, objects)
def test_a_merge_shares_no_mapping_with_the_base(base, patch):
    """S8: no aliasing."""
    merged = deep_merge(base, patch)
    merged["new"] = 1
    assert "new" not in base
    assert "new" not in patch


@pytest.mark.parametrize(
    ("base", "patch", "result"),
    [
        ({"a": "b"}, {"a": "c"}, {"a": "c"}),
        ({"a": "b"}, {"b": "c"}, {"a": "b", "b": "c"}),
        ({"a": "b"}, {"a": None}, {}),
        ({"a": "b", "b": "c"}, {"a": None}, {"b": "c"}),
        ({"a": ["b"]}, {"a": "c"}, {"a": "c"}),
        ({"a": "c"}, {"a": ["b"]}, {"a": ["b"]}),
        ({"a": {"b": "c"}}, {"a": {"b": "d", "c": None}}, {"a": {"b": "d"}}),
        ({"a": [{"b": "c"}]}, {"a": [1]}, {"a": [1]}),
        (["a", "b"], ["c", "d"], ["c", "d"]),
        ({"a": "b"}, ["c"], ["c"]),
        ({"a": "foo"}, None, None),
        ({"a": "foo"}, "bar", "bar"),
        ({"e": None}, {"a": 1}, {"e": None, "a": 1}),
        ([1, 2], {"a": "b", "c": None}, {"a": "b"}),
        ({}, {"a": {"bb": {"ccc": None}}}, {"a": {"bb": {}}}),
    ],
)
def test_a_merge_patch_does_what_the_rfc_lists(base, patch, result):
    """The whole table of RFC 7396, appendix A."""
    assert merge_patch(base, patch) == result


@given(nulled, nulled)
def test_a_merge_patch_twice_changes_nothing_more(base, patch):
    merged = merge_patch(base, patch)
    assert merge_patch(merged, patch) == merged


candidates = st.lists(
    st.builds(
        Candidate,
        value=few_values,
        revision=st.integers(1, 4),
        priority=st.integers(0, 3),
        author=st.sampled_from(["ada", "bo"]),
    ),
    min_size=1,
    max_size=4,
)


@given(candidates, st.sampled_from(sorted(RESOLVERS)), st.randoms())
def test_a_resolver_does_not_care_about_order_or_repetition(found, name, random):
    """S9: a function of a set; resolving a winner again changes nothing."""
    resolve = RESOLVERS[name]
    before = copy.deepcopy(found)
    result = canonical(resolve(found))
    shuffled = found * 2
    random.shuffle(shuffled)
    assert canonical(resolve(shuffled)) == result
    for each in found:
        assert canonical(resolve([each])) == canonical(resolve([each, each]))
    assert found == before


@given(candidates)
def test_each_winner_is_the_one_its_name_says(found):
    """S9: ties are broken totally, and never by a wall clock."""
    stamp = lambda c: (c.revision, c.author, canonical(c.value))  # noqa: E731
    assert RESOLVERS["last-write-wins"](found) == max(found, key=stamp).value
    assert RESOLVERS["first-write-wins"](found) == min(found, key=stamp).value
    winner = max(found, key=lambda c: (c.priority, *stamp(c)))
    assert RESOLVERS["higher-priority-wins"](found) == winner.value


@given(st.lists(few_values, min_size=2, max_size=4), st.data())
def test_merging_objects_in_groups_is_merging_them_at_once(written, data):
    """S9: associative over groups that follow one another."""
    merge = RESOLVERS["merge-objects"]

    def at(revision, value):
        return Candidate(value, revision, 1, "ada")

    whole = merge([at(n, value) for n, value in enumerate(written)])
    cut = data.draw(st.integers(1, len(written) - 1))
    left = merge([at(n, value) for n, value in enumerate(written[:cut])])
    right = merge([at(n, value) for n, value in enumerate(written[cut:])])
    assert canonical(merge([at(0, left), at(1, right)])) == canonical(whole)


@given(st.lists(objects, min_size=1, max_size=4))
def test_merging_objects_loses_no_key(written):
    merged = RESOLVERS["merge-objects"](
        [Candidate(value, n, 1, "ada") for n, value in enumerate(written)]
    )
    assert set(merged) == set(itertools.chain(*written))
    for key in merged:
        newest = [value[key] for value in written if key in value]
        if all(type(value) is not dict for value in newest):
            assert merged[key] == newest[-1]


@given(st.lists(st.lists(few_values, max_size=4), min_size=1, max_size=3))
def test_merging_arrays_is_an_ordered_union(written):
    """S9: not concatenation, which would not be idempotent."""
    merged = RESOLVERS["merge-arrays"](
        [Candidate(value, n, 1, "ada") for n, value in enumerate(written)]
    )
    first_seen = list(
        dict.fromkeys(canonical(item) for items in written for item in items)
    )
    assert [canonical(item) for item in merged] == first_seen


def test_merging_arrays_tells_json_values_apart():
    merged = RESOLVERS["merge-arrays"](
        [Candidate([1, True, "1"], 1, 1, "a"), Candidate([1.0, 1], 2, 1, "a")]
    )
    assert [(type(v), v) for v in merged] == [
        (int, 1),
        (bool, True),
        (str, "1"),
        (float, 1.0),
    ]
    assert (
        RESOLVERS["merge-arrays"]([Candidate([1], 1, 1, "a"), Candidate(5, 2, 1, "a")])
        == 5
    )


async def test_a_resolver_is_a_name_or_a_synchronous_function(state):
    async def later(found):
        return None

    class Later:
        async def __call__(self, found):
            return None

    with pytest.raises(ValueError, match="last-write-wins"):
        find_resolver("newest")
    await state.set("a", 1)
    for bad in (later, functools.partial(later), Later(), lambda found: later(found)):
        with pytest.raises(TypeError):
            await state.set("a", 2, resolve=bad)
    assert await state.get("a") == 1
    with pytest.raises(ZeroDivisionError):
        await state.set("a", 2, resolve=lambda found: 1 // 0)
    assert await state.set("a", 2, resolve=lambda found: [c.value for c in found])
    assert await state.get("a") == [1, 2]


async def test_resolving_to_what_stands_there_is_no_commit(state):
    """S9: first-write-wins leaves the first write, version and all."""
    first = await state.set("a", {"x": 1})
    kept = await state.set("a", {"x": 2}, resolve="first-write-wins")
    assert (kept.value, kept.version) == ({"x": 1}, first.version)
    assert await state.revision() == first.version


async def test_a_resolver_is_asked_only_when_two_met(state):
    """S2, S9: without a conflict there is nothing to resolve."""
    asked = []
    one = await state.set("a", [1], resolve=asked.append)
    two = await state.set("a", [2], expected_version=one, resolve=asked.append)
    assert asked == []
    three = await state.set("a", [3], expected_version=one, resolve="merge-arrays")
    assert three.value == [2, 3]
    assert three.version > two.version
    await state.set("d", {"x": {"p": 1}})
    made = await state.set("d.x", {"q": 2}, resolve="merge-objects")
    assert made.value == {"p": 1, "q": 2}
    assert await state.get("d") == {"x": {"p": 1, "q": 2}}


async def test_the_higher_priority_stays(state):
    from swarm.model import Priority

    await state.set("a", "high", priority=Priority.HIGH)
    for priority, winner in [
        (Priority.LOW, "high"),
        (Priority.NORMAL, "high"),
        (Priority.HIGH, Priority.HIGH.name),
        (Priority.CRITICAL, Priority.CRITICAL.name),
    ]:
        made = await state.set(
            "a", priority.name, priority=priority, resolve="higher-priority-wins"
        )
        assert made.value == winner


async def test_merging_through_the_state_checks_before_any_effect(state):
    """S8: cycles and depth are errors before the commit."""
    ring = {}
    ring["ring"] = ring
    await state.set("a", {"keep": 1, "drop": 2})
    with pytest.raises(InvalidValue):
        await state.set("a", ring, merge=True)
    with pytest.raises(InvalidValue):
        await state.set("a", [DELETE], merge=True)
    with pytest.raises(InvalidValue):
        await state.set("a", {"x": DELETE})
    assert await state.get("a") == {"keep": 1, "drop": 2}
    made = await state.set("a", {"drop": DELETE, "n": {"x": None}}, merge=True)
    assert made.value == {"keep": 1, "n": {"x": None}}
    made = await state.set("a", {"n": {"x": None, "y": 1}}, merge="rfc7396")
    assert made.value == {"keep": 1, "n": {"y": 1}}


steps = st.lists(st.sampled_from(["a", "b", 0, 1]), min_size=1, max_size=3)


@given(few_values, steps, few_values)
def test_putting_inside_is_assigning_there(value, rest, new):
    """The rest of the value stays; missing objects are made; else PathConflict."""
    rest = tuple(rest)
    place = Path.of("doc", *rest)
    before = canonical(value)
    mine = copy.deepcopy(value)
    try:
        made = put_inside(mine, rest, copy.deepcopy(new), place)
    except PathConflict:
        way = [dig(value, rest[:n]) for n in range(len(rest))]
        assert any(
            (type(step) is int and type(at) is not list)
            or (type(step) is str and type(at) is not dict and at is not ABSENT)
            or (type(at) is list and type(step) is int and step > len(at))
            for at, step in zip(way, rest, strict=True)
        )
        return
    assert canonical(dig(made, rest)) == canonical(new)
    if dig(value, rest) is not ABSENT:
        back = put_inside(made, rest, dig(orjson.loads(before), rest), place)
        assert canonical(back) == before
    else:
        assert take_inside(made, rest)
        assert dig(made, rest) is ABSENT


@given(few_values, steps)
def test_taking_inside_removes_exactly_that(value, rest):
    mine = copy.deepcopy(value)
    was = dig(value, tuple(rest))
    assert take_inside(mine, tuple(rest)) == (was is not ABSENT)
    if was is ABSENT:
        assert mine == value
    else:
        holder, left = dig(value, tuple(rest[:-1])), dig(mine, tuple(rest[:-1]))
        del holder[rest[-1]]
        assert left == holder


def test_the_support_runs_without_a_loop():
    with pytest.raises(RuntimeError):
        asyncio.get_running_loop()
