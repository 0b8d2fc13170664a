"""GET and PATCH of /queue: depth, pause and limits over HTTP."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

from tasker.model import PartitionStats
from tasker.rules.lifecycle import Succeeded
from tests.api.conftest import Rig, announce, problem

SETTINGS = ("paused", "concurrency", "concurrency_per_key", "rate", "shared_keys")


def settings(queue: dict[str, Any]) -> tuple[Any, ...]:
    return tuple(queue[name] for name in SETTINGS)


async def test_a_queue_is_paused_and_resumed(rig: Rig) -> None:
    reply = await rig.client.patch("/queue/q", json={"paused": True})
    assert (reply.status_code, reply.json()["paused"]) == (200, True)
    await rig.submit(queue="q")
    assert await rig.driver.claim(queues=["q"]) == []
    assert (await rig.client.patch("/queue/q", json={"paused": False})).json()["paused"] is False
    assert len(await rig.driver.claim(queues=["q"])) == 1


async def test_a_queue_shows_since_when_it_is_paused_and_an_admin_by_whom(rig: Rig) -> None:
    admin = await rig.key("admin", owner="ops", name="laptop")
    reader = await rig.key("read")
    await rig.client.patch("/queue/q", json={"paused": True}, headers=admin)
    since = rig.clock.now().isoformat().replace("+00:00", "Z")
    rig.clock.advance(timedelta(minutes=1))
    await rig.client.patch("/queue/q", json={"concurrency": 1, "paused": True}, headers=await rig.key("admin"))
    for headers, by in ((admin, {"owner": "ops", "key": "laptop"}), (reader, None)):
        queue = (await rig.client.get("/queue/q", headers=headers)).json()
        assert (queue["paused"], queue["paused_at"], queue["paused_by"]) == (True, since, by)
        assert (await rig.client.get("/queue", headers=headers)).json()["items"] == [queue]
    resumed = (await rig.client.patch("/queue/q", json={"paused": False}, headers=admin)).json()
    assert (resumed["paused_at"], resumed["paused_by"]) == (None, None)


async def test_limits_are_set_one_by_one_and_removed_with_null(rig: Rig) -> None:
    rate = {"limit": 90_000, "per": 60.0, "burst": 9_000}
    await rig.client.patch("/queue/q", json={"concurrency": 3, "rate": {"limit": 90_000, "per": 60}})
    queue = (await rig.client.patch("/queue/q", json={"concurrency_per_key": 1})).json()
    assert settings(queue) == (False, 3, 1, rate, False)
    queue = (await rig.client.patch("/queue/q", json={"concurrency": None})).json()
    assert settings(queue) == (False, None, 1, rate, False)
    assert (await rig.client.get("/queue/q")).json() == queue


async def test_a_queue_with_settings_is_listed_without_tasks(rig: Rig) -> None:
    await rig.submit(queue="tasks")
    await rig.client.patch("/queue/empty", json={"concurrency": 2})
    items = (await rig.client.get("/queue")).json()["items"]
    assert [(item["name"], item["pending"], item["concurrency"]) for item in items] == [
        ("empty", 0, 2), ("tasks", 1, None),
    ]  # fmt: skip


async def test_every_fault_is_named_and_nothing_is_changed(rig: Rig) -> None:
    body = {"paused": "yes", "concurrency": 0, "rate": {"limit": 0, "per": -1}, "speed": 9}
    reply = await rig.client.patch("/queue/q", json=body)
    assert problem(reply) == (422, "invalid-request")
    pointers = {error["pointer"] for error in reply.json()["errors"]}
    assert pointers == {"/paused", "/concurrency", "/rate/limit", "/rate/per", "/speed"}
    assert (await rig.client.get("/queue")).json()["items"] == []


async def test_an_invalid_change_is_refused(rig: Rig) -> None:
    assert problem(await rig.client.patch("/queue/q", content=b"{"))[0] in (400, 415)
    assert problem(await rig.client.patch("/queue/q", json=[])) == (422, "invalid-request")
    assert problem(await rig.client.patch("/queue/-no", json={})) == (404, "not-found")
    assert problem(await rig.client.patch("/queue/q?x=1", json={})) == (422, "unknown-field")


async def test_a_submission_names_its_key_and_its_weight(rig: Rig) -> None:
    await rig.client.patch("/queue/q", json={"concurrency_per_key": 1, "rate": {"limit": 60, "per": 60, "burst": 10}})
    first = await rig.submit(queue="q", concurrency_key="a", weight=9)
    second = await rig.submit(queue="q", concurrency_key="a")
    third = await rig.submit(queue="q", concurrency_key="b", weight=5)
    [claim] = await rig.driver.claim(5)
    assert str(claim.task_id) == first
    task = (await rig.client.get(f"/task/{second}")).json()
    assert (task["reason"], task["concurrency_key"]) == ("concurrency_limited", "a")
    rig.clock.advance(timedelta(seconds=4))
    assert [str(claim.task_id) for claim in await rig.driver.claim(5)] == [third]


async def test_wrong_keys_and_weights_are_refused(rig: Rig) -> None:
    for options in ({"concurrency_key": ""}, {"concurrency_key": 1}, {"weight": 0}, {"weight": 1.5}, {"weight": "1"}):
        reply = await rig.client.post("/task", json={"type": "sum", "params": [4, 2], **options})
        assert problem(reply) == (422, "invalid-request")
        assert [error["pointer"] for error in reply.json()["errors"]] == [f"/{next(iter(options))}"]


async def test_an_autoscaler_sees_what_limits_let_through(rig: Rig) -> None:
    for _ in range(5):
        await rig.submit(queue="q")
    await rig.driver.claim(1)
    await rig.client.patch("/queue/q", json={"concurrency": 2})
    assert (await rig.client.get("/queue/q")).json()["load"] == 2
    await rig.client.patch("/queue/q", json={"paused": True})
    queue = (await rig.client.get("/queue/q")).json()
    assert (queue["load"], queue["pending"], queue["running"]) == (1, 4, 1)


async def test_tasks_running_above_a_lowered_limit_still_count_as_load(rig: Rig) -> None:
    """An autoscaler must not remove the workers of running tasks."""
    for _ in range(3):
        await rig.submit(queue="q")
    await rig.driver.claim(3)
    await rig.client.patch("/queue/q", json={"concurrency": 1})
    assert (await rig.client.get("/queue/q")).json()["load"] == 3


async def test_a_held_back_queue_does_not_make_the_service_unready(rig: Rig) -> None:
    seen: list[list[str]] = []

    def health(stats: list[PartitionStats]) -> dict[str, str]:
        seen.append([one.queue for one in stats])
        return {}

    rig.service.readiness = replace(rig.service.readiness, health=health)
    await rig.submit(queue="paused")
    await rig.submit(queue="other")
    await rig.client.patch("/queue/paused", json={"paused": True})
    assert (await rig.client.get("/readyz")).status_code == 200
    assert seen == [["other"]]


async def test_a_pending_task_tells_why_it_waits_and_where_it_is(rig: Rig) -> None:
    ids = [await rig.submit(queue="q") for _ in range(3)]
    task = (await rig.client.get(f"/task/{ids[2]}")).json()
    assert (task["reason"], task["waiting_for"]) == ("queued", "no worker has this type")
    assert (task["queue_position"], "estimated_start_at" in task) == (3, False)
    await announce(rig)
    rig.clock.advance(timedelta(seconds=2))
    task = (await rig.client.get(f"/task/{ids[2]}")).json()
    assert (task["reason"], task["waiting_for"]) == ("queued", "2 tasks are before it")
    assert task["estimated_start_at"]
    await rig.client.patch("/queue/q", json={"paused": True})
    task = (await rig.client.get(f"/task/{ids[2]}")).json()
    assert (task["reason"], task["waiting_for"]) == ("paused", "queue paused")
    assert "estimated_start_at" not in task


async def test_a_worker_that_drains_or_is_silent_takes_nothing(rig: Rig) -> None:
    task_id = await rig.submit()

    async def waiting_for() -> str:
        rig.clock.advance(timedelta(seconds=2))  # what is known of workers stands for a second
        return str((await rig.client.get(f"/task/{task_id}")).json()["waiting_for"])

    await announce(rig)
    assert await waiting_for() != "no worker has this type"
    await announce(rig, draining=True)
    assert await waiting_for() == "no worker has this type"
    await announce(rig)
    rig.clock.advance(timedelta(seconds=40))
    assert await waiting_for() == "no worker has this type"


async def test_lists_show_only_the_reason(rig: Rig) -> None:
    await rig.submit(queue="paused")
    await rig.submit(queue="slots")
    await rig.submit(queue="slots")
    await rig.driver.claim(queues=["slots"])
    await rig.client.patch("/queue/paused", json={"paused": True})
    await rig.client.patch("/queue/slots", json={"concurrency": 1})
    items = (await rig.client.get("/task")).json()["items"]
    assert [item["reason"] for item in items] == ["concurrency_limited", None, "paused"]
    assert not any("waiting_for" in item for item in items)


async def test_what_is_shown_of_waiting_does_not_change_the_etag(rig: Rig) -> None:
    task_id = await rig.submit(queue="q")
    reply = await rig.client.get(f"/task/{task_id}")
    await rig.client.patch("/queue/q", json={"paused": True})
    same = await rig.client.get(f"/task/{task_id}", headers={"If-None-Match": reply.headers["etag"]})
    assert same.status_code == 304


async def test_retry_after_is_about_how_long_the_type_takes(rig: Rig) -> None:
    """From the store, if this process has run none of them."""
    first = await rig.submit()
    claim = await rig.driver.claim_one()
    assert (await rig.client.get(f"/task/{first}")).headers["retry-after"] == "1"
    rig.clock.advance(timedelta(seconds=30))
    await rig.driver.finish(claim, Succeeded(b"6"))
    second = await rig.submit()
    rig.clock.advance(timedelta(seconds=11))
    assert (await rig.client.get(f"/task/{second}")).headers["retry-after"] == "30"
    await rig.driver.claim_one()
    rig.clock.advance(timedelta(seconds=12))
    assert (await rig.client.get(f"/task/{second}")).headers["retry-after"] == "18"
