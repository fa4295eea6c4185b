"""A real Chromium for tests, driven in a thread so that the loop goes on."""

import asyncio
import shutil
import time

import pytest

NARROW = {"width": 390, "height": 800, "deviceScaleFactor": 1, "mobile": True}


def start_chromium(profile):
    """Return a driver of a new Chromium; skip the test when there is none."""
    browser = shutil.which("chromium") or shutil.which("chromium-browser")
    path = shutil.which("chromedriver")
    if browser is None or path is None:
        pytest.skip("needs chromium and chromedriver: apt-get install chromium-driver")
    from selenium import webdriver
    from selenium.webdriver.chrome.options import Options
    from selenium.webdriver.chrome.service import Service

    options = Options()
    options.binary_location = browser
    for argument in (
        "--headless=new",
        "--no-sandbox",
        "--disable-dev-shm-usage",
        "--disable-gpu",
        "--window-size=1300,900",
        f"--user-data-dir={profile}",
    ):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    return webdriver.Chrome(options=options, service=Service(path))


class Tab:
    """One tab; its methods run in a thread, and wait up to 15 s for what is to come."""

    def __init__(self, driver):
        self.driver = driver

    async def run(self, script, *arguments):
        return await asyncio.to_thread(self.driver.execute_script, script, *arguments)

    async def open(self, url):
        await asyncio.to_thread(self.driver.get, url)

    async def visit(self, page):
        await self.run("location.hash = arguments[0]", page)

    async def until(self, script, *arguments):
        """Wait until a script returns something true, and return that."""
        return await asyncio.to_thread(self._until, script, arguments)

    def _until(self, script, arguments):
        ends = time.monotonic() + 15
        while time.monotonic() < ends:
            found = self.driver.execute_script(script, *arguments)
            if found:
                return found
            time.sleep(0.05)
        text = self.driver.execute_script("return document.body.innerText")
        raise AssertionError(f"{script!r} stays false; the page says:\n{text[:3000]}")

    async def has(self, text):
        """Wait until the page shows a text."""
        await self.until(
            "return document.getElementById('main').innerText.includes(arguments[0])",
            text,
        )

    async def click(self, text):
        """Click the first link or button whose text contains `text`."""
        element = await self.until(
            """return [...document.querySelectorAll("a, button, summary")].find(
            (each) =>
                each.checkVisibility() && each.innerText.includes(arguments[0]))""",
            text,
        )
        await asyncio.to_thread(element.click)

    async def type(self, *keys):
        """Type at the element that has the focus."""

        def send():
            self.driver.switch_to.active_element.send_keys(*keys)

        await asyncio.to_thread(send)

    async def logs(self):
        """Return the complaints of the browser since the last call."""
        found = await asyncio.to_thread(self.driver.get_log, "browser")
        return [each["message"] for each in found if each["level"] != "INFO"]

    async def command(self, name, **arguments):
        """Give a command of the DevTools protocol."""
        return await asyncio.to_thread(self.driver.execute_cdp_cmd, name, arguments)
