"""What users hold of the tree: handles, typed keys, transactions, watches, policy."""

from swarm.state._access import (
    Decision,
    Policy,
    Rights,
    Rule,
    ValidationResult,
    Validator,
    home,
)
from swarm.state._handle import StateHandle
from swarm.state._history import PastState
from swarm.state._key import Key
from swarm.state._reading import ReadableState
from swarm.state._resolvers import Candidate, Resolver, ResolverName
from swarm.state._store import Access, Store
from swarm.state._transaction import Transaction
from swarm.state._watch import Watch

__all__ = [
    "Access",
    "Candidate",
    "Decision",
    "Key",
    "PastState",
    "Policy",
    "ReadableState",
    "Resolver",
    "ResolverName",
    "Rights",
    "Rule",
    "StateHandle",
    "Store",
    "Transaction",
    "ValidationResult",
    "Validator",
    "Watch",
    "home",
]
