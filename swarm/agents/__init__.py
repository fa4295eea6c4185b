"""Actors: one mailbox, one turn at a time, one outcome for every request."""

from swarm.agents._agent import Actor, surfaces_of
from swarm.agents._beside import AgentTimer
from swarm.agents._cell import Cell, poster
from swarm.agents._envelope import Envelope, calling_turn, request_of, running_turn
from swarm.agents._group import Group, SpawnOptions
from swarm.agents._host import Holdings, Host
from swarm.agents._lifecycle import Status
from swarm.agents._mailbox import Mailbox
from swarm.agents._protocol import interleave, interleaves
from swarm.agents._records import AgentInfo, AgentRecord, Failure
from swarm.agents._ref import Ref
from swarm.agents._registry import AgentTable, Registry, info_of
from swarm.agents._restart import Restart, Strategy
from swarm.agents._stream import Stream
from swarm.agents._supervisor import Supervisor
from swarm.agents._worker import WorkerPool
from swarm.model import Backoff

__all__ = [
    "Actor",
    "AgentInfo",
    "AgentRecord",
    "AgentTable",
    "AgentTimer",
    "Backoff",
    "Cell",
    "Envelope",
    "Failure",
    "Group",
    "Holdings",
    "Host",
    "Mailbox",
    "Ref",
    "Registry",
    "Restart",
    "SpawnOptions",
    "Status",
    "Strategy",
    "Stream",
    "Supervisor",
    "WorkerPool",
    "calling_turn",
    "info_of",
    "interleave",
    "interleaves",
    "poster",
    "request_of",
    "running_turn",
    "surfaces_of",
]
