"""Faults as values: which there may be, which there were, and which to try next.

A fault is tied to an *occasion* that is counted per agent (its turns, the messages
told to it), per lock, per subscription (hand-overs of events) or for the whole program
(operations on the tree), never to a step of the loop: "the 2nd message to `ada` is
lost" means the same under every schedule, so a plan of faults and a schedule can be
shrunk one after the other. An occasion is counted only where the fault is one that can
really happen; so nothing is planned that would break a promise of the library itself.
"""

from collections.abc import Collection, Iterator, Mapping
from fnmatch import fnmatchcase
from typing import Any, Final, Literal, NamedTuple, get_args

import attrs

Kind = Literal[
    "crash",
    "freeze",
    "slow",
    "drop",
    "duplicate",
    "delay",
    "reorder",
    "expire",
    "jump",
    "drop_event",
    "duplicate_event",
    "delay_event",
    "reorder_event",
    "crash_handler",
]
Occasion = Literal[
    "turn",
    "message",
    "lease",
    "operation",
    "event that may be lost",
    "event that may come twice",
    "event that may be late",
    "event that may be overtaken",
    "event in a handler",
]
Census = Mapping[tuple[str, str], int]
"""Counts of occasions: (occasion, name of its holder) to a number."""

ANY: Final = "*"
OCCASIONS: Final[Mapping[str, Occasion]] = {
    "crash": "turn",
    "freeze": "turn",
    "slow": "turn",
    "drop": "message",
    "duplicate": "message",
    "delay": "message",
    "reorder": "message",
    "expire": "lease",
    "jump": "operation",
    "drop_event": "event that may be lost",
    "duplicate_event": "event that may come twice",
    "delay_event": "event that may be late",
    "reorder_event": "event that may be overtaken",
    "crash_handler": "event in a handler",
}
Size = tuple[float, int]
"""Seconds, loop turns: how bad a fault is, and how much after its occasion it comes."""

_NOW: Final[Size] = (0.0, 0)
_TURNS: Final[tuple[Size, ...]] = tuple((0.0, turns) for turns in (1, 2, 3, 5, 8, 13))
_SECONDS: Final[tuple[Size, ...]] = ((0.01, 0), (1.0, 0), (30.0, 0), (100.0, 0))
_FREEZES: Final[tuple[Size, ...]] = tuple(
    (seconds, turns) for seconds, _ in _SECONDS for turns in (0, 2, 4, 8)
)
SIZES: Final[Mapping[str, tuple[Size, ...]]] = {
    "crash": _TURNS,
    "freeze": _FREEZES,
    "slow": _SECONDS,
    "drop": (_NOW,),
    "duplicate": (_NOW,),
    "delay": _SECONDS,
    "reorder": ((1.0, 0),),
    "expire": (_NOW, *_TURNS, *_SECONDS),
    "jump": ((1.0, 0), (-1.0, 0), (3600.0, 0), (-3600.0, 0)),
    "drop_event": (_NOW,),
    "duplicate_event": (_NOW,),
    "delay_event": _SECONDS,
    "reorder_event": (_NOW,),
    "crash_handler": _TURNS,
}
"""The sizes of each kind that are tried, the mildest first."""
_TEXTS: Final[Mapping[str, str]] = {
    "crash": "{target} crashed in turn {number}{later}",
    "freeze": "{target} froze for {amount:g} s in turn {number}{later}",
    "slow": "{target} was {amount:g} s slow to handle turn {number}",
    "drop": "message {number} to {target} was lost",
    "duplicate": "message {number} to {target} came twice",
    "delay": "message {number} to {target} came {amount:g} s late",
    "reorder": "message {number} to {target} was overtaken by the next",
    "expire": "lease {number} of {target} ended {amount:g} s after its grant{later}",
    "jump": "the wall clock jumped by {amount:+g} s at operation {number}",
    "drop_event": "event {number} for {target} was lost on its way",
    "duplicate_event": "the acknowledgement of event {number} by {target} was lost",
    "delay_event": "event {number} for {target} was {amount:g} s late",
    "reorder_event": "event {number} for {target} was overtaken by the next",
    "crash_handler": "the handler of {target} crashed in event {number}{later}",
}
_MANY: Final = 2_000  # single faults that are put in line


class Fault(NamedTuple):
    """One thing that goes wrong.

    Attributes:
        kind: What: see `Faults`.
        target: The name of an agent, of a lock or semaphore, of a subscription,
            or `"*"`: any, counted all together.
        number: At which occasion, from 1: the agent's turn (`crash`, `freeze`,
            `slow`), message (`drop`, `duplicate`, `delay`, `reorder`), lease of a
            lock or semaphore (`expire`), operation of the program on the tree
            (`jump`), event handed to a subscription, each time anew (the others).
        amount: For how many seconds; for `expire`, after how many.
        turns: How many turns of the loop later (`crash`, `freeze`, `expire`,
            `crash_handler`).
    """

    kind: Kind
    target: str
    number: int
    amount: float = 0.0
    turns: int = 0

    def __str__(self) -> str:
        name = "anything" if self.target == ANY else f"`{self.target}`"
        turns = "turn" if self.turns == 1 else "turns"
        later = f", {self.turns} loop {turns} on" if self.turns else ""
        return _TEXTS[self.kind].format(
            target=name, number=self.number, amount=self.amount, later=later
        )


Targets = bool | str | Collection[str]


