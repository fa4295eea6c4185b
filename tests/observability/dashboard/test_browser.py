"""The dashboard as people see it: in a real Chromium."""

import asyncio
import contextlib
from pathlib import Path
from urllib.parse import quote

import pytest

from swarm import (
    Agent,
    Backoff,
    Claim,
    DeadlockError,
    Handoff,
    Pipeline,
    Restart,
    Stage,
    Swarm,
    serves,
)
from tests.support.browser import NARROW, Tab, start_chromium

HOSTILE = [
    "<img src=x onerror=\"document.title='hacked'\">",
    "<script>document.title='hacked'</script>",
    '"><svg onload="document.title=\'hacked\'">',
    "javascript:document.title='hacked'",
    "'-alert(1)-'",
    "</title></style></textarea><b>bold</b>",
    "{{constructor.constructor('document.title=1')()}}",
    "\u202e\u0000\ufeff<a href='javascript:x'>",
]


class Clerk(Agent):
    @serves("order.pack")
    async def pack(self, claim: Claim) -> dict:
        if claim.payload["n"] % 2:
            raise ValueError(f"box {claim.payload['n']} is too small\nmeasure again")
        return {"packed": claim.payload["n"]}


class Hostile(Agent):
    """Has hostile text wherever an agent can put some."""

    async def fail(self, text: str) -> None:
        raise RuntimeError(text)

    async def echo(self, text: str) -> str:
        return text

    @serves("order.odd")
    async def odd(self, claim: Claim) -> str:
        await claim.step(HOSTILE[1], self.echo, HOSTILE[2])
        await self.checkpoints.save({HOSTILE[0]: HOSTILE[1]}, HOSTILE[2], task=claim)
        handoff = await self.handoffs.offer(
            claim,
            to="hand",
            completed={HOSTILE[0]: 1},
            remaining=HOSTILE[1],
            notes=HOSTILE[2],
            timeout=5,
        )
        await handoff.outcome()
        return HOSTILE[0]


class Hand(Agent):
    async def handoff(self, offer: Handoff) -> None:
        await offer.reject(HOSTILE[0])


class Writer(Agent):
    async def outline(self, topic: str) -> str:
        return f"{topic}: outline"

    async def write(self, outline: str) -> str:
        raise RuntimeError(f"no ink for {outline}")


@pytest.fixture(scope="module")
def driver(tmp_path_factory):
    found = start_chromium(tmp_path_factory.mktemp("profile"))
    yield found
    found.quit()


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))


@pytest.fixture
async def swarm():
    async with Swarm("parcels", on_failure="log") as swarm:
        yield swarm


@pytest.fixture
async def tab(driver):
    tab = Tab(driver)
    await tab.open("about:blank")
    await tab.logs()
    return tab


def script(name):
    return Path(__file__).with_name(f"{name}.js").read_text(encoding="utf-8")


async def open_dashboard(tab, swarm, **options):
    served = await swarm.dashboard(tell=None, **options)
    await tab.open(served.url)
    await tab.until("return document.getElementById('live')?.textContent === 'live'")
    return served


async def submit_failing(swarm, n=1, **options):
    task = await swarm.tasks.submit(
        "order.pack", {"n": n}, max_retries=1, backoff=Backoff(0, 0), **options
    )
    while (await task.record()).status not in ("failed", "escalated"):
        await asyncio.sleep(0)
    return task


async def test_every_page_shows_its_part_of_the_swarm_without_a_complaint(tab, swarm):
    clerk = await swarm.spawn(Clerk, name="ann")
    await swarm.spawn(Writer, name="wim")
    await swarm.state.set("shared.plan", {"title": "Bees", "password": "hunter2"})
    await swarm.state.set("shared.plan", {"title": "Ants", "password": "hunter2"})
    task = await submit_failing(swarm)
    await swarm.tasks.submit("order.label")
    flow = Pipeline(
        "article", [Stage("outline", Writer.outline), Stage("write", Writer.write)]
    )
    await swarm.pipelines.start(flow, "bees", id="article-1")
    async with swarm.lock("printer").acquire(ttl=60):
        await open_dashboard(tab, swarm)
        pages = {
            "#/": [
                "healthy",
                "ValueError: box 1 is too small",
                "nobody serves this kind",
            ],
            "#/tasks": ["order.label", "nobody serves"],
            f"#/tasks/{task.id}": ["Why it failed", "measure again", "Audit trail"],
            f"#/trace/{task.id}": ["Trace of order.pack", "attempt 2", "ann"],
            "#/agents": ["ann", "clerk", "wim"],
            "#/agents/ann": ["Newest events", "task.failed", "Handled"],
            "#/state": ["shared", "global"],
            "#/state?path=shared.plan": ["Ants", "Bees", "title", "version"],
            "#/locks": ["printer", "exclusive"],
            "#/pipelines": ["article-1"],
            "#/pipelines/article-1": ["outline", "no ink for bees: outline"],
            "#/events": ["task.failed", "task.created"],
        }
        for page, texts in pages.items():
            await tab.visit(page)
            for text in texts:
                await tab.has(text)
            shown = await tab.run("return document.documentElement.innerText")
            assert "hunter2" not in shown
            assert await tab.run("return document.querySelectorAll('h1').length") == 1
    assert await tab.logs() == []
    assert clerk.status == "idle"


