"""What values and paths look like, hostile ones too."""

from hypothesis import strategies as st

from swarm.model import ANY_NUMBER, ONE

scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**63), 2**64 - 1),
    st.integers(-3, 3),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(max_size=6),
)

values = st.recursive(
    scalars,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(st.text(max_size=4), inner, max_size=3),
    ),
    max_leaves=8,
)

hostile = st.sampled_from(
    [
        ".",
        "..",
        "[",
        "]",
        "[0]",
        '"',
        "\\",
        '\\"',
        "*",
        "**",
        "a.b",
        'a["b"]',
        " ",
        "\0",
        "\n",
        "\u202e",
        "é",
        "e\u0301",
        "日本",
        "😀",
        "'",
        "a*",
        "0",
        "-1",
        "a b",
        '"]',
        '["',
        "\\u0041",
        "\x7f",
        "\u00a0",
        "​",
    ]
)
names = st.one_of(st.text(min_size=1, max_size=8), hostile)
segments = st.one_of(names, st.integers(0, 9) | st.just(2**63 - 1))
paths = st.lists(segments, min_size=1, max_size=5)
pattern_segments = st.one_of(segments, st.just(ONE), st.just(ANY_NUMBER))

few_names = st.sampled_from(["a", "b", "c", "*"])
few_paths = st.lists(
    st.one_of(few_names, few_names, few_names, st.integers(0, 1)),
    min_size=1,
    max_size=4,
)
few_patterns = st.lists(
    st.one_of(few_names, st.just(ONE), st.just(ANY_NUMBER), st.integers(0, 1)),
    min_size=1,
    max_size=5,
)
few_values = st.recursive(
    st.integers(0, 2),
    lambda inner: st.one_of(
        st.lists(inner, max_size=2), st.dictionaries(few_names, inner, max_size=3)
    ),
    max_leaves=6,
)
