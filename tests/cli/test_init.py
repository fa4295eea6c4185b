"""`swarm init`: what it writes runs, passes and can be opened."""

import subprocess
import sys

import nbformat
import pytest
from nbclient import NotebookClient

from swarm.cli import main


def run(*words, cwd):
    return subprocess.run(
        [sys.executable, *words], cwd=cwd, capture_output=True, text=True, check=False
    )


@pytest.mark.timeout(180)  # four processes
def test_the_program_the_test_and_the_notebook_run(tmp_path, capsys):
    assert main(["init", str(tmp_path), "--name", "hives"]) == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "hives.ipynb",
        "hives.py",
        "test_hives.py",
    ]
    alone = run("hives.py", cwd=tmp_path)
    assert alone.stdout.splitlines() == [
        "Hello Ada, you are number 1.",
        "Hello Grace, you are number 2.",
    ]
    started = run("-m", "swarm", "run", "hives.py", cwd=tmp_path)
    assert (started.returncode, started.stdout) == (0, alone.stdout)
    tested = run("-m", "pytest", "-q", "-p", "no:cacheprovider", ".", cwd=tmp_path)
    assert tested.returncode == 0, tested.stdout
    notebook = nbformat.read(tmp_path / "hives.ipynb", as_version=4)
    nbformat.validate(notebook)
    NotebookClient(notebook, resources={"metadata": {"path": tmp_path}}).execute()
    assert "number 2" in str(notebook.cells[2].outputs)


def test_files_that_are_there_stay(tmp_path, capsys):
    (tmp_path / "hives.py").write_text("mine")
    assert main(["init", str(tmp_path), "--name", "hives"]) == 1
    assert "hives.py is there already" in capsys.readouterr().err
    assert (tmp_path / "hives.py").read_text() == "mine"
    assert len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize("name", ["no-module", "class"])
def test_a_name_that_is_no_module_is_refused(tmp_path, capsys, name):
    assert main(["init", str(tmp_path), "--name", name]) == 2
    assert f"'{name}' cannot be the name of a module" in capsys.readouterr().err
