"""A person in the loop: a task that nobody serves but a person.

The agent needs an approval. It submits a task of kind `human.approve` and waits for it
in a durable step. When the agent fails and tries again, the person is not asked twice.
"""

import asyncio

from swarm import Agent, Backoff, Claim, Event, Swarm, TaskCreated, serves


class Publisher(Agent):
    """Publishes what a person has approved."""

    def __init__(self) -> None:
        self.attempts = 0

    @serves("publish")
    async def publish(self, claim: Claim) -> str:
        self.attempts += 1
        approved = await claim.step("approval", self.ask_for_approval, claim.task_id)
        if self.attempts == 1:
            raise ConnectionError("the printer is on fire")
        return "published" if approved else "thrown away"

    async def ask_for_approval(self, task_id: str) -> bool:
        question = await self.swarm.tasks.submit(
            "human.approve",
            {"question": "Is this text good enough?"},
            key=f"approve/{task_id}",  # one question, however often this runs
            once=True,
            timeout=None,
        )
        return bool(await question.result())


async def main() -> None:
    async with Swarm() as swarm:

        async def person(event: Event[TaskCreated]) -> None:
            """Answer a question: here at once, in life by a button in a web page."""
            if event.payload.kind.startswith("human."):
                question = swarm.tasks.get(event.payload.task_id)
                print("asked:", (await question.record()).payload["question"])
                await question.resolve(True)

        await swarm.events.on(TaskCreated, person)
        await swarm.spawn(Publisher)
        task = await swarm.tasks.submit("publish", backoff=Backoff(0.01, 0.01))
        print("outcome:", await task.result())
        record = await task.record()
        print("attempts:", record.attempt, "errors:", list(record.errors))


asyncio.run(main())

# > asked: Is this text good enough?
# > outcome: published
# > attempts: 2 errors: ['ConnectionError: the printer is on fire']
