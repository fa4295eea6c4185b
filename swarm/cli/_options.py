"""Options that several commands take."""

from typing import Annotated

from cyclopts import Parameter
from cyclopts.validators import Number


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
