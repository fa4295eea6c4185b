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
        cls = class_of(ref.identity.type)
        if cls is None:
            raise AttributeError(
                f"no class of type {ref.identity.type!r} is loaded in this process; "
                f"use ask(Class.{name}, ...)"
            )
        call = resolve_name(cls, name)
        return partial(ref.stream if call.streams else ref.ask, call.function)


def class_of(kind: str) -> type[Actor] | None:
    """Return the class of agents that has this type's name, if it is loaded here."""
    found: list[type[Actor]] = [Actor]
    for cls in found:
        if type_name(cls) == kind:
            return cls
        found += cls.__subclasses__()
    return None
