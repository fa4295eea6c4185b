"""A content pipeline: typed stages, each a task; resumed where it failed."""

import asyncio

from swarm import Agent, Pipeline, Stage, Swarm, TaskError


class Researcher(Agent):
    async def research(self, topic: str) -> list[str]:
        return [f"{topic} dance", f"{topic} sting"]


class Writer(Agent):
    async def write(self, facts: list[str]) -> str:
        return " and ".join(facts) + "."


class Reviewer(Agent):
    """Accepts nothing before it has had coffee."""

    had_coffee = False

    async def review(self, text: str) -> dict[str, str]:
        if not self.had_coffee:
            raise RuntimeError("no")
        return {"text": text, "verdict": "publish"}

    async def coffee(self) -> None:
        self.had_coffee = True


CONTENT = Pipeline(
    "content",
    [
        Stage("research", Researcher.research),
        Stage("write", Writer.write, after=["research"]),
        Stage("review", Reviewer.review, agent="cy", after=["write"], max_retries=0),
    ],
)


async def main() -> None:
    print(CONTENT.text())
    async with Swarm() as swarm:
        await swarm.spawn(Researcher)
        await swarm.spawn(Writer)
        reviewer = await swarm.spawn(Reviewer, name="cy")

        run = await swarm.pipelines.start(CONTENT, "bees", id="content-1")
        try:
            await run.result()
        except TaskError as error:
            print(*error.errors)
        print("written:", run.stage("write").output)

        # What is completed stays; only the review is done again.
        await reviewer.ask(Reviewer.coffee)
        run = await swarm.pipelines.resume("content-1")
        print(await run.result())
        print({name: stage.status for name, stage in run.stages.items()})


asyncio.run(main())

# > content
# >   research  Researcher.research  first
# >   write     Writer.write         after research
# >   review    Reviewer.review      after write     by agent cy
# > RuntimeError: no
# > written: bees dance and bees sting.
# > {'text': 'bees dance and bees sting.', 'verdict': 'publish'}
# > {'research': 'completed', 'write': 'completed', 'review': 'completed'}
