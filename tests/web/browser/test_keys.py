"""The keyboard: single keys and how they are switched off, and a walk without a mouse."""

from __future__ import annotations

import re

from playwright.sync_api import expect

from tests.browser import Watched
from tests.web.browser.stage import Stage


def test_keys_of_a_list(watched: Watched, stage: Stage) -> None:
    ids = [stage.submit("sum", 1, number, delay=3600, tags=["keyed"]) for number in range(2)]
    page = watched.goto("tasks?tag=keyed")
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    page.keyboard.press("j")
    page.keyboard.press("j")
    expect(page.locator("#rows tr.cur")).to_have_id(f"t-{ids[0]}")
    page.keyboard.press("k")
    expect(page.locator("#rows tr.cur")).to_have_id(f"t-{ids[1]}")
    page.keyboard.press("y")
    expect(page.locator("#say")).to_have_text("Copied")
    assert page.evaluate("navigator.clipboard.readText()") == ids[1]
    page.keyboard.press("g")
    page.keyboard.press("t")
    expect(page).to_have_url(re.compile("/ui/tasks$"))


def test_single_keys_are_switched_off_and_on(watched: Watched, stage: Stage) -> None:
    stage.submit("sum", 1, 2, delay=3600, tags=["still"])
    page = watched.goto("tasks?tag=still")
    single, row = page.get_by_role("checkbox", name="Single keys"), page.locator("#rows tr.cur")
    page.keyboard.press("?")
    single.uncheck()
    page.keyboard.press("Escape")
    page.reload()
    for key in "jx?":
        page.keyboard.press(key)
    expect(page.get_by_role("dialog")).to_have_count(0)
    expect(page.locator("#rows .x:checked")).to_have_count(0)
    expect(row).to_have_count(0)
    page.get_by_role("button", name="Keyboard").click()
    expect(single).not_to_be_checked()
    single.check()
    page.keyboard.press("Escape")
    page.keyboard.press("j")
    expect(row).to_have_count(1)


def test_no_key_acts_while_one_types(watched: Watched, stage: Stage) -> None:
    stage.submit("sum", 1, 2, delay=3600, tags=["typed"])
    page = watched.goto("tasks?tag=typed")
    page.keyboard.press("/")
    page.keyboard.type("jx?gtp/")
    expect(page.get_by_label("Find tasks")).to_have_value("jx?gtp/")
    expect(page.get_by_role("dialog")).to_have_count(0)
    expect(page.locator("#rows :is(.x:checked, tr.cur)")).to_have_count(0)
    expect(page).to_have_url(re.compile("tag=typed$"))


def test_ctrl_enter_submits(watched: Watched, stage: Stage) -> None:
    page = watched.goto("type/reverse")
    page.get_by_label("text", exact=True).fill("abc")
    page.get_by_label("text", exact=True).press("Control+Enter")
    page.wait_for_url("**/ui/task/*")
    expect(page.locator("#result")).to_have_text('"cba"')


def test_a_failed_task_is_found_opened_and_retried(watched: Watched, stage: Stage) -> None:
    task_id = stage.submit("fail", "once more", tags=["walk"])
    assert stage.end(task_id) == "failed"
    page = watched.goto("")
    page.keyboard.press("g")
    page.keyboard.press("t")
    expect(page.get_by_role("heading", level=1)).to_have_text("Tasks")
    page.keyboard.press("/")
    page.keyboard.type("tag:walk")
    page.keyboard.press("Enter")
    expect(page.locator("#rows tr")).to_have_count(1)
    page.keyboard.press("j")
    page.keyboard.press("Enter")
    page.wait_for_url(f"**/ui/task/{task_id}")
    expect(page.get_by_role("button", name="Retry")).to_be_visible()
    page.keyboard.press("r")
    expect(page.locator("#t-attempts tbody tr")).to_have_count(2)
    expect(page.locator("#t-head [data-status]")).to_have_attribute("data-status", "failed")
