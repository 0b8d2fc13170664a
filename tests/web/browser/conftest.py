"""Fixtures: Debian's Chromium over a real service. Without a browser these tests are left out, and say so."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from typing import Any

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, expect, sync_playwright

from tests.server import Server, run_server
from tests.web.browser.stage import TYPES, Stage

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update",
         "--disable-sync", "--no-first-run"]  # fmt: skip
LIMIT = 30_000
"""Milliseconds that the browser has for each step."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if CHROMIUM is None:
        for item in items:
            if "tests/web/browser" in str(item.path):
                item.add_marker(pytest.mark.skip(reason="needs a browser: apt install chromium"))


@pytest.fixture(scope="package")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with run_server(tmp_path_factory.mktemp("pages"), str(TYPES), env={"TASKER_DRAIN": "0.2"}) as server:
        yield server


@pytest.fixture(scope="session")
def stage(server: Server) -> Iterator[Stage]:
    stage = Stage(server.url)
    yield stage
    stage.client.close()


@pytest.fixture(scope="session")
def ids(stage: Stage) -> dict[str, str]:
    """The tasks that `Stage.fill` makes."""
    return stage.fill()


class Watched:
    """A page that records what it must not do: break its policy, contact another server, log an error."""

    def __init__(self, context: BrowserContext, url: str) -> None:
        context.set_default_timeout(LIMIT)
        expect.set_options(timeout=LIMIT)
        self.page: Page = context.new_page()
        self.url = url
        self.faults: list[str] = []
        self.page.on("console", self._heard)
        self.page.on("pageerror", lambda error: self.faults.append(str(error)))
        self.page.on("request", self._asked)

    def _heard(self, message: Any) -> None:
        if "Content Security Policy" in message.text or message.type == "error":
            self.faults.append(message.text)

    def _asked(self, request: Any) -> None:
        if not request.url.startswith((self.url + "/", "data:", "blob:")):
            self.faults.append(request.url)

    def goto(self, path: str) -> Page:
        self.page.goto(f"{self.url}/ui/{path}")
        return self.page

    def check(self) -> None:
        assert self.faults == []


@pytest.fixture
def watched(browser: Browser, server: Server) -> Iterator[Watched]:
    context = browser.new_context(viewport={"width": 1280, "height": 800})
    watched = Watched(context, server.url)
    yield watched
    watched.check()
    context.close()


@pytest.fixture
def scriptless(browser: Browser, server: Server) -> Iterator[Watched]:
    """A page in a browser whose scripts are off."""
    context = browser.new_context(java_script_enabled=False)
    watched = Watched(context, server.url)
    yield watched
    watched.check()
    context.close()
