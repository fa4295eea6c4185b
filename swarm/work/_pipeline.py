"""Pipelines as users define them: stages with functions, checked at once. Pure."""

import inspect
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, Final, get_type_hints

import attrs

from swarm.errors import NotFound
from swarm.model import Backoff, check_text
from swarm.ports import structuring
from swarm.work._pipeline_graph import StageShape, check_shape, check_word
from swarm.work._pipeline_text import draw_mermaid, draw_text

_ANY: Final = object()
_BACKOFF: Final = Backoff(0.1, 60.0)


class Stage:
    """One step of a pipeline: an agent's method, or an async function.

    The function gets its predecessor's output as its one argument; the first stage
    gets what `start` was given; a stage after several gets one keyword argument for
    each, by stage name. An agent's method is asked of a living agent of that class;
    another function is called by the process that runs the pipeline.
    """

    __slots__ = ("_after", "_shape", "function")

    def __init__(
        self,
        name: str,
        function: Callable[..., Coroutine[Any, Any, Any]],
        *,
        after: Sequence[str] | None = None,
        agent: str | None = None,
        capability: str | None = None,
        role: str | None = None,
        map: bool = False,  # noqa: A002  # the word users know
        concurrency: int = 8,
        timeout: float | None = None,
        max_retries: int = 3,
        backoff: Backoff = _BACKOFF,
    ) -> None:
        """Define a stage.

        Args:
            name: Its name, unique in the pipeline, without ":".
            function: What it does.
            after: The stages whose outputs it gets. None: the stage that stands
                before it in the list; empty: it begins with the run.
            agent: The name of the one agent that does it.
            capability: What an agent must be able to do to do it.
            role: The role an agent must have to do it.
            map: Whether to call the function once for each item of a list, of at
                most 1,000. The output is the list of results in order.
            concurrency: How many items are in work at a time.
            timeout: Seconds an attempt may take; None: as long as it takes.
            max_retries: How often a failed attempt is tried again.
            backoff: The delays before retries.

        Raises:
            TypeError: The function is not an async function.
        """
        if not inspect.iscoroutinefunction(function):
            raise TypeError(f"stage {name!r} needs an async function, not {function!r}")
        if isinstance(after, str):
            raise TypeError(f"stage {name!r}: `after` is a list of stage names")
        self.function: Callable[..., Coroutine[Any, Any, Any]] = function
        self._after = after
        self._shape = StageShape(
            name=name,
            label=getattr(function, "__qualname__", name).rsplit("<locals>.")[-1],
            agent=agent,
            capability=capability,
            role=role,
            map=map,
            concurrency=concurrency,
            timeout=timeout,
            max_retries=max_retries,
            backoff=backoff,
        )

    def shape(self, before: str | None) -> StageShape:
        """Return the stored part; `before` is the stage before it in the list."""
        after = self._after
        if after is None:
            after = () if before is None else (before,)
        return attrs.evolve(self._shape, after=tuple(after))

    @property
    def name(self) -> str:
        """The stage's name."""
        return self._shape.name

    def typed(
        self, args: list[Any], kwargs: dict[str, Any]
    ) -> tuple[list[Any], dict[str, Any]]:
        """Return JSON arguments as the types that the function's annotations name.

        Raises:
            Exception: An argument is not of its type; what cattrs raised.
        """
        hints = _hints(self.function)
        own = [None] if self.is_method else []
        bound = inspect.signature(self.function).bind(*own, *args, **kwargs)
        names = list(bound.arguments)[len(own) :]
        typed = [
            _structured(value, hints.get(name))
            for name, value in zip(names, args, strict=False)
        ]
        by_name = {name: _structured(v, hints.get(name)) for name, v in kwargs.items()}
        return typed, by_name

    @property
    def is_method(self) -> bool:
        """Whether the function is a method, to be asked of an agent."""
        return "." in self._shape.label

    def __repr__(self) -> str:
        return f"Stage({self.name!r}, {self._shape.label})"


