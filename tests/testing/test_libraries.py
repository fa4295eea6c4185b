"""`explore` on unmodified libraries: a cancelled waiter leaves the others waiting.

Each program uses a library as its documentation says, and each failure was confirmed
on the stock loop. The libraries are no dependency of the project; run the group with

    uv run --isolated --no-default-groups --group libraries \\
        pytest -m libraries tests/testing/test_libraries.py
"""

import asyncio
import contextlib
import importlib.metadata
from types import SimpleNamespace

import pytest

from swarm.testing import StepLimitError, StuckError, explore, replay

pytestmark = pytest.mark.libraries


def needs(package, version):
    """Skip unless this release of a package is there."""
    try:
        found = importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        pytest.skip(f"{package} is not installed (see the group `libraries`)")
    if not found.startswith(version):
        pytest.skip(f"the bug is one of {package} {version}, this is {found}")


def check(program, names):
    """The bug is found early, by an order of steps alone, and can be replayed."""
    failure = explore(program, max_stall=0.0, max_time=1_000).failure
    assert failure is not None
    assert failure.found_after <= 100
    assert isinstance(failure.error, (StuckError, StepLimitError, TimeoutError))
    assert failure.reproducible
    assert any(name in failure.explain() for name in names)
    again = replay(program, failure.blob, max_time=1_000)
    assert type(again.error) is type(failure.error)
    assert again.digest == failure.digest
    return failure


def test_a_cancelled_waiter_of_an_anyio_lock_blocks_the_next_one():
    """anyio 4.12: `acquire` queues behind a cancelled waiter that is still listed."""
    needs("anyio", "4.12.")
    import anyio

    async def program():
        lock = anyio.Lock()

        async def use():
            async with lock:
                await anyio.lowlevel.checkpoint()

        tasks = [asyncio.create_task(use(), name=name) for name in ("a", "b", "c")]

        async def cancel():
            await anyio.lowlevel.checkpoint()
            tasks[1].cancel()

        await asyncio.gather(*tasks, cancel(), return_exceptions=True)

    check(program, ["c"])


HOST = ("example.org", 80, False, True, None, None, None)


def test_a_cancelled_waiter_of_an_aiohttp_connector_wakes_no_other():
    """aiohttp 3.14: a slot offered to a cancelled waiter is offered no more."""
    needs("aiohttp", "3.14.")
    import aiohttp
    from aiohttp.client_reqrep import ConnectionKey

    class Protocol:
        should_close = False
        transport = None
        closed = None

        def is_connected(self):
            return True

        def close(self):
            pass

        abort = close

    class Connector(aiohttp.BaseConnector):
        def __del__(self):
            """Say nothing: the program that hangs has no chance to close it."""

        async def _create_connection(self, req, traces, timeout):
            await asyncio.sleep(0)
            return Protocol()

    async def program():
        connector = Connector(limit=1)
        request = SimpleNamespace(connection_key=ConnectionKey(*HOST), proxy=None)

        async def use():
            timeout = aiohttp.ClientTimeout()
            connection = await connector.connect(request, [], timeout)
            try:
                await asyncio.sleep(0)
            finally:
                connection.release()

        tasks = [asyncio.create_task(use(), name=name) for name in ("a", "b", "c")]

        async def cancel():
            for _ in range(3):
                await asyncio.sleep(0)
            tasks[1].cancel()

        await asyncio.gather(*tasks, cancel(), return_exceptions=True)
        await connector.close()

    check(program, ["c"])


def test_a_cancelled_request_takes_a_slot_of_an_httpcore_pool_for_ever():
    """httpcore 1.0.9: a connection made for a cancelled request is never freed."""
    needs("httpcore", "1.0.9")
    import httpcore

    answer = [
        b"HTTP/1.1 200 OK\r\n",
        b"Connection: close\r\n",
        b"Content-Length: 2\r\n\r\n",
        b"ok",
    ]

    async def program():
        backend = httpcore.AsyncMockBackend(answer)
        async with httpcore.AsyncConnectionPool(
            max_connections=1, network_backend=backend
        ) as pool:

            async def get():
                return await pool.request("GET", "http://example.org/")

            first = asyncio.create_task(get(), name="first")
            second = asyncio.create_task(get(), name="second")

            async def cancel():
                for _ in range(8):
                    await asyncio.sleep(0)
                second.cancel()

            await asyncio.gather(first, second, cancel(), return_exceptions=True)
            with contextlib.suppress(httpcore.PoolTimeout):
                async with asyncio.timeout(100):
                    await get()

    check(program, ["wait_for_connection", "main"])
