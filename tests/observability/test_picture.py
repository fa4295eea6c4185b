"""The picture in the README is what a run draws, on virtual time.

`python -m tests.observability.test_picture` draws it again.
"""

import asyncio
from pathlib import Path
from xml.etree import ElementTree

from swarm import Agent, Backoff, Claim, Swarm, event, serves
from swarm.testing import run

PICTURE = Path(__file__).parents[2] / "examples" / "trace.svg"


@event("picture.ticket_refunded")
class TicketRefunded:
    ticket: str


class Bank(Agent):
    def __init__(self) -> None:
        self.calls = 0

    async def pay_back(self, ticket: str) -> str:
        self.calls += 1
        await asyncio.sleep(0.02)
        if self.calls == 1:
            raise ConnectionError("the line is busy")
        return f"paid for {ticket}"


class Cashier(Agent):
    @serves("refund")
    async def refund(self, claim: Claim) -> str:
        ticket = claim.payload["ticket"]
        bank = self.swarm.agents["bank"]
        async with self.swarm.lock("till"):
            paid = await bank.ask(Bank.pay_back, ticket)
            await self.shared.set(f"tickets.{ticket}", paid)
        await self.swarm.events.publish(TicketRefunded(ticket))
        return paid


async def program() -> str:
    async with Swarm("shop") as swarm:
        await swarm.spawn(Bank, name="bank")
        await swarm.spawn(Cashier, name="cashier")
        with swarm.timeline():
            backoff = Backoff(0.1, 0.1)
            task = await swarm.tasks.submit(
                "refund", {"ticket": "t-7"}, backoff=backoff
            )
            await task.result()
        return swarm.trace(task).svg()


def draw() -> str:
    svg: str = run(program, order="fifo").unwrap()
    ElementTree.fromstring(svg)
    return f"{svg}\n"


def test_the_picture_of_the_readme_is_what_a_run_draws():
    assert PICTURE.read_text(encoding="utf-8") == draw()


if __name__ == "__main__":
    PICTURE.write_text(draw(), encoding="utf-8")
