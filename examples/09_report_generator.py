"""The report generator of the shared-state card: a task record, claimed and merged.

The orchestrator submits a task; a worker claims it, writes partial results, and
completes it. What fails again and again waits for a person.
"""

import asyncio

from swarm import Agent, Backoff, Claim, Swarm, TaskError, serves


class ReportGenerator(Agent):
    """Generates monthly reports of schema 1.x."""

    @serves("report.monthly", lease=30, timeout=300)
    async def generate(self, claim: Claim) -> dict[str, str]:
        month, year = claim.payload["month"], claim.payload["year"]
        await claim.progress(10, "collecting figures")
        figures = await claim.step("figures", self.collect, month, year)
        await claim.update({"figures": figures})  # merged, only with a live token
        await claim.progress(90, "writing")
        return {"artifact": f"s3://reports/{year}-{month}.pdf"}

    async def collect(self, month: str, year: str) -> int:
        if month == "Smarch":
            raise ValueError(f"{year} has no such month")
        return 42


async def main() -> None:
    async with Swarm() as swarm:
        await swarm.spawn(ReportGenerator)
        july = await swarm.tasks.submit(
            "report.monthly",
            {"month": "July", "year": "2025"},
            key="july-2025",  # submitted twice, it is one task
            schema_version="1.0.0",
        )
        print("result:", await july.result())
        record = await july.record()
        steps = [entry.step for entry in record.history]
        print("record:", record.status, record.partial, steps)

        smarch = await swarm.tasks.submit(
            "report.monthly",
            {"month": "Smarch", "year": "2025"},
            max_retries=1,
            backoff=Backoff(0.01, 0.01),
            escalate_to="manual",
        )
        try:
            await smarch.result()
        except TaskError as error:
            print(error.status, "after", len(error.errors), "attempts")
        await smarch.resolve({"artifact": None})  # by a person
        print("resolved:", await smarch.result())


asyncio.run(main())

# > result: {'artifact': 's3://reports/2025-July.pdf'}
# > record: complete {'figures': 42} ['claim', 'complete']
# > escalated after 2 attempts
# > resolved: {'artifact': None}
