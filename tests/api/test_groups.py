"""Groups over HTTP: submitted, read, awaited, listed, cancelled."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tasker.model import Status
from tasker.rules.lifecycle import Failed
from tasker.rules.lifecycle import problem as task_problem
from tests.api.conftest import Rig, problem

BROKEN = Failed(task_problem("task-failed", "no"))


async def group(rig: Rig, name: str = "import-7") -> dict[str, Any]:
    reply = await rig.client.get(f"/group/{name}")
    assert reply.status_code == 200, reply.text
    found: dict[str, Any] = reply.json()
    return found


async def test_a_group_is_shown_with_its_counts_and_failures(rig: Rig) -> None:
    ids = [await rig.submit(group="import-7") for _ in range(3)]
    await rig.finish(BROKEN)
    assert await group(rig) == {
        "name": "import-7", "owner": None, "created_at": "2026-01-02T03:04:05.678901Z", "ended_at": None,
        "tasks": {"pending": 2, "running": 0, "completed": 0, "failed": 1, "cancelled": 0}, "oldest_open": ids[1],
        "failures": [{"task_id": ids[0], "type": "sum", "problem": "/problems/task-failed", "detail": "no"}],
        "links": {"self": "/group/import-7", "tasks": "/task?group=import-7", "cancel": "/group/import-7/cancel"},
    }  # fmt: skip
    listed = (await rig.client.get("/task?group=import-7")).json()["items"]
    assert [one["task_id"] for one in listed] == ids[::-1]
    assert {one["group"] for one in listed} == {"import-7"}
    assert problem(await rig.client.get("/group/none")) == (404, "not-found")
    assert problem(await rig.client.get("/group/%00")) == (404, "not-found")


@pytest.mark.parametrize("is_lines", [False, True])
async def test_a_batch_has_a_group(rig: Rig, is_lines: bool) -> None:
    lines = ['{"type":"sum","params":[1,2]}', '{"type":"sum","params":[1,2],"group":"other"}']
    body = "\n".join(lines) if is_lines else f"[{','.join(lines)}]"
    media = "application/jsonl" if is_lines else "application/json"
    reply = await rig.client.post("/batch?group=import-7", content=body, headers={"content-type": media})
    assert reply.status_code == 200
    assert ((await group(rig))["tasks"]["pending"], (await group(rig, "other"))["tasks"]["pending"]) == (1, 1)
    for bad in ("", "a%20b", "-a", "a" * 101):
        assert problem(await rig.client.post(f"/batch?group={bad}", json=[])) == (422, "invalid-request")


@pytest.mark.parametrize("name", ["", "a b", "-a", "a" * 101, 7, "ü"])
async def test_a_group_has_a_proper_name(rig: Rig, name: Any) -> None:
    body = {"type": "sum", "params": [4, 2], "group": name}
    reply = await rig.client.post("/task", json=body)
    assert problem(reply) == (422, "invalid-request")
    assert [one["pointer"] for one in reply.json()["errors"]] == ["/group"]
    assert problem(await rig.client.post("/task", json=body | {"group": "a", "depends_on": {"group": name}}))[0] == 422


async def test_a_task_waits_for_a_group(rig: Rig) -> None:
    await rig.submit(group="import-7")
    after = {"type": "sum", "params": [4, 2], "depends_on": {"group": "import-7", "when": "ended"}}
    task = (await rig.client.post("/task", json=after)).json()
    assert task["depends_on_group"] == {"group": "import-7", "when": "ended"}
    assert (task["status"], task["reason"]) == ("pending", "dependencies")
    await rig.finish(BROKEN)
    assert (await rig.client.get(task["links"]["self"])).json()["reason"] == "queued"
    strict = await rig.client.post("/task", json=after | {"depends_on": {"group": "import-7"}})
    assert (strict.json()["status"], strict.json()["error"]["type"]) == ("failed", "/problems/dependency-failed")


@pytest.mark.parametrize(
    ("given", "pointer"),
    [
        ({"group": "none"}, "/depends_on/group"),
        ({"group": "mine"}, "/depends_on/group"),
        ({"group": "import-7", "when": "soon"}, "/depends_on/when"),
        ({"when": "ended"}, "/depends_on/group"),
        ({"group": "import-7", "x": 1}, "/depends_on/x"),
        ("import-7", "/depends_on"),
        (["x"], "/depends_on/0"),
    ],
)
async def test_what_no_task_can_wait_for_is_refused(rig: Rig, given: Any, pointer: str) -> None:
    for name in ("import-7", "mine"):
        await rig.submit(group=name)
    body = {"type": "sum", "params": [4, 2], "group": "mine", "depends_on": given}
    reply = await rig.client.post("/task", json=body)
    assert reply.status_code == 422
    assert [one["pointer"] for one in reply.json()["errors"]] == [pointer]
    assert (await group(rig, "mine"))["tasks"]["pending"] == 1


async def test_a_wait_ends_with_the_last_open_task(rig: Rig) -> None:
    await rig.submit(group="import-7")
    await rig.submit(group="import-7")
    waiting = asyncio.create_task(rig.client.get("/group/import-7?wait=30"))
    while not rig.hub.waiting:
        await asyncio.sleep(0)
    await rig.finish()
    assert not waiting.done()
    await rig.finish(BROKEN)
    reply = await asyncio.wait_for(waiting, 10)
    assert (reply.json()["tasks"]["completed"], reply.json()["tasks"]["failed"]) == (1, 1)
    assert reply.headers["preference-applied"] == "wait=30"
    at_once = await rig.client.get("/group/import-7", headers={"prefer": "wait=30"})
    assert at_once.json()["ended_at"] is not None


async def test_a_wait_is_not_longer_than_asked(rig: Rig) -> None:
    await rig.submit(group="import-7")
    assert (await rig.client.get("/group/import-7?wait=0")).json()["ended_at"] is None
    waiting = asyncio.create_task(rig.client.get("/group/import-7?wait=60"))
    while not rig.hub.waiting:
        await asyncio.sleep(0)
    rig.hub.close()
    assert (await asyncio.wait_for(waiting, 10)).json()["ended_at"] is None, "the service is stopping"


async def test_all_open_tasks_of_a_group_are_cancelled(rig: Rig) -> None:
    for name in ("import-7", "import-7", "other"):
        await rig.submit(group=name)
    running = await rig.driver.claim_one()
    reply = await rig.client.post("/group/import-7/cancel")
    assert (reply.status_code, reply.json()["matched"], reply.json()["done"]) == (200, 2, 2)
    counted = (await group(rig))["tasks"]
    assert (counted["running"], counted["cancelled"]) == (1, 1)
    assert (await rig.driver.get(running.task_id)).cancel_requested_at is not None
    assert (await group(rig, "other"))["tasks"]["pending"] == 1
    assert problem(await rig.client.post("/group/none/cancel")) == (404, "not-found")
    bulk = await rig.client.post("/bulk", json={"action": "cancel", "filter": {"group": "other"}})
    assert bulk.json()["done"] == 1


async def test_a_group_is_listed_for_its_owner_alone(rig: Rig) -> None:
    ann = await rig.key("submit", "read", "control", owner="ann")
    ben = await rig.key("submit", "read", "control", owner="ben")
    admin = await rig.key("admin", owner="root")
    task = {"type": "sum", "params": [4, 2], "group": "import-7"}
    assert (await rig.client.post("/task", json=task, headers=ann)).status_code == 202
    assert (await rig.client.get("/group", headers=ben)).json()["items"] == []
    for path in ("/group/import-7", "/group/import-7?owner=ann"):
        assert problem(await rig.client.get(path, headers=ben)) == (404, "not-found")
    assert problem(await rig.client.post("/group/import-7/cancel?owner=ann", headers=ben)) == (404, "not-found")
    [hers] = (await rig.client.get("/group", headers=admin)).json()["items"]
    assert (hers["name"], hers["owner"]) == ("import-7", "ann")
    done = await rig.client.post("/group/import-7/cancel?owner=ann", headers=admin)
    assert done.json()["done"] == 1
    assert (await rig.client.get("/group/import-7", headers=ann)).json()["tasks"]["cancelled"] == 1


async def test_a_schedule_and_a_replay_may_have_a_group(rig: Rig) -> None:
    body = {"name": "s", "interval": 3600, "task": {"type": "sum", "params": [4, 2], "group": "import-7"}}
    schedule = (await rig.client.post("/schedule", json=body)).json()
    assert (await rig.client.post(f"{schedule['links']['self']}/trigger")).status_code == 202
    done = await rig.finish()
    again = await rig.client.post(f"/task/{done.task_id}/replay")
    assert "group" not in again.json()
    other = await rig.client.post(f"/task/{done.task_id}/replay", json={"group": "import-7"})
    assert other.json()["group"] == "import-7"
    assert (await group(rig))["tasks"] | {"completed": 1, "pending": 1} == (await group(rig))["tasks"]


async def test_the_end_of_a_group_is_an_event_of_webhooks(rig: Rig) -> None:
    made = await rig.client.post("/webhook", json={"url": "https://example.com/", "events": ["group.ended"]})
    assert made.json()["events"] == ["group.ended"]
    await rig.submit(group="import-7")
    assert (await rig.finish()).status is Status.COMPLETED
    [delivery] = (await rig.client.get(made.json()["links"]["deliveries"])).json()["items"]
    assert (delivery["event"], delivery["group"], delivery["task_id"]) == ("group.ended", "import-7", None)
    assert delivery["links"]["group"] == "/group/import-7"
    own = {"type": "sum", "params": [4, 2], "webhook": {"url": "https://example.com/", "events": ["group.ended"]}}
    assert problem(await rig.client.post("/task", json=own)) == (422, "invalid-request")
