"""What an import costs, over what its own dependencies cost."""

import os
import subprocess
import sys
import tempfile
from statistics import median
from time import perf_counter

from row import Job, Row

DEPENDENCIES = "import asyncio, anyio, attrs, cattrs, orjson"
HELLO = "from swarm import Agent, Swarm"


def importing(code: str) -> Job:
    """Run it in a fresh Python; what Python alone takes does not count."""

    async def job(total: int) -> float:
        with tempfile.TemporaryDirectory() as folder:
            env = {**os.environ, "PYTHONPYCACHEPREFIX": folder}
            env.pop("PYTHONDONTWRITEBYTECODE", None)

            def took(code: str) -> float:
                began = perf_counter()
                subprocess.run(
                    [sys.executable, "-c", code], check=True, env=env, cwd=folder
                )
                return perf_counter() - began

            took(code)  # writes the bytecode
            return 1 / median(took(code) - took("pass") for _ in range(max(3, total)))

    return job


ROWS = [
    Row(
        "import swarm",
        importing("import swarm"),
        importing(DEPENDENCIES),
        5,
        0.67,
        "ms",
    ),
    Row(
        "import Agent and Swarm",
        importing(HELLO),
        importing(DEPENDENCIES),
        5,
        0.67,
        "ms",
    ),
]
