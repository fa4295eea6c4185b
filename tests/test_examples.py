"""Every example runs and says what it says it says."""

import runpy
from pathlib import Path

import pytest

MARK = "# > "
EXAMPLES = sorted(Path("examples").glob("[0-9]*.py"))


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_prints_what_it_promises(example, capsys):
    lines = example.read_text(encoding="utf-8").splitlines()
    promised = [line.removeprefix(MARK) for line in lines if line.startswith(MARK)]
    assert promised
    runpy.run_path(str(example), run_name="__main__")
    assert capsys.readouterr().out.splitlines() == promised
