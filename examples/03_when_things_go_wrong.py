"""Failures, restarts, deadlines and deadlocks: each ends as one clear error."""

import asyncio

from swarm import Agent, AskTimeout, DeadlockError, Ref, Restart, Swarm


class Flaky(Agent):
    """Fails now and then; its supervisor builds it anew."""

    async def work(self, job: str) -> None:
        if job == "bad":
            raise RuntimeError("this job broke me")
        await self.state.increment("done")

    async def done(self) -> int:
        return int(await self.state.get("done", 0))

    async def sleep(self) -> None:
        await asyncio.sleep(3600)


class Partner(Agent):
    """Asks another partner, which may ask back."""

    async def consult(self, other: "Ref[Partner]", then: "Ref[Partner] | None") -> str:
        if then is None:
            return "fine"
        return await other.ask(Partner.consult, then, other)


async def main() -> None:
    async with Swarm() as swarm:
        flaky = await swarm.spawn(Flaky, restart=Restart("transient", max=3, within=60))
        for job in ("good", "bad", "good"):
            await flaky.tell(Flaky.work, job)
        # Its state and its mailbox outlived the restart.
        print("done:", await flaky.ask(Flaky.done))

        try:
            await flaky.within(0.01).ask(Flaky.sleep)
        except AskTimeout as error:
            print("no answer in time; had it started?", error.started)

        ada = await swarm.spawn(Partner, name="ada")
        bo = await swarm.spawn(Partner, name="bo")
        try:
            await ada.ask(Partner.consult, bo, ada)
        except DeadlockError as error:
            print(f"a cycle of {len(error.cycle)}, at once and spelled out")


asyncio.run(main())

# > done: 2
# > no answer in time; had it started? True
# > a cycle of 2, at once and spelled out
