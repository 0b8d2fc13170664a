"""Starting tasks from the forms of their types: with scripts and without, refused forms, and a text that grows."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest
from playwright.sync_api import Browser, Locator, Page, expect

from tests.browser import Watched
from tests.gpt.fault_server import Exchange, completed, delta, fault_server
from tests.server import run_server

BIG = "123456789012345678901234567890"


def button(page: Page | Locator, name: str) -> Locator:
    return page.get_by_role("button", name=name, exact=True)


def run_sum(watched: Watched) -> None:
    page = watched.goto("type/sum")
    page.get_by_label("a", exact=True).fill(BIG)
    page.get_by_label("b", exact=True).fill("0.10")
    button(page, "Add").click()
    page.get_by_label("more 1", exact=True).fill("7")
    button(page, "Add another").click()
    page.get_by_label("more 2", exact=True).fill("8")
    page.get_by_role("button", name="Remove more 1").click()
    expect(page.get_by_label("more 2", exact=True)).to_have_count(0)
    expect(page.get_by_label("more 1", exact=True)).to_have_value("8")
    with page.expect_navigation(url="**/ui/task/*"):
        button(page, "Run").click()
    task = httpx2.get(f"{watched.url}/task/{page.url.rpartition('/')[2]}").text
    assert f'"params":{{"a": {BIG}, "b": 0.10, "more": [8]}}' in task


def run_reverse(watched: Watched) -> None:
    page = watched.goto("type/reverse")
    page.get_by_label("text", exact=True).fill("first line\nsecond")
    with page.expect_navigation(url="**/ui/task/*"):
        button(page, "Run").click()
    task = httpx2.get(f"{watched.url}/task/{page.url.rpartition('/')[2]}", params={"wait": 20}).json()
    assert (task["params"], task["result"]) == ({"text": "first line\nsecond"}, "dnoces\nenil tsrif")


def test_sum_and_reverse_with_scripts(watched: Watched) -> None:
    run_sum(watched)
    run_reverse(watched)


def test_sum_and_reverse_without_scripts(scriptless: Watched) -> None:
    run_sum(scriptless)
    run_reverse(scriptless)


def test_run_again_edited(watched: Watched) -> None:
    reply = httpx2.post(f"{watched.url}/task", json={"type": "sum", "params": [4, 2, 7]})
    page = watched.goto(f"task/{reply.json()['task_id']}")
    page.get_by_text("Run again, edited", exact=True).first.click()
    expect(page.get_by_label("more 1", exact=True)).to_have_value("7")
    page.get_by_label("a", exact=True).fill("40")
    with page.expect_navigation(url="**/ui/task/*"):
        button(page, "Run").click()
    task = httpx2.get(f"{watched.url}/task/{page.url.rpartition('/')[2]}", params={"wait": 20}).json()
    assert (task["params"], task["result"]) == ({"a": 40, "b": 2, "more": [7]}, 49)
    assert task["replay_of"] == reply.json()["task_id"]


def refused(watched: Watched) -> None:
    page = watched.goto("type/sum")
    page.get_by_label("a", exact=True).fill("four")
    page.get_by_label("b", exact=True).fill("2")
    page.get_by_label("b", exact=True).press("Enter")
    summary = page.locator("#faults")
    expect(summary).to_be_focused()
    expect(summary).to_contain_text("1 value does not fit")
    expect(page.get_by_label("a", exact=True)).to_have_value("four")
    expect(page.get_by_label("a", exact=True)).to_have_attribute("aria-invalid", "true")
    expect(page.get_by_label("b", exact=True)).to_have_value("2")
    summary.get_by_role("link", name="a", exact=True).click()
    assert page.url.endswith("#f-a")
    watched.faults[:] = [fault for fault in watched.faults if "422" not in fault]


def test_a_refused_form_keeps_its_values_and_focuses_the_summary(watched: Watched, scriptless: Watched) -> None:
    refused(watched)
    refused(scriptless)


def test_form_and_json_change_places(watched: Watched, scriptless: Watched) -> None:
    for one in (watched, scriptless):
        page = one.goto("type/sum")
        page.get_by_label("a", exact=True).fill("1.50")
        button(page, "JSON").click()
        expect(page.get_by_label("Params as JSON")).to_have_value('{\n  "a": 1.50,\n  "b": 2\n}')
        page.get_by_label("Params as JSON").fill(f"[{BIG}, 2, 3]")
        button(page, "Form").click()
        expect(page.get_by_label("a", exact=True)).to_have_value(BIG)
        expect(page.get_by_label("more 1", exact=True)).to_have_value("3")


def test_the_same_as_follows_the_form(watched: Watched) -> None:
    page = watched.goto("type/sum")
    page.get_by_label("a", exact=True).fill("77")
    page.get_by_label("b", exact=True).focus()
    expect(page.locator("#same-curl")).to_contain_text('{"a": 77, "b": 2}')
    button(page, "Python").click()
    expect(page.locator("#same-python")).to_be_visible()
    expect(page.locator("#same-curl")).to_be_hidden()


class Model:
    """A server that speaks OpenAI's protocol: it sends a word, and the others when the test says so."""

    def __init__(self) -> None:
        self.url = ""
        self._loop = asyncio.new_event_loop()
        self._ready, self._ended, self._more = threading.Event(), asyncio.Event(), asyncio.Event()
        self._thread = threading.Thread(target=self._loop.run_until_complete, args=[self._serve()])

    def __enter__(self) -> Model:
        self._thread.start()
        assert self._ready.wait(20)
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._more.set)
        self._loop.call_soon_threadsafe(self._ended.set)
        self._thread.join(20)
        self._loop.close()

    def go_on(self) -> None:
        self._loop.call_soon_threadsafe(self._more.set)

    async def _serve(self) -> None:
        async with fault_server(self._answer) as server:
            self.url = server.url
            self._ready.set()
            await self._ended.wait()

    async def _answer(self, exchange: Exchange) -> None:
        await exchange.begin()
        await exchange.send(delta("Once upon "))
        await self._more.wait()
        await exchange.send(delta("a time"), completed())
        await exchange.end()


@pytest.fixture
def model() -> Iterator[Model]:
    with Model() as model:
        yield model


def test_gpt_runs_from_its_form_and_its_text_grows(browser: Browser, model: Model, tmp_path: Path) -> None:
    env = {"OPENAI_API_KEY": "sk-proj-for-this-test", "OPENAI_BASE_URL": model.url}
    with run_server(tmp_path, env=env) as server:
        context = browser.new_context()
        watched = Watched(context, server.url)
        page = watched.goto("type/gpt")
        page.get_by_label("prompt", exact=True).fill("Tell me a story")
        with page.expect_navigation(url="**/ui/task/*"):
            button(page, "Run").click()
        expect(page.get_by_role("log").first).to_contain_text("Once upon")
        model.go_on()
        expect(page.get_by_role("log").first).to_contain_text("Once upon a time")
        expect(page.locator("[data-status=completed]").first).to_be_visible()
        watched.check()
        context.close()
