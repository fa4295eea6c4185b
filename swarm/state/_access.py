"""The access policy: which identity may do what at which place. Pure.

A rule gives a role rights over every place that its pattern matches *and all that is
below*: a right to `agents.pulse.*` is a right to each session's whole state. No rule
forbids; access is denied unless a rule allows it.
"""

import enum
import inspect
from collections.abc import Callable, Iterable, Iterator
from copy import deepcopy
from typing import Final, Literal, TypeAlias, get_args

import attrs

from swarm.errors import AccessDenied
from swarm.kernel import places, start_inside
from swarm.model import (
    ABSENT,
    ANY_NUMBER,
    JSON,
    OWNER,
    AgentIdentity,
    Path,
    Pattern,
    check_choice,
    dig,
    shown,
    sort_key,
)
from swarm.state._inside import put_inside

Action: TypeAlias = Literal["read", "write", "delete", "hold", "spawn", "role", "kill"]
"""The rights of an identity at a place.

- "hold": at a lock, semaphore or barrier, acquire and give back, arrive, open its name;
  at a named subscription, keep its position and requeue or discard its dead letters.
  Taking these from others, resizing and removing is "write".
- "spawn", at `global.registry.<name>`: begin an agent of that name, and end it again;
  ask an agent of others to stop (without a time limit), to pause and to resume.
- "role", likewise: give it another role than one's own.
- "kill", likewise: kill or replace an agent that another identity has spawned, or
  stop it with a time limit.
"""

ANY_ROLE: Final = "*"

_OF_OWN: Final = frozenset(("hold", "spawn"))
"""The actions that a rule with `own` allows at every place its pattern covers; the
part that does them sees to it that they touch only what is the agent's own."""

_LINES: Final = ("locks", "semaphores", "barriers")
_BOOKS: Final = ("subscriptions", "dead_letters")
_REGISTRY: Final = Path.of("global", "registry")

_MANY_IDENTITIES: Final = 4_096
_MANY_DECISIONS: Final = 16_384


class Rights(enum.Enum):
    """The rights that a rule allows."""

    READ = "r"
    WRITE = "rw"

    def include(self, action: Action) -> bool:
        """Return whether these rights allow `action`; all but reading is writing."""
        return action == "read" or self is Rights.WRITE


def _to_pattern(pattern: Pattern | str) -> Pattern:
    return Pattern.parse(pattern) if isinstance(pattern, str) else pattern


def _to_rights(rights: "Rights | str") -> Rights:
    if isinstance(rights, Rights) or rights in ("r", "rw"):
        return Rights(rights)
    raise ValueError(f"rights are 'r' or 'rw', not {shown(rights)}")


def _to_rule(rule: object) -> "Rule":
    if isinstance(rule, Rule):
        return rule
    if isinstance(rule, tuple) and len(rule) == len(("role", "pattern", "rights")):
        return Rule(*rule)
    raise TypeError(f"a rule is a Rule or (role, pattern, rights), not {shown(rule)}")


@attrs.frozen(repr=False)
class Rule:
    """A role's rights over the places a pattern matches, and all below them.

    Attributes:
        role: The role, or "*" for every role.
        pattern: The pattern of the places.
        rights: `Rights.READ` or `Rights.WRITE`, or their texts "r" and "rw".
        own: Only what is the agent's own: its state below
            `agents.<type>.<session>`, the locks, permits and barrier places that it
            holds, named subscriptions of its type, and agents that it spawned.
    """

    role: str
    pattern: Pattern = attrs.field(converter=_to_pattern)
    rights: Rights = attrs.field(converter=_to_rights)
    own: bool = False

    def __repr__(self) -> str:
        own = ", own=True" if self.own else ""
        role, pattern, rights = self.role, self.pattern.text, self.rights.value
        return f"Rule({role!r}, {pattern!r}, {rights!r}{own})"

    def __str__(self) -> str:
        own = " (own only)" if self.own else ""
        return f"{self.role} has {self.rights.value} on {self.pattern}{own}"


