"""GET /failure, the filters and counts of GET /task and POST /bulk, previews, and the end of a log."""

from __future__ import annotations

from datetime import timedelta
from typing import Any
from uuid import uuid4

import msgspec
import pytest
from msgspec import structs

from tasker.model import ExceptionInfo, NewEvent, Report
from tasker.rules.lifecycle import Failed, Succeeded, problem
from tests.api.conftest import Rig
from tests.api.conftest import problem as problem_of

SECOND = timedelta(seconds=1)


def raised(message: str) -> Failed:
    error = problem("task-failed", f"ValueError: {message}")
    return Failed(structs.replace(error, exception=ExceptionInfo(class_="ValueError", message=message)))


async def fail(rig: Rig, message: str = "no row 7", **options: Any) -> str:
    task_id = await rig.submit(**options)
    rig.clock.advance(SECOND)
    await rig.finish(raised(message))
    return task_id


async def ids(rig: Rig, query: str) -> list[str]:
    reply = await rig.client.get(f"/task?{query}")
    assert reply.status_code == 200, reply.text
    return [item["task_id"] for item in reply.json()["items"]]


async def test_a_failure_group_leads_to_its_tasks(rig: Rig) -> None:
    first, last = await fail(rig, "no row 7"), await fail(rig, "no row 123")
    other = await fail(rig, "no table", type="reverse", params=["x"])
    page = (await rig.client.get("/failure")).json()
    assert [(item["type"], item["count"]) for item in page["items"]] == [("reverse", 1), ("sum", 2)]
    group = page["items"][1]
    assert (group["problem"], group["exception"], group["message"]) == (
        "/problems/task-failed", "ValueError", "no row #",
    )  # fmt: skip
    assert group["sample"] == {"task_id": last, "detail": "ValueError: no row 123"}
    assert (group["first_at"] < group["last_at"], group["owner"]) == (True, None)
    assert await ids(rig, f"error={group['failure_id']}") == [last, first]
    assert await ids(rig, f"error={page['items'][0]['failure_id']}") == [other]
    for query in ("type=reverse", f"error={page['items'][0]['failure_id']}"):
        assert [item["type"] for item in (await rig.client.get(f"/failure?{query}")).json()["items"]] == ["reverse"]
    done = await rig.client.post("/bulk", json={"action": "retry", "filter": {"error": group["failure_id"]}})
    assert done.json()["done"] == 2
    assert await ids(rig, f"error={group['failure_id']}") == []


async def test_failures_of_a_window(rig: Rig) -> None:
    await fail(rig)
    rig.clock.advance(timedelta(hours=30))
    for query, count in (("", 0), ("?window=24h", 0), ("?window=7d", 1), ("?window=90d", 1)):
        page = (await rig.client.get(f"/failure{query}")).json()
        assert len(page["items"]) == count
    assert page["counted_from"].endswith(":00:00Z")


@pytest.mark.parametrize("path", ["/failure?window=2h", "/failure?limit=0", "/failure?status=failed", "/failure?type="])
async def test_a_bad_query_of_failures(rig: Rig, path: str) -> None:
    reply = await rig.client.get(path)
    assert reply.status_code == 422
    assert [error["pointer"] for error in reply.json()["errors"]] == ["/" + path[9:].partition("=")[0]]


async def test_the_filters_of_a_list_and_of_a_bulk_action_are_the_same(rig: Rig) -> None:
    start = rig.clock.now()
    reversed_ = await rig.submit("reverse", ["Find Me"])
    await rig.finish(Succeeded(b'"x"'))
    rig.clock.advance(SECOND)
    failed = await fail(rig, "odd thing", queue="q")
    await rig.submit(queue="r")

    async def same(expected: list[str], **filter_: Any) -> None:
        query = "&".join(
            f"{name}={one}"
            for name, value in filter_.items()
            for one in (value if isinstance(value, list) else [value])
        )
        assert await ids(rig, query) == expected
        body = {"action": "delete", "filter": filter_, "dry_run": True}
        assert (await rig.client.post("/bulk", json=body)).json()["matched"] == len(expected)

    middle = (start + SECOND / 2).isoformat().replace("+00:00", "Z")
    await same(
        [failed, reversed_], type=["sum", "reverse"], ended_after=start.isoformat().replace("+00:00", "Z")[:19] + "Z"
    )
    await same([failed], queue=["q", "none"])
    await same([failed], ended_after=middle)
    await same([reversed_], ended_before=middle)
    await same([reversed_], q="find me")
    await same([failed], q="ODD THING")
    await same([], schedule_id=str(uuid4()))
    assert await ids(rig, "type=reverse,sum&queue=q") == [failed]


