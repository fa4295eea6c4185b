"""Settings for all tests."""

from hypothesis import settings

# A busy machine is no failure: no test asserts real time, and no example does.
settings.register_profile("swarm", deadline=None)
settings.load_profile("swarm")
