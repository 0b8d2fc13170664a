"""Every page, light, dark, on a phone: its policy kept, no other origin, axe content, no sideways scroll."""

from __future__ import annotations

import re
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, expect

from tests.browser import Watched
from tests.marks import usually
from tests.server import Server
from tests.web.browser.pages import paths_of

LOOKS = {
    "light": {"color_scheme": "light", "viewport": {"width": 1280, "height": 800}},
    "dark": {"color_scheme": "dark", "viewport": {"width": 1280, "height": 800}},
    "phone": {"color_scheme": "light", "viewport": {"width": 390, "height": 844}},
}
RULES = {
    "light": None,
    "dark": {"runOnly": {"type": "rule", "values": ["color-contrast", "link-in-text-block"]}},
    "phone": {"runOnly": {"type": "rule", "values": ["scrollable-region-focusable", "target-size", "meta-viewport"]}},
}
"""The rules that may judge a page otherwise in this look; None: all."""


FURTHER = re.compile(r"(task-[1256]|(type|queue)-[1-9])")
"""Names of pages that show more examples of what another shows."""


@pytest.mark.parametrize("further", usually([False, True], False), ids=["one of each kind", "further"])
@pytest.mark.parametrize("look", usually(LOOKS, "light"))
def test_every_page(browser: Browser, server: Server, ids: dict[str, str], look: str, *, further: bool) -> None:
    context = browser.new_context(**LOOKS[look])  # type: ignore[arg-type]
    watched = Watched(context, server.url)
    found: list[str] = []
    pages = {**paths_of(ids), "nothing": "tasks?status=cancelled&type=nothing"}
    for path in [path for name, path in pages.items() if bool(FURTHER.fullmatch(name)) is further]:
        watched.goto(path)
        found += judged(watched, path, RULES[look])
    context.close()
    assert found == []


def judged(watched: Watched, name: str, rules: Any = None) -> list[str]:
    """Return what is wrong with the page that is open, and forget the faults that were heard so far."""
    page = watched.page
    found = [f"{name}: {fault}" for fault in watched.faults]
    watched.faults.clear()
    width = page.evaluate("[document.documentElement.scrollWidth, document.documentElement.clientWidth]")
    if width[0] > width[1]:
        found.append(f"{name}: it is {width[0]} px wide, the window {width[1]} px")
    options = {**(rules or {}), "resultTypes": ["violations"]}  # what passes takes longer to tell than to find
    for violation in Axe().run(page, options=options).response["violations"]:
        nodes = [node["html"][:150] for node in violation["nodes"][:3]]
        found.append(f"{name}: {violation['id']}: {violation['help']}: {nodes}")
    return found


def test_a_thumb_can_find_and_press(browser: Browser, server: Server, ids: dict[str, str]) -> None:
    context = browser.new_context(**LOOKS["phone"])  # type: ignore[arg-type]
    watched = Watched(context, server.url)
    page = watched.goto("tasks?tag=nightly")
    for target in page.locator("main button.b:visible, main a.b:visible, nav.side li > a:visible").all():
        box = target.bounding_box()
        assert box is not None
        assert min(box["width"], box["height"]) >= 40, target.inner_text()
    page.get_by_role("button", name="All 2 that match…").click()
    expect(page.get_by_text("What retry would do")).to_be_visible()
    page.get_by_label("Find tasks").fill(ids["sum"])
    page.get_by_label("Find tasks").press("Enter")
    page.wait_for_url(f"**/ui/task/{ids['sum']}")
    watched.check()
    context.close()


def test_the_first_view_is_small(watched: Watched, ids: dict[str, str]) -> None:
    """40 kB as they are sent, in at most 6 requests, besides the stream."""
    sizes: dict[str, int] = {}
    watched.page.on("response", lambda reply: sizes.update({reply.url: int(reply.request.sizes()["responseBodySize"])}))
    with watched.page.expect_request(lambda request: "/live/" in request.url):
        watched.goto("tasks")
    shown = {url: size for url, size in sizes.items() if "/live/" not in url}
    assert len(shown) <= 5, shown
    assert sum(shown.values()) <= 40_000, shown
