"""A swarm in a real notebook kernel: display, updates, interrupts, cells run again."""

from pathlib import Path
from queue import Empty

import nbformat
import pytest
from jupyter_client.manager import start_new_kernel

from tests.observability.sanitizer import passed

NOTEBOOK = Path(__file__).parents[2] / "examples" / "notebook.ipynb"

SETUP = """
import asyncio
from swarm import Agent, Swarm, serves

class Writer(Agent):
    @serves("write.*")
    async def work(self, claim):
        for percent in range(0, 100, 20):
            await claim.progress(percent, "writing")
            await asyncio.sleep(0.15)
        return "done"

    async def never(self):
        await asyncio.Event().wait()

swarm = await Swarm.open("demo")
ada = await swarm.spawn(Writer, name="ada")
"""


class Cells:
    """Runs cells in one kernel, and returns what each has shown."""

    def __init__(self, manager, client):
        self.manager = manager
        self.client = client

    def run(self, code, interrupt_at=None):
        """Return the messages of a cell; interrupt it once it has printed a text."""
        sent = self.client.execute(code)
        found = []
        while True:
            try:
                message = self.client.get_iopub_msg(timeout=30)
            except Empty:
                raise AssertionError(f"the cell does not end; so far {found}") from None
            if message["parent_header"].get("msg_id") != sent:
                continue
            kind, content = message["msg_type"], message["content"]
            if kind == "status" and content["execution_state"] == "idle":
                return found
            if kind == "stream" and content["text"].strip() == interrupt_at:
                self.manager.interrupt_kernel()
            if kind not in ("status", "execute_input"):
                found.append((kind, content))

    def shown(self, code):
        """Return the data of what a cell has shown last."""
        found = [c for kind, c in self.run(code) if kind != "stream"]
        assert "ename" not in found[-1], found[-1].get("evalue")
        return found[-1]["data"]


@pytest.fixture(scope="module")
def cells():
    manager, client = start_new_kernel(kernel_name="python3")
    try:
        yield Cells(manager, client)
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)


@pytest.fixture
def opened(cells):
    assert not [c for kind, c in cells.run(SETUP) if kind == "error"]
    yield cells
    cells.run("await swarm.close()")


def test_a_cell_shows_a_swarm_as_text_and_as_html(opened):
    data = opened.shown("swarm")
    assert data["text/plain"].startswith("swarm 'demo' [open]")
    passed(data["text/html"])
    assert "agent 'ada'" in opened.shown("ada")["text/plain"]
    task = "await swarm.tasks.submit('other.kind', {})"
    assert "[pending]" in opened.shown(task)["text/plain"]


def test_show_updates_one_place_until_the_swarm_is_idle(opened):
    code = "task = await swarm.tasks.submit('write.a')\nawait swarm.show()"
    found = [(k, c) for k, c in opened.run(code) if k.endswith("display_data")]
    kinds = [kind for kind, _ in found]
    assert kinds[0] == "display_data"
    assert set(kinds[1:]) == {"update_display_data"}
    places = {content["transient"]["display_id"] for _, content in found}
    assert len(places) == 1
    assert "1 complete" in found[-1][1]["data"]["text/plain"]
    assert any("%" in content["data"]["text/plain"] for _, content in found)
    for _, content in found:
        passed(content["data"]["text/html"])


@pytest.mark.parametrize(
    "wait",
    [
        "await ada.ask(Writer.never)",
        "await asyncio.Event().wait()",
        "await swarm.show()",
    ],
)
def test_an_interrupt_of_a_cell_that_waits_lands(opened, wait):
    if "show" in wait:
        opened.run("await ada.tell(Writer.never)")
    found = opened.run(f"print('waits', flush=True)\n{wait}", interrupt_at="waits")
    errors = [content["ename"] for kind, content in found if kind == "error"]
    assert errors in (["CancelledError"], ["KeyboardInterrupt"])
    if "show" in wait:
        opened.run("await ada.kill()")


def test_a_cell_that_opens_a_swarm_can_be_run_again(cells):
    cell = """
    swarm = await Swarm.open("again", replace=True)
    ada = await swarm.spawn(Writer, name="ada")
    await ada.tell(Writer.never)
    """
    cells.run(SETUP)
    cells.run("first = swarm")
    assert not [c for kind, c in cells.run(cell) if kind == "error"]
    cells.run("second = swarm")
    assert not [c for kind, c in cells.run(cell) if kind == "error"]
    assert "[closed]" in cells.shown("second")["text/plain"]
    assert "[open]" in cells.shown("swarm")["text/plain"]
    assert "[open]" in cells.shown("first")["text/plain"]  # another name
    cells.run("await ada.kill(); await swarm.close(); await first.close()")


def test_the_example_notebook_runs_from_its_beginning_to_its_end(cells):
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    assert not any(cell.get("outputs") for cell in notebook.cells)
    shown = []
    for cell in notebook.cells:
        if cell.cell_type == "code":
            found = [content for _, content in cells.run(cell.source)]
            assert not [each for each in found if "ename" in each]
            data = [each["data"] for each in found if "data" in each]
            shown += [each["text/html"] for each in data if "text/html" in each]
    assert len(shown) >= 8
    for html in shown:
        passed(html)
