"""The docs page in a real browser, under its own content security policy, with and without keys."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest
from playwright.sync_api import Browser, Page, expect

from tests.browser import NEEDS_BROWSER, Watched, chromium
from tests.server import Server, run_server

TOKEN = "a-token-of-more-than-16-characters"

pytestmark = NEEDS_BROWSER


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as browser:
        yield browser


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with run_server(tmp_path_factory.mktemp("locked"), env={"TASKER_TOKEN": TOKEN}) as server:
        yield server


def watch(browser: Browser, server: Server) -> Watched:
    return Watched(browser.new_context(), server.url, may_log_errors=True)


@pytest.fixture
def watched(browser: Browser, server: Server) -> Iterator[Watched]:
    watched = watch(browser, server)
    yield watched
    watched.check()
    watched.page.context.close()


def sign_in(page: Page, key: str) -> None:
    page.get_by_label("Key", exact=True).fill(key)
    page.get_by_role("button", name="Open the docs").click()


def execute(page: Page, operation: str) -> str:
    """Try an operation out as a user would; return the status that the page shows."""
    block = page.locator(f"#operations-{operation}")
    block.locator(".opblock-summary-control").click()
    block.get_by_role("button", name="Try it out").click()
    block.get_by_role("button", name="Execute").click()
    return block.locator(".live-responses-table .response .response-col_status").first.inner_text().split()[0]


@pytest.mark.long
def test_a_key_opens_the_docs_and_is_sent_along(watched: Watched) -> None:
    page, url = watched.page, watched.url
    page.goto(f"{url}/docs")
    expect(page.get_by_text("This service asks for a key.")).to_be_visible()
    expect(page.locator("#refusal")).to_have_text("")
    assert page.locator(".opblock").count() == 0
    sign_in(page, "a-wrong-key-of-nobody")
    expect(page.locator("#refusal")).to_contain_text("the key is wrong")
    sign_in(page, "no kéy — at all")
    expect(page.locator("#refusal")).to_contain_text("ASCII")
    sign_in(page, TOKEN)
    expect(page.locator("#operations-tasks-submit_task")).to_be_visible()
    expect(page.locator("#sign-in")).to_be_hidden()
    assert execute(page, "tasks-submit_task") == "202"
    tasks = httpx2.get(f"{url}/task", headers={"authorization": f"Bearer {TOKEN}"}).json()["items"]
    assert [task["type"] for task in tasks] == ["sum"]
    shown = page.locator("#swagger-ui").inner_text()
    assert "`" not in shown.partition("Curl")[0]


@pytest.mark.long
def test_the_key_lasts_as_long_as_the_tab(watched: Watched) -> None:
    page, url = watched.page, watched.url
    page.goto(f"{url}/docs")
    sign_in(page, TOKEN)
    expect(page.locator("#operations-tasks-list_tasks")).to_be_visible()
    page.reload()
    expect(page.locator("#operations-tasks-list_tasks")).to_be_visible()
    assert page.evaluate("[document.cookie, Object.keys(localStorage).length, location.search]") == ["", 0, ""]
    other = page.context.new_page()
    other.goto(f"{url}/docs")
    expect(other.get_by_text("This service asks for a key.")).to_be_visible()
    page.get_by_role("button", name="Forget the key").click()
    expect(page.get_by_text("This service asks for a key.")).to_be_visible()
    page.reload()
    expect(page.get_by_text("This service asks for a key.")).to_be_visible()


@pytest.mark.long
def test_without_keys_the_docs_are_open(browser: Browser, tmp_path: Path) -> None:
    with run_server(tmp_path) as server:
        watched = watch(browser, server)
        watched.page.goto(f"{server.url}/docs")
        expect(watched.page.locator("#operations-tasks-list_tasks")).to_be_visible()
        expect(watched.page.locator("#sign-in")).to_be_hidden()
        expect(watched.page.locator("#signed-in")).to_be_hidden()
        assert execute(watched.page, "tasks-list_tasks") == "200"
        watched.check()
        watched.page.context.close()


def test_a_problem_has_a_page(watched: Watched) -> None:
    page = watched.page
    page.goto(f"{watched.url}/problems/unauthorized")
    expect(page.get_by_role("heading")).to_have_text("A valid key is needed")
    assert page.locator("code").all_inner_texts() == [
        "unauthorized",
        "Authorization: Bearer <key>",
        "tasker key create",
    ]
    assert "`" not in page.locator("body").inner_text()
