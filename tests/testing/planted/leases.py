"""Leases whose holder does not notice that its time is over."""

import asyncio


async def _together(*named):
    await asyncio.gather(*[asyncio.create_task(c, name=n) for n, c in named])


class Leases:
    def __init__(self):
        self.expires = 0.0
        self.token = 0

    def take(self, seconds):
        now = asyncio.get_running_loop().time()
        if now < self.expires:
            return 0
        self.expires = now + seconds
        self.token += 1
        return self.token


class Page:
    def __init__(self, fenced):
        self.fenced = fenced
        self.writers = []
        self._highest = 0

    def write(self, token):
        if self.fenced and token < self._highest:
            return
        self._highest = max(self._highest, token)
        self.writers.append(token)


def lease_without_fencing(repaired):
    """A slow holder writes after its lease went to the next one."""

    async def program():
        leases, page = Leases(), Page(repaired)

        async def worker(delay, work):
            await asyncio.sleep(delay)
            while not (token := leases.take(1.0)):
                await asyncio.sleep(0.5)
            await asyncio.sleep(work)
            page.write(token)

        await _together(("first", worker(0.0, 0.9)), ("second", worker(0.02, 0.03)))
        assert page.writers == sorted(page.writers), f"stale write: {page.writers}"

    return program


def two_leaders(repaired):
    """A leader believes in its term for as long as it does not look again."""

    async def program():
        leases, acted = Leases(), []

        async def candidate(name, delay):
            loop = asyncio.get_running_loop()
            await asyncio.sleep(delay)
            for _ in range(3):
                term = leases.take(1.0)
                if term:
                    await asyncio.sleep(0.95)
                    if repaired and loop.time() >= leases.expires:
                        continue
                    if not repaired or leases.token == term:
                        acted.append((leases.token, term, name))
                    return
                await asyncio.sleep(0.51)

        left, right = candidate("left", 0.0), candidate("right", 0.01)
        await _together(("left", left), ("right", right))
        late = [entry for entry in acted if entry[0] != entry[1]]
        assert not late, f"acted in the term of another: {late}"

    return program
