"""How long the linearizability checker takes: `python benchmarks/linearizability.py`.

Histories come from a simulated object: at each step a random client invokes,
takes effect, or is answered. The wrong ones have one read near the end changed
to a value that was never written. Times are the best of three, in milliseconds.
"""

from __future__ import annotations

import argparse
import random
import time

from swarm.testing import (
    EMPTY,
    History,
    KVModel,
    Model,
    Operation,
    QueueModel,
    RegisterModel,
    Undecided,
    check_linearizable,
)

VALUES = 5


def record(n: int, clients: int, *, seed: int, keys: int = 0, lost: float = 0.0):
    """A valid history of `n` operations on a register, or on `keys` of them."""
    rng = random.Random(seed)
    history, store = History(), {}
    open_calls: list[list] = []
    idle = list(range(clients))
    begun = 0
    while open_calls or begun < n:
        turn = rng.randrange(clients)
        if turn < len(idle) and begun < n:
            process = idle.pop(turn)
            key = (rng.randrange(keys),) if keys else ()
            names = ("get", "put", "cas") if keys else ("read", "write", "cas")
            op, arity = rng.choice(list(zip(names, (0, 1, 2), strict=True)))
            args = key + tuple(rng.randrange(VALUES) for _ in range(arity))
            open_calls.append([history.invoke(process, op, *args), process, None])
            begun += 1
        elif open_calls:
            position = rng.randrange(len(open_calls))
            entry = open_calls[position]
            call, process, result = entry
            if result is None:
                entry[2] = (apply(store, call.operation, keys),)
                continue
            open_calls[position] = open_calls[-1]
            open_calls.pop()
            idle.append(process)
            if rng.random() >= lost:
                history.ok(call, result[0])
    return history


def apply(store: dict, operation: Operation, keys: int) -> object:
    key, args = operation.args[:1] if keys else (), operation.args[1 if keys else 0 :]
    if not args:
        return store.get(key)
    if len(args) == 1:
        store[key] = args[0]
        return None
    if store.get(key) != args[0]:
        return False
    store[key] = args[1]
    return True


def record_queue(n: int, clients: int, *, seed: int) -> History:
    """A valid history of `n` puts and gets on an unbounded queue."""
    rng = random.Random(seed)
    history, queue = History(), []
    idle, open_calls = list(range(clients)), []
    begun = 0
    while open_calls or begun < n:
        if idle and begun < n and rng.random() < 0.5:
            process, begun = idle.pop(rng.randrange(len(idle))), begun + 1
            op = ("put", begun) if rng.random() < 0.5 else ("get",)
            open_calls.append([history.invoke(process, *op), None])
        elif open_calls:
            entry = rng.choice(open_calls)
            call, result = entry
            if result is not None:
                open_calls.remove(entry)
                idle.append(call.operation.process)
                history.ok(call, result[0])
            elif call.operation.op == "put":
                queue.append(call.operation.args[0])
                entry[1] = (None,)
            else:
                entry[1] = (queue.pop(0) if queue else EMPTY,)
    return history


def spoil(history: History) -> list[Operation]:
    """The operations with one late read changed to a value nobody wrote."""
    operations = list(history)
    reads = [i for i, op in enumerate(operations) if op.op in ("read", "get")]
    spoilt = reads[len(reads) * 9 // 10]
    old = operations[spoilt]
    operations[spoilt] = Operation(
        process=old.process,
        op=old.op,
        args=old.args,
        result=VALUES,
        invoked=old.invoked,
        returned=old.returned,
    )
    return operations


def measure(name: str, operations: list[Operation], model: Model) -> None:
    best = float("inf")
    verdict = None
    for _ in range(3):
        start = time.perf_counter()
        verdict = check_linearizable(operations, model, max_states=300_000)
        best = min(best, time.perf_counter() - start)
        if isinstance(verdict, Undecided):
            break
    kind = type(verdict).__name__
    print(f"{name:34} {best * 1e3:9.1f} ms  {verdict.states:8} states  {kind}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="small sizes only")
    quick = parser.parse_args().quick
    sizes = (1000,) if quick else (1000, 5000)
    for n in sizes:
        for clients in (4, 8) if quick else (4, 8, 16):
            history = record(n, clients, seed=n + clients)
            name = f"register n={n} c={clients}"
            measure(f"{name} ok", list(history), RegisterModel())
            measure(f"{name} bad", spoil(history), RegisterModel())
        lossy = record(n, 8, seed=n, lost=0.01)
        measure(f"register n={n} c=8 1% lost ok", list(lossy), RegisterModel())
        for clients in (8, 16):
            history = record(n, clients, seed=n + clients, keys=10)
            name = f"10 keys n={n} c={clients}"
            measure(f"{name} ok", list(history), KVModel())
            measure(f"{name} bad", spoil(history), KVModel())
        for clients in (4, 8):
            history = record_queue(n, clients, seed=n + clients)
            measure(f"queue n={n} c={clients} ok", list(history), QueueModel())


if __name__ == "__main__":
    main()