@attrs.frozen(kw_only=True)
class Faults:
    """Which faults an exploration may inject into a swarm program.

    Each kind takes True (all of them), a name, a pattern such as `"worker-*"`, or a
    collection of these. Messages are what is told; asks and streams have a waiting
    caller, and are reached by slow, frozen and crashing agents. Events are what
    the bus hands to a subscription; what can go wrong with them depends on what the
    subscription was promised. An `@on` method is the subscription
    `"<agent>.<method>"`.

    Attributes:
        crash: The agent fails in the middle of a turn: with `SimulatedCrash`, which
            its supervisor takes, if it has a `Restart` that covers it; otherwise,
            and when it is stopping, it is killed.
        freeze: No code of the agent runs for a while, as in a paused process.
        slow: A turn begins a while before its method does.
        drop: A told message is lost.
        duplicate: It comes twice.
        delay: It comes late; one that is still on its way at the agent's end is lost.
        reorder: It comes after the next one, or one second late.
        expire: A lease of a lock or semaphore of this name ends before its time, as
            if it could not be renewed.
        jump: The wall clock jumps; nothing but `wall` time may follow it.
        drop_event: An event is lost on its way to the subscription of this name, and
            counted as dropped: at-most-once handlers, streams whose overflow policy
            drops, `@on` methods. To other handlers it comes again, after `ack_wait`
            or a second.
        duplicate_event: The handler has done its work, but its acknowledgement is
            lost, so the event comes again: at-least-once. Exactly-once as well, where
            what was written in the transaction is lost with it.
        delay_event: An event comes late; where order is promised, those behind it do
            too. Plain functions are never late.
        reorder_event: An event comes after the next one, or one second late: only
            where `ordered=False`.
        crash_handler: The handler is cancelled in the middle; the event comes again,
            or (at-most-once) is done.
        most: How many faults there are in one schedule.
    """

    crash: Targets = False
    freeze: Targets = False
    slow: Targets = False
    drop: Targets = False
    duplicate: Targets = False
    delay: Targets = False
    reorder: Targets = False
    expire: Targets = False
    jump: bool = False
    drop_event: Targets = False
    duplicate_event: Targets = False
    delay_event: Targets = False
    reorder_event: Targets = False
    crash_handler: Targets = False
    most: int = attrs.field(default=2, validator=attrs.validators.ge(1))

    def __attrs_post_init__(self) -> None:
        """Refuse targets that are none."""
        for kind in get_args(Kind):
            targets: object = getattr(self, kind)
            if not isinstance(targets, bool) and (
                kind == "jump"
                or not isinstance(targets, Collection)
                or not all(isinstance(name, str) for name in targets)
            ):
                raise TypeError(
                    f"{kind} is True or False"
                    f"{'' if kind == 'jump' else ', a name, a pattern or several'}, "
                    f"not {targets!r}"
                )

    def kinds(self) -> list[Kind]:
        """Return the kinds that are switched on."""
        return [kind for kind in get_args(Kind) if getattr(self, kind)]

    def hits(self, kind: Kind, name: str) -> bool:
        """Return whether a kind of fault may hit the holder of this name."""
        targets: Targets = getattr(self, kind)
        if isinstance(targets, bool):
            return targets
        patterns = (targets,) if isinstance(targets, str) else targets
        return any(fnmatchcase(name, pattern) for pattern in patterns)


class Planner:
    """Draws plans of faults from the occasions that runs have had so far.

    Args:
        faults: What may happen.
        rng: The source of chance.
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
            kind: Any = self._pick(self._faults.kinds())
            target: Any = kind and self._pick(self._targets(kind))
            if target is not None:
                count = self._census[OCCASIONS[kind], target]
                number = 1 + int(rng.random() * count)
                plan.append(Fault(kind, target, number, *self._pick(SIZES[kind])))
        return tuple(plan)

    def unmatched(self) -> list[str]:
        """Return the names and patterns that matched nothing in any run."""
        found = []
        for kind in self._faults.kinds():
            targets: Targets = getattr(self._faults, kind)
            if isinstance(targets, bool):
                continue
            occasion = OCCASIONS[kind]
            names = sorted(
                {t for known, t in self._census if known == occasion} - {ANY}
            )
            for pattern in (targets,) if isinstance(targets, str) else targets:
                if not any(fnmatchcase(name, pattern) for name in names):
                    there = ", ".join(names[:8]) or "none"
                    found.append(f"{kind}={pattern!r} (there are: {there})")
        return found

    def _pick(self, choices: Any) -> Any:
        return choices[int(self._rng.random() * len(choices))] if choices else None

    def _targets(self, kind: Kind) -> list[str]:
        """Return the names a kind of fault may hit; `ANY` where there are none."""
        occasion = OCCASIONS[kind]
        if occasion == "operation":
            return [t for o, t in self._census if o == occasion]
        return sorted(
            target
            for known, target in self._census
            if known == occasion and target != ANY and self._faults.hits(kind, target)
        )

    def _enumerate(self) -> list[Fault]:
        found = [
            Fault(kind, target, number, *size)
            for kind in self._faults.kinds()
            for target in self._targets(kind)
            for number in range(1, self._census[OCCASIONS[kind], target] + 1)
            for size in SIZES[kind]
        ]
        # By chance, so that a budget too small for all of them covers all regions.
        keyed = sorted((self._rng.random(), fault) for fault in found)
        return [fault for _, fault in keyed[:_MANY]]


def fewer(plan: tuple[Fault, ...]) -> Iterator[tuple[Fault, ...]]:
    """Yield the plans that are smaller by one fault, then those that are milder."""
    for index in range(len(plan)):
        yield plan[:index] + plan[index + 1 :]
    for index, fault in enumerate(plan):
        for amount, turns in SIZES[fault.kind]:
            if (amount, turns) == (fault.amount, fault.turns):
                break
            milder = fault._replace(amount=amount, turns=turns)
            yield (*plan[:index], milder, *plan[index + 1 :])
