"""Who may read and write what. Pure decisions about paths.

A rule gives a role rights over every place that its pattern matches *and all that is
below*: a right to `agents.pulse.*` is a right to each session's whole state. There
are no rules that forbid: what no rule allows is denied.
"""

import enum
import inspect
from collections.abc import Callable, Iterable, Iterator
from copy import deepcopy
from typing import Literal, TypeAlias, get_args

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
    dig,
    sort_key,
)
from swarm.state._inside import put_inside

Action: TypeAlias = Literal["read", "write", "delete", "hold"]
"""What somebody may do at a place. To hold is to acquire and give back a lock, permits
or a place at a barrier, to keep the position of a named subscription, and to requeue or
discard its dead letters: who may only write what is their own may do that, and who may
write there may also take it from others."""

ANY_ROLE = "*"

_LINES = ("locks", "semaphores", "barriers")
_BOOKS = ("subscriptions", "dead_letters")


class Rights(enum.Enum):
    """What a rule allows."""

    READ = "r"
    WRITE = "rw"

    def include(self, action: Action) -> bool:
        """Return whether these rights allow `action`; deleting is writing."""
        return action == "read" or self is Rights.WRITE


def _to_pattern(pattern: Pattern | str) -> Pattern:
    return Pattern.parse(pattern) if isinstance(pattern, str) else pattern


@attrs.frozen
class Rule:
    """A role's rights over the places a pattern matches, and all below them.

    Attributes:
        role: The role, or "*" for every role.
        pattern: Where.
        rights: `Rights.READ` or `Rights.WRITE`, or their texts "r" and "rw".
        own: Only what is the agent's own: below `agents.<its type>.<its session>`, the
            locks, permits and places at barriers that it holds itself, and the named
            subscriptions of agents of its type.
    """

    role: str
    pattern: Pattern = attrs.field(converter=_to_pattern)
    rights: Rights = attrs.field(converter=Rights)
    own: bool = False

    def __str__(self) -> str:
        own = " (own only)" if self.own else ""
        return f"{self.role} has {self.rights.value} on {self.pattern}{own}"


@attrs.frozen
class Decision:
    """Whether something is allowed, and why. True when it is.

    Attributes:
        allowed: Whether.
        reason: Why, in a sentence.
        rule: The rule that allowed it, if one did.
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
    """What a validator says of a write.

    Attributes:
        allowed: Whether it may happen.
        reason: Why not.
        sanitized: The value to store instead, when `replaces` is set.
        replaces: Whether `sanitized` takes the place of what was written.
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
    """Who may do what: a set of rules, and validators of what is written.

    Immutable. `Policy.default()` is what a swarm has unless told otherwise.
    """

    def __init__(
        self,
        rules: Iterable[Rule | tuple[str, str, str]] = (),
        validators: Iterable[tuple[str, Validator]] = (),
    ) -> None:
        """Allow what `rules` allow; ask `validators` about writes at their patterns.

        Raises:
            InvalidPath: A pattern is none.
            ValueError: Rights are neither "r" nor "rw".
            TypeError: A validator is not a synchronous function.
        """
        self.rules: tuple[Rule, ...] = tuple(
            rule if isinstance(rule, Rule) else Rule(*rule) for rule in rules
        )
        self.validators: tuple[tuple[Pattern, Validator], ...] = tuple(
            (Pattern.parse(pattern), _synchronous(validator))
            for pattern, validator in validators
        )

    @classmethod
    def default(cls) -> "Policy":
        """Return the policy in which agents read all, write their own and `shared`.

        They may hold any lock, semaphore or barrier, and take none from others; and
        have subscriptions with names, but not those of the program or of agents of
        another type.
        """
        return cls(
            [
                Rule(ANY_ROLE, "**", "r"),
                Rule(ANY_ROLE, "agents.*.*", "rw", own=True),
                Rule(ANY_ROLE, "shared", "rw"),
                *(Rule(ANY_ROLE, own, "rw", own=True) for own in (*_LINES, *_BOOKS)),
            ]
        )

    @classmethod
    def strict(cls) -> "Policy":
        """Return the matrix of the five roles: deny whatever is not in it.

        Its row for locks is that for semaphores and barriers as well, and who may hold
        those may have subscriptions with names. But what others have had of them, only
        the conductor reads: dead letters hold what those may see who subscribed.
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
            InvalidPath: The path is none.
            ValueError: The action is not "read", "write", "delete" or "hold".
        """
        if action not in get_args(Action):
            raise ValueError(
                f'an action is "read", "write", "delete" or "hold", not {action!r}'
            )
        place = Path.parse(path) if isinstance(path, str) else path
        if identity == OWNER:
            return Decision(allowed=True, reason="the program itself may do everything")
        for rule in self.rules:
            if _allows(rule, identity, place, action):
                return Decision(allowed=True, reason=str(rule), rule=rule)
        return Decision(
            allowed=False,
            reason=f"no rule lets {identity} (role {identity.role}) {action} {place}",
        )

    def allows(self, identity: AgentIdentity, path: str | Path, action: Action) -> bool:
        """Return whether `identity` may do `action` at `path`."""
        return self.explain(identity, path, action).allowed

    def accessible_paths(self, identity: AgentIdentity, action: Action) -> list[str]:
        """Return the patterns at and below which `identity` may do `action`."""
        if identity == OWNER:
            return ["**"]
        found: set[str] = set()
        for rule in self.rules:
            if rule.role in (ANY_ROLE, identity.role) and rule.rights.include(action):
                if rule.own and action != "hold":
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


def _allows(rule: Rule, identity: AgentIdentity, path: Path, action: Action) -> bool:
    return (
        rule.role in (ANY_ROLE, identity.role)
        and rule.rights.include(action)
        and rule.pattern.covers(path)
        and (not rule.own or action == "hold" or path.within(home(identity)))
    )


def home(identity: AgentIdentity) -> Path:
    """Return the folder of an agent's own state."""
    return Path.of("agents", identity.type, identity.session)


def _own_patterns(pattern: Pattern, own: Path) -> Iterator[str]:
    """Yield the patterns of what is both meant by `pattern` and within `own`."""
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
