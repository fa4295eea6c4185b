"""Lines of documents in a log entry: pure."""

from typing import Any

import orjson
from hypothesis import given
from hypothesis import strategies as st

from swarm.model import OWNER, AgentIdentity, Document, Path
from swarm.storage._records import decode_document, encode_document
from swarm.storage.redis._entries import decode_line

TEXTS = st.text(st.characters(codec="utf-8"), min_size=1, max_size=12)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | TEXTS,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3)
    ),
    max_leaves=8,
)


def told(document: Document) -> tuple[Any, ...]:
    return tuple(getattr(document, name) for name in Document.__slots__[:9])


@given(
    names=st.tuples(TEXTS, TEXTS, TEXTS, TEXTS),
    segments=st.lists(TEXTS, min_size=1, max_size=3),
    body=st.none() | VALUES.map(orjson.dumps),
    created=st.integers(0, 2**52),
    priority=st.integers(-9, 9),
    expires=st.none() | st.integers(0, 2**52),
)
def test_a_line_tells_the_same_document_whether_its_body_is_parsed_or_not(
    names, segments, body, created, priority, expires
):
    document = Document(
        Path.of(*segments),
        body,
        None,
        0,
        created,
        0,
        AgentIdentity(*names),
        priority,
        expires,
    )
    line = encode_document(document)
    found = decode_line(line, 7)
    assert found is not None
    assert told(found) == told(decode_document(line, 7))


def test_several_lines_are_not_taken_for_one():
    document = Document(Path.of("a"), b"1", None, 0, 0, 0, OWNER)
    line = encode_document(document)
    assert decode_line(line + b"\n" + line, 7) is None
