import itertools

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from swarm.errors import InvalidPath, LimitExceeded
from swarm.model import (
    ANY_NUMBER,
    ONE,
    ROOT,
    Path,
    Pattern,
    match,
    parse_paths,
    sort_key,
)
from swarm.model._path import format_segments
from tests.support.strategies import names, paths, pattern_segments, segments


@given(paths)
def test_formatting_and_parsing_a_path_goes_round(parts):
    """S14: equal paths have equal texts, different ones different texts."""
    path = Path.of(*parts)
    again = Path.parse(path.text)
    assert again.segments == tuple(parts)
    assert again == path
    assert hash(again) == hash(path)
    assert str(again) == path.text
    assert Path.parse(again.text).text == path.text


@given(st.lists(paths.map(lambda parts: Path.of(*parts).text)))
def test_many_paths_are_parsed_as_each_by_itself(texts):
    found = parse_paths(texts)
    assert found == [Path.parse(text) for text in texts]
    assert [path.segments for path in found] == [Path.parse(t).segments for t in texts]
    assert list(map(hash, found)) == [hash(Path.parse(text)) for text in texts]


@pytest.mark.parametrize("bad", ["", "a.", ".a", "a..b", "a b", "*", "a[", "a\n"])
def test_one_text_among_many_that_is_no_path_is_refused(bad):
    with pytest.raises(InvalidPath):
        parse_paths(["a.b", bad, "a.c"])


@given(paths, paths)
def test_the_text_of_a_path_is_injective(one, other):
    """S14: `"a:b" + "c"` is not `"a" + "b:c"`, whatever the separators are."""
    same = [(type(s), s) for s in one] == [(type(s), s) for s in other]
    assert (Path.of(*one).text == Path.of(*other).text) == same


@given(st.lists(pattern_segments, min_size=1, max_size=5))
def test_formatting_and_parsing_a_pattern_goes_round(parts):
    """A quoted star is a name; a bare one is a wildcard."""
    text = format_segments(parts)
    pattern = Pattern.parse(text)
    assert pattern.segments == tuple(parts)
    assert pattern.text == text
    assert pattern == Pattern.parse(pattern.text)


@given(st.text(max_size=12) | st.text(alphabet='ab.*[]"\\0 ', max_size=12))
@example("a[01]")
@example("a[")
@example('a["')
@example('["\\ud800"]')
@example("a[" + "9" * 5000 + "]")
@example("a[²]")
@example(f"a[{2**63}]")
@example("a\ud800")
@example('a["\ud800"]')
@example("a[-1]")
@example("a[]")
@example('a["b"]c')
@example("a.[0]")
def test_any_text_is_a_path_or_refused_by_name(text):
    """Unknown path syntax gives one clear typed error, never another one."""
    try:
        path = Path.parse(text)
    except (InvalidPath, LimitExceeded):
        pass
    else:
        assert Path.parse(path.text).segments == path.segments
    try:
        pattern = Pattern.parse(text)
    except (InvalidPath, LimitExceeded):
        pass
    else:
        assert Pattern.parse(pattern.text).segments == pattern.segments


@pytest.mark.parametrize(
    "bad",
    ["", ".", "a.", ".a", "a..b", "a b", "a.'b'", "*", "a.**", "a]", '[""]', "a*"],
)
def test_this_is_no_path(bad):
    with pytest.raises(InvalidPath):
        Path.parse(bad)


@pytest.mark.parametrize(
    "bad",
    [
        (),
        ("",),
        (-1,),
        (2**63,),
        (10**5000,),
        (1.0,),
        (True,),
        (None,),
        ("a\ud800",),
        (b"a",),
        (ONE,),
    ],
)
def test_this_is_no_segment(bad):
    if bad == ():
        assert Path.of() == ROOT
        return
    with pytest.raises(InvalidPath):
        Path.of(*bad)


@pytest.mark.parametrize("bad", [None, 5, b"a", Path.of("a")])
def test_only_text_is_parsed(bad):
    with pytest.raises(InvalidPath):
        Path.parse(bad)
    with pytest.raises(InvalidPath):
        Pattern.parse(bad)