async def test_from_the_overview_to_the_cause_of_a_failure_in_two_clicks(tab, swarm):
    await swarm.spawn(Clerk, name="ann")
    task = await submit_failing(swarm, 3)
    await open_dashboard(tab, swarm)
    await tab.click("ValueError: box 3 is too small")
    await tab.has("2 / 2")
    await tab.click(task.id[:12])
    await tab.has("Why it failed")
    await tab.has("measure again")


async def test_pages_follow_the_swarm_without_being_asked(tab, swarm):
    await open_dashboard(tab, swarm)
    await tab.visit("#/tasks")
    await tab.has("No task fits.")
    task = await swarm.tasks.submit("order.label", metadata={"a": 1})
    await tab.has("order.label")
    await tab.visit(f"#/tasks/{task.id}")
    await tab.has("pending")
    async with swarm.tasks.claim("order.label") as claim:
        await claim.progress(40, "printing")
        await tab.has("40 %")
    await tab.has("complete")


async def test_the_end_of_the_swarm_and_a_new_one_are_said(tab):
    async with Swarm("first") as swarm:
        served = await open_dashboard(tab, swarm)
    await tab.until(
        "return document.getElementById('live').textContent.includes('lost')"
    )
    async with Swarm("second") as swarm:
        await swarm.dashboard(port=served.port, tell=None)
        await tab.until(
            "return document.getElementById('live').textContent.includes('signed out')"
        )


async def test_events_can_be_filtered_paused_and_gone_on_with(tab, swarm):
    await open_dashboard(tab, swarm)
    await tab.visit("#/events?types=task.created")
    await swarm.tasks.submit("before")
    await tab.has("before")
    await tab.click("Pause")
    await tab.until("return document.getElementById('live').textContent === 'paused'")
    for number in range(5):
        await swarm.tasks.submit(f"meanwhile.n{number}")
    await swarm.state.set("shared.other", 1)
    await tab.click("Go on")
    await tab.has("meanwhile.n4")
    shown = await tab.run("return document.querySelectorAll('.log li').length")
    assert shown == 6


async def test_nothing_that_users_write_becomes_html_or_script(tab, swarm):
    """Names, goals, errors, events and documents are text."""
    for number, text in enumerate(HOSTILE):
        await swarm.state.set(f"shared.hostile.n{number}", {text: text})
        await swarm.state.namespace("shared").set(f'odd["{number}"]', text)
        task = await swarm.tasks.submit(
            "order.hostile", text, metadata={"m": text}, max_retries=0
        )
        claim = await swarm.tasks.claim("order.hostile")
        await claim.progress(10, text)
        await claim.fail(text, retry=False)

    async def hold(name):
        async with swarm.lock(name).acquire(ttl=60):
            await asyncio.Event().wait()

    tasks = [
        asyncio.create_task(hold(name), name=text)
        for text in HOSTILE
        for name in (HOSTILE[0], HOSTILE[2])
    ]
    await swarm.spawn(Hand, name="hand", role=HOSTILE[0])
    spawned = [
        await swarm.spawn(
            Hostile, name=text, capabilities=[text], restart=Restart("transient", max=9)
        )
        for text in HOSTILE[:3]
    ]
    for agent, text in zip(spawned, HOSTILE, strict=False):
        await agent.tell(Hostile.fail, text)
    odd = await swarm.tasks.submit("order.odd", key=HOSTILE[0])
    await odd.result()
    flow = Pipeline("hostile", [Stage("echo", Hostile.echo, agent=HOSTILE[0])])
    run = await swarm.pipelines.start(flow, HOSTILE[2], id="hostile-1")
    await run.result()
    swarm.semaphore(HOSTILE[1], capacity=1)
    permit = await swarm.semaphore(HOSTILE[1]).acquire(ttl=60)
    await open_dashboard(tab, swarm, actions=True)
    pages = ["", "tasks", f"tasks/{task.id}", f"trace/{task.id}", "agents", "locks"]
    pages += [f"tasks/{odd.id}", f"trace/{odd.id}", "pipelines/hostile-1"]
    pages += [f"agents/{quote(text)}" for text in HOSTILE[:3]]
    pages += ["events?types=**", "state?path=shared.hostile.n0", "state?path=shared"]
    pages += ["state?path=shared.hostile.n1", "pipelines", "state?path=locks"]
    pages += [f"tasks/{HOSTILE[0]}", f"tasks?kind={HOSTILE[2]}", f"agents/{HOSTILE[1]}"]
    pages += [f"state?path={HOSTILE[0]}", f"events?types={HOSTILE[0]}", HOSTILE[0]]
    for page in pages:
        await tab.visit(f"#/{page}")
        await tab.until("return document.getElementById('main').ariaBusy === 'false'")
        title, images, scripts, links = await tab.run(
            """return [document.title,
            [...document.querySelectorAll("main img, main b b, iframe, object")].length,
            [...document.scripts].length,
            [...document.querySelectorAll("main a[href]")].filter(
                (each) => !each.getAttribute("href").startsWith("#/")).length]"""
        )
        assert "hacked" not in title.replace("document.title='hacked'", ""), page
        assert (images, scripts, links) == (0, 1, 0), page
    assert [line for line in await tab.logs() if "Content Security" in line] == []
    await permit.release()
    for each in tasks:
        each.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def test_a_page_of_another_origin_neither_reads_nor_acts(tab, swarm):
    """Not from another port of this machine, nor under another name of it."""
    served = await open_dashboard(tab, swarm, actions=True)
    task = await swarm.tasks.submit("order.label")
    target = f"http://127.0.0.1:{served.port}"
    async with blank_server() as port:
        for place in (f"http://127.0.0.1:{port}/", f"http://localhost:{port}/"):
            await tab.open(place)
            await asyncio.to_thread(tab.driver.set_script_timeout, 15)
            got = await asyncio.to_thread(
                tab.driver.execute_async_script, script("attack"), target, task.id
            )
            assert set(got) <= {"refused", ""}, got
    assert (await task.record()).status == "pending"
    await tab.open(target)  # the own page still works
    await tab.has("Tasks by status")


