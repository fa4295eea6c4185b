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

    async def soon() -> None:
        await shop.sell()

    async def late() -> None:
        await asyncio.sleep(0)  # hang up a coat
        await asyncio.sleep(0)
        await shop.sell()

    async with asyncio.TaskGroup() as day:
        day.create_task(soon(), name="ada")
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


# > passes on the stock loop
# > fails in simulation: sold 2 of 1
# > `ada` was slow for 2 steps from decision 2
# >   t=0        main  04_find_the_race.py:35 program, waits for its task group
# >   t=0        ada   04_find_the_race.py:19 sell, yields
# >   t=0        bob   04_find_the_race.py:31 late, yields
# > > t=0        bob   04_find_the_race.py:32 late, yields  (before ada)
# > > t=0        bob   04_find_the_race.py:19 sell, yields  (before ada)
# >   t=0        ada   ends
# >   t=0        bob   ends
# >   t=0        main  raises AssertionError: sold 2 of 1
# > the same when replayed: True
