"""Actors: one mailbox, one turn at a time, one outcome for every request."""

from swarm.agents._agent import Actor, surfaces_of
from swarm.agents._asking import request_of
from swarm.agents._cell import Cell
from swarm.agents._deadlines import Deadlines
from swarm.agents._envelope import Envelope, calling_turn, running_turn
from swarm.agents._group import Group, SpawnOptions
from swarm.agents._host import Holdings, Host
from swarm.agents._life import turns_of
from swarm.agents._lifecycle import Status
from swarm.agents._mailbox import Mailbox
from swarm.agents._pool import Pool
from swarm.agents._post import poster
from swarm.agents._protocol import interleave, interleaves
from swarm.agents._records import AgentInfo, AgentRecord, Failure
from swarm.agents._ref import Ref
from swarm.agents._registry import Registry, info_of
from swarm.agents._restart import Restart, Strategy
from swarm.agents._stream import Stream
from swarm.agents._supervisor import Supervisor
from swarm.model import Backoff

__all__ = [
    "Actor",
    "AgentInfo",
    "AgentRecord",
    "Backoff",
    "Cell",
    "Deadlines",
    "Envelope",
    "Failure",
    "Group",
    "Holdings",
    "Host",
    "Mailbox",
    "Pool",
    "Ref",
    "Registry",
    "Restart",
    "SpawnOptions",
    "Status",
    "Strategy",
    "Stream",
    "Supervisor",
    "calling_turn",
    "info_of",
    "interleave",
    "interleaves",
    "poster",
    "request_of",
    "running_turn",
    "surfaces_of",
    "turns_of",
]
