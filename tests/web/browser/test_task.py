"""The page of a task in a browser: it grows while the task speaks, over a restart too, and what tasks say is inert."""

from __future__ import annotations

import json
import re
from pathlib import Path

import httpx2
import pytest
from playwright.sync_api import Browser, Page, expect

from tests.browser import Watched
from tests.server import held_port, run_server
from tests.web.browser.stage import HOSTILE, SEEN, TYPES, Stage

OUT = "[role=log]"
LARGE = 10_000_000


def expect_status(page: Page, word: str) -> None:
    expect(page.locator("#t-head [data-status]")).to_have_attribute("data-status", word)


def said(url: str, task_id: str) -> str:
    """Return the output that the service has stored, with a heading for each attempt after the first."""
    lines = httpx2.get(f"{url}/task/{task_id}/events", headers={"accept": "application/jsonl"}, timeout=60).text
    events = [json.loads(line) for line in lines.splitlines() if line]
    parts = [
        event["chunk"] if event["type"] == "output" else f"\n— attempt {event['attempt']} —\n"
        for event in events
        if event["type"] == "output" or (event["type"] == "started" and event["attempt"] > 1)
    ]
    return "".join(parts)


def test_a_task_is_watched_from_its_first_word_to_its_result(watched: Watched, stage: Stage, tmp_path: Path) -> None:
    gate = tmp_path / "open"
    task_id = stage.submit("tell", "word", 60, str(gate))
    page = watched.goto(f"task/{task_id}")
    expect_status(page, "running")
    expect(page.locator(OUT)).to_contain_text("word 29\n")
    gate.touch()
    expect_status(page, "completed")
    expect(page.locator("#result")).to_have_text('"The end"')
    assert page.locator(OUT).text_content() == "".join(f"word {number}\n" for number in range(60))
    assert page.locator("#log li .m bdi:first-child").all_text_contents() == [f"said {n}" for n in range(60)]
    assert page.locator(OUT).evaluate("e => e.scrollHeight - e.scrollTop - e.clientHeight") < 8


@pytest.mark.long
def test_a_restart_leaves_no_gap_and_repeats_nothing(browser: Browser, tmp_path: Path) -> None:
    context = browser.new_context()
    with held_port() as port:
        with run_server(tmp_path, str(TYPES), port=port) as server:
            stage = Stage(server.url)
            gate = tmp_path / "open"
            task_id = stage.submit("tell", "word", 40, str(gate))
            stage.client.close()
            watched = Watched(context, server.url)
            page = watched.goto(f"task/{task_id}")
            expect(page.locator(OUT)).to_contain_text("word 19\n")
            server.kill()
        gate.touch()
        with run_server(tmp_path, str(TYPES), port=port) as server:
            expect_status(page, "completed")
            expect(page.locator("#result")).to_have_text('"The end"')
            stored = said(server.url, task_id)
            assert "— attempt 2 —" in stored
            assert page.locator(OUT).text_content() == stored
            assert page.locator("[data-status]").count() == 1
    context.close()
    assert not [fault for fault in watched.faults if "Content Security Policy" in fault]


def test_one_who_scrolls_up_is_not_pulled_down(watched: Watched, stage: Stage, tmp_path: Path) -> None:
    gate = tmp_path / "open"
    task_id = stage.submit("tell", "word", 150, str(gate))
    page = watched.goto(f"task/{task_id}")
    expect(page.locator(OUT)).to_contain_text("word 74\n")
    follow = page.get_by_role("button", name="Follow")
    page.locator(OUT).evaluate("e => { e.scrollTop = 0; }")
    expect(follow).to_have_attribute("aria-pressed", "false")
    gate.touch()
    expect(page.locator(OUT)).to_contain_text("word 149\n")
    assert page.locator(OUT).evaluate("e => e.scrollTop") == 0
    follow.click()
    expect(follow).to_have_attribute("aria-pressed", "true")
    assert page.locator(OUT).evaluate("e => e.scrollHeight - e.scrollTop - e.clientHeight") < 8


