"""The tree, the commit and the log."""

from swarm.kernel._batches import in_order
from swarm.kernel._conditions import conflict
from swarm.kernel._follow import Followers, LogReader
from swarm.kernel._listeners import Listeners
from swarm.kernel._local import LocalTree
from swarm.kernel._log import Log
from swarm.kernel._matching import accepts, places, start_inside
from swarm.kernel._memory import MemoryKernel
from swarm.kernel._tree import Tree
from swarm.kernel._views import PastView

__all__ = [
    "Followers",
    "Listeners",
    "LocalTree",
    "Log",
    "LogReader",
    "MemoryKernel",
    "PastView",
    "Tree",
    "accepts",
    "conflict",
    "in_order",
    "places",
    "start_inside",
]
