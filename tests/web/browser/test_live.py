"""Live pages: rows change in place, and nothing that one is in the middle of is lost."""

from __future__ import annotations

from pathlib import Path

from playwright.sync_api import expect

from tests.browser import Watched
from tests.web.browser.stage import Stage


def test_a_row_changes_in_place(watched: Watched, stage: Stage) -> None:
    task_id = stage.submit("sum", 1, 2, delay=3600)
    page = watched.goto("tasks?type=sum")
    row = page.locator(f"#t-{task_id}")
    expect(row).to_have_attribute("data-status", "pending")
    expect(page.get_by_role("button", name="Live")).to_be_visible()
    stage.client.post(f"/task/{task_id}/cancel")
    expect(row).to_have_attribute("data-status", "cancelled")


def test_new_tasks_come_where_nobody_is_in_the_middle_of_something(watched: Watched, stage: Stage) -> None:
    page = watched.goto("tasks?tag=arrives")
    expect(page.get_by_text("No task matches.")).to_be_visible()
    expect(page.get_by_role("button", name="Live")).to_be_visible()
    task_id = stage.submit("sum", 1, 2, tags=["arrives"])
    expect(page.locator(f"#t-{task_id}")).to_have_attribute("data-status", "completed")


def test_updates_keep_selection_menu_focus_and_typed_text(watched: Watched, stage: Stage) -> None:
    chosen = stage.submit("sum", 1, 2, delay=3600, tags=["kept"])
    others = [stage.submit("sum", 1, number, delay=3600, tags=["kept"]) for number in range(10)]
    page = watched.goto("tasks?tag=kept")
    expect(page.get_by_role("button", name="Live")).to_be_visible()
    page.get_by_label("Find tasks").fill("half a wo")
    for task_id in others:
        stage.client.post(f"/task/{task_id}/cancel")
    expect(page.locator("tr[data-status=cancelled]")).to_have_count(len(others))
    expect(page.get_by_label("Find tasks")).to_have_value("half a wo")
    expect(page.get_by_label("Find tasks")).to_be_focused()
    # One who has selected rows, or has a menu open, is not disturbed: what comes waits.
    page.locator(f"#t-{chosen} .x").check()
    page.get_by_text("View as API call").click()
    stage.client.post(f"/task/{others[0]}/retry")
    stage.submit("sum", 5, 5, delay=3600, tags=["kept"])
    expect(page.locator(f"#t-{chosen} .x")).to_be_checked()
    expect(page.locator("details.menu[open]")).to_have_count(1)
    expect(page.locator(f"#t-{others[0]}")).to_have_attribute("data-status", "cancelled")
    page.keyboard.press("Escape")
    expect(page.locator("details.menu[open]")).to_have_count(0)
    page.keyboard.press("Escape")
    expect(page.locator(f"#t-{others[0]}")).to_have_attribute("data-status", "completed")


def test_pausing(watched: Watched, stage: Stage) -> None:
    task_id = stage.submit("sum", 1, 2, delay=3600)
    page = watched.goto("tasks")
    button = page.locator("#live")
    expect(button).to_be_visible()
    page.keyboard.press("p")
    expect(button).to_have_attribute("aria-pressed", "true")
    stage.client.post(f"/task/{task_id}/cancel")
    expect(button).to_have_text("Paused, 1 changes")
    expect(page.locator(f"#t-{task_id}")).to_have_attribute("data-status", "pending")
    page.keyboard.press("p")
    expect(page.locator(f"#t-{task_id}")).to_have_attribute("data-status", "cancelled")


def test_the_overview_moves(watched: Watched, stage: Stage, ids: dict[str, str]) -> None:
    page = watched.goto("")
    expect(page.get_by_role("button", name="Live")).to_be_visible()
    name = page.locator("#figures a").first
    before = name.inner_text()
    for _ in range(3):
        stage.submit("story", "not now")
    expect(name).not_to_have_text(before)


def test_keys(watched: Watched, stage: Stage, ids: dict[str, str]) -> None:
    page = watched.goto("tasks")
    page.keyboard.press("j")
    page.keyboard.press("j")
    page.keyboard.press("x")
    expect(page.locator("#rows .x:checked")).to_have_count(1)
    page.keyboard.press("j")
    page.keyboard.press("Shift+X")
    expect(page.locator("#rows .x:checked")).to_have_count(2)
    expect(page.get_by_role("region", name="What is selected")).to_contain_text("2 selected")
    page.keyboard.press("Escape")
    expect(page.locator("#rows .x:checked")).to_have_count(0)
    page.keyboard.press("?")
    expect(page.get_by_role("dialog")).to_be_visible()
    page.keyboard.press("Escape")
    page.keyboard.press("/")
    page.keyboard.type("tag:nightly")
    page.keyboard.press("Enter")
    expect(page.locator("#rows tr")).to_have_count(2)
    page.locator("h1").click()
    page.keyboard.press("g")
    page.keyboard.press("o")
    expect(page.get_by_role("heading", level=1)).to_have_text("Overview")


def test_a_task_that_came_live_goes_on_changing(watched: Watched, stage: Stage, tmp_path: Path) -> None:
    page = watched.goto("tasks?tag=goes-on")
    expect(page.get_by_role("button", name="Live")).to_be_visible()
    gate = tmp_path / "gate"
    task_id = stage.submit("tell", "word", 2, str(gate), tags=["goes-on"])
    row, button = page.locator(f"#t-{task_id}"), page.locator("#more-new")
    expect(row).to_have_attribute("data-status", "running")
    gate.touch()
    expect(row).to_have_attribute("data-status", "completed")
    page.locator("h1").hover()  # from now on the list waits to be asked for
    stage.end(stage.submit("sum", 1, 2, tags=["goes-on"]))
    expect(button).to_contain_text("1 new task:")
    expect(page.locator("#main")).not_to_have_attribute("aria-busy", "true")


def test_a_row_is_run_again_edited(watched: Watched, stage: Stage) -> None:
    task_id = stage.submit("reverse", "to be edited", delay=3600, tags=["edited"])
    page = watched.goto("tasks?tag=edited")
    page.keyboard.press("j")
    page.keyboard.press("e")
    page.wait_for_url(f"**/ui/type/reverse?from={task_id}")
    expect(page.get_by_role("textbox", name="text")).to_have_value("to be edited")
