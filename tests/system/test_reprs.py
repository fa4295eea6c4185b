"""What a user prints is a short line that says which thing it is."""

import asyncio
from typing import Any

from swarm import Agent, Claim, Restart, Swarm, event, serves
from tests.support.virtual_loop import virtual

LONG = ["y" * 100] * 50


@event("reprs.placed")
class ReprPlaced:
    order_id: str
    items: list[str]


class ReprWorker(Agent):
    async def fail(self) -> None:
        raise ValueError("x" * 5_000)

    @serves("reprs.work")
    async def work(self, claim: Claim) -> list[str]:
        return LONG


@virtual
async def test_no_record_prints_all_that_it_holds() -> None:
    async with Swarm() as swarm:

        async def fail(ev: Any) -> None:
            raise ValueError("z" * 5_000)

        ref = await swarm.spawn(ReprWorker, name="ada", restart=Restart())
        await ref.tell(ReprWorker.fail)
        task = await swarm.tasks.submit("reprs.work", {"x": LONG}, metadata={"x": LONG})
        await task
        events = swarm.events
        sub = await events.on(ReprPlaced, fail, name="n", on_error="dead-letter")
        await events.publish(ReprPlaced("o-1", LONG))
        while not (letters := await events.dead_letters.list()):
            await asyncio.sleep(1)
        await swarm.state.set("big", LONG)
        await swarm.state.set("big", [*LONG, 1])
        (letter,) = letters
        assert repr(letter).startswith(
            f"<DeadLetter {letter.id} reprs.placed, 1 run: ValueError 'zzz"
        )
        shown = {
            "letter": letter,
            "error": letter.error,
            "written": letter.written,
            "event": letter.event,
            "subscription": sub,
            "stats": sub.stats,
            "change": (await swarm.state.history("big"))[-1],
            "versioned": await swarm.state.read("big"),
            "task": task,
            "record": await task.record(),
            "agent": swarm.agents.info("ada"),
            "failure": swarm.agents.failures[0],
        }
        texts = {name: repr(thing) for name, thing in shown.items()}
        assert {name for name, text in texts.items() if len(text) > 900} == set()
        assert not any(
            "\n" in text or " object at 0x" in text for text in texts.values()
        )
