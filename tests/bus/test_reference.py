"""The example in the reference of the package."""

import re
from collections import Counter

import pytest

import swarm.bus


def test_the_example_prints_what_its_comments_say(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Each `#>` line is printed once."""
    assert swarm.bus.__doc__ is not None
    (example,) = re.findall(r"```python\n(.*?)```", swarm.bus.__doc__, re.DOTALL)
    exec(compile(example, "swarm.bus", "exec"), {"__name__": "example"})
    told = re.findall(r"^ *#> (.*)$", example, re.MULTILINE)
    assert Counter(capsys.readouterr().out.splitlines()) == Counter(told)
