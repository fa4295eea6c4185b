"""A dashboard answers its own user and nobody else, and shows no secrets."""

import logging
import re

import httpx
import pytest

from swarm import Swarm
from swarm.observability.dashboard._guard import POLICY, new_keys

TOKEN = "a-token-that-is-long-enough"
HOST = "127.0.0.1:8000"
CHANGES = ["POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT", "QUERY"]
METHODS = ["GET", "HEAD", *CHANGES]


@pytest.fixture
async def swarm():
    async with Swarm("inner") as swarm:
        yield swarm


@pytest.fixture
async def app(swarm):
    return swarm.asgi(token=TOKEN, actions=True, actor="ann")


def client(app, **headers):
    transport = httpx.ASGITransport(app)
    base = httpx.AsyncClient(transport=transport, base_url=f"http://{HOST}")
    base.headers.clear()
    base.headers.update({"host": HOST, **headers})
    return base


def paths(app):
    """Return a path of each route, the page itself, and paths of no route."""
    found = [re.sub(r"\{(\w+)\}", "overview", route.path) for route in app.routes]
    return [*found, "/assets/main.js", "/nothing", "/api/stream/../actions", "/%2F"]


async def sign_in(app):
    """Return the header of a browser that has come by the printed URL."""
    async with client(app) as browser:
        answer = await browser.get(f"/?token={TOKEN}")
    assert answer.status_code == 200
    return answer.headers["set-cookie"].partition(";")[0]


async def every_answer(app, methods=METHODS, **headers):
    """Yield what each method of each path answers: the request, status and headers."""
    sent = {"host": HOST, **headers}
    lines = [(name.replace("_", "-").encode(), sent[name].encode()) for name in sent]
    for path in paths(app):
        for method in methods:
            messages = []
            scope = {"type": "http", "method": method, "path": path, "headers": lines}

            async def send(message, messages=messages):
                messages.append(message)

            async def receive():
                return {"type": "http.request", "body": b"{}"}

            await app(scope, receive, send)
            found = {k.decode(): v.decode() for k, v in messages[0]["headers"]}
            yield f"{method} {path}", messages[0]["status"], found


async def test_no_route_answers_any_method_without_the_token(app):
    seen = 0
    async for what, status, found in every_answer(app):
        assert status == 401, what
        assert found["content-security-policy"] == POLICY, what
        seen += 1
    assert seen >= 10 * len(app.routes)


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "evil.example:8000",
        "127.0.0.1.evil.example",
        "localhost.",
        "localhost@evil.example",
        "127.0.0.1:8000:1",
        "127.0.0.1:x",
        "0.0.0.0:8000",
        "[::2]:8000",
        "",
    ],
)
async def test_no_route_answers_to_a_foreign_name_of_this_machine(app, host):
    cookie = await sign_in(app)
    async for what, status, _ in every_answer(app, host=host, cookie=cookie):
        assert status == 403, what
    async with client(app, host=host) as browser:
        assert (await browser.get(f"/?token={TOKEN}")).status_code == 403


@pytest.mark.parametrize(
    "origin",
    [
        "http://evil.example",
        "https://127.0.0.1:8000.evil.example",
        "http://127.0.0.1:9000",
        "http://localhost:8000",
        "null",
        "file://127.0.0.1:8000",
        "http://evil@127.0.0.1:8000",
        "http://[",
        " ",
    ],
)
async def test_no_route_answers_a_page_of_another_origin(app, origin):
    cookie = await sign_in(app)
    headers = {"cookie": cookie, "content-type": "application/json"}
    async for what, status, found in every_answer(app, origin=origin, **headers):
        assert status == 403, what
        assert "access-control-allow-origin" not in found


@pytest.mark.parametrize("site", ["cross-site", "same-site", "nonsense"])
async def test_no_route_answers_a_request_that_another_site_made(app, site):
    cookie = await sign_in(app)
    headers = {"sec-fetch-site": site, "cookie": cookie}
    async for what, status, _ in every_answer(app, **headers):
        assert status == 403, what


