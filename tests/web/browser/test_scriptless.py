"""Without scripts: one finds, filters and goes on; hostile texts are inert with scripts and without."""

from __future__ import annotations

from playwright.sync_api import expect

from tests.browser import Watched
from tests.web.browser.stage import Stage


def test_finding_and_filtering(scriptless: Watched, ids: dict[str, str]) -> None:
    page = scriptless.goto("tasks")
    page.get_by_role("navigation", name="Status").get_by_role("link", name="failed").click()
    expect(page.locator(f"#t-{ids['failed']}")).to_contain_text("unknown currency 'XBT'")
    page.locator("summary", has_text="Filter").click()
    page.get_by_label("Tag").fill("nightly")
    page.get_by_role("button", name="Filter", exact=True).click()
    expect(page.locator("#rows tr")).to_have_count(1)
    page.get_by_role("link", name="Remove the filter tag").click()
    expect(page.locator("#rows tr")).not_to_have_count(1)
    page.get_by_label("Find tasks").fill("tag:nightly")
    page.get_by_label("Find tasks").press("Enter")
    expect(page.locator(f"#t-{ids['sum']}")).to_be_visible()


def test_hostile_texts_are_inert(watched: Watched, stage: Stage) -> None:
    hostile = stage.fill_with_hostile_texts()
    for path, seen in (
        ("tasks", "document.title='owned'"),
        ("tasks?type=fail", "<img src=x onerror="),
        ("", "owned"),
        ("tasks?q=%3Cscript%3Ealert(1)%3C%2Fscript%3E", "<script>alert(1)</script>"),
        ("tasks?tag=%3Cb%3Etag%3C%2Fb%3E", "<b>tag</b>"),
    ):
        page = watched.goto(path)
        expect(page.locator("main")).to_contain_text(seen)
        assert page.title().endswith("· Tasker")
        for tag in (
            "script:not([src])",
            "img",
            "iframe",
            "main b[onload]",
            "form[action*=evil]",
            "[onload]",
            "[onerror]",
        ):
            assert page.locator(tag).count() == 0, (path, tag)
        text = page.locator("body").inner_text()
        assert "\u202e" not in text
        assert "\x1b" not in text
        assert "62615533" not in text
    page = watched.goto("tasks?type=say")
    expect(page.get_by_role("button", name="Live")).to_be_visible()
    stage.end(stage.submit("say", "<hx-partial hx-target='h1'>owned</hx-partial><img src=x onerror=alert(1)>"))
    expect(page.locator("#rows tr")).to_have_count(len(hostile) // 2 + 2)
    expect(page.get_by_role("heading", level=1)).to_have_text("Tasks")
