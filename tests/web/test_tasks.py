"""The list of tasks: what it shows of each, its filters, and the way to older ones."""

from __future__ import annotations

import re
from datetime import timedelta
from html import unescape

import pytest

from tasker.model.keys import ANYBODY
from tasker.model.queues import QueueChange
from tasker.rules.lifecycle import Failed
from tasker.rules.lifecycle import problem as task_problem
from tests.web.conftest import Web

ROW = re.compile(r'<tr id="t-([0-9a-f-]{36})" data-status="(\w+)"[^>]*>(.*?)</tr>', re.DOTALL)
TAG = re.compile(r"<[^>]*>")


def plain(page: str) -> str:
    """Return the text of a page as one line."""
    return " ".join(unescape(TAG.sub(" ", page)).split())


def rows(page: str) -> dict[str, tuple[str, str]]:
    """Return the status and text of each row, by id, newest first."""
    return {found[0]: (found[1], " ".join(unescape(TAG.sub(" ", found[2])).split())) for found in ROW.findall(page)}


async def test_one_line_tells_the_story(web: Web) -> None:
    done = await web.rig.submit("sum", [4, 2])
    await web.rig.finish()
    failed = await web.rig.submit("sum", [1, 2])
    await web.rig.finish(Failed(task_problem("task-raised", "ValueError: unknown <b>currency</b>")))
    waits = await web.rig.submit("reverse", ["x"], delay=90)
    shown = rows(await web.get("/ui/tasks"))
    assert list(shown) == [waits, failed, done]
    assert shown[done][0] == "completed"
    assert "[4,2] → 6 default" in shown[done][1]
    assert shown[failed][0] == "failed"
    assert "→ ValueError: unknown <b>currency</b>" in shown[failed][1]
    assert shown[waits][0] == "pending"
    assert "scheduled" in shown[waits][1]
    assert "starts in 1 min" in shown[waits][1]


async def test_a_pending_task_says_why_it_waits(web: Web) -> None:
    task_id = await web.rig.submit(queue="llm")
    assert "next in its queue" in rows(await web.get("/ui/tasks"))[task_id][1]
    await web.rig.service.queues.change(ANYBODY, "llm", QueueChange(paused=True))
    assert "queue paused" in rows(await web.get("/ui/tasks"))[task_id][1]


async def test_filters(web: Web) -> None:
    one = await web.rig.submit("sum", [4, 2], tags=["nightly"])
    two = await web.rig.submit("reverse", ["x"], queue="llm")
    for query, expected in (
        ("", [two, one]), ("?type=sum", [one]), ("?queue=llm", [two]), ("?tag=nightly", [one]),
        ("?status=pending", [two, one]), ("?status=failed", []), ("?since=15m", [two, one]),
    ):  # fmt: skip
        assert list(rows(await web.get(f"/ui/tasks{query}"))) == expected, query
    web.rig.clock.advance(timedelta(hours=1))
    assert list(rows(await web.get("/ui/tasks?since=15m"))) == []


async def test_an_id_leads_to_its_task_and_a_tag_to_its_tasks(web: Web) -> None:
    task_id = await web.rig.submit()
    for text, place in (
        (task_id, f"task/{task_id}"),
        (f" {task_id.upper()} ", f"task/{task_id}"),
        ("tag:a b", "tasks?tag=a+b"),
    ):
        reply = await web.client.get("/ui/tasks", params={"q": text})
        assert (reply.status_code, reply.headers["location"]) == (303, place), text
    assert task_id in await web.get(f"/ui/task/{task_id}")


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("q=HAYstack", ["failed"]),
        ("q=needle", ["failed"]),
        ("q=nowhere", []),
        ("schedule={schedule}", ["scheduled"]),
        ("schedule=0198e000-0000-7000-8000-000000000000", []),
        ("ended_after={noon}", ["cancelled"]),
        ("ended_before={noon}", ["failed"]),
        ("status=failed&status=cancelled", ["cancelled", "failed"]),
        ("status=pending,failed", ["scheduled", "failed"]),
        ("bulk={bulk}", ["cancelled"]),
        ("bulk={bulk}&status=failed", []),
    ],
)
async def test_each_filter_of_the_query(web: Web, query: str, expected: list[str]) -> None:
    rig = web.rig
    failed = await rig.submit("reverse", ["the HayStack"])
    await rig.finish(Failed(task_problem("task-raised", "ValueError: no Needle")))
    rig.clock.advance(timedelta(minutes=10))
    noon = rig.clock.now().isoformat().replace("+00:00", "Z")
    rig.clock.advance(timedelta(minutes=10))
    cancelled = await rig.submit(tags=["bulk"])
    bulk = (await rig.client.post("/bulk", json={"action": "cancel", "filter": {"tag": "bulk"}})).json()
    body = {"name": "nightly", "interval": 3600, "task": {"type": "sum", "params": [1, 2]}}
    schedule = (await rig.client.post("/schedule", json=body)).json()["schedule_id"]
    triggered = await rig.client.post(f"/schedule/{schedule}/trigger")
    ids = {"failed": failed, "cancelled": cancelled, "scheduled": triggered.json()["task_id"]}
    asked = query.format(noon=noon, schedule=schedule, bulk=bulk["links"]["self"].rpartition("/")[2])
    assert list(rows(await web.get(f"/ui/tasks?{asked}"))) == [ids[name] for name in expected]


