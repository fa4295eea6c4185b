"""Find the race in this program. It is plain asyncio; it knows nothing of swarm.

Two clerks sell from one stock. On the usual order of steps all is well, so the
program passes its test for ever, until a clerk is slow one day.
"""

import asyncio

from swarm.testing import explore, replay


class Shop:
    def __init__(self, stock: int) -> None:
        self.stock = stock
        self.sold = 0

    async def sell(self) -> None:
        if self.stock > 0:
            await asyncio.sleep(0)  # ask the till
            self.stock -= 1
            self.sold += 1


async def program() -> None:
    shop = Shop(stock=1)

    async def early() -> None:
        await shop.sell()

    async def late() -> None:
        await asyncio.sleep(0)  # hang up the coat
        await asyncio.sleep(0)
        await shop.sell()

    async with asyncio.TaskGroup() as day:
        day.create_task(early(), name="ada")
        day.create_task(late(), name="bob")
    assert shop.stock >= 0, f"sold {shop.sold} of 1"


def main() -> None:
    asyncio.run(program())
    print("passes on the stock loop")
    failure = explore(program, schedules=500).failure
    assert failure is not None
    print("fails in simulation:", failure.error)
    print(*failure.why)
    print(failure.trace)
    again = replay(program, failure.blob)
    print("the same when replayed:", again.digest == failure.digest)


main()
