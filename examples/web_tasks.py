"""A web server that submits tasks, and workers in other processes that do them.

    swarm run examples/web_tasks.py:work --storage redis://localhost \\
        --processes 2 --name web
    STORAGE=redis://localhost uvicorn examples.web_tasks:app

    curl -X POST "localhost:8000/words?text=to+be+or+not+to+be"
    curl localhost:8000/words/ID

The web server waits for nothing: a task survives it, and the workers.
"""

import asyncio
import contextlib
import os
from collections import Counter
from collections.abc import AsyncIterator

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from swarm import Agent, NotFound, Swarm, serves


class Counting(Agent):
    """Counts the words of a text."""

    @serves("words.count", concurrency=4)
    async def count(self, text: str) -> dict[str, int | str]:
        words = Counter(text.split())
        return {"by": f"process {os.getpid()}", **words}


async def work(swarm: Swarm) -> None:
    """Serve tasks until the process is told to end."""
    await swarm.spawn(Counting)
    print("ready", flush=True)
    await asyncio.Event().wait()


@contextlib.asynccontextmanager
async def lifespan(app: Starlette) -> AsyncIterator[None]:
    async with Swarm("web", os.environ["STORAGE"]) as swarm:
        app.state.swarm = swarm
        yield


async def submit(request: Request) -> JSONResponse:
    swarm: Swarm = request.app.state.swarm
    text = request.query_params.get("text", "")
    task = await swarm.tasks.submit("words.count", {"text": text})
    return JSONResponse({"id": task.id}, status_code=202)


async def show(request: Request) -> JSONResponse:
    swarm: Swarm = request.app.state.swarm
    try:
        record = await swarm.tasks.get(request.path_params["id"]).record()
    except NotFound:
        return JSONResponse({"error": "there is no such task"}, status_code=404)
    return JSONResponse({"status": record.status, "result": record.result})


app = Starlette(
    routes=[
        Route("/words", submit, methods=["POST"]),
        Route("/words/{id}", show),
    ],
    lifespan=lifespan,
)
