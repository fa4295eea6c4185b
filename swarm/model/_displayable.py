"""Rich display in notebooks, for objects of every layer."""

from collections.abc import Container
from importlib import import_module


class Displayable:
    """An object that a notebook shows as text and HTML.

    The picture is drawn by `swarm.observability`, which is above every layer whose
    objects it draws; so it is found by its name, when a notebook first asks for it.
    Displaying waits for nothing, changes nothing and never raises.
    """

    __slots__ = ()

    def _repr_mimebundle_(
        self,
        include: Container[str] | None = None,
        exclude: Container[str] | None = None,
    ) -> dict[str, str]:
        """Return `text/plain` and `text/html`, as IPython asks for them."""
        bundle: dict[str, str]
        bundle = import_module("swarm.observability").mimebundle(self)
        return {
            kind: text
            for kind, text in bundle.items()
            if (include is None or kind in include)
            and (exclude is None or kind not in exclude)
        }
