"""swarm.testing: histories, and the judges that decide whether they are right."""

from swarm.testing._barrier_model import BROKEN, LEFT, BarrierModel
from swarm.testing._history import PENDING, Call, History, Operation
from swarm.testing._linearizability import (
    Ok,
    Undecided,
    Verdict,
    Violation,
    check_linearizable,
)
from swarm.testing._lock_models import LockModel, SemaphoreModel
from swarm.testing._model import ILLEGAL, Model
from swarm.testing._models import EMPTY, KVModel, QueueModel, RegisterModel

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
