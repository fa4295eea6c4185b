"""The package as an import sees it: names, versions, and what is loaded when."""

import ast
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

import swarm

ROOT = Path(__file__).parents[1]


def declared_imports():
    """Yield what type checkers read in `swarm/__init__.py`: package and name."""
    tree = ast.parse(Path(swarm.__file__).read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module.startswith("swarm."):
            for alias in node.names:
                yield node.module, alias.name


def test_type_checkers_and_python_find_the_same_names_in_the_same_packages():
    assert {name: home for home, name in declared_imports()} == swarm._HOMES
    assert sorted(swarm.__all__) == sorted([*swarm._HOMES, "__version__"])


def test_every_public_name_is_public_in_its_package():
    for package, name in declared_imports():
        module = import_module(package)
        assert name in getattr(module, "__all__", [name])
        assert getattr(swarm, name) is getattr(module, name)


def test_dir_shows_the_public_names_only():
    assert dir(swarm) == sorted(swarm.__all__)


def test_the_version_is_that_of_the_distribution():
    assert swarm.__version__.startswith("0.")


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="nothing"):
        _ = swarm.nothing
    with pytest.raises(ImportError):
        from swarm import nothing  # noqa: F401


def loaded_after(code: str) -> set[str]:
    shown = f"import sys\n{code}\nprint(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", shown], capture_output=True, text=True, check=True
    )
    return set(done.stdout.split())


def test_importing_swarm_loads_nothing_that_is_not_used():
    assert not {name for name in loaded_after("import swarm") if "swarm." in name}


def test_a_hello_world_loads_neither_the_simulator_nor_optional_packages():
    loaded = loaded_after("from swarm import Agent, Swarm")
    assert "swarm.system" in loaded
    for package in ("swarm.testing", "swarm.cli", "hypothesis", "pytest", "rich"):
        assert package not in loaded


def test_packages_are_attributes():
    assert "ok" in loaded_after("import swarm\nswarm.testing.explore\nprint('ok')")


def test_the_names_of_the_everyday_api_are_here():
    shown = """
        Agent Backoff Batch Claim Event Handoff Hybrid Key Pipeline Policy Priority Ref
        Replicated Restart Stage Swarm SwarmConfig TaskFailed Versioned event interleave
        on serves
    """
    assert set(shown.split()) <= set(swarm.__all__)
    members = vars(import_module("swarm.errors")).items()
    errors = {n for n, e in members if isinstance(e, type) and issubclass(e, Exception)}
    assert errors <= set(swarm.__all__)


PACKAGES = sorted(
    ".".join(file.relative_to(ROOT).parent.parts)
    for file in (ROOT / "swarm").rglob("__init__.py")
    if not any(part.startswith("_") for part in file.relative_to(ROOT).parent.parts)
)


@pytest.mark.parametrize("package", [*PACKAGES, "swarm.errors"])
def test_dir_of_a_public_module_shows_what_is_public(package):
    module = import_module(package)
    shown = {name for name in dir(module) if not name.startswith("_")}
    public = set(getattr(module, "__all__", shown))
    inner = {name.rpartition(".")[2] for name in PACKAGES if name != package}
    assert shown <= public | inner
    assert not {"Any", "annotations", "Sequence"} & shown
