"""The tree, the commit and the log."""

from swarm.kernel._conditions import conflict
from swarm.kernel._follow import Followers, LogReader
from swarm.kernel._log import Log
from swarm.kernel._matching import accepts, places, start_inside
from swarm.kernel._memory import MemoryKernel
from swarm.kernel._tree import Tree

__all__ = [
    "Followers",
    "Log",
    "LogReader",
    "MemoryKernel",
    "Tree",
    "accepts",
    "conflict",
    "places",
    "start_inside",
]
