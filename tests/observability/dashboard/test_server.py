"""The dashboard's server lives in the swarm's loop, and ends with the swarm."""

import asyncio
import contextlib
import json
import logging
import socket
import subprocess
import sys

import httpx
import pytest

from swarm import Closed, Swarm, WrongLoop
from swarm.observability import dashboard as package


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))


def program(served):
    headers = {"authorization": f"Bearer {served.token}"}
    url = f"http://127.0.0.1:{served.port}"
    return httpx.AsyncClient(base_url=url, headers=headers)


async def messages(answer):
    """Yield the id and data of the events of a stream."""
    id_ = ""
    async for line in answer.aiter_lines():
        name, _, value = line.partition(": ")
        if name == "id":
            id_ = value
        elif name == "data":
            yield id_, json.loads(value)


async def test_the_url_is_printed_with_its_token(capsys):
    async with Swarm("shop") as swarm:
        served = await swarm.dashboard()
        assert capsys.readouterr().out == f"dashboard of swarm 'shop': {served.url}\n"
        assert served.url.startswith(f"http://127.0.0.1:{served.port}/?token=")
        assert served.token not in repr(served)
        async with httpx.AsyncClient() as browser:
            assert (await browser.get(served.url)).status_code == 200
            page = await browser.get(f"http://127.0.0.1:{served.port}/")
            assert "<title>swarm</title>" in page.text


async def test_it_listens_on_loopback_only():
    async with Swarm() as swarm:
        served = await swarm.dashboard(tell=None)
        other = socket.socket()  # another address of this machine has the port free
        other.bind(("127.0.0.2", served.port))
        other.close()


async def test_it_ends_with_the_swarm_also_with_open_streams():
    async with contextlib.AsyncExitStack() as stack:
        async with Swarm() as swarm:
            served = await swarm.dashboard(tell=None)
            client = await stack.enter_async_context(program(served))
            answers = []
            for _ in range(3):
                stream = client.stream("GET", "/api/stream/overview")
                answers.append(messages(await stack.enter_async_context(stream)))
            for answer in answers:
                _, first = await anext(answer)
                assert first["phase"] == "open"
        for answer in answers:
            async for _, last in answer:  # it comes to its end
                assert last
        with pytest.raises(httpx.ConnectError):
            await client.get("/")


@pytest.mark.parametrize("port", [-1, 65_536, "80", True])
async def test_what_is_no_port_is_refused(port):
    async with Swarm() as swarm:
        with pytest.raises(
            ValueError, match="a port is a whole number from 0 to 65535"
        ):
            await swarm.dashboard(port=port, tell=None)


async def test_close_frees_the_port_and_may_be_called_twice():
    async with Swarm() as swarm:
        served = await swarm.dashboard(tell=None)
        await served.close()
        await served.close()
        again = await swarm.dashboard(port=served.port, tell=None)
        assert again.port == served.port
        assert again.token != served.token
        await asyncio.gather(again.close(), again.close())


async def test_close_ends_open_streams_without_a_complaint(caplog):
    async with Swarm() as swarm:
        served = await swarm.dashboard(tell=None)
        async with (
            program(served) as client,
            client.stream("GET", "/api/stream/overview") as answer,
        ):
            stream = messages(answer)
            await anext(stream)
            await served.close()
            async for _, last in stream:  # it comes to its end
                assert last
    assert [r for r in caplog.records if r.levelno >= logging.WARNING] == []


async def test_a_taken_port_is_one_clear_error():
    async with Swarm() as swarm:
        served = await swarm.dashboard(tell=None)
        with pytest.raises(OSError, match=f"cannot have port {served.port}"):
            await swarm.dashboard(port=served.port)


async def test_several_dashboards_of_several_swarms_stand_beside_each_other():
    async with Swarm("one") as one, Swarm("two") as two:
        pair = [await swarm.dashboard(tell=None) for swarm in (one, two)]
        for served, name in zip(pair, ("one", "two"), strict=True):
            async with program(served) as client:
                assert (await client.get("/api/overview")).json()["name"] == name
        async with httpx.AsyncClient() as browser:  # one jar, as browsers have
            for served in pair:
                await browser.get(served.url)
            for served in pair:
                url = f"http://127.0.0.1:{served.port}/api/overview"
                assert (await browser.get(url)).status_code == 200


