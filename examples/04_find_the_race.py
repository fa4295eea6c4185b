"""Find the race in this program. It is plain asyncio; it knows nothing of swarm.

Two clerks sell from one stock. On the usual order of steps all is well, so the
program passes its test for ever, until a clerk is slow one day.

A *step* is what a task does from one await to the next. `explore` runs the program
again and again, each time with other steps in front, and stops at the first run that
fails. Then it looks for the shortest way to say what was different in that run.
"""

import asyncio

from swarm.testing import explore, prove, replay


class Shop:
    def __init__(self, stock: int) -> None:
        self.stock = stock
        self.sold = 0
        self.till = asyncio.Lock()

    async def sell(self) -> None:
        if self.stock > 0:
            await asyncio.sleep(0)  # ask the till: here others may come in between
            self.stock -= 1
            self.sold += 1

    async def sell_one_by_one(self) -> None:
        async with self.till:
            await self.sell()


async def program(careful: bool = False) -> None:
    shop = Shop(stock=1)
    sell = shop.sell_one_by_one if careful else shop.sell

    async def soon() -> None:
        await sell()

    async def late() -> None:
        await asyncio.sleep(0)  # hang up a coat
        await asyncio.sleep(0)
        await sell()

    async with asyncio.TaskGroup() as day:
        day.create_task(soon(), name="ada")
        day.create_task(late(), name="bob")
    assert shop.stock >= 0, f"sold {shop.sold}"


async def repaired() -> None:
    await program(careful=True)


def main() -> None:
    asyncio.run(program())
    print("passes on the stock loop")

    failure = explore(program, schedules=500).failure
    assert failure is not None
    print("fails in simulation:", failure.error)
    print(*failure.why)
    print(failure.trace)  # ">": this step came before one that was first in line

    again = replay(program, failure.blob)  # the blob is one line of text: keep it
    print("the same when replayed:", again.digest == failure.digest)

    proof = prove(repaired)
    assert proof.failure is None
    print("repaired: every order there is was tried, and passes:", proof.exhausted)


main()


# > passes on the stock loop
# > fails in simulation: sold 2
# > `ada` was slow for 2 turns from its step 2
# >   t=0        main  04_find_the_race.py:45 program, waits for its task group
# >   t=0        ada   04_find_the_race.py:24 sell, yields
# >   t=0        bob   04_find_the_race.py:41 late, yields
# > > t=0        bob   04_find_the_race.py:42 late, yields  (before ada)
# > > t=0        bob   04_find_the_race.py:24 sell, yields  (before ada)
# >   t=0        ada   ends
# >   t=0        bob   ends
# >   t=0        main  04_find_the_race.py:48 program, raises AssertionError: sold 2
# > the same when replayed: True
# > repaired: every order there is was tried, and passes: True
