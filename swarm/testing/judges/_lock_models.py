"""Ready models: what is granted and given back, locks and semaphores.

The owner of a grant is the process that acquired it. A client that gave up
without an answer may own a grant for ever after, so let the same program go on
under a new process name, as Jepsen does, or record the `expire` that ends it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, TypeAlias

from swarm.testing.judges._history import PENDING, Operation
from swarm.testing.judges._model import ILLEGAL, Illegal, Model, unknown_operation

Grant: TypeAlias = tuple[Any, int, str, Any]  # owner, how many before, mode, token
Locked: TypeAlias = tuple[frozenset[Grant], Any]  # live grants, highest token so far

_STRENGTH: Final = {"shared": 0, "upgradeable": 1, "exclusive": 2}
_UNLOCKED: Final[Locked] = (frozenset(), None)


class LockModel(Model[Locked]):
    """A lock with the modes exclusive, shared and upgradeable.

    Shared goes with shared and with one upgradeable; nothing else goes together,
    not even two grants of one owner.

    - `acquire([mode]) -> False` when refused or timed out; any other answer
      is a grant, with `fenced` its token. The mode is "exclusive" by default.
    - `release([token]) -> False` when the caller holds no such grant.
    - `upgrade() -> False` when refused; else the caller's grant is exclusive
      (with `fenced`, the new token).
    - `downgrade([mode]) -> False` when the caller holds nothing; else its grant
      has the weaker mode, "shared" by default (with `fenced`, the new token).
    - `renew() -> False` when the caller holds nothing.
    - `validate(token) -> True | False`: whether a live grant has the token, as
      in a write that is refused once the lease is gone. Needs `fenced`.
    - `expire(owner)`: all grants of `owner` end: its lease ran out, it died,
      or it was forced.

    Args:
        fenced: Answers are fencing tokens, and each is greater than all before.
        barging: A refused `acquire` proves that a holder stood in its way. Not
            so for a lock with time-outs, or one that queues fairly: there a
            refusal proves nothing, which is the default.
    """

    def __init__(self, *, fenced: bool = False, barging: bool = False) -> None:
        def step(state: Locked, operation: Operation) -> Locked | Illegal:
            rule = _LOCK_RULES.get(operation.op)
            if rule is None:
                raise unknown_operation(operation, ", ".join(_LOCK_RULES))
            if operation.op == "acquire" and operation.result is False:
                stopped = not _fits(state[0], _mode(operation, "exclusive"))
                return state if stopped or not barging else ILLEGAL
            return rule(state, operation, fenced)

        super().__init__(step, initial=_UNLOCKED, pure=_lock_pure)


def _lock_pure(operation: Operation) -> bool:
    if operation.op in ("renew", "validate"):
        return True
    return operation.result is False and operation.op != "expire"


def _mode(operation: Operation, default: str) -> str:
    mode: str = operation.args[0] if operation.args else default
    if mode not in _STRENGTH:
        msg = f"{operation} has no mode of {', '.join(_STRENGTH)}"
        raise ValueError(msg)
    return mode


def _fits(grants: frozenset[Grant], mode: str) -> bool:
    # Shared and upgradeable are the strongest pair that goes together: 0 + 1.
    return all(_STRENGTH[mode] + _STRENGTH[grant[2]] <= 1 for grant in grants)


def _held(state: Locked, operation: Operation, token: Any = None) -> Grant | None:
    own = [
        grant
        for grant in state[0]
        if grant[0] == operation.process and (token is None or grant[3] == token)
    ]
    return max(own, key=lambda grant: grant[1], default=None)


def _grant(
    state: Locked,
    others: frozenset[Grant],
    operation: Operation,
    mode: str,
    fenced: bool,
) -> Locked | Illegal:
    """Return the state with a grant for the caller beside `others`."""
    token, highest = None, state[1]
    if fenced and operation.result is not PENDING:
        token = operation.result
        if highest is not None and not token > highest:
            return ILLEGAL
        highest = token
    before = sum(1 for grant in others if grant[0] == operation.process)
    return others | {(operation.process, before, mode, token)}, highest


def _acquire(state: Locked, operation: Operation, fenced: bool) -> Locked | Illegal:
    mode = _mode(operation, "exclusive")
    if not _fits(state[0], mode):
        return ILLEGAL
    return _grant(state, state[0], operation, mode, fenced)


def _release(state: Locked, operation: Operation, _: bool) -> Locked | Illegal:
    token = operation.args[0] if operation.args else None
    grant = _held(state, operation, token)
    if operation.result is False or grant is None:
        return state if operation.result is False and grant is None else ILLEGAL
    return state[0] - {grant}, state[1]


def _upgrade(state: Locked, operation: Operation, fenced: bool) -> Locked | Illegal:
    if operation.result is False:
        return state
    grant = _held(state, operation)
    if grant is None or len(state[0]) > 1:
        return ILLEGAL
    return _grant(state, frozenset(), operation, "exclusive", fenced)


def _downgrade(state: Locked, operation: Operation, fenced: bool) -> Locked | Illegal:
    grant = _held(state, operation)
    if operation.result is False or grant is None:
        return state if operation.result is False and grant is None else ILLEGAL
    mode = _mode(operation, "shared")
    if _STRENGTH[mode] > _STRENGTH[grant[2]]:
        return ILLEGAL
    return _grant(state, state[0] - {grant}, operation, mode, fenced)


def _renew(state: Locked, operation: Operation, _: bool) -> Locked | Illegal:
    held = _held(state, operation) is not None
    return state if held is not (operation.result is False) else ILLEGAL


def _validate(state: Locked, operation: Operation, _: bool) -> Locked | Illegal:
    live = any(grant[3] == operation.args[0] for grant in state[0])
    return state if live is not (operation.result is False) else ILLEGAL


def _expire(state: Locked, operation: Operation, _: bool) -> Locked | Illegal:
    owner = operation.args[0]
    return frozenset(grant for grant in state[0] if grant[0] != owner), state[1]


_LOCK_RULES: Final[dict[str, Callable[[Locked, Operation, bool], Locked | Illegal]]] = {
    "acquire": _acquire,
    "release": _release,
    "upgrade": _upgrade,
    "downgrade": _downgrade,
    "renew": _renew,
    "validate": _validate,
    "expire": _expire,
}

Permits: TypeAlias = tuple[int, frozenset[tuple[Any, int]]]  # capacity, holders


class SemaphoreModel(Model[Permits]):
    """A counting semaphore: never more permits out than its capacity.

    - `acquire([permits]) -> False` when refused or timed out; any other answer
      is a grant of all the permits at once. 1 by default.
    - `release([permits]) -> False` when so many are not held.
    - `available() -> int`: capacity less permits out.
    - `resize(capacity)`: what is out stays out.
    - `expire(owner)`: all permits of `owner` come back. Needs `owned`.

    Args:
        capacity: How many permits there are at first.
        owned: Only the process that acquired a permit may release it. By
            default every task may, as with asyncio's.
        barging: A refused `acquire` proves that too few permits were left. Not
            so with time-outs or a fair queue, which is the default.
    """

    def __init__(
        self, capacity: int, *, owned: bool = False, barging: bool = False
    ) -> None:
        def step(state: Permits, operation: Operation) -> Permits | Illegal:
            if operation.op == "acquire" and operation.result is False and not barging:
                return state
            return _step_semaphore(state, operation, owned)

        super().__init__(step, initial=(capacity, frozenset()), pure=_semaphore_pure)


def _semaphore_pure(operation: Operation) -> bool:
    refused = operation.result is False and operation.op in ("acquire", "release")
    return refused or operation.op == "available"


def _step_semaphore(
    state: Permits, operation: Operation, owned: bool
) -> Permits | Illegal:
    op, args, refused = operation.op, operation.args, operation.result is False
    capacity, holders = state
    held = dict(holders)
    out = sum(held.values())
    owner = operation.process if owned else None
    if op == "available":
        told = operation.result is not PENDING
        return ILLEGAL if told and operation.result != capacity - out else state
    if op == "resize":
        return args[0], holders
    if op == "expire" and owned:
        held.pop(args[0], None)
        return capacity, frozenset(held.items())
    permits = args[0] if args else 1
    if op == "acquire":
        possible, change = out + permits <= capacity, permits
    elif op == "release":
        possible, change = held.get(owner, 0) >= permits, -permits
    else:
        raise unknown_operation(
            operation, "acquire, release, available, resize, expire"
        )
    if possible is refused:
        return ILLEGAL
    if refused:
        return state
    held[owner] = held.get(owner, 0) + change
    return capacity, frozenset(item for item in held.items() if item[1])