@attrs.frozen
class Decision:
    """Whether an action is allowed, and why. True when it is.

    Attributes:
        allowed: Whether the action is allowed.
        reason: Why, in a sentence.
        rule: The rule that allowed it, or None.
    """

    allowed: bool
    reason: str
    rule: Rule | None = None

    def __bool__(self) -> bool:
        return self.allowed

    def __str__(self) -> str:
        return self.reason


@attrs.frozen
class ValidationResult:
    """A validator's answer about a write.

    Attributes:
        allowed: Whether the write may happen.
        reason: Why it may not.
        sanitized: The value to store instead, when `replaces` is set.
        replaces: Whether `sanitized` takes the place of the value.
    """

    allowed: bool
    reason: str = ""
    sanitized: JSON = None
    replaces: bool = False

    @classmethod
    def ok(cls) -> "ValidationResult":
        """Let the write through as it is."""
        return cls(allowed=True)

    @classmethod
    def replace(cls, value: JSON) -> "ValidationResult":
        """Let the write through with this value instead."""
        return cls(allowed=True, sanitized=value, replaces=True)

    @classmethod
    def reject(cls, reason: str) -> "ValidationResult":
        """Refuse the write."""
        return cls(allowed=False, reason=reason)


Validator: TypeAlias = Callable[[AgentIdentity, str, JSON, JSON], ValidationResult]
"""`(identity, path, old, new) -> ValidationResult`; old or new may be ABSENT."""


