"""The overview: what needs somebody, the figures, and what an owner sees of them."""

from __future__ import annotations

import re
from datetime import timedelta
from html import unescape

from tasker.model.keys import ANYBODY
from tasker.model.queues import QueueChange
from tasker.rules.lifecycle import Failed
from tasker.rules.lifecycle import problem as task_problem
from tests.api.conftest import announce
from tests.web.conftest import Web
from tests.web.test_live import listening, stream_of

TAG = re.compile(r"<[^>]*>")


def part_html(page: str, name: str) -> str:
    """Return a part of the page."""
    found = re.search(rf'<section [^>]*id="{name}".*?</section>', page, re.DOTALL)
    assert found is not None, name
    return found[0]


def part(page: str, name: str) -> str:
    """Return the text of a part of the page."""
    return " ".join(unescape(TAG.sub(" ", part_html(page, name))).split()).replace(" :", ":")


async def test_an_empty_store_shows_the_first_steps(web: Web) -> None:
    page = await web.get("/ui/")
    assert "has nothing to do yet" in page
    assert 'href="type/sum"' in page
    await web.rig.submit()
    assert "has nothing to do yet" not in await web.get("/ui/")


async def test_all_is_well(web: Web) -> None:
    await announce(web.rig)
    await web.rig.submit()
    await web.rig.finish()
    page = await web.get("/ui/")
    assert "All is well" in part(page, "needs")
    figures = part(page, "figures")
    assert "Waiting 0" in figures
    assert "Completed 1" in figures
    assert "Failed 0 0 %, was 0 %" in figures
    assert "sum" in part(page, "types")
    assert "Nothing has failed." in part(page, "failures")


async def test_what_needs_somebody(web: Web) -> None:
    await announce(web.rig)
    for number in range(3):
        await web.rig.submit()
        await web.rig.finish(Failed(task_problem("task-raised", f"unknown <b>currency</b> {number}")))
    await web.rig.submit("sum", queue="llm")
    await web.rig.submit("reverse", ["x"])
    await web.rig.service.queues.change(ANYBODY, "llm", QueueChange(paused=True))
    web.rig.clock.advance(timedelta(seconds=20))
    needs = part(await web.get("/ui/"), "needs")
    assert "sum fails: 3 of the 3 tasks that ended in the last hour" in needs
    assert "<b>currency</b>" in needs
    assert "Queue llm is paused for 20 s: 1 task waits, the oldest for 20 s" in needs
    assert "Resume" in needs
    assert "No worker runs reverse: 1 task waits, the oldest for 20 s" in needs
    assert "Worker here 1 was last heard of 20 s ago" in needs


async def test_a_failing_type_leads_to_what_a_retry_would_do(web: Web) -> None:
    await announce(web.rig)
    for _ in range(3):
        await web.rig.submit()
        await web.rig.finish(Failed(task_problem("task-raised", "unknown currency")))
    page = await web.get("/ui/")
    form = re.search(r'<form id="retry-all" method="post" action="bulk" hidden>(.*?)</form>', page)
    button = re.search(r'form="retry-all" name="error" value="([^"]+)"', part_html(page, "needs"))
    assert form is not None
    assert button is not None
    fields = dict(re.findall(r'name="(\w+)" value="([^"]*)"', form[1]))
    reply = await web.client.post("/ui/bulk", data={**fields, "error": button[1]})
    assert reply.status_code == 200, reply.text
    assert "What retry would do" in reply.text
    assert "Retry 3 tasks" in reply.text


async def test_tasks_that_wait_long(web: Web) -> None:
    await web.rig.submit()
    web.rig.clock.advance(timedelta(minutes=6))
    await announce(web.rig)
    assert "Queue default is behind: 1 task waits, the oldest for 6 min" in part(await web.get("/ui/"), "needs")


async def test_an_owner_sees_its_own_tasks_alone(web: Web) -> None:
    await announce(web.rig)
    await web.rig.submit("reverse", ["x"])
    await web.sign_in("read", owner="bob")
    page = await web.get("/ui/")
    assert "has nothing to do yet" in page
    assert "reverse" not in page.replace("type/reverse", "").replace("Run reverse", "")


async def test_deeds_are_offered_to_those_who_may_do_them(web: Web) -> None:
    bob = await web.rig.key("submit", owner="bob")
    await web.rig.client.post("/task", json={"type": "sum", "params": [1, 2], "queue": "llm"}, headers=bob)
    await web.rig.service.queues.change(ANYBODY, "llm", QueueChange(paused=True))
    await web.sign_in("read", owner="bob")
    assert "Resume" not in part(await web.get("/ui/"), "needs")
    await web.sign_in("admin", owner="root")
    assert "Resume" in part(await web.get("/ui/"), "needs")


async def test_windows(web: Web) -> None:
    await web.rig.submit()
    for window, name in (("15m", "15 min"), ("7d", "7 d")):
        assert f"Ended, last {name}" in await web.get(f"/ui/?window={window}")
    await web.get("/ui/?window=5m", 422)


async def test_parts_are_sent_when_they_have_changed(web: Web) -> None:
    await web.rig.submit()
    async with listening(web, await stream_of(web, "/ui/")) as stream:
        first = await stream.text_with('hx-target="#longest"')
        for name in ("needs", "figures", "ended", "types", "queues", "failures", "ticks"):
            assert f'hx-target="#{name}"' in first
        await web.rig.submit()
        later = await stream.text_with('hx-target="#figures"')
        assert 'hx-target="#failures"' not in later  # nothing has failed


async def test_an_empty_page_is_loaded_anew_at_the_first_task(web: Web) -> None:
    async with listening(web, await stream_of(web, "/ui/")) as stream:
        await stream.text_with("still here")
        await web.rig.submit()
        assert "data-reload" in await stream.text_with('hx-target="#welcome"')
