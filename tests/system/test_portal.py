"""The portal: plain functions, and the end of the swarm or of its loop."""

import asyncio
import re

import pytest

from swarm import Agent, Closed, Swarm, WrongLoop


class Counter(Agent):
    def __init__(self) -> None:
        self.count = 0

    async def add(self, by: int) -> None:
        self.count += by

    async def total(self) -> int:
        return self.count


def test_a_plain_function_runs_in_the_loop_and_its_result_comes_back():
    async def main() -> None:
        async with Swarm() as swarm:
            ref = await swarm.spawn(Counter, name="ada")
            portal = swarm.portal()

            def inside() -> None:
                portal.call_sync(ref.tell_nowait, Counter.add, 2)
                assert portal.call_sync(swarm.agents.find, status=None) == [ref]
                assert "ada" in portal.call(swarm.explain)
                assert portal.call(lambda: ref.ask(Counter.total)) == 2
                with pytest.raises(ZeroDivisionError):
                    portal.call(lambda: 1 // 0)

            await asyncio.to_thread(inside)

    asyncio.run(main())


def test_a_coroutine_in_place_of_a_function_is_refused():
    async def main() -> None:
        async with Swarm() as swarm:
            portal = swarm.portal()
            with pytest.raises(TypeError, match="takes a function and its arguments"):
                await asyncio.to_thread(portal.call, swarm.state.get("a"))

    asyncio.run(main())


def test_after_the_end_the_portal_is_closed_in_every_thread():
    async def main() -> None:
        nonlocal portal
        async with Swarm("done") as swarm:
            portal = swarm.portal()
            with pytest.raises(WrongLoop):
                portal.call(print)
        with pytest.raises(Closed):
            portal.call(print)
        with pytest.raises(Closed):
            await asyncio.to_thread(portal.call, print)

    portal = None
    asyncio.run(main())
    with pytest.raises(Closed, match="swarm 'done' is closed"):
        portal.call(print)


def test_the_end_of_the_loop_closes_the_portal_of_a_swarm_that_was_left_open():
    async def main() -> None:
        nonlocal portal
        portal = (await Swarm.open("left")).portal()

    portal = None
    loop = asyncio.new_event_loop()
    with pytest.warns(ResourceWarning, match="unclosed <Swarm 'left'"):
        loop.run_until_complete(main())
    loop.run_until_complete(loop.shutdown_asyncgens())
    for task in asyncio.all_tasks(loop):
        task.cancel()
    loop.close()
    with pytest.raises(Closed, match=re.escape("event loop of swarm 'left' has ended")):
        portal.call(print)
