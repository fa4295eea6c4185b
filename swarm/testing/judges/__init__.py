"""Judges: histories of operations, models, and the search for an explanation."""

from swarm.testing.judges._barrier_model import BROKEN, LEFT, BarrierModel
from swarm.testing.judges._history import PENDING, Call, History, Operation
from swarm.testing.judges._linearizability import (
    Ok,
    Undecided,
    Verdict,
    Violation,
    check_linearizable,
)
from swarm.testing.judges._lock_models import LockModel, SemaphoreModel
from swarm.testing.judges._model import ILLEGAL, Model
from swarm.testing.judges._models import EMPTY, KVModel, QueueModel, RegisterModel

__all__ = [
    "BROKEN",
    "EMPTY",
    "ILLEGAL",
    "LEFT",
    "PENDING",
    "BarrierModel",
    "Call",
    "History",
    "KVModel",
    "LockModel",
    "Model",
    "Ok",
    "Operation",
    "QueueModel",
    "RegisterModel",
    "SemaphoreModel",
    "Undecided",
    "Verdict",
    "Violation",
    "check_linearizable",
]
