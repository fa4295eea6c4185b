"""Agents change the same documents, and the program watches the changes."""

import asyncio

import anyio

from swarm import Agent, ConflictError, Swarm, Transaction


class Clerk(Agent):
    async def move(self, source: str, target: str, amount: int) -> None:
        """Move money; a transaction that was overtaken is done again."""

        async def transfer(tx: Transaction) -> None:
            if await tx.get(source) < amount:
                raise ValueError(f"{source} is short of money")
            await tx.increment(source, -amount)
            await tx.increment(target, amount)

        await self.shared.transact(transfer)


async def main() -> None:
    async with Swarm() as swarm:
        state = swarm.state
        opened = await state.set_many({"shared.ada": 100, "shared.bo": 0})
        clerks = [await swarm.spawn(Clerk) for _ in range(5)]

        # Five clerks at once: no update is lost and none is torn.
        async with anyio.create_task_group() as group:
            for clerk in clerks:
                group.start_soon(clerk.ask, Clerk.move, "ada", "bo", 10)
        print(await state.get("shared"))

        # Every change is in the log, in order, with its author.
        async with state.watch("shared.bo", since=opened["shared.bo"].version) as log:
            async for change in log:
                print(change.author, change.old_value, "->", change.value)
                if change.value == 50:
                    break

        # Whoever writes from an old version is told so, and nothing happens.
        try:
            await state.set("shared.bo", 0, expected_version=opened["shared.bo"])
        except ConflictError as error:
            print("refused:", error.expected != error.current)

        # The past can be read.
        print(await state.at(opened["shared.bo"].version).get("shared"))


asyncio.run(main())

# > {'ada': 50, 'bo': 50}
# > clerk-1 0 -> 10
# > clerk-2 10 -> 20
# > clerk-3 20 -> 30
# > clerk-4 30 -> 40
# > clerk-5 40 -> 50
# > refused: True
# > {'ada': 100, 'bo': 0}
