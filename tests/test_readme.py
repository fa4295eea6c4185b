"""Every Python block of the README runs and prints what it says."""

import pytest
from pytest_examples import CodeExample, EvalExample, find_examples


@pytest.mark.parametrize("example", list(find_examples("README.md")), ids=str)
def test_the_readme_is_true(example: CodeExample, eval_example: EvalExample):
    eval_example.set_config(line_length=88)
    eval_example.run_print_check(example)
