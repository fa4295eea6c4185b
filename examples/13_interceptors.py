"""Interceptors: code around every ask and task, without a change to any agent."""

import asyncio
from collections import Counter
from typing import Any

import attrs

from swarm import (
    Agent,
    AgentCall,
    AttemptCall,
    Interceptor,
    Proceed,
    SubmitCall,
    Swarm,
    serves,
)


class Till(Agent):
    async def charge(self, customer: str, cents: int) -> str:
        return f"{customer} paid {cents / 100:.2f}"

    @serves("receipt.*")
    async def receipt(self, customer: str) -> str:
        return f"receipt for {customer}"


class Guard(Interceptor):
    """Refuses charges without an amount, and counts who is charged."""

    def __init__(self) -> None:
        self.charges: Counter[str] = Counter()

    async def ask(self, call: AgentCall, proceed: Proceed[AgentCall]) -> Any:
        if call.method == "Till.charge":
            customer, cents = call.args
            if cents <= 0:
                raise PermissionError(f"refused: {customer} would pay {cents} cents")
            self.charges[customer] += 1
        return await proceed(call)


class Tenant(Interceptor):
    """Marks each task with its tenant, and sees the mark around each attempt."""

    async def submit(self, call: SubmitCall, proceed: Proceed[SubmitCall]) -> Any:
        metadata = {**(call.metadata or {}), "tenant": "bakery"}
        return await proceed(attrs.evolve(call, metadata=metadata))

    async def attempt(self, call: AttemptCall, proceed: Proceed[AttemptCall]) -> Any:
        print(f"{call.agent.agent_id} works for {call.metadata['tenant']}")
        return await proceed(call)


async def main() -> None:
    guard = Guard()
    async with Swarm(interceptors=[guard, Tenant()]) as swarm:
        till = await swarm.spawn(Till, name="till")
        print(await till.ask(Till.charge, "Ada", 450))
        try:
            await till.ask(Till.charge, "Bob", -450)
        except PermissionError as error:
            print(error)
        task = await swarm.tasks.submit("receipt.paper", {"customer": "Ada"})
        print(await task.result())
    print("charged:", dict(guard.charges))


asyncio.run(main())
# > Ada paid 4.50
# > refused: Bob would pay -450 cents
# > till works for bakery
# > receipt for Ada
# > charged: {'Ada': 1}
