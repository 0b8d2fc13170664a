"""Many tasks at once: chosen or found, previewed, confirmed, followed to the end, undone; with scripts and without."""

from __future__ import annotations

import re

from playwright.sync_api import Page, expect

from tests.browser import Watched
from tests.web.browser.stage import Stage

ALL_THAT_MATCH = re.compile("that match$")
"""The button beside what is selected."""


def cancelled(stage: Stage, tag: str, count: int) -> list[str]:
    """Make cancelled tasks with a tag; once retried, they wait in a paused queue."""
    stage.client.patch("/queue/held", json={"paused": True}).raise_for_status()
    task = {"type": "sum", "params": [1, 2], "queue": "held", "tags": [tag]}
    made = stage.client.post("/batch", json=[task] * count).raise_for_status().json()
    body = {"action": "cancel", "filter": {"tag": tag}}
    done = stage.client.post("/bulk", json=body).raise_for_status().json()
    assert (done["state"], done["done"]) == ("done", count)
    return [one["task_id"] for one in made["items"]]


def statuses(stage: Stage, tag: str) -> list[str]:
    items = stage.client.get("/task", params={"tag": tag, "limit": 200}).json()["items"]
    return sorted({one["status"] for one in items})


def press(page: Page, name: str | re.Pattern[str]) -> None:
    page.get_by_role("button", name=name).click()


def test_chosen_tasks(watched: Watched, stage: Stage) -> None:
    ids = cancelled(stage, "chosen", 3)
    page = watched.goto("tasks?tag=chosen")
    for task_id in ids[:2]:
        page.locator(f"#t-{task_id} .x").check()
    press(page, "Retry 2")
    expect(page.get_by_text("Retry 2 of 2 chosen tasks.")).to_be_visible()
    press(page, "Retry 2 tasks")
    expect(page.locator("[data-state=done]")).to_be_visible()
    expect(page.locator("#receipt")).to_contain_text("2 done")
    found = [stage.client.get(f"/task/{task_id}").json()["status"] for task_id in ids]
    assert found == ["pending", "pending", "cancelled"]


def test_a_receipt_is_followed_to_its_end_and_a_retry_undone(watched: Watched, stage: Stage) -> None:
    """The stage's receipts come after the first step, of 100 tasks."""
    tag = next(tag for tag in ("followed", "followed-2", "followed-3") if _is_seen_running(watched, stage, tag))
    page = watched.page
    page.evaluate("window.isTheSame = true")
    expect(page.locator("[data-state=done]")).to_be_visible()
    expect(page.locator("#receipt")).to_contain_text("150 done")
    expect(page.get_by_role("button", name="Stop")).to_have_count(0)
    assert page.evaluate("window.isTheSame")  # the stream changed it, no new page
    assert statuses(stage, tag) == ["pending"]
    press(page, "Undo")
    expect(page.locator("#receipt")).to_contain_text("It undoes an earlier retry")
    expect(page.locator("[data-state=done]")).to_be_visible()
    expect(page.locator("#receipt")).to_contain_text("150 done")
    assert statuses(stage, tag) == ["cancelled"]


def _is_seen_running(watched: Watched, stage: Stage, tag: str) -> bool:
    """Retry 150 tasks; return whether the receipt is there before the second step, which a busy machine may miss."""
    cancelled(stage, tag, 150)
    page = watched.goto(f"tasks?tag={tag}")
    page.locator("#rows .x").first.check()
    press(page, ALL_THAT_MATCH)
    press(page, "Retry 150 tasks")
    expect(page.locator("#receipt")).to_be_visible()
    return page.get_by_role("button", name="Stop").is_visible() and page.locator("[data-state=running]").is_visible()


def test_all_that_match_without_scripts(scriptless: Watched, stage: Stage) -> None:
    for number in range(3):
        stage.submit("sum", 1, number, delay=3600, tags=["plain"])
    page = scriptless.goto("tasks?tag=plain")
    press(page, ALL_THAT_MATCH)
    press(page, "Cancel 3 tasks")
    expect(page.locator("[data-state=done]")).to_be_visible()
    expect(page.locator("#receipt")).to_contain_text("3 done")
    page.get_by_role("link", name="See the 3 tasks").click()
    expect(page.locator("#rows tr[data-status=cancelled]")).to_have_count(3)
    assert statuses(stage, "plain") == ["cancelled"]


def test_a_failed_task_is_retried_without_scripts(scriptless: Watched, stage: Stage) -> None:
    task_id = stage.submit("fail", "not today")
    assert stage.end(task_id) == "failed"
    page = scriptless.goto(f"task/{task_id}")
    press(page, "Retry")
    expect(page.locator("#t-head [data-status]")).to_have_count(1)
    stage.end(task_id)
    page.reload()
    expect(page.locator("#t-head [data-status]")).to_have_attribute("data-status", "failed")
    expect(page.locator("#t-side")).to_contain_text("2 of")
    assert stage.client.get(f"/task/{task_id}").json()["attempt"] == 2
