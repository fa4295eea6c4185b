import pytest

from tests.support.state import make_world


@pytest.fixture
async def world():
    """A kernel, its clock, and a handle of the owner."""
    made = make_world()
    yield made
    await made.kernel.close()


@pytest.fixture
def state(world):
    return world.state