def test_deeds_by_their_names(watched: Watched, stage: Stage) -> None:
    task_id = stage.submit("sum", 4, 2, delay=3600, tags=["deeds"])
    page = watched.goto(f"task/{task_id}")
    expect(page.get_by_text("It waits for its time")).to_be_visible()
    page.get_by_role("button", name="Cancel").click()
    expect_status(page, "cancelled")
    page.get_by_role("button", name="Retry").click()
    expect_status(page, "completed")
    page.get_by_role("button", name="Copy as").click()
    for name in ("curl", "CLI", "Python"):
        expect(page.get_by_role("button", name=name)).to_be_visible()
    expect(page.get_by_role("link", name="Raw JSON")).to_be_visible()
    page.keyboard.press("Escape")
    page.get_by_role("button", name="Run again, edited").click()
    expect(page).to_have_url(re.compile(rf"/ui/type/sum\?from={task_id}"))
    page.go_back()
    page.get_by_role("button", name="Delete...").click()
    page.get_by_role("button", name="Delete", exact=True).click()
    expect(page).to_have_url(re.compile("/ui/tasks$"))
    assert stage.client.get(f"/task/{task_id}").status_code == 404


def test_deeds_by_their_keys(watched: Watched, stage: Stage) -> None:
    task_id = stage.submit("sum", 4, 2, delay=3600, tags=["keys"])
    page = watched.goto(f"task/{task_id}")
    page.keyboard.press("c")
    expect_status(page, "cancelled")
    page.keyboard.press("r")
    expect_status(page, "completed")
    page.keyboard.press("e")
    expect(page).to_have_url(re.compile(rf"/ui/type/sum\?from={task_id}"))


def test_a_key_acts_on_the_row_where_none_is_selected(watched: Watched, stage: Stage) -> None:
    stage.submit("sum", 4, 2, delay=3600, tags=["row"])
    page = watched.goto("tasks?tag=row")
    page.keyboard.press("j")
    page.keyboard.press("c")
    expect(page.get_by_role("button", name="Cancel 1 task")).to_be_visible()


def test_a_name_stands_for_one_button(watched: Watched, stage: Stage, ids: dict[str, str]) -> None:
    """Also where others failed in the same way."""
    page = watched.goto(f"task/{ids['failed']}")
    expect(page.get_by_text("with the same error")).to_be_visible()
    for name in ("Retry", "Run again, edited", "Delete...", "Copy as"):
        expect(page.get_by_role("button", name=name)).to_have_count(1)


def test_what_a_task_says_is_inert(watched: Watched, stage: Stage) -> None:
    for number, text in enumerate(HOSTILE):
        task_id = stage.submit("shout", text, tags=["<b>tag</b>", f"t{number}"], metadata={text[:50]: text})
        stage.end(task_id)
        page = watched.goto(f"task/{task_id}")
        expect_status(page, "completed")
        assert page.title().startswith("shout ")
        expect(page.locator("#t-side")).to_contain_text("<b>tag</b>")
        for inside in ("#out", "#log", "#input", "#result", "#t-side"):
            expect(page.locator(inside)).to_contain_text(SEEN[number])
            assert (
                page.locator(
                    f"{inside} :is(script, img, iframe, form, button, hx-partial, a[href^=javascript])"
                ).count()
                == 0
            )
        assert not re.search("[\u202a-\u202e\u2066-\u2069\x1b\x07]", page.locator("main").inner_text())
        watched.check()


def test_what_a_task_says_while_one_looks_is_inert_too(watched: Watched, stage: Stage) -> None:
    ids = [stage.submit("shout", text, delay=0.7) for text in HOSTILE]
    for task_id, seen in list(zip(ids, SEEN, strict=True))[:3]:
        page = watched.goto(f"task/{task_id}")
        expect_status(page, "completed")
        assert page.title().startswith("shout ")
        for inside in ("#out", "#log"):
            expect(page.locator(inside)).to_contain_text(seen)
        assert page.locator(":is(#out, #log) :is(script, img, form, hx-partial)").count() == 0
        watched.check()


def test_ten_million_characters_in_a_line(watched: Watched, stage: Stage) -> None:
    task_id = stage.submit("shout", "<b>x", LARGE // 4)
    stage.end(task_id)
    reply = stage.client.get(f"/ui/task/{task_id}", headers={"accept-encoding": "identity"})
    assert len(reply.content) < 800_000
    page = watched.goto(f"task/{task_id}")
    expect(page.get_by_text("characters are left out")).to_be_visible()
    assert page.locator("main").evaluate("e => e.scrollWidth <= e.clientWidth")
