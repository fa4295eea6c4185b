"""Handlers that trust a delivery with more than it promises."""

import asyncio

from swarm import Event, Swarm, event


@event("planted.order")
class Order:
    number: int


async def _publish(swarm, sim, numbers):
    for number in numbers:
        await swarm.events.publish(Order(number))
        await sim.checkpoint()


def charged_twice(repaired):
    """An order is handled twice, and the handler is not idempotent."""

    async def program(sim):
        async with Swarm() as swarm:

            async def charge(order: Event[Order]):
                await swarm.state.increment("charged", order.payload.number)

            async def charge_once(order: Event[Order], tx):
                await tx.increment("charged", order.payload.number)

            if repaired:
                delivery, handler = "exactly-once", charge_once
            else:
                delivery, handler = "at-least-once", charge
            await swarm.events.on(Order, handler, delivery=delivery, name="billing")
            await _publish(swarm, sim, (10, 200))
            await asyncio.sleep(1000)
            charged = await swarm.state.get("charged")
            assert charged == 210, f"{charged} was charged for 210"

    return program


def missed_while_changing_hands(repaired):
    """One handler is unsubscribed and the next one subscribes, while others publish."""

    async def program(sim):
        seen = []
        async with Swarm() as swarm:

            async def old(order: Event[Order]):
                await asyncio.sleep(0)
                seen.append(order.payload.number)

            async def new(order: Event[Order]):
                await asyncio.sleep(0)
                seen.append(order.payload.number)

            name = "intake" if repaired else None  # a name keeps the position

            async def subscribe(handler):
                return await swarm.events.on(
                    Order, handler, delivery="at-least-once", name=name
                )

            first = await subscribe(old)

            async def change_hands():
                await asyncio.sleep(1)
                await first.cancel()
                await subscribe(new)

            changing = asyncio.create_task(change_hands(), name="changer")
            await _publish(swarm, sim, (1, 2))
            await asyncio.sleep(1)
            for _ in range(8):
                await sim.checkpoint()
            await _publish(swarm, sim, (3, 4))
            await changing
            await asyncio.sleep(100)
            assert sorted(set(seen)) == [1, 2, 3, 4], f"only {sorted(set(seen))}"

    return program


def older_price_wins(repaired):
    """Whatever comes last is taken for the newest, although order is not promised."""

    async def program(sim):
        price = newest = 0
        async with Swarm() as swarm:

            async def take(order: Event[Order]):
                nonlocal price, newest
                if not repaired or order.seq > newest:
                    price, newest = order.payload.number, order.seq

            await swarm.events.on(
                Order, take, delivery="at-least-once", ordered=False, name="prices"
            )
            await _publish(swarm, sim, (5, 7, 9))
            await asyncio.sleep(1000)
        assert price == 9, f"{price} is not the newest price"

    return program


def order_lost_with_its_handler(repaired):
    """A handler crashes half-way; at most once means never, then."""

    async def program(sim):
        done = []
        async with Swarm() as swarm:

            async def pack(order: Event[Order]):
                await asyncio.sleep(1)
                await asyncio.sleep(0)
                done.append(order.payload.number)

            delivery = "at-least-once" if repaired else "at-most-once"
            await swarm.events.on(Order, pack, delivery=delivery)
            await _publish(swarm, sim, (1, 2))
            await asyncio.sleep(1000)
        assert sorted(set(done)) == [1, 2], f"packed {done}"

    return program
