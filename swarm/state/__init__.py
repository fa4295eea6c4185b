"""The state: one versioned tree of small JSON documents, as an identity may use it.

    state = swarm.state                        # or self.state, self.shared in an agent
    await state.set("plan.title", "Bees")      # Versioned: value, version, modified_by
    await state.get("plan.title")              # "Bees"; None (or default=) if absent
    await state.update("count", lambda n: (n or 0) + 1)
    await state.wait_until("plan", lambda plan: plan is not None, timeout=5)
    async with state.transaction() as tx:      # one revision read, one commit written
        await tx.set("orders.o1", "placed")
        tx.publish(OrderPlaced("o1"))          # the event rides in the same commit
    async with state.watch("orders.**", initial=True) as changes:
        async for change in changes: ...

**Places.** Dots separate the segments of a path; brackets quote a name or index an
array: `locks["a.b"].holders[0]`. A path is a document or a folder of documents, never
both (`PathConflict`). Reading gives a document, a part of one, or a folder as one
dict. Writing inside a document patches it; the document is the unit of version and
conflict. `namespace(name)` is a handle on a folder; names there share nothing with
other namespaces. In patterns `*` is one segment and `**` any number.

**Values** are JSON with text as keys; others are refused (`InvalidValue`) before any
effect. `None` is a value; absence is not. Values come and go as private copies.
`Key(path, type)` is a place of a type: attrs classes and dataclasses, too, with schema
versions and migrations. A `ttl` lets a document end; `touch` gives it another end;
`update`, `increment` and `compare_and_set` keep it.

**Conflicts.** `set(..., expected_version=v)`, `if_absent=True` and `compare_and_set`
write only if nothing else was written; `ConflictError` says what stands there.
`resolve=` names a resolver or is a function. Transactions are serializable: reads see
one revision, and the commit is refused when anything read or written has changed.
`transact(work)` tries again, up to 64 times. `guard=lease` writes only while the lease
is the live holder.

**Many documents.** `keys` and `scan` give pages (`limit`, `after`) of one revision.
They, and loops over `get` and `set`, let other tasks run meanwhile; one call holds the
event loop for about a millisecond, but for encoding or decoding one large document.
`set_many` and `delete_many` are one commit each.

**The past.** `history(path)` gives the retained changes of a document, a part of one or
a folder; `at(revision)` reads the tree as it was. Both reach back as far as the log
(`Limits.log_commits`, `log_bytes`, `log_seconds`; `Compacted` beyond). A watch gets
every change in order, each once, and is woken only by commits that concern it; one that
falls behind the log raises `Lagged`.

**Access.** A `Policy` is rules of role, pattern and rights; access is denied unless a
rule allows it. `Policy.default()`: agents read all, write `shared` and their own
`agents.<type>.<session>`, hold any lock, and spawn agents in
their own role, or in one that no rule names.
`Policy.strict()`: the five-role matrix. `policy.explain(identity, path, action)` says
why; actions are read, write, delete, hold, spawn, role and kill. The program itself may
do everything. Validators see each document before it is written. Folders of swarm's
own records (`locks`, `global.tasks` ...) are read here and changed by their own parts.

**Limits** (`Limits`): path 512 bytes, document 1 MiB, depth 64, 1,000 writes or 16 MiB
for each commit. Crossing one raises `LimitExceeded`, which names the limit.
"""

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
from swarm.state._store import KEPT, Access, Store
from swarm.state._transaction import Transaction
from swarm.state._watch import Watch

__all__ = [
    "KEPT",
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
