"""Where a key is needed: signing in and out; and the pages that one sees seldom, on a phone."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import httpx2
import pytest
from playwright.sync_api import Browser, Page, expect

from tests.browser import Watched
from tests.server import Server, run_server
from tests.web.browser.test_pages import judged

TOKEN = "a-token-of-more-than-16-characters"
PHONE: Any = {"viewport": {"width": 390, "height": 844}}


@pytest.fixture(scope="module")
def locked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A service that needs a key."""
    with run_server(tmp_path_factory.mktemp("locked"), env={"TASKER_TOKEN": TOKEN}) as server:
        yield server


@pytest.fixture
def stranger(browser: Browser, locked: Server) -> Iterator[Watched]:
    """A phone that has no key of the locked service yet."""
    context = browser.new_context(**PHONE)
    yield Watched(context, locked.url)
    context.close()


def call(locked: Server, method: str, path: str, body: Any = None) -> Any:
    """Call the API as an admin."""
    reply = httpx2.request(method, locked.url + path, json=body, headers={"authorization": f"Bearer {TOKEN}"})
    assert reply.status_code < 300, reply.text
    return reply.json() if reply.content else None


def make_key(locked: Server, owner: str) -> tuple[str, str]:
    """Return the id of a new key, and the key."""
    made = call(locked, "POST", "/key", {"scopes": ["submit", "read", "control"], "owner": owner})
    return made["key_id"], made["key"]


def sign_in(page: Page, key: str) -> None:
    page.get_by_label("Key", exact=True).fill(key)
    page.get_by_role("button", name="Sign in", exact=True).click()


def forgive(watched: Watched, *statuses: int) -> None:
    """Forget that the browser's console tells of pages with these statuses, as it does of every error."""
    told = tuple(f"status of {status}" for status in statuses)
    watched.faults[:] = [fault for fault in watched.faults if not any(one in fault for one in told)]


def test_a_key_opens_the_pages_until_one_signs_out(stranger: Watched, locked: Server) -> None:
    _, key = make_key(locked, "visitor")
    page = stranger.goto("tasks?status=completed")
    expect(page.get_by_role("heading", level=1)).to_have_text("Sign in")
    sign_in(page, key)
    expect(page).to_have_url(f"{locked.url}/ui/tasks?status=completed")
    expect(page.get_by_role("heading", level=1)).to_have_text("Tasks")
    [cookie] = page.context.cookies()
    assert (cookie["sameSite"], cookie["httpOnly"], cookie["path"]) == ("Strict", True, "/ui")
    page = stranger.goto("type/sum")
    page.get_by_label("a", exact=True).fill("40")
    with page.expect_request(lambda request: request.method == "POST" and "sum" in request.url) as posted:
        page.get_by_role("button", name="Run", exact=True).click()
    page.wait_for_url("**/ui/task/*")
    expect(page.locator("#result")).to_have_text("42")
    assert posted.value.header_value("origin") == locked.url
    task = call(locked, "GET", f"/task/{page.url.rpartition('/')[2]}")
    assert (task["owner"], task["result"]) == ("visitor", 42)
    page.locator("summary", has_text="More").click()  # on a wide screen the button stands below the navigation
    page.get_by_role("button", name="Sign out").click()
    expect(page).to_have_url(f"{locked.url}/ui/signin")
    assert page.context.cookies() == []
    stranger.goto("tasks")
    expect(page.get_by_role("heading", level=1)).to_have_text("Sign in")
    forgive(stranger, 401)
    stranger.check()


def test_a_revoked_key_leads_to_the_sign_in(stranger: Watched, locked: Server) -> None:
    key_id, key = make_key(locked, "leaver")
    page = stranger.goto("type/sum")
    sign_in(page, key)
    expect(page.get_by_role("heading", level=1)).to_have_text("sum")
    call(locked, "DELETE", f"/key/{key_id}")
    page.get_by_role("button", name="Run", exact=True).click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Sign in")
    sign_in(page, key)
    expect(page.get_by_role("alert")).to_be_visible()
    expect(page.get_by_label("Key", exact=True)).to_have_attribute("aria-invalid", "true")
    assert call(locked, "GET", "/task?owner=leaver")["items"] == []
    forgive(stranger, 401)
    stranger.check()


def test_the_sign_in_and_an_empty_overview(stranger: Watched, locked: Server) -> None:
    page = stranger.goto("")
    forgive(stranger, 401)
    found = judged(stranger, "sign-in")
    sign_in(page, "a wrong key")
    expect(page.get_by_role("alert")).to_be_visible()
    forgive(stranger, 401)
    found += judged(stranger, "refused sign-in")
    sign_in(page, make_key(locked, "newcomer")[1])
    expect(page.get_by_text("has nothing to do yet")).to_be_visible()
    found += judged(stranger, "empty overview")
    assert found == []


def test_a_refused_form_no_page_and_a_preview(browser: Browser, server: Server, ids: dict[str, str]) -> None:
    context = browser.new_context(**PHONE)
    watched = Watched(context, server.url)
    page = watched.goto("type/sum")
    page.get_by_label("a", exact=True).fill("four")
    page.get_by_role("button", name="Run", exact=True).click()
    expect(page.locator("#faults")).to_be_visible()
    forgive(watched, 422)
    found = judged(watched, "refused form")
    watched.goto("nothing/here")
    expect(page.get_by_text("There is nothing here")).to_be_visible()
    forgive(watched, 404)
    found += judged(watched, "no page")
    watched.goto("tasks?status=failed&type=report")
    page.locator(f"#t-{ids['failed']} .x").check()
    page.get_by_role("button", name=re.compile("that match$")).click()
    expect(page.get_by_role("heading", name="What retry would do")).to_be_visible()
    found += judged(watched, "preview")
    context.close()
    assert found == []