class Policy:
    """Rules about what each role may do, and validators of the values that are written.

    Immutable. `Policy.default()` is what a swarm has unless told otherwise.
    """

    def __init__(
        self,
        rules: Iterable[Rule | tuple[str, str, str]] = (),
        validators: Iterable[tuple[str, Validator]] = (),
    ) -> None:
        """Allow what `rules` allow; ask `validators` about writes at their patterns.

        Raises:
            InvalidPath: A pattern cannot be read.
            ValueError: Rights are neither "r" nor "rw".
            TypeError: A rule is none, or a validator is not a synchronous function.
        """
        self.rules: tuple[Rule, ...] = tuple(_to_rule(rule) for rule in rules)
        self.validators: tuple[tuple[Pattern, Validator], ...] = tuple(
            (Pattern.parse(pattern), _synchronous(validator))
            for pattern, validator in validators
        )
        self._permissions: dict[AgentIdentity, Permissions] = {}

    def __repr__(self) -> str:
        return f"Policy({len(self.rules)} rules, {len(self.validators)} validators)"

    @classmethod
    def default(cls) -> "Policy":
        """Return the policy in which agents read all, write their own and `shared`.

        They may hold any lock, semaphore or barrier, but take none from others. They
        may name subscriptions, except those of the program and of other types. They
        may spawn agents in their own role, or in one that no rule names, and end these;
        other agents they may ask to stop or pause, but not kill.
        """
        return cls(
            [
                Rule(ANY_ROLE, "**", "r"),
                Rule(ANY_ROLE, "agents.*.*", "rw", own=True),
                Rule(ANY_ROLE, "shared", "rw"),
                *(Rule(ANY_ROLE, own, "rw", own=True) for own in (*_LINES, *_BOOKS)),
                Rule(ANY_ROLE, _REGISTRY.text, "rw", own=True),
            ]
        )

    @classmethod
    def strict(cls) -> "Policy":
        """Return the matrix of the five roles; everything outside it is denied.

        Semaphores and barriers follow the row of locks, and a role that may hold locks
        may name subscriptions. Only the conductor reads the positions and dead letters
        of others, because these hold what the subscriber was allowed to see. Only the
        conductor spawns, stops, kills and gives roles.
        """
        kept = ("config", "registry", "tasks", "metrics", "health")
        agents = ("pulse", "heartbeat", "dream_weaver")
        rules = [Rule("conductor", f"global.{name}", "rw") for name in kept]
        for role in (*agents, "guardian"):
            rules += [Rule(role, f"global.{name}", "r") for name in kept]
            rules += [Rule(role, f"agents.{kind}.*", "r") for kind in agents]
            rules.append(Rule(role, "agents.conductor.*", "r"))
            rules += [Rule(role, lines, "r") for lines in _LINES]
        rules.append(Rule("guardian", "global.health", "rw"))
        rules += [Rule(kind, f"agents.{kind}.*", "rw", own=True) for kind in agents]
        rules += [Rule("conductor", f"agents.{k}.*", "rw") for k in agents]
        rules.append(Rule("conductor", "agents.conductor.*", "rw"))
        for lines in (*_LINES, *_BOOKS):
            rules += [Rule(kind, lines, "rw", own=True) for kind in agents]
            rules.append(Rule("conductor", lines, "rw"))
        return cls(rules)

    def with_rules(self, *rules: Rule | tuple[str, str, str]) -> "Policy":
        """Return this policy with more rules."""
        return self._derive([*self.rules, *rules], self.validators)

    def with_validator(self, pattern: str, validator: Validator) -> "Policy":
        """Return this policy with a validator for writes at `pattern` and below.

        It is called outside the commit, as often as the write is tried, and must not
        change anything.
        """
        added = (Pattern.parse(pattern), _synchronous(validator))
        return self._derive(self.rules, (*self.validators, added))

    def explain(
        self, identity: AgentIdentity, path: str | Path, action: Action
    ) -> Decision:
        """Return whether `identity` may do `action` at `path`, and which rule says so.

        Raises:
            InvalidPath: The text is not a path.
            ValueError: There is no such action.
        """
        check_choice("an action", action, get_args(Action))
        place = Path.parse(path) if isinstance(path, str) else path
        return self.permissions(identity).decide(place, action)

    def explain_spawn(self, identity: AgentIdentity, name: str, role: str) -> Decision:
        """Return whether `identity` may spawn an agent of this name and role.

        Its own role, and a role that no rule names, need the right to "spawn"; any
        other role could give the new agent more, and needs the right to "role".
        """
        is_harmless = role in (identity.role, ANY_ROLE) or all(
            rule.role != role for rule in self.rules
        )
        place = _REGISTRY.child(name)
        return self.explain(identity, place, "spawn" if is_harmless else "role")

    def allows(self, identity: AgentIdentity, path: str | Path, action: Action) -> bool:
        """Return whether `identity` may do `action` at `path`."""
        return self.explain(identity, path, action).allowed

    def permissions(self, identity: AgentIdentity) -> "Permissions":
        """Return what this policy says of one identity; its decisions are cached."""
        known = self._permissions.get(identity)
        if known is None:
            if len(self._permissions) >= _MANY_IDENTITIES:
                self._permissions.clear()
            known = self._permissions[identity] = Permissions(self.rules, identity)
        return known

    def accessible_paths(self, identity: AgentIdentity, action: Action) -> list[str]:
        """Return the patterns at and below which `identity` may do `action`."""
        if identity == OWNER:
            return ["**"]
        found: set[str] = set()
        for rule in self.rules:
            if rule.role in (ANY_ROLE, identity.role) and rule.rights.include(action):
                if rule.own and action not in _OF_OWN:
                    found.update(_own_patterns(rule.pattern, home(identity)))
                else:
                    found.add(rule.pattern.text)
        return sorted(found)

    def validate(
        self, identity: AgentIdentity, path: Path, old: JSON, new: JSON
    ) -> JSON:
        """Return the value to be written after every validator was asked.

        A validator of a place inside the value is asked about that place.

        Raises:
            AccessDenied: A validator rejected it; carries its reason.
            TypeError: A validator returned something else than a ValidationResult.
        """
        for pattern, validator in self.validators:
            if pattern.covers(path):
                new = _ask(validator, identity, path, old, new)
                continue
            here = start_inside(pattern, path)
            inside = {*places(new, pattern, here), *places(old, pattern, here)}
            for rest in sorted(inside, key=lambda r: sort_key(path.child(*r))):
                was, comes = dig(old, rest), dig(new, rest)
                sane = _ask(validator, identity, path.child(*rest), was, comes)
                if sane is not comes:
                    new = put_inside(deepcopy(new), rest, sane, path)
        return new

    def _derive(
        self,
        rules: Iterable[Rule | tuple[str, str, str]],
        validators: tuple[tuple[Pattern, Validator], ...],
    ) -> "Policy":
        policy = Policy(rules)
        policy.validators = validators
        return policy


