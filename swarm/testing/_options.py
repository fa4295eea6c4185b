"""The options of runs and searches: each one once, with its default and its limits.

A public function takes options as keywords, typed by one of the dictionaries here,
and makes one frozen record of them, which checks them. Everything below takes the
record.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping
from typing import Any, Literal, TypedDict, TypeVar, cast, get_args

import attrs

from swarm.testing._sandbox import Threads
from swarm.testing.faults._plan import Faults

Order = Literal["tasks", "fifo"]
Unhandled = Literal["fail", "ignore"]
Strategy = Literal["auto", "fifo", "random", "weighted", "pos", "holds", "random-holds"]


# --- as keywords --------------------------------------------------------------------
# Each names all its bases, because pdoc looks for inherited keys nowhere else.


class LimitOptions(TypedDict, total=False):
    """When a run is given up; see `Settings`."""

    max_steps: int
    max_time: float | None


class SweepOptions(LimitOptions, TypedDict, total=False):
    """Options of a run in the stock order; see `Settings`."""

    threads: Threads
    unhandled: Unhandled


class RunOptions(SweepOptions, LimitOptions, TypedDict, total=False):
    """Options of a run; see `Settings`."""

    order: Order
    max_stall: float


class SearchOptions(SweepOptions, LimitOptions, TypedDict, total=False):
    """Options of an exploration; see `Search`."""

    order: Order
    max_stall: float | None
    schedules: int
    seed: int
    strategy: Strategy
    faults: Faults | None


# --- checks -------------------------------------------------------------------------


def check_whole(name: str, value: object, least: int | None = None) -> None:
    """Refuse a value that is not a whole number, or is below `least`.

    Raises:
        TypeError: The value is not an `int`.
        ValueError: The value is too small.
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
    """Settings of a run.

    Attributes:
        order: `"tasks"` lets task steps be late, `"fifo"` keeps the stock order.
        max_stall: Seconds by which the clock may move on while a step is ready; no
            ready step ever waits longer than this.
        threads: `"refuse"` raises `EscapeError` when a worker thread is asked for,
            `"inline"` runs its function as one step of a task.
        unhandled: `"fail"` makes a failure of an exception in a callback, and of a
            task that failed and that nothing awaited; `"ignore"` only lists these in
            `Run.complaints`, as the stock loop only logs them.
        max_steps: Steps after which a run ends with `StepLimitError`.
        max_time: Loop time, in seconds, after which a run ends with the same error.
    """

    order: Order = attrs.field(default="tasks", validator=one_of(Order))
    max_stall: float | None = attrs.field(default=0.0, validator=is_time)
    threads: Threads = attrs.field(default="refuse", validator=one_of(Threads))
    unhandled: Unhandled = attrs.field(default="fail", validator=one_of(Unhandled))
    max_steps: int = attrs.field(default=100_000, validator=_whole(1))
    max_time: float | None = attrs.field(default=None, validator=_if_any(is_time))


@attrs.frozen(kw_only=True)
class Search(Settings):
    """Settings of an exploration.

    Attributes:
        max_stall: Seconds by which the clock may move on while a step is ready, in
            every schedule. If omitted, a third of the schedules of `"auto"` let steps
            be late by what the program's own timers suggest, at most one second, and
            the others are on time. 0 keeps every step on time.
        schedules: How many schedules to run at most.
        seed: Start of all randomness, also of `sim.rng` and the module `random`.
        strategy: `"auto"` mixes them; or name one.
        faults: What may go wrong in a swarm program; nothing if omitted.
    """

    max_stall: float | None = attrs.field(default=None, validator=_if_any(is_time))
    schedules: int = attrs.field(default=500, validator=_whole(1))
    seed: int = attrs.field(default=0, validator=_whole())
    strategy: Strategy = attrs.field(default="auto", validator=one_of(Strategy))
    faults: Faults | None = attrs.field(default=None, validator=_if_any(_is_faults))


for _record in (Settings, Search):  # signatures of other modules show these types
    attrs.resolve_types(_record)

R = TypeVar("R", bound=Settings)
F = TypeVar("F", bound=Callable[..., Any])


def checked(record: type[R], kind: Any, options: Mapping[str, Any]) -> R:
    """Make a record of options that were given as keywords of this kind.

    Raises:
        TypeError: The option is unknown, or its value is of the wrong type.
        ValueError: A value means nothing; the message names the range.
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
