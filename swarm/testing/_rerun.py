"""Ask of a swarm again what a recorded program asked of it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import attrs

from swarm.agents import Ref
from swarm.system import Swarm, SwarmConfig, coordinator_of
from swarm.system._recording import state_of


@attrs.frozen(kw_only=True)
class RerunOutcome:
    """The results of a rerun, and the state at its end.

    Attributes:
        results: The result of each step by its number; an error that a step was
            allowed to raise is its result.
        state: The documents that the steps and the agents wrote, by path.
    """

    results: dict[int, Any]
    state: dict[str, Any]


@attrs.frozen
class _RefTo:
    """Stands for the ref of an agent until the agent is there."""

    name: str


class RerunStep:
    """One input: call one of the methods, once."""

    def __init__(
        self,
        number: int,
        after: Sequence[int],
        pause: float,
        may_raise: tuple[type[BaseException], ...],
    ) -> None:
        self.number = number
        self.after = after
        self.pause = pause
        self.may_raise = may_raise
        self.act: Callable[[Swarm], Awaitable[Any]] | None = None

    def spawn(self, factory: Callable[..., Any], *args: Any, **options: Any) -> None:
        """Spawn an agent."""
        self.act = lambda s: s.spawn(factory, *_refs(s, args), **options)

    def ask(self, agent: str, method: Any, *args: Any, **kwargs: Any) -> None:
        """Ask an agent, by its name."""
        self.act = lambda s: _ref(s, agent).ask(
            method, *_refs(s, args), **_refs(s, kwargs)
        )

    def tell(self, agent: str, method: Any, *args: Any, **kwargs: Any) -> None:
        """Tell an agent, by its name."""
        self.act = lambda s: _ref(s, agent).tell(
            method, *_refs(s, args), **_refs(s, kwargs)
        )

    def publish(self, payload: Any, *, key: str | None = None) -> None:
        """Publish an event."""
        self.act = lambda s: s.events.publish(payload, key=key)

    def submit(self, kind: str, payload: Any = None, **options: Any) -> None:
        """Submit a task."""
        self.act = lambda s: s.tasks.submit(kind, payload, **options)

    def set(self, path: str, value: Any) -> None:
        """Write a document."""
        self.act = lambda s: s.state.set(path, value)

    def delete(self, path: str) -> None:
        """Delete a document."""
        self.act = lambda s: s.state.delete(path)


class Rerun:
    """The inputs of a recorded run, to be played in a swarm of their own.

    `swarm replay FILE --as-test` writes a test that uses it:

    ```python
    import asyncio

    from swarm import Agent
    from swarm.testing import Rerun, explore


    class Account(Agent):
        def __init__(self) -> None:
            self.balance = 100

        async def take(self, amount: int) -> int:
            self.balance -= amount
            return self.balance


    async def twice() -> None:
        run = Rerun()
        run.step(1).spawn(Account, name="a")
        run.step(2, after=[1]).ask("a", Account.take, 60)
        run.step(3, after=[1]).ask("a", Account.take, 60)  # overlaps with step 2
        outcome = await run.play()
        assert outcome.results[2] != outcome.results[3]


    assert explore(twice, schedules=50).failure is None
    ```

    A step begins when those that it comes after have ended, and a pause later. What a
    step raises is raised by `play`, unless it may raise that.
    """

    def __init__(self, *, config: SwarmConfig | None = None) -> None:
        """Have no steps yet; play them in a swarm with this configuration."""
        self._config = config
        self._steps: dict[int, RerunStep] = {}

    def step(
        self,
        number: int,
        *,
        after: Sequence[int] = (),
        pause: float = 0.0,
        may_raise: type[BaseException] | tuple[type[BaseException], ...] = (),
    ) -> RerunStep:
        """Add a step; what it does is said by a method of the result.

        Args:
            number: Its number, which others may come after.
            after: The steps that end before it begins.
            pause: Seconds between their end and its beginning.
            may_raise: The errors that are a result.

        Raises:
            ValueError: The number is taken, or a step before it is not there.
        """
        missing = [each for each in after if each not in self._steps]
        if number in self._steps or missing:
            raise ValueError(
                f"step {number} is there already"
                if number in self._steps
                else f"step {number} comes after {missing[0]}, which is not there"
            )
        allowed = may_raise if isinstance(may_raise, tuple) else (may_raise,)
        step = RerunStep(number, after, pause, allowed)
        self._steps[number] = step
        return step

    def ref(self, name: str) -> Any:
        """Return what stands for the ref of an agent among arguments."""
        return _RefTo(name)

    async def play(self, *, pause: float = 0.0) -> RerunOutcome:
        """Do all steps, and return what they came to.

        Args:
            pause: Seconds between the end of the last step and the look at the state.

        Raises:
            ExceptionGroup: Unhandled failures of the swarm.
            Exception: The first error of a step that it may not raise.
        """
        ended = {number: asyncio.Event() for number in self._steps}
        results: dict[int, Any] = {}
        errors: list[Exception] = []
        state: dict[str, Any] = {}

        async def run(step: RerunStep, swarm: Swarm) -> None:
            try:
                for number in step.after:
                    await ended[number].wait()
                if step.pause:
                    await asyncio.sleep(step.pause)
                assert step.act is not None, f"step {step.number} does nothing"
                results[step.number] = await step.act(swarm)
            except step.may_raise as error:
                results[step.number] = error
            except Exception as error:  # noqa: BLE001  # raised when all have ended
                errors.append(error)
            finally:
                ended[step.number].set()

        async with Swarm(config=self._config) as swarm:
            async with asyncio.TaskGroup() as group:
                for number, step in self._steps.items():
                    group.create_task(run(step, swarm), name=f"step {number}")
            if errors:
                raise errors[0]
            await asyncio.sleep(pause)
            coordinator = coordinator_of(swarm)
            assert coordinator is not None  # it is open
            state = coordinator.tail.read_now(state_of)
        return RerunOutcome(results=results, state=state)


def _ref(swarm: Swarm, name: str) -> Ref[Any]:
    ref = swarm.agents.get(name)
    if ref is None:
        raise LookupError(f"there is no agent called {name!r}; was it spawned?")
    return ref


def _refs(swarm: Swarm, value: Any) -> Any:
    """Return a value with refs in place of what stands for them."""
    if isinstance(value, _RefTo):
        return _ref(swarm, value.name)
    if type(value) in (list, tuple):
        return type(value)(_refs(swarm, each) for each in value)
    if type(value) is dict:
        return {key: _refs(swarm, each) for key, each in value.items()}
    return value