async def test_the_signal_handlers_of_the_program_stay():
    import signal

    before = signal.getsignal(signal.SIGINT)
    async with Swarm() as swarm:
        served = await swarm.dashboard(tell=None)
        async with program(served) as client:
            await client.get("/api/overview")
        assert signal.getsignal(signal.SIGINT) is before


async def test_a_closed_swarm_has_no_dashboard():
    swarm = await Swarm.open()
    await swarm.close()
    with pytest.raises(Closed):
        await swarm.dashboard()
    with pytest.raises(Closed):
        swarm.asgi()


async def test_an_app_in_another_loop_is_told_so():
    async with Swarm() as swarm:
        app = swarm.asgi()

        async def visit():
            transport = httpx.ASGITransport(app)
            headers = {"authorization": f"Bearer {app.token}"}
            url = "http://localhost/api/overview"
            async with httpx.AsyncClient(transport=transport, headers=headers) as other:
                await other.get(url)

        with pytest.raises(WrongLoop):
            await asyncio.to_thread(asyncio.run, visit())


async def test_it_works_below_a_prefix_of_another_app():
    from starlette.applications import Starlette
    from starlette.routing import Mount

    async with Swarm("inner") as swarm:
        app = swarm.asgi()
        outer = Starlette(routes=[Mount("/ops/swarm", app)])
        transport = httpx.ASGITransport(outer)
        base = "http://localhost"
        async with httpx.AsyncClient(transport=transport, base_url=base) as browser:
            first = await browser.get(
                "/ops/swarm", params={"token": app.token}, follow_redirects=True
            )
            assert 'url=/ops/swarm/"' in first.text
            assert "Path=/ops/swarm;" in first.headers["set-cookie"]
            page = await browser.get("/ops/swarm/")
            assert 'src="assets/main.js"' in page.text
            script = await browser.get("/ops/swarm/assets/main.js")
            assert script.headers["content-type"].startswith("text/javascript")
            view = await browser.get("/ops/swarm/api/overview")
            assert view.json()["name"] == "inner"


async def test_without_the_extra_one_line_says_how_to_get_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    async with Swarm() as swarm:
        with pytest.raises(ImportError) as caught:
            await swarm.dashboard()
        assert str(caught.value) == (
            "the dashboard needs uvicorn: pip install 'swarm-actors[dashboard]'"
        )


