"""GET /worker and GET /queue: the workers, and what waits in the queues."""

from __future__ import annotations

from datetime import timedelta

from tasker.model import WorkerInfo
from tests.api.conftest import Rig


async def _announce(rig: Rig, name: str, *, draining: bool = False) -> None:
    await rig.engine.workers.announce(
        WorkerInfo(
            worker_id=name,
            host="here",
            pid=1,
            version="1",
            started_at=rig.clock.now(),
            queues=None,
            types=("sum",),
            slots=2,
            processes=1,
            draining=draining,
        )
    )


async def test_workers_are_listed_with_their_status(rig: Rig) -> None:
    await _announce(rig, "a")
    rig.clock.advance(timedelta(seconds=11))
    await _announce(rig, "b")
    await _announce(rig, "c", draining=True)
    reply = await rig.client.get("/worker")
    assert reply.status_code == 200
    items = reply.json()["items"]
    assert [(item["worker_id"], item["status"]) for item in items] == [
        ("a", "silent"), ("b", "running"), ("c", "draining"),
    ]  # fmt: skip
    assert items[0]["queues"] is None
    assert {(item["version"], item["level"]) for item in items} == {("1", 0)}, "one that says no level knows of none"
    assert items[0]["running"] == []


async def test_queues_show_their_depth(rig: Rig) -> None:
    for queue in ("a", "b", "b"):
        await rig.client.post("/task", json={"type": "sum", "params": [4, 2], "queue": queue})
    await rig.client.post("/task", json={"type": "sum", "params": [4, 2], "queue": "b", "delay": 60})
    rig.clock.advance(timedelta(seconds=5))
    items = (await rig.client.get("/queue")).json()["items"]
    assert [(item["name"], item["pending"], item["scheduled"]) for item in items] == [("a", 1, 0), ("b", 2, 1)]
    assert items[0]["oldest_wait"] == 5
    assert (await rig.client.get("/queue/b")).json() == items[1]


async def test_the_load_of_a_queue_is_what_needs_a_worker_now(rig: Rig) -> None:
    """An autoscaler that counted only pending tasks would remove the workers of running ones."""
    for options in ({}, {}, {"delay": 60}, {"queue": "other"}):
        await rig.submit(**options)
    await rig.driver.claim_one()
    queue = (await rig.client.get("/queue/default")).json()
    assert (queue["pending"], queue["running"], queue["scheduled"], queue["load"]) == (1, 1, 1, 2)
    assert (await rig.client.get("/queue/new")).json()["load"] == 0


async def test_a_queue_that_holds_nothing_is_empty_not_missing(rig: Rig) -> None:
    """An autoscaler reads it before the first task and after the last."""
    reply = await rig.client.get("/queue/new")
    assert (reply.status_code, reply.json()["pending"], reply.json()["oldest_wait"]) == (200, 0, None)


async def test_what_cannot_be_a_queue_is_not_found(rig: Rig) -> None:
    reply = await rig.client.get("/queue/-no")
    assert reply.status_code == 404
    assert reply.json()["type"] == "/problems/not-found"
