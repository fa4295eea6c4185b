"""The audit in several processes that share a tree on a Redis server.

    swarm run examples.code_audit.processes --storage redis://localhost \\
        --processes 4 --name audit

Every process reads files. The first one also lists, reviews and reports them; if it is
killed, `swarm run` starts it again and it goes on where it was. The folder to audit is
taken from AUDIT_FOLDER, the place of the report from AUDIT_REPORT. A tree holds one
audit: another folder needs another `--name`.

A second terminal watches:

    python -m examples.code_audit.processes redis://localhost
"""

import asyncio
import os
import sys
from pathlib import Path

from swarm import EventStream, Swarm

from .agents import Analyst
from .findings import Considered
from .program import audit_in

DONE = "shared.audit.done"


async def main(swarm: Swarm) -> None:
    """Run one of the processes."""
    folder = Path(os.environ.get("AUDIT_FOLDER", Path(asyncio.__file__).parent))
    if os.environ.get("SWARM_PROCESS", "1") == "1":
        report = Path(os.environ.get("AUDIT_REPORT", "code-audit-report.md"))
        sentence, _ = await audit_in(swarm, folder, report, show=show, analysts=1)
        show(sentence)
        await swarm.state.set(DONE, True)
    else:
        await swarm.spawn(Analyst, folder)
        await swarm.state.wait_until(DONE, bool)


def show(text: str) -> None:
    print(text, flush=True)


async def watch(url: str) -> None:
    """Tell which files are done, as it happens."""
    async with Swarm("audit", url) as swarm:
        done = asyncio.ensure_future(swarm.state.wait_until(DONE, bool))
        async with swarm.events.subscribe(Considered) as events:
            show("watching the audit")
            telling = asyncio.ensure_future(tell(events))
            await done
            telling.cancel()


async def tell(events: EventStream[Considered]) -> None:
    async for event in events:
        show(f"{event.payload.count}: {event.payload.file}")


if __name__ == "__main__":
    asyncio.run(watch(sys.argv[1]))
