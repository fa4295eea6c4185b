"""What several commands take: the swarm to look at, and forms of options."""

import asyncio
from typing import Annotated

from cyclopts import Parameter
from cyclopts.validators import Number

from swarm.cli import _look as look

Target = Annotated[str | None, Parameter(name=["--swarm", "-s"])]
Name = Annotated[str, Parameter(name="--name")]
Json = Annotated[bool, Parameter(name="--json", negative="")]
Flag = Parameter(negative="")
AtLeastOne = Annotated[int, Parameter(validator=Number(gte=1))]
Seconds = Annotated[float, Parameter(validator=Number(gt=0))]


def looking(target: str | None, name: str, see: look.Look) -> int:
    """Look at what a command's options name, and return the exit code."""
    return asyncio.run(look.looking(target, name, see))
