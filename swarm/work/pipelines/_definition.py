"""Pipelines as users define them: stages with functions, checked. Pure."""

import inspect
from collections.abc import Callable, Coroutine, Sequence
from functools import cached_property
from typing import Any

import attrs

from swarm.errors import NotFound
from swarm.model import Displayable, check_name, check_text, check_whole, shown
from swarm.ports import TypedCall
from swarm.work._submit_rules import CHECKS
from swarm.work.pipelines._drawing import draw_mermaid, draw_text
from swarm.work.pipelines._graph import (
    StageOptions,
    StageShape,
    check_word,
    ordered,
)


@attrs.frozen(eq=False, repr=False)
class Stage(StageOptions):
    """One step of a pipeline: an agent's method, or an async function.

    The function gets its predecessor's output as its one argument; the first stage
    gets what `start` was given; a stage after several gets one keyword argument for
    each, by stage name. Each argument is checked against its annotation when the stage
    begins, and is made an instance of it. An agent's method is asked of a living agent
    of that class; another function is called by the process that runs the pipeline.

    Args:
        name: Its name, unique in the pipeline: letters, digits, "_" and "-".
        function: What it does.
        after: The stages whose outputs it gets. None: the stage that stands before it
            in the list; empty: it begins with the run.
        agent: The name of the one agent that does it; None: any of its class.
        map: Whether to call the function once for each item of a list, of at most
            1,000. The output is the list of results in order.
        concurrency: How many items of a run are in work at a time, and how many tasks
            of the stage one process does at a time; a pipeline that is defined again
            counts anew.
        timeout: Seconds an attempt may take; None: as long as it takes.
        max_retries: How often a failed attempt is tried again.
        backoff: The delays before retries.

    Raises:
        TypeError: The function is not an async function, `after` is not a list, or
            another argument is not of its type.
        ValueError: The name is not one word, a number is out of range, or an agent is
            given for a function that is not an agent's method.
    """

    name: str
    function: Callable[..., Coroutine[Any, Any, Any]]
    after: Sequence[str] | None = attrs.field(default=None, kw_only=True)

    def __attrs_post_init__(self) -> None:
        """Refuse what cannot be meant."""
        function, after, where = self.function, self.after, f"stage {self.name!r}"
        if not inspect.iscoroutinefunction(function):
            raise TypeError(f"{where} needs an async function, not {shown(function)}")
        is_wrong = isinstance(after, str) or not isinstance(after, Sequence | None)
        if is_wrong or not all(isinstance(name, str) for name in after or ()):
            raise TypeError(f"{where}: `after` is a list of names, not {shown(after)}")
        check_word("the name of a stage", self.name)
        check_whole(f"{where}: concurrency", self.concurrency, 1)
        for option in ("timeout", "max_retries", "backoff"):
            CHECKS[option](f"{where}: {option}", getattr(self, option))
        if not isinstance(self.map, bool):
            raise TypeError(f"{where}: map is True or False, not {shown(self.map)}")
        if self.agent is not None:
            check_name(f"{where}: agent", self.agent)
            if not self.is_method:
                raise ValueError(
                    f"{where}: an agent is for a method of agents, and {self.label} is "
                    "called by the process that runs the pipeline"
                )

    @cached_property
    def _call(self) -> TypedCall:
        return TypedCall(self.function, is_method=self.is_method)

    @property
    def label(self) -> str:
        """The function's name, for people."""
        found: str = getattr(self.function, "__qualname__", self.name)
        return found.rsplit("<locals>.")[-1]

    @cached_property
    def is_method(self) -> bool:
        """Whether the function is a method, to be asked of an agent."""
        return "." in self.label and not inspect.ismethod(self.function)

    def placed(self, before: str | None) -> StageShape:
        """Return its shape in a pipeline, after `before` unless it says otherwise."""
        after = self.after
        if after is None:
            after = () if before is None else (before,)
        options = {f.name: getattr(self, f.name) for f in attrs.fields(StageOptions)}
        return StageShape(
            name=self.name, after=tuple(after), label=self.label, **options
        )

    def check_call(self, after: Sequence[str]) -> None:
        """Refuse a function that cannot be called with the outputs before it.

        Raises:
            TypeError: It is one.
        """
        try:
            if len(after) > 1:
                self._call.signature.bind(**dict.fromkeys(after))
            else:
                self._call.signature.bind(None)
        except TypeError as error:
            several = f"the outputs of {', '.join(after)} by name"
            gets = several if len(after) > 1 else "one argument"
            raise TypeError(
                f"stage '{self.name}' gets {gets}, and {self.label} cannot be called "
                f"like this: {error}"
            ) from None

    def typed(self, args: Sequence[Any], kwargs: dict[str, Any]) -> tuple[Any, Any]:
        """Return JSON arguments as the types that the annotations name.

        Raises:
            TypeError: An argument is not of its type.
        """
        try:
            return self._call.arguments(args, kwargs)
        except TypeError as error:
            raise TypeError(f"stage '{self.name}': {error}") from error

    def __repr__(self) -> str:
        return f"Stage({self.name!r}, {self.label})"


class Pipeline(Displayable):
    """Stages that pass their outputs on, in a line or an acyclic graph.

    `Pipeline("content", [Stage("research", find), Stage("write", write)])`. Give it to
    `swarm.pipelines.start`. It can be drawn: `text()`, `mermaid()`.
    """

    __slots__ = ("name", "shapes", "stages")

    def __init__(self, name: str, stages: Sequence[Stage]) -> None:
        """Define a pipeline.

        Raises:
            TypeError: The stages are not a list of `Stage`, or the function of one
                cannot take what the stages before it give.
            ValueError: The stages form a cycle, or a name is used twice or unknown.
        """
        check_word("the name of a pipeline", name)
        is_list = isinstance(stages, Sequence)
        if not is_list or not all(isinstance(stage, Stage) for stage in stages):
            raise TypeError(
                f"a pipeline is made of a list of Stage, not {shown(stages)}"
            )
        self.name: str = name
        self.stages: dict[str, Stage] = {stage.name: stage for stage in stages}
        before: str | None = None
        shapes: list[StageShape] = []
        for stage in stages:
            shapes.append(stage.placed(before))
            before = stage.name
        self.shapes: tuple[StageShape, ...] = ordered(shapes)
        for shape in self.shapes:
            self.stages[shape.name].check_call(shape.after)

    def stage(self, name: str) -> Stage:
        """Return the stage of this name.

        Raises:
            NotFound: There is none.
        """
        check_text("the name of a stage", name)
        if name not in self.stages:
            raise NotFound(f"pipeline '{self.name}' has no stage '{name}'")
        return self.stages[name]

    def text(self) -> str:
        """Return the pipeline as text, a line for each stage."""
        return draw_text(self.name, self.shapes)

    def mermaid(self) -> str:
        """Return the pipeline as a Mermaid flowchart."""
        return draw_mermaid(self.shapes)

    def __repr__(self) -> str:
        return f"Pipeline({self.name!r}, {list(self.stages)})"