def test_a_program_without_a_dashboard_loads_none_of_it():
    code = (
        "import asyncio, sys\n"
        "from swarm import Swarm\n"
        "async def main():\n"
        "    async with Swarm(): pass\n"
        "asyncio.run(main())\n"
        "print([m for m in sys.modules if 'starlette' in m or 'observability' in m])\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert done.stdout == "[]\n"


# --- streams --------------------------------------------------------------------------


async def test_a_stream_tells_what_changes_and_nothing_else():
    async with Swarm() as swarm:
        served = await swarm.dashboard(tell=None)
        async with (
            program(served) as client,
            client.stream("GET", "/api/stream/tasks") as answer,
        ):
            assert answer.headers["content-type"].startswith("text/event-stream")
            stream = messages(answer)
            _, first = await anext(stream)
            assert first["tasks"] == []
            assert first["swarm"]["phase"] == "open"
            task = await swarm.tasks.submit("work")
            _, second = await anext(stream)
            assert [each["id"] for each in second["tasks"]] == [task.id]
            assert "swarm" not in second  # it has not changed


async def test_a_page_that_comes_again_misses_no_event_and_sees_none_twice():
    async with Swarm() as swarm:
        served = await swarm.dashboard(tell=None)
        seen, last = [], ""
        async with program(served) as client:
            for number in range(4):
                headers = {"last-event-id": last} if last else {}
                url = "/api/stream/events?types=task.created"
                async with client.stream("GET", url, headers=headers) as answer:
                    for _ in range(10):
                        await swarm.tasks.submit(f"work.n{number}")
                    async for id_, sections in messages(answer):
                        last = id_
                        seen += [e["seq"] for e in sections.get("events", ())]
                        if len(seen) >= 10 * (number + 1):
                            break
        assert len(seen) == len(set(seen)) == 40
        assert seen == sorted(seen)


async def test_events_that_are_left_out_are_told():
    async with Swarm() as swarm:
        served = await swarm.dashboard(tell=None)
        await swarm.tasks.submit("first")
        async with program(served) as client:
            first = (await client.get("/api/events")).json()
            for _ in range(300):
                await swarm.tasks.submit("work")
            query = {"after": first["cursor"], "types": "task.created"}
            found = (await client.get("/api/events", params=query)).json()
            assert found["skipped"] is True
            assert len(found["events"]) == 100
            newest = {"after": found["cursor"] - 5, "types": "task.created"}
            assert (
                "skipped" not in (await client.get("/api/events", params=newest)).json()
            )


@pytest.mark.parametrize(
    "url",
    [
        "/api/events?types=a..b",
        "/api/events?after=-1",
        "/api/events?after=99999999999999999999",
        "/api/state?path=a..b",
        "/api/state?path=%00",
        "/api/tasks?kind=[[&status=x&offset=-3",
        "/api/task?id=../../x",
        "/api/agents?offset=x&status=nothing",
        "/api/agent?name=%2e%2e",
        "/api/pipelines?id=a..b",
    ],
)
async def test_a_query_that_means_nothing_is_answered(url):
    async with Swarm() as swarm:
        served = await swarm.dashboard(tell=None)
        async with program(served) as client:
            answer = await client.get(url)
            assert answer.status_code == 200
            assert "problem" in answer.json()


async def test_nothing_is_computed_while_nobody_looks(monkeypatch):
    looks = []
    async with Swarm() as swarm:
        served = await swarm.dashboard(tell=None)
        view = package._app.VIEWS["overview"]
        counted = {"overview": lambda *given: looks.append(1) or view(*given)}
        monkeypatch.setattr(package._app, "VIEWS", counted)
        async with program(served) as client:
            async with client.stream("GET", "/api/stream/overview") as answer:
                stream = messages(answer)
                await anext(stream)
                await anext(stream)
            await client.get("/assets/main.js")
            ended = len(looks)
            for _ in range(50):
                await swarm.tasks.submit("work")
            await client.get("/assets/main.js")
            assert len(looks) <= ended + 1  # the end of the stream is noticed once


async def test_only_so_many_pages_may_be_open():
    async with Swarm() as swarm:
        served = await swarm.dashboard(tell=None)
        async with program(served) as client:
            async with contextlib.AsyncExitStack() as stack:
                answers = []
                for _ in range(16):
                    stream = client.stream("GET", "/api/stream/locks")
                    answers.append(messages(await stack.enter_async_context(stream)))
                for answer in answers:
                    await anext(answer)
                refused = await client.get("/api/stream/locks")
                assert refused.status_code == 503
            for _ in range(1_000):  # until the server notices that pages have gone
                async with client.stream("GET", "/api/stream/locks") as again:
                    if again.status_code == 200:
                        break
            assert again.status_code == 200


async def test_the_server_says_nothing_in_the_logs(caplog):
    caplog.set_level(logging.INFO)
    async with Swarm() as swarm:
        served = await swarm.dashboard(tell=None)
        async with program(served) as client:
            await client.get("/api/overview")
    assert served.token not in caplog.text
    assert [r for r in caplog.records if r.levelno >= logging.WARNING] == []


def test_all_that_a_browser_loads_has_at_most_60_kilobytes():
    found = package._app._assets()
    assert sum(len(body) for body, _ in found.values()) <= 60_000
    assert len(found) >= 10
    for body, _ in found.values():
        assert b"http://" not in body.replace(b"http://www.w3.org/2000/svg", b"")
        assert b"https://" not in body
        assert b"innerHTML" not in body


async def test_the_head_of_a_stream_is_answered_and_looks_at_nothing():
    async with Swarm() as swarm:
        served = await swarm.dashboard(tell=None)
        async with program(served) as client:
            answer = await client.head("/api/stream/overview")
            assert answer.status_code == 200
            assert answer.headers["content-type"].startswith("text/event-stream")


async def test_a_query_writes_no_line_of_a_stream_of_its_own():
    async with Swarm() as swarm:
        await swarm.state.set("shared.x", 1)
        served = await swarm.dashboard(tell=None)
        async with program(served) as client:
            query = {"types": "a..b", "after": "1\ndata: {}"}
            async with client.stream(
                "GET", "/api/stream/events", params=query
            ) as answer:
                id_, data = await anext(messages(answer))
            assert id_ == "0"
            assert "dotted words" in data["problem"]
