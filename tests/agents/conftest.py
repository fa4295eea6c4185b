"""Everything agents promise holds whether or not first steps run inline."""

import pytest


def pytest_generate_tests(metafunc):
    """Run each test with both, but for those of `unittest`, which cannot be."""
    if "core" not in metafunc.fixturenames:
        metafunc.fixturenames.append("core")
    metafunc.parametrize("core", ["inline", "queued"], indirect=True)


@pytest.fixture
def core(request, monkeypatch):
    """Run first steps in the asker's call stack, or queue every ask."""
    inline = request.param == "inline"
    monkeypatch.setattr("swarm.agents._pool.runs_inline", lambda loop: inline)
    return request.param