class Permissions:
    """The rights of one identity under a policy. They are cached: rules never change.

    Attributes:
        reads_all: Whether the identity may read every place.
    """

    __slots__ = ("_decisions", "_home", "_identity", "_rules", "reads_all")

    def __init__(self, rules: Iterable[Rule], identity: AgentIdentity) -> None:
        """Decide for `identity` by those of `rules` that name its role."""
        self._identity = identity
        self._home = () if identity == OWNER else home(identity).segments
        self._rules = tuple(r for r in rules if r.role in (ANY_ROLE, identity.role))
        self._decisions: dict[tuple[str, Action], Decision] = {}
        self.reads_all: bool = identity == OWNER or any(
            rule.pattern.text == "**" and not rule.own for rule in self._rules
        )

    def may_read(self, place: Path) -> bool:
        """Return whether the place may be read."""
        return self.reads_all or self.decide(place, "read").allowed

    def decide(self, place: Path, action: Action) -> Decision:
        """Return whether the identity may do `action` at a place, and why."""
        known = self._decisions.get((place.text, action))
        if known is None:
            if len(self._decisions) >= _MANY_DECISIONS:
                self._decisions.clear()
            known = self._decide(place, action)
            self._decisions[place.text, action] = known
        return known

    def _decide(self, place: Path, action: Action) -> Decision:
        identity = self._identity
        if identity == OWNER:
            return Decision(allowed=True, reason="the program itself may do everything")
        is_home = place.segments[: len(self._home)] == self._home
        for rule in self._rules:
            if (
                (is_home or not rule.own or action in _OF_OWN)
                and rule.rights.include(action)
                and rule.pattern.covers(place)
            ):
                return Decision(allowed=True, reason=str(rule), rule=rule)
        return Decision(
            allowed=False,
            reason=f"no rule lets {identity} (role {identity.role}) {_DOING[action]} "
            f"{place}",
        )


_DOING: Final[dict[str, str]] = {
    "role": "choose the role of",
    "spawn": "spawn",
    **{action: action for action in ("read", "write", "delete", "hold", "kill")},
}


def home(identity: AgentIdentity) -> Path:
    """Return the folder of an agent's own state."""
    return Path.of("agents", identity.type, identity.session)


def _own_patterns(pattern: Pattern, own: Path) -> Iterator[str]:
    """Yield patterns of the places that `pattern` covers within `own`."""
    if pattern.covers(own):
        yield own.text
        return
    segments = pattern.segments
    here = start_inside(pattern, own)
    for at in here:
        if at - 1 in here and segments[at - 1] is ANY_NUMBER:
            continue  # `**` means this one as well
        yield Pattern.of(*own.segments, *segments[at:]).text


def _ask(
    validator: Validator, identity: AgentIdentity, path: Path, old: JSON, new: JSON
) -> JSON:
    result = validator(identity, path.text, _private(old), _private(new))
    if inspect.iscoroutine(result):
        result.close()
    if not isinstance(result, ValidationResult):
        raise TypeError(
            f"a validator returns a ValidationResult, not {type(result).__name__}"
        )
    if not result.allowed:
        raise AccessDenied(f"{path} was not written by {identity}: {result.reason}")
    return result.sanitized if result.replaces else new


def _private(value: JSON) -> JSON:
    return value if value is ABSENT else deepcopy(value)


def _synchronous(validator: Validator) -> Validator:
    if inspect.iscoroutinefunction(validator):
        raise TypeError("a validator is a synchronous function")
    return validator