def test_paths_and_patterns_have_a_length():
    """Section 8: 512 bytes, 256 characters."""
    Path.parse("a" * 512)
    Path.of("é" * 256)
    Pattern.parse("a" * 256)
    with pytest.raises(LimitExceeded, match="512"):
        Path.parse("a" * 513)
    with pytest.raises(LimitExceeded, match="512"):
        Path.of("é" * 257)
    with pytest.raises(LimitExceeded, match="512"):
        Path.parse("a" * 300).child("b" * 300)
    with pytest.raises(LimitExceeded, match="256"):
        Pattern.parse("a" * 257)


@given(paths, paths)
def test_a_path_lies_within_every_folder_above_it(one, other):
    whole = Path.of(*one) / Path.of(*other)
    assert whole == Path.of(*one).child(*other)
    assert whole.within(Path.of(*one))
    assert whole.within(ROOT)
    assert whole.relative_to(Path.of(*one)) == Path.of(*other)
    assert whole.parent == Path.of(*one, *other[:-1])
    assert whole.name == other[-1]
    assert not Path.of(*one).within(whole)


@given(st.lists(paths, max_size=6))
def test_paths_sort_segment_by_segment_names_before_indexes(many):
    found = sorted(Path.of(*parts) for parts in many)
    assert found == sorted(found, key=sort_key)
    for one, two in itertools.pairwise(found):
        for a, b in zip(one.segments, two.segments, strict=False):
            if (type(a), a) != (type(b), b):
                assert (type(a) is int, a) < (type(b) is int, b)
                break
        else:
            assert len(one.segments) <= len(two.segments)


def brute(pattern, path):
    """Match by trying everything."""
    if not pattern:
        return not path
    if pattern[0] is ANY_NUMBER:
        return any(brute(pattern[1:], path[n:]) for n in range(len(path) + 1))
    if not path:
        return False
    here = pattern[0] is ONE or (
        type(pattern[0]) is type(path[0]) and pattern[0] == path[0]
    )
    return here and brute(pattern[1:], path[1:])


few = st.sampled_from(["a", "b", "*", "**", 0, 1, "0"])
few_pattern = st.one_of(few, st.just(ONE), st.just(ANY_NUMBER))


@settings(max_examples=300)
@given(st.lists(few_pattern, min_size=1, max_size=6), st.lists(few, max_size=6))
def test_matching_agrees_with_trying_everything(pattern, path):
    """Against a matcher that backtracks in the open."""
    assert match(pattern, path) == brute(pattern, path)
    if path:
        made = Pattern.parse(format_segments(pattern))
        place = Path.of(*path)
        assert made.matches(place) == brute(pattern, path)
        assert made.covers(place) == any(
            brute(pattern, path[:n]) for n in range(1, len(path) + 1)
        )
        assert not made.matches(place) or place.within(made.fixed)
        assert made.is_literal == all(
            s is not ONE and s is not ANY_NUMBER for s in pattern
        )


@given(
    st.lists(segments, min_size=1, max_size=3),
    st.lists(few_pattern, min_size=1, max_size=3),
)
def test_a_pattern_below_a_folder_means_the_same_places_there(folder, pattern):
    """S14: a namespace's pattern never reaches out of it."""
    above = Path.of(*folder)
    lowered = Pattern.parse(format_segments(pattern)).below(above)
    assert lowered.segments == (*folder, *pattern)
    assert lowered.fixed.within(above)


def test_matching_is_linear_enough():
    """A hostile pattern costs the product of the lengths, not an exponential."""
    pattern = Pattern.parse(".".join(["**", "a"] * 40))
    assert not match(pattern.segments, ("a",) * 2_000 + ("b",))


@given(names)
def test_paths_and_patterns_show_themselves(name):
    path = Path.of(name)
    assert repr(path) == f"Path({path.text!r})"
    assert path != path.text
    pattern = Pattern.parse(path.text)
    assert repr(pattern) == f"Pattern({path.text!r})"
    assert hash(pattern) == hash(Pattern.parse(path.text))
    assert pattern != path
    assert repr(ONE) == "*"
