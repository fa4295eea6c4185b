"""How programs are run and searched: every option once, with its default and limits.

Who takes options takes them as keywords, typed by one of the dictionaries here, and
makes one frozen record of them, which checks them. Below that only the record goes
from hand to hand.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping
from typing import Any, Literal, TypedDict, TypeVar, cast, get_args

import attrs

from swarm.testing._faults import Faults

Order = Literal["tasks", "fifo", "batch"]
Threads = Literal["refuse", "inline"]
Strategy = Literal[
    "auto",
    "fifo",
    "random",
    "weighted",
    "pos",
    "pct",
    "holds",
    "double-holds",
    "random-holds",
]


# --- as keywords --------------------------------------------------------------------


class Limits(TypedDict, total=False):
    """When a run is given up; see `Settings`."""

    max_steps: int
    max_time: float | None


class SweepOptions(Limits, total=False):
    """How a run in the stock order is made; see `Settings`."""

    threads: Threads


class RunOptions(SweepOptions, total=False):
    """How a run is made; see `Settings`."""

    order: Order
    max_stall: float


class SearchOptions(RunOptions, total=False):
    """How a program is explored; see `Search`."""

    schedules: int
    seed: int
    strategy: Strategy
    faults: Faults | None


# --- checks -------------------------------------------------------------------------


def check_whole(name: str, value: object, least: int | None = None) -> None:
    """Refuse what is no whole number, or below the least that means anything.

    Raises:
        TypeError: it is no `int`.
        ValueError: it is too small.
    """
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError(f"{name} is a whole number, not {value!r}")
    if least is not None and value < least:
        raise ValueError(f"{name} is {least} or more, not {value}")


def _whole(least: int | None = None) -> Any:
    return lambda _, field, value: check_whole(field.name, value, least)


def one_of(kind: Any) -> Any:
    """Return a validator that takes one of the words of a `Literal`."""
    words = get_args(kind)

    def check(_: object, field: Any, value: object) -> None:
        if value not in words:
            raise ValueError(
                f"unknown {field.name} {value!r}, choose from {', '.join(words)}"
            )

    return check


def is_time(_: object, field: Any, value: object) -> None:
    """Take a finite number of seconds, 0 or more."""
    if not isinstance(value, (int, float)) or isinstance(value, bool):
        raise TypeError(f"{field.name} is a number of seconds, not {value!r}")
    if not 0 <= value < math.inf:
        raise ValueError(f"{field.name} is 0 seconds or more, not {value}")


def _if_any(check: Any) -> Any:
    return attrs.validators.optional(check)


def _is_faults(_: object, field: Any, value: object) -> None:
    if not isinstance(value, Faults):
        raise TypeError(f"{field.name} is a Faults(...) or None, not {value!r}")


# --- as records ---------------------------------------------------------------------


@attrs.frozen(kw_only=True)
class Settings:
    """How a run is made.

    Attributes:
        order: `"tasks"` lets task steps be late, `"fifo"` keeps the stock order,
            `"batch"` shuffles the steps of each loop iteration among themselves.
        max_stall: seconds by which the clock may move on while work is ready; no
            ready step ever waits longer than this.
        threads: `"refuse"` raises `EscapeError` when a worker thread is asked for,
            `"inline"` runs its function as one step of a task.
        max_steps: steps after which a run ends with `StepLimitError`.
        max_time: loop time, in seconds, beyond which it does.
    """

    order: Order = attrs.field(default="tasks", validator=one_of(Order))
    max_stall: float = attrs.field(default=0.0, validator=is_time)
    threads: Threads = attrs.field(default="refuse", validator=one_of(Threads))
    max_steps: int = attrs.field(default=100_000, validator=_whole(1))
    max_time: float | None = attrs.field(default=None, validator=_if_any(is_time))


@attrs.frozen(kw_only=True)
class Search(Settings):
    """How a program is explored.

    Attributes:
        schedules: how many schedules to run at most.
        seed: start of all randomness, also of `sim.rng` and the module `random`.
        strategy: `"auto"` mixes them; or name one.
        faults: what may go wrong in a swarm program; nothing if omitted.
    """

    schedules: int = attrs.field(default=500, validator=_whole(1))
    seed: int = attrs.field(default=0, validator=_whole())
    strategy: Strategy = attrs.field(default="auto", validator=one_of(Strategy))
    faults: Faults | None = attrs.field(default=None, validator=_if_any(_is_faults))


R = TypeVar("R", bound=Settings)
F = TypeVar("F", bound=Callable[..., Any])


def checked(record: type[R], kind: Any, options: Mapping[str, Any]) -> R:
    """Make a record of options that are taken as keywords of this kind.

    Raises:
        TypeError: there is no such option, or its value is of the wrong type.
        ValueError: a value means nothing; the message says what would.
    """
    names = kind.__annotations__
    for name in options:
        if name not in names:
            raise TypeError(f"no option {name!r} here, only {', '.join(sorted(names))}")
    return record(**options)


def spelled_out(record: type[Settings], kind: Any) -> Callable[[F], F]:
    """Have `help` and `inspect` show a function's options one by one, with defaults."""

    def decorate(function: F) -> F:
        signature = inspect.signature(function)
        parameters = [
            p for p in signature.parameters.values() if p.kind is not p.VAR_KEYWORD
        ]
        parameters += [
            inspect.Parameter(
                field.name,
                inspect.Parameter.KEYWORD_ONLY,
                default=field.default,
                annotation=field.type,
            )
            for field in attrs.fields(record)
            if field.name in kind.__annotations__
        ]
        cast("Any", function).__signature__ = signature.replace(parameters=parameters)
        return function

    return decorate
