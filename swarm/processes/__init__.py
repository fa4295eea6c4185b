"""Many processes with one tree."""

from swarm.processes._membership import Membership
from swarm.processes._process_record import ProcessRecord
from swarm.processes._process_rules import plan_burial, plan_farewell, plan_join

__all__ = [
    "Membership",
    "ProcessRecord",
    "plan_burial",
    "plan_farewell",
    "plan_join",
]
