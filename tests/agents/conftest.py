"""Everything agents promise holds however their turns are run."""

import pytest

from swarm.agents._turns import Turns

_begin = Turns.__init__


def _begin_apart(self, *args, **kwargs):
    _begin(self, *args, **kwargs)
    self.is_apart = True


def pytest_generate_tests(metafunc):
    """Run each test with all, but for those of `unittest`, which cannot be."""
    if "core" not in metafunc.fixturenames:
        metafunc.fixturenames.append("core")
    metafunc.parametrize("core", ["inline", "queued", "apart"], indirect=True)


@pytest.fixture
def core(request, monkeypatch):
    """Run first steps in the asker's call stack, or queue every ask.

    "apart" is as "queued", with every turn in a context of its own.
    """
    inline = request.param == "inline"
    monkeypatch.setattr("swarm.agents._pool.runs_inline", lambda loop: inline)
    if request.param == "apart":
        monkeypatch.setattr(Turns, "__init__", _begin_apart)
    return request.param
