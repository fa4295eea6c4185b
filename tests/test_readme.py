"""Every Python block of the README runs and prints what it says, in order."""

from typing import Any

import pytest
from pytest_examples import CodeExample, EvalExample, find_examples

KNOWN: dict[str, Any] = {}
"""What the blocks so far have defined: the tour goes on from block to block."""


@pytest.mark.parametrize("example", list(find_examples("README.md")), ids=str)
def test_the_readme_is_true(example: CodeExample, eval_example: EvalExample):
    eval_example.set_config(line_length=88)
    KNOWN.update(eval_example.run_print_check(example, module_globals=KNOWN))
