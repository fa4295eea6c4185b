"""Declare operations and a model; clients, calls and schedules are found for you.

In the style of Lincheck (Koval et al., "Lincheck: A practical framework for testing
concurrent data structures on JVM", CAV 2023): Hypothesis draws what a few clients
call, the explorer runs that under many schedules, and the history of each is judged
against the model. A failure shrinks to few clients with few calls.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import inspect
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Unpack

import attrs
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from swarm.testing._errors import InconclusiveError, LinearizabilityError
from swarm.testing._explore import search
from swarm.testing._options import (
    RunOptions,
    Search,
    SearchOptions,
    checked,
    spelled_out,
)
from swarm.testing._program import Program
from swarm.testing.judges._history import History
from swarm.testing.judges._linearizability import (
    Undecided,
    Violation,
    check_linearizable,
)
from swarm.testing.judges._model import Model

Calls = list[tuple[str, tuple[Any, ...]]]
Scenario = list[Calls]

PATIENCE = 1e9  # virtual seconds after which a call counts as blocked for ever


@spelled_out(Search, RunOptions)
def check_concurrent(
    make: Callable[[], Any],
    ops: Mapping[str, Sequence[st.SearchStrategy[Any]]],
    model: Model[Any],
    *,
    clients: int = 3,
    length: int = 4,
    schedules: int = 30,
    call: Callable[[Any, str, tuple[Any, ...]], Awaitable[Any]] | None = None,
    answers: Mapping[type[BaseException], Any] | None = None,
    failures: tuple[type[BaseException], ...] = (),
    may_block: bool = False,
    max_states: int = 100_000,
    settings: hypothesis_settings | None = None,
    **options: Unpack[RunOptions],
) -> None:
    """Check that an object behaves as if its operations ran one by one.

    `check_concurrent(Store, {"read": (), "write": (st.integers(0, 2),)},
    RegisterModel(0))`. Hypothesis prints the scenario of a failure, and repeats it.

    Args:
        make: Builds the object, inside the loop; may be a coroutine function.
        ops: Name of each operation to the strategies of its arguments.
        model: What the operations do when there is one client.
        clients: How many tasks call at most.
        length: How many calls each of them makes at most.
        schedules: How many schedules to explore for each drawn scenario.
        call: `call(object, name, arguments)` makes one call; the method of that
            name if omitted.
        answers: Exceptions which are answers, and the result each means.
        failures: Exceptions which prove that nothing happened.
        may_block: A call may wait for ever (an acquire without a release); it
            then counts as pending. Otherwise that is a deadlock.
        max_states: Budget of the judge for one history.
        settings: Hypothesis settings.
        options: See `swarm.testing.explore`.

    Raises:
        LinearizabilityError: Some history fits no order; notes tell the schedule.
            Any other exception of an operation comes out as it is.
        InconclusiveError: The judge could not decide a history within `max_states`.
        StuckError: Some call waits for ever, and `may_block` is false.
    """
    experiment = _Experiment(
        make=make,
        model=model,
        call=call or _call_method,
        answers=answers or {},
        failures=failures,
        may_block=may_block,
        max_states=max_states,
    )

    alone = checked(Search, SearchOptions, {**options, "schedules": 1})
    together = attrs.evolve(alone, schedules=schedules)
    config = settings or hypothesis_settings(deadline=None, report_multiple_bugs=False)

    @config
    @given(_scenarios(ops, clients, length))
    def test(scenario: Scenario) -> None:
        program = functools.partial(experiment.run, scenario)
        how = together if len(scenario) > 1 else alone
        search(Program(program), how, "none").check()

    test()


def _scenarios(
    ops: Mapping[str, Sequence[st.SearchStrategy[Any]]], clients: int, length: int
) -> st.SearchStrategy[Scenario]:
    call = st.one_of(
        *[st.tuples(st.just(name), st.tuples(*args)) for name, args in ops.items()]
    )
    calls = st.lists(call, min_size=1, max_size=length)
    return st.lists(calls, min_size=1, max_size=clients)


@attrs.frozen(kw_only=True)
class _Experiment:
    make: Callable[[], Any]
    model: Model[Any]
    call: Callable[[Any, str, tuple[Any, ...]], Awaitable[Any]]
    answers: Mapping[type[BaseException], Any]
    failures: tuple[type[BaseException], ...]
    may_block: bool
    max_states: int

    async def run(self, scenario: Scenario) -> None:
        """Let the clients call, then judge."""
        made = self.make()
        target = await made if inspect.isawaitable(made) else made
        history = History()
        tasks = [
            asyncio.create_task(
                self._client(f"c{i}", calls, target, history), name=f"c{i}"
            )
            for i, calls in enumerate(scenario)
        ]
        if self.may_block:
            done, _ = await asyncio.wait(tasks, timeout=PATIENCE)
            for task in done:
                task.result()
        else:
            await asyncio.gather(*tasks)
        verdict = check_linearizable(history, self.model, max_states=self.max_states)
        if isinstance(verdict, Undecided):
            raise InconclusiveError(
                f"the judge gave up after {self.max_states} states; raise max_states, "
                f"or make length smaller\nhistory:\n{history}"
            )
        if isinstance(verdict, Violation):
            raise LinearizabilityError(f"{verdict.explain()}\nhistory:\n{history}")

    async def _client(
        self, name: str, calls: Calls, target: Any, history: History
    ) -> None:
        for op, args in calls:
            with contextlib.suppress(*self.failures, *self.answers):
                await history.record(
                    name,
                    op,
                    self.call(target, op, args),
                    *args,
                    failures=self.failures,
                    answers=self.answers,
                )


def _call_method(target: Any, op: str, args: tuple[Any, ...]) -> Awaitable[Any]:
    result: Awaitable[Any] = getattr(target, op)(*args)
    return result