async def test_chips_lead_to_the_page_without_them(web: Web) -> None:
    page = await web.get("/ui/tasks?type=sum&queue=a%26b&since=24h&status=failed")
    assert 'href="?queue=a%26b&amp;since=24h&amp;status=failed" aria-label="Remove the filter type"' in page
    assert "last 24 h" in page
    assert 'href="?type=sum&amp;queue=a%26b&amp;since=24h&amp;status=running"' in page  # the tab of another status
    assert "No task matches." in page


async def test_the_api_call_gives_the_same_tasks(web: Web) -> None:
    task_id = await web.rig.submit("sum", [4, 2])
    await web.rig.submit("reverse", ["x"])
    page = await web.get("/ui/tasks?type=sum&since=24h&status=pending")
    path = re.search(r"curl 'http://localhost:5000(/task\?[^']+)'", unescape(page))
    assert path is not None
    reply = await web.client.get(path[1], headers={"accept": "application/json"})
    assert [task["task_id"] for task in reply.json()["items"]] == [task_id]


async def test_all_that_match_are_offered_with_their_number(web: Web) -> None:
    for _ in range(3):
        await web.rig.submit("sum", [4, 2])
    await web.rig.submit("reverse", ["x"])
    assert "All 3 that match…" in await web.get("/ui/tasks?type=sum")
    assert "All 4 that match…" in await web.get("/ui/tasks?status=pending&limit=2")
    assert "The one that matches…" in await web.get("/ui/tasks?type=reverse")
    assert "All that match…" in await web.get("/ui/tasks?type=sum&limit=2")  # counting them may take too long
    assert "that match…" not in await web.get("/ui/tasks")


async def test_there_are_no_tasks_yet(web: Web) -> None:
    page = await web.get("/ui/tasks")
    assert "There are no tasks yet." in page
    assert 'href="types"' in page
    assert "No task matches." in await web.get("/ui/tasks?status=failed")


async def test_a_row_leads_to_its_form(web: Web) -> None:
    task_id = await web.rig.submit("sum", [4, 2])
    found = re.search(r'data-edit="([^"]+)"', await web.get("/ui/tasks"))
    assert found is not None
    assert found[1] == f"type/sum?from={task_id}"
    assert 'value="4"' in await web.get(f"/ui/{found[1]}")


async def test_older_and_newest(web: Web) -> None:
    ids = [await web.rig.submit() for _ in range(5)]
    page = await web.get("/ui/tasks?limit=2")
    assert list(rows(page)) == [ids[4], ids[3]]
    assert 'id="newer"' not in page
    older = re.search(r'href="([^"]+)" id="older"', page)
    assert older is not None
    page = await web.get("/ui/tasks" + unescape(older[1]))
    assert list(rows(page)) == [ids[2], ids[1]]
    assert 'href="?limit=2" id="newer"' in page
    await web.get("/ui/tasks?cursor=made-up", 422)


async def test_the_try_that_runs_is_one_of_those_there_are(web: Web) -> None:
    task_id = await web.rig.submit(retry=3)
    assert ">0/3<" in await web.get("/ui/tasks")
    assert "Tries 0 of 3" in plain(await web.get(f"/ui/task/{task_id}"))
    await web.rig.driver.claim_one(types=("sum",))
    assert ">1/3<" in await web.get("/ui/tasks")
    text = plain(await web.get(f"/ui/task/{task_id}"))
    assert "try 1 of 3" in text
    assert "Tries 1 of 3" in text


async def test_an_owner_sees_its_own_tasks_alone(web: Web) -> None:
    hers = await web.rig.client.post("/task", json={"type": "sum", "params": [4, 2]}, headers=await web.rig.key(
        "submit", owner="alice"))  # fmt: skip
    await web.sign_in("read", owner="bob")
    assert rows(await web.get("/ui/tasks")) == {}
    await web.sign_in("read", owner="alice")
    assert list(rows(await web.get("/ui/tasks"))) == [hers.json()["task_id"]]


async def test_what_a_key_may_not_do_is_not_offered(web: Web) -> None:
    await web.rig.submit()
    assert 'id="bulk"' in await web.get("/ui/tasks")
    await web.rig.client.post("/task", json={"type": "sum", "params": [4, 2]}, headers=await web.rig.key(
        "submit", owner="alice"))  # fmt: skip
    await web.sign_in("read", owner="alice")
    assert 'id="bulk"' not in await web.get("/ui/tasks")
    await web.sign_in("submit", owner="alice")
    await web.get("/ui/tasks", 403)