async def test_a_schedules_tasks(rig: Rig) -> None:
    body = {"name": "n", "interval": 3600, "task": {"type": "sum", "params": [4, 2]}}
    schedule_id = (await rig.client.post("/schedule", json=body)).json()["schedule_id"]
    reply = await rig.client.post(f"/schedule/{schedule_id}/trigger")
    await rig.submit()
    assert await ids(rig, f"schedule_id={schedule_id}") == [reply.json()["task_id"]]


@pytest.mark.parametrize(
    ("query", "pointer"),
    [
        ("schedule_id=x", "/schedule_id"), ("ended_after=yesterday", "/ended_after"), ("q=", "/q"),
        ("q=" + "x" * 201, "/q"), ("type=" + ",".join(map(str, range(51))), "/type"), ("count=1", "/count"),
        ("text=x", "/text"), ("types=sum", "/types"),
    ],
)  # fmt: skip
async def test_a_bad_filter(rig: Rig, query: str, pointer: str) -> None:
    reply = await rig.client.get(f"/task?{query}")
    assert reply.status_code == 422
    assert [error["pointer"] for error in reply.json()["errors"]] == [pointer]


@pytest.mark.parametrize(
    ("filter_", "pointer"),
    [
        ({"type": []}, "/filter/type"), ({"type": ["a"] * 51}, "/filter/type"), ({"queue": [""]}, "/filter/queue/0"),
        ({"schedule_id": "x"}, "/filter/schedule_id"), ({"q": ""}, "/filter/q"), ({"text": "x"}, "/filter/text"),
    ],
)  # fmt: skip
async def test_a_bad_filter_of_a_bulk_action(rig: Rig, filter_: dict[str, Any], pointer: str) -> None:
    reply = await rig.client.post("/bulk", json={"action": "cancel", "filter": filter_})
    assert reply.status_code == 422
    assert [error["pointer"] for error in reply.json()["errors"]] == [pointer]


async def test_a_page_with_a_count(rig: Rig) -> None:
    for number in range(3):
        await rig.submit(queue="q" if number else "r")
    page = (await rig.client.get("/task?count=true&limit=1")).json()
    assert (len(page["items"]), page["count"]) == (1, {"number": 3, "is_exact": True})
    page = (await rig.client.get("/task?count=true&queue=q&limit=1")).json()
    assert page["count"] == {"number": 2, "is_exact": True}
    for query in ("", "?count=false"):
        assert "count" not in (await rig.client.get(f"/task{query}")).json()


async def test_a_list_has_what_long_values_begin_with(rig: Rig) -> None:
    long = "x" * 1000
    task_id = await rig.submit("echo", [long])
    await rig.finish(Succeeded(msgspec.json.encode(long)))
    [item] = (await rig.client.get("/task")).json()["items"]
    assert (item["params"], item["result"]) == (None, None)
    assert (item["params_preview"], item["result_preview"]) == ('["' + long[:398], '"' + long[:399])
    whole = (await rig.client.get(f"/task/{task_id}")).json()
    assert (whole["params"], whole["result"]) == ([long], long)
    assert "params_preview" not in whole


async def test_the_end_of_a_log(rig: Rig) -> None:
    task_id = await rig.submit()
    claim = await rig.driver.claim_one()
    records = [{"level": level, "message": level, "fields": {"n": n}} for n, level in enumerate(("info", "error") * 3)]
    events = [NewEvent(type="log", time=rig.clock.now(), data=msgspec.json.encode(one)) for one in records]
    await rig.engine.record(claim.lease, Report(events=tuple(events)))
    page = (await rig.client.get(f"/task/{task_id}/log?tail=2")).json()
    assert [(item["level"], item["fields"]) for item in page["items"]] == [("info", {"n": 4}), ("error", {"n": 5})]
    older = (await rig.client.get(f"/task/{task_id}/log?before={page['before']}")).json()
    assert ([item["fields"]["n"] for item in older["items"]], older["before"]) == ([0, 1, 2, 3], None)
    errors = (await rig.client.get(f"/task/{task_id}/log?level=warning&tail=2")).json()
    assert [item["fields"]["n"] for item in errors["items"]] == [3, 5]
    for query in ("level=loud", "tail=0", "before=x", "after=1"):
        reply = await rig.client.get(f"/task/{task_id}/log?{query}")
        assert [error["pointer"] for error in reply.json()["errors"]] == [f"/{query.partition('=')[0]}"]
    assert problem_of(await rig.client.get(f"/task/{uuid4()}/log"))[0] == 404
