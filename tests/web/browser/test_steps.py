"""Steps, children and questions in a browser: answered by a click and by a form, and seen as they happen."""

from __future__ import annotations

import re
from pathlib import Path

from playwright.sync_api import Page, expect

from tests.web.browser.conftest import Watched
from tests.web.browser.stage import HOSTILE, Stage
from tests.web.browser.test_task import expect_status


def expect_answered(page: Page, result: str) -> None:
    expect_status(page, "completed")
    expect(page.locator("#result")).to_contain_text(result)
    expect(page.locator("#t-asks form")).to_have_count(0)


def test_an_approval_by_one_click(watched: Watched, stage: Stage) -> None:
    task_id = stage.submit("order", 41)
    page = watched.goto(f"task/{task_id}")
    expect(page.get_by_role("heading", name="It asks: approve")).to_be_visible()
    expect(page.locator("#t-asks")).to_contain_text("Ship order 41?")
    expect(page.locator("#t-asks")).to_contain_text("expires in 2 d")
    expect_status(page, "pending")  # it has waited for a second in memory, and is parked now
    page.get_by_label("comment", exact=True).fill("with care")
    page.get_by_role("button", name="Yes", exact=True).click()
    expect_answered(page, "shipped, with care")
    expect(page.locator("#t-steps")).to_contain_text("answered")
    expect(page.locator("#log")).to_contain_text("approve was answered")
    expect(page.locator("#t-attempts")).to_contain_text("waited for a person (approve)")


def test_enter_in_a_form_with_a_decision_sends_nothing(watched: Watched, stage: Stage) -> None:
    task_id = stage.submit("order", 42)
    page = watched.goto(f"task/{task_id}")
    comment = page.get_by_label("comment", exact=True)
    comment.fill("not yet")
    comment.press("Enter")
    expect(comment).to_have_value("not yet")
    assert stage.client.get(f"/task/{task_id}").json()["status"] in ("pending", "running")
    page.get_by_role("button", name="No", exact=True).click()
    expect_answered(page, "not shipped")


def test_an_answer_by_a_form_without_scripts(scriptless: Watched, stage: Stage) -> None:
    task_id = stage.submit("invite")
    stage.parked(task_id)
    page = scriptless.goto(f"task/{task_id}")
    page.get_by_label("name", exact=True).fill("A")
    page.get_by_label("age", exact=True).fill("old")
    page.locator("#t-asks").get_by_role("button", name="Add").click()
    expect(page.get_by_label("name", exact=True)).to_have_value("A")
    page.get_by_label("wishes 1", exact=True).fill("tea")
    page.get_by_role("button", name=re.compile("^Answer")).click()
    alert = page.get_by_role("alert")
    expect(alert).to_contain_text("2 values do not fit")
    alert.get_by_role("link", name="age").click()
    age = page.get_by_label("age", exact=True)
    expect(age).to_have_attribute("aria-invalid", "true")
    scriptless.faults.clear()  # a 422 is an error in the console
    age.fill("36")
    page.get_by_label("name", exact=True).fill("Ada")
    page.get_by_role("button", name=re.compile("^Answer")).click()
    expect(page.get_by_role("alert")).to_have_count(0)
    assert stage.end(task_id) == "completed"
    page = scriptless.goto(f"task/{task_id}")
    expect_answered(page, "Ada, 36, tea")


def test_a_click_without_scripts(scriptless: Watched, stage: Stage) -> None:
    task_id = stage.submit("order", 43)
    stage.parked(task_id)
    page = scriptless.goto("questions")
    row = page.locator("#asked .note", has_text="Ship order 43?")
    row.get_by_role("link", name="Answer").click()
    page.get_by_role("button", name="Yes", exact=True).click()
    assert stage.end(task_id) == "completed"


def test_what_is_typed_stays_while_the_page_changes(watched: Watched, stage: Stage, tmp_path: Path) -> None:
    gate = tmp_path / "open"
    task_id = stage.submit("party", str(gate))
    page = watched.goto(f"task/{task_id}")
    name = page.get_by_label("name", exact=True)
    name.press_sequentially("Ad")
    gate.touch()
    expect(page.get_by_role("heading", name="It asks: more")).to_be_visible()  # in the same part of the page
    expect(page.locator("#t-steps tr", has_text="shop")).to_contain_text("done")
    expect(name).to_have_value("Ad")
    expect(name).to_be_focused()
    name.press_sequentially("a")
    page.get_by_label("age", exact=True).fill("36")
    page.get_by_role("button", name=re.compile("^Answer")).click()
    page.get_by_role("button", name="Yes", exact=True).click()
    expect_answered(page, "Ada")


