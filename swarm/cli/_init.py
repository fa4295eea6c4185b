"""`swarm init`: a small program, its test and a notebook to begin with."""

import keyword
import sys
from pathlib import Path
from typing import Final

import orjson

_PROGRAM: Final = '''"""Two agents: `swarm run {name}.py`, or `python {name}.py`."""

import asyncio

from swarm import Agent, Swarm


class Greeter(Agent):
    """Public async methods are what others can ask for."""

    async def greet(self, who: str) -> str:
        count = await self.shared.increment("greetings")
        return f"Hello {{who}}, you are number {{count}}."


class Guide(Agent):
    async def welcome(self, guests: list[str]) -> list[str]:
        greeter = self.swarm.agents["greeter"]
        return [await greeter.ask(Greeter.greet, guest) for guest in guests]


async def main(swarm: Swarm) -> None:
    await swarm.spawn(Greeter, name="greeter")
    guide = await swarm.spawn(Guide, name="guide")
    for line in await guide.ask(Guide.welcome, ["Ada", "Grace"]):
        print(line)


async def alone() -> None:
    async with Swarm("{name}") as swarm:
        await main(swarm)


if __name__ == "__main__":
    asyncio.run(alone())
'''

_TEST: Final = '''"""Run with pytest: the simulator tries many orders of all steps."""

import asyncio

from {name} import Greeter, Guide

from swarm import Swarm
from swarm.testing import simulate


@simulate(schedules=200)
async def test_each_guest_gets_a_number_of_their_own() -> None:
    async with Swarm() as swarm:
        await swarm.spawn(Greeter, name="greeter")
        one, two = [await swarm.spawn(Guide) for _ in range(2)]
        both = await asyncio.gather(
            one.ask(Guide.welcome, ["Ada"]), two.ask(Guide.welcome, ["Grace"])
        )
        numbers = {{line.split()[-1] for lines in both for line in lines}}
        assert len(numbers) == 2
'''

_CELLS: Final = (
    ("markdown", "# {name}\nRun the cells in order; run any of them again."),
    (
        "code",
        """from {name} import Greeter, Guide

from swarm import Swarm

swarm = await Swarm.open("{name}", replace=True)""",
    ),
    (
        "code",
        """await swarm.spawn(Greeter, name="greeter")
guide = await swarm.spawn(Guide, name="guide")
await guide.ask(Guide.welcome, ["Ada", "Grace"])""",
    ),
    ("code", "swarm"),
    ("code", "await swarm.close()"),
)


def init(folder: Path, name: str) -> int:
    """Write the three files into a folder, replacing none; return the exit code.

    Raises:
        ValueError: The name cannot be the name of a module.
        OSError: A file is there already, or cannot be written.
    """
    if not name.isidentifier() or keyword.iskeyword(name):
        raise ValueError(f"'{name}' cannot be the name of a module")
    files = {
        folder / f"{name}.py": _PROGRAM.format(name=name),
        folder / f"test_{name}.py": _TEST.format(name=name),
        folder / f"{name}.ipynb": _notebook(name),
    }
    there = [str(path) for path in files if path.exists()]
    if there:
        raise FileExistsError(f"{', '.join(there)} is there already")
    folder.mkdir(parents=True, exist_ok=True)
    for path, text in files.items():
        path.write_text(text)
        print(path)
    program = folder / f"{name}.py"
    print(f"now: swarm run {program}, and pytest {folder}", file=sys.stderr)
    return 0


def _notebook(name: str) -> str:
    cells = []
    for number, (kind, text) in enumerate(_CELLS):
        cell: dict[str, object] = {
            "cell_type": kind,
            "id": f"cell-{number}",
            "metadata": {},
            "source": text.format(name=name),
        }
        if kind == "code":
            cell.update(execution_count=None, outputs=[])
        cells.append(cell)
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    notebook = {
        "cells": cells,
        "metadata": {"kernelspec": kernel},
        "nbformat": 4,
        "nbformat_minor": 5,
    }
    return orjson.dumps(notebook, option=orjson.OPT_INDENT_2).decode() + "\n"
