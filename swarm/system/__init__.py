"""Everything put together: a swarm, its configuration, its coordinator."""

from swarm.system._agent import Agent
from swarm.system._config import SwarmConfig
from swarm.system._coordinator import Coordinator
from swarm.system._portal import Portal
from swarm.system._surface import Surface
from swarm.system._swarm import Swarm

__all__ = ["Agent", "Coordinator", "Portal", "Surface", "Swarm", "SwarmConfig"]