def test_a_question_that_somebody_else_answers_goes(watched: Watched, stage: Stage) -> None:
    task_id = stage.submit("invite")
    page = watched.goto(f"task/{task_id}")
    expect(page.get_by_role("heading", name="It asks: guest")).to_be_visible()
    page.get_by_label("name", exact=True).fill("Grace")
    answer = {"name": "guest", "value": {"name": "Ada", "age": 36}}
    assert stage.client.post(f"/task/{task_id}/input", json=answer).status_code == 200
    expect_answered(page, "Ada, 36")


def test_steps_appear_as_they_are_done(watched: Watched, stage: Stage, tmp_path: Path) -> None:
    gate = tmp_path / "open"
    task_id = stage.submit("slowly", str(gate))
    page = watched.goto(f"task/{task_id}")
    steps = page.locator("#t-steps")
    expect(steps.locator("tr", has_text="first")).to_contain_text("done")
    expect(steps.locator("tr", has_text="second")).to_contain_text("runs")
    expect(page.locator("#log")).to_contain_text("step second begins")
    gate.touch()
    expect_status(page, "completed")
    expect(steps.locator("tr", has_text="second")).to_contain_text("done")
    expect(page.locator("#t-attempts svg.wf")).to_have_attribute("aria-label", re.compile("Steps: first .*; second "))


def test_children_are_counted_while_they_end(watched: Watched, stage: Stage, ids: dict[str, str]) -> None:
    task_id = stage.submit("album", 200)
    page = watched.goto(f"task/{task_id}")
    expect(page.locator("#t-children")).to_contain_text("all 201")
    expect_status(page, "failed")
    children = page.locator("#t-children")
    expect(children.get_by_role("link", name="1 failed")).to_be_visible()
    expect(children).to_contain_text("191 more")
    children.get_by_role("link", name="1 failed").click()
    expect(page.locator("#rows tr")).to_have_count(1)
    expect(page.locator("#rows tr")).to_contain_text("there is no picture on page 7")


def test_a_tree_folds_what_is_too_broad(watched: Watched, ids: dict[str, str]) -> None:
    page = watched.goto(f"task/{ids['album']}")
    page.get_by_role("link", name="Tree").click()
    tree = page.locator("#tree")
    expect(tree).to_contain_text("there is no picture on page 7")
    expect(tree).to_contain_text("order_some")
    expect(tree.locator("li li li").first).to_contain_text("page")
    page.get_by_role("link", name="order_some").click()
    page.locator("#t-head").get_by_role("link", name=ids["album"][-12:]).click()
    expect(page).to_have_url(re.compile(ids["album"]))


def test_again_from_a_step_on(watched: Watched, stage: Stage, ids: dict[str, str]) -> None:
    task_id = stage.submit("album", 2)
    assert stage.end(task_id) == "failed"
    page = watched.goto(f"task/{task_id}")
    expect(page.locator("#t-steps tbody tr")).to_have_count(7)
    page.locator("#t-steps").get_by_role("button", name="Retry…").click()
    page.get_by_label("from a step on").check()
    page.get_by_role("combobox", name="From").select_option("look#3")
    page.locator("#again").get_by_role("button", name="Retry").click()
    expect_status(page, "failed")
    expect(page.locator("#t-steps tbody tr")).to_have_count(7)
    steps = stage.client.get(f"/task/{task_id}", params={"include": "steps"}).json()["steps"]
    assert [step["attempt"] for step in steps if step["name"] == "look"][:2] == [1, 1]
    assert all(step["attempt"] > 1 for step in steps[2:])
    page.locator("#t-steps tr", has_text="look#5").get_by_role("button", name="Forget").click()
    expect_status(page, "failed")


def test_what_is_asked_is_inert(watched: Watched, stage: Stage) -> None:
    for text in HOSTILE:
        task_id = stage.submit("invite", text)
        stage.parked(task_id)
        page = watched.goto(f"task/{task_id}")
        expect(page.get_by_role("heading", name="It asks: guest")).to_be_visible()
        assert page.title().startswith("invite ")
        assert page.locator("#t-asks :is(script, img, iframe, hx-partial)").count() == 0
        assert not re.search("[\u202a-\u202e\u2066-\u2069\x1b\x07]", page.locator("main").inner_text())
        stage.client.post(f"/task/{task_id}/cancel")
    page = watched.goto("questions")
    assert page.locator("#asked :is(script, img, form)").count() == 0
