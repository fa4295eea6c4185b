"""Read, wait, write: updates that overlap."""

import asyncio


async def _pause(times):
    for _ in range(times):
        await asyncio.sleep(0)


async def _together(*named):
    await asyncio.gather(*[asyncio.create_task(c, name=n) for n, c in named])


class Cell:
    def __init__(self, value=0):
        self.value = value
        self.version = 0
        self.guard = asyncio.Lock()


async def _add_unguarded(cell, waits):
    seen = cell.value
    await _pause(waits)
    cell.value = seen + 1


async def _add_guarded(cell, waits):
    async with cell.guard:
        await _add_unguarded(cell, waits)


def lost_update(repaired):
    """Two increments; the stock order never overlaps them."""
    add = _add_guarded if repaired else _add_unguarded

    async def late(cell):
        await _pause(2)
        await add(cell, 1)

    async def program():
        cell = Cell()
        await _together(("ada", add(cell, 1)), ("bob", late(cell)))
        assert cell.value == 2, f"lost update: {cell.value}"

    return program


def aba(repaired):
    """A compare-and-set on a stack compares the top, which came back, not its age."""

    async def program():
        below = {"A": "B", "B": "C", "C": None}
        top = Cell("A")

        def move(node):
            top.value, top.version = node, top.version + 1

        async def popper():
            while True:
                seen, version, under = top.value, top.version, below[top.value]
                await _pause(2)
                if repaired and top.version == version:
                    return move(under)
                if not repaired and top.value == seen:
                    return move(under)

        async def churner():
            await _pause(8)
            popped = [top.value]
            move(below[popped[0]])
            await _pause(1)
            popped.append(top.value)
            move(below[popped[1]])
            await _pause(1)
            below[popped[0]] = top.value
            move(popped[0])
            popped.pop(0)
            return popped[0]

        gone = await asyncio.gather(
            asyncio.create_task(churner(), name="churner"),
            asyncio.create_task(popper(), name="popper"),
        )
        assert top.value != gone[0], f"{gone[0]} was popped and is on the stack again"

    return program


def depth_three(repaired):
    """Three things must happen in one order, while others make noise."""

    async def program():
        state = Cell("open")

        async def closer():
            await _pause(1)
            if state.value == "open":
                state.value = "closing"
            await _pause(1)
            if state.value == "reopened" and not repaired:
                state.value = "torn"

        async def opener():
            await _pause(6)
            if state.value == "closing":
                state.value = "reopened"
            await _pause(3)
            assert state.value != "torn", "closed under the feet of its opener"

        async def noise():
            await _pause(5)

        others = [(f"noise{i}", noise()) for i in range(3)]
        await _together(("closer", closer()), *others, ("opener", opener()))

    return program


def two_windows(repaired):
    """Two separate updates must both be lost; one of them is noticed and mended."""
    add = _add_guarded if repaired else _add_unguarded

    async def late(cell, waits):
        await _pause(waits)
        await add(cell, 1)

    async def program():
        first, second = Cell(), Cell()
        await _together(
            ("ada", add(first, 1)),
            ("bob", late(first, 2)),
            ("cleo", add(second, 1)),
            ("dan", late(second, 2)),
        )
        assert first.value + second.value > 2, "both counters lost an update"

    return program
