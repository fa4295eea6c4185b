"""Python blocks of the README and of package docstrings print what they say."""

import re
from pathlib import Path
from typing import Any

import pytest
from pytest_examples import CodeExample, EvalExample, find_examples

KNOWN: dict[str, Any] = {}
"""What the blocks so far have defined: the tour goes on from block to block."""


@pytest.mark.parametrize("example", list(find_examples("README.md")), ids=str)
def test_the_readme_is_true(example: CodeExample, eval_example: EvalExample):
    eval_example.set_config(line_length=88)
    KNOWN.update(eval_example.run_print_check(example, module_globals=KNOWN))


def test_every_link_of_the_readme_leads_somewhere():
    text = Path("README.md").read_text(encoding="utf-8")
    links = re.findall(r"\]\(([^)#:]+)\)", text)
    assert len(links) > 10
    assert [link for link in links if not Path(link).exists()] == []


DOCSTRINGS = [
    example
    for example in find_examples(*map(str, Path("swarm").glob("*/__init__.py")))
    if "asyncio.run(" in example.source  # the others are fragments
]


@pytest.mark.parametrize("example", DOCSTRINGS, ids=str)
def test_the_docstring_of_a_package_is_true(
    example: CodeExample, eval_example: EvalExample
):
    eval_example.set_config(line_length=88)
    eval_example.run_print_check(example)
