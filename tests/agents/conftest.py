"""Everything agents promise holds however their first steps are run."""

import pytest


def pytest_generate_tests(metafunc):
    """Run each test with both cores, except those of `unittest`, which cannot be."""
    if "core" not in metafunc.fixturenames:
        metafunc.fixturenames.append("core")
    metafunc.parametrize("core", ["inline", "queued"], indirect=True)


@pytest.fixture
def core(request, monkeypatch):
    """Run first steps in the call stack of the asker, or queue every ask."""
    if request.param == "queued":
        monkeypatch.setattr("swarm.agents._worker.INLINE", 0)
    return request.param
