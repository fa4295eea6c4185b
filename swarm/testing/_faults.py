"""Faults as values: which there may be, which there were, and which to try next.

A fault is tied to an *occasion* that is counted per agent (its turns, the messages
told to it) or for the whole program (operations on the tree), never to a step of the
loop: "the 2nd message to `ada` is lost" means the same under every schedule, so a
plan of faults and a schedule can be shrunk one after the other.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from fnmatch import fnmatchcase
from typing import Any, Final, Literal, NamedTuple, get_args

import attrs

Kind = Literal[
    "crash", "freeze", "slow", "drop", "duplicate", "delay", "reorder", "jump"
]
Occasion = Literal["turn", "message", "operation"]
Census = Mapping[tuple[str, str], int]
"""How often an occasion came up: (occasion, agent) to a number."""

ANYBODY: Final = "*"
OCCASIONS: Final[Mapping[str, Occasion]] = {
    "crash": "turn",
    "freeze": "turn",
    "slow": "turn",
    "drop": "message",
    "duplicate": "message",
    "delay": "message",
    "reorder": "message",
    "jump": "operation",
}
SECONDS: Final = (0.01, 1.0, 30.0, 100.0)
TURNS: Final = (1, 2, 3, 5, 8, 13)
JUMPS: Final = (-3600.0, -1.0, 1.0, 3600.0)
AMOUNTS: Final[Mapping[str, tuple[float, ...]]] = {
    "crash": TURNS,
    "freeze": SECONDS,
    "slow": SECONDS,
    "drop": (0.0,),
    "duplicate": (0.0,),
    "delay": SECONDS,
    "reorder": (1.0,),
    "jump": JUMPS,
}
_TEXTS: Final[Mapping[str, str]] = {
    "crash": "{who} crashed {amount:g} loop turns into turn {number}",
    "freeze": "{who} froze for {amount:g} s in turn {number}",
    "slow": "{who} was {amount:g} s slow to handle turn {number}",
    "drop": "message {number} to {who} was lost",
    "duplicate": "message {number} to {who} came twice",
    "delay": "message {number} to {who} came {amount:g} s late",
    "reorder": "message {number} to {who} was overtaken by the next",
    "jump": "the wall clock jumped by {amount:+g} s at operation {number}",
}
_MANY: Final = 2_000  # single faults that are put in line


class Fault(NamedTuple):
    """One thing that goes wrong.

    Attributes:
        kind: what: see `Faults`.
        target: whom: the name of an agent, or `"*"`: any, counted all together.
        number: at which occasion, from 1: the agent's turn (`crash`, `freeze`,
            `slow`), message (`drop`, `duplicate`, `delay`, `reorder`), or operation
            of the program on the tree (`jump`).
        amount: for how many seconds; for `crash`, how many loop turns later.
    """

    kind: Kind
    target: str
    number: int
    amount: float = 0.0

    def __str__(self) -> str:
        who = "any agent" if self.target == ANYBODY else f"`{self.target}`"
        return _TEXTS[self.kind].format(who=who, number=self.number, amount=self.amount)


Targets = bool | str | Collection[str]


@attrs.frozen(kw_only=True)
class Faults:
    """Which faults an exploration may inject into a swarm program.

    Each kind takes True (any agent), a name, a pattern such as `"worker-*"`, or a
    collection of these. Messages are what is told; asks and streams have somebody
    who waits, and are reached by slow, frozen and crashing agents.

    Attributes:
        crash: the agent fails in the middle of a turn: with `SimulatedCrash`, which
            its supervisor takes, if it has a `Restart` that covers it; otherwise,
            and when it is stopping, it is killed.
        freeze: no code of the agent runs for a while, as in a paused process.
        slow: a turn begins a while before its method does.
        drop: a told message is lost.
        duplicate: it comes twice.
        delay: it comes late; one that is still on its way at the agent's end is lost.
        reorder: it comes after the next one, or one second late.
        jump: the wall clock jumps; nothing but `wall` time may follow it.
        most: how many faults there are in one schedule.
    """

    crash: Targets = False
    freeze: Targets = False
    slow: Targets = False
    drop: Targets = False
    duplicate: Targets = False
    delay: Targets = False
    reorder: Targets = False
    jump: bool = False
    most: int = attrs.field(default=2, validator=attrs.validators.ge(1))

    def kinds(self) -> list[Kind]:
        """Return the kinds that are switched on."""
        return [kind for kind in get_args(Kind) if getattr(self, kind)]

    def hits(self, kind: Kind, name: str) -> bool:
        """Return whether a kind of fault may hit the agent of this name."""
        targets: Targets = getattr(self, kind)
        if isinstance(targets, bool):
            return targets
        patterns = (targets,) if isinstance(targets, str) else targets
        return any(fnmatchcase(name, pattern) for pattern in patterns)


class Planner:
    """Draws plans of faults from the occasions that runs have had so far.

    Args:
        faults: what may happen.
        rng: the source of chance.
    """

    def __init__(self, faults: Faults, rng: Any) -> None:
        self._faults = faults
        self._rng = rng
        self._census: dict[tuple[str, str], int] = {}
        self._singles: Iterator[Fault] | None = None

    def learn(self, census: Census) -> None:
        """Note which occasions a run had."""
        known = self._census
        for place, count in census.items():
            known[place] = max(known.get(place, 0), count)

    def single(self) -> Fault | None:
        """Return the next of all faults a fault-free run has occasion for."""
        if self._singles is None:
            self._singles = iter(self._enumerate())
        return next(self._singles, None)

    def several(self) -> tuple[Fault, ...]:
        """Return up to `most` faults, by chance; at times none."""
        rng, plan = self._rng, []
        for _ in range(int(rng.random() * (self._faults.most + 1))):
            kind = self._pick(self._faults.kinds())
            targets = self._targets(kind) if kind is not None else []
            target = self._pick(targets)
            if target is not None:
                count = self._census[OCCASIONS[kind], target]
                number = 1 + int(rng.random() * count)
                plan.append(Fault(kind, target, number, self._pick(AMOUNTS[kind])))
        return tuple(plan)

    def _pick(self, choices: Any) -> Any:
        return choices[int(self._rng.random() * len(choices))] if choices else None

    def _targets(self, kind: Kind) -> list[str]:
        """Return whom a kind of fault may hit; anybody only where no names are."""
        occasion = OCCASIONS[kind]
        if occasion == "operation":
            return [t for o, t in self._census if o == occasion]
        return sorted(
            target
            for known, target in self._census
            if known == occasion
            and target != ANYBODY
            and self._faults.hits(kind, target)
        )

    def _enumerate(self) -> list[Fault]:
        found = [
            Fault(kind, target, number, amount)
            for kind in self._faults.kinds()
            for target in self._targets(kind)
            for number in range(1, self._census[OCCASIONS[kind], target] + 1)
            for amount in AMOUNTS[kind]
        ]
        # By chance, so that a budget too small for all of them covers all regions.
        keyed = sorted((self._rng.random(), fault) for fault in found)
        return [fault for _, fault in keyed[:_MANY]]


def fewer(plan: tuple[Fault, ...]) -> Iterator[tuple[Fault, ...]]:
    """Yield the plans that are smaller by one fault, then those that are milder."""
    for index in range(len(plan)):
        yield plan[:index] + plan[index + 1 :]
    for index, fault in enumerate(plan):
        for amount in AMOUNTS[fault.kind]:
            if abs(amount) < abs(fault.amount):
                milder = fault._replace(amount=amount)
                yield (*plan[:index], milder, *plan[index + 1 :])
