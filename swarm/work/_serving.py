"""`@serves`: methods of agents that take tasks, and how they are called. Pure."""

import inspect
from collections.abc import Callable
from typing import Any, Final, TypeVar

import attrs

from swarm.errors import InvalidValue
from swarm.model import JSON, Pattern, check_seconds, check_whole, shown
from swarm.ports import TypedCall, unstructured
from swarm.work._claim import Claim

F = TypeVar("F", bound=Callable[..., Any])

_CLAIM: Final = (Claim, "Claim", "swarm.Claim")
_ANYTHING: Final = (Any, inspect.Parameter.empty)

SERVES: Final = "__swarm_serves__"
INTERLEAVE: Final = "__swarm_interleave__"
"""The mark of a method that may run beside other turns; `swarm.agents` reads it."""


@attrs.frozen
class ServeOptions:
    """The options by which a method of an agent serves tasks.

    Attributes:
        kind: The kind of tasks, or a pattern of kinds.
        concurrency: How many at a time.
        lease: Seconds after which a task is rescued when its process dies.
        timeout: Seconds that an attempt may take here, or None.
    """

    kind: str
    concurrency: int = 1
    lease: float = 30.0
    timeout: float | None = None


def serves(
    kind: str,
    *,
    concurrency: int = 1,
    lease: float = 30.0,
    timeout: float | None = None,
) -> Callable[[F], F]:
    """Have a method of an agent take tasks of a kind, as turns.

    The method takes the `Claim`, or the keys of the payload as its parameters, which
    are checked against their annotations. A single parameter that is annotated as a
    `Claim`, or is named `claim` without an annotation, is the claim. What the method
    returns completes the task; what it raises fails the attempt, not the agent.

    With a concurrency of 1, tasks are turns like any other. With more, they run beside
    other turns, as with `@interleave`. An agent that is paused takes none; one that
    stops takes no more, and finishes what it has. A serial method that waits for a task
    which only its own agent serves waits until the time limit of the attempt.

    Args:
        kind: The kind of tasks, or a pattern of kinds: "research.*".
        concurrency: How many at a time.
        lease: Seconds after which a task is rescued when this process dies.
        timeout: Seconds that an attempt may take here; the task's own limit counts
            as well.

    Raises:
        TypeError: The method is not async, takes a claim and more, or an argument is
            not of its type.
        InvalidPath: The kind is no pattern.
        ValueError: An argument means nothing.
    """
    if not isinstance(kind, str):
        raise TypeError(f'write @serves("a.kind"): the kind is text, not {shown(kind)}')
    Pattern.parse(kind)
    check_whole("concurrency", concurrency, 1)
    check_seconds("lease", lease)
    if timeout is not None:
        check_seconds("timeout", timeout)
    options = ServeOptions(kind, concurrency, lease, timeout)

    def mark(method: F) -> F:
        if not inspect.iscoroutinefunction(method):
            raise TypeError(f"@serves is for async methods, not {shown(method)}")
        named = inspect.signature(method).parameters.values()
        if len(named) > 2 and any(p.annotation in _CLAIM for p in named):
            raise TypeError(
                f"{method.__qualname__} takes the claim, or the payload's keys, "
                "not both"
            )
        setattr(method, SERVES, options)
        if concurrency > 1:
            setattr(method, INTERLEAVE, True)
        return method

    return mark


def served(cls: type) -> list[tuple[Callable[..., Any], ServeOptions]]:
    """Return the methods of a class that serve tasks, in the order of their names."""
    found: list[tuple[Callable[..., Any], ServeOptions]] = []
    for name in dir(cls):
        method = inspect.getattr_static(cls, name, None)
        options = getattr(method, SERVES, None)
        if options is not None and inspect.isfunction(method):
            found.append((method, options))
    return found


class Binding:
    """The way in which the arguments of a method are made of a claim."""

    __slots__ = ("_call", "_takes_claim")

    def __init__(self, method: Callable[..., Any]) -> None:
        """Look at a method's parameters."""
        call = self._call = TypedCall(method, is_method=True)
        parameters = list(call.signature.parameters.values())
        first = parameters[0] if len(parameters) == 1 else None
        hint = None if first is None else call.hints.get(first.name, first.annotation)
        self._takes_claim = first is not None and (
            hint in _CLAIM
            # A hint that is still text is for type checkers only.
            or (first.name == "claim" and (hint in _ANYTHING or isinstance(hint, str)))
        )

    def arguments(self, claim: Claim) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Return the arguments to call the method with."""
        if self._takes_claim:
            return (claim,), {}
        payload = claim.payload
        args = [] if payload is None or isinstance(payload, dict) else [payload]
        kwargs = payload if isinstance(payload, dict) else {}
        try:
            return self._call.arguments(args, kwargs)
        except TypeError as error:
            raise InvalidValue(
                f"the payload of a task of kind {claim.kind!r} does not fit "
                f"{self._call.signature}: {error}"
            ) from error


def as_json(result: Any) -> JSON:
    """Return a method's result as a JSON value: attrs classes become dicts."""
    if result is None or type(result) in (str, int, float, bool):
        return result
    return unstructured(result)