@pytest.mark.parametrize(
    "kind", ["text/plain", "application/x-www-form-urlencoded", ""]
)
async def test_a_form_changes_nothing(app, kind):
    cookie = await sign_in(app)
    origin = f"http://{HOST}"
    headers = {"cookie": cookie, "content-type": kind, "origin": origin}
    async for what, status, _ in every_answer(app, CHANGES, **headers):
        assert status == 403, what


async def test_a_cookie_without_an_origin_changes_nothing(app):
    cookie = await sign_in(app)
    headers = {"cookie": cookie, "content-type": "application/json"}
    async for what, status, _ in every_answer(app, CHANGES, **headers):
        assert status == 403, what


@pytest.mark.parametrize(
    "headers",
    [
        {"cookie": "{name}=wrong"},
        {"cookie": "{name}={token}"},
        {"cookie": "other={session}"},
        {"cookie": 'a="\\; {name}'},
        {"authorization": "Bearer wrong"},
        {"authorization": "Bearer "},
        {"authorization": "Basic {token}"},
        {"authorization": "{token}"},
        {"authorization": "Bearer {session}"},
    ],
)
async def test_a_wrong_secret_opens_nothing(app, headers):
    name, _, session = (await sign_in(app)).partition("=")
    words = {"name": name, "token": TOKEN, "session": session}
    tried = {key: value.format(**words) for key, value in headers.items()}
    async for what, status, _ in every_answer(app, **tried):
        assert status == 401, what


async def test_the_token_in_a_url_opens_only_the_page(app):
    for path in paths(app):
        async with client(app) as browser:
            answer = await browser.get(path, params={"token": TOKEN})
            assert answer.status_code == (200 if path == "/" else 401), path
            browser.cookies.clear()
            answer = await browser.post(path, params={"token": TOKEN})
            assert answer.status_code == 401, path


async def test_websockets_are_refused(app):
    sent = []

    async def send(message):
        sent.append(message)

    async def receive():
        return {"type": "websocket.connect"}

    headers = [(b"host", HOST.encode()), (b"authorization", f"Bearer {TOKEN}".encode())]
    for path in paths(app):
        scope = {"type": "websocket", "path": path, "headers": headers}
        await app(scope, receive, send)
    assert {message["type"] for message in sent} == {"websocket.close"}


async def test_a_link_on_another_site_opens_the_page_with_the_token_only(app):
    link = {"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate"}
    async with client(app, **link, **{"sec-fetch-dest": "document"}) as browser:
        assert (await browser.get(f"/?token={TOKEN}")).status_code == 200
        assert (await browser.get("/?token=wrong")).status_code == 403
    async with client(app, **link, **{"sec-fetch-dest": "iframe"}) as browser:
        assert (await browser.get(f"/?token={TOKEN}")).status_code == 403


async def test_the_cookie_is_for_this_dashboard_and_no_script(app):
    async with client(app) as browser:
        answer = await browser.get(f"/?token={TOKEN}")
    name, *terms = answer.headers["set-cookie"].split("; ")
    assert terms == ["Path=/", "Max-Age=604800", "HttpOnly", "SameSite=Strict"]
    assert TOKEN not in name
    assert TOKEN not in answer.text


async def test_the_own_page_reads_and_changes(app, swarm):
    cookie = await sign_in(app)
    origin = f"http://{HOST}"
    task = await swarm.tasks.submit("work")
    headers = {"cookie": cookie, "origin": origin, "sec-fetch-site": "same-origin"}
    async with client(app, **headers) as browser:
        assert (await browser.get("/")).status_code == 200
        overview = (await browser.get("/api/overview")).json()
        assert overview["tasks"]["by_status"]["pending"] == 1
        order = {"action": "cancel", "target": task.id, "reason": "not needed"}
        assert (await browser.post("/api/actions", json=order)).status_code == 200
    assert (await task.record()).status == "cancelled"


