"""Fixtures: Debian's Chromium over a real service. Without a browser these tests are left out, and say so."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser

from tests.browser import NEEDS_BROWSER, Watched, chromium
from tests.server import Server, run_server
from tests.web.browser.stage import TYPES, Stage


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if "tests/web/browser" in str(item.path):
            item.add_marker(NEEDS_BROWSER)


@pytest.fixture(scope="package")
def browser() -> Iterator[Browser]:
    with chromium() as browser:
        yield browser


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