@contextlib.asynccontextmanager
async def blank_server():
    """Serve an empty page on another port of this machine, and yield the port."""
    writers = []

    async def answer(reader, writer):
        writers.append(writer)
        with contextlib.suppress(asyncio.IncompleteReadError):
            await reader.readuntil(b"\r\n\r\n")
            body = b"<!doctype html><title>other</title><body>"
            writer.write(
                b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n"
                b"Connection: close\r\nContent-Length: %d\r\n\r\n" % len(body)
            )
            writer.write(body)
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    yield server.sockets[0].getsockname()[1]
    server.close()
    for writer in writers:
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()


async def test_the_cookie_is_not_for_scripts_and_the_token_leaves_the_address(
    tab, swarm
):
    served = await open_dashboard(tab, swarm)
    assert await tab.run("return document.cookie") == ""
    assert served.token not in await tab.run("return location.href")
    assert served.token not in await tab.run(
        "return document.documentElement.outerHTML"
    )


async def test_a_person_acts_with_a_reason_and_the_keyboard_alone(tab, swarm):
    from selenium.webdriver.common.keys import Keys

    await swarm.spawn(Clerk, name="ann")
    task = await submit_failing(swarm, escalate_to="manual")
    await open_dashboard(tab, swarm, actions=True, actor="zoe")
    await tab.visit(f"#/tasks/{task.id}")
    await tab.has("escalated")
    await tab.run("document.querySelector('main').focus()")
    while await tab.run("return document.activeElement.innerText") != "Resolve":
        await tab.type(Keys.TAB)
    await tab.type(Keys.ENTER)
    await tab.until("return document.querySelector('dialog').open")
    await tab.run("document.querySelector('dialog textarea').focus()")
    await tab.type('{"packed": 9}', Keys.TAB, "measured by hand", Keys.ENTER)
    await tab.until(
        "return document.getElementById('said').textContent.includes('done')"
    )
    assert await task.result() == {"packed": 9}
    (told,) = swarm.events.query("dashboard.action")
    assert (told.payload.actor, told.payload.reason) == ("zoe", "measured by hand")
    await tab.has("complete")


async def test_a_read_only_page_has_nothing_to_press_that_changes_something(tab, swarm):
    await swarm.spawn(Clerk, name="ann")
    task = await submit_failing(swarm, escalate_to="manual")
    await open_dashboard(tab, swarm)
    for page in (f"tasks/{task.id}", "agents/ann"):
        await tab.visit(f"#/{page}")
        await tab.until("return document.getElementById('main').ariaBusy === 'false'")
        await tab.until("return document.querySelector('.chip')")
        assert (
            await tab.run("return document.querySelectorAll('main button').length") == 0
        )


