"""Many processes with one tree."""

from swarm.processes._answers import Answers
from swarm.processes._calls import Calls, RemoteCall
from swarm.processes._deadlocks import Deadlocks
from swarm.processes._fence import FencedKernel
from swarm.processes._membership import Membership
from swarm.processes._network import Network
from swarm.processes._post import Post
from swarm.processes._process_record import ProcessRecord
from swarm.processes._remote_ref import RemoteRef
from swarm.processes._singletons import Singletons

__all__ = [
    "Answers",
    "Calls",
    "Deadlocks",
    "FencedKernel",
    "Membership",
    "Network",
    "Post",
    "ProcessRecord",
    "RemoteCall",
    "RemoteRef",
    "Singletons",
]
