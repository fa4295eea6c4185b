"""What several commands take: the swarm to look at, and forms of options."""

import asyncio
import os
from typing import Annotated, Any

import orjson
from cyclopts import Parameter
from cyclopts.validators import Number

from swarm.cli import _look as look


def _check_not_empty(_: object, name: str) -> None:
    if not name:
        raise ValueError("a name is not empty")


Target = Annotated[
    str | None,
    Parameter(
        name=["--swarm", "-s"],
        help="Which swarm: see `swarm --help`. Give a URL with a password or a token "
        "by the variable SWARM_TARGET: other users can read command lines.",
    ),
]
Name = Annotated[
    str,
    Parameter(
        name="--name",
        help="The name of a swarm on a Redis server.",
        validator=_check_not_empty,
    ),
]
Json = Annotated[bool, Parameter(name="--json", negative="", help="One object a line.")]
TaskId = Annotated[str, Parameter(help="Its id.")]
Reason = Annotated[str, Parameter(help="Why; it is kept with the event.")]
Flag = Parameter(negative="")
AtLeastOne = Annotated[int, Parameter(validator=Number(gte=1))]
Seconds = Annotated[float, Parameter(validator=Number(gt=0))]


def looking(target: str | None, name: str, see: look.Look) -> int:
    """Look at what a command's options name, and return the exit code.

    Without an option, the variable SWARM_TARGET names the swarm.
    """
    chosen = target or os.environ.get("SWARM_TARGET") or None
    return asyncio.run(look.looking(chosen, name, see))


def parsed(what: str, text: str) -> Any:
    """Return the JSON value of a text.

    Raises:
        ValueError: The text is no JSON.
    """
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise ValueError(f"{what} is no JSON: {error}") from None