class Pipeline:
    """Stages that pass their outputs on, in a line or an acyclic graph.

    `Pipeline("content", [Stage("research", find), Stage("write", write)])`. Give it to
    `swarm.pipelines.start`. It can be drawn: `text()`, `mermaid()`.
    """

    __slots__ = ("_by_name", "name", "shapes", "stages")

    def __init__(self, name: str, stages: Sequence[Stage]) -> None:
        """Define a pipeline.

        Raises:
            TypeError: A stage's function cannot take what the stages before it give.
            ValueError: The stages form a cycle, or a name is used twice or unknown.
        """
        check_text("a pipeline's name", name)
        check_word("a pipeline", name)
        self.name: str = name
        self.stages: tuple[Stage, ...] = tuple(stages)
        before: str | None = None
        shapes: list[StageShape] = []
        for stage in self.stages:
            shapes.append(stage.shape(before))
            before = stage.name
        self.shapes: tuple[StageShape, ...] = tuple(shapes)
        check_shape(self.shapes)
        self._by_name = {stage.name: stage for stage in self.stages}
        for shape in self.shapes:
            self._check_call(shape)

    def stage(self, name: str) -> Stage:
        """Return the stage of this name.

        Raises:
            NotFound: There is none.
        """
        stage = self._by_name.get(name)
        if stage is None:
            raise NotFound(f"pipeline '{self.name}' has no stage '{name}'")
        return stage

    def shape(self, name: str) -> StageShape:
        """Return the stored part of the stage of this name.

        Raises:
            NotFound: There is none.
        """
        self.stage(name)
        return next(shape for shape in self.shapes if shape.name == name)

    def text(self) -> str:
        """Return the pipeline as text, a line for each stage."""
        return draw_text(self.name, self.shapes)

    def mermaid(self) -> str:
        """Return the pipeline as a Mermaid flowchart."""
        return draw_mermaid(self.shapes)

    def __repr__(self) -> str:
        return f"Pipeline({self.name!r}, {list(self._by_name)})"

    def _check_call(self, shape: StageShape) -> None:
        """Refuse a function that cannot be called with what its stage gets."""
        stage = self._by_name[shape.name]
        signature = inspect.signature(stage.function)
        own = [object()] if stage.is_method else []
        try:
            if len(shape.after) > 1:
                bound = signature.bind(*own, **dict.fromkeys(shape.after))
            else:
                bound = signature.bind(*own, None)
        except TypeError as error:
            gets = f"the outputs of {', '.join(shape.after)} by name"
            if len(shape.after) < 2:
                gets = "one argument"
            raise TypeError(
                f"stage '{shape.name}' gets {gets}: {shape.label} has a {error}"
            ) from None
        if shape.map or not shape.after:
            return
        hints = _hints(stage.function)
        names = list(bound.arguments)[len(own) :]
        for parameter, name in zip(names, shape.after, strict=False):
            source = self._by_name[name]
            gives = _hints(source.function).get("return", _ANY)
            is_list = next(s.map for s in self.shapes if s.name == name)
            if is_list:
                gives = list
            if clash(gives, hints.get(parameter, _ANY)):
                raise TypeError(
                    f"stage '{shape.name}': {parameter} is {_shown(hints[parameter])}, "
                    f"but stage '{name}' gives {_shown(gives)}"
                )


def clash(given: Any, wanted: Any) -> bool:
    """Return whether two annotations exclude each other.

    Only plain classes are compared; for anything else the answer is no.
    """
    given = _plain(given)
    wanted = _plain(wanted)
    if given is None or wanted is None:
        return False
    if (given, wanted) in ((int, float), (tuple, list), (list, tuple)):
        return False
    if not _is_json(given) or not _is_json(wanted):
        return False  # an attrs class travels as a dict, an enum as its value
    return not issubclass(given, wanted)


_JSON: Final = (str, int, float, bool, list, dict, tuple)


def _is_json(kind: type) -> bool:
    return kind in _JSON


def _structured(value: Any, annotation: Any) -> Any:
    """Return a JSON value as a class that is not JSON itself, if one is asked for."""
    if annotation is None or _plain(annotation) in (*_JSON, object, None):
        return value
    return structuring().structure(value, annotation)


def _plain(annotation: Any) -> type | None:
    """Return the class that an annotation is about, or None."""
    origin = getattr(annotation, "__origin__", annotation)
    return origin if isinstance(origin, type) else None


def _hints(function: Any) -> dict[str, Any]:
    try:
        return get_type_hints(function)
    except Exception:  # noqa: BLE001  # a name that only the type checker knows
        return {}


def _shown(annotation: Any) -> str:
    return getattr(annotation, "__name__", None) or str(annotation)
