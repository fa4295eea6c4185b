"""The invariants that code and tests cite stand in `tests/invariants.md`."""

import ast
import io
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
CITATION = re.compile(r"(?<![\w.\[\"'])[GSLMBEHJOCPDXQT]\d{1,2}(?![\w\"'])")
LISTED = re.compile(r"^- \*\*([A-Z]\d+)\*\* ", re.MULTILINE)


def words_of(source: str) -> Iterator[str]:
    """Yield the comments and docstrings of a module."""
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT and "noqa" not in token.string:
            yield token.string
    kinds = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, kinds):
            yield ast.get_docstring(node) or ""


def listed() -> list[str]:
    return LISTED.findall((ROOT / "tests/invariants.md").read_text(encoding="utf-8"))


@pytest.mark.parametrize("folder", ["swarm", "tests", "examples"])
def test_every_cited_invariant_stands_in_the_list(folder):
    known, unknown = set(listed()), []
    for file in sorted((ROOT / folder).rglob("*.py")):
        source = file.read_text(encoding="utf-8")
        if known.issuperset(CITATION.findall(source)):
            continue  # tokenising every file takes seconds
        for text in words_of(source):
            for number in CITATION.findall(text):
                if number not in known:
                    unknown.append(f"{file.relative_to(ROOT)}: {number}")
    assert not unknown


def test_every_invariant_of_work_and_of_stores_is_cited_by_a_test():
    cited = set()
    for folder in ("tests", "swarm/testing/contracts"):
        for file in (ROOT / folder).rglob("*.py"):
            source = file.read_text(encoding="utf-8")
            if re.search(r"[JOCPDX]\d", source):  # tokenising takes seconds
                cited |= {
                    n for text in words_of(source) for n in CITATION.findall(text)
                }
    assert [n for n in listed() if n[0] in "JOCPDX" and n not in cited] == []


def test_no_invariant_is_listed_twice():
    numbers = listed()
    assert len(numbers) > 150
    assert len(numbers) == len(set(numbers))


def test_a_citation_is_found_where_it_stands():
    source = '"""Of S5, and (G12)."""\nx = "S99"  # L15: as is\n'
    found = [n for text in words_of(source) for n in CITATION.findall(text)]
    assert sorted(found) == ["G12", "L15", "S5"]
