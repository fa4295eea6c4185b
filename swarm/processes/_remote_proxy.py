"""Proxies of agents in other processes, whose class is found by its type's name."""

from collections.abc import Callable
from functools import partial
from typing import Any

from swarm.agents import Actor, Ref, resolve_name
from swarm.model import type_name


class RemoteProxy:
    """A stand-in whose methods ask."""

    __slots__ = ("_ref",)

    def __init__(self, ref: Ref[Any]) -> None:
        self._ref = ref

    def __repr__(self) -> str:
        return f"<proxy of {self._ref!r}>"

    def __getattr__(self, name: str) -> Callable[..., Any]:
        if name.startswith("_"):
            raise AttributeError(f"a proxy has no attribute {name!r}")
        ref = self._ref
        classes = classes_of(ref.identity.type)
        if not classes:
            raise AttributeError(
                f"no class of type {ref.identity.type!r} is loaded in this process; "
                f"use ask(Class.{name}, ...)"
            )
        # Two modules may each have a class of this name; the method decides.
        cls = next((cls for cls in classes if hasattr(cls, name)), classes[0])
        call = resolve_name(cls, name)
        return partial(ref.stream if call.streams else ref.ask, call.function)


def classes_of(kind: str) -> list[type[Actor]]:
    """Return the loaded classes of agents that have a type's name, newest first."""
    known: list[type[Actor]] = [Actor]
    for cls in known:
        known += cls.__subclasses__()
    return [cls for cls in reversed(known) if type_name(cls) == kind]