async def test_pages_fit_a_phone(tab, swarm):
    await swarm.spawn(Clerk, name="ann-with-a-name-that-is-rather-long-for-a-phone")
    task = await submit_failing(swarm)
    await swarm.state.set("shared.plan", {"key-" + "x" * 80: "y" * 300})
    await tab.command("Emulation.setDeviceMetricsOverride", **NARROW)
    try:
        await open_dashboard(tab, swarm)
        pages = ["", "tasks", f"tasks/{task.id}", "agents", "events", "locks"]
        pages += ["state?path=shared.plan", "pipelines", f"trace/{task.id}"]
        for page in pages:
            await tab.visit(f"#/{page}")
            await tab.until(
                "return document.getElementById('main').ariaBusy === 'false'"
            )
            wide = await tab.run(
                """return [...document.querySelectorAll("main *")].filter(
                (each) => each.getBoundingClientRect().right > innerWidth
                    && each.checkVisibility()
                    && !each.parentElement.closest(".scroll, pre")
                ).map((each) => each.outerHTML)"""
            )
            width = await tab.run("return document.documentElement.scrollWidth")
            assert width <= NARROW["width"], (page, wide)
    finally:
        await tab.command("Emulation.clearDeviceMetricsOverride")


async def test_pages_work_with_a_keyboard_and_say_what_they_are(tab, swarm):
    from selenium.webdriver.common.keys import Keys

    await swarm.tasks.submit("order.label")
    await open_dashboard(tab, swarm)
    await tab.run("document.querySelector('#nav a[href=\"#/tasks\"]').focus()")
    await tab.type(Keys.ENTER)
    await tab.has("order.label")
    found = await tab.run(
        """return {
        focus: document.activeElement.id,
        title: document.title,
        current: document.querySelector("nav [aria-current=page]").textContent,
        lang: document.documentElement.lang,
        unnamed: [...document.querySelectorAll("input, select, button, a")].filter(
            (each) => !(each.labels?.length || each.innerText?.trim() ||
                each.ariaLabel || each.querySelector("[alt]"))).length,
        headers: [...document.querySelectorAll("th")].every((each) => each.scope),
        live: document.getElementById("live").getAttribute("role"),
        }"""
    )
    assert found == {
        "focus": "main",
        "title": "Tasks · parcels",
        "current": "Tasks",
        "lang": "en",
        "unnamed": 0,
        "headers": True,
        "live": "status",
    }


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_text_has_contrast_in_both_schemes(tab, swarm, scheme):
    """WCAG 2 asks for 4.5 to 1."""
    await swarm.spawn(Clerk, name="ann")
    await submit_failing(swarm)
    feature = {"name": "prefers-color-scheme", "value": scheme}
    await tab.command("Emulation.setEmulatedMedia", features=[feature])
    try:
        await open_dashboard(tab, swarm)
        await tab.has("Tasks by kind")
        lowest = await tab.run(script("contrast"))
        assert lowest[0] >= 4.5, lowest
    finally:
        await tab.command("Emulation.setEmulatedMedia", features=[])


async def test_a_cycle_of_waits_is_red_and_said_in_words(tab, swarm, monkeypatch):
    names = ["ann", "bo", "cy"]
    nodes = [{"id": name, "label": name, "agent": name} for name in names]
    edges = [
        {"from": "ann", "to": "bo", "what": "lock 'a'", "any": False},
        {"from": "bo", "to": "ann", "what": "lock 'b'", "any": False},
        {"from": "cy", "to": "ann", "what": "lock 'b'", "any": False},
    ]
    graph = {"nodes": nodes, "edges": edges, "cycle": ["ann", "bo"], "more": 0}
    graph["refused"] = [["ann waits for bo", "bo waits for ann"]]
    monkeypatch.setattr("swarm.observability.wait_graph", lambda swarm: graph)
    await open_dashboard(tab, swarm)
    await tab.visit("#/locks")
    await tab.has("A cycle: ann → bo → ann")
    await tab.has("Deadlocks that were refused")
    strokes = await tab.run(
        """return [...document.querySelectorAll(".edge")].map(
        (edge) => edge.classList.contains("bad"))"""
    )
    assert strokes == [True, True, False]
    color = await tab.run(
        "return getComputedStyle(document.querySelector('.edge.bad')).stroke"
    )
    assert color in ("rgb(196, 35, 43)", "rgb(255, 123, 120)")


async def test_a_real_deadlock_that_was_refused_is_shown(tab, swarm):
    async def take(first, second, ready, go):
        async with swarm.lock(first).acquire(ttl=60):
            ready.set()
            await go.wait()
            async with swarm.lock(second).acquire(ttl=60):
                pass

    one, two = asyncio.Event(), asyncio.Event()
    async with asyncio.timeout(30):
        found = await asyncio.gather(
            take("left", "right", one, two),
            take("right", "left", two, one),
            return_exceptions=True,
        )
    assert any(isinstance(error, DeadlockError) for error in found)
    await open_dashboard(tab, swarm)
    await tab.visit("#/locks")
    await tab.has("Deadlocks that were refused")
    await tab.has("lock 'right'")
