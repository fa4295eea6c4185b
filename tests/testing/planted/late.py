"""Races that need a late step: the timers involved never coincide.

Re-created in a few lines from published reports; each is found only if time may move
on while a step is ready.
"""

import asyncio
import contextlib

import anyio


def pool_gives_to_a_timed_out_waiter(repaired):
    """httpcore 830: a connection is assigned to a request that has timed out."""

    async def program():
        free, waiters = ["c1"], []

        async def acquire():
            if free:
                return free.pop()
            waiter = asyncio.get_running_loop().create_future()
            waiters.append(waiter)
            try:
                return await waiter
            except asyncio.CancelledError:
                if waiter in waiters:
                    waiters.remove(waiter)
                elif repaired and not waiter.cancelled():
                    release(waiter.result())
                raise

        def release(connection):
            while waiters:
                waiter = waiters.pop(0)
                if not waiter.done():
                    waiter.set_result(connection)
                    return
            free.append(connection)

        async def request(seconds):
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(1.0):
                    connection = await acquire()
                try:
                    await asyncio.sleep(seconds)
                finally:
                    release(connection)

        await asyncio.gather(request(0.6), request(0.6))
        assert free == ["c1"], "a connection has leaked"

    return program


def reply_read_by_the_next_command(repaired):
    """redis-py 2624: a command times out; its reply answers the next command."""

    async def program():
        replies = asyncio.Queue()

        async def server(command):
            await asyncio.sleep(0.25)
            replies.put_nowait((command, command.upper()))

        servers = []

        async def command(name):
            servers.append(asyncio.create_task(server(name)))
            while True:
                asked, reply = await replies.get()
                if asked == name or not repaired:
                    return reply

        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(command("get"), 0.4)
        assert await command("set") == "SET"
        await asyncio.gather(*servers)

    return program


def connection_released_while_it_resets(repaired):
    """asyncpg 547: a time-out during the release leaves the holder marked as used."""

    async def program():
        used = []

        async def reset():
            await asyncio.sleep(0.3)

        async def release():
            try:
                await asyncio.wait_for(reset(), 0.5)
            except TimeoutError:
                if not repaired:
                    raise
            used.remove("c1")

        used.append("c1")
        with contextlib.suppress(TimeoutError):
            await release()
        assert used == [], "the holder is used for ever"

    return program


def item_lost_when_the_receiver_times_out(repaired):
    """anyio 146: an item is handed to a receiver that is cancelled at that moment."""

    async def program():
        items, waiting, got = [], [], []

        async def receive():
            if items:
                return items.pop(0)
            box, event = [], anyio.Event()
            waiting.append((box, event))
            try:
                await event.wait()
            except BaseException:
                if (box, event) in waiting:
                    waiting.remove((box, event))
                if box and repaired:
                    items.append(box[0])
                raise
            return box[0]

        def send(item):
            if waiting:
                box, event = waiting.pop(0)
                box.append(item)
                event.set()
            else:
                items.append(item)

        async def receiver():
            with anyio.move_on_after(1.0):
                got.append(await receive())

        async with anyio.create_task_group() as group:
            group.start_soon(receiver)
            await anyio.sleep(0.5)
            send("x")
        assert got + items == ["x"], "the item is lost"

    return program


def leader_acts_after_its_lease(repaired):
    """A leader looks at its lease, and acts some time later."""

    async def program():
        loop = asyncio.get_running_loop()
        ends, acted = {"ada": 1.0}, []

        async def leader():
            await asyncio.sleep(0.8)
            if loop.time() < ends["ada"]:
                await asyncio.sleep(0)
                if not repaired or loop.time() < ends["ada"]:
                    acted.append(("ada", loop.time()))

        with contextlib.suppress(TimeoutError):
            await asyncio.gather(leader(), asyncio.wait_for(asyncio.Event().wait(), 1))
        assert all(when < ends[name] for name, when in acted), acted

    return program