async def test_a_program_reads_with_the_token_in_a_header(app):
    async with client(app, authorization=f"bearer {TOKEN}") as program:
        assert (await program.get("/api/overview")).json()["name"] == "inner"
        assert (await program.get("/api/nothing")).status_code == 404
        assert (await program.get("/assets/nothing")).status_code == 404
        assert (await program.get("/assets/..%2f_app.py")).status_code == 404


async def test_a_read_only_dashboard_has_no_route_that_changes_something(swarm):
    app = swarm.asgi(token=TOKEN)
    assert {m for route in app.routes for m in route.methods} == {"GET", "HEAD"}
    task = await swarm.tasks.submit("work")
    async with client(app, authorization=f"Bearer {TOKEN}") as program:
        order = {"action": "cancel", "target": task.id, "reason": "x"}
        assert (await program.post("/api/actions", json=order)).status_code == 405
        assert (await program.get("/api/overview")).json()["actions"] == []
    assert (await task.record()).status == "pending"


async def test_more_hosts_can_be_allowed(swarm):
    app = swarm.asgi(token=TOKEN, hosts=["Swarm.example", "other.example:8443"])
    allowed = {
        "swarm.example": 200,
        "swarm.example:9": 200,
        "other.example:8443": 200,
        "other.example": 403,
        "localhost:1": 200,
        "[::1]:8000": 200,
    }
    for host, status in allowed.items():
        headers = {"host": host, "authorization": f"Bearer {TOKEN}"}
        async with client(app, **headers) as program:
            assert (await program.get("/api/overview")).status_code == status, host


def test_tokens_have_256_bits_and_are_never_the_same():
    keys = [new_keys() for _ in range(50)]
    assert len({each.token for each in keys} | {each.session for each in keys}) == 100
    assert all(len(each.token) == 43 for each in keys)


async def test_the_seed_of_a_swarm_does_not_decide_the_token():
    tokens = set()
    for _ in range(2):
        async with Swarm(seed=1) as swarm:
            tokens.add(swarm.asgi().token)
    assert len(tokens) == 2


async def test_a_short_token_is_refused(swarm):
    with pytest.raises(ValueError, match="22 characters"):
        swarm.asgi(token="guess me")
    with pytest.raises(ValueError, match="printable ASCII"):
        swarm.asgi(token="é" * 30)


async def test_hosts_are_a_list_of_names(swarm):
    with pytest.raises(TypeError, match=r"hosts is a list: hosts=\['example.org'\]"):
        swarm.asgi(hosts="example.org")
    for wrong in ("https://example.org/", "", "a b"):
        with pytest.raises(ValueError, match="a host is a name"):
            swarm.asgi(hosts=[wrong])


async def test_secrets_are_masked_and_nothing_of_a_payload_is_logged(swarm, caplog):
    caplog.set_level(logging.DEBUG)
    app = swarm.asgi(token=TOKEN, actions=True)
    await swarm.state.set("shared.db", {"password": "hunter2", "size": 1})
    task = await swarm.tasks.submit("work", {"api_key": "hunter2", "n": 1})
    headers = {"authorization": f"Bearer {TOKEN}"}
    async with client(app, **headers) as program:
        pages = [
            await program.get("/api/state", params={"path": "shared.db"}),
            await program.get("/api/task", params={"id": task.id}),
            await program.get("/api/events", params={"types": "**"}),
            await program.get("/api/tasks"),
        ]
        order = {"action": "nothing", "target": task.id, "reason": "hunter2"}
        pages.append(await program.post("/api/actions", json=order))
    for page in pages:
        assert "hunter2" not in page.text
    assert "***" in pages[0].text
    assert "hunter2" not in caplog.text
    assert TOKEN not in caplog.text
    assert TOKEN not in repr(app)
